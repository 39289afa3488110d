"""Self-ensemble: exact views, the encoder's choice by brute force, and decoding from the bytes alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec.defenses._moves import View
from robustcodec.defenses.none import NoDefense
from robustcodec.defenses.self_ensemble import SelfEnsembleCodec
from robustcodec.errors import AttackError, BadParameter, StreamError
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.objectives.damage import Distortion
from robustcodec.registry import codecs, defenses
from robustcodec.rounding import rounding


@cache
def inner() -> Codec:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


class Surrogate(Codec):
    """Bytes of :func:`inner`, and a ``forward`` for which all views cost the same."""

    card = Card("surrogate", "surrogate")
    exact_forward = False

    def forward(self, x: Tensor) -> Output:
        return Output(lambda: x, lambda: torch.full((len(x),), 80.0))

    def compress(self, x: Tensor) -> list[bytes]:
        return inner().compress(x)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return inner().decompress(streams)


def view(x: Tensor, k: int) -> Tensor:
    return View(k).apply(x)


def unview(y: Tensor, k: int) -> Tensor:
    return View(k).undo(y)


def wrapped(views: int | str = 8, criterion: str = "own-input", codec: Codec | None = None) -> SelfEnsembleCodec:
    codec = defenses.build(f"self-ensemble:views={views},criterion={criterion}").wrap(codec or inner())
    assert isinstance(codec, SelfEnsembleCodec)
    return codec


@cache
def clips() -> Tensor:
    """Six odd, non-square clips of two frames: slanted edges and noise, so that the views differ."""
    rng = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(47.0), indexing="ij")
    slope = torch.randn(6, 2, 3, 1, 1, generator=rng) / 3
    wave = torch.sin(rows * slope + columns * slope.flip(0) + torch.randn(6, 1, 3, 1, 1, generator=rng))
    noise = torch.randn(6, 2, 3, 33, 47, generator=rng) / 20
    return ((0.5 + 0.4 * wave * columns / 47 + noise).clamp(0, 1) * 255).round() / 255


def test_views_are_the_eight_symmetries_and_invert_exactly() -> None:
    x = clips()
    for k in range(8):
        v = view(x, k)
        assert v.shape[-2:] == ((47, 33) if k & 4 else (33, 47))
        assert torch.equal(unview(v, k), x)
    square = x[..., :33]
    rotations = [torch.rot90(square, r, (-2, -1)) for r in range(4)]
    symmetries = [*rotations, *(r.flip(-1) for r in rotations)]
    views = [view(square, k) for k in range(8)]
    assert torch.equal(views[0], square)
    for s in symmetries:
        assert sum(torch.equal(s, v) for v in views) == 1


@cache
def errors() -> Tensor:
    """``(N, 8)`` MSE of each view after real bytes, one clip at a time."""
    x, rows = clips(), []
    for i in range(len(x)):
        views = [view(x[i : i + 1], k) for k in range(8)]
        rows.append([float((inner().decompress(inner().compress(v)) - v).square().mean()) for v in views])
    return torch.tensor(rows)


def test_the_best_view_is_sent_and_decoded_from_the_bytes_alone() -> None:
    x, codec = clips(), wrapped()
    best = errors().argmin(1)
    assert len(set(best.tolist())) > 2, "the clips should not all prefer one view"
    streams = codec.compress(x)
    decoded = wrapped().decompress(streams)
    for i, k in enumerate(best.tolist()):
        v = view(x[i : i + 1], k)
        assert codec.taken_apart(streams[i])[1] == inner().compress(v)[0]
        assert torch.equal(decoded[i : i + 1], unview(inner().decompress([codec.taken_apart(streams[i])[1]]), k))
    out = codec(x)
    torch.testing.assert_close(out.x_hat, decoded, rtol=0, atol=1e-4)
    real = torch.tensor([8.0 * len(s) for s in streams])
    assert ((out.bits - real).abs() <= 0.01 * real + 64).all()
    assert (decoded - x).square().mean() <= (inner()(x).x_hat - x).square().mean()


def test_the_view_is_counted() -> None:
    x = clips()[:2]
    alone = wrapped(views=1)
    assert [len(s) for s in alone.compress(x)] == [1 + len(s) for s in inner().compress(x)]
    torch.testing.assert_close(alone(x).bits, inner()(x).bits + 8)
    torch.testing.assert_close(alone(x).x_hat, inner()(x).x_hat)


def test_fewer_views_are_a_prefix() -> None:
    x = clips()
    error = errors()
    for n in (2, 4):
        codec = wrapped(views=n)
        assert codec.choose(x, real=False) == error[:, :n].argmin(1).tolist()


@cache
def sizes() -> Tensor:
    """``(N, 8)`` bits of each view's real bytes, one clip at a time, with the byte that names it."""
    x = clips()
    views = [[view(x[i : i + 1], k) for k in range(8)] for i in range(len(x))]
    return torch.tensor([[8.0 * (1 + len(inner().compress(v)[0])) for v in row] for row in views])


