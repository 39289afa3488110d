"""Warnings that a number may not mean what it seems (after Croce & Hein, 2020, https://arxiv.org/abs/2003.01690).

An attack that fails proves nothing when the gradient was zero, the budget unused, or the rate only an estimate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustcodec import answers
from robustcodec.errors import UserError, counted
from robustcodec.interfaces import Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.running.grid import Cell
from robustcodec.running.resolved import Part
from robustcodec.running.store import with_precision
from robustcodec.scores.robustness import BOARD, CONTENDER
from robustcodec.scores.strength import BLIND

if TYPE_CHECKING:
    import pandas

OUTSIDE = 1e-3  # an input may miss the threat by this share of its radius (float noise) …
MOVED = 0.1 / 255  # … and a projection may move values of one that is inside by so much
UNUSED = 0.9  # share of the budget below which an attack counts as timid
SHATTERED = 0.1  # cosine of neighbouring gradients below which neither says where to go
NEIGHBOUR = 0.5 / 255  # largest distance of the neighbours, per value
MARGIN = 0.02  # by what share an attack must do better than another one to be suspicious
POOR = 20.0  # dB PSNR of a clean decode, below which there is little left to lose
ESTIMATE_APART = 0.05  # relative gap of estimated and real bits …
ESTIMATE_BITS = 256.0  # … beyond so many bits


@dataclass(frozen=True)
class Finding:
    """Something noticed about one sample."""

    sample: str
    what: str


def budget_used(x_adv: Tensor, x: Tensor, threat: Threat) -> list[float]:
    """Norm of the perturbation as a share of the threat's radius, per sample."""
    delta = (x_adv - x).flatten(1).double()
    size = delta.abs().amax(1) if threat.norm == "linf" else delta.norm(dim=1)
    return [float(v) for v in size / threat.radius(x).double()]


def stays_inside(x_adv: Tensor, x: Tensor, threat: Threat) -> bool:
    """Whether 8-bit inputs ``x_adv``, one per item of ``x``, are what the threat allows: by their norm, and by what a
    projection moves of them.
    """
    if max(budget_used(x_adv, x, threat)) > 1 + OUTSIDE:
        return False
    return bool((threat.project(x_adv, x) - x_adv).abs().max() <= MOVED)


def sample_findings(
    sample: str, scores: dict[str, float], pixels: int, info: dict[str, Any], failure: str | None
) -> list[Finding]:
    """What is suspicious about one sample's crafting and coding."""
    signs = list(info["findings"])
    if failure is not None:
        signs.append(f"decode failed under attack ({failure})")
    if info["blind"]:
        signs.append(BLIND)
    if info["budget"] < UNUSED and not any("not finite" in sign for sign in signs):
        signs.append("budget not used")
    if scores["psnr"] < POOR:
        signs.append(f"clean decode below {POOR:.0f} dB PSNR: with little to lose, a small loss says nothing")
    if math.isnan(scores["bpp"]):
        signs.append("the codec makes no bytes: distortion only, nothing to publish")
    for prefix, when in (("", "clean"), ("adv_", "attacked")):
        real, estimate = scores[f"{prefix}bpp"], scores[f"{prefix}bpp_est"]
        apart = abs(estimate - real)
        if math.isfinite(apart) and apart > ESTIMATE_APART * real + ESTIMATE_BITS / pixels:
            signs.append(f"estimated and real rate part ways ({when})")
    return [Finding(sample, what) for what in signs]


def summarise(findings: list[Finding], samples: int) -> tuple[str, ...]:
    """One line per kind of finding, with the samples it was seen on."""
    where: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        where[finding.what].append(finding.sample)
    lines = []
    for what, names in sorted(where.items()):
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        lines.append(f"{what}: {len(names)} of {counted(samples, 'sample')} ({shown})")
    return tuple(lines)


def gradient_health(oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> list[list[str]]:
    """Per sample: whether the gradient turns at random between two inputs less than a grey level apart.

    Two gradients at random inputs inside the threat; shattered if their cosine is below :data:`SHATTERED` (Athalye et
    al., 2018, https://arxiv.org/abs/1802.00420). A gradient that is zero is another finding.
    """
    here = answers.clips(f"random_start of {type(threat).__name__}", threat.random_start(x, rng), x.shape)
    there = here + NEIGHBOUR * (2 * rng.uniform(x.shape).to(x.device) - 1)
    one, other = (threat.confine(oracle.gradient(at, "none")[1], x).flatten(1).double() for at in (here, there))
    alive = one.ne(0).any(1) & other.ne(0).any(1)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=1)
    turns = (alive & (cosine < SHATTERED)).tolist()
    return [["shattered gradient: it turns between neighbouring inputs"] if turn else [] for turn in turns]


