"""A small board with real runs: three entries, tables, a page, and the run folder that they were measured in."""

from __future__ import annotations

import json
import re
from pathlib import Path

from robustcodec.boards import publication, submission
from robustcodec.boards.board import RESULTS
from robustcodec.boards.entry import Entry
from robustcodec.boards.founding import found
from robustcodec.boards.signed import digest
from robustcodec.execution.runner import Runner
from robustcodec.running.store import Store

LEARNED, CLASSICAL = "bmshj2018-factorized.tiny-q1", "jpeg:quality=20"
BOTH = ["oblivious", "adaptive"]
TABLE = {
    "title": "Small | <b>board</b>",
    "about": "For tests.",
    "data": {"name": "photos:size=48", "limit": 3, "pictures": True},
    "ranking": {"threat": "psnr:36", "anchor": ["webp:quality={0,20,60}"]},
    "protocol": [
        {"of": "bare", "attack": ["noise", "pgd:steps=2"], "threat": ["psnr:36", "psnr:30"]},
        {"of": "defended", "attack": ["noise", "pgd:steps=2"], "threat": ["psnr:36"], "access": BOTH},
        {"of": "no-gradient", "attack": ["noise", "random-search:queries=4"], "threat": ["psnr:36", "psnr:30"]},
    ],
}  # fmt: skip
CANDIDATES = [(LEARNED, "none"), (LEARNED, "flip"), (CLASSICAL, "none")]


def measure(root: Path) -> None:
    """Make ``boards/small`` and ``run`` in a folder."""
    board = found(TABLE, root / "boards" / "small")
    store = Store(root / "run")
    grid = board.grid(CANDIDATES)
    store.put_grid(grid)
    tally = Runner(store).run(grid.cells())
    assert not tally.errors
    for codec, defense in submission.candidates(store, board):
        entry = submission.entry(store, board, codec, defense, "A. Person", "2026-01-02")
        assert isinstance(entry, Entry), entry
        entry.write(board.folder / RESULTS)
    publication.build(root / "boards")


def results(root: Path) -> dict[str, Path]:
    return {Entry.read(path).name: path for path in (root / "boards" / "small" / RESULTS).glob("*.json")}


def other_digit(match: re.Match[str]) -> str:
    """What stands before a hexadecimal digit, and another digit."""
    return match[1] + ("1" if match[2] == "0" else "0")


def spoil(path: Path, change: str, value: object) -> None:
    """Set ``a.b.0.c`` of an entry to a value, and make its checksum fit: what a careful cheat would do."""
    table = json.loads(path.read_text())
    del table["sha256"]
    *steps, last = (int(s) if s.isdigit() else s for s in change.split("/"))
    at = table
    for step in steps:
        at = at[step]
    at[last] = value
    path.write_text(json.dumps({**table, "sha256": digest(table)}))
