"""The differentiable JPEG against Pillow's: tables, pixels, sizes, and gradients that point the right way."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustcodec.clips import to_float
from robustcodec.errors import BadParameter, StreamError
from robustcodec.interfaces import Draws
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, data, objectives, threats
from robustcodec.rounding import rounding
from robustcodec.running.guided import Guided
from robustcodec.studies.check import check
from robustcodec.zoo._jpeg import CHROMA, LUMA, dct_matrix, doubled, halved, quantisation_table


@cache
def photo() -> Tensor:
    return to_float(data.build("photos:size=160").samples()[0].load())[None]


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 95, 100])
def test_tables_are_those_that_pillow_writes(quality: int) -> None:
    (file,) = codecs.build(f"jpeg:quality={quality}").compress(photo())
    with Image.open(io.BytesIO(file)) as image:
        written = image.quantization  # type: ignore[attr-defined]
    for i, standard in enumerate((LUMA, CHROMA)):
        table = quantisation_table(standard, quality).flatten().int().tolist()
        assert table == list(written[i])


def test_the_transform_is_the_dct() -> None:
    from scipy.fft import dctn

    block = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    ours = dct_matrix() @ block @ dct_matrix().T
    np.testing.assert_allclose(ours.numpy(), dctn(block.numpy(), norm="ortho"), atol=1e-5)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("quality, allowed", [(10, 0.17), (30, 0.25), (75, 0.45)])
def test_pixels_are_pillows(quality: int, allowed: float, subsampling: str) -> None:
    """Mean absolute error in grey levels; what is left are values half way between two steps."""
    spec = f"jpeg:quality={quality},subsampling={subsampling}"
    real, ours = codecs.build(spec), codecs.build(f"diff-{spec}")
    for x in (photo(), photo()[..., 3:104, 5:82]):
        gap = 255 * (ours(x).x_hat - real(x).x_hat).abs()
        assert gap.mean() < allowed
        assert gap.mean() < 0.2 * 255 * (real(x).x_hat - x).abs().mean()


@pytest.mark.parametrize("size", [(1, 1), (9, 4), (16, 5), (17, 33), (8, 3)])
def test_flat_and_odd_sizes_agree(size: tuple[int, int]) -> None:
    """Flat colours have no coefficient but DC, whose halves must be rounded as libjpeg does."""
    colours = torch.randint(256, (2, 2, 3, 1, 1), generator=torch.Generator().manual_seed(1)) / 255
    x = colours.expand(-1, -1, -1, *size)
    for quality in (30, 75):
        real, ours = codecs.build(f"jpeg:{quality}")(x).x_hat, codecs.build(f"diff-jpeg:{quality}")(x).x_hat
        assert ours.shape == x.shape
        assert (255 * (ours - real)).abs().max() < 1.5


def test_chroma_is_halved_and_doubled_as_in_libjpeg() -> None:
    rng = np.random.default_rng(0)
    plane = rng.integers(-128, 128, (6, 16))
    means = np.zeros((3, 8))
    for r in range(3):
        for c in range(8):
            means[r, c] = (plane[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].sum() + 1 + c % 2) >> 2
    assert np.array_equal(halved(torch.from_numpy(plane)[None, None].float())[0, 0].numpy(), means)
    small = means.astype(int)
    padded = np.pad(small, 1, mode="edge")
    full = np.zeros((6, 16))
    for r in range(6):
        near, far = padded[r // 2 + 1], padded[r // 2 + (2 if r % 2 else 0)]
        rows = 3 * near + far
        for c in range(16):
            full[r, c] = (3 * rows[c // 2 + 1] + rows[c // 2 + (2 if c % 2 else 0)] + (7 if c % 2 else 8)) >> 4
    assert np.array_equal(doubled(torch.from_numpy(means)[None, None].float())[0, 0].numpy(), full)


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
def test_the_estimate_is_near_the_file(quality: int) -> None:
    x = photo()
    real = 8 * len(codecs.build(f"jpeg:{quality}").compress(x)[0])
    assert float(codecs.build(f"diff-jpeg:{quality}")(x).bits) == pytest.approx(real, rel=0.1)


def test_bytes_are_those_of_jpeg() -> None:
    x = photo().expand(2, 2, -1, -1, -1)
    real, ours = codecs.build("jpeg:30"), codecs.build("diff-jpeg:30")
    streams = ours.compress(x)
    assert streams == real.compress(x)
    assert torch.equal(ours.decompress(streams), real(x).x_hat)
    assert sum(p.bits for p in ours.anatomy(streams[0])) == 8 * len(streams[0])
    with pytest.raises(StreamError):
        ours.decompress([streams[0][:-1]])


def test_it_keeps_a_codecs_promises_but_for_the_checksum_that_files_lack() -> None:
    photos = [photo()[..., :96, :128], photo()[..., 64:, 32:]]
    failed = [c for c in check(codecs.build("diff-jpeg:30"), photos) if not c.passed]
    assert [c.name for c in failed if c.name != "a flipped bit"] == []


@pytest.mark.parametrize("objective, gain", [("distortion", 3.0), ("rate", 1.1)])
def test_its_gradient_leads_to_what_hurts_the_real_codec(objective: str, gain: float) -> None:
    """Ten steps by the surrogate's gradient against a random perturbation of the same size, both judged by Pillow."""
    x, threat = photo()[..., :64, :64], threats.build("linf:4/255")
    victim = Guided(codecs.build("jpeg:30"), codecs.build("diff-jpeg:30"))
    oracle = Oracle(victim, objectives.build(objective), x, "white")
    attack = attacks.build("pgd:steps=10,judge=2,surrogate=soft")
    x_adv = threat.quantise(threat.project(attack.run(oracle, x.clone(), threat, Draws([0])), x), x)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    at_random = threat.quantise((x + 4 / 255 * noise).clamp(0, 1), x)
    with torch.no_grad():
        assert float(oracle(x_adv)) > gain * float(oracle(at_random))


@pytest.mark.parametrize("surrogate", ["none", "noise", "soft", "straight-through"])
def test_every_surrogate_gives_a_finite_gradient(surrogate: str) -> None:
    leaf = photo()[..., :32, :40].clone().requires_grad_()
    with rounding(surrogate):  # type: ignore[arg-type]
        out = codecs.build("diff-jpeg:30")(leaf)
        grads = torch.autograd.grad(out.x_hat.square().sum() + out.bits.sum(), leaf)
    assert grads[0].isfinite().all() and grads[0].any()


def test_parameters_are_checked() -> None:
    for spec in ("quality=0", "quality=101", "subsampling=4:1:1"):
        with pytest.raises(BadParameter):
            codecs.build(f"diff-jpeg:{spec}")
