"""Warnings that a number may not mean what it seems (after Croce & Hein, 2020, https://arxiv.org/abs/2003.01690).

An attack that fails proves nothing when the gradient was zero, the budget unused, or the rate only an estimate.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustcodec.interfaces import Threat

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

UNUSED = 0.9  # share of the budget below which an attack counts as timid
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


def masking(rows: pandas.DataFrame) -> list[str]:
    """Signs of gradient masking across attacks: a floor attack that beats one that uses gradients."""
    keys = ["data", "threat", "objective", "codec", "defense", "access"]
    warnings = []
    for where, group in rows.groupby(keys, sort=True):
        mean = group.groupby("attack")["vi_db"].mean()
        floor = mean[[a for a in mean.index if a.split(":")[0] == "noise"]]
        for attack, value in mean.items():
            if str(attack).split(":")[0] != "noise" and len(floor) and value < floor.max():
                _, threat, _, codec, defense, access = where
                warnings.append(
                    f"{codec} + {defense} ({access}, {threat}): noise beats {attack} "
                    f"({floor.max():.1f} against {value:.1f} dB); its gradients may be masked"
                )
    return warnings
