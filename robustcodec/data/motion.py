"""Clips made from photographs: ``clips``, which ships, and ``motion:PATH``.

The motion is synthetic, over real pictures: a camera pans, zooms and turns over a photograph, while a soft-edged
elliptical cut-out of another photograph moves on its own path. Positions are sub-pixel, and bicubically interpolated
from a source that is low-pass filtered first, so there is no aliasing. Everything is computed in float64 on the CPU, so
that the same names, index and seed give the same pixels everywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcodec.data._images import IMAGE_SUFFIXES, image_size, read_image
from robustcodec.data._video import box_downscale
from robustcodec.data.folders import Folder
from robustcodec.data.photos import Photos, whole
from robustcodec.errors import BadData
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data

MAX_SPEED = 6.0  # pixels per frame, mean over the clip; accelerations add up to a quarter at one end
STILL = 0.25  # share of the clips whose camera does not move
ENLARGED = 4 / 3  # a photograph that is too small for a motion is enlarged this much at most; then the motion is slower
MARGIN = 2  # pixels that bicubic interpolation needs around a picture
EDGE = 3.0  # pixels over which the foreground fades in


def in_motion(photo: Tensor, foreground: Tensor, frames: int, size: int, key: str) -> Tensor:
    """A clip of uint8 ``(frames, 3, size, size)`` over ``photo``, with a cut-out of ``foreground`` moving across it.

    Both pictures are uint8 ``(3, H, W)`` with sides of at least ``size``; ``key`` seeds the motion. Displacements
    between frames are 0 to about 6 pixels; in a quarter of all clips only the foreground moves.
    """
    for picture in (photo, foreground):
        if min(picture.shape[-2:]) < size:
            raise ValueError(f"a photo of {picture.shape[-1]}x{picture.shape[-2]} pixels; expected sides of {size}")
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 1)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    background = _camera(photo.double(), frames, size, draw)
    moving, alpha = _foreground(foreground.double(), frames, size, draw)
    return torch.lerp(background, moving, alpha).clamp(0, 255).round().to(torch.uint8)


def warp(picture: Tensor, x: Tensor, y: Tensor, angle: Tensor, scale: Tensor, size: int) -> Tensor:
    """``(T, C, size, size)`` views of ``picture (C, H, W)``, by bicubic interpolation (Keys, a = −0.75).

    In view ``t`` the centre shows column ``x[t]``, row ``y[t]`` of the picture; a step of one pixel in the view is
    one of ``scale[t]`` pixels in the picture, turned by ``angle[t]`` radians.
    """
    height, width = picture.shape[-2:]
    dx, dy = _turned(angle, *_offsets(size, x))
    columns = x[:, None, None] + scale[:, None, None] * dx
    rows = y[:, None, None] + scale[:, None, None] * dy
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], dim=-1)
    tall = F.grid_sample(
        picture[None], grid.flatten(0, 1)[None], mode="bicubic", padding_mode="border", align_corners=True
    )
    return tall[0].view(-1, len(x), size, size).transpose(0, 1)


def _camera(photo: Tensor, frames: int, size: int, draw: Callable[[float, float], float]) -> Tensor:
    """Views of ``photo`` along a smooth path that never leaves it."""
    still = draw(0, 1) < STILL
    speed, direction = draw(0, MAX_SPEED), draw(0, 2 * math.pi)
    zoom, turn = draw(-0.01, 0.01), draw(-0.01, 0.01)  # per frame: relative, radians
    time = _time(frames, draw(-0.5, 0.5))
    amount, place, closeness = 0.0 if still else 1.0, (draw(0, 1), draw(0, 1)), draw(0, 1)
    while True:
        x, y = (amount * speed * time * f(direction) for f in (math.cos, math.sin))
        scale, angle = torch.exp(amount * zoom * time), amount * turn * time
        low, high = _reach(x, y, angle, scale, size)
        fit = _fit(photo, high - low)
        if fit * ENLARGED >= 1 or amount == 0:
            break
        amount = 0.8 * amount if amount > 0.01 else 0.0
    wanted = 1 + closeness * (fit - 1) if fit > 1 else fit
    shrink = wanted * float(scale.max())
    if shrink > 1:  # low-pass filter to the coarsest view's resolution: every view then enlarges
        shape = [max(size, round(side / shrink)) for side in photo.shape[-2:]]
        photo = F.interpolate(photo[None], shape, mode="bicubic", antialias=True)[0].clamp(0, 255)
        wanted /= shrink
    step = min(wanted, _fit(photo, high - low))
    spare = torch.tensor([photo.shape[-1], photo.shape[-2]]) - 1 - 2 * MARGIN - step * (high - low)
    left, top = MARGIN + spare * torch.tensor(place, dtype=torch.float64) - step * low
    return warp(photo, left + step * x, top + step * y, angle, step * scale, size)


def _foreground(
    picture: Tensor, frames: int, size: int, draw: Callable[[float, float], float]
) -> tuple[Tensor, Tensor]:
    """A moving ellipse of ``picture``: its pixels ``(T, 3, size, size)`` and its opacity ``(T, 1, size, size)``."""
    wide = size * draw(0.12, 0.22)
    narrow = wide * draw(0.6, 1)
    speed = min(draw(1, MAX_SPEED), 0.5 * size / frames)  # its centre stays in the picture
    direction, heading, turn = draw(0, 2 * math.pi), draw(0, 2 * math.pi), draw(-0.03, 0.03)
    time = _time(frames, draw(-0.5, 0.5))
    x, y = (draw(-0.25, 0.25) * size + speed * time * f(direction) for f in (math.cos, math.sin))
    angle = heading + turn * time
    height, width = picture.shape[-2:]
    columns, rows = (wide + MARGIN + draw(0, 1) * (side - 1 - 2 * (wide + MARGIN)) for side in (width, height))
    away_x, away_y = _turned(angle, -x[:, None, None], -y[:, None, None])
    centre = columns + away_x[:, 0, 0], rows + away_y[:, 0, 0]
    pixels = warp(picture, *centre, angle, torch.ones_like(time), size)
    across, down = _offsets(size, time)
    dx, dy = _turned(angle, across - x[:, None, None], down - y[:, None, None])
    inside = narrow * (1 - torch.hypot(dx / wide, dy / narrow)) / EDGE
    alpha = inside.clamp(0, 1)
    return pixels, (alpha * alpha * (3 - 2 * alpha))[:, None]


def _time(frames: int, gain: float) -> Tensor:
    """Frame numbers counted from the middle of the clip, running by ``gain`` faster at its end than at its start."""
    last = max(1, frames - 1)
    t = torch.arange(frames, dtype=torch.float64)
    return t + gain * (t * t / (2 * last) - t / 2) - (frames - 1) / 2


def _offsets(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Columns ``(1, 1, size)`` and rows ``(1, size, 1)`` counted from the centre of a picture."""
    ticks = torch.arange(size, dtype=like.dtype) - (size - 1) / 2
    return ticks[None, None, :], ticks[None, :, None]


