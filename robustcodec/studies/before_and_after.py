"""One picture that tells of an attack without a word of theory: what went in, what came out, and where it broke."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont
from torch import Tensor

from robustcodec.files import write_whole
from robustcodec.reporting._drawing import GAP, GREY, font_of, wrap
from robustcodec.studies.compare_closeups import boxed, enlarged, hardest

PANEL = 320  # pixels of width at least


def draw(clips: Mapping[str, Tensor], codec: str, scores: Mapping[Any, Any], path: Path) -> Path:
    """A PNG: the photo, the attacked photo and what the codec makes of each side by side, and below each its part
    where the attack did most, enlarged.

    ``clips``: ``original``, ``adversarial``, ``clean`` and, if it could be decoded, ``attacked``, uint8
    ``(1, 3, H, W)``. ``scores``: ``input_psnr``, ``psnr`` and ``adv_psnr`` in dB, ``bpp`` and ``adv_bpp``, which are
    NaN of a codec without bytes. Raises :class:`StoreError` if ``path`` cannot be written.
    """
    frames = [clips[name][0] for name in ("original", "adversarial", "clean")]
    frames.append(clips["attacked"][0] if "attacked" in clips else torch.full_like(frames[0], GREY))
    box = hardest(frames[2], frames[3:])
    closeups = [enlarged(box.cut(frame), math.ceil(PANEL / box.width)) for frame in frames]
    width, tall = closeups[0].width, frames[0].shape[-2] / frames[0].shape[-1]
    wholes = [boxed(frame, box, round(width * tall)).resize((width, round(width * tall))) for frame in frames]
    font, large = font_of(18), font_of(26)
    total = 4 * width + 6 * GAP
    titles = wrap(f"An attacked photo, and what {codec} makes of it", large, total - 2 * GAP)
    captions = [[line for text in texts for line in wrap(text, font, width)] for texts in _captions(clips, scores)]
    foot = wrap(
        "Second row: the box, where the attack does most, enlarged. PSNR: how close it is to your photo, in dB; higher "
        "is better, and 3 dB less is twice the error.",
        font,
        total - 2 * GAP,
    )
    step, large_step = (math.ceil(1.2 * sum(f.getmetrics())) for f in (font, large))
    captioned = GAP + large_step * len(titles) + GAP
    first = captioned + step * max(map(len, captions)) + GAP // 2
    second = first + wholes[0].height + GAP
    below = second + closeups[0].height + GAP // 2
    sheet = Image.new("RGB", (total, below + step * len(foot) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    _write(pen, titles, GAP, GAP, large_step, large)
    _write(pen, foot, GAP, below, step, font)
    for i, (whole, closeup, lines) in enumerate(zip(wholes, closeups, captions, strict=True)):
        left = GAP + i * (width + GAP) + (i > 1) * GAP  # what went in stands apart from what came out
        _write(pen, lines, left, captioned, step, font)
        sheet.paste(whole, (left, first))
        sheet.paste(closeup, (left, second))
    data = BytesIO()
    sheet.save(data, "PNG")
    write_whole(path, data.getvalue())
    return path


def _captions(clips: Mapping[str, Tensor], scores: Mapping[Any, Any]) -> list[tuple[str, str]]:
    came_out = f"PSNR {scores['adv_psnr']:.1f} dB" if "attacked" in clips else "could not be decoded"
    pixels = clips["original"][0, 0].numel()
    clean, attacked = (
        f", {scores[rate] * pixels / 8:,.0f} bytes" if math.isfinite(scores[rate]) else ""
        for rate in ("bpp", "adv_bpp")
    )
    return [
        ("A: your photo", ""),
        ("B: the same photo, attacked", f"PSNR {scores['input_psnr']:.1f} dB"),
        ("A after the codec", f"PSNR {scores['psnr']:.1f} dB{clean}"),
        ("B after the codec", f"{came_out}{attacked}"),
    ]


def _write(pen: ImageDraw.ImageDraw, lines: list[str], left: int, top: int, step: int, font: FreeTypeFont) -> None:
    for number, line in enumerate(lines):
        pen.text((left, top + number * step), line, "black", font)
