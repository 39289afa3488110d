"""Entries of several machines on one board, and what changed between two states of boards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from robustcodec.boards.best_known import Known, best_known
from robustcodec.boards.board import BREAKS, Board, boards_below
from robustcodec.boards.break_audit import audit_breaks
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import standing
from robustcodec.errors import BoardError, counted

SHOWN = ("score", "clean_score", "bpp", "psnr", "robust_psnr", "adv_bpp")  # of what changed, in this order


@dataclass(frozen=True)
class Merge:
    """``taken``: entries that the board did not have; ``known``: those it has already; ``conflicts``: those that say
    something else than the board's own of the same name, which stay out.
    """

    taken: tuple[Entry, ...]
    known: tuple[str, ...]
    conflicts: tuple[str, ...]


def merge(board: Board, others: Iterable[Path], replacing: bool = False) -> Merge:
    """What the boards (folders) or entries (files) ``others`` add to ``board``; nothing is written.

    Doubts about an entry are united; ``replacing``: of two that conflict the other one is taken, and reported still.
    Raises :class:`BoardError` for a path that is neither, or another board's.
    """
    ours = {entry.name: entry for entry in map(Entry.read, board.entries())}
    taken: dict[str, Entry] = {}
    known: list[str] = []
    conflicts: list[str] = []
    for path in (file for other in others for file in _files(other)):
        theirs = Entry.read(path)
        if theirs.board != board.name:
            raise BoardError(f"{path} was made for the board {theirs.board}, not {board.name}; merge it there")
        mine = taken.get(theirs.name) or ours.get(theirs.name)
        if mine is None:
            taken[theirs.name] = theirs
        elif changes := list(differences(mine, theirs, board.points)):
            conflicts.append(f"{theirs.name} ({theirs.measured_by}, {path}): {'; '.join(changes)}")
            if replacing:
                taken[theirs.name] = replace(theirs, disputed=tuple(dict.fromkeys((*mine.disputed, *theirs.disputed))))
        elif doubts := [d for d in theirs.disputed if d not in mine.disputed]:
            taken[theirs.name] = replace(mine, disputed=(*mine.disputed, *doubts))
        else:
            known.append(theirs.name)
    return Merge(tuple(taken.values()), tuple(known), tuple(conflicts))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [] if path.parent.name == BREAKS else [path]
    return Board.read(path).entries()


def scores(entry: Entry, points: pd.DataFrame) -> dict[str, dict[str, float | str]]:
    """By threat, what its rows give against the anchor's ``points``."""
    return {str(threat): standing(rows, points).line for threat, rows in entry.frame("").groupby("threat")}


def differences(old: Entry, new: Entry, points: pd.DataFrame) -> Iterator[str]:
    """What two entries of one name say differently: weights, scores, single numbers."""
    alike = [(c.id, c.table) for c in old.cells] == [(c.id, c.table) for c in new.cells] and old.clean == new.clean
    if old.identity != new.identity:
        named = [key for key in old.identity if old.identity[key] != new.identity.get(key)]
        yield f"another {' and another '.join(named) or 'identity'}"
    if alike:
        return
    before_all, after_all = scores(old, points), scores(new, points)
    for threat in sorted(before_all.keys() | after_all.keys()):
        before, after = before_all.get(threat), after_all.get(threat)
        if before is None or after is None:
            yield f"{threat} {'added' if before is None else 'removed'}"
            continue
        for key in SHOWN:
            a, b = before[key], after[key]
            if a != b:
                yield f"{key} at {threat} {_number(a)} → {_number(b)}"
    changed = sum(a.table != b.table for a, b in zip(old.cells, new.cells, strict=False))
    yield f"the rows of {counted(changed, 'cell')}" if changed else "the clean rows"


def diff(old: Path, new: Path) -> list[str]:
    """What changed from one state to another, of an entry on a board, a board, or a folder of boards, in lines."""
    before, after = (dict(_entries(path)) for path in (old, new))
    lines = []
    for key in sorted(before.keys() | after.keys()):
        board, name = key
        if key not in before:
            lines.append(f"{board}: + {name}, score {_score(*after[key][:2])}")
        elif key not in after:
            lines.append(f"{board}: - {name}, score {_score(*before[key][:2])}")
        else:
            (_, a, had), (home, b, has) = before[key], after[key]
            changes = [*differences(a, b, home.points), *_found(had, has)]
            if a.disputed != b.disputed:
                changes.append(f"disputes {len(a.disputed)} → {len(b.disputed)}")
            if a.measured_by != b.measured_by:
                changes.append(f"measured by {b.measured_by}, before {a.measured_by}")
            lines += [f"{board}: {name}: {'; '.join(changes)}"] if changes else []
    return lines


def _entries(path: Path) -> Iterator[tuple[tuple[str, str], tuple[Board, Entry, Mapping[str, Known]]]]:
    """By board and name, the entries, with what is known of each beyond its suite."""
    boards = [Board.read(path.resolve().parents[1])] if path.is_file() else boards_below(path)
    for board in boards:
        entries = [Entry.read(file) for file in ([path] if path.is_file() else board.entries())]
        breaks = audit_breaks(board, entries)[0]
        for entry in entries:
            found = breaks[entry.name].breaks if entry.name in breaks else ()
            yield (entry.board, entry.name), (board, entry, best_known(entry, found, board.points))


def _found(old: Mapping[str, Known], new: Mapping[str, Known]) -> Iterator[str]:
    """What became of the best known score."""
    for threat in sorted(old.keys() | new.keys()):
        before, after = (_number(of[threat].score) if threat in of else "none" for of in (old, new))
        if before != after:
            yield f"best known at {threat} {before} → {after}"


def _score(board: Board, entry: Entry) -> str:
    """At the threat that ranks."""
    return _number(scores(entry, board.points).get(board.threat, {}).get("score"))


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
