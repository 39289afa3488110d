"""Entries that somebody damaged or forged are refused by the name of their file, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import boards
import pytest
from terminal import Type

from robustcodec.boards.audit import audit
from robustcodec.boards.board import RESULTS, Board

HUGE = -(2**62)
JUNK: list[object] = [None, [], {}, [[1]], {"x": {"y": []}}, "junk\x1b[31m", HUGE, True]
Spoil = Callable[[str], str]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """With one entry that has no fault."""
    made = boards.board(tmp_path / "small")
    boards.entry(made).write(made.folder / RESULTS)
    assert audit(made)[1] == []
    return made


def faults_of(board: Board, text: str) -> list[str]:
    """What is wrong once ``text`` is the board's one entry, where every fault names its file in one line."""
    (path,) = board.entries()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    entries, faults = audit(board)
    assert all(str(path) in fault and "\n" not in fault and fault.isprintable() for fault in faults), faults
    assert bool(faults) != bool(entries)
    return faults


# what an entry may say instead, for nobody must have measured it: ``#`` stands for any place in a list or table
FREE = [
    ("provenance", ({},)), ("provenance/#", (...,)), ("identity/#/params", ({},)), ("identity/#/params/#", (True,)),
    ("clean/constant", ({},)), ("cells/0/identity/#/params", ({},)), ("cells/0/warnings", ([],)),
    ("cells/0/warnings/0", (...,)), ("cells/0/table/constant/#", (..., None, HUGE)), ("cells/0/frames", ({},)),
    ("cells/0/frames/#", (..., {})), ("cells/0/frames/#/#", (...,)), ("cells/0/frames/#/#/0", (None, HUGE)),
    ("disputed", ([],)), ("pictures", ({},)), ("pictures/#", (...,)),
]  # fmt: skip


def free(at: tuple[str | int, ...], value: object) -> bool:
    return any(fnmatch("/".join(map(str, at)), place.replace("#", "*")) and value in values for place, values in FREE)


def test_no_field_of_another_kind_is_taken(board: Board) -> None:
    """Every field removed, and replaced in turns by null, lists, tables, a text with ESC, a huge number, true."""
    (path,) = board.entries()
    whole = json.loads(path.read_text())
    taken = []
    for number, at in enumerate(place for place in boards.places(whole) if place != ("sha256",)):
        for value in (..., JUNK[number % len(JUNK)]):
            text = boards.signed(boards.changed(whole, at, value))
            if not faults_of(board, text) and not free(at, value):
                taken.append(("/".join(map(str, at)), value))
    assert taken == []


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("codec", "jpeg:quality=90", "its codec is jpeg:quality=90, in its identity with quality=20"),
        ("codec", "webp:quality=20", "its codec is webp:quality=20, in its identity jpeg"),
        ("codec", "unheard-of:quality=20", "its codec is unheard-of:quality=20, in its identity jpeg"),
        ("defense", "flip", "its defense is flip, in its identity none"),
        ("kind", "bare", "its kind is bare, and jpeg:quality=20 is no-gradient"),
        ("kind", "defended", "no protocol for defended codecs"),
        ("seed", 7, "its seed is 7, in its identity 0"),
        ("cells/0/axes/attack", "pgd:steps=2", "its attack is pgd:steps=2, in its identity noise"),
        ("cells/0/axes/threat", "psnr:30", "its threat is psnr:30, in its identity with db=36.0"),
        ("cells/0/axes/access", "adaptive", "its access is adaptive, in its identity oblivious"),
        ("cells/0/axes/access", "transfer:jpeg", "its access is transfer:jpeg, in its identity oblivious"),
        ("cells/0/axes/precision", "bfloat16", "its precision is bfloat16, in its identity float32"),
        ("date", "2026-01-02 <b>", "a text like"),
        ("checks", [], "it has no checks"),
        ("cells/0/table/rows/one", [1.0], "not one number for each of 5 columns"),
        ("cells/0/table/rows", {"one": [1.75, 1.75, 28.0, 36.25, 0.1]}, "other samples than the clean numbers"),
        ("pictures/one/original/0", "https://example.org/seen.png", "a text like data:image"),
    ],
)
def test_an_entry_is_what_its_identities_say(board: Board, place: str, value: object, said: str) -> None:
    """Signed again, so that no checksum gives the change away."""
    (path,) = board.entries()
    at = tuple(int(part) if part.isdigit() else part for part in place.split("/"))
    faults = faults_of(board, boards.signed(boards.changed(json.loads(path.read_text()), at, value)))
    assert any(said in fault for fault in faults), faults


