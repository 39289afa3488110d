"""``benchmarks/finetuning.py``: cost, parent and control of a finetuned codec, and whose rows count."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scripts

import robustcodec
from robustcodec.scores.intervals import interval

CONTROL = "f:weights=training/control-q6/f.base-q6-control.safetensors"


@pytest.fixture(scope="module")
def table() -> Any:
    return scripts.load("benchmarks/finetuning.py")


def point(bpp: float, psnr: float) -> pd.DataFrame:
    return pd.DataFrame({"bpp": [bpp / 2, 3 * bpp / 2], "psnr": [psnr - 1, psnr + 1]})


def test_one_rate_costs_what_it_has_beyond_its_parents_curve(table: Any) -> None:
    curve = [point(0.5, 30), point(1.0, 32), point(2.0, 34)]
    assert table._cost(curve, [point(1.1 * 2**0.5, 33)]) == pytest.approx(10)  # half way in the logarithm of the rate
    assert table._cost(curve, [point(1.9, 34)]) == pytest.approx(-5)
    assert table._cost(curve[::-1], [point(1.9, 34)]) == pytest.approx(-5)  # whatever their names' order
    assert np.isnan(table._cost(curve, [point(2.2, 34.1)])) and np.isnan(table._cost(curve, [point(0.4, 29.9)]))


def test_parent_and_control_are_of_the_same_rate(table: Any) -> None:
    codecs = ["f.tiny-q6", "f.base-q4", "f.base-q6", "f.base-q6-at", "g.base-q6", CONTROL]
    assert table._parent("f.base-q6-at", codecs) == "f.base-q6" and table._control("f.base-q6-at", codecs) == CONTROL
    assert table._control("f.base-q4-at", codecs) is None


def test_a_control_at_a_rate_of_its_own_continues_the_curve(table: Any) -> None:
    higher = CONTROL.replace("q6", "q7")
    codecs = ["f.base-q4", "f.base-q6", "f.base-q6-at", CONTROL, higher]
    assert [c for c in codecs if table._is_rung(c, codecs)] == ["f.base-q4", "f.base-q6", higher]
    assert not table._is_rung(higher, [*codecs, higher.replace("-control", "-at")])


def test_what_is_gained_at_its_own_rate(table: Any) -> None:
    """Between 1 and 4 bpp the parents gain 2 dB; at 2 bpp they have one of them, on each sample from its own level."""
    low, high = (pd.DataFrame({"bpp": bpp, "robust": dB}) for bpp, dB in ((1.0, [28.0, 20.0]), (4.0, [30.0, 22.0])))
    found = table._at_own_rate([high, low], pd.DataFrame({"bpp": 2.0, "robust": [29.5, 20.5]}))
    assert found.tolist() == pytest.approx([0.5, -0.5])
    beyond = table._at_own_rate([high, low], pd.DataFrame({"bpp": [2.0, 4.1], "robust": 30.0}))
    assert beyond.isna().tolist() == [False, True]


def test_what_has_no_parent_is_named(table: Any) -> None:
    with pytest.raises(SystemExit, match=r"no parent of f\.base-q5-at"):
        table._parent("f.base-q5-at", ["f.base-q4", "f.base-q5-at", CONTROL])


def test_the_table_of_a_run(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = "bmshj2018-hyperprior.tiny"
    robustcodec.run(
        codec=[f"{family}-q2", f"{family}-q3", f"{family}-q2-at"], attack="pgd:steps=1", threat="psnr:34",
        data="photos:size=64", limit=5, out=tmp_path / "run",
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["finetuning.py", str(tmp_path / "run"), "--each"])
    table.main()
    head, _, row = (line.split(" | ") for line in capsys.readouterr().out.strip().splitlines()[-3:])
    found = dict(zip((cell.strip("| ") for cell in head), (cell.strip("| ") for cell in row), strict=True))
    assert found["finetuned"] == f"{family}-q2-at" and found["input"] == "psnr:34"
    rows = robustcodec.read(tmp_path / "run").frame.set_index(["codec", "sample"])
    parent, other, own = (rows.loc[f"{family}-{tag}"] for tag in ("q2", "q3", "q2-at"))
    gain = interval(own["adv_psnr"] - parent["adv_psnr"])
    assert found["robust PSNR"] == f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"
    lost = [(one["psnr"] - one["adv_psnr"]).mean() for one in (parent, own)]
    assert found["loss avoided"] == f"{100 * (1 - lost[1] / lost[0]):.0f} %" and found["beyond its control"] == "–"
    share = np.log(own["bpp"] / parent["bpp"]) / np.log(other["bpp"] / parent["bpp"])
    assert share.between(0, 1).all()  # on every sample the parents' curve reaches its rate
    beyond = interval(own["adv_psnr"] - parent["adv_psnr"] - share * (other["adv_psnr"] - parent["adv_psnr"]))
    assert found["at its own rate"] == f"{beyond.mean:+.2f} ({beyond.low:+.2f} to {beyond.high:+.2f})"


def test_defended_codecs_and_those_without_a_rate_have_no_line(table: Any) -> None:
    same = {"threat": "psnr:40", "sample": "a", "bpp": 1.0, "psnr": 30.0, "vi_db": 1.0, "rate_ratio": 1.0}
    same |= {"access": "oblivious", "data": "kodak", "objective": "distortion"}
    met = [
        ("f.base-q6", "none", "pgd", 27.0), ("f.base-q6", "none", "noise", 29.0),
        ("f.base-q6", "self-ensemble", "pgd", 25.0), ("jpeg:quality=50", "none", "noise", 26.0),
    ]  # fmt: skip
    rows = pd.DataFrame([{**same, "codec": c, "defense": d, "attack": a, "adv_psnr": p} for c, d, a, p in met])
    found = table.victims(rows)
    assert found.index.get_level_values("codec").tolist() == ["f.base-q6"] and found["robust"].tolist() == [27.0]
