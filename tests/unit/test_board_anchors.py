"""A board whose files contradict each other, or whose anchor is none, is named before any entry is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boards
import pytest

from robustcodec.boards.audit import audit
from robustcodec.boards.board import ANCHOR, FILE, Board
from robustcodec.errors import BoardError

Change = Callable[[str], str]


def faults(folder: Path, file: str, change: Change) -> list[str]:
    """What is wrong with a board on which nothing was wrong before one of its files was changed."""
    assert audit(boards.board(folder))[1] == []
    path = folder / file
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    return audit(Board.read(folder))[1]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (FILE, lambda text: text.replace("limit = 2", "limit = 3"), "limit = 3, but 2 samples have a checksum"),
        (FILE, lambda text: text.replace("{0,60}", "{0,50}"), "points are not of webp:quality=0, webp:quality=50"),
        (ANCHOR, lambda text: text.replace("webp:quality=60", "webp:quality=61"), "points are not of webp:quality=0"),
        (ANCHOR, lambda text: text + "webp:quality=60,three,1,30\n", "the anchor was measured on other samples"),
    ],
)
def test_what_is_said_twice_is_the_same(file: str, change: Change, said: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path / "small", file, change)
    assert said in fault and str(tmp_path / "small") in fault and "\n" not in fault


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("60,two,2.0,35.0", "60,three,2.0,35.0"), "the anchor was not measured on two"),
        (lambda text: text.replace("60,two,2.0", "60,one,2.0"), "twice"),
        (lambda text: text.replace("2.0", "-2.0"), "no positive rate"),
        (lambda text: text.replace("35.0", "inf"), "no finite PSNR"),
        (lambda text: text.replace("35.0", ""), "no finite PSNR"),
        (lambda text: text.replace("35.0", "25.0"), "does not rise"),
        (lambda text: text.replace("psnr", "quality"), "psnr"),
        (lambda text: "", ANCHOR),
    ],
)
def test_an_anchor_that_is_none_is_named(change: Change, said: str, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="make it again: robustcodec leaderboard init") as raised:
        faults(tmp_path / "small", ANCHOR, change)
    assert said in str(raised.value) and ANCHOR in str(raised.value) and "\n" not in str(raised.value)
