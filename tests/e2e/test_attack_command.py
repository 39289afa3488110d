"""``robustcodec attack`` as a user types it: the files it leaves, the numbers it prints, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from terminal import Type
from torch import Tensor

import robustcodec
from robustcodec.clips import to_uint8
from robustcodec.data._images import read_image, write_image
from robustcodec.data._video import frame_rate, read_video, write_y4m
from robustcodec.oracle import Oracle

CODEC = "bmshj2018-factorized.tiny-q1"


@pytest.fixture
def image(tmp_path: Path, photo: Tensor) -> Path:
    path = tmp_path / "photo.png"
    write_image(photo[..., :100, :120], path)
    return path


@pytest.fixture
def clip(tmp_path: Path, photo: Tensor) -> Path:
    """A photo that moves by two pixels a frame."""
    path = tmp_path / "clip.y4m"
    write_y4m(torch.cat([photo[..., 2 * t : 2 * t + 48, :64] for t in range(4)]), path, fps=25)
    return path


def pixels(path: Path) -> NDArray[np.float64]:
    """All values of an image or clip, by Pillow or from the file that robustcodec reads."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image).astype(float)
    return read_video(path).numpy().astype(float)


def mse(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(((one - other) ** 2).mean()) / 255**2


def decibels(value: float) -> float:
    return float(-10 * np.log10(value))


def check_scores(folder: Path, said: dict[str, Any], count: int) -> None:
    """Recompute from the files alone, without any code of robustcodec's own, what it said."""
    suffix = ".png" if (folder / "original.png").exists() else ".mkv"
    names = ("original", "adversarial", "decoded_clean", "decoded_attacked")
    x, x_adv, x_hat, x_adv_hat = (pixels(folder / f"{name}{suffix}") for name in names)
    bits = [8 * (folder / name).stat().st_size for name in ("clean.rc", "attacked.rc")]
    scores = said["scores"]
    for key, value in {
        "bpp": bits[0] / count,
        "adv_bpp": bits[1] / count,
        "rate_ratio": bits[1] / bits[0],
        "psnr": decibels(mse(x, x_hat)),
        "adv_psnr": decibels(mse(x, x_adv_hat)),
        "delta_psnr": decibels(mse(x, x_hat)) - decibels(mse(x, x_adv_hat)),
        "input_psnr": decibels(mse(x, x_adv)),
        "input_linf": np.abs(x - x_adv).max(),
        "vi_db": decibels(mse(x, x_adv)) - decibels(mse(x_hat, x_adv_hat)),
    }.items():
        assert scores[key] == pytest.approx(value, rel=1e-4), key


def test_an_image_with_everything_it_leaves(
    robust: Type, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words: tuple[str | Path, ...] = (
        "attack",
        image,
        "--codec",
        CODEC,
        "--attack",
        "pgd:steps=3",
        "--budget",
        "36dB",
        "--crop",
        "80",
    )
    words = (*words, "--out", out, "--device", "cpu")
    done = robust(*words, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert {p.name for p in out.iterdir()} == {
        "original.png", "adversarial.png", "clean.rc", "attacked.rc", "decoded_clean.png", "decoded_attacked.png",
        "panel.png", "scores.json", "run",
    }  # fmt: skip
    assert said["threat"] == "psnr:36" and said["queries"] >= 3 and said["out"] == str(out)
    assert json.loads((out / "scores.json").read_text()) == {k: v for k, v in said.items() if k != "out"}

    assert torch.equal(read_image(out / "original.png"), read_image(image)[..., 10:90, 20:100])
    x, x_adv = pixels(out / "original.png"), pixels(out / "adversarial.png")
    assert mse(x, x_adv) <= 10**-3.6  # exactly, from the file
    assert mse(x, x_adv) > 0.95 * 10**-3.6
    check_scores(out, said, 80 * 80)

    for name in ("clean", "attacked"):
        decoded = tmp_path / f"{name}.png"
        assert robust("decompress", out / f"{name}.rc", "-o", decoded).code == 0
        assert torch.equal(read_image(decoded), read_image(out / f"decoded_{name}.png"))
    with Image.open(out / "panel.png") as panel:
        assert panel.width > 3 * 256 and panel.height > 2 * 256

    def asked(self: Oracle, x_adv: Tensor) -> Tensor:
        raise AssertionError("crafted again")

    monkeypatch.setattr(Oracle, "_ask", asked)
    files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = robust(*words)
    assert again.code == 0, again.err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == files
    for word in ("PSNR", "attacked", f"{said['scores']['vi_db']:.4f}"[:4], "panel.png", "queries"):
        assert word in again.out


def test_the_number_is_the_grids(robust: Type, image: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    image.rename(tmp_path / "set" / "photo.png")
    attack = ("--codec", CODEC, "--attack", "noise", "--defense", "self-ensemble:views=2", "--device", "cpu")
    done = robust(
        "attack", tmp_path / "set" / "photo.png", *attack, "--budget", "8/255", "--out", tmp_path / "a", "--json"
    )
    assert done.code == 0, done.err
    said = json.loads(done.out)
    run = robust(
        "run", *attack, "--threat", "linf:8/255", "--data", f"folder:{tmp_path / 'set'}", "--out", tmp_path / "b"
    )
    assert run.code == 0, run.err
    (cell,) = (tmp_path / "b" / "cells").iterdir()
    (row,) = json.loads(cell.read_text())["rows"]
    assert {k: row[k] for k in said["scores"]} == said["scores"]
    linf = np.abs(pixels(tmp_path / "a" / "original.png") - pixels(tmp_path / "a" / "adversarial.png")).max()
    assert linf == 8
    check_scores(tmp_path / "a", said, 100 * 120)
    decoded = tmp_path / "decoded.png"
    defended = ("--codec", CODEC, "--defense", "self-ensemble:views=2")
    assert robust("decompress", tmp_path / "a" / "attacked.rc", *defended, "-o", decoded).code == 0
    assert torch.equal(read_image(decoded), read_image(tmp_path / "a" / "decoded_attacked.png"))


@pytest.mark.parametrize("codec", ["rdae.tiny-q1", CODEC])
def test_a_clip_is_kept_without_loss(robust: Type, clip: Path, tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out"
    done = robust(
        "attack", clip, "--codec", codec, "--attack", "pgd:steps=2", "--budget", "psnr:34,frames=first",
        "--frames", "3", "--out", out, "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    original, adversarial = read_video(out / "original.mkv"), read_video(out / "adversarial.mkv")
    assert torch.equal(original, read_video(clip, 3)) and frame_rate(out / "adversarial.mkv") == 25
    changed = (original != adversarial).flatten(1).any(1).tolist()
    assert changed == [True, False, False]
    assert mse(original[:1].numpy().astype(float), adversarial[:1].numpy().astype(float)) <= 10**-3.4 * 3
    check_scores(out, json.loads(done.out), 3 * 48 * 64)
    with torch.no_grad():
        for name in ("clean", "attacked"):
            decoded = robustcodec.load(codec).decompress([(out / f"{name}.rc").read_bytes()])
            assert torch.equal(to_uint8(decoded)[0], read_video(out / f"decoded_{name}.mkv"))


def test_a_classical_codec_by_noise_and_by_transfer(
    robust: Type, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jpeg = ("attack", "photo.png", "--codec", "jpeg:quality=30", "--device", "cpu", "--json")
    done = robust(*jpeg, "--attack", "noise")
    assert done.code == 0, done.err
    folder = tmp_path / "attacked" / "photo"
    check_scores(folder, json.loads(done.out), 100 * 120)
    noise = (folder / "adversarial.png").read_bytes()
    with Image.open(folder / "attacked.rc") as picture:  # Pillow's own reader
        assert picture.size == (120, 100)

    done = robust(*jpeg, "--attack", "pgd:steps=2", "--access", f"transfer:{CODEC}")  # into the same folder
    assert done.code == 0, done.err
    check_scores(folder, json.loads(done.out), 100 * 120)
    assert (folder / "adversarial.png").read_bytes() != noise
    assert len(list((folder / "run" / "cells").iterdir())) == 2  # both are kept


def test_mistakes_are_one_line(robust: Type, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes(b"no picture either")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    noise = ("--codec", "jpeg", "--attack", "noise", "--device", "cpu")
    for words, expected in [
        (("absent.png", *noise), ("absent.png", "expected an image or a video")),
        (("full", *noise), ("is a folder", "folder:full")),
        (("notes.txt", *noise), ("notes.txt", ".png")),
        (("broken.png", *noise), ("broken.png is not an image",)),
        (("photo.png", *noise, "--budget", "36"), ("'36'", "36dB")),
        (("photo.png", *noise, "--budget", "loud:3"), ("'loud:3'", "36dB")),
        (("photo.png", *noise, "--budget", "9/8"), ("eps=1.125",)),
        (("photo.png", *noise, "--access", "guess"), ("guess", "oblivious")),
        (("photo.png", *noise, "--out", "full"), ("full exists", "another out")),
        (("photo.png", *noise, "--out", "."), ("another out",)),
        (("photo.png", "--codec", "jepg"), ("did you mean jpeg",)),
    ]:
        done = robust("attack", *words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith("error: ") and done.err.count("\n") == 1
        assert all(word in done.err for word in expected), done.err
    assert not (tmp_path / "attacked").exists()  # a mistake leaves nothing behind
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]

    done = robust("attack", "photo.png", "--codec", "jpeg", "--attack", "pgd", "--device", "cpu")
    assert (
        (done.code, done.out) == (2, "")
        and "gives no gradient" in done.err
        and "transfer:" in done.err
        and "black-box" in done.err
    )
    assert done.err.startswith("error: ") and done.err.count("\n") == 1


def test_a_file_whose_path_has_the_signs_of_specs(image: Path, tmp_path: Path, robust: Type) -> None:
    """It is attacked, and the run that is kept reads back."""
    odd = tmp_path / "lr=0.1,batch=8" / "a{b}.png"
    odd.parent.mkdir()
    image.rename(odd)
    done = robust("attack", odd, "--codec", "jpeg", "--attack", "noise", "--crop", "32", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert robust("report", tmp_path / "out" / "run").code == 0
