"""An entry: what one codec, with or without a defense, scored on a board. One JSON file, readable in a diff.

Numbers are kept to six significant digits. What is alike for all rows is said once; what follows from other numbers
(the ratios of rates, the loss of PSNR) is not kept. ``sha256`` is of all the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from robustcodec.boards import entry_shape
from robustcodec.boards.board import Kind
from robustcodec.boards.entry_shape import AXES, FORMAT, READABLE
from robustcodec.boards.signed import table_of, text_of
from robustcodec.errors import BoardError
from robustcodec.files import write_whole
from robustcodec.running.grid import Cell

DIGITS = 6
CLEAN = ("bpp", "bpp_est", "kbps", "psnr", "ms_ssim", "flicker")  # of a sample, whatever attacks it
DERIVED = ("rate_ratio", "rate_ratio_est", "delta_psnr")


@dataclass(frozen=True)
class Table:
    """Numbers by row and column; ``constant``: columns whose value is the same in every row."""

    columns: tuple[str, ...]
    constant: Mapping[str, float | None]
    rows: Mapping[str, tuple[float | None, ...]]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Table:
        """Of a table of numbers whose index names its rows."""
        values = {str(c): [rounded(v) for v in frame[c]] for c in frame.columns}
        constant = {c: v[0] for c, v in values.items() if len(v) > 1 and len(set(v)) == 1}
        columns = tuple(c for c in values if c not in constant)
        rows = zip(*(values[c] for c in columns), strict=True) if columns else [()] * len(frame)
        return cls(columns, constant, dict(zip(map(str, frame.index), rows, strict=True)))

    def frame(self) -> pd.DataFrame:
        """Floats, NaN where there is no number; the index is called ``sample``."""
        values = dict(zip(self.columns, zip(*self.rows.values(), strict=True), strict=True)) | dict(self.constant)
        return pd.DataFrame(values, index=pd.Index(list(self.rows), name="sample"), dtype=float)


@dataclass(frozen=True)
class Measured:
    """One cell. ``axes``: :data:`AXES`; ``identity``: they, resolved; ``seconds``: wall
    time of crafting and evaluating it, over all attempts; ``frames``: per-frame curves of clips, by sample.
    """

    id: str
    axes: Mapping[str, str]
    identity: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    table: Table
    frames: Mapping[str, Mapping[str, list[float | None]]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """Its axes, in the order of :data:`AXES`; no two cells of an entry share them."""
        return tuple(self.axes[axis] for axis in AXES)


def axes_of(cell: Cell) -> tuple[str, ...]:
    """As :attr:`Measured.key`."""
    return tuple(str(getattr(cell, axis)) for axis in AXES)


@dataclass(frozen=True)
class Dispute:
    """Someone's doubt about an entry, which stays on the board with it."""

    by: str
    date: str
    why: str


