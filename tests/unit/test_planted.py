"""Planted weaknesses: the default attacks find them, broken ones do not, and nobody finds them by chance."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from terminal import Type
from torch import Tensor

from robustcodec import registry
from robustcodec.attacks.pgd import PGD
from robustcodec.attacks.queries import Asker, QueryAttack, noise
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.studies.planted import WEAKNESSES, BehindBlur, Planted, check, clip, found

EACH = pytest.mark.parametrize("kind", WEAKNESSES, ids=lambda kind: kind.title)


@dataclass(frozen=True)
class Still(PGD):
    """Its steps have no length."""

    def gradient(self, oracle: Oracle, x_adv: Tensor, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return 0 * super().gradient(oracle, x_adv, x, threat, rng)


@dataclass(frozen=True)
class Downhill(PGD):
    """The wrong sign."""

    def gradient(self, oracle: Oracle, x_adv: Tensor, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return -super().gradient(oracle, x_adv, x, threat, rng)


@dataclass(frozen=True)
class Forgetful(QueryAttack):
    """Asks as often as it may, and learns nothing from the answers."""

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        while ask.can():
            ask(threat.steepest(noise(rng, x, "pixel", 1), x))


@pytest.mark.parametrize("name", ["pgd", "apgd", "ftda", "square", "random-search"])
def test_default_attacks_find_all_that_their_access_lets_them_find(name: str) -> None:
    checks = check(registry.attacks.build(name))
    assert len(checks) == {"white": 4, "black": 2}[registry.attacks.build(name).access]
    assert all(c.passed for c in checks), checks


@pytest.mark.parametrize("attack", [Still(), Downhill(), Forgetful()], ids=lambda a: type(a).__name__)
def test_a_broken_attack_finds_none(attack: Attack) -> None:
    assert not any(c.passed for c in check(attack))


def test_a_gradient_that_knows_no_boundary_misses_them() -> None:
    through = {c.name.partition(": ")[2]: c.passed for c in check(PGD(surrogate="straight-through"))}
    assert through == {"one boundary": False, "many boundaries": False, "rate": False, "behind a defense": True}
    longer = {c.name.partition(": ")[2]: c.passed for c in check(PGD(steps=100, surrogate="straight-through"))}
    assert not longer["one boundary"] and not longer["rate"]
    skipped = {c.name.partition(": ")[2]: c.passed for c in check(PGD(surrogate="none"))}
    assert skipped == {"one boundary": True, "many boundaries": False, "rate": True, "behind a defense": True}


@EACH
def test_keys_are_allowed_and_noise_opens_nothing(kind: type[Planted]) -> None:
    x, threat = clip(), registry.threats.build(kind.threat)
    key = kind().key().view_as(x)
    torch.testing.assert_close(threat.project(x + key, x), x + key, rtol=0, atol=1e-4)
    assert found(registry.attacks.build("noise"), kind()) < kind.found - 0.1


def test_one_is_behind_a_defense_alone() -> None:
    assert found(PGD(), BehindBlur(), crafted_on=BehindBlur()) < 0.05 < BehindBlur.found < found(PGD(), BehindBlur())


def test_an_attack_that_is_not_general_is_told_what_it_misses() -> None:
    checks = {c.name: c for c in check(registry.attacks.build("fgsm"))}
    missed = checks["planted weakness: many boundaries"]
    assert missed.passed and missed.expected.startswith("information") and float(missed.measured[:4]) < 0.63
    assert check(registry.attacks.build("noise")) == []


def test_the_command_names_the_weakness(robust: Type) -> None:
    done = robust("check", "--attack", "pgd:steps=3,surrogate=straight-through")
    assert done.code == 1 and "planted weakness: one boundary" in done.out
