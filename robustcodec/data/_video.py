"""Reading and writing clips: whatever FFmpeg decodes, ``.y4m`` and raw ``.yuv`` included.

Decoded by PyAV (https://pyav.basswood-io.com). Pixels become RGB by swscale with accurate rounding and interpolated
chroma, by the matrix and range that the file states, or BT.601 and limited range where it states none. Frames are
taken as they are coded: rotation flags and pixel aspect ratios are ignored, more than 8 bits are reduced to 8.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from robustcodec.errors import BadData
from robustcodec.files import whole

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ogv", ".flv", ".wmv", ".mpg", ".mpeg", ".ts", ".ivf",
    ".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".obu", ".y4m", ".yuv",
)  # fmt: skip


def read_video(path: Path, frames: int = 0, start: int = 0, downscale: int = 1, size: str | None = None) -> Tensor:
    """Frames ``start`` … ``start + frames - 1`` of a video (``frames=0``: to its end) as uint8 ``(T, 3, H, W)``.

    ``downscale=k`` averages k×k pixels, which removes old compression artefacts; what is left over at the right and
    at the bottom is dropped. ``size="416x240"`` is for ``.yuv`` files (planar 4:2:0, 8 bits) that do not have it in
    their names. Raises :class:`BadData` if there is no such file, it is no video, is damaged or has fewer frames.
    """
    if frames < 0 or start < 0 or downscale < 1:
        raise ValueError(f"frames={frames}, start={start}, downscale={downscale}; expected at least 0, 0 and 1")
    wanted = frames or max(0, count_frames(path, size) - start)
    clip, got = None, 0
    for got, frame in enumerate(islice(_decode(path, start, size), wanted), start=1):
        pixels = _rgb(frame)
        if min(pixels.shape[-2:]) < downscale:
            raise BadData(
                f"{path} has frames of {frame.width}x{frame.height} pixels; downscale={downscale} leaves none"
            )
        pixels = box_downscale(pixels, downscale)
        if clip is None:
            clip = torch.empty(wanted, *pixels.shape, dtype=torch.uint8)
        elif clip.shape[1:] != pixels.shape:
            raise BadData(f"{path} changes its picture size at frame {start + got - 1}; cut it there")
        clip[got - 1] = pixels
    if clip is None or got < wanted:
        found = count_frames(path, size)
        if found >= start + max(1, frames):
            raise BadData(
                f"{path} is damaged: {start + got} of its {found} frames can be decoded; replace or remove it"
            )
        asked = f"{frames} frames" if frames else "frames"
        raise BadData(f"{path} has {found} frames; expected {asked} from number {start} on, counted from 0")
    return clip


def count_frames(path: Path, size: str | None = None, at_most: int = 0) -> int:
    """How many frames a video has; not more than ``at_most`` are counted if it is given."""
    if path.suffix.lower() == ".yuv":
        return _RawVideo.of(path, size).frames
    if at_most:
        with _opened(path) as container:
            first = list(islice(_packets(container), at_most))
        if not _starts_late(first):
            return len(first)
    return min(len(_times(path)), at_most or sys.maxsize)


def picture_size(path: Path, size: str | None = None) -> tuple[int, int]:
    """Width and height of a video's frames."""
    if path.suffix.lower() == ".yuv":
        raw = _RawVideo.of(path, size)
        return raw.width, raw.height
    with _opened(path) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


def frame_rate(path: Path) -> float:
    """Frames per second that the file states; raises :class:`BadData` if it states none, as ``.yuv`` files do."""
    if path.suffix.lower() == ".yuv":
        raise BadData(f"{path} states no frame rate; raw .yuv files have none")
    with _opened(path) as container:
        rate = container.streams.video[0].average_rate or container.streams.video[0].guessed_rate
    if not rate:
        raise BadData(f"{path} states no frame rate; remux it into .mkv or .mp4 with one")
    return float(rate)


def box_downscale(clip: Tensor, k: int) -> Tensor:
    """Means of k×k pixels of a uint8 clip ``(…, H, W)``, rounded to uint8; sides are cut to multiples of ``k``."""
    return clip if k == 1 else F.avg_pool2d(clip.to(torch.float32), k).round().to(torch.uint8)


