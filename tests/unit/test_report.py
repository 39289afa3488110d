"""Tables against sums done by hand."""

from __future__ import annotations

import io
import math
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from robustcodec.errors import MissingDependency, StoreError
from robustcodec.reporting.points import vi_matrix
from robustcodec.reporting.tables import (
    ATTACKS,
    LEADERBOARD,
    TEMPORAL,
    attack_table,
    checked,
    leaderboard,
    markdown,
    terminal_table,
    write,
)
from robustcodec.reporting.text import to_markdown


def row(codec: str, attack: str, sample: str, **values: Any) -> dict[str, Any]:
    """One row whose scores hang together: 30 dB clean at 0.5 bpp unless said otherwise."""
    base: dict[str, Any] = {
        "codec": codec, "defense": "none", "access": "oblivious", "attack": attack, "objective": "distortion",
        "threat": "linf:8/255", "data": "photos", "seed": 0, "sample": sample, "bpp": 0.5, "psnr": 30.0,
        "ms_ssim": 0.95, "adv_bpp": 0.6, "adv_psnr": 24.0, "adv_ms_ssim": 0.8, "bpp_est": 0.5, "adv_bpp_est": 0.6,
        "vi_db": 6.0, "delta_psnr": 6.0, "delta_own_psnr": 5.0, "rate_ratio": 1.2, "rate_ratio_est": 1.2,
        "input_psnr": 36.0, "input_linf": 8.0, "input_l2": 2.0, "decode_failed": 0.0, "queries": 10, "warnings": "",
        "damage": 0.01, "broken": 1.0, "break_db": 36.0,
    }  # fmt: skip
    base |= values
    axes = ("codec", "defense", "access", "attack", "objective", "threat", "data", "seed")
    base["cell"] = "/".join(str(base[axis]) for axis in axes)
    return base


@pytest.fixture
def rows() -> pd.DataFrame:
    """Codec ``a`` met two attacks on two samples, ``b`` met one of them."""
    return pd.DataFrame(
        [
            row("a", "pgd", "1", adv_psnr=20.0, vi_db=10.0, rate_ratio=1.1, warnings="masked gradient"),
            row("a", "pgd", "2", adv_psnr=26.0, vi_db=4.0, rate_ratio=1.3, warnings="masked gradient", psnr=32.0),
            row("a", "noise", "1", adv_psnr=28.0, vi_db=1.0, rate_ratio=2.0, warnings="budget unused;masked gradient"),
            row("a", "noise", "2", adv_psnr=25.0, vi_db=3.0, rate_ratio=1.0, psnr=32.0),
            row("b", "pgd", "1", adv_psnr=27.0, vi_db=2.0, input_linf=6.0),
            row("b", "pgd", "2", adv_psnr=25.0, vi_db=3.0, input_linf=7.0),
        ]
    )


def test_leaderboard_by_hand(rows: pd.DataFrame) -> None:
    board = leaderboard(rows)
    assert list(board.columns) == list(LEADERBOARD)
    assert list(board["codec"]) == ["b", "a"] and list(board["rank"]) == [1, 2]
    assert list(board["rank_low"]) == [1, 1] and list(board["rank_high"]) == [2, 2]  # two samples decide nothing
    b, a = board.to_dict("records")
    assert a["psnr"] == 31.0 and a["bpp"] == 0.5 and a["ms_ssim"] == pytest.approx(0.95)
    assert a["robust_psnr"] == (20 + 25) / 2 and a["drop"] == 31 - 22.5
    assert math.isnan(a["robust_low"]) and math.isnan(a["robust_high"])  # of two samples
    assert a["vi_db"] == (10 + 4) / 2
    assert a["rate_ratio"] == (2 + 1.3) / 2  # noise's of the one, pgd's of the other
    assert a["break_db"] == 36 and a["unbroken"] == 0
    assert a["worst_attack"] == "noise"  # one sample each: the first by name
    assert (a["attacks"], a["not_run"], a["samples"]) == (2, 0, 2)
    assert a["warnings"] == "budget unused ×1; masked gradient ×2"
    assert b["robust_psnr"] == 26.0 and (b["attacks"], b["not_run"]) == (1, 1) and b["warnings"] == ""


