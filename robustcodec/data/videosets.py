"""Sets of videos in their official layouts: ``sequences:PATH``, ``kinetics``, ``vimeo90k``, ``uvg``.

Nothing is downloaded, because the sets are large and come under their owners' licences. Each set is looked for in
``path`` or in an environment variable. If it is missing, the error says where to get it and which layout is expected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from torch import Tensor

from robustcodec.clips import centre_crop
from robustcodec.data._images import read_sequence, sequence_paths
from robustcodec.data._samples import video_sample
from robustcodec.data._video import VIDEO_SUFFIXES, box_downscale, count_frames, picture_size
from robustcodec.data._walking import files_below, folders_below
from robustcodec.errors import BadData
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data


@data.register("sequences")
@dataclass(frozen=True)
class Sequences(DataSet):
    """Folders of numbered images, each of which is one clip.

    ``path``: the folder at or below which they lie. A clip has the first ``frames`` images of its folder (0: all);
    folders with fewer are left out. Images are in natural order (2 before 10). ``downscale=k`` averages k×k pixels;
    ``crop`` > 0 then keeps the central square of that many pixels. ``convert`` is as in ``folder``.
    """

    path: str
    frames: int = 0
    downscale: int = 1
    crop: int = 0
    convert: bool = False

    immaterial = ("convert",)

    def __post_init__(self) -> None:
        _check(self.frames, self.downscale, self.crop)

    def samples(self) -> list[Sample]:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise BadData(f"{root} is not a folder; expected a folder with folders of numbered images")
        folders = sorted(folders_below(root))
        found = [
            _sequence(f.relative_to(root).as_posix() if f != root else root.resolve().name, f, self, self.convert)
            for f in folders
            if len(sequence_paths(f)) >= max(1, self.frames)
        ]
        if not found:
            raise BadData(f"no folder at or below {root} holds {self.frames or 1} images or more; expected im1.png …")
        return found


@data.register("kinetics")
@dataclass(frozen=True)
class Kinetics(DataSet):
    """Kinetics (https://arxiv.org/abs/1705.06950): the beginning of each clip, with old compression artefacts removed.

    ``path`` or ``$ROBUSTCODEC_KINETICS`` holds the folders of classes of a split. ``frames``: how many frames are taken
    of each clip. Frames are shrunk by the whole factor that brings their shorter side nearest to ``side`` pixels, by
    means of k×k pixels (``side=0``: not at all); ``crop`` > 0 then keeps the central square of that many pixels. Clips
    with fewer frames, or with a shorter side below ``at_least`` pixels, are left out (720 keeps those of high quality).
    ``limit`` > 0 stops after that many clips.
    """

    path: str | None = None
    frames: int = 16
    side: int = 256
    crop: int = 0
    at_least: int = 0
    limit: int = 0

    VARIABLE = "ROBUSTCODEC_KINETICS"
    HELP = (
        "Kinetics is not downloaded automatically (its clips belong to their authors; hundreds of GB). Get it from "
        "https://github.com/cvdfoundation/kinetics-dataset and sort a split's clips into folders of classes: "
        "PATH/abseiling/*.mp4 …"
    )

    def __post_init__(self) -> None:
        _check(self.frames, 1, self.crop)
        if min(self.side, self.at_least, self.limit) < 0:
            raise ValueError("expected side, at_least and limit of at least 0")

    def samples(self) -> list[Sample]:
        root = _root("kinetics", self.path, self.VARIABLE, self.HELP)
        found = list(islice(self._samples(root), self.limit or None))
        if not found:
            raise BadData(f"no clip PATH/class/*.mp4 in {root} has {self.frames} frames of that size. {self.HELP}")
        return found

    def _samples(self, root: Path) -> Iterator[Sample]:
        for path in sorted(p for p in root.glob("*/*") if p.suffix.lower() in VIDEO_SUFFIXES):
            shorter = min(picture_size(path)) if self.side or self.at_least else 0
            if shorter < self.at_least or count_frames(path, at_most=max(1, self.frames)) < max(1, self.frames):
                continue
            downscale = max(1, round(shorter / self.side)) if self.side else 1
            name = path.relative_to(root).with_suffix("").as_posix()
            yield video_sample(name, path, self.frames, crop=self.crop, downscale=downscale)


@data.register("vimeo90k")
@dataclass(frozen=True)
class Vimeo90k(DataSet):
    """Vimeo-90k septuplets (http://toflow.csail.mit.edu, https://arxiv.org/abs/1711.09078): 7 frames of 448x256.

    ``path`` or ``$ROBUSTCODEC_VIMEO90K`` holds ``sep_trainlist.txt``, ``sep_testlist.txt`` and
    ``sequences/00001/0001/im1.png`` …. ``split``: ``train`` or ``test``. ``frames`` takes the first frames, and
    ``downscale`` and ``crop`` are as in ``sequences``.
    """

    path: str | None = None
    split: Literal["train", "test"] = "test"
    frames: int = 7
    downscale: int = 1
    crop: int = 0

    VARIABLE = "ROBUSTCODEC_VIMEO90K"
    HELP = (
        "Vimeo-90k is not downloaded automatically (82 GB, research use). Get the septuplet set from "
        "http://toflow.csail.mit.edu and unpack it: PATH/sequences/00001/0001/im1.png … im7.png, "
        "PATH/sep_trainlist.txt, PATH/sep_testlist.txt"
    )

    def __post_init__(self) -> None:
        _check(self.frames, self.downscale, self.crop)
        if not 1 <= self.frames <= 7:
            raise ValueError(f"frames={self.frames}; expected 1 to 7, as many as a septuplet has")

    def samples(self) -> list[Sample]:
        root = _root("vimeo90k", self.path, self.VARIABLE, self.HELP)
        listing = root / f"sep_{self.split}list.txt"
        if not listing.is_file():
            raise BadData(f"no {listing.name} in {root}. {self.HELP}")
        names = listing.read_text(encoding="utf-8").split()
        if not names:
            raise BadData(f"{listing} is empty; expected names such as 00001/0001. {self.HELP}")
        return [_sequence(name, root / "sequences" / name, self) for name in names]


@data.register("uvg")
@dataclass(frozen=True)
class UVG(DataSet):
    """UVG (https://ultravideo.fi/dataset.html): the seven 1920x1080 sequences at 120 frames per second.

    ``path`` or ``$ROBUSTCODEC_UVG`` holds the sequences as ``.yuv``, ``.y4m`` or ``.mp4`` files, whose names begin with
    the official names. ``frames``: how many frames are taken from the beginning (0: all, which are 3.7 GB in 8 bits for
    one sequence). ``downscale=k`` averages k×k pixels; ``crop`` > 0 then keeps the central square of that many pixels.
    Source: Mercat et al., MMSys 2020, https://doi.org/10.1145/3339825.3394937.
    """

    path: str | None = None
    frames: int = 16
    downscale: int = 1
    crop: int = 0

    VARIABLE = "ROBUSTCODEC_UVG"
    NAMES = ("Beauty", "Bosphorus", "HoneyBee", "Jockey", "ReadySteadyGo", "ShakeNDry", "YachtRide")
    ALIASES = {"ReadySteadyGo": ("ReadySteadyGo", "ReadySetGo")}  # the files are named otherwise than the papers say
    SIZE = (1920, 1080)
    HELP = (
        "UVG is not downloaded automatically (CC BY-NC; about 7 GB). Get the 1080p, 8-bit 4:2:0 files from "
        "https://ultravideo.fi/dataset.html, unpack them into one folder: "
        "PATH/Beauty_1920x1080_120fps_420_8bit_YUV.yuv, PATH/Bosphorus_1920x1080_120fps_420_8bit_YUV.yuv …"
    )

    def __post_init__(self) -> None:
        _check(self.frames, self.downscale, self.crop)

    def samples(self) -> list[Sample]:
        root = _root("uvg", self.path, self.VARIABLE, self.HELP)
        files = files_below(root, VIDEO_SUFFIXES)
        found = {name: [p for p in files if self._is(name, p)] for name in self.NAMES}
        if missing := [name for name, paths in found.items() if not paths]:
            raise BadData(f"{', '.join(missing)} of the UVG sequences are not in {root}. {self.HELP}")
        for name, paths in found.items():
            if len(paths) > 1:
                raise BadData(f"{name} is in {root} more than once: {paths[0].name}, {paths[1].name}; keep one")
            size = picture_size(paths[0])
            if size != self.SIZE:
                raise BadData(f"{paths[0]} has {size[0]}x{size[1]} pixels; expected 1920x1080. {self.HELP}")
        return [
            video_sample(name, paths[0], self.frames, crop=self.crop, downscale=self.downscale)
            for name, paths in found.items()
        ]

    def _is(self, name: str, path: Path) -> bool:
        return path.name.lower().startswith(tuple(n.lower() for n in self.ALIASES.get(name, (name,))))


def _check(frames: int, downscale: int, crop: int) -> None:
    if min(frames, downscale - 1, crop) < 0:
        raise ValueError(f"frames={frames}, downscale={downscale}, crop={crop}; expected at least 0, 1 and 0")


def _root(name: str, path: str | None, variable: str, remedy: str) -> Path:
    """The folder of a set, given or from the environment."""
    given = path or os.environ.get(variable)
    if not given:
        raise BadData(f"{name} needs a folder. {remedy}; then set ${variable} or give {name}:PATH")
    root = Path(given).expanduser()
    if not root.is_dir():
        raise BadData(f"{root} is not a folder. {remedy}; then set ${variable} or give {name}:PATH")
    return root


def _sequence(name: str, folder: Path, wanted: Sequences | Vimeo90k, convert: bool = False) -> Sample:
    """A folder of images as a sample; its identity is its pixels."""

    def load() -> Tensor:
        clip = box_downscale(read_sequence(folder, wanted.frames, convert=convert), wanted.downscale)
        return centre_crop(clip, wanted.crop) if wanted.crop else clip

    return Sample(name, load)
