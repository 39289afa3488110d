"""`robustcodec leaderboard break`, on a small board with real runs: what it takes, what it refuses, what it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from measured_board import CLASSICAL, LEARNED, results, spoil
from terminal import Done, Type
from torch import Tensor

from robustcodec.boards import publication
from robustcodec.boards.audit import audit
from robustcodec.boards.board import BREAKS, Board
from robustcodec.boards.break_audit import audit_breaks
from robustcodec.boards.break_verification import clip_of
from robustcodec.boards.breaks import Breaks
from robustcodec.boards.entry import Dispute, Entry
from robustcodec.boards.founding import samples_of
from robustcodec.boards.signed import text_of
from robustcodec.clips import as_batch, to_uint8
from robustcodec.data._images import write_image
from robustcodec.interfaces import Codec
from robustcodec.registry import threats
from robustcodec.running.codecs import Codecs
from robustcodec.running.resolved import Resolved

BY = ("--by", "B. <b>Person</b>", "--how", "steps | by hand")


@pytest.fixture
def board(copy: Path) -> Board:
    return Board.read(copy / "boards" / "small")


@pytest.fixture
def clips(board: Board, tmp_path: Path) -> Path:
    """Of each sample one that is brighter, far beyond any budget: a codec shows that as it is."""
    (tmp_path / "clips").mkdir()
    for sample in samples_of(board.data, board.limit):
        write_image(brighter(sample.load()), tmp_path / "clips" / f"{sample.id}.png")
    return tmp_path / "clips"


def brighter(clip: Tensor) -> Tensor:
    """By 60 levels, where there are so many."""
    return (clip.int() + 60).clamp(0, 255).to(torch.uint8)


def said(done: Done) -> str:
    return " ".join((done.out + done.err).split())


def test_what_does_more_damage_is_kept_and_shown(board: Board, clips: Path, robust: Type) -> None:
    """What lies outside the budget is put inside it, and then judged."""
    results_before = {path: path.read_bytes() for path in board.entries()}
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY)
    assert done.code == 0, done
    (path,) = board.breaks()
    kept = Breaks.read(path).breaks
    assert kept and {each.by for each in kept} == {"B. <b>Person</b>"} and path.name == "jpeg_quality=20.json"
    assert all((each.scores["input_psnr"] or 0) >= 36 for each in kept)
    assert {path: path.read_bytes() for path in board.entries()} == results_before

    table = pd.read_csv(board.folder / "table.csv")
    (line,) = table[(table["threat"] == "psnr:36") & (table["entry"] == CLASSICAL)].to_dict("records")
    assert line["best_known"] > line["score"] and line["found_by"] == "B. <b>Person</b>"
    assert line["found_on"] == len(kept) and line["best_known_psnr"] <= line["robust_psnr"]
    assert table["best_known"].notna().sum() == 1
    stated = re.search(r"best known of \S+ at psnr:36: ([+-][\d.]+) %.* the suite's score: ([+-][\d.]+) %", said(done))
    assert stated and [float(n) for n in stated.groups()] == pytest.approx(
        [line["best_known"], line["score"]], abs=1e-3
    )

    text = (board.folder / "README.md").read_text()
    assert "## Best known" in text and "steps \\| by hand" in text and "B. <b>" not in text
    page = (board.folder.parent / "index.html").read_text()
    assert page.count("worse is known") == 1 and "B. <b>" not in page


def test_what_cannot_be_judged_has_a_line_and_the_others_count(board: Board, clips: Path, robust: Type) -> None:
    astronaut, chelsea, coffee = samples_of(board.data, board.limit)
    write_image(astronaut.load(), clips / "astronaut.png")
    write_image(brighter(chelsea.load())[..., :-1], clips / "chelsea.png")
    write_image(brighter(coffee.load()), clips / "stranger.png")
    (clips / "coffee.jpg").write_bytes((clips / "coffee.png").read_bytes())
    np.save(clips / "coffee.npy", np.full((1, 3, 48, 48), np.nan))
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--no-tables")
    for line in (
        "astronaut.png is astronaut itself", "chelsea.png is 47x48 pixels; chelsea is 48x48 pixels",
        "stranger.png is called as no sample", "coffee.jpg may lose pixels", "coffee.npy holds float64; expected uint8",
    ):  # fmt: skip
        assert line in said(done), done
    assert done.out.count("not kept: ") == 5 and done.out.count("\nkept: coffee") == 1 and done.code == 0


def test_what_does_less_is_refused_with_two_numbers(board: Board, clips: Path, robust: Type) -> None:
    (sample, *_) = samples_of(board.data, board.limit)
    write_image((sample.load().int() + 1).clamp(0, 255).to(torch.uint8), clips / "astronaut.png")
    done = robust("leaderboard", "break", board.folder, clips / "astronaut.png", "--entry", CLASSICAL, *BY)
    assert re.search(r"would be [+-][\d.]+ %, it stands at [+-][\d.]+ %", said(done)), done
    assert done.code == 1 and "nothing kept of 1 clip" in done.out and board.breaks() == []


def test_the_suites_own_clips_and_the_same_add_nothing(copy: Path, board: Board, clips: Path, robust: Type) -> None:
    """A run folder is given as it is; whoever found the same first keeps it."""
    done = robust("leaderboard", "break", board.folder, copy / "run", "--entry", LEARNED, *BY)
    assert done.code == 1 and "nothing kept of 12 clips" in said(done), done  # oblivious and adaptive
    robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--no-tables")
    (path,) = board.breaks()
    before = path.read_bytes()
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, "--by", "C", "--how", "again")
    assert done.code == 1 and path.read_bytes() == before, done


def test_verify_finds_what_was_forged(board: Board, clips: Path, robust: Type) -> None:
    robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--no-tables")
    (path,) = board.breaks()
    table = json.loads(path.read_text())
    del table["sha256"]
    for change, line in (
        ({"scores": {**table["breaks"][0]["scores"], "adv_psnr": 11.0}}, "adv_psnr is"),
        ({"adversarial": "0" * 64}, "not the one of which it states the sha256"),
    ):
        path.write_text(text_of({**table, "breaks": [table["breaks"][0] | change]}))
        assert audit_breaks(board, audit(board)[0])[1] == []  # nothing contradicts itself
        done = robust("leaderboard", "verify", path, "--share", "1")
        assert done.code == 1 and "NOT CONFIRMED" in done.out and line in said(done), done


def test_an_entry_in_doubt_takes_nothing(board: Board, copy: Path, clips: Path, robust: Type) -> None:
    path = results(copy)[CLASSICAL]
    whole = path.read_bytes()
    Entry.read(path).disputed_by(Dispute("C. Person", "2026-02-03", "its weights")).write(path.parent)
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY)
    assert done.code == 2 and "disputed by C. Person (its weights)" in said(done)
    entry = Entry.read(path)
    path.write_bytes(whole)
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--threat", "psnr:20")
    assert done.code == 2 and "was not measured at psnr:20; it was at psnr:30, psnr:36" in said(done)
    done = robust("leaderboard", "break", board.folder, clips, "--entry", "jpeg", *BY)
    assert done.code == 2 and f"has no entry jpeg; it has {LEARNED}" in said(done)
    table = json.loads(whole) | {"seed": 7}
    del table["sha256"]
    path.write_text(text_of(table))
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY)
    assert done.code == 2 and "its seed is 7" in said(done) and board.breaks() == [], entry


def test_a_codec_that_draws_at_random_takes_nothing(
    board: Board, clips: Path, robust: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can make a clip for the one draw that judges it."""
    real = Codecs.evaluated

    def drawing(codecs: Codecs, cell: Resolved) -> Codec:
        codec = real(codecs, cell)
        codec.randomised = True
        return codec

    monkeypatch.setattr(Codecs, "evaluated", drawing)
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY)
    assert done.code == 2 and "draws at random what it does" in done.err and board.breaks() == []


