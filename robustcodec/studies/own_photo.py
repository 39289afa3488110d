"""The whole story on one photo of the user's own: what is attacked, how, and on which codecs.

The photo is made small enough for a minute on two cores, and kept in the run folder, so that the run is one like any
other: it resumes, and is reported on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from robustcodec import registry
from robustcodec.data._images import read_image
from robustcodec.data._video import VIDEO_SUFFIXES
from robustcodec.errors import BadData, StoreError
from robustcodec.files import on_disk
from robustcodec.running.grid import Grid
from robustcodec.spec import Spec

CODECS = ("bmshj2018-factorized.tiny-q2", "bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2")
DEFENDED = CODECS[1]
CLASSICAL = "jpeg:quality=20"
DEFENSE = "self-ensemble"
BY_GRADIENT, BY_TRANSFORM, BY_QUERIES = "pgd:steps=20", "jpeg-dct:steps=5", "block-search:queries=100"
PIXELS = 256 * 256  # that are attacked at most
LONGEST = 2  # times as long as wide, at most
LEAST = 32  # pixels of a side


@dataclass(frozen=True)
class Photo:
    """``path``: the picture that is attacked; ``note``: what was done to the user's own to get it, if anything."""

    path: Path
    note: str = ""


def prepare(file: Path, folder: Path) -> Photo:
    """An upright RGB picture of :data:`PIXELS` or fewer made from ``file``, as a PNG in ``folder``.

    Raises :class:`BadData` for what is no photo, :class:`StoreError` if ``folder`` cannot take it or has another photo
    of that name.
    """
    if file.is_dir():
        raise BadData(f"{file} is a folder; quickstart takes one photo. For all of it: robustcodec run --data folder:…")
    if file.suffix.lower() in VIDEO_SUFFIXES:
        raise BadData(
            f"{file} is a video; quickstart takes one photo. For a clip: "
            f"robustcodec attack {file} --codec rdae.tiny-q2 --frames 8 --crop 96"
        )
    clip = read_image(file, convert=True)
    height, width = clip.shape[-2:]
    if min(height, width) < LEAST:
        raise BadData(f"{file} has {width}x{height} pixels; expected {LEAST} or more on each side: give a larger photo")
    picture, notes = _fitted(clip)
    path = folder / f"{file.stem}.png"
    if path.exists() and path.samefile(file):
        raise StoreError(f"{file} is in {folder}, where it would be replaced; give another --out")
    if path.exists() and _is_another(picture, path):
        raise StoreError(f"{folder} has the results of another photo called {path.name}; give another --out")
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(path, format="PNG")
    size = f"{picture.width} x {picture.height} pixels"
    return Photo(path, f"{file} has {width} x {height} pixels: {' and '.join(notes)} to {size}" if notes else "")


def _is_another(picture: Image.Image, path: Path) -> bool:
    try:
        there = read_image(path)[0].permute(1, 2, 0).numpy()
    except BadData:  # what can be read no more is made again
        return False
    return not np.array_equal(there, np.asarray(picture))


def _fitted(clip: Tensor) -> tuple[Image.Image, list[str]]:
    """A uint8 clip ``(1, 3, H, W)`` as a picture that is small enough, and what was done to it."""
    picture = Image.fromarray(np.ascontiguousarray(clip[0].permute(1, 2, 0).numpy()))
    notes = []
    width, height = (min(side, LONGEST * min(picture.size)) for side in picture.size)
    if (width, height) != picture.size:
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
        notes.append("its middle was cut out")
    if width * height > PIXELS:
        scale = math.sqrt(PIXELS / (width * height))
        size = int(scale * width), int(scale * height)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        notes.append("it was shrunk")
    return picture, notes


def grid(photo: Path, codecs: Sequence[str], threat: str) -> Grid:
    """Each of ``codecs`` and a classical one under an attack that knows it; where the defense can be attacked by
    gradients it is also met by an attacker who knows it and by one who does not.

    Without ``codecs``: :data:`CODECS`. Raises :class:`UserError` for a name that is none.
    """
    chosen = list(codecs) or list(CODECS)
    data = str(Spec("file", None, (("path", str(photo)),)))
    common = {"threat": [threat], "data": [data]}
    attacks = {codec: _attack(codec) for codec in (*chosen, CLASSICAL)}
    blocks = [{"codec": [codec], "attack": [attack], **common} for codec, attack in attacks.items()]
    by_gradient = [codec for codec in chosen if attacks[codec] == BY_GRADIENT]
    if by_gradient:
        defended = DEFENDED if DEFENDED in by_gradient else by_gradient[0]
        known = {"defense": [DEFENSE], "access": ["oblivious", "adaptive"]}
        blocks.append({"codec": [defended], "attack": [BY_GRADIENT], **known, **common})
    return Grid("quickstart", tuple(blocks))


def _attack(codec: str) -> str:
    """A strong attack of what the codec lets an attacker see."""
    victim = registry.codecs.build(codec)
    if victim.differentiable:
        return BY_GRADIENT
    return BY_QUERIES if victim.transform is None else BY_TRANSFORM