@dataclass(frozen=True)
class Entry:
    """``kind``: which protocol of the board it met; ``identity``: what its cells' identities have in common, samples
    aside; ``checks``: of `robustcodec check`; ``pictures``: by sample, each ``attack`` and lists of data URIs, a frame
    each: ``original``, ``clean`` … What it scores follows from its rows, see :mod:`robustcodec.boards.score`.
    """

    board: str
    codec: str
    defense: str
    kind: Kind
    measured_by: str
    date: str
    command: str
    seed: int
    provenance: Mapping[str, str]
    checks: tuple[Mapping[str, Any], ...]
    identity: Mapping[str, Any]
    clean: Table
    cells: tuple[Measured, ...]
    disputed: tuple[Dispute, ...] = ()
    pictures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As tables show it: the codec and its defense."""
        return name_of(self.codec, self.defense)

    @property
    def file(self) -> str:
        """The name of its file."""
        return file_of(self.codec, self.defense)

    def to_json(self) -> str:
        """As a file that :meth:`read` reads back."""
        return text_of({"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Entry:
        """Raises :class:`BoardError`, which names the file, for one that is no entry, that contradicts itself, or of
        which something was changed by hand.
        """
        try:
            table = table_of(path, READABLE, "take it from its run again with leaderboard add")
            entry_shape.check(table)
            table = {key: value for key, value in table.items() if key not in ("format", "scores")}
            return cls(**table | {
                "checks": tuple(table["checks"]), "clean": _table(table["clean"]),
                "cells": tuple(_measured(cell) for cell in table["cells"]),
                "disputed": tuple(Dispute(**each) for each in table["disputed"]),
            })  # fmt: skip
        except ValueError as error:
            raise _no_entry(path, error) from None

    def write(self, folder: Path) -> Path:
        """Into ``folder``; raises :class:`BoardError` where another codec's entry has that name."""
        path = folder / self.file
        if path.is_file() and (old := Entry.read(path)).name != self.name:
            raise BoardError(f"{path} is the entry of {old.name}, whose file would have the same name as {self.name}'s")
        write_whole(path, self.to_json().encode())
        return path

    def cell_identity(self, cell: Measured, samples: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """What the id of ``cell`` is the hash of, for samples and their checksums."""
        return {**self.identity, **cell.identity, "samples": [list(sample) for sample in samples]}

    def frame(self, data: str) -> pd.DataFrame:
        """One row per cell and sample, columns as in :meth:`robustcodec.running.store.Store.frame` and ``entry``."""
        tables = pd.concat({cell.id: cell.table.frame() for cell in self.cells}, names=["cell"])
        rows = tables.reset_index().join(self.clean.frame(), on="sample")
        texts = {cell.id: {"warnings": "; ".join(cell.warnings), **self._axes(cell, data)} for cell in self.cells}
        rows = rows.join(pd.DataFrame.from_dict(texts, orient="index"), on="cell")
        return rows.assign(
            rate_ratio=rows["adv_bpp"] / rows["bpp"],
            rate_ratio_est=rows["adv_bpp_est"] / rows["bpp_est"],
            delta_psnr=rows["psnr"] - rows["adv_psnr"],
        )

    def curves(self, data: str) -> pd.DataFrame:
        """One row per cell, sample and frame, as in :meth:`robustcodec.running.store.Store.curves` and ``entry``."""
        tables = [
            pd.DataFrame(lists, dtype=float).assign(cell=cell.id, sample=sample, **self._axes(cell, data))
            for cell in self.cells
            for sample, lists in cell.frames.items()
        ]
        return pd.concat([t.rename_axis("frame").reset_index() for t in tables]) if tables else pd.DataFrame()

    def disputed_by(self, dispute: Dispute) -> Entry:
        """The same with one more doubt."""
        return replace(self, disputed=(*self.disputed, dispute))

    def _axes(self, cell: Measured, data: str) -> dict[str, Any]:
        named = {"codec": self.codec, "defense": self.defense, "data": data, "seed": self.seed, "entry": self.name}
        return {**cell.axes, **named}


def name_of(codec: str, defense: str) -> str:
    """What tables call a codec behind a defense."""
    return codec if defense == "none" else f"{codec} + {defense}"


def file_of(codec: str, defense: str) -> str:
    """The name of the file of an entry, and of what was found about it."""
    return re.sub(r"[^A-Za-z0-9.+=,-]+", "_", name_of(codec, defense).replace(" + ", "+")) + ".json"


def rounded(value: float | None) -> float | None:
    """To :data:`DIGITS` significant digits; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def _no_entry(path: Path, error: Exception) -> BoardError:
    return BoardError(f"{path} is not an entry of a leaderboard: {error}; leaderboard add makes them")


def _table(table: Mapping[str, Any]) -> Table:
    rows = {sample: tuple(row) for sample, row in table["rows"].items()}
    return Table(tuple(table["columns"]), table["constant"], rows)


def _measured(cell: dict[str, Any]) -> Measured:
    return Measured(**{**cell, "warnings": tuple(cell["warnings"]), "table": _table(cell["table"])})
