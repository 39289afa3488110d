"""Reading and writing 8-bit RGB images, and folders of numbered ones, through Pillow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robustcodec.data._depth import beyond_8_bits
from robustcodec.errors import BadData

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
KINDS = {  # that are read, by their content, as Pillow calls them
    "PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "BMP": "BMP", "GIF": "GIF", "TIFF": "TIFF", "PPM": "PPM",
    "AVIF": "AVIF", "JPEG2000": "JPEG 2000",
}  # fmt: skip
MODES = {  # of Pillow, that have one meaning in RGB, and what they are called
    "RGB": "", "RGBA": "", "L": "greyscale", "LA": "greyscale", "1": "black-and-white", "P": "palette", "PA": "palette",
}  # fmt: skip
ORIENTATION, TURNED = 0x0112, range(2, 9)  # in EXIF data


def read_image(path: Path, convert: bool = False) -> Tensor:
    """An 8-bit RGB image as uint8 ``(1, 3, H, W)``; raises :class:`BadData` for anything else.

    ``convert`` also takes what has one obvious meaning: greyscale, black and white, palettes, pictures that are to be
    turned by their EXIF data, and the first picture of a JPEG with others behind it, which are a gain map or a preview.
    What is nowhere seen through is not transparent, whatever it could be.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise BadData(f"no image at {path}")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty (0 bytes); expected an 8-bit RGB image")
    try:
        if depth := beyond_8_bits(path):
            raise _unusable(path, f"a {depth} image", "magick IN -depth 8 OUT.png")
        with Image.open(path, formats=[*KINDS]) as image:
            pixels = np.array(_rgb(image, path, convert))
    except (BadData, MemoryError):
        raise
    except UnidentifiedImageError:
        *others, last = KINDS.values()
        expected = f"{', '.join(others)} or {last}"
        raise BadData(f"{path} is not an image that Pillow can read as 8-bit RGB; expected {expected}") from None
    except Exception as error:  # decoders raise whatever they like
        raise BadData(f"{path} is damaged or cut short ({error}); replace or remove it") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _rgb(image: Picture, path: Path, convert: bool) -> Picture:
    """An open image, upright and in RGB; raises :class:`BadData` if there is not one way to have it so."""
    from PIL.ImageOps import exif_transpose

    count = getattr(image, "n_frames", 1)
    with_others = count > 1 and image.format == "MPO"
    if count > 1 and not with_others:
        raise BadData(f"{path} holds {count} pictures; expected one. Save each as an RGB PNG of its own first")
    turned = image.getexif().get(ORIENTATION) in TURNED  # asked for now: a TIFF is turned by Pillow when it is loaded
    image.load()
    if image.mode not in MODES:
        kind = "CMYK" if image.mode == "CMYK" else f"mode {image.mode}"
        raise _unusable(path, f"a {kind} image", "magick IN -colorspace sRGB OUT.png")
    image = exif_transpose(image)
    if image.has_transparency_data:
        opacity = image.convert("RGBA").getchannel("A")
        if opacity.getextrema() != (255, 255):
            raise _unusable(path, "an image with transparency", "magick IN -background white -flatten OUT.png")
    oddity = MODES[image.mode] or ("turned" if turned else "multi-picture" if with_others else "")
    if oddity and not convert:
        raise BadData(
            f"{path} is a {oddity} image; expected 8-bit RGB. Save it as an RGB PNG, or in a grid give its data "
            "set convert=true"
        )
    return image.convert("RGBA").convert("RGB")  # at once, Pillow warns of palettes with colours that no pixel uses


def _unusable(path: Path, what: str, remedy: str) -> BadData:
    return BadData(f"{path} is {what}; expected 8-bit RGB. Convert it first: {remedy}")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image from its header alone; raises :class:`BadData` if Pillow knows no such image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise BadData(f"{path} is not an image that Pillow can read ({error}); replace or remove it") from None


def write_image(clip: Tensor, path: Path) -> None:
    """Write a uint8 clip ``(1, 3, H, W)`` as PNG."""
    from PIL import Image

    Image.fromarray(clip[0].permute(1, 2, 0).cpu().numpy()).save(path, format="PNG")


def read_sequence(folder: Path, frames: int = 0, start: int = 0, convert: bool = False) -> Tensor:
    """Numbered images of a folder in natural order (2 before 10) as uint8 ``(T, 3, H, W)``; ``frames=0``: all.
    ``convert``: as of :func:`read_image`.

    Raises :class:`BadData` for fewer images, images that cannot be used or are not all of one size.
    """
    paths = sequence_paths(folder)[start : start + frames if frames else None]
    if not paths or len(paths) < frames:
        asked = f"{frames} images" if frames else "images"
        raise BadData(f"{folder} has {len(paths)} images from number {start} on, counted from 0; expected {asked}")
    clip = None
    for i, path in enumerate(paths):
        image = read_image(path, convert)[0]
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
