"""What somebody meets who has just installed it: no arguments, a first run, and quickstart on a photo of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from terminal import Type
from torch import Tensor

from robustcodec.data._images import write_image

FAST = "bmshj2018-factorized.tiny-q1"
MINE = """
import torch

class Blank(torch.nn.Module):
    def forward(self, x):
        return 0 * x

class Broken(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("no weights")
"""


@pytest.fixture
def photo_file(photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_image(photo[..., 64:128, 96:160], tmp_path / "me.png")
    return Path("me.png")


def test_without_arguments_three_things_can_be_done_next(robust: Type) -> None:
    done = robust()
    assert done.code == 0 and not done.err
    assert re.findall("^  (robustcodec [a-z]+)", done.out, re.MULTILINE) == [
        f"robustcodec {command}" for command in ("run", "quickstart", "quickstart")
    ]
    assert "robustcodec --help" in done.out and len(done.out.splitlines()) < 15


def test_a_run_says_what_it_will_do_then_each_number_then_what_it_found(robust: Type, photo_file: Path) -> None:
    words = ("--codec", "jpeg:quality=30", "--codec", "webp", "--attack", "noise", "--data", f"file:{photo_file}")
    done = robust("run", *words, "--out", "mine")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[:2] == ["2 cells to measure: 2 codecs, 1 sample of file:me.png", "run folder: mine"]
    for number, line in enumerate(lines[2:4], start=1):
        assert re.match(rf"{number}/2 [\d.]+ s .* × noise, .*: \d\d\.\d\d → \d\d\.\d\d dB PSNR$", line), line
    told = done.out[done.out.index("Most telling") :]
    assert "2 only lower bounds" in told and told.count("\n- ") == 3
    (look,), (page,) = (re.findall(f"^{what}: (.*)$", told, re.MULTILINE) for what in ("look at", "open"))
    assert Path(look).is_file() and Path(page).is_file()
    assert "Most telling" in robust("report", "mine").out


def test_quickstart_tells_the_whole_story_of_a_photo_and_resumes(robust: Type, photo_file: Path) -> None:
    words = ("quickstart", photo_file, "--codec", FAST, "--budget", "34dB")
    done = robust(*words)
    assert done.code == 0, done.err
    folder = Path("quickstart", f"me-{FAST}")
    assert done.out.startswith("4 cells to measure: 2 codecs, 1 sample of ")
    assert f"{FAST} + self-ensemble (adaptive)" in done.out and "self-ensemble gives" in done.out
    assert f"look at: {folder / 'before-and-after.png'}\nopen: {folder / 'report' / 'index.html'}\n" in done.out
    assert "What next:" in done.out and "4 cells ran, 0 were done before, 0 failed" in done.out
    with Image.open(folder / "before-and-after.png") as picture:
        assert picture.width > 1280
    again = robust(*words, "--json")
    assert again.code == 0 and "0 cells ran, 4 were done before" in again.err
    rows = json.loads(again.out)
    assert {row["codec"] for row in rows} == {FAST, "jpeg:quality=20"} and {row["threat"] for row in rows} == {
        "psnr:34"
    }
    assert json.loads(robust("report", folder, "--json").out) == rows


def test_quickstart_counts_the_warnings_of_a_codec_of_ones_own(robust: Type, photo_file: Path) -> None:
    Path("brought.py").write_text(MINE)
    done = robust("quickstart", photo_file, "--codec", "brought.py:Blank", "--budget", "34dB")
    (line,) = (line for line in done.out.splitlines() if re.match(r" brought.py:Blank  ", line))
    assert done.code == 0 and re.search(r" [1-9]$", line.rstrip()), done
    assert "!: kinds of warnings, see leaderboard.md" in done.out


def test_quickstart_shows_no_picture_of_jpeg_where_the_codec_that_was_asked_for_failed(
    robust: Type, photo_file: Path
) -> None:
    Path("brought.py").write_text(MINE)
    done = robust("quickstart", photo_file, "--codec", "brought.py:Broken", "--budget", "34dB")
    assert done.code == 1 and "Most telling" in done.out and "look at" not in done.out, done
    assert "brought.py:Broken × pgd:steps=20, distortion @ psnr:34: RuntimeError: no weights" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["."], "is a folder; quickstart takes one photo"),
        (["nowhere.png"], "no image at nowhere.png"),
        (["notes.png"], "is not an image"),
        (["me.png", "--budget", "much"], "budget 'much'; expected 36dB"),
        (["me.png", "--codec", "jpg"], "did you mean"),
        (["me.png", "--out", "."], "give another --out"),
        (["me.png", "--device", "abacus"], "abacus"),
    ],
)
def test_quickstart_refuses_in_one_line(robust: Type, photo_file: Path, words: list[str], said: str) -> None:
    Path("notes.png").write_text("no picture")
    done = robust("quickstart", *words)
    assert done.code == 2 and said in done.err and len(done.err.splitlines()) == 1, done
    assert not Path("quickstart").exists() or not list(Path("quickstart").rglob("grid.toml"))
