"""Warnings that a number may not mean what it seems (after Croce & Hein, 2020, https://arxiv.org/abs/2003.01690).

An attack that fails proves nothing when the gradient was zero, the budget unused, or the rate only an estimate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from robustcodec.errors import UserError
from robustcodec.interfaces import Draws, Oracle, Threat
from robustcodec.running.resolved import Part

if TYPE_CHECKING:
    import pandas

UNUSED = 0.9  # share of the budget below which an attack counts as timid
SHATTERED = 0.1  # cosine of neighbouring gradients below which neither says where to go
NEIGHBOUR = 0.5 / 255  # largest distance of the neighbours, per value
MARGIN = 0.02  # by what share an attack must do better than another one to be suspicious
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


def sample_findings(
    sample: str, scores: dict[str, float], pixels: int, info: dict[str, Any], failure: str | None
) -> list[Finding]:
    """What is suspicious about one sample's crafting and coding."""
    found = list(info["findings"])
    if failure is not None:
        found.append(f"decode failed under attack ({failure})")
    if info["blind"]:
        found.append("zero gradient: the attack was blind")
    if info["budget"] < UNUSED and not any("not finite" in f for f in found):
        found.append("budget not used")
    for prefix, when in (("", "clean"), ("adv_", "attacked")):
        real, estimate = scores[f"{prefix}bpp"], scores[f"{prefix}bpp_est"]
        apart = abs(estimate - real)
        if math.isfinite(apart) and apart > ESTIMATE_APART * real + ESTIMATE_BITS / pixels:
            found.append(f"estimated and real rate part ways ({when})")
    return [Finding(sample, what) for what in found]


def summarise(findings: list[Finding], samples: int) -> tuple[str, ...]:
    """One line per kind of finding, with the samples it was seen on."""
    where: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        where[finding.what].append(finding.sample)
    lines = []
    for what, names in sorted(where.items()):
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        lines.append(f"{what}: {len(names)} of {samples} samples ({shown})")
    return tuple(lines)


def gradient_health(oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> list[list[str]]:
    """Per sample: whether the gradient turns at random between two inputs less than a grey level apart.

    Two gradients at random inputs inside the threat; shattered if their cosine is below :data:`SHATTERED` (Athalye et
    al., 2018, https://arxiv.org/abs/1802.00420). A gradient that is zero is another finding.
    """
    here = threat.random_start(x, rng)
    there = here + NEIGHBOUR * (2 * rng.uniform(x.shape).to(x.device) - 1)
    one, other = (threat.confine(oracle.gradient(at)[1], x).flatten(1).double() for at in (here, there))
    alive = one.ne(0).any(1) & other.ne(0).any(1)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=1)
    turns = (alive & (cosine < SHATTERED)).tolist()
    return [["shattered gradient: it turns between neighbouring inputs"] if turn else [] for turn in turns]


@dataclass(frozen=True)
class Suspicion:
    """A sign that the numbers of a ``victim`` (data, threat, codec, defense, access) flatter it: ``what``, in short,
    and the ``numbers`` behind it.
    """

    victim: tuple[str, ...]
    what: str
    numbers: str

    def __str__(self) -> str:
        data, threat, codec, defense, access = self.victim
        return f"{codec} + {defense} ({access}, {threat}, {data}): {self.what} ({self.numbers})"


def masking(rows: pandas.DataFrame) -> list[Suspicion]:
    """Signs of gradient masking across attacks (Carlini et al., 2019, https://arxiv.org/abs/1902.06705): noise or a
    black-box attack that beats gradients, more steps that do less damage, an attacker who knows more and does less.

    Attacks are compared by the mean of what they were after: ``damage`` on real bytes.
    """
    found: list[Suspicion] = []
    if rows.empty:
        return found
    for where, group in rows.groupby([*_VICTIM, "objective"], sort=True):
        *victim, objective = map(str, where)
        mean = {str(k): float(v) for k, v in group.groupby("attack")["damage"].mean().items()}
        parts = {name: _installed(name.split(" @")[0]) for name in mean}
        kinds = {name: _kind(part) for name, part in parts.items()}
        floor = max((v for k, v in mean.items() if kinds[k] == "baseline"), default=-math.inf)
        whites = {k: v for k, v in mean.items() if kinds[k] == "white"}
        signs = [("noise beats ", name, floor) for name, value in whites.items() if value < floor]
        blacks = [v for k, v in mean.items() if kinds[k] == "black"]
        if whites and blacks and max(blacks) > _more(max(whites.values())):
            signs.append(("black-box beats ", max(whites, key=whites.__getitem__), max(blacks)))
        signs += [
            (f"{longer} does less than ", shorter, mean[longer])
            for shorter in mean
            for longer in mean
            if _extends(parts[longer], parts[shorter]) and mean[shorter] > _more(mean[longer])
        ]
        found += [
            Suspicion(tuple(victim), what + name, f"{objective} {value:.3g} against {mean[name]:.3g}")
            for what, name, value in signs
        ]
    defended = rows[rows["defense"] != "none"]
    for where, group in defended.groupby([*_VICTIM[:4], "objective", "attack"], sort=True):
        *victim, objective, attack = map(str, where)
        mean = {str(k): float(v) for k, v in group.groupby("access")["damage"].mean().items()}
        for access, value in mean.items():
            if access.startswith("adaptive") and mean.get("oblivious", -math.inf) > _more(value):
                numbers = f"{objective} {mean['oblivious']:.3g} against {value:.3g}"
                found.append(Suspicion((*victim, access), f"oblivious {attack} beats adaptive", numbers))
    return found


_VICTIM = ["data", "threat", "codec", "defense", "access"]


def _more(value: float) -> float:
    """Clearly above ``value``."""
    return value + MARGIN * abs(value)


def _installed(attack: str) -> Part | None:
    """An attack by name; None if it is not installed here."""
    part = Part("attack", attack)
    try:
        _ = part.built
    except UserError:
        return None
    return part


def _kind(attack: Part | None) -> str:
    """``baseline``, ``white`` or ``black``; empty for an attack that is not installed here."""
    if attack is None:
        return ""
    return "baseline" if attack.built.baseline else str(attack.built.access)


def _extends(longer: Part | None, shorter: Part | None) -> bool:
    """True if two attacks differ in their effort alone, and the first spends more."""
    if longer is None or shorter is None or longer.spec.name != shorter.spec.name:
        return False
    a, b = longer.params, shorter.params
    differ = [k for k in a if a[k] != b[k]]
    return bool(differ) and all(k in longer.built.effort and float(a[k]) > float(b[k]) for k in differ)  # type: ignore[arg-type]
