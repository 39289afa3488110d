"""An attacked clip as a video: inputs above, what the decoder makes of them below, and what differs, amplified.

The changes of the input and of the output are amplified alike: what is seen in one and not in the other is the codec's
doing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from robustcodec.clips import to_float
from robustcodec.data._video import box_downscale, write_mp4, write_webp
from robustcodec.errors import BadData
from robustcodec.files import on_disk
from robustcodec.reporting._drawing import GAIN, GAP, GREY, PANEL_WIDTH, font_of
from robustcodec.scores import temporal

WIDEST = 640  # pixels of a panel; larger frames are averaged
PREVIEW_WIDTH = 960  # pixels of the preview


def side_by_side(clips: Mapping[str, Tensor], folder: Path, name: str, fps: float = 30) -> list[Path]:
    """Write ``NAME.mp4`` (H.264) and ``NAME.webp``, a smaller preview that repeats; gives their paths.

    Above: the original, the attacked input, the perturbation ×10 about mid-grey; below: the clean and the attacked
    reconstruction and their difference, likewise. PSNR in dB of each frame is against the original. ``clips``:
    ``original``, ``adversarial``, ``clean`` and, if it could be decoded, ``attacked``, uint8 ``(T, 3, H, W)``.

    Raises :class:`BadData` for other clips, :class:`StoreError` if the files cannot be written.
    """
    sheet = frames(clips)
    paths = [folder / f"{name}.mp4", folder / f"{name}.webp"]
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_mp4(sheet, paths[0], fps)
        write_webp(box_downscale(sheet, math.ceil(sheet.shape[-1] / PREVIEW_WIDTH)), paths[1], fps)
    return paths


def frames(clips: Mapping[str, Tensor]) -> Tensor:
    """The frames of :func:`side_by_side`: uint8 ``(T, 3, H', W')`` with even sides."""
    original, adversarial, clean = (_checked(clips, name) for name in ("original", "adversarial", "clean"))
    attacked = _checked(clips, "attacked") if "attacked" in clips else None
    grey = torch.full_like(original, GREY)
    panels = [
        (original, ["original"] * len(original)),
        (adversarial, _scored("attacked input", original, adversarial)),
        (_amplified(adversarial, original), [f"change of the input x {GAIN}"] * len(original)),
        (clean, _scored("clean reconstruction", original, clean)),
        (grey, ["attacked: could not be decoded"] * len(original))
        if attacked is None
        else (attacked, _scored("attacked reconstruction", original, attacked)),
        (grey if attacked is None else _amplified(attacked, clean), [f"change of the output x {GAIN}"] * len(original)),
    ]
    pixels = [_sized(clip) for clip, _ in panels]
    height, width = pixels[0].shape[-2:]
    font = font_of(max(14, width // 22))
    step = math.ceil(1.15 * sum(font.getmetrics()))
    size = 3 * width + 4 * GAP, 2 * (step + height + GAP) + GAP
    size = size[0] + size[0] % 2, size[1] + size[1] % 2  # 4:2:0 video has even sides
    out = torch.empty(len(original), 3, size[1], size[0], dtype=torch.uint8)
    for t in range(len(original)):
        sheet = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(sheet)
        for index, (clip, (_, labels)) in enumerate(zip(pixels, panels, strict=True)):
            row, column = divmod(index, 3)
            left, top = GAP + column * (width + GAP), GAP + row * (step + height + GAP)
            draw.text((left, top), labels[t], "black", font)
            sheet.paste(Image.fromarray(clip[t].permute(1, 2, 0).contiguous().numpy()), (left, top + step))
        out[t] = torch.from_numpy(np.asarray(sheet).copy()).permute(2, 0, 1)
    return out


def _checked(clips: Mapping[str, Tensor], name: str) -> Tensor:
    clip = clips.get(name)
    if clip is None or clip.ndim != 4 or clip.shape != clips["original"].shape or clip.dtype != torch.uint8:
        given = "nothing" if clip is None else f"shape {tuple(clip.shape)}, {clip.dtype}"
        raise BadData(f"{given} was given as the clip {name!r}; expected uint8 (T, 3, H, W), all alike")
    return clip.cpu()


def _scored(label: str, original: Tensor, clip: Tensor) -> list[str]:
    """A label for each frame, with its PSNR."""
    return [f"{label}  {v:.1f} dB" for v in temporal.psnr(to_float(original)[None], to_float(clip)[None])[0].tolist()]


def _amplified(clip: Tensor, reference: Tensor) -> Tensor:
    return (GREY + GAIN * (clip.to(torch.int16) - reference)).clamp(0, 255).to(torch.uint8)


def _sized(clip: Tensor) -> Tensor:
    """Enlarged by a whole factor to :data:`PANEL_WIDTH` or more, or reduced by one to :data:`WIDEST` or less."""
    width = clip.shape[-1]
    if width > WIDEST:
        return box_downscale(clip, math.ceil(width / WIDEST))
    factor = math.ceil(PANEL_WIDTH / width)
    return F.interpolate(clip, scale_factor=factor, mode="nearest")
