"""Steepest ascent along a decaying sum of gradients: what ``mi-fgsm`` and ``ni-fgsm`` share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from robustcodec.attacks._published import near, refuse_changes
from robustcodec.attacks.ascent import ascend
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.rounding import Crafting

PUBLISHED: dict[str, Any] = {"steps": 10, "reach": 1.0, "momentum": 1.0, "start": 0.0}


@dataclass(frozen=True)
class Momentum(Attack):
    """Fields as :class:`robustcodec.attacks.mi_fgsm.MIFGSM` explains them; ``look_ahead``: as Nesterov's."""

    look_ahead: ClassVar[bool] = False

    steps: int = 20
    reach: float = 15.0
    momentum: float = 0.3
    start: float = 0.5
    judge: int = 10
    surrogate: Crafting = "annealed"
    constants: Literal["threat", "published"] = "threat"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1:
            raise ValueError(f"steps={self.steps}, judge={self.judge}; expected at least 1 of each")
        if not self.reach > 0 or not self.momentum >= 0:
            raise ValueError(
                f"reach={self.reach}, momentum={self.momentum}; expected a positive multiple of the radius "
                "and a decay of at least 0"
            )
        if not 0 <= self.start <= 1:
            raise ValueError(f"start={self.start} is not in [0, 1]; expected a fraction of the budget")
        refuse_changes(self, self.constants, tuple(PUBLISHED))

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        if self.constants == "published":
            return replace(self, constants="threat", **PUBLISHED).run(oracle, x, threat, rng)
        return ascend(
            oracle,
            x,
            threat,
            near(x, threat, rng, self.start),
            steps=self.steps,
            step_size=self.reach / self.steps,
            momentum=self.momentum,
            judge=self.judge,
            gradient=lambda x_adv: oracle.gradient(x_adv, self.surrogate)[1],
            look_ahead=self.look_ahead,
        ).x
