"""Measures a random share of an entry's samples again, on this machine, and compares.

Clean numbers repeat to :data:`CLEAN_DB` and :data:`CLEAN_RATE` on any machine. Attacks are long chains of float
operations, so what they do is compared within :data:`ATTACKED_DB` and :data:`ATTACKED_RATE` in the mean over a cell's
samples, and one sample may be :data:`SINGLE` times as far off. What is worse here than stated counts alike.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry, axes_of
from robustcodec.boards.founding import samples_of
from robustcodec.clips import fingerprint
from robustcodec.errors import BoardError, UserError
from robustcodec.execution.runner import Runner
from robustcodec.running.grid import Drawn
from robustcodec.running.resolved import identity_of
from robustcodec.running.store import Row, Store
from robustcodec.scores.robustness import FAILED_PSNR

CLEAN_DB, CLEAN_RATE = 0.02, 0.005  # of one sample: PSNR in dB, relative size
ATTACKED_DB, ATTACKED_RATE = 0.15, 0.02  # of a cell's mean
SINGLE = 4.0  # times that for one sample


@dataclass(frozen=True)
class Verdict:
    """``samples`` were measured again in so many ``cells``, or clips, as ``of`` says; ``faults``: what did not come out
    as stated, none if all did; ``apart``: the largest difference of the mean attacked PSNR of one of them in dB.
    """

    entry: str
    samples: tuple[str, ...]
    cells: int
    faults: tuple[str, ...]
    apart: float
    of: str = "cell"


def draw(entry: Entry, share: float, seed: int | None) -> tuple[str, ...]:
    """At least ``share`` of the samples and at least one, at random; ``seed`` None: others every time."""
    if not 0 < share <= 1:
        raise BoardError(f"a share of {share} was given; expected more than 0 and at most 1")
    names = sorted(entry.clean.rows)
    rng = random.SystemRandom() if seed is None else random.Random(f"{entry.name} {seed}")
    return tuple(sorted(rng.sample(names, math.ceil(share * len(names)))))


def verify(
    board: Board,
    entry: Entry,
    samples: Sequence[str],
    folder: Path,
    watch: Callable[[str], None] = lambda note: None,
) -> Verdict:
    """Measure ``samples`` of an entry again in every cell, in a run folder of its own, and compare.

    That the codec, its defense or the data are not to be had here is a fault of the verdict like others.
    """
    try:
        faults = _data_faults(board, samples) + maker_faults(entry)
    except UserError as error:
        faults = [f"it cannot be measured here: {error}"]
    if faults:  # nothing to compare with
        return Verdict(entry.name, tuple(samples), 0, tuple(faults), math.nan)
    runner = Runner(Store(folder))
    stated = {cell.key: cell for cell in entry.cells}
    clean = entry.clean.frame()
    apart = 0.0
    cells = board.cells(entry.codec, entry.defense, board.kind_of(entry.codec, entry.defense))
    for cell in cells:
        watch(str(cell))
        known = stated.get(axes_of(cell))
        if known is None:
            faults.append(f"{cell} is not in the entry")
            continue
        drawn = Drawn.of(cell, samples)
        tally = runner.run([drawn])
        result = runner.store.result(drawn.id)
        if tally.failed or result is None:
            faults.append(f"{cell} fails here: {next(iter(tally.errors.values()), 'no result')}")
            continue
        here = {row["sample"]: row for row in result.rows}
        frame = known.table.frame()
        there = {sample: _numbers((clean, frame), sample) for sample in samples}
        wrong, mean = _compare(here, there)
        apart = max(apart, mean)
        faults += [f"{cell}: {fault}" for fault in wrong]
    return Verdict(entry.name, tuple(samples), len(cells), tuple(faults), apart)


def run_folder(root: Path, entry: Entry, samples: Sequence[str]) -> Path:
    """Where such a verification keeps its cells, so that it can be resumed."""
    digest = hashlib.sha256("\n".join((entry.board, entry.name, *samples)).encode()).hexdigest()[:12]
    return root / f"{Path(entry.file).stem[:60]}-{digest}"


def _data_faults(board: Board, samples: Sequence[str]) -> list[str]:
    here = {s.id: fingerprint(s) for s in samples_of(board.data, board.limit)}
    return [
        f"{sample} is {'other data' if sample in here else 'missing'} here: {board.data} is not what the board measured"
        for sample in samples
        if here.get(sample) != board.samples.get(sample)
    ]


def maker_faults(entry: Entry) -> list[str]:
    """Other weights, parameters or defense than here."""
    faults = []
    for kind, name in (("codec", entry.codec), ("defense", entry.defense)):
        if identity_of(kind, name) != entry.identity.get(kind):
            faults.append(f"the {kind} {name} has other weights or parameters here than where it was measured")
    return faults


def _compare(here: dict[str, Row], there: dict[str, dict[str, float]]) -> tuple[list[str], float]:
    """What differs too much, and by how many dB the mean attacked PSNR does."""
    faults: list[str] = []
    gaps: dict[str, list[float]] = {"adv_psnr": [], "adv_bpp": []}
    for sample, row in here.items():
        stated = there[sample]
        for name, allowed, relative in (("psnr", CLEAN_DB, False), ("bpp", CLEAN_RATE, True)):
            if abs(_gap(row[name], stated[name], relative)) > allowed:
                faults.append(f"{name} of {sample} is {row[name]:.4f} here, {stated[name]:.4f} in the entry")
        for name, allowed, relative in (("adv_psnr", ATTACKED_DB, False), ("adv_bpp", ATTACKED_RATE, True)):
            gap = _gap(row[name], stated[name], relative)
            gaps[name].append(gap)
            if abs(gap) > SINGLE * allowed:
                faults.append(f"{name} of {sample} is {_shown(row[name])} here, {_shown(stated[name])} in the entry")
    means = {name: abs(sum(values)) / len(values) for name, values in gaps.items()}
    for name, allowed in (("adv_psnr", ATTACKED_DB), ("adv_bpp", ATTACKED_RATE)):
        if means[name] > allowed:
            unit = "dB" if name == "adv_psnr" else "of the bits"
            faults.append(f"the mean {name} is {means[name]:.3g} {unit} away from the entry's, more than {allowed:g}")
    return faults, means["adv_psnr"]


def _numbers(tables: Sequence[pd.DataFrame], sample: str) -> dict[str, float]:
    """What an entry says of a sample."""
    return {str(column): float(table[column][sample]) for table in tables for column in table}


def _gap(here: float | None, there: float | None, relative: bool) -> float:
    """Here minus there; a PSNR that is none is that of a decoder that failed."""
    a, b = (FAILED_PSNR if v is None or math.isnan(v) else v for v in (here, there))
    return (a - b) / b if relative and b else a - b


def _shown(value: float | None) -> str:
    return "no number" if value is None or math.isnan(value) else f"{value:.4f}"
