"""Networks of other authors as codecs: their forward is their decoder, in our container, with our rounding."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import foreign_networks
import pytest
import torch
from compressai.models import Cheng2020AnchorCheckerboard, Elic2022Official, JointAutoregressiveHierarchicalPriors
from foreign_networks import BareSlices, Slices, Windows, ste_round
from foreign_networks import lively as with_a_spread
from lively import clip, lively
from torch import Tensor, nn

from robustcodec import Outcome, attack, weights
from robustcodec.errors import StreamError, UserError
from robustcodec.interfaces import Card, Codec, Draws
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, objectives, threats
from robustcodec.rounding import rounding
from robustcodec.studies.check import _Examination
from robustcodec.zoo._exact import inexact
from robustcodec.zoo._wrapped import Wrapped

CARD = Card("foreign", "foreign")
MAKERS: dict[str, Callable[[], Any]] = {
    "slices": lambda: with_a_spread(seeded(Slices)),
    "bare rounding": lambda: with_a_spread(seeded(BareSlices)),
    "windows": lambda: with_a_spread(seeded(Windows)),
    "checkerboard": lambda: lively("cheng2020-anchor-checkerboard").net,
    "channel groups": lambda: lively("elic2022-official").net,
}
EVERY = pytest.mark.parametrize("kind", MAKERS)


def seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


@cache
def wrapped(kind: str) -> Wrapped:
    return Wrapped(MAKERS[kind](), CARD).requires_grad_(False)


def crafted(codec: Codec, x: Tensor, objective: str = "distortion") -> Tensor:
    threat, pgd = threats.build("psnr:36"), attacks.build("pgd:steps=4")
    found = pgd.run(Oracle(codec, objectives.build(objective), x, "white"), x.clone(), threat, Draws([0]))
    return threat.quantise(threat.project(found, x), x)


@EVERY
@pytest.mark.parametrize("shape", [(2, 1, 64, 96), (1, 2, 37, 53)])
def test_forward_is_the_decoded_stream_and_bits_are_its_size(kind: str, shape: tuple[int, int, int, int]) -> None:
    codec, x = wrapped(kind), clip(*shape)
    with torch.no_grad():
        out, streams = codec(x), codec.compress(x)
        assert (codec.decompress(streams) - out.x_hat).abs().max() <= 1e-4
        for estimate, data in zip(out.bits.tolist(), streams, strict=True):
            assert abs(estimate - 8 * len(data)) <= 0.01 * 8 * len(data) + 64
            assert all(part.bits == 0 for part in codec.anatomy(data) if part.name == "sizes")
    assert out.x_hat.std() > 1e-3


@pytest.mark.parametrize("kind, stride", [("slices", 64), ("windows", 16), ("checkerboard", 64)])
def test_the_multiples_that_sides_need_are_found(kind: str, stride: int) -> None:
    assert wrapped(kind).stride == stride
    assert not inexact(wrapped(kind))


@EVERY
def test_gradients_agree_with_differences_of_the_frozen_function(kind: str) -> None:
    codec, x = wrapped(kind), clip(1, 1, 64, 64, seed=1) * 0.5 + 0.25
    for what in ("x_hat", "bits"):
        with rounding("frozen") as state:

            def score(at: Tensor) -> Tensor:
                state.rewind()
                value: Tensor = getattr(codec(at), what).double()  # noqa: B023
                return value.square().sum() if what == "x_hat" else value.sum()  # noqa: B023

            leaf = x.clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(score(leaf), leaf)
            direction, slope, step = grad.sign(), float(grad.double().abs().sum()), 1e-3
            with torch.no_grad():
                difference = float(score(x + step * direction) - score(x - step * direction)) / (2 * step)
        assert slope > 0
        assert difference == pytest.approx(slope, rel=0.03), what


@EVERY
def test_an_attack_by_annealed_rounding_does_more_than_noise(kind: str) -> None:
    codec, x = wrapped(kind), (clip(1, 1, 64, 64, seed=2) * 255).round() / 255
    worst = crafted(codec, x)
    noise = threats.build("psnr:36").random_start(x, Draws([0]))

    def damage(at: Tensor) -> float:
        with torch.no_grad():
            return float((codec.decompress(codec.compress(at)) - codec.decompress(codec.compress(x))).square().mean())

    assert damage(worst) > 2 * damage(noise)


@pytest.mark.parametrize("kind", ["slices", "bare rounding", "channel groups"])
def test_straight_through_functions_round_by_the_surrogate_and_stay_as_they_were(kind: str) -> None:
    codec, x = wrapped(kind), clip(1, 1, 64, 64)
    with torch.no_grad():
        real, unrounded = codec(x).x_hat, None
        with rounding("none"):
            unrounded = codec(x).x_hat
        assert (unrounded - real).abs().max() > 1e-3
        with rounding("straight-through"):
            assert torch.equal(codec(x).x_hat, real)
    assert foreign_networks.ste_round is ste_round


@pytest.mark.parametrize("objective", ["distortion", "rate"])
@pytest.mark.parametrize("family", ["bmshj2018-hyperprior", "mbt2018-mean", "bmshj2018-factorized"])
def test_a_network_of_compressai_gives_the_clips_of_the_same_weights_by_name(family: str, objective: str) -> None:
    named: Any = codecs.build(f"{family}.tiny-q1").eval().requires_grad_(False)
    codec = Wrapped(named.net, CARD).requires_grad_(False)
    x = (clip(1, 1, 72, 64, seed=3) * 255).round() / 255
    assert torch.equal(crafted(named, x, objective), crafted(codec, x, objective))
    (ours,), (foreign,) = named.compress(x), codec.compress(x)
    assert torch.equal(named.decompress([ours]), codec.decompress([foreign]))
    assert len(foreign) == len(ours) + 1  # the length of the sizes, which are empty


def test_an_attack_by_class_gives_the_numbers_of_an_attack_by_name(tmp_path: Path) -> None:
    name = "bmshj2018-hyperprior"
    trained: Any = codecs.build(f"{name}.tiny-q2")
    torch.save(trained.net.state_dict(), tmp_path / "mine.pth")
    image = (clip(1, 1, 64, 64, seed=4)[0, 0] * 255).round().to(torch.uint8)
    by_class = f"compressai:class=compressai.models:ScaleHyperprior,weights={tmp_path / 'mine.pth'}"
    one, other = (
        attack(image, codec, "pgd:steps=3") for codec in (f"{name}:weights={tmp_path / 'mine.pth'}", by_class)
    )
    assert isinstance(one, Outcome) and isinstance(other, Outcome)
    assert torch.equal(one.adversarial, other.adversarial)
    assert one.attacked is not None and other.attacked is not None
    assert torch.equal(one.attacked, other.attacked) and torch.equal(one.clean, other.clean)
    assert len(other.attacked_stream) == len(one.attacked_stream) + 1
    for score in ("psnr", "adv_psnr", "vi_db"):
        assert one.scores[score] == other.scores[score]


def test_a_decoder_with_other_probabilities_is_caught() -> None:
    codec, x = wrapped("slices"), clip(1, 1, 64, 64)
    other = Wrapped(MAKERS["slices"](), CARD)
    with torch.no_grad():
        other.net.cc_scale_transforms[0].bias += 3
    other.refresh()
    other._model_id = codec.model_id  # as if the weights were the same and the arithmetic were not
    with pytest.raises(StreamError, match="something else than was encoded"):
        other.decompress(codec.compress(x))


def test_entropy_parameters_follow_the_weights_after_a_refresh() -> None:
    codec, x = Wrapped(MAKERS["slices"](), CARD), clip(1, 1, 64, 64)
    before = codec.compress(x)
    with torch.no_grad():
        codec.net.h_mean_s[0].weight += 0.1
    codec.refresh()
    with torch.no_grad():
        assert codec.compress(x) != before
        assert (codec.decompress(codec.compress(x)) - codec(x).x_hat).abs().max() <= 1e-4


class Stubborn(nn.Module):
    """It makes a tensor of float32 inside, and multiplies by it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = torch.eye(x.shape[1], dtype=torch.float32) @ self.inner(x).flatten(2)
        return mixed.view_as(x)


