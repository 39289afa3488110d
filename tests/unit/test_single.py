"""``robustcodec.attack`` from Python, short budgets, lossless clips, and a data set of one file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import robustcodec
from robustcodec.data._images import read_image, write_image
from robustcodec.data._lossless import write_lossless
from robustcodec.data._video import frame_rate, read_video
from robustcodec.errors import BadData, BadParameter, StoreError, UserError
from robustcodec.registry import data
from robustcodec.running.grid import Cell
from robustcodec.studies.attack import threat_of

CODEC = "bmshj2018-factorized.tiny-q1"


def db(mse: float) -> float:
    return float(-10 * np.log10(mse))


def test_three_lines(photo: Tensor, tmp_path: Path) -> None:
    write_image(photo[..., :64, :64], tmp_path / "photo.png")
    outcome = robustcodec.attack(tmp_path / "photo.png", CODEC, attack="pgd:steps=3", threat="36dB")
    assert outcome.adversarial.shape == (1, 3, 64, 64) and outcome.adversarial.dtype == torch.uint8
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]

    codec = robustcodec.load(CODEC)
    assert outcome.attacked is not None
    x, x_adv, clean, attacked = (
        clip.double() / 255 for clip in (photo[..., :64, :64], outcome.adversarial, outcome.clean, outcome.attacked)
    )
    assert torch.equal(outcome.original, photo[..., :64, :64])
    perturbation = (x_adv - x).square().mean().item()
    assert 0.95 * 10**-3.6 < perturbation <= 10**-3.6
    amplified = db(perturbation) - db((attacked - clean).square().mean().item())
    assert outcome.scores["vi_db"] == pytest.approx(amplified, abs=1e-6)
    assert outcome.scores["adv_psnr"] == pytest.approx(db((attacked - x).square().mean().item()), abs=1e-4)
    with torch.no_grad():
        streams = [codec.compress(clip[None].float())[0] for clip in (x, x_adv)]
    assert [outcome.clean_stream, outcome.attacked_stream] == streams
    assert outcome.scores["rate_ratio"] == len(streams[1]) / len(streams[0])


def test_tensors_are_files_too(photo: Tensor, tmp_path: Path) -> None:
    picture = photo[0, :, :64, :64]
    attack: dict[str, Any] = {"attack": "pgd:steps=2,random_start=false", "threat": "linf:4/255"}
    of_bytes = robustcodec.attack(picture, CODEC, **attack)
    write_image(picture[None], tmp_path / "photo.png")
    of_file = robustcodec.attack(tmp_path / "photo.png", CODEC, **attack)
    of_floats = robustcodec.attack((picture / 255).double(), CODEC, **attack)
    for outcome in (of_bytes, of_floats):
        assert isinstance(outcome, robustcodec.Outcome)
        assert outcome.scores == pytest.approx(of_file.scores, nan_ok=True)
        assert torch.equal(outcome.adversarial, of_file.adversarial)
    assert (of_file.adversarial.int() - picture.int()).abs().max() == 4


def test_a_clip_in_a_tensor_and_its_files(photo: Tensor, tmp_path: Path) -> None:
    clip = torch.cat([photo[..., :48, t : t + 48] for t in range(3)])
    outcome = robustcodec.attack(clip, CODEC, attack="noise", threat="34dB", out=tmp_path / "out", clip=True)
    assert isinstance(outcome, robustcodec.Outcome) and outcome.attacked is not None
    assert torch.equal(outcome.original, clip)
    for name, kept in {
        "original": clip,
        "adversarial": outcome.adversarial,
        "decoded_clean": outcome.clean,
        "decoded_attacked": outcome.attacked,
    }.items():
        assert torch.equal(read_video(tmp_path / "out" / f"{name}.mkv"), kept), name
    with Image.open(tmp_path / "out" / "panel.png") as panel:
        errors = (outcome.clean.int() - outcome.attacked.int()).square().flatten(1).sum(1)
        assert outcome._title(outcome._worst_frame()).endswith(f"worst frame: {int(errors.argmax())} (of 0 to 2)")
        columns = np.asarray(panel).astype(int)
    assert (columns[-20, 12:300] != 255).any()  # pictures reach the bottom

    again = robustcodec.attack(clip[0], CODEC, attack="noise", threat="34dB", out=tmp_path / "out")
    assert torch.equal(read_image(tmp_path / "out" / "adversarial.png"), again.adversarial)
    assert not list((tmp_path / "out").glob("*.mkv"))  # of the earlier clip


def test_bad_input(photo: Tensor, tmp_path: Path) -> None:
    picture = photo[0, :, :32, :32]
    sources: list[tuple[Tensor | Path, str]] = [
        (picture[:2], "(3, H, W)"),
        (picture / 127.0, "[0, 1]"),
        (torch.full((3, 8, 8), math.nan), "[0, 1]"),
        (picture.int(), "uint8"),
        (tmp_path / "absent.png", "absent.png"),
    ]
    for source, words in sources:
        with pytest.raises(BadData, match=re.escape(words)):
            robustcodec.attack(source, CODEC, attack="noise")
    with pytest.raises(BadData, match=re.escape("clip=True; expected (T, 3, H, W)")):
        robustcodec.attack(picture, CODEC, attack="noise", clip=True)
    with pytest.raises(BadParameter, match="codec is a list; expected a name"):
        robustcodec.attack(picture, ["jpeg"], attack="noise")  # type: ignore[call-overload]
    with pytest.raises(BadParameter, match="attack is a int; expected a name"):
        robustcodec.attack(picture, CODEC, attack=3)  # type: ignore[call-overload]
    with pytest.raises(BadParameter, match="slice the tensor"):
        robustcodec.attack(picture, CODEC, crop=8)
    with pytest.raises(UserError, match="gives no gradient"):
        robustcodec.attack(picture, "jpeg", attack="pgd")
    with pytest.raises(UserError, match=r"gradient of jpeg.*gives no gradient"):
        robustcodec.attack(picture, CODEC, attack="pgd", access="bpda:jpeg")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not the folder of an attack"):
        robustcodec.attack(picture, CODEC, attack="noise", out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("budget", "threat"),
    [
        ("36dB", "psnr:36"),
        (" 36.5 db", "psnr:36.5"),
        ("8/255", "linf:8/255"),
        ("l2:1.5", "l2:1.5"),
        ("psnr:38,frames=first", "psnr:38,frames=first"),
    ],
)
def test_short_budgets(budget: str, threat: str) -> None:
    assert threat_of(budget) == threat


@pytest.mark.parametrize("budget", ["36", "0.03", "dB", "", "8/0", "loud:3", "psnr", "psnr:loud"])
def test_budgets_that_are_none(budget: str) -> None:
    with pytest.raises(UserError):
        threat_of(budget)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 3, 37, 53), (3, 3, 64, 64)])
def test_lossless_means_every_value(tmp_path: Path, shape: tuple[int, ...]) -> None:
    clip = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    one, other = write_lossless(clip, tmp_path / "one.v2", 12.5), write_lossless(clip, tmp_path / "other", 12.5)
    assert one.read_bytes() == other.read_bytes()
    assert one.name == ("one.v2.png" if shape[0] == 1 else "one.v2.mkv")
    assert torch.equal((read_image if shape[0] == 1 else read_video)(one), clip)
    if shape[0] > 1:
        assert frame_rate(one) == 12.5


def test_a_file_is_a_data_set(photo: Tensor, tmp_path: Path) -> None:
    for name in ("a=b, c.png", "d.png"):
        write_image(photo, tmp_path / name)
    (sample,) = data.build(f"file:path={tmp_path / 'a=b, c.png'},crop=50").samples()
    assert (sample.id, sample.fps) == ("a=b, c", None)
    assert torch.equal(sample.load(), photo[..., 103:153, 103:153])
    (short,) = data.build(f"file:{tmp_path / 'd.png'}").samples()
    assert torch.equal(short.load(), photo)

    clip = torch.cat([photo[..., :32, t : t + 32] for t in range(5)])
    write_lossless(clip, tmp_path / "clip", 25)
    (part,) = data.build(f"file:{tmp_path / 'clip.mkv'},frames=2,start=1").samples()
    assert torch.equal(part.load(), clip[1:3]) and part.fps == 25
    for bad in ("frames=-1", "crop=-1", "start=-1"):
        with pytest.raises(BadParameter, match="at least 0"):
            data.build(f"file:{tmp_path / 'd.png'},{bad}")


def test_where_a_file_lies_is_not_its_identity(photo: Tensor, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(photo[..., :32, :32], tmp_path / folder / "photo.png")
    ids = [Cell("jpeg", "noise", data=f"file:path={tmp_path / folder / 'photo.png'}").id for folder in ("a", "b")]
    assert ids[0] == ids[1]
    assert Cell("jpeg", "noise", data=f"file:path={tmp_path / 'a' / 'photo.png'},crop=16").id != ids[0]