@pytest.mark.parametrize("lmbda", [None, 1e-4, 0.05])
def test_other_criteria_choose_what_costs_least(lmbda: float | None) -> None:
    x = clips()
    pixels = x[0, :, 0].numel()
    if lmbda is None:
        codec, cost, slack = wrapped(criterion="bits"), sizes(), 0.01 * sizes() + 64
    else:
        codec = wrapped(criterion=f"rd,lmbda={lmbda}")
        cost = sizes() / pixels + lmbda * 255**2 * errors()
        slack = (0.01 * sizes() + 64) / pixels
    chosen = torch.tensor(codec.choose(x, real=True))[:, None]
    assert (cost.gather(1, chosen) <= cost.amin(1, keepdim=True) + slack.gather(1, chosen)).all()
    streams = codec.compress(x)
    assert [s[0] for s in streams] == [int(k) for k in chosen]
    torch.testing.assert_close(codec.decompress(streams), codec(x).x_hat, rtol=0, atol=1e-4)


def test_criteria_differ() -> None:
    x = clips()
    made = [wrapped(criterion=c).choose(x, real=False) for c in ("own-input", "bits", "rd,lmbda=10")]
    assert made[0] != made[1] and made[0] == made[2]


def test_a_codec_without_exact_forward_is_judged_by_its_bytes() -> None:
    x = clips()[:3]
    for criterion, cost in (("own-input", errors()), ("bits", sizes())):
        codec = wrapped(criterion=criterion, codec=Surrogate())
        assert codec.choose(x, real=False) == [0] * 3
        assert [s[0] for s in codec.compress(x)] == [int(k) for k in cost[:3].argmin(1)]


def test_a_list_of_views() -> None:
    x, codec = clips(), wrapped(views="5;0;3")
    best = errors()[:, [5, 0, 3]].argmin(1).tolist()
    streams = codec.compress(x)
    assert [s[0] for s in streams] == [(5, 0, 3)[i] for i in best]
    with pytest.raises(StreamError, match="5, 0, 3"):
        codec.decompress([bytes([1]) + streams[0][1:]])


def test_only_a_single_view_shows_latents() -> None:
    x = clips()[:1]
    assert torch.equal(wrapped(views=1)(x).latents[0], inner()(x).latents[0])
    with pytest.raises(AttackError, match="no latents"):
        _ = wrapped(views=2)(x).latents


def test_a_symmetric_clip_is_sent_as_it_is() -> None:
    x = torch.full((1, 1, 3, 32, 32), 0.5)
    assert wrapped().compress(x)[0][0] == 0


