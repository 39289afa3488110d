"""Cells in words that tell them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from robustcodec.running.grid import Cell

UNSAID = ("data", "seed", "limit", "precision")  # axes that the text of a cell leaves out


def labels(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Each cell as text; those that share theirs with those of :data:`UNSAID` in which they differ: ``… @ psnr:40
    (data kodak)``.
    """
    cells = list(cells)
    alike: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[str(cell)].append(cell)
    differ = {
        text: [axis for axis in UNSAID if len({getattr(cell, axis) for cell in group}) > 1]
        for text, group in alike.items()
    }
    more = {cell: ", ".join(f"{axis} {getattr(cell, axis)}" for axis in differ[str(cell)]) for cell in cells}
    return {cell: f"{cell} ({more[cell]})" if more[cell] else str(cell) for cell in cells}
