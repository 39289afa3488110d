"""A file as a sample of a data set."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from robustcodec.clips import centre_crop
from robustcodec.data._images import read_image
from robustcodec.data._video import box_downscale, frame_rate, read_video
from robustcodec.errors import BadData
from robustcodec.interfaces import Sample


def image_sample(name: str, path: Path, crop: int = 0, downscale: int = 1, convert: bool = False) -> Sample:
    """An image file as a sample: means of ``downscale`` x ``downscale`` pixels, then the centre if ``crop`` > 0.
    ``convert``: as of :func:`robustcodec.data._images.read_image`.
    """

    def load() -> Tensor:
        clip = box_downscale(read_image(path, convert), downscale)
        return centre_crop(clip, crop) if crop else clip

    return Sample(name, load, path)


def video_sample(
    name: str, path: Path, frames: int = 0, start: int = 0, crop: int = 0, downscale: int = 1, size: str | None = None
) -> Sample:
    """Frames ``start`` … ``start + frames - 1`` of a video (``frames=0``: to its end) as a sample."""

    def load() -> Tensor:
        clip = read_video(path, frames, start, downscale, size)
        return centre_crop(clip, crop) if crop else clip

    try:
        fps = frame_rate(path)
    except BadData:  # loading it will say so
        fps = None
    return Sample(name, load, path, fps)