def test_gradient_goes_through_the_chosen_view() -> None:
    x, codec = clips()[:3], wrapped()
    target = clips()[3:]
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((codec(leaf).x_hat - target).square().sum(), leaf)
    for i, k in enumerate(codec.choose(x, real=False)):
        alone = x[i : i + 1].clone().requires_grad_()
        x_hat = unview(inner()(view(alone, k)).x_hat, k)
        (expected,) = torch.autograd.grad((x_hat - target[i : i + 1]).square().sum(), alone)
        torch.testing.assert_close(grad[i : i + 1], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert grad.any()


def test_under_annealed_rounding_all_views_are_shown_by_what_they_cost() -> None:
    x, codec = clips()[:2], wrapped()
    with rounding("annealed", 0.5):
        out = codec(x)
        views = [(view(x, k), inner()(view(x, k))) for k in range(8)]
        costs = torch.stack([(o.x_hat - v).square().flatten(1).mean(1) for v, o in views], 1)
        weights = torch.softmax(-20 * costs / costs.mean(1, keepdim=True), 1)
        shown = sum(weights[:, k, None, None, None, None] * unview(o.x_hat, k) for k, (_, o) in enumerate(views))
        torch.testing.assert_close(out.x_hat, shown)
        bits = torch.stack([o.bits for _, o in views], 1)
        torch.testing.assert_close(out.bits, (weights * bits).sum(1) + 8)
    assert 1 < float(1 / weights.square().sum(1).max()) < 8  # neither one view alone nor all alike


def test_the_choice_does_not_depend_on_the_attackers_rounding() -> None:
    x, codec = clips()[:3], wrapped()
    expected = codec.choose(x, real=False)
    with rounding("noise"):
        assert codec.choose(x, real=False) == expected


def test_damage_is_seen_through_the_defense() -> None:
    x, codec = clips()[:2], wrapped()
    noisy = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert (Distortion()(x, codec(x), codec(noisy), noisy) > 0).all()


def test_damaged_streams_are_refused() -> None:
    codec = wrapped()
    stream = codec.compress(clips()[:1])[0]
    with pytest.raises(StreamError, match="empty"):
        codec.decompress([b""])
    for bit in range(8):
        with pytest.raises(StreamError):
            codec.decompress([bytes([stream[0] ^ 1 << bit]) + stream[1:]])
    with pytest.raises(StreamError):
        codec.decompress([stream[:-1]])
    with pytest.raises(StreamError, match="names no view"):
        wrapped(views=2).decompress([bytes([2]) + stream[1:]])
    small = codec.compress(clips()[:1, :, :, :16, :16])[0]
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress([stream, small])


def test_the_card_says_what_it_is() -> None:
    codec = wrapped()
    assert codec.card.name == f"{inner().card.name}+self-ensemble"
    assert (codec.differentiable, codec.exact_forward) == (inner().differentiable, inner().exact_forward)
    assert NoDefense().wrap(inner()) is inner()


@pytest.mark.parametrize("views", ["3", "0", "0;8", "0;0", "1;", "0,1"])
def test_views_are_checked(views: str) -> None:
    with pytest.raises(BadParameter, match="expected 1, 2, 4 or 8, or different views from 0 to 7 such as 0;3;5"):
        defenses.build(f"self-ensemble:views={views}")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("criterion=best", "expected one of own-input, bits, rd"),
        ("criterion=rd,lmbda=0", "a positive weight"),
        ("lmbda=0.1", "no meaning for criterion=own-input"),
    ],
)
def test_criteria_are_checked(params: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        defenses.build(f"self-ensemble:{params}")


def test_a_check_of_gradients_freezes_the_choice_of_the_view() -> None:
    """A finite difference that reached into another view would compare two codecs."""
    codec = codecs.build("bmshj2018-factorized.tiny-q1")
    defended: Any = defenses.build("self-ensemble").wrap(codec)
    x = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    other = defended.choose(x, False)[0]
    turned = x.rot90(1, (-2, -1))
    assert defended.choose(turned, False)[0] != other, "the example must change its view"
    with rounding("frozen") as state, torch.no_grad():
        defended(x).bits  # noqa: B018 - the first forward, which chooses
        state.rewind()
        assert defended.choose(turned, False)[0] == other
