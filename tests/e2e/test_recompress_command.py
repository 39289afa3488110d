"""``robustcodec recompress`` as a user types it: the files it leaves, the numbers it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from terminal import Type
from torch import Tensor

from robustcodec.data._images import write_image
from robustcodec.running.store import Store

CODEC = "bmshj2018-factorized.tiny-q1"


@pytest.fixture
def words(tmp_path: Path, photo: Tensor) -> list[str]:
    """What all commands have in common: a photo, and where to write."""
    write_image(photo[..., :40, :48], tmp_path / "photo.png")
    return ["recompress", "--data", f"file:{tmp_path / 'photo.png'}", "--out", str(tmp_path / "out")]


def test_clean_and_attacked(robust: Type, words: list[str], tmp_path: Path) -> None:
    words += ["--codec", CODEC, "--codec", "jpeg:quality={40,80}"]
    words += ["--defense", "none", "--defense", "self-ensemble:views=2"]
    words += ["--generations", "2", "--between", "none", "--between", "shift:3,5"]
    done = robust(*words, "--json")
    assert done.code == 0, done.err
    means = pd.DataFrame(json.loads(done.out))
    assert len(means) == 3 * 2 * 2 * 2
    attacked = robust(*words, "--attack", "pgd:steps=2", "--access", "adaptive", "--threat", "psnr:36")
    assert attacked.code == 2 and "gives no gradient" in attacked.out  # of jpeg; all else is there
    rows = pd.read_csv(tmp_path / "out" / "recompression.csv")
    assert set(rows["first"]) == {
        "clean", *(f"pgd:steps=2, distortion @ psnr:36, {access}" for access in ("oblivious", "adaptive")),
    }  # fmt: skip
    assert rows[rows["first"] != "clean"]["input_psnr"].between(36, 36.3).all()
    same = ["codec", "defense", "between", "generation"]
    clean = rows[rows["first"] == "clean"].set_index(same)["psnr"]
    assert clean.to_dict() == pytest.approx(means.set_index(same)["psnr"].to_dict(), rel=1e-4)
    text = (tmp_path / "out" / "recompression.md").read_text()
    assert "## Between generations: shift:3,5" in text and "## Not measured" in text
    with Image.open(tmp_path / "out" / "recompression.png") as image:
        assert min(image.size) > 400
    store = Store(tmp_path / "out" / "run")  # attacked clips are of a run folder like any other
    crafted = store.frame(store.grid().cells())
    first = rows[(rows["generation"] == 1) & (rows["between"] == "none") & (rows["first"] != "clean")]
    assert sorted(first["psnr"]) == pytest.approx(sorted(crafted["adv_psnr"]), rel=1e-5)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--codec", "jpg"], "did you mean"),
        (["--codec", "jpeg", "--between", "shift:x"], "expected shift:DX,DY"),
        (["--codec", "jpeg", "--defense", "self-ensembl"], "self-ensemble"),
        (["--codec", "jpeg", "--threat", "psnr:34"], "--attack pgd"),
        (["--codec", "jpeg", "--attack", "pdg"], "pgd"),
        (["--codec", "jpeg:quality={1,2"], "braces"),
    ],
)
def test_mistakes_are_one_line(robust: Type, words: list[str], extra: list[str], message: str) -> None:
    done = robust(*words, *extra)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
