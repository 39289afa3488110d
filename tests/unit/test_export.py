"""Tables and figures in the formats of papers: nothing lost, nothing that LaTeX would misread, the same bytes again."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from terminal import Type

import robustcodec
from robustcodec.errors import StoreError, UserError
from robustcodec.reporting.export import BEST, SUFFIXES, figures, latex, table, tex, write
from robustcodec.reporting.points import vi_matrix
from robustcodec.reporting.tables import ATTACKS, LEADERBOARD, attack_table, checked, leaderboard
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Result, Store

NASTY = r"""\ & % $ # _ { } ~ ^ < > | " [x] – — × → − … ∞ λ ' ` - -- * a"""


def row(codec: str, attack: str, threat: str, sample: str, loss: float) -> dict[str, object]:
    """Scores that hang together: 30 dB at half a bit per pixel, clean."""
    return {
        "codec": codec, "defense": "none", "access": "oblivious", "attack": attack, "objective": "distortion",
        "threat": threat, "data": "photos:size=64", "seed": 0, "sample": sample, "bpp": 0.5, "psnr": 30.0,
        "ms_ssim": 0.95, "adv_bpp": 0.6, "adv_psnr": 30.0 - loss, "vi_db": 1.5 * loss, "delta_psnr": loss,
        "delta_own_psnr": loss, "rate_ratio": 1 + loss / 100, "input_psnr": float(threat.removeprefix("psnr:")),
        "input_linf": 8.0, "decode_failed": 0.0, "queries": 10, "warnings": "", "damage": 0.01, "broken": 1.0,
        "break_db": math.nan, "cell": f"{codec}/{attack}/{threat}",
    }  # fmt: skip


def grid() -> pd.DataFrame:
    """Two codecs, two attacks, two budgets, two samples."""
    return pd.DataFrame(
        [
            row(codec, attack, f"psnr:{db}", sample, loss * (46 - db) / 6 + int(sample) / 3)
            for codec, first in (("a_1", 1.0), ("b&2", 2.0))
            for attack, loss in (("noise", 0.1 * first), ("pgd:steps=50", first))
            for db in (34, 40)
            for sample in "12"
        ]
    )


@pytest.fixture
def rows() -> pd.DataFrame:
    return grid()


