"""Boards as files for readers: a README each, the page of all of them, and the tables inside other documents.

What git keeps of the page is without the libraries that draw it, so that it holds this project's numbers and nothing
else; ``site/index.html`` beside it, which git does not keep, is the whole page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from robustcodec.boards.board import FILE, Board, boards_below, main_first
from robustcodec.boards.entry import Entry
from robustcodec.boards.ranking import Ranking, ranked
from robustcodec.boards.score import worst_for
from robustcodec.boards.tables import explanation, found_lines, meanings, readme, scored, short, strength
from robustcodec.errors import counted
from robustcodec.files import write_whole
from robustcodec.page import Detail, Shot, View, render
from robustcodec.page.links import links
from robustcodec.reporting.points import worst_of_samples
from robustcodec.reporting.text import to_csv

KEPT, SITE = "index.html", "site/index.html"
TITLE = "robustcodec leaderboards"
_BLOCK = re.compile(r"(<!-- leaderboard ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def published(folder: Path, site: bool) -> tuple[dict[Path, str], list[str]]:
    """Every file that follows from the boards in ``folder`` (one, or a folder of them) and its content; and all that is
    wrong with their entries, which are left out. ``site``: with the whole page, which opens on the main board. A board
    among others has no page of its own. Raises :class:`BoardError` for a folder without a board, or with two main ones.
    """
    files: dict[Path, str] = {}
    faults: list[str] = []
    views: list[View] = []
    by_name: dict[str, tuple[Board, Ranking]] = {}
    for board in main_first(boards_below(folder)):
        entries, stands, wrong = ranked(board)
        faults += wrong
        by_name[board.name] = board, stands
        files[board.folder / "README.md"] = readme(board, entries, stands)
        for name, lines in (("table.csv", stands.table), ("pairs.csv", stands.pairs)):
            files[board.folder / name] = to_csv(lines, "%.6g")
        views.append(view(board, entries, stands))
    if shelf(folder) == folder:
        files[folder / KEPT] = render(views, TITLE, libraries=False)
    if site:
        files[folder / SITE] = render(views, TITLE)
    for path in (folder / "README.md", folder.resolve().parent / "README.md"):
        if path.is_file() and path not in files:
            files[path] = _with_tables(path.read_text(encoding="utf-8"), by_name)
    return files, faults


def shelf(folder: Path) -> Path:
    """The folder of boards that a board is in, if their page is there; else ``folder``."""
    above = folder.resolve().parent
    return above if (folder / FILE).is_file() and (above / KEPT).is_file() else folder


def build(folder: Path) -> tuple[list[Path], list[str]]:
    """Write :func:`published` of the whole :func:`shelf`; the files that changed, and what is wrong with entries."""
    folder = shelf(folder)
    files, faults = published(folder, site=True)
    changed = [path for path, text in files.items() if not _holds(path, text)]
    for path in changed:
        write_whole(path, files[path].encode())
    return changed, faults


def check(folder: Path) -> list[str]:
    """Everything that is wrong: with entries, and with files that are not what :func:`build` would write now."""
    files, faults = published(folder, site=(folder / SITE).is_file())
    stale = [path for path, text in files.items() if not _holds(path, text)]
    return faults + [f"{path} is not what its entries give; robustcodec leaderboard build {folder}" for path in stale]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _with_tables(text: str, boards: Mapping[str, tuple[Board, Ranking]]) -> str:
    """``text`` with the ranking of each board between its markers."""

    def fill(match: re.Match[str]) -> str:
        start, name, _, end = match.groups()
        if name not in boards:
            return match[0]
        board, stands = boards[name]
        return f"{start}{short(board, stands, board.threat)}{end}"

    return _BLOCK.sub(fill, text)


def view(board: Board, entries: Sequence[Entry], stands: Ranking) -> View:
    """A board for the page."""
    frames = [entry.frame(board.data) for entry in entries]
    curves = [c for c in (entry.curves(board.data) for entry in entries) if len(c)]
    found = found_lines(stands)
    means = board.points.groupby("codec")[["bpp", "psnr"]].mean()
    anchor = means.reset_index(drop=True).assign(data=board.data, codec="anchor")
    return View(
        name=board.name,
        title=board.title,
        about=(f"{board.about} {strength(board)}".strip(), explanation(board)),
        ranking=stands.table,
        meanings=meanings(stands.table),
        rows=pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        details={entry.name: _detail(entry, found.get(entry.name, ())) for entry in entries},
        shots=tuple(shot for entry in entries for shot in _shots(board, entry)),
        originals={
            (board.data, sample): tuple(shown["original"])
            for entry in entries
            for sample, shown in entry.pictures.items()
        },
        anchor=anchor,
        worst=worst_for(board.points),
        main=_main(board, stands),
        scored=scored(board),
        unpictured=_unpictured(board),
    )


def _main(board: Board, stands: Ranking) -> tuple[str, ...]:
    """What of the table is shown at first: under attacks on the rate alone, attacked bits in the place of quality."""
    attacked = "adv_bpp" if board.objectives == {"rate"} else "adv_psnr"
    known = ("best_known",) if "best_known" in stands.table else ()
    return ("rank", "entry", "score", *known, "psnr", attacked, "bpp")


def _unpictured(board: Board) -> str:
    """Why a board has no pictures, and how to have some."""
    why = "no entry holds any" if board.pictures else f"those of {board.data} may not be published here"
    return (
        f"No pictures: {why}. A run of your own has them on its page, runs/{board.name}/report/index.html: robustcodec "
        f"run --board leaderboards/{board.name} --codec CODEC"
    )


def _detail(entry: Entry, found: Sequence[str]) -> Detail:
    weights: Any = entry.identity.get("codec", {})
    facts = {
        "measured by": entry.measured_by,
        "added": entry.date,
        "weights sha256, or library": str(weights.get("fingerprint") or "neither"),
        "kind": entry.kind,
        "seed": str(entry.seed),
        "precision of gradients": ", ".join(sorted({cell.axes["precision"] for cell in entry.cells})),
        "wall time": f"{sum(cell.seconds for cell in entry.cells):.0f} s in {counted(len(entry.cells), 'cell')}",
        "robustcodec check": f"{sum(bool(c['passed']) for c in entry.checks)} of {len(entry.checks)} passed",
        **{key: value for key, value in entry.provenance.items() if value},
    }
    warnings = [f"{_cell(cell.axes)}: {warning}" for cell in entry.cells for warning in cell.warnings]
    doubts = tuple(f"{doubt['date']}, {doubt['by']}: {doubt['why']}" for doubt in map(asdict, entry.disputed))
    return Detail(facts, entry.command, tuple(warnings), doubts, tuple(found), links(entry.codec, entry.defense))


def _cell(axes: Mapping[str, str]) -> str:
    return f"{axes['attack']}, {axes['objective']} @ {axes['threat']} ({axes['access']})"


def _shots(board: Board, entry: Entry) -> Iterable[Shot]:
    worst = worst_of_samples(entry.frame(board.data), ["entry"])
    lost = worst[worst["threat"] == board.threat].set_index("sample")["loss"]
    for sample, shown in entry.pictures.items():
        clips = {name: tuple(shown.get(name, ())) for name in ("clean", "adversarial", "attacked")}
        yield Shot(entry.name, board.threat, board.data, sample, shown["attack"], **clips, damage=float(lost[sample]))
