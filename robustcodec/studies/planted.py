"""Planted weaknesses: small codecs, each with a trapdoor whose key is known, so that an attack can be seen to miss it.

An attack that does little has met a strong codec or has failed; on these codecs it has failed. Each shows one clip as
it is, but for its trapdoor, which random noise of the whole budget leaves shut. An attack has found it if it does at
least a stated share of the damage that the key does.

===================  ================================================  =================================================
trapdoor             opens                                             what misses it
===================  ================================================  =================================================
``one boundary``     where one latent crosses its rounding boundary    a gradient that passes the rounding straight
                                                                       through: it knows nothing of the latent
``many boundaries``  with every latent that crosses, at its own price  the same, and a gradient that skips the rounding
``rate``             with every latent that leaves zero                straight through
``behind a defense`` along offsets, behind a blur; the bare codec has  what was crafted on the bare codec
                     a deeper one along a checkerboard
``no gradient``      along offsets, of which no gradient tells         gradients
===================  ================================================  =================================================
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.interfaces import Attack, Card, Codec, Draws, Output
from robustcodec.oracle import ForwardOnly, Oracle
from robustcodec.rounding import round_latent
from robustcodec.studies.check import Check, guarded

SIDE = 16
VALUES = 3 * SIDE * SIDE
LENGTH = 4 / 255 * VALUES**0.5  # of the longest perturbation, under both threats: 36.1 dB
GAIN = 4.0  # an open trapdoor shows an error so many times as long as its key
MARGIN = 0.1  # of a step, beyond a boundary: rounding the input to 8 bits moves a latent by less
SEED = 1


class Planted(ForwardOnly):
    """A codec of one clip, for what asks ``forward`` alone.

    ``found``: share of the key's damage, beyond that of the clean clip, from which an attack has found the trapdoor.
    ``access``: of the attacks that must.
    """

    card = Card("planted", "planted")
    title: ClassVar[str]
    objective: ClassVar[str] = "distortion"
    threat: ClassVar[str] = "psnr:36"
    defense: ClassVar[str] = "none"
    access: ClassVar[tuple[str, ...]] = ("white",)
    found: ClassVar[float] = 0.5

    def forward(self, x: Tensor) -> Output:
        delta = (x - clip()).flatten(1)
        return Output(lambda: x + self.error(delta).view_as(x), lambda: self.size(delta))

    def error(self, delta: Tensor) -> Tensor:
        """What the trapdoor adds to the picture of a perturbation; both ``(N, VALUES)``."""
        return torch.zeros_like(delta)

    def size(self, delta: Tensor) -> Tensor:
        """``(N,)`` bits."""
        return torch.full((len(delta),), 8.0 * VALUES)

    @abstractmethod
    def key(self) -> Tensor:
        """``(VALUES,)``: a perturbation of at most :data:`LENGTH` that opens the trapdoor."""


class OneBoundary(Planted):
    """A latent a quarter of a step above its level; the budget leads it 1.5 times as far as to the boundary."""

    title = "one boundary"

    def __init__(self) -> None:
        super().__init__()
        self.along = _signs(5, SIDE)

    def error(self, delta: Tensor) -> Tensor:
        latent = round_latent(0.25 + 0.375 * (delta @ self.along) / LENGTH)
        shown: Tensor = GAIN * LENGTH * (latent - 0.25)[:, None] * self.along
        return shown

    def key(self) -> Tensor:
        key: Tensor = LENGTH * self.along
        return key


class ManyBoundaries(Planted):
    """As many latents as values, in steps of twice the mean perturbation; the picture is what they round to."""

    title = "many boundaries"
    objective = "source-distortion"
    found = 0.63

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(7)
        self.basis = torch.linalg.qr(torch.randn(VALUES, VALUES, generator=rng)).Q
        self.step = 2 * LENGTH / VALUES**0.5
        self.clean = torch.rand(VALUES, generator=rng) - 0.5  # latents of the clip, in steps

    def latents(self, delta: Tensor) -> Tensor:
        return round_latent(delta @ self.basis / self.step + self.clean)

    def error(self, delta: Tensor) -> Tensor:
        shown: Tensor = (self.latents(delta) - self.clean) * self.step @ self.basis.T - delta
        return shown

    def gains(self) -> Tensor:
        """``(VALUES,)``: what the crossing of each latent adds to the damage, in any unit."""
        return (1 - self.clean.abs()).square() - self.clean.square()

    def key(self) -> Tensor:
        """The crossings that gain most for their price, as many as the budget pays for."""
        moves = 0.5 - self.clean.abs() + MARGIN
        order = (self.gains() / moves.square()).argsort(descending=True)
        paid = order[moves[order].square().cumsum(0) <= (LENGTH / self.step) ** 2]
        crossing = torch.zeros(VALUES)
        crossing[paid] = (moves * self.clean.sign())[paid]
        key: Tensor = self.step * self.basis @ crossing
        return key


class CostlySymbols(ManyBoundaries):
    """The picture is as it should be; a latent that is not zero costs 8 bits."""

    title = "rate"
    objective = "rate"
    found = 0.6

    def error(self, delta: Tensor) -> Tensor:
        return torch.zeros_like(delta)

    def size(self, delta: Tensor) -> Tensor:
        squares = self.latents(delta).square()
        return 100 + (9 * squares / (squares + 0.125)).sum(1)

    def gains(self) -> Tensor:
        return torch.ones(VALUES)


class BehindBlur(Planted):
    """Amplifies offsets of the quarters of the frame, and twice as much a checkerboard, which a blur takes away."""

    title = "behind a defense"
    threat = "linf:4/255"
    defense = "blur:sigma=1.5"
    access: ClassVar[tuple[str, ...]] = ("white", "black")
    found = 0.35

    def __init__(self) -> None:
        super().__init__()
        self.along, self.other = _signs(4, 2), _checkerboard()

    def error(self, delta: Tensor) -> Tensor:
        ends = ((GAIN, self.along), (2 * GAIN, self.other))
        return torch.stack([gain * (delta @ along)[:, None] * along for gain, along in ends]).sum(0)

    def key(self) -> Tensor:
        key: Tensor = LENGTH * self.along
        return key


class NoGradient(BehindBlur):
    """Shows offsets of the quarters as a checkerboard, and has a gradient of neither."""

    title = "no gradient"
    defense = "none"
    access = ("black",)

    def error(self, delta: Tensor) -> Tensor:
        shown: Tensor = GAIN * (LENGTH / 4 + delta.detach() @ self.along)[:, None] * self.other
        return shown


WEAKNESSES: tuple[type[Planted], ...] = (OneBoundary, ManyBoundaries, CostlySymbols, BehindBlur, NoGradient)


def check(attack: Attack) -> list[Check]:
    """Whether an attack finds the weaknesses that its access lets it find; none for a baseline.

    What an attack misses that is not ``general`` is information.
    """
    return [] if attack.baseline else [_found(attack, each()) for each in WEAKNESSES if attack.access in each.access]


def _found(attack: Attack, planted: Planted) -> Check:
    def run() -> tuple[bool, str]:
        share = found(attack, planted)
        return share >= planted.found or not attack.general, f"{share:.2f} of the known damage"

    expected = f"≥ {planted.found}" if attack.general else f"information: a general attack finds ≥ {planted.found}"
    return guarded(f"planted weakness: {planted.title}", expected, run)


def found(attack: Attack, planted: Planted, crafted_on: Codec | None = None) -> float:
    """The damage that an attack does to ``planted`` behind its defense, beyond that of the clean clip, as a share of
    what the key does; both count projected and in 8 bits.

    ``crafted_on``: by default what is damaged.
    """
    victim = registry.defenses.build(planted.defense).wrap(planted)
    objective, threat = registry.objectives.build(planted.objective), registry.threats.build(planted.threat)
    x = clip()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        oracle = Oracle(crafted_on or victim, objective, x, attack.access)
        x_adv = attack.run(oracle, x.clone(), threat, Draws([SEED])).detach()
    judge = Oracle(victim, objective, x, "black")
    none, reached, known = (
        float(judge(threat.quantise(threat.project(each, x), x))) for each in (x, x_adv, x + planted.key().view_as(x))
    )
    return (reached - none) / (known - none)


def clip() -> Tensor:
    """What all of them code, ``(1, 1, 3, H, W)`` in 8 bits, far from the faces of the box."""
    levels = torch.randint(100, 156, (1, 1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(3))
    x: Tensor = levels / 255
    return x


def _signs(seed: int, cells: int) -> Tensor:
    """``(VALUES,)`` of norm 1: a random sign for each colour of each of ``cells`` × ``cells`` parts of the frame."""
    signs = 2.0 * torch.randint(0, 2, (3, cells, cells), generator=torch.Generator().manual_seed(seed)) - 1
    side = SIDE // cells
    pattern: Tensor = signs.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten() / VALUES**0.5
    return pattern


def _checkerboard() -> Tensor:
    """``(VALUES,)`` of norm 1."""
    odd = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2
    pattern: Tensor = (1.0 - 2 * odd).expand(3, SIDE, SIDE).flatten() / VALUES**0.5
    return pattern
