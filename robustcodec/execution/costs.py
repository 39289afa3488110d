"""How long work will take, per sample: learned from what was done before, coarsely where little is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from math import prod
from typing import Any, Self

from robustcodec.execution.jobs import Crafts, Job

Key = tuple[str, ...]
UNKNOWN = {"craft": 1.0, "evaluate": 0.2}  # seconds per sample where nothing is known
USUAL = 20  # gradients or queries of an attack that take these seconds


class Costs:
    """``learned``: what :meth:`known` returned before, such as from a log."""

    def __init__(self, learned: Iterable[list[Any]] = ()) -> None:
        self._spent: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0])  # seconds, samples
        for key, samples, seconds in learned:
            self._add(tuple(key), samples, seconds)

    @classmethod
    def last(cls, log: Iterable[Mapping[str, Any]]) -> Self:
        """The last ones in a log that are whole; nothing is known without any."""
        for entry in reversed(list(log)):
            if "costs" in entry:
                with suppress(TypeError, ValueError):
                    return cls(entry["costs"])
        return cls()

    def learn(self, job: Job, samples: int, seconds: float) -> None:
        """Note what a task of ``job`` took."""
        for key in _keys(job):
            self._add(key, samples * _effort(job), seconds)

    def _add(self, key: Key, samples: float, seconds: float) -> None:
        if not (samples > 0 and seconds >= 0):
            raise ValueError(f"{seconds} s for {samples} samples")
        self._spent[key][0] += seconds
        self._spent[key][1] += samples

    def known(self) -> list[list[Any]]:
        """All of it, for a log."""
        return [[list(key), samples, seconds] for key, (seconds, samples) in self._spent.items()]

    def per_sample(self, job: Job) -> float:
        """Seconds that a sample of ``job`` will take."""
        for key in _keys(job):
            if key in self._spent:
                seconds, samples = self._spent[key]
                return seconds / samples * _effort(job)
        return UNKNOWN[_kind(job)] * _effort(job) / USUAL

    def left(self, job: Job) -> float:
        """Seconds that what is pending of ``job`` will take."""
        return self.per_sample(job) * sum(map(len, job.pending))


def _kind(job: Job) -> str:
    return "craft" if isinstance(job, Crafts) else "evaluate"


def _keys(job: Job) -> Iterator[Key]:
    """What a cost belongs to, from the finest to the coarsest."""
    cell, kind, victim = job.cell, _kind(job), "+".join(job.codecs)
    attack = str(cell.resolved.parts["attack"].spec.name) if kind == "craft" else ""
    yield kind, attack, victim, cell.data
    yield kind, attack, cell.data
    yield kind, attack
    yield (kind,)


def _effort(job: Job) -> float:
    """Gradients or queries of its attack, as far as its parameters say; evaluation takes none."""
    if not isinstance(job, Crafts):
        return float(USUAL)
    attack = job.cell.resolved.attack
    return float(prod(getattr(attack, name) for name in attack.effort if hasattr(attack, name))) or 1.0