def fading() -> pd.DataFrame:
    """A clip of three frames that loses less at each."""
    axes = {"codec": "a_1", "defense": "none", "access": "oblivious", "attack": "pgd", "objective": "distortion"}
    axes |= {"threat": "psnr:40", "data": "clips", "sample": "1"}
    return pd.DataFrame([{**axes, "frame": i, "psnr": 30.0, "adv_psnr": 25.0 + i} for i in range(3)])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every figure of :func:`grid` and :func:`fading`."""
    return figures(grid(), fading(), tmp_path_factory.mktemp("drawn"))


def test_csv_parquet_and_json_lose_nothing(rows: pd.DataFrame, tmp_path: Path) -> None:
    frame = leaderboard(rows)
    frame.loc[0, "codec"] = 'c,"d"\ne'
    frame["drop"] = [1 / 3, 1e-17, math.nan, 2e20]
    csv, parquet, text = (write(frame, tmp_path / "new" / f"t{suffix}") for suffix in (".csv", ".parquet", ".json"))
    read = pd.read_csv(csv, keep_default_na=False, na_values=[""], float_precision="round_trip")
    pd.testing.assert_frame_equal(
        read.fillna({"warnings": "", "bound": ""}), frame, check_exact=True, check_dtype=False
    )
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame, check_exact=True)
    lines = json.loads(text.read_text())
    assert [list(line) for line in lines] == [list(frame.columns)] * 4
    assert lines[0]["codec"] == 'c,"d"\ne' and lines[2]["drop"] is None and lines[3]["drop"] == 2e20
    assert lines[0]["drop"] == pytest.approx(1 / 3, rel=1e-14)


def test_a_pivoted_table_keeps_its_names(rows: pd.DataFrame, tmp_path: Path) -> None:
    path = write(vi_matrix(rows), tmp_path / "vi.csv")
    names = ["noise, psnr:34", "noise, psnr:40", "pgd:steps=50, psnr:34", "pgd:steps=50, psnr:40"]
    assert list(pd.read_csv(path).columns) == ["codec", *names]
    assert "codec & noise, psnr:34 & " in latex(vi_matrix(rows))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_table_is_the_same_bytes(rows: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    one, two = (write(table(r, "attacks", suffix), tmp_path / f"{i}{suffix}") for i, r in enumerate((rows, rows[::-1])))
    assert one.read_bytes() == two.read_bytes() and len(one.read_bytes()) > 500


def test_what_cannot_be_exported(rows: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.xlsx.*expected.*\.csv, \.parquet, \.tex, \.md, \.json"):
        write(rows, tmp_path / "table.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        write(rows, tmp_path / "folder.csv")
    with pytest.raises(UserError, match="no table 'all'; expected leaderboard, attacks, results"):
        table(rows, "all", ".csv")
    with pytest.raises(UserError, match="no figures in format bmp; expected png or pdf"):
        figures(rows, pd.DataFrame(), tmp_path / "new", ["pdf", "bmp"])
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


def test_letters_that_latex_would_misread() -> None:
    assert tex(r"a_b&50%$#{x}~^\ ".strip()) == (
        r"a\_b\&50\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert tex("[a]*b--c\nd<e>") == r"{[}a{]}{*}b-{}-c d\textless{}e\textgreater{}"
    assert tex("40 dB × 2") == r"40 dB $\times$ 2" and tex("plain: a=1, b.c/d") == "plain: a=1, b.c/d"


def test_latex_has_booktabs_and_aligned_numbers() -> None:
    frame = pd.DataFrame(
        {
            "na_me": ["x", "y&z"],
            "bpp": [0.12345, np.nan],
            "psnr": [30.0, -1.239],
            "samples": [1, 20],
            "same": ["s", "s"],
        }
    )
    lines = latex(frame, "What & why.", "tab:my label", {"psnr": "high", "bpp": "low"}).splitlines()
    assert lines[0] == r"% \usepackage{booktabs}"
    assert r"\caption{What \& why. same: s}" in lines and r"\label{tab:my-label}" in lines
    body = lines[lines.index(r"\begin{tabular}{lrrr}") :]
    assert body == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"na\_me & bpp & psnr & samples \\",
        r"\midrule",
        r"x & \textbf{0.123} & \textbf{30.00} & 1 \\",
        r"y\&z & -- & $-$1.24 & 20 \\".replace("--", r"\textendash{}"),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]


def test_latex_compares_inside_a_data_set_and_threat(rows: pd.DataFrame) -> None:
    """The best under the weaker budget is better than all under the stronger one, and is not the best of those."""
    text = latex(table(rows, "leaderboard", ".tex"), "Mine", "tab:m", BEST)
    assert text.count(r"\begin{table*}") == 2
    strong, weak = text.split(r"\end{table*}")[:2]
    assert "threat: psnr:34" in strong and r"\label{tab:m-photos-size-64-psnr-34}" in strong
    assert "threat: psnr:40" in weak and "& data" not in text
    for part in (strong, weak):
        (first, second) = [line for line in part.splitlines() if re.match(r"\d & ", line)]
        assert first.startswith(r"1 & a\_1") and first.count(r"\textbf") == 4 and r"\textbf" not in second
    assert "best" not in text and latex(leaderboard(rows)).count(r"\textbf") == 0


def test_equal_as_printed_is_equally_bold() -> None:
    text = latex(pd.DataFrame({"n": ["a", "b", "c"], "drop": [1.001, 1.004, 1.006]}), best={"drop": "low"})
    assert [r"\textbf" in line for line in text.splitlines() if line[:3] in ("a &", "b &", "c &")] == [
        True,
        True,
        False,
    ]


def test_empty_tables_are_written(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        assert write(table(pd.DataFrame(), "leaderboard", suffix), tmp_path / f"t{suffix}").stat().st_size
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    assert figures(pd.DataFrame(), pd.DataFrame(), tmp_path / "figures") == []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(rows: pd.DataFrame, tmp_path: Path) -> None:
    write(table(rows, "attacks", ".tex"), tmp_path / "attacks.tex", NASTY, "tab:a")
    write(pd.DataFrame({NASTY: [NASTY, "[a]", "*b"], "x": [1.0, -2.0, math.nan]}), tmp_path / "nasty.tex", NASTY)
    packages = r"\documentclass{article}\IfFileExists{booktabs.sty}{\usepackage{booktabs}}{\let\toprule\hline"
    packages += r"\let\midrule\hline\let\bottomrule\hline}"
    document = packages + r"\begin{document}\input{attacks}\input{nasty}\end{document}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 1000


DRAW = """
import sys, pandas
from pathlib import Path
from robustcodec.reporting.export import figures
folder = Path(sys.argv[1])
figures(pandas.read_parquet(folder / "rows.parquet"), pandas.read_parquet(folder / "curves.parquet"), folder / "again")
"""


def test_figures_are_vectors_and_the_same_again(drawn: list[Path], tmp_path: Path) -> None:
    """Also in another process, whose hashes are seeded otherwise."""
    boards = [f"photos-size-64-psnr-{db}" for db in (34, 40)]
    names = ["drift-clips", *(f"{k}-{b}" for k in ("rate-distortion", "vulnerability") for b in boards)]
    names += ["security-photos-size-64"]
    assert [p.name for p in drawn] == sorted(f"{name}.{suffix}" for name in names for suffix in ("pdf", "png"))
    for path in drawn:
        data = path.read_bytes()
        if path.suffix == ".pdf":
            assert data.startswith(b"%PDF-") and b"/CreationDate" not in data and b"/ModDate" not in data
            assert b"/CIDFontType2" in data and b"/FontFile2" in data and b"/Type3" not in data  # TrueType, embedded
            assert b"/Subtype /Image" not in data or "vulnerability" in path.name  # lines and letters, no pixels
            (box,) = {tuple(map(float, m.split())) for m in re.findall(rb"/MediaBox \[([^]]*)\]", data)}
            assert round(box[2] / 72, 2) in (3.5, 7.16) and box[3] / 72 < 9
        else:
            with Image.open(path) as image:
                assert image.size[0] in (2100, 4296) and round(image.info["dpi"][0]) == 600
    grid().to_parquet(tmp_path / "rows.parquet")
    fading().to_parquet(tmp_path / "curves.parquet")
    seeded = os.environ | {"PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", DRAW, str(tmp_path)], check=True, env=seeded)
    assert [p.read_bytes() for p in drawn] == [(tmp_path / "again" / p.name).read_bytes() for p in drawn]


def test_figures_show_what_changed(drawn: list[Path], rows: pd.DataFrame, tmp_path: Path) -> None:
    before = [path for path in drawn if path.suffix == ".pdf" and not path.name.startswith("drift")]
    worse = rows.assign(adv_psnr=rows["adv_psnr"] - rows["bpp"] * rows.index, vi_db=rows["vi_db"] * (1 + rows.index))
    after = figures(worse, pd.DataFrame(), tmp_path / "b", ["pdf"])
    assert len(before) == 5 and [p.name for p in before] == [p.name for p in after]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(before, after, strict=True))


def test_long_names_stay_on_the_figure(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Titles, labels and legends end inside the page that they were laid out for."""
    from matplotlib import figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from robustcodec.reporting.export import COLUMN
    from robustcodec.reporting.pictures import rate_distortion_plot

    outside: list[str] = []
    real = figure.Figure.savefig

    def savefig(self: figure.Figure, *args: object, **kwargs: object) -> None:
        FigureCanvasAgg(self).draw()  # type: ignore[no-untyped-call]
        width, height = self.bbox.size
        legend = self.legends[0].get_texts()
        for text in (*legend, *(axis.title for axis in self.axes)):
            box = text.get_window_extent()
            if box.x0 < 0 or box.x1 > width or box.y0 < 0 or box.y1 > height:
                outside.append(text.get_text())
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    long = "bmshj2018-hyperprior.finetuned-against-everything-q2:quality=8,guide=mbt2018-mean.tiny-q2"
    board = rows[rows["threat"] == "psnr:40"].replace({"codec": {"a_1": long}, "data": {"photos:size=64": long}})
    rate_distortion_plot(board, tmp_path / "a.pdf", COLUMN)
    assert outside == []


