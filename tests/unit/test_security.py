"""Security curves against sums done by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from robustcodec.reporting.points import WORST, security
from robustcodec.reporting.security import write


def rows(*thresholds: float) -> pd.DataFrame:
    """Two attacks on two samples at each budget; the first hurts sample a more, the second sample b."""
    lines = []
    for db in thresholds:
        for attack, losses in (("pgd", {"a": 4, "b": 1}), ("cw", {"a": 2, "b": 3})):
            for sample, loss in losses.items():
                lines.append(
                    {
                        "cell": f"{db}{attack}", "sample": sample, "data": "d", "threat": f"psnr:{db}", "codec": "c",
                        "defense": "none", "access": "oblivious", "attack": attack, "objective": "distortion",
                        "seed": 0, "bpp": 0.5, "psnr": 30.0, "adv_bpp": 0.6, "adv_psnr": 30.0 - loss, "ms_ssim": 0.9,
                        "delta_psnr": loss, "delta_own_psnr": loss, "vi_db": loss, "rate_ratio": 1 + loss / 10,
                        "input_psnr": db, "input_linf": 8.0, "decode_failed": 0.0, "warnings": "", "queries": 1,
                        "damage": loss, "broken": float(loss > 3), "break_db": db if loss > 3 else float("nan"),
                    }
                )  # fmt: skip
    return pd.DataFrame(lines)


def test_the_worst_line_is_of_each_sample() -> None:
    points = security(rows(40.0, 34.0), ["codec"])
    assert list(points["input_psnr"].unique()) == [40.0, 34.0]
    by_line = points[points["threat"] == "psnr:34.0"].set_index("line")
    assert by_line.loc["pgd", "adv_psnr"] == 30 - 2.5
    assert by_line.loc[WORST, "adv_psnr"] == 30 - (4 + 3) / 2
    assert by_line.loc[WORST, "rate_ratio"] == 1.35 and by_line.loc[WORST, "broken"] == 0.5


def test_the_success_rate_has_wilsons_interval() -> None:
    """Of ten samples pgd breaks the first four: [0.168, 0.687] by Wilson (1927); of two samples nothing is said."""
    one = rows(40.0, 34.0)
    many = pd.concat(
        [one[one["sample"] == "a"].assign(sample=str(i), broken=float(i < 4)) for i in range(10)], ignore_index=True
    )
    lines = security(many, ["codec"])
    point = lines[(lines["line"] == "pgd") & (lines["threat"] == "psnr:40.0")].iloc[0]
    assert (point["broken"], point["samples"]) == (0.4, 10)
    assert (point["broken_low"], point["broken_high"]) == pytest.approx((0.1682, 0.6873), abs=1e-4)
    assert security(one, ["codec"])["broken_low"].isna().all()


def test_a_single_budget_is_no_curve(tmp_path: Path) -> None:
    assert security(rows(40.0), ["codec"]).empty and write(rows(40.0), tmp_path) == []


def test_the_picture_is_written(tmp_path: Path) -> None:
    path, table = write(rows(40.0, 34.0, 28.0), tmp_path)
    assert (path.name, table.name) == ("security-d.png", "security-d.csv")
    points = pd.read_csv(table)
    assert len(points) == 9 and set(points.loc[points["line"] == WORST, "broken"]) == {0.5}
    with Image.open(path) as image:
        assert min(image.size) > 400
