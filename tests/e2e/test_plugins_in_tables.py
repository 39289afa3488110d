"""Scores of an installed third-party metric and objective are in every table, although none names them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from terminal import Type

from robustcodec.data._images import write_image
from robustcodec.registry import data
from robustcodec.reporting.tables import ATTACKS, LEADERBOARD

CELL = ("--codec", "levels:levels=8", "--attack", "brighten", "--objective", "darkness", "--threat", "linf:8/255")
PAIR = ["mean_difference", "adv_mean_difference"]  # of a metric: clean and attacked
OWN = "black_share"  # of the objective
LABELS = ("mean |Δ|", "attacked mean |Δ|", "share of black")


@pytest.fixture
def run(plugins: None, robust: Type, tmp_path: Path) -> tuple[Path, str]:
    """A run folder with one cell, and what the command printed."""
    out = tmp_path / "run"
    words = ("run", *CELL, "--data", "ramps:size=48", "--metric", "mean_difference", "--device", "cpu")
    done = robust(*words, "--out", out)
    assert done.code == 0, done.err
    return out, done.out


def stored(run: Path) -> dict[str, float]:
    (cell,) = (run / "cells").iterdir()
    (row,) = json.loads(cell.read_text())["rows"]
    return {name: row[name] for name in (*PAIR, OWN)}


def test_the_terminal_shows_them(run: tuple[Path, str], robust: Type, tmp_path: Path) -> None:
    folder, printed = run
    scores = stored(folder)
    assert 0 < scores["mean_difference"] < scores["adv_mean_difference"] and 0 < scores[OWN] < 1
    head = next(line for line in printed.splitlines() if "share of black" in line)
    assert all(label in head for label in LABELS)
    line = next(line for line in printed.splitlines() if "brighten, darkness" in line and "@" not in line)
    assert line.split()[-3:] == [f"{scores[PAIR[0]]:.3f}", f"{scores[PAIR[1]]:.3f}", f"{scores[OWN]:.1f}"]


def test_tables_have_them(run: tuple[Path, str]) -> None:
    folder, _ = run
    scores = stored(folder)
    attacks = pd.read_csv(folder / "attacks.csv")
    assert list(attacks) == [*ATTACKS, *PAIR, OWN]
    assert attacks[[*PAIR, OWN]].iloc[0].to_dict() == pytest.approx(scores, rel=1e-5)
    board = pd.read_csv(folder / "leaderboard.csv")
    assert list(board) == [*LEADERBOARD, *PAIR]
    assert board[PAIR].iloc[0].to_dict() == pytest.approx({name: scores[name] for name in PAIR}, rel=1e-5)
    assert pd.read_parquet(folder / "results.parquet")[[*PAIR, OWN]].iloc[0].to_dict() == scores
    text = (folder / "leaderboard.md").read_text()
    assert f"| {scores[OWN]:.1f} |" in text and text.count("| adv_mean_difference |") == 2
    assert f"* `{OWN}`: share of black values in the attacked reconstruction." in text
    assert "* `mean_difference`: clean mean \\|Δ\\|, of the decoded bytes against the source." in text


def test_the_page_has_them(run: tuple[Path, str]) -> None:
    folder, _ = run
    scores = stored(folder)
    page = (folder / "report" / "index.html").read_text()
    for label in LABELS[:2]:
        assert f">{label}</th>" in page
    (entries,) = re.findall(r'<script type="application/json" class="entries">(.*?)</script>', page)
    (entry,) = json.loads(entries).values()
    for table in ("attacks", "samples"):
        (line,) = entry[table]["rows"]
        found = {head["name"]: value for head, value in zip(entry[table]["columns"], line, strict=True)}
        for label, value in zip(LABELS, scores.values(), strict=True):
            assert found[label] == pytest.approx(value, abs=0.005), table
        (own,) = [head for head in entry[table]["columns"] if head["name"] == LABELS[2]]
        assert own["about"] == "share of black values in the attacked reconstruction" and own["digits"] == 1
    assert f"<dt>{LABELS[2]}</dt>" in page


def test_exports_have_them(run: tuple[Path, str], robust: Type, tmp_path: Path) -> None:
    folder, _ = run
    tex = tmp_path / "a.tex"
    assert robust("report", folder, "--table", "attacks", "--export", tex).code == 0
    assert r"black\_share" in tex.read_text() and r"adv\_mean\_difference" in tex.read_text()
    done = robust("report", folder, "--table", "results", "--export", tmp_path / "r.csv")
    assert done.code == 0 and {*PAIR, OWN} <= set(pd.read_csv(tmp_path / "r.csv"))


def test_a_single_attack_shows_them(plugins: None, robust: Type, tmp_path: Path) -> None:
    (sample,) = data.build("ramps:size=48").samples()
    write_image(sample.load(), tmp_path / "ramp.png")
    words = [word if word != "--threat" else "--budget" for word in CELL]
    done = robust(
        "attack",
        tmp_path / "ramp.png",
        *words,
        "--metric",
        "mean_difference",
        "--device",
        "cpu",
        "--out",
        tmp_path / "a",
    )
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())["scores"]
    pair = next(line for line in done.out.splitlines() if line.strip().startswith("mean |Δ|"))
    assert pair.split()[2:] == [f"{scores[name]:.3f}" for name in PAIR]
    own = next(line for line in done.out.splitlines() if line.strip().startswith("share of black"))
    assert own.split()[-1] == f"{scores[OWN]:.1f}"


def test_who_has_not_installed_them_sees_their_names(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import robustcodec
    from robustcodec.reporting.tables import markdown
    from robustcodec.scores import columns

    folder, _ = run
    read = robustcodec.read(folder)
    monkeypatch.setattr(columns, "of_plugins", dict)
    text = markdown(read.leaderboard(), read.attacks())
    assert f"| {OWN} |" in text and f"* `{OWN}`: {columns.UNKNOWN}." in text
    assert columns.column(OWN).title == OWN
