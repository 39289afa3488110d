"""Close-ups: a frame, and one enlarged region of it as several codecs decode it at a similar rate.

As in Fig. 5 of Veerabadran et al., "Adversarial Distortion for Learned Video Compression", CVPRW 2020
(https://arxiv.org/abs/2004.09508). Pixels are repeated, never smoothed. The same input gives the same bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from robustcodec.clips import to_float
from robustcodec.coding import code, judged
from robustcodec.errors import BadData
from robustcodec.files import write_whole
from robustcodec.interfaces import Metric, Sample
from robustcodec.reporting._drawing import GAP, font_of, wrap
from robustcodec.reporting.pictures import COLOURS
from robustcodec.reporting.text import shown

SHARE = 4  # the region's width and height are this part of the frame's
SMALLEST = 16  # pixels of a region's side
CROP_WIDTH = 320  # pixels at least of an enlarged region
FRAME_WIDTH = 960  # pixels at most of the whole frame beside the regions
LINE = 3  # pixels of the box's outline
BOX_COLOUR = COLOURS[4]


@dataclass(frozen=True)
class Box:
    """A region of a frame in pixels."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Box:
        """``"LEFT,TOP,WIDTH,HEIGHT"``; raises :class:`BadData`."""
        parts = text.split(",")
        if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
            raise BadData(f"{text!r} is no region; expected LEFT,TOP,WIDTH,HEIGHT in pixels, such as 120,40,96,64")
        return cls(*map(int, parts))

    def cut(self, frame: Tensor) -> Tensor:
        """The region of a frame ``(3, H, W)``; raises :class:`BadData` if it is not inside."""
        height, width = frame.shape[-2:]
        inside = self.left + self.width <= width and self.top + self.height <= height
        if not inside or min(self.left, self.top, self.width - 1, self.height - 1) < 0:
            raise BadData(f"{self} is not inside a frame of {width}x{height} pixels; give another region")
        return frame[:, self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Picture:
    """A uint8 frame ``(3, H, W)`` and what is written below it."""

    frame: Tensor
    lines: Sequence[str]


def nearest(rows: pd.DataFrame, bpp: float) -> pd.DataFrame:
    """Of each ladder the row whose ``bpp`` is nearest to the one asked for, as a ratio; ladders keep their order."""
    rows = rows.assign(distance=np.abs(np.log(rows["bpp"] / bpp)))
    return rows.sort_values("distance", kind="stable").drop_duplicates("ladder").sort_index().drop(columns="distance")


def of_clip(
    rows: pd.DataFrame,
    sample: Sample,
    number: int | None,
    bpp: float,
    metrics: Sequence[Metric],
    folder: Path,
    box: Box | None = None,
    device: str = "cpu",
) -> Path:
    """Write ``closeup-CLIP-FRAME.png``: of each ladder the codec nearest to ``bpp`` on this clip, coded again.

    ``rows``: of :func:`~robustcodec.studies.compare.compare`; ``number``: of the frame, from 0; ``None``: the one in
    the middle. Sizes are of the clip, scores of the frame. Raises :class:`BadData` if there is no such frame or
    nothing was measured.
    """
    clip = sample.load()
    number = len(clip) // 2 if number is None else number
    if number >= len(clip):
        raise BadData(f"{sample.id} has no frame {number}; expected 0 to {len(clip) - 1}")
    chosen = nearest(rows[rows["clip"] == sample.id], bpp)
    if chosen.empty:
        raise BadData(f"nothing could be measured on {sample.id}; choose another clip for the close-up")
    x = to_float(clip[number])[None, None].to(device)
    pictures = []
    for row in chosen.to_dict("records"):
        frame = code(judged(row["codec"], device=device), clip, device).decoded()[number]
        x_hat = to_float(frame)[None, None].to(device)
        scores = [(metric, metric.fn(x, x_hat).item()) for metric in metrics]
        captions = [f"{m.column.label} {shown(v, m.digits)} {m.unit}".strip() for m, v in scores if not math.isnan(v)]
        pictures.append(Picture(frame, [row["codec"], f"{row['bpp']:.4f} bpp", *captions]))
    title = f"{sample.id}, frame {number}, near {bpp:g} bpp (rates of the clip, scores of the frame)"
    path = folder / f"closeup-{re.sub(r'[^A-Za-z0-9.+=-]+', '_', sample.id)}-{number}.png"
    return closeup(Picture(clip[number], ["original"]), pictures, title, path, box)


def hardest(original: Tensor, decoded: Sequence[Tensor]) -> Box:
    """A quarter of width and height where the decoded frames err most, the first such place in reading order.

    The squared errors of each are divided by their mean over the frame, so that the worst codec does not decide
    alone. Codecs err where there is texture and motion. Frames are uint8 ``(3, H, W)``.
    """
    errors = (torch.stack(list(decoded)).double() - original).square().mean(1)
    shares = (errors / errors.mean((1, 2), keepdim=True).clamp(min=1e-9)).sum(0)
    height, width = (min(side, max(SMALLEST, side // SHARE)) for side in shares.shape)
    means = F.avg_pool2d(shares[None, None], (height, width), stride=1)[0, 0]
    top, left = divmod(int(means.flatten().argmax()), means.shape[1])
    return Box(left, top, width, height)


def closeup(original: Picture, pictures: Sequence[Picture], title: str, path: Path, box: Box | None = None) -> Path:
    """A PNG: the original frame with a box around the region, and the region enlarged in the original and in each of
    ``pictures``, with their captions. ``box=None``: :func:`hardest`.

    Raises :class:`BadData` for frames of several sizes or a box outside, :class:`StoreError` if ``path`` cannot be
    written.
    """
    shown = [original, *pictures]
    shape = tuple(original.frame.shape)
    for picture in shown:
        if tuple(picture.frame.shape) != shape or len(shape) != 3 or picture.frame.dtype != torch.uint8:
            raise BadData(
                f"a frame of shape {tuple(picture.frame.shape)}, {picture.frame.dtype} was given; "
                "expected uint8 (3, H, W), all alike"
            )
    box = box or hardest(original.frame, [picture.frame for picture in pictures])
    regions = [box.cut(picture.frame) for picture in shown]
    factor = max(2, math.ceil(CROP_WIDTH / box.width))
    crops = [enlarged(region, factor) for region in regions]
    width, height = crops[0].size
    font, title_font = font_of(17), font_of(20)
    step, title_step = (math.ceil(1.15 * sum(f.getmetrics())) for f in (font, title_font))
    texts = [[line for part in picture.lines for line in wrap(part, font, width)] for picture in shown]
    rows = 1 if len(shown) <= 4 else 2  # the sheet stays wide
    columns = math.ceil(len(shown) / rows)
    below = step * max(map(len, texts)) + GAP
    whole = boxed(original.frame, box, rows * height + (rows - 1) * below)
    total = whole.width + columns * (width + GAP) + 2 * GAP
    head = wrap(title, title_font, total - 2 * GAP)
    top = GAP + title_step * len(head) + GAP // 2
    tall = max(whole.height + GAP, rows * (height + below))
    sheet = Image.new("RGB", (total, top + tall), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        draw.text((GAP, GAP + number * title_step), line, "black", title_font)
    sheet.paste(whole, (GAP, top))
    for index, (crop, lines) in enumerate(zip(crops, texts, strict=True)):
        row, column = divmod(index, columns)
        x, y = whole.width + 2 * GAP + column * (width + GAP), top + row * (height + below)
        sheet.paste(crop, (x, y))
        for number, line in enumerate(lines):
            draw.text((x, y + height + GAP // 3 + number * step), line, "black", font)
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
    return path


def _array(frame: Tensor) -> NDArray[np.uint8]:
    return frame.permute(1, 2, 0).contiguous().cpu().numpy()


def enlarged(frame: Tensor, factor: int) -> Image.Image:
    """A uint8 frame ``(3, H, W)`` of which each pixel is shown as ``factor`` × ``factor``."""
    picture = Image.fromarray(_array(frame))
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def boxed(frame: Tensor, box: Box, height: int) -> Image.Image:
    """The whole frame as tall as ``height`` but no wider than :data:`FRAME_WIDTH`, with the box drawn."""
    picture = Image.fromarray(_array(frame))
    scale = min(height / picture.height, FRAME_WIDTH / picture.width)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top, right, bottom = (
        round(scale * v) for v in (box.left, box.top, box.left + box.width, box.top + box.height)
    )
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - LINE - 1, top - LINE - 1, right + LINE, bottom + LINE), outline="black", width=LINE + 2)
    draw.rectangle((left - LINE, top - LINE, right + LINE - 1, bottom + LINE - 1), outline=BOX_COLOUR, width=LINE)
    return picture
