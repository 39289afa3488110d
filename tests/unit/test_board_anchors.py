"""A board whose files contradict each other, or whose anchor is none, is named before any entry is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boards
import pytest

from robustcodec.boards.audit import audit
from robustcodec.boards.board import ANCHOR, FILE, REACH, Board
from robustcodec.boards.publication import view
from robustcodec.boards.ranking import ranking
from robustcodec.boards.tables import readme
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


MEASURED = """data,threat,codec,defense,samples,loss,audited_loss,ratio
photos,psnr:40,a,none,4,2.0,2.04,1.02
photos,psnr:40,b,none,4,1.0,1.1,1.1
"""


def test_a_board_says_how_strong_its_attacks_are_where_that_was_measured(tmp_path: Path) -> None:
    board = boards.board(tmp_path / "small")
    assert board.reach is None and "How strong" not in readme(board, [], ranking(board, []))
    (board.folder / REACH).write_text(MEASURED)
    board = Board.read(board.folder)
    text = readme(board, [], ranking(board, []))
    assert "4 samples of 2 codecs" in text and "was 1.06 times what these attacks take, and 1.10 times at most" in text
    assert f"({REACH})" in text and "1.06 times" in view(board, [], ranking(board, [])).about[0]


@pytest.mark.parametrize("change", [("1.02", "nan"), ("1.02", "0.9"), ("ratio", "share"), ("2.0,2.04", "x,2.04")])
def test_a_file_that_does_not_say_it_is_named(change: tuple[str, str], tmp_path: Path) -> None:
    board = boards.board(tmp_path / "small")
    (board.folder / REACH).write_text(MEASURED.replace(*change))
    with pytest.raises(BoardError, match=r"copy it again from RUN/audit/reach.csv"):
        _ = Board.read(board.folder).reach
