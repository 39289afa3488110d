"""Named data sets: ``photos`` (bundled), ``kodak``, ``folder:PATH``, ``file:PATH``; ``videosets`` has those of videos.

Samples are 8-bit RGB clips, uint8 ``(T, 3, H, W)``; nothing is resized unless ``downscale`` asks for it. Bundled
photos come with scikit-image (https://scikit-image.org), so no data ships here and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustcodec import weights
from robustcodec.errors import BadData
from robustcodec.images import IMAGE_SUFFIXES, read_image, write_image
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data
from robustcodec.video import VIDEO_SUFFIXES, box_downscale, count_frames, frame_rate, read_video

__all__ = [
    "KODAK_SHA256", "File", "Folder", "Kodak", "Photos", "centre_crop", "checksum", "image_sample", "read_image",
    "to_float", "to_uint8", "video_sample", "write_image",
]  # fmt: skip


def to_float(clip: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return clip.to(torch.float32) / 255


def to_uint8(clip: Tensor) -> Tensor:
    """float in [0, 1] to the nearest uint8."""
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8)


def checksum(clip: Tensor) -> str:
    """sha256 of a uint8 clip's shape and pixels, in hex."""
    digest = hashlib.sha256(str(tuple(clip.shape)).encode())
    digest.update(clip.contiguous().numpy().tobytes())
    return digest.hexdigest()


def centre_crop(clip: Tensor, size: int) -> Tensor:
    """The central ``size`` × ``size`` pixels, or all there are along a shorter side."""
    height, width = clip.shape[-2:]
    top, left = max(0, height - size) // 2, max(0, width - size) // 2
    return clip[..., top : top + size, left : left + size].contiguous()


def image_sample(name: str, path: Path, crop: int = 0, downscale: int = 1) -> Sample:
    """An image file as a sample: means of ``downscale`` x ``downscale`` pixels, then the centre if ``crop`` > 0."""

    def load() -> Tensor:
        clip = box_downscale(read_image(path), downscale)
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
    except BadData:  # raw video states none
        fps = None
    return Sample(name, load, path, fps)


@data.register("photos")
@dataclass(frozen=True)
class Photos(DataSet):
    """Colour photographs that ship with scikit-image, cropped to their central ``size`` × ``size`` pixels."""

    size: int = 256

    NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "hubble_deep_field")

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}; expected at least 1 pixel")

    def samples(self) -> list[Sample]:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        paths = [next(folder.glob(f"{name}.*"), folder / f"{name}.png") for name in self.NAMES]
        return [image_sample(path.stem, path, self.size) for path in paths]


@data.register("folder")
@dataclass(frozen=True)
class Folder(DataSet):
    """All images and videos below a folder, in the order of their relative paths.

    An image is one frame. Of each video ``segments`` samples of ``frames`` frames are taken, evenly spread from its
    first frames to its last; ``frames=0`` takes it whole, and videos with fewer frames are left out. ``downscale=k``
    averages k×k pixels (it removes old compression artefacts), then ``crop`` > 0 keeps the central square.
    ``size=WIDTHxHEIGHT`` is for ``.yuv`` files that do not have it in their names.
    """

    path: str
    crop: int = 0
    frames: int = 0
    segments: int = 1
    downscale: int = 1
    size: str | None = None

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
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in known)
        if not paths:
            raise BadData(f"no images in {root} and no videos; expected files that end in {', '.join(known)}")
        stems = Counter(p.with_suffix("") for p in paths)
        found: list[Sample] = []
        for path in paths:
            name = path.relative_to(root).as_posix()
            found += self._samples(name if stems[path.with_suffix("")] > 1 else name[: -len(path.suffix)], path)
        if not found:
            raise BadData(f"none of {len(paths)} videos in {root} has {self.frames} frames; give a smaller frames=…")
        return found

    def _samples(self, name: str, path: Path) -> Iterator[Sample]:
        """The samples of one file: those that stand for the same frames are one."""
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield image_sample(name, path, self.crop, self.downscale)
        elif self.segments == 1:
            if not self.frames or count_frames(path, self.size, at_most=self.frames) >= self.frames:
                yield video_sample(name, path, self.frames, 0, self.crop, self.downscale, self.size)
        else:
            last = count_frames(path, self.size) - self.frames
            starts = {round(i * last / (self.segments - 1)) for i in range(self.segments)} if last >= 0 else set()
            for start in sorted(starts):
                yield video_sample(f"{name}@{start}", path, self.frames, start, self.crop, self.downscale, self.size)


@data.register("file")
@dataclass(frozen=True)
class File(DataSet):
    """One image or video: ``file:photo.png``, ``file:path=clip.y4m,frames=8``.

    Of a video ``frames`` frames from number ``start`` on are taken, counted from 0; ``frames=0``: to its end.
    ``crop`` > 0 keeps the central square. ``size=WIDTHxHEIGHT`` is for ``.yuv`` files without it in their names.
    """

    path: str
    frames: int = 0
    start: int = 0
    crop: int = 0
    size: str | None = None

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
            return [image_sample(path.stem, path, self.crop)]
        if suffix in VIDEO_SUFFIXES:
            return [video_sample(path.stem, path, self.frames, self.start, self.crop, size=self.size)]
        known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise BadData(f"{path} is no image and no video by its name; expected one that ends in {known}")


@data.register("kodak")
@dataclass(frozen=True)
class Kodak(DataSet):
    """The 24 Kodak PhotoCD images, 768x512 or 512x768, downloaded once and checked.

    They are looked for in ``path`` or ``$ROBUSTCODEC_KODAK``, then in the cache, then at r0k.us.
    """

    path: str | None = None
    crop: int = 0

    URL = "https://r0k.us/graphics/kodak/kodak"

    def samples(self) -> list[Sample]:
        given = self.path or os.environ.get("ROBUSTCODEC_KODAK")
        root = Path(given).expanduser() if given else weights.cache_dir() / "kodak"
        if given and not root.is_dir():
            raise BadData(f"{root} is not a folder; expected the 24 Kodak images kodim01.png to kodim24.png")
        found = []
        for number, digest in enumerate(KODAK_SHA256, start=1):
            name = f"kodim{number:02}"
            path = weights.fetch(f"{self.URL}/{name}.png", digest, root / f"{name}.png")
            found.append(image_sample(name, path, self.crop))
        return found


KODAK_SHA256 = (
    "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
    "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
    "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
    "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
    "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
    "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
    "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
    "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
    "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
    "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
    "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
    "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
    "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
    "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
    "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
    "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
    "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
    "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
    "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
    "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
    "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
    "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
    "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
    "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
)
