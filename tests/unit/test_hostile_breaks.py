"""What somebody damaged or forged in ``breaks/`` is refused by the name of its file, in one line, and never run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boards
import pytest
import torch
from terminal import Type

from robustcodec.boards.board import BREAKS, RESULTS, Board
from robustcodec.boards.break_audit import audit_breaks
from robustcodec.boards.break_merging import merge_breaks
from robustcodec.boards.change import packed
from robustcodec.boards.entry import Entry

HUGE = -(2**62)
JUNK: list[object] = [None, [], {}, [[1]], {"x": {"y": []}}, "junk\x1b[31m", HUGE, True]
FREE = [("breaks/0/scores/*", (..., None, HUGE))]  # scores that say nothing about its change, and rank nothing
RANKING = ("adv_bpp", "adv_psnr", "input_psnr", "input_linf", "decode_failed")


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """With one entry, and one clip that was found of it."""
    made = boards.board(tmp_path / "small")
    boards.entry(made).write(made.folder / RESULTS)
    boards.found(made).write(made.folder / BREAKS)
    assert faults_of(made) == []
    return made


def faults_of(board: Board, text: str | None = None) -> list[str]:
    """What is wrong once ``text`` is the one file in breaks/, where every fault names it in one line."""
    (path,) = board.breaks()
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    breaks, faults = audit_breaks(board, [Entry.read(path) for path in board.entries()])
    assert all(str(path) in fault and "\n" not in fault and fault.isprintable() for fault in faults), faults
    assert bool(faults) != bool(breaks)
    return faults


def told(board: Board) -> dict[str, Any]:
    (path,) = board.breaks()
    return dict(json.loads(path.read_text()))


def free(at: tuple[str | int, ...], value: object) -> bool:
    place = "/".join(map(str, at))
    return place.rpartition("/")[2] not in RANKING and any(
        fnmatch(place, pattern) and value in values for pattern, values in FREE
    )


def test_no_field_of_another_kind_is_taken(board: Board) -> None:
    """Every field removed, and replaced in turns by null, lists, tables, a text with ESC, a huge number, true."""
    whole, taken = told(board), []
    for number, at in enumerate(place for place in boards.places(whole) if place != ("sha256",)):
        for value in (..., JUNK[number % len(JUNK)]):
            if not faults_of(board, boards.signed(boards.changed(whole, at, value))) and not free(at, value):
                taken.append(("/".join(map(str, at)), value))
    assert taken == []


def zeros() -> str:
    return packed(*[torch.zeros(1, 3, 48, 48, dtype=torch.uint8)] * 2)


def huge() -> str:
    black = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    return packed(black + 255, black)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("codec", "jpeg:quality=90", "jpeg:quality=90 is no entry of the board"),
        ("codec", "../../../jpeg", "../../../jpeg is no entry of the board"),
        ("defense", "flip", "jpeg:quality=20 + flip is no entry of the board"),
        ("board", "other", "made for the board other, not small"),
        ("identity/codec/fingerprint", "0" * 64, "other weights or parameters"),
        ("breaks/0/sample", "../../three", "../../three at psnr:36 was not measured"),
        ("breaks/0/threat", "psnr:20", "one at psnr:20 was not measured"),
        ("breaks/0/threat", "evil.py:Evil", "one at evil.py:Evil was not measured"),
        ("breaks/0/change", huge(), "it lies outside its threat, at 0 dB and 255 levels"),
        ("breaks/0/change", zeros(), "it changes nothing"),
        ("breaks/0/change", "AAAA", "its change cannot be unpacked"),
        ("breaks/0/shape", [1, 3, 24, 48], "its change is not of the 3456 values"),
        ("breaks/0/shape", [2**40, 3, 2**40, 2**40], "a clip of shape"),
        ("breaks/0/scores/input_psnr", 37.0, "its input_psnr is 42.6901, not 37"),
        ("breaks/0/scores/input_linf", 2.0, "its input_linf is 3, not 2"),
        ("breaks/0/scores/adv_bpp", 1.7512345, "bytes are not whole"),
        ("breaks/0/scores/adv_bpp", -1.75, "a rate of nothing"),
        ("breaks/0/scores/adv_psnr", None, "was decoded and has no adv_psnr"),
        ("breaks/0/scores/decode_failed", 0.5, "expected 0 or 1"),
        ("breaks", [], "it holds no clip"),
        ("format", 7, "this release reads up to 1"),
    ],
)
def test_a_file_is_what_its_entry_and_its_clips_say(board: Board, place: str, value: object, said: str) -> None:
    """Signed again, so that no checksum gives the change away."""
    at = tuple(int(part) if part.isdigit() else part for part in place.split("/"))
    faults = faults_of(board, boards.signed(boards.changed(told(board), at, value)))
    assert any(said in fault for fault in faults), faults


TEXTS: dict[str, Callable[[str], str]] = {
    "NaN": lambda text: text.replace("25.0", "NaN", 1),
    "1e999": lambda text: text.replace("25.0", "1e999", 1),
    "unsigned": lambda text: text.replace("by hand", "by foot"),
    "too deep": lambda text: "[" * 100_000 + "]" * 100_000,
    "an escape": lambda text: text.replace("by hand", "by \\u001b]0;hand"),
    "cut short": lambda text: text[: len(text) // 2],
    "nothing": lambda text: "",
    "a list": lambda text: "[]",
    "twice": lambda text: boards.signed({**json.loads(text), "breaks": json.loads(text)["breaks"] * 2}),
}


@pytest.mark.parametrize("spoil", TEXTS.values(), ids=TEXTS)
def test_no_file_of_another_kind_is_taken(board: Board, spoil: Callable[[str], str]) -> None:
    (path,) = board.breaks()
    assert len(faults_of(board, spoil(path.read_text()))) == 1


def test_a_file_is_called_as_its_entry_and_goes_with_it(board: Board) -> None:
    (path,) = board.breaks()
    path.rename(path.with_name("other.json"))
    assert "should be called jpeg_quality=20.json" in faults_of(board)[0]
    board.entries()[0].unlink()
    assert "is no entry of the board" in faults_of(board)[0]


@pytest.mark.parametrize("odd", [{"sample": "../../three"}, {"change": huge(), "date": "2020-01-01"}], ids=str)
def test_another_ones_file_is_not_merged(board: Board, tmp_path: Path, odd: dict[str, Any]) -> None:
    """Neither a sample that nobody has, nor a clip outside its budget."""
    (one,), entries = boards.found(board).breaks, [Entry.read(path) for path in board.entries()]
    path = boards.found(board).holding((replace(one, **odd),)).write(tmp_path / BREAKS)
    changed, refused = merge_breaks(board, entries, [path])
    assert changed == [] and refused and all(str(path) in line for line in refused)


def test_two_machines_files_are_united(board: Board, tmp_path: Path) -> None:
    """The clip that does more wins; of equal ones the older."""
    (one,), entries = boards.found(board).breaks, [Entry.read(path) for path in board.entries()]
    younger, worse = (
        replace(one, by="C. Person", date="2026-12-31", scores={**one.scores, "adv_psnr": db}) for db in (25.0, 24.0)
    )
    for theirs, stays in ((younger, one), (worse, worse)):
        path = boards.found(board).holding((theirs, replace(theirs, sample="two"))).write(tmp_path / BREAKS)
        (united,), refused = merge_breaks(board, entries, [path])
        assert united.breaks == (stays, replace(theirs, sample="two")) and refused == []
    path = boards.found(board).write(tmp_path / BREAKS)
    assert merge_breaks(board, entries, [path]) == ([], [])


def test_the_commands_name_the_file_in_one_line(board: Board, robust: Type) -> None:
    (path,) = board.breaks()
    path.write_text(TEXTS["NaN"](path.read_text()))
    text = path.read_text()
    for words, code in {
        ("check", board.folder): 1, ("verify", path): 2, ("merge", board.folder, path): 2,
    }.items():  # fmt: skip
        done = robust("leaderboard", *words)
        (line,) = [line for line in (done.out + done.err).splitlines() if "leaderboard break" in line]
        assert done.code == code and str(path) in line and line.isprintable(), (words, done)
    assert path.read_text() == text
