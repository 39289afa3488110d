"""The picture of quickstart: what is where, and what stands above it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from robustcodec.reporting._drawing import GAP, GREY
from robustcodec.studies.before_and_after import draw

SCORES = {"input_psnr": 36.0, "psnr": 31.25, "adv_psnr": 27.5, "bpp": 0.5, "adv_bpp": 1.0}
SHADES = {"original": 40, "adversarial": 90, "clean": 160}


@pytest.fixture
def clips() -> dict[str, Tensor]:
    """Flat pictures of 96 × 64 pixels, in which the attack does most at the right end."""
    flat = {name: torch.full((1, 3, 64, 96), shade, dtype=torch.uint8) for name, shade in SHADES.items()}
    attacked = flat["clean"].clone()
    attacked[..., 40:, 80:] = 255
    return {**flat, "attacked": attacked}


def words_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    pen = ImageDraw.ImageDraw.text

    def text(self: Any, place: Any, line: str, *more: Any) -> None:
        written.append(line)
        pen(self, place, line, *more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def test_four_pictures_stand_side_by_side_above_where_the_attack_did_most(
    clips: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_on(monkeypatch)
    sheet = np.asarray(Image.open(draw(clips, "jpeg", SCORES, tmp_path / "a.png")))[..., 0]
    width = (sheet.shape[1] - 6 * GAP) // 4
    middles = [GAP + i * (width + GAP) + (i > 1) * GAP + width // 2 for i in range(4)]
    columns = [sheet[:, x] for x in middles]
    for column, shade in zip(columns, SHADES.values(), strict=False):
        assert (column == shade).sum() > 0.75 * width  # the whole picture and its enlarged part, both 3:2
    assert (columns[3] == 160).sum() > 0.3 * width and (columns[3] == 255)[-120:].sum() > 60
    text = " ".join(words)
    for said in (
        "what jpeg makes of it",
        "A: your photo",
        "PSNR 36.0 dB",
        "PSNR 31.2 dB, 384 bytes",
        "27.5 dB, 768 bytes",
    ):
        assert said in text


def test_a_stream_that_cannot_be_decoded_is_grey_and_a_codec_without_bytes_says_none(
    clips: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_on(monkeypatch)
    del clips["attacked"]
    path = draw(
        clips, "mine", {**SCORES, "adv_psnr": math.nan, "bpp": math.nan, "adv_bpp": math.nan}, tmp_path / "a.png"
    )
    assert (np.asarray(Image.open(path))[-200, -60:-20] == GREY).all()
    assert "could not be decoded" in words and not any("bytes" in line or "nan" in line for line in words)


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (32, 32), (181, 362)])
def test_photos_of_every_shape_keep_it(shape: tuple[int, int], tmp_path: Path) -> None:
    gen = torch.Generator().manual_seed(0)
    clips = {
        name: torch.randint(0, 256, (1, 3, *shape), generator=gen, dtype=torch.uint8) for name in (*SHADES, "attacked")
    }
    with Image.open(draw(clips, "jpeg", SCORES, tmp_path / "a.png")) as sheet:
        assert sheet.width > 4 * 320 and sheet.height > 320 * shape[0] / shape[1] + 200
