"""An attack of another library as one of ours: its name, its options, its budget and its random state."""

from __future__ import annotations

import inspect
import random
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from robustcodec.attacks._classifier import Classifier, as_picture
from robustcodec.errors import AttackError
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.rounding import Crafting

Option = int | float | bool | str | tuple[int | float, ...] | None


@dataclass(frozen=True)
class LibraryAttack:
    """One attack of a library. ``norm``: what it bounds or minimises, as its library says.

    ``kind``: ``loss`` maximises one inside a budget; ``minimum`` minimises the perturbation, by gradients;
    ``decision`` does so by queries; ``noise`` draws or computes a corruption. ``cannot``: why it does not run.
    ``classes``: how many it needs to see; those beyond two never win. ``defaults``: in place of the library's.
    """

    norm: str
    kind: Literal["loss", "minimum", "decision", "noise", "wrapper"]
    access: Literal["white", "black"] = "white"
    cannot: str = ""
    classes: int = 2
    defaults: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """Radii of a threat around one clip, for whichever norm an attack knows; each ball holds the threat's.

    Of an L2 threat ``linf`` is an exception: every value moved by ±``linf`` has its L2 norm.
    """

    norm: Literal["linf", "l2"]
    linf: float
    l2: float
    l1: float

    @classmethod
    def of(cls, threat: Threat, x: Tensor) -> Budget:
        """``x``: one clip ``(1, T, 3, H, W)``. Values that may not change do not count."""
        radius, root = float(threat.radius(x)), float(threat.confine(torch.ones_like(x), x).count_nonzero()) ** 0.5
        linf, l2 = (radius, radius * root) if threat.norm == "linf" else (radius / root, radius)
        return cls(threat.norm, linf, l2, l2 * root)


class Foreign(Attack):
    """What the attacks of all libraries share; a subclass is a frozen dataclass with the fields declared here.

    Samples are attacked one by one, each with the libraries' random state seeded from its own draws.
    """

    general = False

    library: ClassVar[str]
    catalogue: ClassVar[dict[str, LibraryAttack]]
    aliases: ClassVar[dict[str, str]] = {}
    name: str
    options: str
    surrogate: Crafting
    scale: float
    start: float

    def __post_init__(self) -> None:
        if not self.scale > 0 or not 0 < self.start <= 1:
            raise ValueError(
                f"scale={self.scale}, start={self.start}; expected a positive factor of the logits and a fraction of "
                "the budget in (0, 1]"
            )
        object.__setattr__(self, "access", self.entry.access)  # the runner asks the instance
        known = self.takes()
        for key, value in self.given.items():
            if key not in known:
                raise ValueError(
                    f"{self.library}:{self.full_name} takes no option {key}; "
                    f"it takes {', '.join(known) or 'no options'}"
                )
            if isinstance(known[key], int | float) and not isinstance(value, int | float):
                raise ValueError(f"{self.library}:{self.full_name}: {key}={value} is no number; expected one")

    @property
    def full_name(self) -> str:
        """The name in the catalogue; raises ValueError if there is none."""
        for name in (self.name, f"{self.name}Attack", self.aliases.get(self.name, "")):
            if name in self.catalogue:
                return name
        raise ValueError(f"{self.library} has no attack {self.name!r}; it has {', '.join(self.catalogue)}")

    @property
    def entry(self) -> LibraryAttack:
        return self.catalogue[self.full_name]

    @property
    def given(self) -> dict[str, Option]:
        """``options`` read."""
        return read_options(self.options)

    @abstractmethod
    def takes(self) -> dict[str, object]:
        """The options of this attack and their defaults."""

    @abstractmethod
    def find(self, model: Classifier, picture: Tensor, budget: Budget, seed: int) -> Tensor:
        """The library's result for one picture ``(1, 3, T·H, W)``."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        entry = self.entry
        if entry.cannot:
            raise AttackError(f"{self.library}:{self.full_name} cannot attack a codec: it {entry.cannot}")
        seeds = (2**24 * rng.uniform(x.shape[:1])).long().tolist()
        near = x + self.start * (threat.random_start(x, rng.child()) - x)
        return torch.cat(
            [self._one(oracle, i, x, threat, near[i : i + 1], entry, seed) for i, seed in enumerate(seeds)]
        )

    def _one(
        self, oracle: Oracle, index: int, x: Tensor, threat: Threat, near: Tensor, entry: LibraryAttack, seed: int
    ) -> Tensor:
        clip = x[index : index + 1]
        with _seeded(seed, self.library, x.device):
            model = Classifier(
                oracle if len(x) == 1 else oracle.on(clip),
                clip, threat, near, entry.access, self.surrogate, self.scale, entry.classes,
            ).eval()  # fmt: skip
            found = self.find(model, as_picture(clip), Budget.of(threat, clip), seed).detach()
            smallest = entry.kind in ("minimum", "decision")
            if torch.isfinite(found).all():
                found = model.allowed(found)
            elif smallest and model.broken is not None:
                found = model.broken  # it lost its way after that
            else:
                return found.view_as(clip)  # the runner says so
            if smallest:
                found = model.smallest_break(found)
        if torch.equal(found, clip) and self.full_name != "VANILA":
            where = torch.arange(len(x)) == index
            oracle.remark(f"{self.library}:{self.full_name} found nothing and gave the clean clip back", where)
        return found


def read_options(text: str) -> dict[str, Option]:
    """``steps=5;eps=8/255;norm=L2;size=2:10`` → values; raises ValueError for what is no ``key=value``."""
    options: dict[str, Option] = {}
    for part in filter(None, text.split(";")):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise ValueError(f"options={text!r}: {part!r} is no key=value; separate several by a semicolon")
        options[key] = _read(value)
    return options


def _read(value: str) -> Option:
    if value.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[value.lower()]
    if re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    if ":" in value:
        parts = [_read(p) for p in value.split(":")]
        if all(isinstance(p, int | float) for p in parts):
            return tuple(p for p in parts if isinstance(p, int | float))
    try:
        return float(Fraction(value)) if "/" in value else float(value)
    except (ValueError, ZeroDivisionError):
        return value


def constructor(cls: type, hidden: tuple[str, ...]) -> dict[str, Any]:
    """What a library's class is built with, and the defaults, less what cannot be typed."""
    found = inspect.signature(cls).parameters
    return {k: p.default for k, p in found.items() if k not in hidden and p.kind is not p.VAR_KEYWORD}


@contextmanager
def _seeded(seed: int, library: str, device: torch.device) -> Iterator[None]:
    """All random states that a library may draw from, seeded inside and as before outside; its own warnings unseen."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"{library}|eagerpy|numba")
        warnings.filterwarnings("ignore", "torch.meshgrid")  # called by a library, warned of by torch
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
