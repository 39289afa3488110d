"""What plots show, and that pictures and page show the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustcodec.page import View
from robustcodec.page.figures import Drawing, drawings
from robustcodec.page.styles import styles_of
from robustcodec.reporting.pictures import rate_distortion_plot
from robustcodec.reporting.points import WORST, arrows, drift, ends, security, worst_of_samples


def row(attack: str, sample: str, loss: float, threat: str = "psnr:40", **values: Any) -> dict[str, Any]:
    return {
        "cell": f"{attack}/{threat}", "sample": sample, "data": "d", "threat": threat, "codec": "c", "entry": "c",
        "defense": "none", "access": "oblivious", "attack": attack, "objective": "distortion", "precision": "float32",
        "seed": 0, "bpp": 0.5, "psnr": 30.0, "adv_bpp": 0.5 + loss / 100, "adv_psnr": 30.0 - loss, "ms_ssim": 0.9,
        "delta_psnr": loss, "delta_own_psnr": loss, "vi_db": loss, "rate_ratio": 1 + loss / 50, "input_psnr": 40.0,
        "input_linf": 8.0, "decode_failed": 0.0, "warnings": "", "queries": 1, "damage": loss, "broken": 0.0,
        "break_db": float("nan"),
    } | values  # fmt: skip


@pytest.fixture
def rows() -> pd.DataFrame:
    """Each attack is the worst for one sample; in the mean ``pgd`` is."""
    return pd.DataFrame([row("pgd", "a", 4), row("pgd", "b", 1), row("cw", "a", 1), row("cw", "b", 3)])


def view(rows: pd.DataFrame, curves: pd.DataFrame | None = None) -> View:
    ranking = pd.DataFrame({"rank": [1], "entry": ["c"], "data": ["d"], "threat": ["psnr:40"]})
    shown = pd.DataFrame() if curves is None else curves
    return View("v", "A view", ("About.",), ranking, {}, rows, shown, {}, (), {})


def drawn(view: View) -> list[Drawing]:
    return drawings(view, styles_of([view])[0])


def test_an_arrow_ends_at_the_worst_of_each_sample(rows: pd.DataFrame) -> None:
    (arrow,) = arrows(rows, ["codec"]).to_dict("records")
    assert (arrow["psnr"], arrow["adv_psnr"]) == (30.0, 30 - (4 + 3) / 2)
    assert sorted(ends(rows, ["codec"])["adv_psnr"]) == [30 - 2.5, 30 - 2]


def test_picture_and_page_end_at_one_point(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import figure

    figures: list[Any] = []
    save = figure.Figure.savefig

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    rate_distortion_plot(rows, tmp_path / "a.png")
    axis = figures[0].axes[0]
    (arrow,) = [text for text in axis.texts if not text.get_text()]
    (faint,) = [line for line in axis.lines if line.get_alpha()]
    assert len(faint.get_xdata()) == 2 * 3  # from the clean mean to that of each attack
    (drawing,) = [drawing for drawing in drawn(view(rows)) if drawing.kind == "rd"]
    (attacked,) = [t for t in json.loads(drawing.figure)["data"] if t.get("line", {}).get("dash") == "dash"]
    assert arrow.xy == pytest.approx((attacked["x"][0], attacked["y"][0])) and attacked["y"][0] == 26.5


def test_a_worst_attack_that_nothing_decodes_ends_at_0_db(rows: pd.DataFrame) -> None:
    failed = rows.assign(adv_psnr=[float("nan"), *rows["adv_psnr"][1:]], decode_failed=[1.0, 0, 0, 0])
    assert arrows(failed, ["codec"])["adv_psnr"].tolist() == [(0 + 27) / 2]


def test_families_of_threats_are_no_common_curve() -> None:
    budgets = [("psnr:40", 40.0), ("psnr:34", 34.0), ("linf:8/255", 36.0), ("psnr:30,frames=first", 30.0)]
    rows = pd.DataFrame([row("pgd", "a", 1, threat, input_psnr=db) for threat, db in budgets])
    points = security(rows, ["codec"])
    assert set(points["family"]) == {"psnr"} and set(points["line"]) == {"pgd", WORST}
    assert points[points["line"] == WORST]["input_psnr"].tolist() == [40.0, 34.0]


def test_the_worst_line_of_a_drift_is_the_leaderboards_attack(rows: pd.DataFrame) -> None:
    """Of each sample the cell whose clip leaves the least PSNR, whatever its single frames lose."""
    losses = {("pgd", "a"): [4.0, 2.0], ("cw", "a"): [9.0, 9.0], ("pgd", "b"): [1.0, 1.0], ("cw", "b"): [6.0, 4.0]}
    curves = pd.DataFrame(
        {**row(attack, sample, loss), "frame": frame}
        for (attack, sample), lost in losses.items()
        for frame, loss in enumerate(lost)
    )
    points = drift(curves, ["entry"], ("objective",), worst_of_samples(rows, ["entry"]))
    assert points[points["line"] == WORST]["loss"].tolist() == [(4 + 6) / 2, (2 + 4) / 2]
    assert points[points["line"] == "cw"]["loss"].tolist() == [(9 + 6) / 2, (9 + 4) / 2]
    (drawing,) = [drawing for drawing in drawn(view(rows, curves)) if drawing.kind == "drift"]
    assert json.loads(drawing.figure)["data"][0]["y"] == [5.0, 3.0] and drawing.choices == (WORST, "cw", "pgd")
