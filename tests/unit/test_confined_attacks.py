"""Attacks confined to a band of frequencies or to a region: optimal there, and nowhere else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import Shown

from robustcodec import registry
from robustcodec.attacks._bands import band_pass
from robustcodec.attacks.confinement import Confined
from robustcodec.attacks.frequency import Frequency
from robustcodec.attacks.patch import Patch, busiest
from robustcodec.clips import fingerprint
from robustcodec.errors import BadData, BadParameter
from robustcodec.interfaces import Attack, Card, Codec, Draws, Output, Threat
from robustcodec.objectives.damage import Distortion, SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.threats import Flicker, Linf, Psnr

HEIGHT, WIDTH = 12, 20


class Weighted(Shown):
    """``x_hat`` is the input times a weight per pixel: the worst case is at the heaviest pixels."""

    card = Card("weighted", "weighted")

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Output:
        return Output(lambda: x * self.weight, lambda: torch.full((len(x),), 8.0))


class Filter(Weighted):
    """``x_hat`` is the input with each frequency multiplied by a gain, ``(H, W // 2 + 1)``."""

    def forward(self, x: Tensor) -> Output:
        spectrum = torch.fft.rfft2(x) * self.weight
        return Output(lambda: torch.fft.irfft2(spectrum, s=x.shape[-2:]), lambda: torch.full((len(x),), 8.0))


def grey(n: int = 2, frames: int = 2, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(100, 156, (n, frames, 3, height, width), generator=rng) / 255


def attacked(attack: Attack, codec: Codec, threat: Threat, x: Tensor, first_seed: int = 0) -> Tensor:
    oracle = Oracle(codec, Distortion(), x, attack.access)
    x_adv = attack.run(oracle, x, threat, Draws(range(first_seed, first_seed + len(x))))
    return threat.quantise(threat.project(x_adv, x), x)


def share_in_band(delta: Tensor, low: float, high: float) -> float:
    """By hand: the full complex spectrum in numpy, frequency by frequency."""
    power = np.abs(np.fft.fft2(delta.double().numpy())) ** 2
    inside = 0.0
    for i, down in enumerate(np.fft.fftfreq(delta.shape[-2])):
        for j, across in enumerate(np.fft.fftfreq(delta.shape[-1])):
            inside += power[..., i, j].sum() if low - 1e-6 <= math.hypot(down, across) <= high + 1e-6 else 0.0
    return float(inside / power.sum())


@pytest.mark.parametrize("size", [(12, 20), (7, 10), (8, 5)])
def test_band_pass_is_an_orthogonal_projection(size: tuple[int, int]) -> None:
    v = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, middle, high = (band_pass(v, *edges) for edges in ((0, 0.2), (0.2001, 0.4), (0.4001, 0.71)))
    torch.testing.assert_close(low + middle + high, v)
    torch.testing.assert_close(band_pass(middle, 0.2001, 0.4), middle)
    assert abs(float((low * middle).sum())) < 1e-9
    assert share_in_band(middle, 0.2001, 0.4) > 1 - 1e-12
    torch.testing.assert_close(band_pass(v, 0, 0), v.mean((-2, -1), keepdim=True).expand_as(v))


@pytest.mark.parametrize("threat", [Psnr(34), Linf(12 / 255)], ids=repr)
@pytest.mark.parametrize("band", [(0.0, 0.125), (0.1, 0.3), (0.3, 0.7)])
def test_the_perturbation_is_in_its_band(threat: Threat, band: tuple[float, float]) -> None:
    x = grey(1, 1, 48, 32)
    confined = Confined(threat, lambda v: band_pass(v, *band))
    start = confined.random_start(x, Draws([3]))
    assert share_in_band(start - x, *band) > 0.99
    torch.testing.assert_close(threat.project(start, x), start, rtol=0, atol=1e-6)
    codec = Filter(torch.ones(48, 17))
    x_adv = attacked(Frequency(*band, steps=5), codec, threat, x)
    assert share_in_band(x_adv - x, *band) > 0.9
    assert share_in_band(attacked(Frequency(steps=5, high=0.7), codec, threat, x) - x, *band) < 0.8


def test_the_best_frequency_of_a_band_is_found() -> None:
    """A filter amplifies one frequency most in each band: the worst case is that gain, alone."""
    gain = torch.ones(48, 17)
    gain[2, 1], gain[10, 8] = 3.0, 5.0  # 0.05 and 0.33 cycles per pixel
    x = grey(1, 1, 48, 32)
    for band, best in (((0.0, 0.2), 3.0), ((0.2, 0.5), 5.0), ((0.4, 0.7), 1.0)):
        x_adv = attacked(Frequency(*band, steps=40, step_size=1), Filter(gain), Psnr(34), x)
        reached = Oracle(Filter(gain), Distortion(), x, "black")(x_adv)
        optimum = best**2 * Psnr(34).radius(x) ** 2 / x.numel()
        assert (reached >= 0.93 * optimum).all(), (band, reached / optimum)
        assert (reached <= 1.15 * optimum).all()  # rounding leaves the band


def test_a_box_holds_and_is_used_up() -> None:
    x, weight = grey(), torch.ones(HEIGHT, WIDTH)
    weight[5, 7] = 4.0
    weight[0, 0] = 40.0  # outside
    patch = Patch(where="box", box="0.25;0.25;0.5;0.5", steps=30)
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[3:9, 5:15] = True
    for threat, optimum in (
        (Psnr(40), 16 * Psnr(40).radius(x) ** 2 / x[0].numel()),
        (Linf(8 / 255), (weight[inside].square().sum() * 6 * (8 / 255) ** 2 / x[0].numel()).expand(2)),
    ):
        x_adv = attacked(patch, Weighted(weight), threat, x)
        assert torch.equal(x_adv[..., ~inside], x[..., ~inside])
        reached = Oracle(Weighted(weight), Distortion(), x, "black")(x_adv)
        assert (reached >= 0.97 * optimum).all() and (reached <= 1.001 * optimum).all()


@pytest.mark.parametrize("threat", [Psnr(36), Linf(8 / 255), Psnr(36, frames="first")], ids=repr)
def test_a_mask_holds_exactly(tmp_path: Path, threat: Threat) -> None:
    pixels = np.zeros((6, 10), np.uint8)
    pixels[1, 2:5], pixels[5, 9] = 255, 128
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    inside = torch.from_numpy(pixels > 127).repeat_interleave(2, 0).repeat_interleave(2, 1)  # stretched twofold
    x = grey()
    x_adv = attacked(Patch(where="mask", mask=str(tmp_path / "mask.png"), steps=5), Weighted(torch.ones(1)), threat, x)
    assert torch.equal(x_adv[..., ~inside], x[..., ~inside])
    assert (x_adv != x)[:, 0, ..., inside].float().mean() > 0.5


def test_a_mask_is_part_of_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    seen = set()
    for level in (200, 201):
        Image.fromarray(np.full((4, 4), level, np.uint8)).save(path)
        (sample,) = Patch(where="mask", mask=str(path)).made_on()
        assert torch.equal(sample.load(), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
        seen.add(fingerprint(sample))
    assert len(seen) == 2  # of the file's bytes, whatever they stand for
    assert Patch().made_on() == []


def test_the_busiest_window_by_brute_force() -> None:
    energy = torch.rand(3, 9, 13, generator=torch.Generator().manual_seed(4))
    for size in (1, 3, 9, 40):
        high, wide = min(size, 9), min(size, 13)
        for one, window in zip(energy, busiest(energy, size), strict=True):
            sums = {
                (i, j): float(one[i : i + high, j : j + wide].double().sum())
                for i in range(9 - high + 1)
                for j in range(13 - wide + 1)
            }
            i, j = max(sums, key=lambda at: sums[at])
            expected = torch.zeros(9, 13, dtype=torch.bool)
            expected[i : i + high, j : j + wide] = True
            assert torch.equal(window, expected)


def test_saliency_finds_where_the_codec_is_weak() -> None:
    x, weight = grey(), torch.ones(HEIGHT, WIDTH)
    weight[6:9, 11:14] = 5.0
    x_adv = attacked(Patch(size=3, steps=5), Weighted(weight), Linf(8 / 255), x)
    changed = (x_adv != x).any(1).any(1)
    assert changed[:, 6:9, 11:14].all() and changed.sum() == 2 * 9


@pytest.mark.parametrize("attack", [Frequency(low=0.1), Patch(where="box")], ids=lambda a: type(a).__name__)
def test_nothing_in_common_leaves_the_clip_and_says_so(attack: Attack) -> None:
    """An offset of whole frames is in no region, and only in bands that begin at 0."""
    x = grey()
    oracle = Oracle(Weighted(torch.ones(1)), Distortion(), x, "white")
    assert torch.equal(attack.run(oracle, x, Flicker(8 / 255), Draws([0, 1])), x)
    assert all(len(notes) == 1 and "no perturbation" in notes[0] for notes in oracle.remarks)
    oracle = Oracle(Weighted(torch.ones(1)), Distortion(), x, "white")
    attack.run(oracle, x, Linf(8 / 255, frames="1"), Draws([0, 1]))
    assert oracle.remarks == [[], []]
    x_adv = attacked(Frequency(), Weighted(torch.ones(1)), Flicker(8 / 255), x)
    assert ((x_adv - x).abs() * 255).round().eq(8).all()


@pytest.mark.parametrize("threat", [Psnr(40), Linf(8 / 255), Psnr(40, per="frame")], ids=repr)
@pytest.mark.parametrize("attack", [Frequency(high=0.3), Patch(size=5), Patch(where="box")], ids=repr)
def test_samples_do_not_see_each_other(attack: Attack, threat: Threat) -> None:
    x, weight = grey(), torch.linspace(1, 3, WIDTH).expand(HEIGHT, WIDTH)
    together = attacked(attack, Weighted(weight), threat, x)
    alone = torch.cat([attacked(attack, Weighted(weight), threat, x[i : i + 1], first_seed=i) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1.01 / 255)
    assert (together != alone).float().mean() < 0.01


def test_queries_are_what_they_say() -> None:
    x = grey()
    for attack, expected in ((Frequency(steps=12), 14), (Patch(steps=10, judge=1), 21), (Patch(where="box"), 22)):
        oracle = Oracle(Weighted(torch.ones(1)), SourceDistortion(), x, "white")
        attack.run(oracle, x, Psnr(40), Draws(range(2)))
        assert oracle.queries == expected, attack


def test_bad_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no image")
    for name, message in (("black.png", "black everywhere"), ("text.png", "expected a PNG"), ("none.png", "No such")):
        with pytest.raises(BadData, match=message):
            Patch(where="mask", mask=str(tmp_path / name)).made_on()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("frequency:low=0.3,high=0.2", "cycles per pixel"),
        ("frequency:high=0.8", "0.7071"),
        ("frequency:steps=0", "at least 1"),
        ("frequency:step_size=0", "positive fraction"),
        ("patch:where=mask", "mask=PATH"),
        ("patch:mask=a.png", "where=mask"),
        ("patch:box=0;0;1", "top;left;height;width"),
        ("patch:box=0.5;0;0.6;1", "inside it"),
        ("patch:size=0", "at least 1"),
        ("patch:momentum=-1", "decay"),
    ],
)
def test_impossible_parameters_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        registry.attacks.build(spec)
