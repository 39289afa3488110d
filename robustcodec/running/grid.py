"""What to run: a cell is everything that can change a number, and nothing else; a grid lists cells.

A grid file holds one or more ``[[block]]`` tables; each block is the product of its axes::

    name = "example"
    [[block]]
    codec = ["bmshj2018-hyperprior.tiny-q2", "jpeg:quality=30"]
    attack = ["pgd", "chen-ma"]
    objective = ["distortion"]
    threat = ["psnr:40"]
    defense = ["none", "self-ensemble"]
    access = ["oblivious", "adaptive"]
    data = ["photos"]
    seed = [0]
    precision = ["float32"]  # or bfloat16: of gradients while crafting
    limit = 0          # samples of each data set; 0: all

``suite = ["robustcodec-standard"]`` stands for attacks with their objectives. Braces sweep: ``psnr:{30,34,40}``.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, get_args

from robustcodec.errors import GridError
from robustcodec.files import dump_toml
from robustcodec.interfaces import Precision, Sample
from robustcodec.running import suites
from robustcodec.running.access import Victim, victim
from robustcodec.running.naming import name_of
from robustcodec.running.resolved import Planning, Resolved
from robustcodec.spec import expand, settled


@dataclass(frozen=True)
class Cell:
    """One measurement. All fields are identity (a test holds the list)."""

    codec: str
    attack: str
    objective: str = "distortion"
    threat: str = "psnr:40"
    defense: str = "none"
    access: str = "oblivious"
    data: str = "photos"
    seed: int = 0
    limit: int = 0
    precision: str = "float32"  # of gradients while crafting; results are always evaluated in float32

    def __post_init__(self) -> None:
        _ = self.victim
        if self.precision not in get_args(Precision):
            raise GridError(f"precision {self.precision!r}; expected {' or '.join(get_args(Precision))}")

    @property
    def victim(self) -> Victim:
        """What the attack is crafted on."""
        return victim(self.access, self.codec, self.defense)

    @cached_property
    def resolved(self) -> Resolved:
        """Every name read and every plugin built, once: as the files behind them were when it was first asked for."""
        return Resolved(self)

    def planned(self, planning: Planning) -> Self:
        """This cell, :attr:`resolved` together with others."""
        self.__dict__["resolved"] = Resolved(self, planning)  # where cached_property keeps it
        return self

    @property
    def id(self) -> str:
        """16 hex digits that name the result of this cell: of everything that can change a number."""
        return self.resolved.id

    def craft_id(self, sample: Sample) -> str:
        """Identity of one adversarial clip: what it was crafted with, on and from."""
        return self.resolved.craft_id(sample)

    def samples(self) -> list[Sample]:
        """The samples that this cell measures."""
        return self.resolved.samples

    def __getstate__(self) -> dict[str, Any]:
        """What is resolved here is resolved anew in another process."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        defense = ""
        if self.defense != "none":
            defense = f" + {self.defense} ({self.access})"
        elif self.access != "oblivious":
            defense = f" ({self.access})"
        return f"{self.codec}{defense} × {self.attack}, {self.objective} @ {self.threat}"


@dataclass(frozen=True)
class Drawn(Cell):
    """A cell on some of its samples alone; it crafts what the whole cell crafts of them."""

    only: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: Cell, only: Iterable[str]) -> Drawn:
        """``cell`` on the samples called ``only``."""
        return cls(**{f.name: getattr(cell, f.name) for f in fields(Cell)}, only=tuple(only))

    def samples(self) -> list[Sample]:
        return [sample for sample in super().samples() if sample.id in self.only]


MOST = 50_000  # cells of a grid, and values of an axis of a block
NAME = 200  # bytes of the name of a grid: a folder system takes 255, and parts of a grid add to it
AXES = tuple(f.name for f in fields(Cell) if f.name != "limit")  # what a block of a grid may list values of


