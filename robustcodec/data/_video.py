"""Reading and writing clips: whatever FFmpeg decodes, ``.y4m`` and raw ``.yuv`` included.

Decoded by PyAV (https://pyav.basswood-io.com). Pixels become RGB by swscale with accurate rounding and interpolated
chroma, by the matrix and range that the file states, or BT.601 and limited range where it states none. Frames are
taken as they are coded: rotation flags and pixel aspect ratios are ignored. More than 8 bits, transparent pixels and
files that are shorter than they say are refused; raw H.264 and H.265 that ends inside its last frame, and a transport
stream that ends between two frames, cannot be told from a whole one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from robustcodec.data._lengths import check_length
from robustcodec.data._raw_video import RawVideo
from robustcodec.errors import BadData
from robustcodec.files import whole

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ogv", ".flv", ".wmv", ".mpg", ".mpeg", ".ts", ".ivf",
    ".264", ".h264", ".avc", ".265", ".h265", ".hevc", ".obu", ".y4m", ".yuv",
)  # fmt: skip

UNKNOWN_RATE = "its frame rate is unknown"  # comment of a clip of ours that had to be written with one
UNTIMED = 0x80  # FFmpeg's flag of formats without times of their own (AVFMT_NOTIMESTAMPS)


def read_video(path: Path, frames: int = 0, start: int = 0, downscale: int = 1, size: str | None = None) -> Tensor:
    """Frames ``start`` … ``start + frames - 1`` of a video (``frames=0``: to its end) as uint8 ``(T, 3, H, W)``.

    ``downscale=k`` averages k×k pixels, which removes old compression artefacts; what is left over at the right and
    at the bottom is dropped. ``size="416x240"`` is for ``.yuv`` files that do not have it in their names.
    Raises :class:`BadData` if there is no such file, it is no video, is damaged or has fewer frames.
    """
    if frames < 0 or start < 0 or downscale < 1:
        raise ValueError(f"frames={frames}, start={start}, downscale={downscale}; expected at least 0, 0 and 1")
    wanted = frames or max(0, count_frames(path, size) - start)
    clip, got = None, 0
    for got, frame in enumerate(islice(_decode(path, start, size), wanted), start=1):
        pixels = _rgb(frame, path)
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
        _check(path)
        return RawVideo.of(path, size).frames
    if at_most:
        with _opened(path) as (container, stream):
            first = list(islice(_shown_at(path, container, stream), at_most))
        if not _starts_late(first):
            return len(first)
    return min(len(_times(path)), at_most or sys.maxsize)


def picture_size(path: Path, size: str | None = None) -> tuple[int, int]:
    """Width and height of a video's frames."""
    if path.suffix.lower() == ".yuv":
        _check(path)
        raw = RawVideo.of(path, size)
        return raw.width, raw.height
    with _opened(path) as (_, stream):
        return stream.width, stream.height


def frame_rate(path: Path) -> float | None:
    """Frames per second, as the file states it or as its frames are spread over time; None if it does neither.

    Where nothing is stated FFmpeg calls raw streams and ``.y4m`` files ones of 25.
    """
    if path.suffix.lower() == ".yuv":
        return None
    with _opened(path) as (container, stream):
        in_stream, unit = stream.codec_context.framerate, stream.time_base
        rate: Fraction | None
        if UNKNOWN_RATE in container.metadata.values():
            return None
        if container.format.flags & UNTIMED:
            rate, spread = in_stream, False
        elif container.format.name == "yuv4mpegpipe":
            rate, spread = _y4m_rate(path), False
        else:
            rate, spread = stream.average_rate or in_stream, True
    times = [t for t in _times(path) if t is not None] if spread and not rate else []
    if len(times) > 1 and unit:
        rate = (len(times) - 1) / ((times[-1] - times[0]) * unit)
    return float(rate) if rate else None


def _y4m_rate(path: Path) -> Fraction | None:
    with path.open("rb") as file:
        stated = re.search(rb" F(\d+):(\d+)\s", file.readline(256))
    return Fraction(int(stated[1]), int(stated[2])) if stated and int(stated[2]) else None


def box_downscale(clip: Tensor, k: int) -> Tensor:
    """Means of k×k pixels of a uint8 clip ``(…, H, W)``, rounded to uint8; sides are cut to multiples of ``k``."""
    return clip if k == 1 else F.avg_pool2d(clip.to(torch.float32), k).round().to(torch.uint8)