@pytest.fixture
def run(rows: pd.DataFrame, tmp_path: Path) -> Path:
    """A run folder of three cells: one with rows, one that failed, one that has not run."""
    grid = Grid("mine", ({"codec": ["jpeg:quality=30"], "attack": ["noise"], "seed": [0, 1, 2], "limit": 1},))
    store = Store(tmp_path / "run")
    store.put_grid(grid)
    done, failed, _ = grid.cells()
    axes = ("codec", "defense", "access", "attack", "objective", "threat", "data", "seed", "cell", "warnings")
    scores = {str(k): v for k, v in rows.iloc[0].to_dict().items() if k not in axes}
    store.put(Result(done.id, done, "ok", (scores,)))
    store.put(Result(failed.id, failed, "error", error="Traceback\n  in a line\nValueError: too bad\n"))
    return store.root


def test_an_existing_run_is_read(run: Path) -> None:
    read = robustcodec.read(str(run))
    assert read.folder == run and len(read.frame) == 1
    assert list(read.errors.values()) == ["ValueError: too bad"]
    assert list(read.attacks().columns) == list(ATTACKS) and list(read.leaderboard().columns) == list(LEADERBOARD)
    pd.testing.assert_frame_equal(read.attacks(), attack_table(read.frame))


def test_a_folder_without_a_run_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        robustcodec.read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports(robust: Type, run: Path, tmp_path: Path) -> None:
    before = sorted(run.rglob("*"))
    out = tmp_path / "out"
    done = robust("report", run, "--export", out / "board.tex", "--export", out / "board.csv", "--figures", out / "f")
    assert done.code == 0, done.err
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert names == {"board.tex", "board.csv"} | {
        f"f/{kind}-photos-psnr-40.{suffix}"
        for kind in ("rate-distortion", "vulnerability")
        for suffix in ("pdf", "png")
    }
    assert all(f"wrote {out / name}" in done.out for name in names)
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "board.csv", keep_default_na=False, na_values=[""]).fillna({"warnings": ""}),
        robustcodec.read(run).leaderboard(),
        check_dtype=False,
    )
    assert r"\caption{leaderboard of run. " in (out / "board.tex").read_text()
    assert sorted(run.rglob("*")) == before


