"""Does what others found about entries fit together? Without data or codecs: clips with the numbers that are said of
them, and both with their entry. Nothing that a file names is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from robustcodec.boards.audit import ROUNDED
from robustcodec.boards.board import Board
from robustcodec.boards.breaks import Break, Breaks
from robustcodec.boards.change import unpacked
from robustcodec.boards.entry import Entry
from robustcodec.errors import RobustCodecError
from robustcodec.registry import threats
from robustcodec.scores.metrics import decibels


def audit_breaks(board: Board, entries: Sequence[Entry]) -> tuple[dict[str, Breaks], list[str]]:
    """By entry, the files without a fault, and everything that is wrong with the others, each naming its file.
    ``entries``: of the board, those without a fault.
    """
    by_name = {entry.name: entry for entry in entries}
    whole: dict[str, Breaks] = {}
    faults: list[str] = []
    for path in board.breaks():
        try:
            breaks = Breaks.read(path)
        except RobustCodecError as error:
            faults.append(str(error))
            continue
        wrong = list(faults_of(board, breaks, by_name.get(breaks.name)))
        if path.name != breaks.file:
            wrong.append(f"what was found of {breaks.name} should be called {breaks.file}")
        faults += [f"{path}: {fault}" for fault in wrong]
        if not wrong:
            whole[breaks.name] = breaks
    return whole, faults


def faults_of(board: Board, breaks: Breaks, entry: Entry | None) -> Iterator[str]:
    """What is wrong with a file, as a file of that board and of what was found of ``entry``, if there is one."""
    if breaks.board != board.name:
        yield f"made for the board {breaks.board}, not {board.name}"
    if entry is None or (entry.codec, entry.defense) != (breaks.codec, breaks.defense):
        yield f"{breaks.name} is no entry of the board without a fault; add it, or remove this file"
        return
    if any(entry.identity[kind] != identity for kind, identity in breaks.identity.items()):
        yield f"its clips were judged with other weights or parameters than {entry.name} has; submit them again"
        return
    met = {cell.axes["threat"] for cell in entry.cells}
    for each in breaks.breaks:
        where = f"{each.sample} at {each.threat}"
        if each.sample not in entry.clean.rows or each.threat not in met:
            yield f"{where} was not measured of {entry.name}"
            continue
        yield from (f"{where}: {fault}" for fault in contradictions(each))


def contradictions(each: Break) -> Iterator[str]:
    """What a clip's numbers say and its change does not. Its threat must be one that an entry met."""
    try:
        change = unpacked(each.change, each.shape).double() / 255
    except ValueError as error:
        yield str(error)
        return
    if not change.any():
        yield "it changes nothing"
        return
    psnr = 0.0 + decibels(change.square().mean()).item()  # 0.0 rather than -0.0
    of_change = {"input_psnr": psnr, "input_linf": change.abs().max().item() * 255}
    for name, value in of_change.items():
        stated = each.scores[name] or 0.0
        if abs(value - stated) > ROUNDED * value:
            yield f"its {name} is {value:g}, not {stated:g}"
    if not threats.build(each.threat).allows(
        of_change["input_psnr"] * (1 + ROUNDED), of_change["input_linf"] * (1 - ROUNDED)
    ):
        yield f"it lies outside its threat, at {of_change['input_psnr']:g} dB and {of_change['input_linf']:g} levels"
    frames, _, height, width = each.shape
    size = (each.scores["adv_bpp"] or 0.0) * frames * height * width / 8
    if not math.isclose(size, round(size), rel_tol=ROUNDED, abs_tol=1e-3):
        yield f"its {size:g} bytes are not whole"
