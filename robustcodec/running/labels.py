"""Cells in words that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable

from robustcodec.running.grid import Cell

UNSAID = ("data", "seed", "limit", "precision")  # axes that the text of a cell leaves out


def labels(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Each cell as text, with those of :data:`UNSAID` in which these cells differ: ``… @ psnr:40 (data kodak)``."""
    cells = list(cells)
    differ = [axis for axis in UNSAID if len({getattr(cell, axis) for cell in cells}) > 1]
    more = {cell: ", ".join(f"{axis} {getattr(cell, axis)}" for axis in differ) for cell in cells}
    return {cell: f"{cell} ({more[cell]})" if differ else str(cell) for cell in cells}