def test_leaderboard_ranks_inside_data_and_threat(rows: pd.DataFrame) -> None:
    other = rows.assign(threat="psnr:40", cell=rows["cell"] + "'", adv_psnr=[29, 29, 29, 29, 21, 21])
    board = leaderboard(pd.concat([rows, other]))
    ranked = [(t, r, c) for t, r, c in board[["threat", "rank", "codec"]].itertuples(index=False)]
    assert ranked == [("linf:8/255", 1, "b"), ("linf:8/255", 2, "a"), ("psnr:40", 1, "a"), ("psnr:40", 2, "b")]


def test_equal_robustness_is_an_equal_rank(rows: pd.DataFrame) -> None:
    assert list(leaderboard(rows.assign(adv_psnr=25.0))["rank"]) == [1, 1]


def test_every_sample_weighs_the_same() -> None:
    """A second seed on one sample moves neither the clean mean nor the attack's."""
    frame = pd.DataFrame(
        [
            row("a", "pgd", "1", psnr=40.0, vi_db=2.0),
            row("a", "pgd", "1", psnr=40.0, vi_db=4.0, seed=1),
            row("a", "pgd", "2", psnr=30.0, vi_db=9.0),
        ]
    )
    (line,) = attack_table(frame).to_dict("records")
    assert line["psnr"] == 35.0 and line["vi_db"] == (3 + 9) / 2 and line["samples"] == 2
    (line,) = leaderboard(frame).to_dict("records")
    assert line["psnr"] == 35.0 and line["attacks"] == 2


def test_a_failed_decode_counts_as_nothing_shown(rows: pd.DataFrame) -> None:
    failed = rows.copy()
    gone = ["adv_psnr", "adv_ms_ssim", "vi_db", "delta_psnr", "delta_own_psnr"]
    failed.loc[4, gone] = math.nan
    failed.loc[4, "decode_failed"] = 1.0
    line = leaderboard(failed).to_dict("records")[1]
    assert line["codec"] == "b" and line["rank"] == 2 and line["decode_failures"] == 1
    assert line["robust_psnr"] == (0 + 25) / 2
    assert attack_table(failed).to_dict("records")[-1]["vi_db"] == 3.0


