"""A grid in parts for machines that do not know of each other: what is crafted together stays together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robustcodec.errors import GridError
from robustcodec.execution.costs import Costs
from robustcodec.execution.jobs import Crafts, Evaluations
from robustcodec.running.grid import Cell


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``count`` parts, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``2/8``; raises :class:`GridError`."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise GridError(f"shard {text!r}; expected K/N with K from 1 to N, such as 2/8")
        return cls(int(number), int(count))

    def of(self, cells: Sequence[Cell]) -> list[Cell]:
        """This part of a grid, in its order; every machine divides the same grid in the same way.

        No clip is crafted in two parts. Parts take as equally long as can be told before anything has run.
        """
        costs, loads = Costs(), [0.0] * self.count
        place = {cell: i for i, cell in enumerate(cells)}
        mine: list[Cell] = []
        costly = [(_cost(costs, group), group) for group in _groups(cells)]
        for cost, group in sorted(costly, key=lambda one: one[0], reverse=True):
            lightest = loads.index(min(loads))
            loads[lightest] += cost
            if lightest == self.number - 1:
                mine += group
        return sorted(mine, key=place.__getitem__)


def _cost(costs: Costs, group: Iterable[Cell]) -> float:
    """Seconds of cells that share what is crafted."""
    total, seen = 0.0, set[str]()
    for cell in (cell for cell in group if cell.resolved.flaw is None):
        samples = [(sample,) for sample in cell.samples()]
        new = {cell.craft_id(sample) for (sample,) in samples} - seen
        seen |= new
        total += costs.per_sample(Crafts(cell)) * len(new) + costs.left(Evaluations(cell, list(samples)))
    return total


def _groups(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells that share clips, together: they share that of their first sample, since limits leave out the last."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        shared = cell.craft_id(cell.samples()[0]) if cell.resolved.flaw is None else cell.id
        groups.setdefault(shared, []).append(cell)
    return list(groups.values())
