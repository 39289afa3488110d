"""How long video files say they are, by which one that was cut short is known: FFmpeg reads what is left of most."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from robustcodec.errors import BadData

if TYPE_CHECKING:
    from av.video.stream import VideoStream

ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # GUID of the File Properties Object
ASF_BROADCAST = 1
PROGRAM_END, PACK = 0xB9, 0xBA
OGG_LAST = 4


def check_length(path: Path, container: str, stream: VideoStream) -> None:
    """Raise :class:`BadData` if a file is shorter than it says. ``container``: its format, as FFmpeg calls it."""
    end = ENDS.get(container)
    if end is None:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        stated = end(file, size, stream)
    if stated > size:
        raise BadData(f"{path} is cut short: it has {size} bytes of {stated} or more; get all of it")


def _mp4(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last box: length and name, again and again."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4])
        if length < 8 or not head[4:8].isalnum():  # up to the end of the file, or no box
            break
        at += length
    return at


def _matroska(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the segment, which follows the header; one that was written live does not know it."""

    end = 0
    for element in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML, Segment
        file.seek(end)
        name, first = file.read(4), file.read(1)
        if name != element or not first:
            return 0
        more = 8 - first[0].bit_length()  # bytes of the length, by the zeros in front of its first one
        largest = (1 << 7 * (more + 1)) - 1
        length = int.from_bytes(first + file.read(more)) & largest
        if length == largest:  # not known
            return 0
        end = file.tell() + length
    return end


def _avi(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last RIFF list; one of length 0 was never finished."""
    at = end = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            break
        end = at + 8 + length
        at = end + end % 2
    return end


def _transport_stream(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last packet: 188 bytes that begin with 0x47, or 4 more in front."""
    head = file.read(400)
    for length, first in ((188, 0), (192, 4)):
        if head[first : first + 1] == head[first + length : first + length + 1] == b"\x47":
            return -(-size // length) * length
    return 0


def _program_stream(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last packet, of MPEG-1 and MPEG-2, as far as packets follow each other."""
    at = 0
    while at + 6 <= size:
        file.seek(at)
        head = file.read(14).ljust(14, b"\0")
        if head[:3] != b"\0\0\1" or head[3] < PROGRAM_END:
            break
        if head[3] == PACK:
            at += 14 + (head[13] & 7) if head[4] & 0xC0 == 0x40 else 12
        else:
            at += 4 if head[3] == PROGRAM_END else 6 + int.from_bytes(head[4:6])
    return at


def _ogg(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last page, and a byte more if that is not marked as the last."""
    at, last = 0, False
    while at < size:
        file.seek(at)
        head = file.read(27).ljust(27, b"\0")
        if head[:4] != b"OggS":
            break
        last = bool(head[5] & OGG_LAST)
        at += 27 + head[26] + sum(file.read(head[26]))
    return at if last else max(at, size + 1)


def _asf(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """What the file's properties say, unless it was broadcast."""
    head = file.read(1 << 16)
    at = head.find(ASF_PROPERTIES)
    flags = int.from_bytes(head[at + 88 : at + 92], "little")
    return 0 if at < 0 or flags & ASF_BROADCAST else int.from_bytes(head[at + 40 : at + 48], "little")


def _ivf(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last frame, and a byte more if the header knows of more, be it in frames or in units of time."""
    head = file.read(32)
    at, length = int.from_bytes(head[6:8], "little"), int.from_bytes(head[24:28], "little")
    times: list[int] = []
    while at < size:
        file.seek(at)
        frame = file.read(12)
        times.append(int.from_bytes(frame[4:], "little"))
        at += 12 + int.from_bytes(frame[:4], "little")
    longest = max((b - a for a, b in pairwise(times)), default=length)
    over = max([len(times), *[t + longest for t in times[-1:]]])
    return max(at, size + 1) if over < length else at


def _y4m(file: BinaryIO, size: int, stream: VideoStream) -> int:
    """The end of the last frame: a line and the planes."""
    planes = sum(c.width * c.height * -(-c.bits // 8) for c in stream.format.components)
    file.readline()
    while file.tell() < size:
        file.readline(256)
        file.seek(planes, 1)
    return file.tell()


ENDS: dict[str, Callable[[BinaryIO, int, VideoStream], int]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "matroska,webm": _matroska,
    "avi": _avi,
    "mpegts": _transport_stream,
    "mpeg": _program_stream,
    "ogg": _ogg,
    "asf": _asf,
    "ivf": _ivf,
    "yuv4mpegpipe": _y4m,
}