def test_a_part_that_cannot_be_exact_is_named() -> None:
    net = seeded(Slices)
    net.cc_mean_transforms[1] = nn.Sequential(net.cc_mean_transforms[1], Stubborn(4))
    codec, x = Wrapped(with_a_spread(net), CARD), clip(1, 1, 64, 64)
    assert codec.card.architecture["not in float64"] == "cc_mean_transforms.1"
    with torch.no_grad():
        assert (codec.decompress(codec.compress(x)) - codec(x).x_hat).abs().max() <= 1e-4


def test_the_callers_network_stays_as_it_is() -> None:
    net = seeded(Slices)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Wrapped(net, CARD).compress(clip(1, 1, 64, 64))
    assert net.training and type(net.entropy_bottleneck).__module__.startswith("compressai")
    assert type(net.h_mean_s) is nn.Sequential
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_forward_of_an_autoregressive_network_is_not_its_decoder_and_check_says_so() -> None:
    """CompressAI's rounds about zero in forward and about the means in compress."""
    net = seeded(lambda: JointAutoregressiveHierarchicalPriors(8, 8))
    x = clip(1, 1, 64, 64)
    parity = _Examination(Wrapped(with_a_spread(net), CARD), [x, x]).parity("photo", x)
    assert not parity.passed and "further apart" in parity.measured


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda net: net.__dict__.update(compress=None), "has no compress"),
        (lambda net: net.__dict__.update(compress=lambda x: {"strings": [[x]], "shape": (1, 1)}), "gave a tensor"),
        (lambda net: net.__dict__.update(forward=lambda x: x), "expected a dictionary with x_hat"),
    ],
)
def test_what_is_no_such_network_is_refused(change: Callable[[Any], None], said: str) -> None:
    net = seeded(Windows)
    change(net)
    with pytest.raises(UserError, match=said):
        Wrapped(net, CARD, stride=16)


