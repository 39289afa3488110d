"""How fast a run goes and when it will end: for its display, and for pages that others serve of its folder."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robustcodec.files import HOST, alive, write_whole
from robustcodec.sealed.shapes import read_json

HORIZON = 60.0  # seconds: what "lately" means
STALE = 30.0  # seconds after which what a run said of itself is true no more


@dataclass(frozen=True)
class Pace:
    """``units``: of work, done so far. ``rates``: samples per minute lately, by device, with its workers together.
    ``left``: seconds until the end, by estimate.
    """

    units: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    left: float = 0.0

    def __str__(self) -> str:
        rates = [f"{device} {rate:.{int(rate < 10)}f} samples/min" for device, rate in sorted(self.rates.items())]
        return ", ".join([f"{self.units} units", *rates, f"about {duration(self.left)} left"])

    @classmethod
    def together(cls, all_of_them: Iterable[Pace]) -> Pace:
        """That of several runs that share a folder."""
        units, left, rates = 0, 0.0, Counter[str]()
        for one in all_of_them:
            units, left = units + one.units, max(left, one.left)
            rates.update(one.rates)
        return cls(units, dict(rates), left)


class PaceCounter:
    """Counts what devices do."""

    def __init__(self) -> None:
        self._units, self._begun = 0, time.monotonic()
        self._lately: deque[tuple[float, str, int]] = deque()  # when, which device, how many samples

    def add(self, device: str, samples: int) -> None:
        """A unit has been done."""
        self._units += 1
        self._lately.append((time.monotonic(), device, samples))

    def pace(self, left: float) -> Pace:
        """As of now; ``left``: as of :class:`Pace`."""
        now = time.monotonic()
        while self._lately and self._lately[0][0] < now - HORIZON:
            self._lately.popleft()
        counts = Counter[str]()
        for _, device, samples in self._lately:
            counts[device] += samples
        minutes = min(HORIZON, max(1.0, now - self._begun)) / 60
        return Pace(self._units, {device: count / minutes for device, count in counts.items()}, left)


class Notice:
    """What this process says in ``folder`` of its own run. What killed ones of this machine have left is removed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{HOST}.{os.getpid()}.json"
        for path in folder.glob(f"{HOST}.*.json"):
            if not alive(int(path.name.split(".")[-2])):
                path.unlink(missing_ok=True)

    def put_up(self, pace: Pace) -> None:
        """Say it; raises :class:`StoreError`."""
        write_whole(self._path, json.dumps(asdict(pace)).encode())

    def take_down(self) -> None:
        """The run has ended."""
        self._path.unlink(missing_ok=True)


def lately(folder: Path) -> Pace | None:
    """What the runs that go on now say in ``folder``; None: there is none."""
    said = []
    for path in folder.glob("[!.]*.json"):
        with suppress(OSError, ValueError, TypeError):  # gone by now, or half copied
            if time.time() - path.stat().st_mtime < STALE:
                said.append(Pace(**read_json(path.read_bytes())))
    return Pace.together(said) if said else None


def duration(seconds: float) -> str:
    """In words: ``40 s``, ``12 min``, ``3.5 h``."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
