"""``robustcodec check --attack`` names the promise that an attack breaks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import pytest
import torch
from terminal import Type
from torch import Tensor

from robustcodec.attacks.ascent import Ascent
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.studies.check_attack import check

FEW = ("linf:3/255", "psnr:36")


@dataclass(frozen=True)
class Honest(Ascent):
    steps: int = 2


class Remembers(Attack):
    """Does something else each time."""

    turns: ClassVar[count[int]] = count()

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return threat.random_start(x, Draws([next(self.turns)] * len(x)))


class Unseeded(Attack):
    """Draws from a generator of its own."""

    generator: ClassVar[torch.Generator] = torch.Generator().manual_seed(0)

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x + threat.steepest(torch.randn(x.shape, generator=self.generator), x)


class OneColour(Attack):
    """What it returns would be broadcast to a clip without a word."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x[:, :, :1]


class NotANumber(Attack):
    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x * torch.nan


class Peeks(Attack):
    """Says that it needs no gradient, and asks for one."""

    access: ClassVar[Literal["white", "black"]] = "black"

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x + threat.steepest(oracle.gradient(x)[1], x)


def test_an_honest_attack_passes() -> None:
    assert len(made := check(Honest(), FEW)) == 4 and all(c.passed for c in made)


@pytest.mark.parametrize("attack", [Remembers(), Unseeded()], ids=lambda a: type(a).__name__)
def test_what_depends_on_more_than_the_seed_fails(attack: Attack) -> None:
    failed = {c.name.split(",")[0] for c in check(attack, FEW) if not c.passed}
    assert failed == {"again"}


@pytest.mark.parametrize("attack", [OneColour(), NotANumber(), Peeks()], ids=lambda a: type(a).__name__)
def test_what_is_no_input_or_no_black_box_fails(attack: Attack) -> None:
    assert not any(c.passed for c in check(attack, FEW))


def test_the_command_names_what_fails(robust: Type) -> None:
    attacks.register("remembers")(Remembers)
    done = robust("check", "--attack", "remembers")
    assert done.code == 1 and "again, in another order" in done.out