def test_what_codes_otherwise_than_the_entry_judges_nothing(board: Board, clips: Path, robust: Type) -> None:
    """Numbers of another codec, of the same name and weights, would not be comparable."""
    (path,) = [path for path in board.entries() if Entry.read(path).name == CLASSICAL]
    column = Entry.read(path).clean.columns.index("psnr")
    value = Entry.read(path).clean.rows["chelsea"][column] or 0.0
    spoil(path, f"clean/rows/chelsea/{column}", value + 0.1)
    done = robust("leaderboard", "break", board.folder, clips / "chelsea.png", "--entry", CLASSICAL, *BY)
    assert re.search(rf"psnr of chelsea without an attack is {value:.3f}. here, .* in the entry", said(done)), done
    assert done.code == 1 and board.breaks() == []


@pytest.mark.parametrize(("by", "how"), [("", "x"), ("A", " "), ("A", "x" * 501), ("A\x1b[31m", "x")])
def test_a_name_must_be_one_that_can_be_shown(board: Board, clips: Path, robust: Type, by: str, how: str) -> None:
    done = robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, "--by", by, "--how", how)
    assert done.code == 2 and ("--by" in done.err or "--how" in done.err) and board.breaks() == []


def test_two_machines_and_two_states(board: Board, made: Path, clips: Path, tmp_path: Path, robust: Type) -> None:
    robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--no-tables")
    (path,) = board.breaks()
    found = robust("leaderboard", "diff", made / "boards", board.folder.parent)
    assert f"small: {CLASSICAL}: best known at psnr:36 none → " in found.out
    path.rename(tmp_path / path.name)
    (tmp_path / BREAKS).mkdir()
    theirs = (tmp_path / path.name).rename(tmp_path / BREAKS / path.name)
    done = robust("leaderboard", "merge", board.folder, theirs)
    assert done.code == 0 and path.read_bytes() == theirs.read_bytes(), done
    (board.folder.parent / "site" / "index.html").unlink()  # libraries, for the most part
    assert publication.check(board.folder.parent) == []


def test_what_was_found_reads_back(board: Board, clips: Path, robust: Type) -> None:
    """The clip that was judged is the one that its sha256 and its change say."""
    robust("leaderboard", "break", board.folder, clips, "--entry", CLASSICAL, *BY, "--no-tables", "--threat", "psnr:30")
    originals = {sample.id: sample.load() for sample in samples_of(board.data, board.limit)}
    threat = threats.build("psnr:30")
    (path,) = board.breaks()
    verified = robust("leaderboard", "verify", path, "--share", "1", "--json")
    assert verified.code == 0 and json.loads(verified.out)[0]["cells"] == len(Breaks.read(path).breaks), verified
    for each in Breaks.read(path).breaks:
        x = as_batch(originals[each.sample])
        wanted = threat.quantise(threat.project(as_batch(brighter(originals[each.sample])), x), x)
        assert each.threat == "psnr:30" and torch.equal(clip_of(each, originals[each.sample]), to_uint8(wanted)[0])
