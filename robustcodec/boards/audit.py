"""Does everything on a board fit together? Entries with their board, rows with each other, tables with entries.

That the numbers are true is for :mod:`robustcodec.boards.verification` to say, which measures again.
"""

from __future__ import annotations

from collections.abc import Iterator

from robustcodec.boards.board import Board
from robustcodec.boards.claims import contradictions
from robustcodec.boards.entry import Entry, axes_of
from robustcodec.boards.signed import digest
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.registry import threats
from robustcodec.running.resolved import identity_of
from robustcodec.scores.robustness import FAILED_PSNR
from robustcodec.spec import expand

ROUNDED = 2e-5  # relative: of a size kept to six digits


def audit(board: Board) -> tuple[list[Entry], list[str]]:
    """The entries of a board that have no fault, and everything that is wrong with the others, each naming its file."""
    entries: list[Entry] = []
    faults = [f"{board.folder}: {fault}" for fault in _board_faults(board)]
    for path in board.entries():
        try:
            entry = Entry.read(path)
        except RobustCodecError as error:
            faults.append(str(error))
            continue
        wrong = list(_faults(board, entry))
        if path.name != entry.file:
            wrong.append(f"the file of {entry.name} should be called {entry.file}")
        faults += [f"{path}: {fault}" for fault in wrong]
        entries += [] if wrong else [entry]
    return sorted(entries, key=lambda e: e.name), faults


def _board_faults(board: Board) -> Iterator[str]:
    """What the board says twice, and differently."""
    if board.limit and board.limit != len(board.samples):
        yield f"limit = {board.limit}, but {len(board.samples)} samples have a checksum"
    anchors = [each for name in board.anchor for each in expand(name)]
    if list(dict.fromkeys(board.points["codec"])) != anchors:
        yield f"the anchor's points are not of {', '.join(anchors)}; make them again with leaderboard init"
    if any(set(points["sample"]) != set(board.samples) for _, points in board.points.groupby("codec")):
        yield "the anchor was measured on other samples; make its points again with leaderboard init"


def _faults(board: Board, entry: Entry) -> Iterator[str]:
    if entry.board != board.name:
        yield f"made for the board {entry.board}, not {board.name}"
    try:
        wanted = board.cells(entry.codec, entry.defense, entry.kind)
    except RobustCodecError as error:
        yield str(error)
        return
    asked, had = set(map(axes_of, wanted)), {cell.key for cell in entry.cells}
    if entry.identity["data"] != identity_of("data", board.data):
        yield f"measured on {entry.identity['data']}, not on {board.data}"
    yield from contradictions(entry, board)
    if entry.pictures and not board.pictures:
        yield "it has pictures, which the board does not publish"
    for cell in entry.cells:
        identity = entry.cell_identity(cell, board.samples.items())
        if digest(identity)[:16] != cell.id:
            yield f"the cell {cell.id} was measured on other data, weights or settings than it states"
        if set(cell.table.rows) != set(board.samples):
            yield f"the cell {cell.id} has other samples than the board"
    if had != asked:
        yield f"{len(asked - had)} cells of the board are missing and {len(had - asked)} do not belong to it"
        return
    if failed := [check["name"] for check in entry.checks if not check["passed"]]:
        yield f"robustcodec check failed: {', '.join(failed)}"
    yield from _inconsistent(entry)


def _inconsistent(entry: Entry) -> Iterator[str]:
    """Rows that contradict themselves: attacked inputs outside their budget, losses that are none."""
    rows = entry.frame("")
    for threat, group in rows.groupby("threat"):
        try:
            allows = threats.build(str(threat)).allows
        except UserError as error:
            yield str(error)
            continue
        reached = zip(group["input_psnr"] * (1 + ROUNDED), group["input_linf"] * (1 - ROUNDED), strict=True)
        outside = group[[not allows(*scores) for scores in reached]]
        if len(outside):
            yield f"{len(outside)} attacked inputs lie outside {threat}, at {outside['input_psnr'].min():g} dB"
    shown = rows["adv_psnr"].fillna(FAILED_PSNR)
    if ((shown < 0) | (rows["psnr"] < 0) | (rows["adv_bpp"] <= 0) | (rows["bpp"] <= 0)).any():
        yield "a PSNR below 0 dB or a rate of nothing"