def write_y4m(clip: Tensor, path: Path, fps: float = 30) -> None:
    """A uint8 clip ``(T, 3, H, W)`` as ``.y4m`` with full chroma (4:4:4), 8 bits, BT.601, limited range.

    That is what readers expect of a y4m file, and it has fewer levels than RGB: what is read back differs by at most
    2 of 255. To keep clips exactly, write PNG images.
    """
    rate = Fraction(fps).limit_denominator(1001)
    height, width = clip.shape[-2:]
    with whole(path) as partial, partial.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A1:1 C444\n".encode())
        for frame in clip:
            red, green, blue = frame.double().cpu().unbind(0)
            luma = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601-7, section 2.5
            planes = (
                16 + luma * 219 / 255,
                128 + (blue - luma) / 1.772 * 224 / 255,
                128 + (red - luma) / 1.402 * 224 / 255,
            )
            file.write(b"FRAME\n")
            file.write(torch.stack(planes).round().to(torch.uint8).numpy().tobytes())


def write_mp4(clip: Tensor, path: Path, fps: float = 30, crf: int = 18) -> None:
    """A uint8 clip ``(T, 3, H, W)`` as H.264 4:2:0 in MP4, for people to look at; odd sides are padded by one pixel."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    height, width = clip.shape[-2:]
    padded = (
        F.pad(clip.cpu(), (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else clip.cpu()
    )
    with whole(path) as partial, av.open(f"file:{partial}", "w", format="mp4") as container:
        # cpu-independent: the AVX-512 lookahead reads memory that nobody wrote, and bytes change from call to call
        options = {"crf": str(crf), "preset": "fast", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = padded.shape[-2:]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU601, ColorRange.MPEG
        for pixels in padded:
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_webp(clip: Tensor, path: Path, fps: float = 30, quality: int = 80) -> None:
    """A uint8 clip ``(T, 3, H, W)`` as an animated WebP that repeats for ever: a preview for web pages."""
    from PIL import Image

    first, *rest = (Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy()) for frame in clip)
    with whole(path) as partial:
        first.save(
            partial,
            format="WEBP",
            save_all=True,
            append_images=rest,
            duration=round(1000 / fps),
            loop=0,
            quality=quality,
        )


@dataclass(frozen=True)
class _RawVideo:
    """A ``.yuv`` file: planar 4:2:0, 8 bits, nothing but pixels."""

    width: int
    height: int
    frames: int

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height + 2 * ((self.width + 1) // 2) * ((self.height + 1) // 2)

    @classmethod
    def of(cls, path: Path, size: str | None) -> _RawVideo:
        """What ``path`` holds, its size from ``size`` or from its name."""
        found = (
            re.fullmatch(r"(\d+)x(\d+)", size) if size else re.search(r"(?<!\d)(\d{2,5})x(\d{2,5})(?!\d)", path.name)
        )
        if found is None:
            given = f"size={size!r} cannot be read" if size else "its name does not hold its picture size"
            raise BadData(f"{path}: {given}; expected width x height, such as size=416x240 or name_416x240.yuv")
        if re.search(r"(10|12|16)[-_]?bit|p1[06]le", path.name, re.IGNORECASE):
            raise BadData(f"{path} has more than 8 bits by its name; expected planar 4:2:0 with 8 bits")
        _check(path)
        raw = cls(int(found[1]), int(found[2]), 0)
        frames, rest = divmod(path.stat().st_size, max(1, raw.frame_bytes))
        if rest or not frames:
            raise BadData(
                f"{path} has {path.stat().st_size} bytes, which is not a whole number of {raw.width}x{raw.height} "
                f"frames of {raw.frame_bytes} bytes (planar 4:2:0, 8 bits); check its size or give size=WIDTHxHEIGHT"
            )
        return cls(raw.width, raw.height, frames)


def _check(path: Path) -> None:
    """Raise :class:`BadData` for what can be no video at all."""
    if not path.is_file():
        raise BadData(f"no video at {path}")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty (0 bytes); expected a video")


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """An open container with a video stream; what FFmpeg says against the file becomes :class:`BadData`."""
    import av

    _check(path)
    opened = False
    try:
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise BadData(f"{path} has no pictures in it; expected a video")
            opened = True
            yield container
    except av.FFmpegError as error:
        if opened:
            raise BadData(f"{path} is damaged or cut short ({error.strerror}); replace or remove it") from None
        raise BadData(
            f"{path} is not a video that FFmpeg can read ({error.strerror}); expected MP4, MKV, Y4M …"
        ) from None


def _packets(container: InputContainer) -> Iterator[int | None]:
    """Presentation times of the first video stream's packets, in coding order: one packet is one frame."""
    for packet in container.demux(video=0):
        if packet.size and not packet.is_discard:
            yield packet.pts


