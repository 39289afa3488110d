"""What tables and pages need of a cell's result, with its numbers as arrays: many fit into memory, and into a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustcodec.errors import last_line
from robustcodec.running.grid import AXES, Cell

if TYPE_CHECKING:
    import pandas

    from robustcodec.running.store import Result

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """Lines of a table that are of one cell: ``values``, of shape (lines, names), NaN where there is none, and the
    sample that each line is of.
    """

    names: tuple[str, ...]
    samples: tuple[str, ...]
    values: Values

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Numbers:
        """Rows of a result, one per sample; names in the order in which rows first have them.

        Raises :class:`KeyError` and :class:`TypeError` for what is no row of numbers.
        """
        names = tuple(dict.fromkeys(name for row in rows for name in row if name != "sample"))
        values = np.array([[row.get(name) for name in names] for row in rows], dtype=float)  # None is NaN
        return cls(names, tuple(row["sample"] for row in rows), values.reshape(len(rows), len(names)))

    @classmethod
    def of_frames(cls, frames: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Numbers:
        """Curves of a result by sample, one line per frame."""
        lines = {
            sample: [dict(zip(curves, values, strict=True)) for values in zip(*curves.values(), strict=True)]
            for sample, curves in frames.items()
        }
        return cls.of_rows([{"sample": sample, **line} for sample, of in lines.items() for line in of])


@dataclass(frozen=True)
class Summary:
    """A result without what only its own file needs to hold.

    Attributes:
        why: The last line of the error of a cell that failed.
        scores: What all its rows have.
        rows: One line per sample.
        curves: One line per sample and frame, of clips of more than one frame.
        fingerprint: Of its codec.
    """

    status: Literal["ok", "error"]
    why: str
    warnings: tuple[str, ...]
    scores: tuple[str, ...]
    rows: Numbers
    curves: Numbers
    fingerprint: str
    provenance: dict[str, str]

    @classmethod
    def of(cls, result: Result) -> Summary:
        """Raises :class:`ValueError`, :class:`KeyError`, :class:`TypeError` or :class:`AttributeError` for rows and
        frames that are none.
        """
        rows = Numbers.of_rows(result.rows)
        return cls(
            status=result.status,
            why=last_line(result.error or ""),
            warnings=tuple(result.warnings),
            scores=tuple(name for name in rows.names if all(name in row for row in result.rows)),
            rows=rows,
            curves=Numbers.of_frames(result.frames or {}),
            fingerprint=str((result.identity or {}).get("codec", {}).get("fingerprint", "")),
            provenance=dict(result.provenance or {}),
        )

    def holds(self, scores: Iterable[str]) -> bool:
        """True if each of its rows has all these scores."""
        return not self.rows.samples or set(scores) <= set(self.scores)


def lines(tables: Sequence[tuple[Cell, Numbers]], extra: Mapping[str, Sequence[str]]) -> pandas.DataFrame:
    """Tables of cells below each other: ``cell``, the axes, ``extra`` columns (a value per table), ``sample`` and the
    numbers, in the order in which tables first have them.
    """
    import pandas

    counts = [len(numbers.samples) for _, numbers in tables]
    names = list(dict.fromkeys(name for _, numbers in tables for name in numbers.names))
    place = {name: at for at, name in enumerate(names)}
    values, end = np.full((sum(counts), len(names)), np.nan), 0
    for (_, numbers), count in zip(tables, counts, strict=True):
        start, end = end, end + count
        values[start:end, [place[name] for name in numbers.names]] = numbers.values
    shared = {
        "cell": [cell.id for cell, _ in tables],
        **{axis: [getattr(cell, axis) for cell, _ in tables] for axis in AXES},
        **extra,
    }
    columns: dict[str, Any] = {name: pandas.Series(of).repeat(counts).array for name, of in shared.items()}
    columns["sample"] = [sample for _, numbers in tables for sample in numbers.samples]
    scores = pandas.DataFrame(values, columns=names)
    return pandas.concat([pandas.DataFrame(columns), scores], axis=1)