def test_classes_that_ship_with_compressai_are_built_with_arguments() -> None:
    spec = "compressai:class=compressai.models:Elic2022Official,weights=random,N=8,M=24,groups=[8,16]"
    codec: Any = codecs.build(spec)
    assert isinstance(codec.net, Elic2022Official) and codec.net.groups == [8, 16]
    assert codec.card.architecture["groups"] == [8, 16]


MODULE = """
from compressai.models import ScaleHyperprior
class Mine(ScaleHyperprior):
    from_state_dict = None
"""


def test_a_class_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "of_this_folder.py").write_text(MODULE)
    torch.save(lively("bmshj2018-hyperprior").net.state_dict(), "mine.pth")
    spec = "compressai:class=of_this_folder:Mine,weights=mine.pth"
    with pytest.raises(UserError, match=r"Mine\(N, M"):
        codecs.build(spec)
    codec = codecs.build(f"{spec},N=48,M=64")
    assert codec.card.name == "Mine.mine.pth"
    before = codecs.fingerprint("compressai", **codecs.resolve(spec))
    assert weights.sha256(tmp_path / "mine.pth") in before
    (tmp_path / "of_this_folder.py").write_text(MODULE + "# another version, which is not the one that runs\n")
    assert codecs.fingerprint("compressai", **codecs.resolve(spec)) == before
    monkeypatch.delitem(sys.modules, "of_this_folder")
    assert codecs.fingerprint("compressai", **codecs.resolve(spec)) != before


@pytest.mark.parametrize(
    "spec, said",
    [
        ("compressai:weights=random", "needs class"),
        ("compressai:class=Cls,weights=random", "is not pkg.mod:Cls"),
        ("compressai:class=no_such_package.models:TCM,weights=random", "no_such_package"),
        ("compressai:class=compressai.models:TCM,weights=random", "no torch.nn.Module of the name TCM"),
        ("compressai:class=compressai.models:ScaleHyperprior", "needs weights"),
        ("compressai:class=compressai.models:ScaleHyperprior,weights=random", r"ScaleHyperprior\(N, M"),
        ("compressai:class=compressai.models:ScaleHyperprior,weights=no.pth", "no weights at no.pth"),
        ("compressai:class=torch.nn:Identity,weights=random", "no compress, decompress"),
        ("compressai:class=compressai.models:Elic2022Official,weights=random,groups=[8", "expected a list"),
    ],
)
def test_what_cannot_be_built_is_said(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        codecs.build(spec)


def test_a_state_dict_of_another_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(lively("bmshj2018-hyperprior").net.state_dict(), path)
    name = f"{Cheng2020AnchorCheckerboard.__module__}:Cheng2020AnchorCheckerboard"
    with pytest.raises(UserError, match="does not fit Cheng2020AnchorCheckerboard: .* missing"):
        codecs.build(f"compressai:class={name},weights={path},N=16")