def _times(path: Path) -> tuple[int | None, ...]:
    """Presentation times of all frames, sorted; all None where seeking by them would not be safe."""
    _check(path)
    stat = path.stat()
    return _times_of(path, stat.st_size, stat.st_mtime_ns)


@cache
def _times_of(path: Path, bytes_: int, stamp: int) -> tuple[int | None, ...]:
    with _opened(path) as container:
        times = list(_packets(container))
    if _starts_late(times):
        return (None,) * sum(1 for _ in _decode_all(path))
    known = {t for t in times if t is not None}
    return tuple(sorted(known)) if len(known) == len(times) else (None,) * len(times)


def _starts_late(times: list[int | None]) -> bool:
    """Whether frames are shown before the first coded one: cut out of a longer video, they cannot be decoded."""
    known = [t for t in times if t is not None]
    return bool(known) and known[0] != min(known)


def _decode(path: Path, start: int, size: str | None) -> Iterator[VideoFrame]:
    """Frames from number ``start`` on."""
    if path.suffix.lower() == ".yuv":
        yield from _decode_raw(path, start, _RawVideo.of(path, size))
    elif start:
        times = _times(path)
        if start < len(times):
            yield from _decode_at(path, start, times)
    else:
        yield from _decode_all(path)


def _decode_all(path: Path) -> Iterator[VideoFrame]:
    with _opened(path) as container:
        for frame in container.decode(video=0):
            if frame.is_corrupt:
                raise BadData(f"{path} is damaged: a frame cannot be decoded whole; replace or remove it")
            yield frame


def _decode_at(path: Path, start: int, times: tuple[int | None, ...]) -> Iterator[VideoFrame]:
    """Decode from the key frame before ``start`` where that gives the very frames, otherwise from the beginning."""
    import av

    first, done = times[start], 0
    if first is not None:
        with _opened(path) as container, suppress(av.FFmpegError):  # what cannot be sought is decoded below
            container.seek(first, stream=container.streams.video[0])
            for frame in container.decode(video=0):
                if frame.pts is not None and frame.pts < first:
                    continue
                if start + done >= len(times) or frame.pts != times[start + done] or frame.is_corrupt:
                    break
                done += 1
                yield frame
            else:
                return
    yield from islice(_decode_all(path), start + done, None)


def _decode_raw(path: Path, start: int, raw: _RawVideo) -> Iterator[VideoFrame]:
    import av

    planes = [(raw.height, raw.width), *[((raw.height + 1) // 2, (raw.width + 1) // 2)] * 2]
    with path.open("rb") as file:
        file.seek(start * raw.frame_bytes)
        for _ in range(start, raw.frames):
            frame = av.VideoFrame(raw.width, raw.height, "yuv420p")
            for plane, (height, width) in zip(frame.planes, planes, strict=True):
                rows = np.zeros((height, plane.line_size), dtype=np.uint8)
                rows[:, :width] = np.frombuffer(file.read(height * width), dtype=np.uint8).reshape(height, width)
                plane.update(rows.tobytes())
            yield frame


def _rgb(frame: VideoFrame) -> Tensor:
    """A decoded frame as uint8 ``(3, H, W)``. swscale's faster defaults would darken green by more than a level."""
    from av.video.reformatter import Interpolation as Flag

    flags = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.BITEXACT
    return torch.from_numpy(frame.to_ndarray(format="rgb24", interpolation=flags)).permute(2, 0, 1)