@dataclass(frozen=True)
class Grid:
    """Named blocks of axes; ``cells()`` is the union of their products, each cell once."""

    name: str
    blocks: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    def cells(self) -> list[Cell]:
        """Cells in a fixed order: data sets as the grid first names them, of each by codec and defense, so that a codec
        is built once.
        """
        seen: dict[Cell, None] = {}
        if (count := sum(map(_count, self.blocks))) > MOST:
            raise GridError(f"grid {self.name!r} has {count} cells; expected at most {MOST}: split it")
        for block in self.blocks:
            axes = [[(axis, v) for v in block.get(axis, [_DEFAULTS[axis]])] for axis in AXES if axis not in _PAIR]
            for pair, *values in itertools.product(_pairs(block), *axes):
                cell = Cell(**dict(zip(_PAIR, pair, strict=True)), **dict(values), limit=block.get("limit", 0))
                if cell.defense == "none" and cell.access.startswith("adaptive"):
                    cell = replace(cell, access="oblivious")  # nothing to adapt to
                seen[cell] = None
        if not seen:
            raise GridError(f"grid {self.name!r} has no cells; give each block a codec and an attack")
        planning = Planning()
        data = {name: i for i, name in enumerate(dict.fromkeys(cell.data for cell in seen))}
        return [cell.planned(planning) for cell in sorted(seen, key=lambda cell: (data[cell.data], _place(cell)))]

    def check(self) -> list[Cell]:
        """:meth:`cells`, after raising the first mistake in any name, parameter, weights or data set. What is broken in
        a plugin is left to its cells, unless there are no others.
        """
        cells = self.cells()
        flaws = [cell.resolved.flaw for cell in cells]
        if flaws[0] is not None and None not in flaws:
            raise flaws[0]
        return cells

    @classmethod
    def read(cls, path: Path) -> Grid:
        """A grid file; raises :class:`GridError` with the offending key."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors mark files as UTF-8
        except (FileNotFoundError, IsADirectoryError):
            raise GridError(
                f"no grid file at {path}; expected a TOML file, or no argument for the default grid"
            ) from None
        except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number or a nesting beyond all measure
            raise GridError(f"{path} is not TOML: {error}") from None
        return cls.parse(table, path.stem, str(path))

    @classmethod
    def default(cls) -> Grid:
        """The grid that ships: bundled codecs on bundled photos."""
        text = (files("robustcodec") / "default.toml").read_text(encoding="utf-8")
        return cls.parse(tomllib.loads(text), "default", "the default grid")

    @classmethod
    def parse(cls, table: dict[str, Any], name: str, where: str) -> Grid:
        """A grid from a parsed TOML table. ``name``: of a grid that says none; empty: one that its blocks make."""
        for key in table:
            if key not in ("name", "block"):
                raise GridError(f"{where}: unknown key {key!r}; expected name and [[block]] tables")
        called = str(table.get("name", name))
        if Path(called).name != called or called == ".." or "\\" in called:
            raise GridError(
                f"{where}: name = {_shown(called)}; it names a folder of runs/: expected no way out of that"
            )
        if not called.isprintable() or len(called.encode()) > NAME:
            raise GridError(
                f"{where}: name = {_shown(called)}; it names a folder of runs/: expected signs that can be seen, of at "
                f"most {NAME} bytes"
            )
        blocks = table.get("block", [])
        if not isinstance(blocks, list) or not all(isinstance(b, dict) for b in blocks):
            raise GridError(f"{where}: block must be written [[block]]")
        axes = tuple(_axes(b, where) for b in blocks)
        return cls(called or name_of(axes), axes)

    def to_toml(self) -> str:
        """The grid as a file that :meth:`read` reads back."""
        blocks = "".join(f"\n[[block]]\n{dump_toml(block)}" for block in self.blocks)
        return dump_toml({"name": self.name}) + blocks


def _shown(value: Any) -> str:
    """A value as it was typed, on one line of a sensible length."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}…"


