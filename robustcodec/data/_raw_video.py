"""``.yuv`` files: planes of 8-bit luma and chroma, frame after frame. Size and layout are in their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustcodec.errors import BadData

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

CHROMA = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}  # luma samples to one of chroma, down and across
SIZE = re.compile(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)")
UNDERSTOOD = re.compile(r"(?:yuv|ycbcr|i|c)?(420|422|444)(?:p|p8|jpeg|mpeg2)?|(iyuv|8bits?|8bpp)")
OTHERS = re.compile(  # names of layouts, as a whole word of a file's name
    r"(?:yuv|ycbcr|i|c)?4[0-4][0-4]p?\d*(?:le|be)?(?:bits?)?|p?(?:9|10|12|14|16)(?:le|be|bits?|bpc|bpp)|p[0-4]1[0-6](?:le|be)?"
    r"|nv\d\d|yv\d\d|yuy2|yuyv\d*|yvyu\d*|uyvy\d*|vyuy\d*|[vy][24]\d\d(?:le|be)?|ayuv\d*|y8|y16|y800"
    r"|gr[ae]y\d+(?:le|be)?|rgb[ap]?\d*|bgr[ap0]?\d*|gbra?p\d*|rgba|argb|abgr"
)


@dataclass(frozen=True)
class RawVideo:
    """A file of ``frames`` frames: a plane of luma and two of chroma each, which ``chroma`` names."""

    path: Path
    width: int
    height: int
    chroma: str
    frames: int = 0

    @classmethod
    def of(cls, path: Path, size: str | None) -> RawVideo:
        """What ``path`` holds by its name, its size from ``size`` if that is given; raises :class:`BadData`."""
        found = re.fullmatch(r"(\d+)x(\d+)", size) if size else SIZE.search(path.name)
        if found is None:
            given = f"size={size!r} cannot be read" if size else "its name does not hold its picture size"
            raise BadData(f"{path}: {given}; expected width x height, such as size=416x240 or name_416x240.yuv")
        raw = cls(path, int(found[1]), int(found[2]), _chroma(path))
        length = path.stat().st_size
        frames, rest = divmod(length, max(1, raw.frame_bytes))
        if rest or not frames:
            raise BadData(
                f"{path} has {length} bytes, which is not a whole number of {raw.width}x{raw.height} frames of "
                f"{raw.frame_bytes} bytes (planar 4:{raw.chroma[1]}:{raw.chroma[2]}, 8 bits); check its size, give "
                "size=WIDTHxHEIGHT, or name its layout: 420, 422 or 444"
            )
        return cls(path, raw.width, raw.height, raw.chroma, frames)

    @property
    def planes(self) -> list[tuple[int, int]]:
        """Height and width of each."""
        down, across = CHROMA[self.chroma]
        return [(self.height, self.width), *[(-(-self.height // down), -(-self.width // across))] * 2]

    @property
    def frame_bytes(self) -> int:
        return sum(height * width for height, width in self.planes)

    def read(self, start: int) -> Iterator[VideoFrame]:
        """Frames from number ``start`` on."""
        import av

        with self.path.open("rb") as file:
            file.seek(start * self.frame_bytes)
            for _ in range(start, self.frames):
                frame = av.VideoFrame(self.width, self.height, f"yuv{self.chroma}p")
                for plane, (height, width) in zip(frame.planes, self.planes, strict=True):
                    rows = np.zeros((height, plane.line_size), dtype=np.uint8)
                    rows[:, :width] = np.frombuffer(file.read(height * width), dtype=np.uint8).reshape(height, width)
                    plane.update(rows.tobytes())
                yield frame


def _chroma(path: Path) -> str:
    """The one layout that a file's name says, 420 if it says none; raises :class:`BadData` for those not understood."""
    name = re.sub(r"(?<!\d)4[-.:]([0-4])[-.:]([0-4])(?!\d)", r"4\1\2", path.stem.lower())
    name = re.sub(r"(\d)[-_. ]?(?=bits?(?![a-z]))", r"\1", name)  # 10-bit, 10_bit
    words = re.findall(r"[a-z0-9]+", name)
    said = {match[1] for word in words if (match := UNDERSTOOD.fullmatch(word)) and match[1]}
    others = [word for word in words if not UNDERSTOOD.fullmatch(word) and OTHERS.fullmatch(word)]
    if others or len(said) > 1:
        raise BadData(
            f"{path} holds {' and '.join(others or sorted(said))} by its name; expected planes of 8 bits, called 420, "
            "422 or 444 (also yuv420p, i420 …). Convert it first, for example: ffmpeg -i IN -pix_fmt yuv420p OUT.y4m"
        )
    return said.pop() if said else "420"