def _turned(angle: Tensor, dx: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets turned by ``angle (T,)``."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return cos * dx - sin * dy, sin * dx + cos * dy


def _reach(x: Tensor, y: Tensor, angle: Tensor, scale: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest ``(column, row)`` that any corner of any view comes to."""
    corner = torch.tensor([-(size - 1) / 2, (size - 1) / 2], dtype=torch.float64)
    dx, dy = _turned(angle, corner[None, None, :], corner[None, :, None])
    columns, rows = (at[:, None, None] + scale[:, None, None] * d for at, d in ((x, dx), (y, dy)))
    return torch.stack([columns.min(), rows.min()]), torch.stack([columns.max(), rows.max()])


def _fit(picture: Tensor, extent: Tensor) -> float:
    """How many pixels of ``picture`` a step of one can be if ``extent`` steps are to stay inside its margin."""
    height, width = picture.shape[-2:]
    return min(float((side - 1 - 2 * MARGIN) / e) for side, e in zip((width, height), extent, strict=True))


def _sample(
    name: str, photo: Path, other: Path, frames: int, size: int, key: str, read: Callable[[Path], Tensor]
) -> Sample:
    def load() -> Tensor:
        return in_motion(read(photo)[0], read(other)[0], frames, size, key)

    return Sample(name, load)  # without a source: its pixels, not the photo's bytes, are its identity


def _check(frames: int, size: int) -> None:
    if frames < 1 or size < 16:
        raise ValueError(f"frames={frames}, size={size}; expected at least 1 frame of 16 pixels")


@data.register("clips")
@dataclass(frozen=True)
class Clips(DataSet):
    """Synthetic motion over the photographs that ship with scikit-image, one clip per photograph.

    The clips are made from the data set ``photos``. ``frames``: their length in frames. ``size``: the side of their
    square frames in pixels (16 to 300). Nothing in them was filmed: camera and foreground move as this file makes them.
    For results about real video use real video (``folder:PATH``, ``uvg``).
    """

    frames: int = 16
    size: int = 128

    def __post_init__(self) -> None:
        _check(self.frames, self.size)
        if self.size > 300:
            raise ValueError(f"size={self.size}; expected at most 300, the shorter side of the smallest photo")

    def samples(self) -> list[Sample]:
        photos = {s.id: s.source for s in Photos().samples() if s.source}
        names = list(photos)
        return [
            _sample(f"{name}-in-motion", photos[name], photos[other], self.frames, self.size, name, whole)
            for name, other in zip(names, names[1:] + names[:1], strict=True)
        ]


@data.register("motion")
@dataclass(frozen=True)
class MotionOverPhotos(DataSet):
    """Synthetic motion over the photographs below a folder, for training.

    ``path``: the folder. ``per_photo``: number of different clips of each photograph. ``frames``, ``size``: their
    length in frames and the side of their square frames in pixels. ``seed`` decides the motion. Photographs are first
    shrunk by ``downscale`` (means of k×k pixels); those that are then smaller than ``size`` are left out. The moving
    foreground is cut out of another photograph, or of the same one if there is no other. ``convert`` is as in
    ``folder``.
    """

    path: str
    frames: int = 16
    size: int = 160
    per_photo: int = 1
    seed: int = 0
    downscale: int = 1
    convert: bool = False

    immaterial = ("convert",)

    def __post_init__(self) -> None:
        _check(self.frames, self.size)
        if self.per_photo < 1 or self.downscale < 1:
            raise ValueError(f"per_photo={self.per_photo}, downscale={self.downscale}; expected at least 1")

    def samples(self) -> list[Sample]:
        photos = {
            s.id: s.source
            for s in Folder(self.path).samples()
            if s.source and s.source.suffix.lower() in IMAGE_SUFFIXES
        }
        large = [n for n, path in photos.items() if min(image_size(path)) // self.downscale >= self.size]
        if not large:
            raise BadData(
                f"none of {len(photos)} images in {self.path} has sides of {self.size * self.downscale} pixels; "
                "give larger ones, a smaller size=… or a smaller downscale=…"
            )

        def read(path: Path) -> Tensor:
            return box_downscale(read_image(path, self.convert), self.downscale)

        found = []
        for i, name in enumerate(large):
            for index in range(self.per_photo):
                other = large[(i + 1 + index) % len(large)]
                key = f"{self.seed}/{name}/{index}"
                sample = f"{name}-in-motion-{index}" if self.per_photo > 1 else f"{name}-in-motion"
                pair = photos[name], photos[other]
                found.append(_sample(sample, *pair, self.frames, self.size, key, read))
        return found
