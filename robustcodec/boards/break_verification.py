"""Codes again, on this machine, a random share of the clips that others found, and compares with what is said of them.

What is coded is given to the last bit, so all numbers repeat as those of samples without an attack do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from robustcodec.boards.board import Board
from robustcodec.boards.break_audit import contradictions
from robustcodec.boards.breaking import Bench
from robustcodec.boards.breaks import Break, Breaks
from robustcodec.boards.change import unpacked
from robustcodec.boards.entry import Entry
from robustcodec.boards.verification import CLEAN_DB, CLEAN_RATE, Verdict
from robustcodec.clips import checksum
from robustcodec.errors import BoardError, RobustCodecError, UserError
from robustcodec.scores.robustness import FAILED_PSNR


def draw(breaks: Breaks, share: float, seed: int | None) -> tuple[Break, ...]:
    """At least ``share`` of the clips and at least one, at random; ``seed`` None: others every time."""
    if not 0 < share <= 1:
        raise BoardError(f"a share of {share} was given; expected more than 0 and at most 1")
    rng = random.SystemRandom() if seed is None else random.Random(f"{breaks.name} {seed}")
    drawn = rng.sample(breaks.breaks, math.ceil(share * len(breaks.breaks)))
    return tuple(sorted(drawn, key=lambda each: each.place))


def verify(
    board: Board,
    entry: Entry,
    breaks: Breaks,
    drawn: tuple[Break, ...],
    watch: Callable[[str], None] = lambda note: None,
) -> Verdict:
    """``drawn``: of ``breaks``, what was found of ``entry``. That the codec or the data are not to be had here is a
    fault of the verdict like others.
    """
    faults: list[str] = []
    apart = 0.0
    try:
        if any(entry.identity[kind] != identity for kind, identity in breaks.identity.items()):
            raise BoardError(f"its clips were judged with other weights or parameters than {entry.name} has")
        bench = Bench(board, entry)
        for each in drawn:
            watch(f"{each.sample} at {each.threat}")
            wrong, gap = _compare(bench, each)
            apart = max(apart, gap)
            faults += [f"{each.sample} at {each.threat}: {fault}" for fault in wrong]
    except UserError as error:
        faults.append(f"it cannot be measured here: {error}")
    samples = tuple(dict.fromkeys(each.sample for each in drawn))
    return Verdict(f"what was found of {entry.name}", samples, len(drawn), tuple(faults), apart, "clip")


def _compare(bench: Bench, each: Break) -> tuple[list[str], float]:
    """What does not come out as stated, and by how many dB the attacked PSNR does not."""
    sample = bench.sample(each.sample)
    try:
        adversarial = clip_of(each, sample.load())
        here = bench.scores(each.threat, sample, adversarial)
    except (RobustCodecError, ValueError) as error:
        return [str(error)], 0.0
    faults = list(contradictions(each))
    gap = abs(_psnr(here["adv_psnr"]) - _psnr(each.scores.get("adv_psnr")))
    if gap > CLEAN_DB:
        faults.append(f"adv_psnr is {here['adv_psnr']} here, {each.scores.get('adv_psnr')} in the file")
    if not math.isclose(here["adv_bpp"] or 0.0, each.scores["adv_bpp"] or 0.0, rel_tol=CLEAN_RATE):
        faults.append(f"adv_bpp is {here['adv_bpp']} here, {each.scores['adv_bpp']} in the file")
    return faults, gap


def clip_of(each: Break, original: Tensor) -> Tensor:
    """The adversarial clip; raises :class:`ValueError` for a change that is of another sample."""
    if each.shape != tuple(original.shape):
        raise ValueError(f"its clip has the shape {list(each.shape)}, its sample {list(original.shape)}")
    values = original.to(torch.int16) + unpacked(each.change, each.shape)
    if int(values.min()) < 0 or int(values.max()) > 255:
        raise ValueError("its clip has values outside 0 to 255")
    clip = values.to(torch.uint8)
    if checksum(clip) != each.adversarial:
        raise ValueError("its clip is not the one of which it states the sha256")
    return clip


def _psnr(value: float | None) -> float:
    return FAILED_PSNR if value is None else value
