"""``robustcodec audit``: what does more damage than a run becomes a finding of its cells, shown as findings are."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from terminal import Type
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import to_float
from robustcodec.data._images import write_image
from robustcodec.execution.runner import Runner
from robustcodec.execution.watching import Watcher
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.resolved import Part
from robustcodec.running.store import Store
from robustcodec.studies.audit import _Blow, _lends, _variants, audit, drawn, plan

CODEC = "bmshj2018-factorized.tiny-q1"
EMPTY = Grid("empty", ({"codec": ["jpeg"], "attack": ["noise"]},))
WEAK = "pgd:steps=1,surrogate=straight-through,judge=1"


def variants(attack: str) -> dict[str, str]:
    return dict(_variants(Part("attack", attack), 10))


def test_what_is_changed_of_an_attack() -> None:
    assert variants("pgd:50,surrogate=soft") == {
        "surrogate=none": "pgd:steps=50,surrogate=none",
        "surrogate=noise": "pgd:steps=50,surrogate=noise",
        "a schedule 10 times as long": "pgd:steps=500,surrogate=soft",
    }
    assert variants("square") == {"a schedule 10 times as long": "square:queries=5000"}
    assert "a schedule 10 times as long" not in variants("ftda:constants=published-0")  # it sets its steps itself
    assert variants("noise") == {}


def test_a_gain_is_said_in_numbers_where_there_are_any() -> None:
    gains = [
        _Blow("a", "noise", damage, worst).gain for damage, worst in ((3.0, 2.0), (0.012, 0.0), (float("inf"), 2.0))
    ]
    assert gains == ["50% more damage than", "0.012 instead of 0,", "damage without bounds, unlike"]


def test_cells_of_one_data_set_draw_the_same_samples() -> None:
    first, other = (Cell("jpeg", attack, data="photos:size=16") for attack in ("noise", "square"))
    names = [sample.id for sample in first.samples()]
    assert drawn(first, 0.1, 0) == drawn(other, 0.1, 0) and len(drawn(first, 0.1, 0)) == 1
    assert drawn(first, 1.0, 0) == tuple(sorted(names))
    assert len({drawn(first, 0.1, seed) for seed in range(20)}) > 1


def test_a_clip_is_no_fair_attempt_if_its_attacker_knew_more() -> None:
    bare, other = Cell("jpeg", "square"), Cell("webp", "square")
    blind, seeing = (Cell("jpeg", "square", defense="blur", access=access) for access in ("oblivious", "adaptive"))
    assert _lends(other, bare) and _lends(bare, other) and _lends(bare, seeing) and _lends(blind, seeing)
    assert _lends(bare, blind) and not _lends(seeing, blind)
    assert not _lends(bare, Cell("jpeg", "noise")), "what is of the same kind is in the worst case already"
    assert not _lends(Cell("webp", "square", threat="psnr:34"), bare)


@pytest.fixture
def file(tmp_path: Path, photo: Tensor) -> str:
    write_image(photo[..., :32, :32], tmp_path / "photo.png")
    return f"file:{tmp_path / 'photo.png'}"


def test_findings_are_true_and_shown_where_findings_are(robust: Type, tmp_path: Path, file: str) -> None:
    run = tmp_path / "run"
    store, audits = Store(run), Store(run / "audit")
    (cell,) = cells = [Cell(CODEC, WEAK, threat="psnr:36", data=file)]
    store.put_grid(Grid("weak", ({"codec": [CODEC], "attack": [WEAK], "threat": ["psnr:36"], "data": [file]},)))
    assert not Runner(store).run(cells).errors
    before, stated = store.frame(cells), (run / "cells" / f"{cell.id}.json").read_bytes()

    done = robust("audit", str(run), "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    (found,) = answer["findings"].values()
    (reached,) = answer["reach"]
    store = Store(run)
    result = store.result(cell.id)
    assert result is not None and result.warnings[-len(found) :] == tuple(found)
    assert (run / "cells" / f"{cell.id}.json").read_bytes() == stated
    pd.testing.assert_frame_equal(store.frame(cells).drop(columns="warnings"), before.drop(columns="warnings"))
    for page in ("leaderboard.md", "report/index.html"):
        assert "a schedule 10 times as long" in (run / page).read_text()

    (sample,) = cell.samples()
    original, threat = to_float(sample.load())[None], registry.threats.build("psnr:36")
    longer = Cell(CODEC, f"{WEAK},steps=10".replace("steps=1,", "", 1), threat="psnr:36", data=file)
    attacked = [result.rows[0]["adv_psnr"]]
    for change in plan(store, 0.1, 10, 0).challenges:
        crafted, judged = audits.clip(change.cell.craft_id(sample)), audits.result(change.cell.id)
        assert crafted is not None and judged is not None
        attacked.append(judged.rows[0]["adv_psnr"])
        assert ((to_float(crafted[0])[None] - original).norm() <= threat.radius(original) + 1e-6).all()
        if change.title.startswith("a schedule"):
            assert change.cell.craft_id(sample) == longer.craft_id(sample)
            gain = judged.rows[0]["damage"] / result.rows[0]["damage"] - 1
            assert any(f"{change.title} does up to {gain:.0%} more damage" in line for line in found)

    clean = result.rows[0]["psnr"]
    assert (reached["codec"], reached["threat"], reached["samples"]) == (CODEC, "psnr:36", 1)
    assert reached["loss"] == pytest.approx(clean - attacked[0])
    assert reached["audited_loss"] == pytest.approx(clean - min(attacked)) and reached["ratio"] > 1
    assert reached["ratio"] == pytest.approx((clean - min(attacked)) / (clean - attacked[0]))
    kept = pd.read_csv(run / "audit" / "reach.csv").to_dict("records")
    assert kept[0]["ratio"] == pytest.approx(reached["ratio"], rel=1e-5)

    again = Runner(audits)
    lines, tally = audit(store, again, plan(store, 0.1, 10, 0), Watcher())
    assert lines == {cell.id: tuple(found)} and (again.clips, tally.skipped) == (0, 4)


def test_a_neighbours_clip_is_tried(tmp_path: Path, file: str) -> None:
    store, shared = Store(tmp_path / "run"), {"codec": [CODEC], "threat": ["psnr:36"], "data": [file]}
    weak = {**shared, "attack": ["noise"], "objective": ["distortion"]}
    strong = {**shared, "attack": ["pgd:steps=5"], "objective": ["source-distortion"]}
    store.put_grid(Grid("two", (weak, strong)))
    assert not Runner(store).run(store.grid().cells()).errors
    found, _ = audit(store, Runner(Store(store.audits)), plan(store, 1.0, 2, 0), Watcher())
    noise = next(cell for cell in store.grid().cells() if cell.attack == "noise")
    (line,) = found[noise.id]
    assert line.startswith(f"audit: the clip of pgd:steps=5 on {CODEC} does up to") and "1 of 1 sample" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "not a run folder"),
        (["RUN", "--share", "0"], "a share above 0"),
        (["RUN", "--longer", "1"], "a factor of 2"),
    ],
)
def test_mistakes_are_named(robust: Type, tmp_path: Path, words: list[str], message: str) -> None:
    Store(tmp_path).put_grid(EMPTY)
    done = robust("audit", *[str(tmp_path) if word == "RUN" else word for word in words])
    assert done.code == 2 and message in done.err


def test_a_run_without_results_is_no_run_to_audit(robust: Type, tmp_path: Path) -> None:
    Store(tmp_path).put_grid(EMPTY)
    done = robust("audit", str(tmp_path))
    assert done.code == 2 and "has finished" in done.err
