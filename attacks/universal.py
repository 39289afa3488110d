"""A universal perturbation, which is made on some clips and added to others without having seen them.

Gradient ascent over a training set makes one small tile of a few frames, which is then repeated over any clip, whatever
its size and length. Universal perturbations are due to Moosavi-Dezfooli et al., CVPR 2017
(https://arxiv.org/abs/1610.08401). As in Li et al., NDSS 2019 (https://arxiv.org/abs/1807.00458), the tile repeats in
time and is trained at every phase, because an attacker of a stream does not know where a clip begins. Their generator
network is not used: the tile itself is optimised.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.errors import BadData
from robustcodec.interfaces import Attack, Draws, Sample, Threat
from robustcodec.oracle import Oracle
from robustcodec.rounding import Crafting


@registry.attacks.register("universal")
@dataclass(frozen=True)
class Universal(Attack):
    """A small tile that is optimised on training clips and then repeated over every attacked clip.

    ``size``: side of the square tile in pixels. ``period``: its length in frames. ``clips``: how many of the first
    clips of ``data`` it is made on. The tile is a direction: each attacked clip moves along it by the whole radius of
    the threat, under L∞ by ±eps on every value. ``data``: name of a data set, with ``;`` in place of the commas between
    its parameters, such as ``universal:clips:frames=8;size=64``. The training takes ``steps`` gradients, each on one
    clip at a random phase, and follows their sum, which decays by ``momentum`` (in [0, 1)) per step. ``step_size``:
    length of the first step as a fraction of the threat's radius; it falls linearly to nothing. ``surrogate`` says how
    a gradient passes the rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``,
    ``noise``, ``straight-through`` or ``none``. ``seed`` alone decides the randomness of the tile; the phase at which a
    clip meets the tile follows the seed of the cell.

    A training clip that shares a frame with the attacked clip is left out, so ``data`` may be the data set that is
    evaluated. Only equal pixels around the centre are recognised: for other crops of one scene, or other parts of one
    video, choose another data set. Training clips must have the frames that the threat chooses. The queries of the
    training count for every sample that uses the tile. Raises :class:`BadData` if no training clip is left.
    """

    general = False

    data: str = "photos"
    steps: int = 100
    size: int = 64
    period: int = 1
    clips: int = 16
    step_size: float = 0.1
    momentum: float = 0.9
    seed: int = 0
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.size, self.period, self.clips) < 1:
            raise ValueError(
                f"steps={self.steps}, size={self.size}, period={self.period}, clips={self.clips}; "
                "expected at least 1 of each"
            )
        if not self.step_size > 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"step_size={self.step_size}, momentum={self.momentum}; expected a positive fraction of the radius "
                "and a decay in [0, 1)"
            )

    def made_on(self) -> list[Sample]:
        samples: list[Sample] = registry.data.build(self.data.replace(";", ",")).samples()
        return samples[: self.clips]

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        training = oracle.once("clips", lambda: [s.load() for s in self.made_on()])
        phases = (self.period * rng.uniform(x.shape[:1])).long().tolist()
        directions = []
        for clip, phase in zip((255 * x).round().to(torch.uint8).cpu(), phases, strict=True):
            others = [i for i, known in enumerate(training) if not _share_a_frame(known, clip)]
            if not others:
                raise BadData(
                    f"universal: every clip of data={self.data} shows a frame of the attacked clip; "
                    "choose a data set with other clips to make the perturbation on"
                )
            tile = oracle.once(
                f"tile of {others} on {x.device}",
                partial(self._train, oracle, [training[i] for i in others], threat, x.device),
            )
            directions.append(_repeat(tile, phase, x.shape))
        return threat.project(x + threat.steepest(torch.cat(directions), x), x)

    def _train(self, oracle: Oracle, clips: list[Tensor], threat: Threat, device: torch.device) -> Tensor:
        """The tile, ``(period, 3, size, size)``."""
        rng = torch.Generator().manual_seed(self.seed)
        known = [clip[None].to(device, torch.float32) / 255 for clip in clips]
        oracles = [oracle.on(x) for x in known]
        tile = (2 * torch.rand(self.period, 3, self.size, self.size, generator=rng) - 1).to(device)
        uphill, order = torch.zeros_like(tile), list[int]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # for surrogates and defenses that draw: no sample's state may come in
            for step in range(self.steps):
                order = order or torch.randperm(len(known), generator=rng).tolist()
                which, phase = order.pop(), int(torch.randint(self.period, (), generator=rng))
                x = known[which]
                with torch.enable_grad():
                    leaf = tile.clone().requires_grad_()
                    repeated = _repeat(leaf, phase, x.shape)
                direction = threat.steepest(repeated.detach(), x)
                oracles[which].progress = step / self.steps
                _, grad = oracles[which].gradient(threat.project(x + direction, x), self.surrogate)
                (slope,) = torch.autograd.grad(repeated, leaf, threat.confine(grad, x))
                uphill = self.momentum * uphill + _unit(slope)
                tile = _ascend(tile, uphill, self.step_size * (1 - step / self.steps), threat)
        return tile


def _ascend(tile: Tensor, uphill: Tensor, rate: float, threat: Threat) -> Tensor:
    """``tile`` one step of ``rate`` radii further up, in the unit ball of the threat's norm."""
    if threat.norm == "linf":
        return (tile + rate * uphill.sign()).clamp(-1, 1)
    return _unit(_unit(tile) + rate * _unit(uphill))


def _unit(v: Tensor) -> Tensor:
    """Root mean square 1; zero stays zero."""
    size = v.square().mean(dtype=torch.float64).sqrt().to(v.dtype)
    return v / torch.where(size > 0, size, 1.0)


def _repeat(tile: Tensor, phase: int, shape: torch.Size) -> Tensor:
    """``(1, T, 3, H, W)``: the tile side by side from the top left corner, its frame ``phase`` first."""
    frames, _, height, width = shape[1:]
    t, y, x = (torch.arange(n, device=tile.device) for n in (frames, height, width))
    period, _, rows, columns = tile.shape
    return tile[(t + phase) % period][:, :, y % rows][..., x % columns][None]


def _share_a_frame(a: Tensor, b: Tensor) -> bool:
    """True if two uint8 clips have a frame in common, as far as both show it around the centre."""
    height, width = (min(a.shape[d], b.shape[d]) for d in (-2, -1))
    return not _pictures(a, height, width).isdisjoint(_pictures(b, height, width))


def _pictures(clip: Tensor, height: int, width: int) -> set[bytes]:
    top, left = (clip.shape[-2] - height) // 2, (clip.shape[-1] - width) // 2
    centre = clip[..., top : top + height, left : left + width].contiguous()
    return {hashlib.sha256(frame.numpy().tobytes()).digest() for frame in centre}
