"""One's own files as data sets: ``folder:PATH`` and ``file:PATH``.

Samples are 8-bit RGB clips, uint8 ``(T, 3, H, W)``. Nothing is resized unless ``downscale`` asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustcodec.data._images import IMAGE_SUFFIXES
from robustcodec.data._samples import image_sample, video_sample
from robustcodec.data._video import VIDEO_SUFFIXES, count_frames
from robustcodec.data._walking import files_below
from robustcodec.errors import BadData
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data


@data.register("folder")
@dataclass(frozen=True)
class Folder(DataSet):
    """All images and videos below a folder, in the order of their relative paths.

    ``path``: the folder. An image is a clip of one frame. Of each video, ``segments``: number of samples, spread evenly
    from its first frames to its last. ``frames``: length of a sample (0: the whole video); videos with fewer frames are
    left out. ``downscale=k`` averages k×k pixels, which removes old compression artefacts; ``crop`` > 0 then keeps the
    central square of that many pixels. ``size=WIDTHxHEIGHT`` is for ``.yuv`` files without the size in their names.
    ``convert=true`` accepts images that are grey, have a palette or have to be turned by their EXIF data, and makes RGB
    of them; without it they are refused.

    Raises :class:`BadData` if there is no such folder, or nothing in it that can be used.
    """

    path: str
    crop: int = 0
    frames: int = 0
    segments: int = 1
    downscale: int = 1
    size: str | None = None
    convert: bool = False

    immaterial = ("convert",)  # where it changes a pixel, there is no number without it

    def __post_init__(self) -> None:
        if min(self.crop, self.frames, self.segments - 1, self.downscale - 1) < 0:
            raise ValueError("expected crop and frames of at least 0, segments and downscale of at least 1")
        if self.segments > 1 and not self.frames:
            raise ValueError(f"segments={self.segments} needs the length of a segment; give frames=… too")

    def samples(self) -> list[Sample]:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise BadData(f"{root} is not a folder; expected a folder of images or videos")
        known = IMAGE_SUFFIXES + VIDEO_SUFFIXES
        paths = files_below(root, known)
        if not paths:
            raise BadData(f"no images in {root} and no videos; expected files that end in {', '.join(known)}")
        whole = {path: path.relative_to(root).as_posix() for path in paths}
        short = {path: name[: -len(path.suffix)] for path, name in whole.items()}
        met = Counter([*short.values(), *whole.values()])  # beside a.jpg, a.png and a.jpg.png are called in full
        found: list[Sample] = []
        for path in paths:
            found += self._samples(whole[path] if met[short[path]] > 1 else short[path], path)
        if not found:
            raise BadData(f"none of {len(paths)} videos in {root} has {self.frames} frames; give a smaller frames=…")
        return found

    def _samples(self, name: str, path: Path) -> Iterator[Sample]:
        """The samples of one file: those that stand for the same frames are one."""
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield image_sample(name, path, self.crop, self.downscale, self.convert)
            return
        try:
            starts = self._starts(path)
        except BadData:  # loading it will say why
            starts = [0]
        for start in starts:
            called = name if self.segments == 1 else f"{name}@{start}"
            yield video_sample(called, path, self.frames, start, self.crop, self.downscale, self.size)

    def _starts(self, path: Path) -> list[int]:
        """The first frames of the samples of a video, none if it is too short."""
        if self.segments == 1:
            return [0] if not self.frames or count_frames(path, self.size, self.frames) >= self.frames else []
        last = count_frames(path, self.size) - self.frames
        return sorted({round(i * last / (self.segments - 1)) for i in range(self.segments)}) if last >= 0 else []


@data.register("file")
@dataclass(frozen=True)
class File(DataSet):
    """One image or video: ``file:photo.png``, ``file:path=clip.y4m,frames=8``.

    ``path``: the file. Of a video, ``frames``: how many are taken (0: all to its end). ``start``: number of the first,
    from 0. ``crop`` > 0 keeps the central square of that many pixels. ``size=WIDTHxHEIGHT`` is for ``.yuv`` files
    without the size in their names. ``convert`` is as in ``folder``. Raises :class:`BadData` if the file cannot be
    used.
    """

    path: str
    frames: int = 0
    start: int = 0
    crop: int = 0
    size: str | None = None
    convert: bool = False

    immaterial = ("convert",)

    def __post_init__(self) -> None:
        if min(self.frames, self.start, self.crop) < 0:
            raise ValueError("expected frames, start and crop of at least 0")

    def samples(self) -> list[Sample]:
        path = Path(self.path).expanduser()
        if not path.is_file():
            hint = f"it is a folder: folder:{path} is all of it" if path.is_dir() else "there is none"
            raise BadData(f"{path} is not a file; expected an image or a video, and {hint}")
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return [image_sample(path.stem, path, self.crop, convert=self.convert)]
        if suffix in VIDEO_SUFFIXES:
            return [video_sample(path.stem, path, self.frames, self.start, self.crop, size=self.size)]
        known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise BadData(f"{path} is no image and no video by its name; expected one that ends in {known}")
