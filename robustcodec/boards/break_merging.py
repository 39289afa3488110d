"""What was found of the entries of a board on several machines, united: of each sample the clip that does the most
damage, of equal ones the older.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from robustcodec.boards.best_known import best_known
from robustcodec.boards.board import BREAKS, FILE, Board
from robustcodec.boards.break_audit import audit_breaks, faults_of
from robustcodec.boards.breaks import Breaks
from robustcodec.boards.entry import Entry


def merge_breaks(board: Board, entries: Sequence[Entry], others: Iterable[Path]) -> tuple[list[Breaks], list[str]]:
    """What the files or boards ``others`` add to what was found of ``entries``, and a line for each that stays out.
    Nothing is written.
    ``entries``: of the board, those without a fault. Raises :class:`BoardError` for a file that is none.
    """
    ours, refused = audit_breaks(board, entries)
    by_name = {entry.name: entry for entry in entries}
    changed: dict[str, Breaks] = {}
    for path in (file for other in others for file in _files(other)):
        theirs = Breaks.read(path)
        if faults := list(faults_of(board, theirs, by_name.get(theirs.name))):
            refused += [f"{path}: {fault}" for fault in faults]
            continue
        mine = changed.get(theirs.name) or ours.get(theirs.name) or Breaks.none(by_name[theirs.name])
        union = sorted((*mine.breaks, *theirs.breaks), key=lambda each: each.date)  # of one day ours stay
        known = best_known(by_name[mine.name], union, board.points)
        united = mine.holding(tuple(each for of in known.values() for each in of.breaks))
        if united != mine:
            changed[mine.name] = united
    return list(changed.values()), refused


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        if path.parent.name == BREAKS:
            yield path
    elif (path / FILE).is_file():
        yield from Board.read(path).breaks()
