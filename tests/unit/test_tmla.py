"""T-MLA: the transform against convolutions, the numbers against the formula, the published loop written out."""

from __future__ import annotations

import math

import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional

from robustcodec.attacks import tmla
from robustcodec.attacks._haar import analyse, padded, synthesise
from robustcodec.attacks.ascent import Best
from robustcodec.attacks.noise import Noise
from robustcodec.attacks.tmla import TMLA, Waves
from robustcodec.errors import BadParameter
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.objectives.damage import Distortion
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.threats import Linf, Psnr

SHAPE = (1, 3, 16, 8)
KERNELS = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 2


def convolved(frame: Tensor) -> list[Tensor]:
    """The Haar bands of ``(C, H, W)``, coarse to fine, by strided convolutions."""
    bands, low = [], frame[:, None]
    for _ in range(3):
        out = functional.conv2d(low, KERNELS[:, None].to(frame.dtype), stride=2)
        low, details = out[:, :1], out[:, 1:]
        bands.append(details)
    return [low[:, 0], *reversed(bands)]


def test_the_transform_is_haars_and_keeps_lengths() -> None:
    x = torch.rand(2, 2, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    bands = analyse(x, 3)
    for ours, theirs in zip(bands, convolved(x[1, 1]), strict=True):
        torch.testing.assert_close(ours[1, 1], theirs)
    torch.testing.assert_close(synthesise(bands), x)
    torch.testing.assert_close(sum(b.square().sum() for b in bands), x.square().sum())
    assert padded(x[..., :13, :7], 3, "replicate").shape[-2:] == (16, 8)


def test_a_coefficient_moves_in_the_logarithm_of_its_exponential() -> None:
    x = torch.rand(1, 1, 3, 13, 9, generator=torch.Generator().manual_seed(1))
    waves, rng = Waves(x), torch.Generator().manual_seed(2)
    n = [0.3 * torch.randn(b.shape, generator=rng) for b in analyse(padded(x, 3, "replicate"), 3)]
    n[3][..., 0, 0] = -5.0  # below what a logarithm can be taken of
    whole = padded(x, 3, "replicate")
    moved = [
        torch.where(c < 0, -1, 1) * (c.abs().exp() + a).clamp(min=1e-3).log()
        for c, a in zip(analyse(whole, 3), n, strict=True)
    ]
    torch.testing.assert_close(waves.clip(n), synthesise(moved)[..., :13, :9])
    assert waves.bounds(0.1) == pytest.approx([0.1 * 1.8**3, 0.1 * 1.8**2, 0.18, 0.1])
    x_adv = x + 0.05 * torch.randn(x.shape, generator=rng)
    torch.testing.assert_close(waves.clip(waves.numbers(x_adv)), x_adv, rtol=0, atol=1e-5)
    leaves = [a.clone().requires_grad_() for a in n]
    weight = torch.randn(x.shape, generator=rng)
    expected = torch.autograd.grad((waves.clip(leaves) * weight).sum(), leaves)
    for ours, theirs in zip(waves.slopes(weight, n), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def run(attack: Attack, threat: Threat, x: Tensor) -> Tensor:
    oracle = Oracle(toys.Linear(toys.spectrum(SHAPE)), Distortion(), x, attack.access)
    x_adv = attack.run(oracle, x, threat, Draws([3]))
    return threat.quantise(threat.project(x_adv, x), x)


def reference(x: Tensor, steps: int, n: list[Tensor]) -> Tensor:
    """Their loop on one clip under a linear codec, by autograd; ``n``: where it starts."""
    matrix, whole = toys.spectrum(SHAPE), analyse(x, 3)
    leaves = [a.clone().requires_grad_() for a in n]
    for _ in range(steps):
        c = [w.sign() * (w.abs().exp() + a).clamp(min=1e-3).log() for w, a in zip(whole, leaves, strict=True)]
        delta = (synthesise(c).clamp(0, 1) - x).flatten()
        shown = -10 * (matrix @ delta).square().mean().log10()
        quality = -10 * delta.square().mean().log10()
        loss = (shown - 15).abs() + ((quality - 45).abs() - 2).clamp(min=0)
        loss = loss + 1e-3 * torch.stack([a.abs().sum() for a in leaves]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        with torch.no_grad():
            for a, bound in zip(leaves, (0.1 * 1.8**3, 0.1 * 1.8**2, 0.18, 0.1), strict=True):
                a -= 0.01 * a.grad  # type: ignore[operator]
                a.clamp_(-bound, bound)
                a.grad = None
    c = [w.sign() * (w.abs().exp() + a).clamp(min=1e-3).log() for w, a in zip(whole, leaves, strict=True)]
    return synthesise(c).detach()


def test_published_constants_follow_the_published_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmla, "STEPS", 30)
    x = toys.grey(SHAPE, 1) + 1e-3 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(4))
    threat = Psnr(20)  # beyond where 30 steps lead
    oracle = Oracle(toys.Linear(toys.spectrum(SHAPE)), Distortion(), x, "white")
    seen: list[Tensor] = []
    monkeypatch.setattr(Best, "judge", lambda self, x_adv, *rest: seen.append(x_adv))
    TMLA(constants="published", judge=100).run(oracle, x, threat, Draws([3]))
    start = analyse(Draws([3]).child().uniform(x.shape) - 0.5, 3)
    theirs = reference(
        x, 30, [0.1 * b * 2 * s for b, s in zip((0.1 * 1.8**3, 0.1 * 1.8**2, 0.18, 0.1), start, strict=True)]
    )
    (ours,) = seen
    torch.testing.assert_close(ours - x, theirs - x, rtol=1e-2, atol=2e-5)
    assert float((ours - x).square().mean()) > 1e-6


@pytest.mark.parametrize("threat", [Psnr(40), Linf(8)], ids=repr)
@pytest.mark.parametrize("constants", ["threat", "published"])
def test_it_beats_noise_inside_the_budget(threat: Threat, constants: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmla, "STEPS", 60)
    x = toys.grey(SHAPE, 1)
    x_adv = run(attacks.build(f"tmla:constants={constants}"), threat, x)
    hurt, by_noise = (
        ((y - x).flatten() @ toys.spectrum(SHAPE).T).square().mean() for y in (x_adv, run(Noise(), threat, x))
    )
    assert hurt > (4 if constants == "threat" else 1) * by_noise
    if constants == "threat":
        size = float((x_adv - x).abs().max() if threat.norm == "linf" else (x_adv - x).norm())
        assert size > 0.9 * float(threat.radius(x)) and math.isfinite(size)


def test_mistakes_are_said() -> None:
    for spec in ("tmla:steps=0", "tmla:lr=-1", "tmla:constants=published,steps=5"):
        with pytest.raises(BadParameter, match="expected"):
            attacks.build(spec)
