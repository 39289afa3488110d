"""Does an attack keep the promises of :class:`robustcodec.interfaces.Attack`? What ``robustcodec check --attack`` runs.

It meets a small codec of which nothing depends on a batch, on images and clips with black and white where the box
binds, under threats of every kind. What counts is what the runner would evaluate: projected, rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.errors import AttackError
from robustcodec.interfaces import Attack, Card, Draws, Output, Threat, Transform
from robustcodec.oracle import ForwardOnly, Oracle
from robustcodec.rounding import round_latent
from robustcodec.studies.check import Check, guarded

# Threats and what holds of a change inside them, counted in whole grey levels, so that float noise decides nothing.
THREATS: dict[str, Callable[[Tensor], Tensor]] = {
    "linf:3/255": lambda d: d.abs().amax() <= 3,
    "l2:0.3": lambda d: d.square().sum() <= (255 * 0.3) ** 2,
    "mse:1e-4": lambda d: d.square().mean() <= 255**2 * 1e-4,
    "psnr:36": lambda d: d.square().mean() <= 255**2 * 10**-3.6,
    "psnr:36,per=frame": lambda d: (d.square().mean((1, 2, 3)) <= 255**2 * 10**-3.6).all(),
    "linf:3/255,frames=first": lambda d: (d.abs().amax() <= 3) & ~d[1:].any(),
    "psnr:36+linf:5": lambda d: (d.square().mean() <= 255**2 * 10**-3.6) & (d.abs().amax() <= 5),
    "flicker:3/255": lambda d: d.abs().amax() <= 3,
}
SEEDS = (1, 2)


def check(attack: Attack, threats: Sequence[str] = tuple(THREATS)) -> list[Check]:
    """All checks of an attack; one that raises has failed, and its message is what was measured.

    ``threats``: some of :data:`THREATS`.
    """
    return [each for threat in threats for each in _checked(attack, threat)]


def _checked(attack: Attack, name: str) -> tuple[Check, Check]:
    """Both checks, of which the second compares with what the first has crafted."""
    threat = registry.threats.build(name)
    first = cache(lambda frames: crafted(attack, threat, clips(frames), SEEDS))
    return _inside(name, first), _alone(attack, name, threat, first)


def _inside(name: str, first: Callable[[int], Tensor]) -> Check:
    """Clips of the right shape, and in the threat to the last bit."""

    def run() -> tuple[bool, str]:
        for frames in (1, 2):
            x, levels = clips(frames), first(frames)
            whole = levels.round()
            if (levels - whole).abs().max() > 1e-3 or whole.min() < 0 or whole.max() > 255:
                return False, "not 8-bit"
            changes = (whole - (255 * x).round()).double()
            if not all(bool(THREATS[name](change)) for change in changes):
                return False, f"outside, largest change {float(changes.abs().max()):.0f} levels"
        return True, "inside"

    return guarded(f"budget of {name}", "inside", run)


def _alone(attack: Attack, name: str, threat: Threat, first: Callable[[int], Tensor]) -> Check:
    """A sample and its seed decide: neither what came before nor a second run changes anything."""

    def run() -> tuple[bool, str]:
        for frames in (1, 2):
            once, again = first(frames), crafted(attack, threat, clips(frames).flip(0), SEEDS[::-1]).flip(0)
            if not torch.equal(once, again):
                return False, f"differ by up to {float((once - again).abs().max()):.0f} levels"
        return True, "equal"

    return guarded(f"again, in another order, {name}", "equal", run)


def clips(frames: int) -> Tensor:
    """Two 8-bit clips, with black and white where the box binds."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (2, frames, 3, 8, 8), generator=rng)
    x[:, :, :, :2] = 0
    x[:, :, :, 2] = 255
    return x / 255


def crafted(attack: Attack, threat: Threat, x: Tensor, seeds: Sequence[int]) -> Tensor:
    """What would be evaluated, in grey levels, ``(N, T, 3, H, W)``; one by one, as the runner crafts on a CPU.

    Raises :class:`AttackError` for what is not shaped like a clip or not finite.
    """
    victim, objective, out = Means(), registry.objectives.build("source-distortion"), []
    for clip, seed in zip(x[:, None], seeds, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            oracle = Oracle(victim, objective, clip, attack.access)
            returned = attack.run(oracle, clip.clone(), threat, Draws([seed]))
        if returned.shape != clip.shape or not bool(returned.isfinite().all()):
            raise AttackError(
                f"returned {tuple(returned.shape)} for {tuple(clip.shape)}, or values that are not finite"
            )
        out.append(threat.quantise(threat.project(returned.detach(), clip), clip))
    return 255 * torch.cat(out)


class MeansTransform(Transform):
    """Means of 2 × 2 pixels on 64 levels, ``(N, T, rows, columns, 3)``."""

    def analyse(self, x: Tensor) -> list[Tensor]:
        return [round_latent(63 * torch.nn.functional.avg_pool3d(x, (1, 2, 2))).movedim(2, 4)]

    def synthesise(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        return (levels[0] / 63).movedim(4, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)


class Means(ForwardOnly):
    """Codes :class:`MeansTransform`, for what asks ``forward`` alone."""

    card = Card("means", "means")
    transform = MeansTransform()

    def forward(self, x: Tensor) -> Output:
        levels = self.transform.analyse(x)
        shown = self.transform.synthesise(levels, *x.shape[-2:])
        return Output(lambda: shown, lambda: (1 + levels[0].abs()).log2().flatten(1).sum(1))