def write_y4m(clip: Tensor, path: Path, fps: float | None = None) -> None:
    """A uint8 clip ``(T, 3, H, W)`` as ``.y4m`` with full chroma (4:4:4), 8 bits, BT.601, limited range.

    That is what readers expect of a y4m file, and it has fewer levels than RGB: what is read back differs by at most
    2 of 255. To keep clips exactly, write PNG images. ``fps``: frames per second, if known.
    """
    over, under = Fraction(fps).limit_denominator(1001).as_integer_ratio() if fps else (0, 0)
    height, width = clip.shape[-2:]
    with whole(path) as partial, partial.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{over}:{under} Ip A1:1 C444\n".encode())
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


def _check(path: Path) -> None:
    """Raise :class:`BadData` for what can be no video at all."""
    if not path.is_file():
        raise BadData(f"no video at {path}")
    if path.stat().st_size == 0:
        raise BadData(f"{path} is empty (0 bytes); expected a video")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An open container and its video; what FFmpeg says against the file becomes :class:`BadData`."""
    import av
    from av.stream import Disposition

    _check(path)
    opened = False
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:  # titles may be in any encoding
            shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not shown:
                cover = " but a cover" if container.streams.video else ""
                raise BadData(f"{path} has no pictures in it{cover}; expected a video")
            check_length(path, container.format.name, shown[0])
            opened = True
            yield container, shown[0]
    except av.FFmpegError as error:
        if opened:
            raise BadData(f"{path} is damaged or cut short ({error.strerror}); replace or remove it") from None
        raise BadData(
            f"{path} is not a video that FFmpeg can read ({error.strerror}); expected MP4, MKV, Y4M …"
        ) from None


def _packets(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """What a stream consists of, and an empty packet at its end; raises :class:`BadData` for one that is not whole."""
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise BadData(f"{path} is damaged or cut short: not all of a frame is there; replace or remove it")
        yield packet


def _shown_at(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[int | None]:
    """Presentation times of packets, in coding order: one packet is one frame."""
    for packet in _packets(path, container, stream):
        if packet.size and not packet.is_discard:
            yield packet.pts


def _frames(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in _packets(path, container, stream):
        yield from packet.decode()


def _times(path: Path) -> tuple[int | None, ...]:
    """Presentation times of all frames, sorted; all None where seeking by them would not be safe."""
    _check(path)
    stat = path.stat()
    return _times_of(path, stat.st_size, stat.st_mtime_ns)


@cache
def _times_of(path: Path, bytes_: int, stamp: int) -> tuple[int | None, ...]:
    with _opened(path) as (container, stream):
        times = list(_shown_at(path, container, stream))
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
        _check(path)
        yield from RawVideo.of(path, size).read(start)
    elif start:
        times = _times(path)
        if start < len(times):
            yield from _decode_at(path, start, times)
    else:
        yield from _decode_all(path)


def _decode_all(path: Path) -> Iterator[VideoFrame]:
    with _opened(path) as (container, stream):
        for frame in _frames(path, container, stream):
            if frame.is_corrupt:
                raise BadData(f"{path} is damaged: a frame cannot be decoded whole; replace or remove it")
            yield frame


def _decode_at(path: Path, start: int, times: tuple[int | None, ...]) -> Iterator[VideoFrame]:
    """Decode from the key frame before ``start`` where that gives the very frames, otherwise from the beginning."""
    import av

    first, done = times[start], 0
    if first is not None:
        with _opened(path) as (container, stream), suppress(av.FFmpegError):  # what cannot be sought is decoded below
            container.seek(first, stream=stream)
            for frame in _frames(path, container, stream):
                if frame.pts is not None and frame.pts < first:
                    continue
                if start + done >= len(times) or frame.pts != times[start + done] or frame.is_corrupt:
                    break
                done += 1
                yield frame
            else:
                return
    yield from islice(_decode_all(path), start + done, None)


def _rgb(frame: VideoFrame, path: Path) -> Tensor:
    """A decoded frame as uint8 ``(3, H, W)``; raises :class:`BadData` if it has more than 8 bits or is transparent.

    swscale's faster defaults would darken green by more than a level.
    """
    from av.video.reformatter import Interpolation as Flag

    parts = frame.format.components
    if (bits := max(part.bits for part in parts)) > 8:
        raise BadData(
            f"{path} has {bits} bits per value; expected 8. Convert it first: ffmpeg -i IN -pix_fmt yuv420p OUT"
        )
    flags = Flag.BICUBIC | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.BITEXACT
    if any(part.is_alpha for part in parts) and frame.to_ndarray(format="rgba")[..., 3].min() < 255:
        raise BadData(f"{path} has transparent pixels; expected none. Put it over a background first")
    return torch.from_numpy(frame.to_ndarray(format="rgb24", interpolation=flags)).permute(2, 0, 1)