TEXTS: dict[str, Spoil] = {
    "NaN": lambda text: text.replace("28.0", "NaN", 1),
    "1e999": lambda text: text.replace("28.0", "1e999", 1),
    "4,000 digits": lambda text: text.replace("28.0", "9" * 4000, 1),
    "too deep": lambda text: "[" * 100_000 + "]" * 100_000,
    "deep": lambda text: text.replace('"A. Person"', "[" * 500 + "]" * 500),
    "twice": lambda text: text.replace('"board"', '"codec": "x", "board"'),
    "half a letter": lambda text: text.replace("A. Person", "A. Person\\ud800"),
    "an escape": lambda text: text.replace("A. Person", "A. \\u001b]0;Person"),
    "turned around": lambda text: text.replace("A. Person", "A. \u202enosreP"),
    "cut short": lambda text: text[: len(text) // 2],
    "nothing": lambda text: "",
    "null": lambda text: "null",
    "a list": lambda text: "[]",
    "no text": lambda text: "\udcff\udcfe",
    "scores": lambda text: boards.signed({**json.loads(text), "scores": []}),
    "first format": lambda text: boards.signed({**json.loads(text), "format": 1, "scores": []}),
    "no identity": lambda text: boards.signed({**json.loads(text), "identity": {}}),
}  # fmt: skip


@pytest.mark.parametrize("spoil", TEXTS.values(), ids=TEXTS)
def test_no_file_of_another_kind_is_taken(board: Board, spoil: Spoil) -> None:
    (path,) = board.entries()
    (fault,) = faults_of(board, spoil(path.read_text()))
    assert "is not an entry of a leaderboard" in fault


def test_every_command_names_the_file_in_one_line(board: Board, robust: Type) -> None:
    (path,) = board.entries()
    text = TEXTS["NaN"](path.read_text())
    path.write_text(text)
    for words, code in {
        ("check", board.folder): 1, ("build", board.folder): 1, ("verify", path): 2, ("verify", board.folder): 2,
        ("merge", board.folder, path): 2, ("diff", board.folder, board.folder): 2,
        ("dispute", path, "--by", "A. Person", "--why", "numbers"): 2,
    }.items():  # fmt: skip
        done = robust("leaderboard", *words)
        (line,) = [line for line in (done.out + done.err).splitlines() if "entry of a leaderboard" in line]
        assert done.code == code and str(path) in line and line.isprintable(), (words, done)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "name",
    [
        "process:command='touch {ran}'",
        "{folder}/evil.py:Evil",
        "compressai:class=evil:Evil,weights={folder}/none.pth",
        "jpeg:quality=30+process:command='touch {ran}'",
    ],
)
@pytest.mark.parametrize("place", ["codec", "defense", "access"])
def test_looking_at_an_entry_runs_nothing_that_it_names(
    board: Board, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (path,) = board.entries()
    changed = json.loads(path.read_text())
    text = name.format(ran=ran, folder=tmp_path)
    if place == "access":
        changed["cells"][0]["axes"]["access"] = f"transfer:{text}"
        changed["cells"][0]["identity"]["access"] = f"transfer:{json.dumps({'name': text.split(':')[0], 'params': {}})}"
    else:
        changed[place] = text
        changed["identity"][place] = {"name": text.split(":")[0], "params": {"command": "x"}}
    assert faults_of(board, boards.signed(changed))
    assert not ran.exists()
