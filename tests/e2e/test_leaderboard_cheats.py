"""`robustcodec leaderboard check` and `verify`: numbers that were edited, by whoever, are noticed."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from measured_board import LEARNED, other_digit, results, spoil
from terminal import Type

from robustcodec.boards import publication, verification
from robustcodec.boards.audit import audit
from robustcodec.boards.board import RESULTS, Board
from robustcodec.boards.entry import Entry
from robustcodec.errors import BoardError


def test_no_number_can_be_edited_unnoticed(copy: Path) -> None:
    """Random edits of single digits in every file that is published: of all files at once that are looked at each for
    itself, of those that all others depend on one by one.
    """
    boards, rng = copy / "boards", random.Random(4)
    small = boards / "small"
    entries = sorted((small / RESULTS).glob("*.json"))
    derived = [*(small / name for name in ("README.md", "table.csv", "pairs.csv")), boards / "index.html"]
    for paths, rounds in ((entries, 2), (derived, 2), ([small / "board.toml"], 3), ([small / "anchor.csv"], 2)):
        for _ in range(rounds):
            whole = {path: path.read_text() for path in paths}
            edits = {path: edit(path, rng) for path in paths}
            try:
                faults = publication.check(boards)
            except BoardError as error:
                faults = [str(error)]
            for path, change in edits.items():
                assert any(len(paths) == 1 or str(path) in fault for fault in faults), f"{path.name}: {change}"
            for path, before in whole.items():
                path.write_text(before)
    assert publication.check(boards) == []


def edit(path: Path, rng: random.Random) -> str:
    """Change one digit of a file; what was changed, to be shown."""
    before = path.read_text()
    place = rng.choice([m.start() for m in re.finditer(r"\d", before)])
    digit = rng.choice([d for d in "0123456789" if d != before[place]])
    path.write_text(before[:place] + digit + before[place + 1 :])
    return f"{before[max(place - 30, 0) : place]}[{before[place]} → {digit}]"


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("cells/0/identity/attack/params/seed", 9, "other data, weights or settings"),
        ("identity/codec/fingerprint", "0" * 64, "other data, weights or settings"),
        ("identity/data/params/size", 64, "measured on"),
        ("board", "other", "made for the board other"),
        ("cells/0/axes/threat", "psnr:20", "missing"),
        ("checks/0/passed", False, "robustcodec check failed"),
    ],
)
def test_a_careful_cheat_is_noticed_where_numbers_contradict_each_other(
    copy: Path, change: str, value: object, said: str
) -> None:
    spoil(results(copy)[LEARNED], change, value)
    _, faults = audit(Board.read(copy / "boards" / "small"))
    assert any(said in fault for fault in faults), faults


def test_verify_confirms_what_is_true(made: Path, robust: Type) -> None:
    done = robust("leaderboard", "verify", made / "boards" / "small", "--share", "0.3", "--json")
    assert done.code == 0, done.out
    verdicts = json.loads(done.out)
    assert len(verdicts) == 3
    assert all(len(v["samples"]) == 1 and v["cells"] == 4 and v["apart"] < 1e-4 for v in verdicts), verdicts


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("tampered", None, "adv_psnr of"),
        ("identity/codec/fingerprint", "0" * 64, "other weights or parameters"),
        ("data", None, "other data"),
        ("codec", "unheard-of", "cannot be measured here: no codec is named"),
    ],
)
def test_verify_catches_what_is_not(copy: Path, tmp_path: Path, change: str, value: object, said: str) -> None:
    path = results(copy)[LEARNED]
    board = Board.read(copy / "boards" / "small")
    if change == "tampered":  # one attack is said to have cost a decibel less, and all scores follow from it
        entry = Entry.read(path)
        cell = next(i for i, c in enumerate(entry.cells) if c.axes["attack"].startswith("pgd"))
        column = entry.cells[cell].table.columns.index("adv_psnr")
        for sample, row in entry.cells[cell].table.rows.items():
            spoil(path, f"cells/{cell}/table/rows/{sample}/{column}", (row[column] or 0) + 1)
        assert audit(board)[1] == []  # nothing contradicts itself
    elif change == "data":
        toml = board.folder / "board.toml"
        toml.write_text(re.sub(r'(= ")([0-9a-f])(?=[0-9a-f]{63}")', other_digit, toml.read_text()))
        board = Board.read(board.folder)
    else:
        spoil(path, change, value)
    entry = Entry.read(path)
    verdict = verification.verify(board, entry, verification.draw(entry, 0.3, 0), tmp_path / "again")
    assert any(said in fault for fault in verdict.faults), verdict


def test_every_sample_can_be_drawn_and_a_seed_draws_the_same(made: Path) -> None:
    entry = Entry.read(results(made)[LEARNED])
    drawn = {verification.draw(entry, 0.1, seed) for seed in range(40)}
    assert {sample for (sample,) in drawn} == set(entry.clean.rows)
    assert verification.draw(entry, 0.5, 3) == verification.draw(entry, 0.5, 3)
    assert len(verification.draw(entry, 0.34, None)) == 2
    with pytest.raises(BoardError, match="share"):
        verification.draw(entry, 0, None)