def test_attack_table_by_hand(rows: pd.DataFrame) -> None:
    table = attack_table(rows)
    assert list(table.columns) == list(ATTACKS) and len(table) == 3
    line = table.to_dict("records")[-1]
    assert (line["codec"], line["attack"]) == ("b", "pgd")
    expected = {
        "bpp": 0.5, "psnr": 30, "adv_bpp": 0.6, "adv_psnr": 26, "delta_psnr": 6, "delta_own_psnr": 5, "vi_db": 2.5,
        "rate_ratio": 1.2, "input_psnr": 36, "input_linf": 6.5, "decode_failures": 0, "samples": 2,
    }  # fmt: skip
    assert {name: line[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(line["vi_low"]) and math.isnan(line["vi_high"])  # of two samples


CLIP = {"kbps": 100.0, "adv_kbps": 120.0, "flicker": 2.0, "adv_flicker": 6.0, "drift_last": 1.5, "drift_max": 9.0}


def test_clips_add_columns_over_time() -> None:
    frame = pd.DataFrame(
        [
            row("a", "pgd", "1", data="clips", recovery=3.0, **CLIP),
            row("a", "pgd", "2", data="clips", recovery=math.nan, **{**CLIP, "flicker": 4.0}),
            row("a", "noise", "1", data="clips", recovery=math.nan, **CLIP),
            row("a", "pgd", "1", **dict.fromkeys([*CLIP, "recovery"], math.nan)),
        ]
    )
    table = attack_table(frame)
    assert list(table.columns) == [*ATTACKS, *TEMPORAL]
    noise, pgd, image = table.to_dict("records")
    assert (pgd["flicker"], pgd["recovery"], pgd["kbps"], pgd["drift_last"]) == (3.0, 3.0, 100.0, 1.5)
    assert math.isnan(noise["recovery"]) and math.isnan(image["flicker"])
    clips, images = markdown(leaderboard(frame), table).split("# Attacks")[1].split("### photos")
    assert "| adv_flicker |" in clips
    assert "| flicker |" not in images and all(f"* `{name}`: " in images for name in TEMPORAL)
    assert "flicker" not in leaderboard(frame)


@pytest.mark.parametrize("stored_before", [True, False])
def test_images_add_no_columns_over_time(rows: pd.DataFrame, stored_before: bool) -> None:
    """Results of releases without these scores lack the columns; those of images hold no number in them."""
    if not stored_before:
        rows = rows.assign(**dict.fromkeys([*CLIP, "recovery"], math.nan))
    table = attack_table(rows)
    assert list(table.columns) == list(ATTACKS)
    assert "flicker" not in markdown(leaderboard(rows), table)


def test_old_results_beside_new_ones(rows: pd.DataFrame) -> None:
    new = pd.DataFrame([row("c", "pgd", "1", recovery=2.0, **CLIP)])
    _, _, b, c = attack_table(pd.concat([rows, new])).to_dict("records")
    assert (b["codec"], b["vi_db"]) == ("b", 2.5) and math.isnan(b["flicker"])
    assert (c["codec"], c["flicker"]) == ("c", 2.0)


def test_intervals_are_of_samples() -> None:
    """With 40 samples they are close to the normal interval of a mean."""
    psnr = np.random.default_rng(0).normal(25, 3, 40)
    (line,) = leaderboard(pd.DataFrame([row("a", "pgd", str(i), adv_psnr=p) for i, p in enumerate(psnr)])).to_dict(
        "records"
    )
    half = 1.96 * psnr.std(ddof=1) / math.sqrt(40)
    assert line["robust_low"] == pytest.approx(psnr.mean() - half, abs=0.15)
    assert line["robust_high"] == pytest.approx(psnr.mean() + half, abs=0.15)


def test_vi_matrix(rows: pd.DataFrame) -> None:
    defended = rows[rows["codec"] == "b"].assign(defense="jpeg", access="adaptive", vi_db=1.0)
    matrix = vi_matrix(pd.concat([rows, defended.assign(cell="d")]))
    assert list(matrix.index) == ["a", "b", "b + jpeg (adaptive)"]
    assert matrix.loc["a", ("pgd", "linf:8/255")] == 7.0 and matrix.loc["b", ("pgd", "linf:8/255")] == 2.5
    assert matrix[("noise", "linf:8/255")].isna().to_dict() == {"a": False, "b": True, "b + jpeg (adaptive)": True}
    assert to_markdown(matrix).splitlines()[:3] == [
        "| codec | noise, linf:8/255 | pgd, linf:8/255 |",
        "| --- | ---: | ---: |",
        "| a | 2.00 | 7.00 |",
    ]


def test_vi_matrix_keeps_objectives_and_data_apart(rows: pd.DataFrame) -> None:
    rate = rows.assign(objective="rate", vi_db=0.0, cell=rows["cell"] + "r")
    matrix = vi_matrix(pd.concat([rows, rate]))
    assert matrix.loc["a", ("pgd, distortion", "linf:8/255")] == 7.0
    assert matrix.loc["a", ("pgd, rate", "linf:8/255")] == 0.0
    clips = rows.assign(data="clips", vi_db=1.0, cell=rows["cell"] + "c")
    assert vi_matrix(pd.concat([rows, clips])).loc["a", ("pgd", "linf:8/255, clips")] == 1.0


def test_markdown_cells_are_escaped() -> None:
    frame = pd.DataFrame({"a|b": ["x|y\nz", "back\\slash", "<b>*`["], "n": [1.0, math.nan, 2.0]})
    assert to_markdown(frame).splitlines() == [
        r"| a\|b | n |",
        "| --- | ---: |",
        r"| x\|y<br>z | 1.00 |",
        r"| back\\slash | – |",
        r"| \<b>\*\`\[ | 2.00 |",
    ]


def test_markdown_survives_hostile_names(rows: pd.DataFrame) -> None:
    hostile = rows.replace({"codec": {"a": "a|1\nx"}, "data": {"photos": "folder:p|q"}})
    text = markdown(leaderboard(hostile), attack_table(hostile))
    lines = text.splitlines()
    assert r"### folder:p\|q, linf:8/255" in lines
    tables = [line for line in lines if line.startswith("|")]
    widths = {line.replace(r"\|", "").count("|") for line in tables}
    assert widths == {len(LEADERBOARD) - 4 + 1, len(ATTACKS) - 2 + 1}  # the ends of a rank stand beside it
    assert any(r"a\|1<br>x" in line for line in tables)


def test_every_column_is_explained(rows: pd.DataFrame) -> None:
    text = markdown(leaderboard(rows), attack_table(rows))
    for name in [*LEADERBOARD, *ATTACKS]:
        assert f"* `{name}`: " in text


def test_files_are_the_same_whatever_the_order(rows: pd.DataFrame, tmp_path: Path) -> None:
    first = write(rows, tmp_path / "one")
    second = write(rows.sample(frac=1, random_state=0), tmp_path / "two")
    assert [p.name for p in first] == ["leaderboard.md", "leaderboard.csv", "attacks.csv", "results.parquet"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == sorted(p.name for p in first)
    pd.testing.assert_frame_equal(pd.read_parquet(first[-1]), checked(rows))


def test_without_pyarrow_the_tables_are_written(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import finds where it is not installed
    names = ["attacks.csv", "leaderboard.csv", "leaderboard.md"]
    for folder, frame in (("one", rows), ("two", rows.sample(frac=1, random_state=0))):
        with pytest.raises(MissingDependency, match="pip install"):
            write(frame, tmp_path / folder)
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == names
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)
    for name, table in (("leaderboard.csv", leaderboard(rows)), ("attacks.csv", attack_table(rows))):
        read = pd.read_csv(tmp_path / "one" / name).fillna(dict.fromkeys(("bound", "warnings"), ""))
        pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-5)
    assert (tmp_path / "one" / "leaderboard.md").read_text() == markdown(leaderboard(rows), attack_table(rows))


@pytest.mark.parametrize("empty", [pd.DataFrame(), pd.DataFrame(columns=["cell", "codec"])])
def test_no_rows_is_said(empty: pd.DataFrame) -> None:
    assert "No results yet" in markdown(leaderboard(empty), attack_table(empty))
    assert list(leaderboard(empty).columns) == list(LEADERBOARD) and leaderboard(empty).empty
    assert list(attack_table(empty).columns) == list(ATTACKS) and attack_table(empty).empty
    assert vi_matrix(empty).empty


def test_no_rows_is_written(tmp_path: Path) -> None:
    write(pd.DataFrame(), tmp_path)
    assert "No results yet" in (tmp_path / "leaderboard.md").read_text()
    assert (tmp_path / "leaderboard.csv").read_text() == ",".join(LEADERBOARD) + "\n"
    assert pd.read_parquet(tmp_path / "results.parquet").empty


def test_rows_that_are_no_results(rows: pd.DataFrame) -> None:
    with pytest.raises(StoreError, match="no column vi_db"):
        leaderboard(rows.drop(columns="vi_db"))
    with pytest.raises(StoreError, match="2 rows repeat"):
        attack_table(pd.concat([rows, rows.head(2)]))


def printed(board: pd.DataFrame, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    console.print(terminal_table(board))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [100, 120])
def test_terminal_table_fits(width: int) -> None:
    frame = pd.DataFrame(
        [
            row(codec, attack, sample, defense=defense, access="adaptive", adv_psnr=20.123 + int(sample), warnings="w")
            for codec, defense, attack, sample in product(
                ["bmshj2018-hyperprior.tiny-q2"], ["none", "jpeg:quality=30"], ["pgd:steps=50,step_size=0.2"], "12345"
            )
        ]
    )
    text = printed(leaderboard(frame), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for number in ("23.12", "20.9–25.4", "6.88", "0.500", "30.00", "6.00", "1.20"):
        assert number in text
    header = next(line for line in text.splitlines() if "bpp" in line)
    assert header.split()[-3:] == ["met", "n", "!"]
    (first, second) = (line.split() for line in text.splitlines() if "20.9–25.4" in line)
    assert first[:2] == ["1–2", "bmshj2018-hyperprior.tiny-q2"] and first[-3:] == ["1", "5", "1"] and second[0] == "1–2"
    assert "+ jpeg:quality=30 (adaptive)" in text


def test_terminal_table_shows_markup_as_it_is(rows: pd.DataFrame) -> None:
    text = printed(leaderboard(rows.replace({"codec": {"a": "[red]a[/]"}, "attack": {"pgd": "[b]pgd"}})), 120)
    assert "[red]a[/]" in text and "[b]pgd" in text
    assert "1/2" in text  # b met one of two attacks


def test_terminal_table_without_rows() -> None:
    assert "No results yet" in " ".join(printed(leaderboard(pd.DataFrame()), 120).split())


SAMPLES = [str(i) for i in range(8)]


def eight(codec: str, psnr: float, attack: str = "pgd", **values: Any) -> list[dict[str, Any]]:
    """Rows of eight samples, some easy and some hard for all codecs."""
    rng = np.random.default_rng(len(codec))
    noise = rng.normal(0, 0.1, len(SAMPLES))
    return [row(codec, attack, sample, adv_psnr=psnr + 4 * i + noise[i], **values) for i, sample in enumerate(SAMPLES)]


def test_a_rank_is_an_interval() -> None:
    """Two are a tenth of a decibel apart, the third five: only that is beyond what samples leave open, and it is so
    although the samples themselves spread over 28 dB.
    """
    frame = pd.DataFrame([*eight("a", 20), *eight("bb", 19.95), *eight("ccc", 15)])
    board = leaderboard(frame).set_index("codec")
    assert board.loc[["a", "bb"], ["rank_low", "rank_high"]].to_numpy().tolist() == [[1, 2], [1, 2]]
    assert board[["rank", "rank_low", "rank_high"]].to_numpy().tolist()[2] == [3, 3, 3]
    text = markdown(leaderboard(frame), attack_table(frame))
    assert "| 1 (1–2) | a |" in text and "| 3 | ccc |" in text


@pytest.mark.parametrize(
    "weak",
    [
        {"attack": "random-search:queries=4"},
        {"access": "transfer:webp"},
        {"defense": "flip", "access": "oblivious"},
        {"attack": "unheard-of"},
        {"warnings": "budget not used: 2 of 8 samples (a); zero gradient: the attack was blind: 8 of 8 samples (a …)"},
    ],
)
def test_what_met_nothing_strong_is_a_lower_bound_apart(weak: dict[str, Any]) -> None:
    frame = pd.DataFrame([*eight("a", 20), *eight("bb", 19), *eight("weak", 40, **weak)])
    board = leaderboard(frame)
    assert list(board["codec"]) == ["a", "bb", "weak"] and list(board["bound"]) == ["", "", "lower bound"]
    assert board["rank"].isna().tolist() == [False, False, True] and board["rank_high"].max() == 2
    mean = float(board["robust_psnr"].iloc[-1])
    text = markdown(board, attack_table(frame))
    assert "| – | weak |" in text and f"| ≤ {mean:.2f} |" in text
    console = Console(file=io.StringIO(), width=120)
    console.print(terminal_table(board))
    assert f"≤ {mean:.2f}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_attack_that_was_blind_on_some_samples_is_strong() -> None:
    some = {"warnings": "zero gradient: the attack was blind: 1 of 18 samples (a)"}
    assert list(leaderboard(pd.DataFrame([*eight("a", 20, **some), *eight("bb", 19)]))["bound"]) == ["", ""]


def test_through_the_defense_is_strong() -> None:
    frame = pd.DataFrame([*eight("a", 20, defense="flip", access="adaptive"), *eight("bb", 19)])
    assert list(leaderboard(frame)["bound"]) == ["", ""]
