"""Reading and writing 8-bit RGB images, and folders of numbered ones, through Pillow."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcodec.errors import BadData

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")


def read_image(path: Path) -> Tensor:
    """An 8-bit RGB image as uint8 ``(1, 3, H, W)``; raises :class:`BadData` for anything else."""
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise BadData(f"no image at {path}")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty (0 bytes); expected an 8-bit RGB image")
    try:
        with Image.open(path) as image:
            mode, kind = image.mode, image.format
            image.load()
            pixels = np.array(image)
    except UnidentifiedImageError:
        raise BadData(f"{path} is not an image that Pillow can read; expected PNG, JPEG, WebP …") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadData(f"{path} is damaged or cut short ({error}); replace or remove it") from None
    if mode != "RGB" or pixels.dtype != np.uint8:
        what = {"CMYK": "CMYK", "L": "greyscale", "RGBA": "RGB with transparency", "P": "palette", "LA": "greyscale"}
        found = what.get(mode, "16-bit" if mode.startswith("I") else f"mode {mode}")
        raise BadData(f"{path} is a {found} image; expected 8-bit RGB. Convert it first, for example to an RGB PNG")
    if kind == "PNG" and _png_depth(path) > 8:
        raise BadData(f"{path} is a 16-bit image; expected 8-bit RGB. Convert it first, for example to an RGB PNG")
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image from its header alone; raises :class:`BadData` if Pillow knows no such image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise BadData(f"{path} is not an image that Pillow can read ({error}); replace or remove it") from None


def _png_depth(path: Path) -> int:
    """Bits per channel from the IHDR chunk: Pillow silently reduces 16-bit RGB to 8."""
    with path.open("rb") as file:
        return file.read(25)[24]


def write_image(clip: Tensor, path: Path) -> None:
    """Write a uint8 clip ``(1, 3, H, W)`` as PNG."""
    from PIL import Image

    Image.fromarray(clip[0].permute(1, 2, 0).cpu().numpy()).save(path, format="PNG")


def read_sequence(folder: Path, frames: int = 0, start: int = 0) -> Tensor:
    """Numbered images of a folder in natural order (2 before 10) as uint8 ``(T, 3, H, W)``; ``frames=0``: all.

    Raises :class:`BadData` for fewer images, images that cannot be used or are not all of one size.
    """
    paths = sequence_paths(folder)[start : start + frames if frames else None]
    if not paths or len(paths) < frames:
        asked = f"{frames} images" if frames else "images"
        raise BadData(f"{folder} has {len(paths)} images from number {start} on, counted from 0; expected {asked}")
    clip = None
    for i, path in enumerate(paths):
        image = read_image(path)[0]
        if clip is None:
            clip = torch.empty(len(paths), *image.shape, dtype=torch.uint8)
        elif clip.shape[1:] != image.shape:
            (height, width), (found_h, found_w) = clip.shape[-2:], image.shape[-2:]
            raise BadData(f"{path} has {found_w}x{found_h} pixels; {paths[0].name} beside it has {width}x{height}")
        clip[i] = image
    assert clip is not None
    return clip


def sequence_paths(folder: Path) -> list[Path]:
    """The images directly in ``folder`` in natural order; raises :class:`BadData` if it is no folder."""
    if not folder.is_dir():
        raise BadData(f"{folder} is not a folder; expected a folder of numbered images")
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural(p.name))


def natural(name: str) -> tuple[tuple[int | str, ...], str]:
    """Sorts names with numbers by the numbers: im2 before im10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)), name