@dataclass(frozen=True)
class Suspicion:
    """A sign that the numbers of a ``contender`` (data, threat, codec, defense, access) flatter it: ``what``, in short,
    and the ``numbers`` behind it.
    """

    contender: tuple[str, ...]
    what: str
    numbers: str

    def __str__(self) -> str:
        data, threat, codec, defense, access = self.contender
        return f"{codec} + {defense} ({access}, {threat}, {data}): {self.what} ({self.numbers})"


@dataclass(frozen=True)
class _Attempt:
    """An attack in a precision; the usual one is not said."""

    attack: str
    precision: str

    def __str__(self) -> str:
        return self.attack if self.precision == Cell.precision else f"{self.attack} in {self.precision}"

    @cached_property
    def part(self) -> Part | None:
        """The attack; None if it is not installed here."""
        part = Part("attack", self.attack)
        try:
            _ = part.built
        except UserError:
            return None
        return part

    @property
    def kind(self) -> str:
        """``baseline``, ``white`` (also where a transform is known) or ``black``; empty if it is not installed here."""
        if self.part is None:
            return ""
        if self.part.built.baseline:
            return "baseline"
        return "black" if self.part.built.access == "black" else "white"

    def extends(self, other: _Attempt) -> bool:
        """True if the two differ in their effort alone, and this one spends more."""
        if self.part is None or other.part is None:
            return False
        if (self.part.spec.name, self.precision) != (other.part.spec.name, other.precision):
            return False
        mine, its, effort = self.part.params, other.part.params, self.part.built.effort
        differ = [k for k in mine if mine[k] != its[k]]
        return bool(differ) and all(k in effort and float(mine[k]) > float(its[k]) for k in differ)  # type: ignore[arg-type]


def masking(rows: pandas.DataFrame) -> list[Suspicion]:
    """Signs of gradient masking across attacks (Carlini et al., 2019, https://arxiv.org/abs/1902.06705): noise or a
    black-box attack that beats gradients, more steps that do less damage, an attacker who knows more and does less.

    Attacks are compared by the mean of what they were after: ``damage`` on real bytes.
    """
    suspicions: list[Suspicion] = []
    if rows.empty:
        return suspicions
    rows = with_precision(rows)
    attempt_of = cache(_Attempt)  # each is built once
    damages: dict[tuple[str, ...], dict[_Attempt, float]] = defaultdict(dict)
    means = rows.groupby([*_CONTENDER, "objective", "attack", "precision"], sort=True)["damage"].mean()
    for key, value in zip(means.index.tolist(), means.tolist(), strict=True):
        *contender, attack, precision = map(str, key)
        damages[tuple(contender)][attempt_of(attack, precision)] = float(value)
    for group_of, mean in damages.items():
        *contender, objective = group_of
        kinds = {attempt: attempt.kind for attempt in mean}
        whites = {attempt: value for attempt, value in mean.items() if kinds[attempt] == "white"}
        blacks = [value for attempt, value in mean.items() if kinds[attempt] == "black"]
        floor = max((value for attempt, value in mean.items() if kinds[attempt] == "baseline"), default=-math.inf)
        signs = [("noise beats ", attempt, floor) for attempt, value in whites.items() if value < floor]
        if whites and blacks and max(blacks) > clearly_above(max(whites.values())):
            signs.append(("black-box beats ", max(whites, key=whites.__getitem__), max(blacks)))
        signs += [
            (f"{longer} does less than ", shorter, mean[longer])
            for shorter in mean
            for longer in mean
            if longer.extends(shorter) and mean[shorter] > clearly_above(mean[longer])
        ]
        suspicions += [
            Suspicion(tuple(contender), f"{what}{attempt}", f"{objective} {value:.3g} against {mean[attempt]:.3g}")
            for what, attempt, value in signs
        ]
    defended = rows[rows["defense"] != "none"]
    for where, group in defended.groupby([*_CONTENDER[:4], "objective", "attack", "precision"], sort=True):
        *contender, objective, attack, precision = map(str, where)
        by_access = {str(k): float(v) for k, v in group.groupby("access")["damage"].mean().items()}
        for access, value in by_access.items():
            if access.startswith("adaptive") and by_access.get("oblivious", -math.inf) > clearly_above(value):
                numbers = f"{objective} {by_access['oblivious']:.3g} against {value:.3g}"
                what = f"oblivious {_Attempt(attack, precision)} beats adaptive"
                suspicions.append(Suspicion((*contender, access), what, numbers))
    return suspicions


_CONTENDER = [*BOARD, *CONTENDER]


def clearly_above(value: float) -> float:
    """Damage that is more than ``value`` by a margin that an optimiser's luck does not explain."""
    return value + MARGIN * abs(value)