def test_the_command_chooses_the_table(robust: Type, run: Path, tmp_path: Path) -> None:
    done = robust("report", run, "--table", "results", "--export", tmp_path / "r.parquet")
    assert done.code == 0, done.err
    frame = robustcodec.read(run).frame
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "r.parquet"), checked(frame))
    assert robust("report", run, "--table", "attacks", "--export", tmp_path / "a.csv").code == 0
    assert list(pd.read_csv(tmp_path / "a.csv").columns) == list(ATTACKS)


def test_the_command_says_what_is_wrong(robust: Type, run: Path, tmp_path: Path) -> None:
    done = robust("report", run, "--export", tmp_path / "a.csv", "--export", tmp_path / "a.xlsx")
    assert done.code == 2 and "a.xlsx; expected a file that ends in .csv" in done.err
    assert not (tmp_path / "a.csv").exists()
    done = robust("report", run, "--json", "--export", tmp_path / "a.csv")
    assert done.code == 2 and "exclude each other" in done.err
    done = robust("report", tmp_path / "nothing", "--export", tmp_path / "a.csv")
    assert done.code == 2 and "not a run folder" in done.err and not (tmp_path / "nothing").exists()


def test_cells_are_shared_with_the_runs_own(run: Path) -> None:
    """What the fixture wrote is what a grid of today asks for."""
    assert Cell("jpeg:quality=30", "noise", seed=0, limit=1).id in {p.stem for p in (run / "cells").iterdir()}