def _place(cell: Cell) -> tuple[str | tuple[str, ...], ...]:
    victim = cell.victim
    return victim.codecs, victim.defense, cell.codec, cell.defense, cell.access


def _count(block: dict[str, Any]) -> int:
    """Cells of a block, before any of them is made."""
    pairs = len(_pairs(block)) if "suite" in block else 1
    return pairs * math.prod(len(values) for axis, values in block.items() if axis in AXES)


_DEFAULTS = {f.name: f.default for f in fields(Cell)}
_PAIR = ("attack", "objective")


def _pairs(block: dict[str, Any]) -> list[tuple[str, str]]:
    """The attacks and objectives of a block: their product, or those of its suites."""
    if "suite" in block:
        return [member for name in block["suite"] for member in suites.find(name).members]
    return list(itertools.product(block["attack"], block.get("objective", [_DEFAULTS["objective"]])))


def _axes(block: dict[str, Any], where: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in block.items():
        if key == "limit":
            if not isinstance(value, int) or value < 0:
                raise GridError(f"{where}: limit = {_shown(value)}; expected a number of samples, 0 for all")
            out[key] = value
            continue
        if key not in (*AXES, "suite"):
            raise GridError(f"{where}: unknown key {key!r} in a block; expected {', '.join(AXES)}, suite or limit")
        values = value if isinstance(value, list) else [value]
        wanted = int if key == "seed" else str
        if not values or not all(isinstance(v, wanted) and not isinstance(v, bool) for v in values):
            raise GridError(f"{where}: {key} = {_shown(value)}; expected a list of {wanted.__name__}")
        if key == "seed" and not all(abs(v) < 2**63 for v in values):
            raise GridError(f"{where}: seed = {_shown(value)}; expected numbers of at most 63 bits")
        if key != "seed":
            values = list(itertools.islice(itertools.chain.from_iterable(map(expand, values)), MOST + 1))
        if len(values) > MOST:
            raise GridError(f"{where}: {key} has more than {MOST} values; expected at most {MOST}: split the grid")
        out[key] = values if key == "seed" else list(map(settled, values))
    if "suite" in out and (given := [axis for axis in _PAIR if axis in out]):
        raise GridError(f"{where}: a suite brings its attacks and objectives; drop {' and '.join(given)} or the suite")
    for needed in ("codec",) if "suite" in out else ("codec", "attack"):
        if needed not in out:
            other = " or suite" if needed == "attack" else ""
            raise GridError(f'{where}: a block names no {needed}{other}; add {needed} = ["…"]')
    return out


def select(grid: Grid | None, axes: dict[str, list[Any]], limit: int | None) -> Grid:
    """What a command line asks for: ``axes`` in place of those of every block of a grid file.

    Without a file (``None``) it is the default grid; but naming codecs or attacks makes a grid of one's own, in
    which all that is not named is as in :class:`Cell`, with the default grid's codecs or attacks. What is asked for so
    is named by what it is.
    """
    given = {k: v for k, v in axes.items() if v}
    base = grid or Grid.default()
    if not given and limit is None:
        return base
    blocks: Iterable[dict[str, Any]] = base.blocks
    name = base.name
    if grid is None and not given.keys().isdisjoint({"codec", "attack", "suite"}):
        first, name = base.blocks[0], ""
        blocks = [{"codec": first["codec"], "attack": first["attack"]}]
    if "suite" in given:
        blocks = [{k: v for k, v in b.items() if k not in _PAIR} for b in blocks]
    elif not given.keys().isdisjoint(_PAIR):
        blocks = [{k: v for k, v in b.items() if k != "suite"} for b in blocks]
    extra = given if limit is None else {**given, "limit": limit}
    chosen = tuple(_axes({**b, **extra}, "the command line") for b in blocks)
    return Grid(name_of(chosen, name), chosen)
