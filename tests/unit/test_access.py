"""Who knows what: the grammar of access, expectation over random victims, and gradients of a stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec.errors import GridError
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.objectives.damage import Rate, SourceDistortion
from robustcodec.oracle import Ensemble, Oracle
from robustcodec.registry import codecs
from robustcodec.running.access import DRAWS, Victim, victim
from robustcodec.running.grid import Cell
from robustcodec.running.guided import Guided
from robustcodec.running.store import Store


@codecs.register("test-gain")
class Gain(Codec):
    """Multiplies by ``gain`` and, if it jitters, by a random number of mean 1 for each call."""

    def __init__(self, *, gain: float = 0.9, jitter: float = 0.0, differentiable: bool = True) -> None:
        super().__init__()
        self.gain, self.jitter = gain, jitter
        self.differentiable, self.randomised = differentiable, jitter > 0
        self.card = Card("test-gain", "test-gain")

    def forward(self, x: Tensor) -> Output:
        out = x * self.gain * (1 + self.jitter * (2 * torch.rand(()) - 1))
        out = out if self.differentiable else out.detach()
        return Output(lambda: out, lambda: 1000 * x.flatten(1).square().mean(1) * self.gain)

    def compress(self, x: Tensor) -> list[bytes]:
        return [bytes(x.shape[-2:]) + c.numpy().tobytes() for c in self(x).x_hat]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips = [torch.frombuffer(bytearray(s[2:]), dtype=torch.float32).view(-1, 3, s[0], s[1]) for s in streams]
        return torch.stack(clips)


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ("oblivious", Victim(("c",))),
        ("adaptive", Victim(("c",), "d", draws=DRAWS)),
        ("adaptive:draws=3", Victim(("c",), "d", draws=3)),
        ("transfer:other:quality=3", Victim(("other:quality=3",))),
        ("transfer:jpeg:quality=3,subsampling=2|other", Victim(("jpeg:quality=3,subsampling=2", "other"))),
        ("bpda:other", Victim(("c",), "d", guide="other")),
    ],
)
def test_what_an_attack_is_crafted_on(access: str, expected: Victim) -> None:
    assert victim(access, "c", "d") == expected


@pytest.mark.parametrize(
    "access", ["all", "adaptive:draws=0", "adaptive:3", "transfer:", "transfer:a|", "bpda", "transfer"]
)
def test_other_access_is_refused(access: str) -> None:
    with pytest.raises(GridError, match="expected oblivious, adaptive"):
        victim(access, "c", "d")


def clip() -> Tensor:
    return torch.rand(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_guided_codec_has_the_value_of_one_and_the_slope_of_another() -> None:
    x = clip()
    real, guide = Gain(gain=0.5, differentiable=False), Gain(gain=0.8)
    both = Guided(real, guide)
    out = both(x.requires_grad_())
    assert torch.equal(out.x_hat, real(x).x_hat)
    torch.testing.assert_close(out.bits, real(x).bits)
    (slope,) = torch.autograd.grad(out.x_hat.sum(), x)
    torch.testing.assert_close(slope, torch.full_like(x, 0.8))
    (slope,) = torch.autograd.grad(out.bits.sum(), x)  # the relative change of the guide, of the real bits
    torch.testing.assert_close(slope, 1000 * 0.5 * 2 * x.detach() / x[0].numel())
    with torch.no_grad():
        assert torch.equal(both(x).x_hat, real(x).x_hat)
    assert both.decompress(both.compress(x.detach())).shape == x.shape


def test_damage_and_gradient_of_a_random_victim_are_means() -> None:
    x = clip()
    draws = 500
    codec = Gain(gain=0.9, jitter=0.1)
    oracle = Oracle(codec, SourceDistortion(), x, "white", draws=draws)
    torch.manual_seed(0)
    damage, grad = oracle.gradient(x)
    # E[(g(1+j)x - x)²] with j uniform in ±0.1: (g-1)² + g² 0.01/3
    factor = 0.1**2 + 0.9**2 * 0.01 / 3
    torch.testing.assert_close(damage, factor * x.square().flatten(1).mean(1), rtol=0.1, atol=0)
    assert oracle.queries == draws and grad.shape == x.shape
    assert Oracle(Gain(), SourceDistortion(), x, "white", draws=draws).gradient(x) is not None
    steady = Oracle(Gain(), SourceDistortion(), x, "white", draws=draws)
    steady(x)
    assert steady.queries == 1  # nothing to average


def test_several_codecs_are_attacked_each_in_its_own_measure() -> None:
    """A rate of 1000·gain·mean(x²) bits doubles for both at once; an error is a share of its level."""
    x = clip()
    x_adv = (0.8 * x + 0.1).requires_grad_()
    members = [Gain(gain=0.9), Gain(gain=0.5)]
    oracle = Oracle(Ensemble(members), Rate(), x, "white")
    rise = x_adv.square().flatten(1).mean(1) / x.square().flatten(1).mean(1) - 1
    torch.testing.assert_close(oracle(x_adv), rise)
    assert oracle.queries == 2 and oracle.level().tolist() == [1, 1]
    torch.testing.assert_close(oracle(x), torch.zeros(2), rtol=0, atol=1e-5)
    errors = [(g * x_adv - x).square().flatten(1).mean(1) / (g * x - x).square().flatten(1).mean(1) for g in (0.9, 0.5)]
    shares = [error - 1 for error in errors]  # tau = 2: from once to twice the clean error
    damage, grad = Oracle(Ensemble(members), SourceDistortion(), x, "white").gradient(x_adv)
    torch.testing.assert_close(damage, (shares[0] + shares[1]) / 2)
    (slope,) = torch.autograd.grad(((shares[0] + shares[1]) / 2).sum(), x_adv)
    torch.testing.assert_close(grad, slope)


def test_an_unknown_rate_is_attacked_on_a_ladder_and_measured_on_a_codec_that_is_not_on_it(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"data": "photos:size=16", "limit": 1, "objective": "source-distortion", "threat": "psnr:30"}
    ladder = "transfer:test-gain:gain=0.8,jitter=0.0|test-gain:gain=0.7"
    several = Cell("test-gain:gain=0.6", "pgd:steps=3", access=ladder, **axes)
    same = Cell("test-gain:gain=0.5", "pgd:steps=3", access=ladder, **axes)
    one = Cell("test-gain:gain=0.6", "pgd:steps=3", access="transfer:test-gain:gain=0.8", **axes)
    assert len({cell.craft_id(cell.samples()[0]) for cell in (several, same, one)}) == 2  # crafted once for both
    store = Store(tmp_path)
    Runner(store).run([several, Cell("test-gain:gain=0.6", "noise", **axes)])
    result, noise = (store.result(cell.id) for cell in (several, Cell("test-gain:gain=0.6", "noise", **axes)))
    assert result is not None and noise is not None and result.error is None
    assert result.rows[0]["damage"] > noise.rows[0]["damage"]
    assert result.rows[0]["queries"] == 2 * 4  # three gradients and a judgement, of two codecs


def test_a_guide_opens_a_codec_without_gradient_to_white_box_attacks(tmp_path: Path) -> None:
    axes = {"data": "photos:size=16", "limit": 1, "objective": "source-distortion", "threat": "psnr:30"}
    cells = [
        Cell("test-gain:differentiable=false", "pgd:steps=3", access="bpda:test-gain:gain=0.8", **axes),  # type: ignore[arg-type]
        Cell("test-gain:differentiable=false", "noise", **axes),  # type: ignore[arg-type]
        Cell("test-gain:differentiable=false", "pgd:steps=3", **axes),  # type: ignore[arg-type]
    ]
    store = Store(tmp_path)
    Runner(store).run(cells)
    guided, noise, blind = (store.result(cell.id) for cell in cells)
    assert guided is not None and noise is not None and blind is not None
    assert guided.rows[0]["damage"] > noise.rows[0]["damage"]
    assert blind.error is not None and "bpda:CODEC" in blind.error


def test_a_lone_draw_of_a_random_victim_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cell = Cell("test-gain:jitter=0.1", "pgd:steps=2", data="photos:size=16", limit=1, objective="source-distortion")
    told = {}
    for access in ("oblivious", "adaptive:draws=1"):
        one = Cell(**{**vars(cell), "access": access, "defense": "none" if access == "oblivious" else "self-ensemble"})
        Runner(store).run([one])
        result = store.result(one.id)
        assert result is not None and result.error is None
        told[access] = "\n".join(result.warnings)
    assert "without expectation" in told["adaptive:draws=1"] and "without expectation" not in told["oblivious"]


def test_a_random_codec_meets_clean_and_attacked_with_the_same_draw(tmp_path: Path) -> None:
    cell = Cell("test-gain:jitter=0.2", "noise", data="photos:size=16", limit=2, threat="psnr:50")
    store = Store(tmp_path)
    Runner(store).run([cell])
    result = store.result(cell.id)
    assert result is not None and result.error is None
    # one gain of at most 1.08 for both: with two draws it would be the jitter that is amplified, by 30 dB
    assert all(row["vi_db"] < 3 for row in result.rows)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batch_size_changes_no_bit_on_a_cpu(size: int, tmp_path: Path) -> None:
    cell = Cell("test-gain:jitter=0.1", "pgd:steps=2,surrogate=noise", data="photos:size=16", limit=3)
    store = Store(tmp_path)
    Runner(store, batch_size=size).run([cell])
    alone = Store(tmp_path / "alone")
    Runner(alone).run([cell])
    for sample in cell.samples():
        ours, theirs = store.clip(cell.craft_id(sample)), alone.clip(cell.craft_id(sample))
        assert ours is not None and theirs is not None and torch.equal(ours[0], theirs[0])
