"""Classical video codecs through PyAV (FFmpeg): H.264, H.265, AV1 and VP9, as their usual encoders write them.

A stream is a :mod:`robustcodec.stream` container with one part per frame, in coding order. The container costs 15
bytes, the clip's size and one or two bytes of length per frame. Its checksum covers the decoded planes, which all four
standards fix to the last bit (as the decoded picture hash of H.265, D.3.19, does). The parts hold only what a decoder
needs, without a file format, encoder information or repeated headers:

=========  =============================================================================================
h264 h265  the NAL units of the frame, joined by 3-byte start codes; parameter sets with the first frame only
av1        the OBUs of the temporal unit; the sequence header with the first frame only
vp9        the frame, or the superframe when a frame that is not shown comes with it
=========  =============================================================================================

Keyframes are at exact multiples of ``gop``, and no frame refers to another across a keyframe. The input is rounded to 8
bits, padded by replication to even sides (and to the encoder's smallest size), and turned into YCbCr by
:mod:`robustcodec.zoo._yuv`; the parts state no colour space.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import stream
from robustcodec.errors import BadData, MissingDependency, StreamError
from robustcodec.interfaces import Card, StreamPart
from robustcodec.registry import codecs
from robustcodec.zoo import _bitstream as bitstream
from robustcodec.zoo._classical import ClassicalCodec, between
from robustcodec.zoo._yuv import Chroma, to_rgb, to_yuv

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]
X264Tune = Literal["film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"]
X265Tune = Literal["animation", "grain", "psnr", "ssim", "fastdecode", "zerolatency"]
SvtTune = Literal["vq", "psnr", "ssim", "iq", "ms_ssim"]
VpxTune = Literal["film", "screen"]
SVT_TUNES = ("vq", "psnr", "ssim", "iq", "ms_ssim")  # SVT-AV1 numbers them
BLOCK = 64  # decoders count pixels in whole blocks, of this size at most
PIXEL_FORMATS: dict[Chroma, str] = {"4:2:0": "yuv420p", "4:4:4": "yuv444p"}


class PyavCodec(ClassicalCodec):
    """One encoder and one decoder of FFmpeg, one thread each; ``forward`` runs the real coder, without gradient."""

    encoder: ClassVar[str]  # FFmpeg's names
    decoder: ClassVar[str]
    licence: ClassVar[str]
    paper: ClassVar[str]
    smallest: ClassVar[tuple[int, int]] = (2, 2)  # height and width that the encoder takes
    prefix: ClassVar[bytes] = b""  # what a part lacks before it can be decoded

    def __init__(
        self, crf: float, chroma: Chroma, gop: int, fps: int, options: Mapping[str, str], tune: str | None
    ) -> None:
        for name in (self.encoder, self.decoder):
            if name not in av.codecs_available:
                raise MissingDependency(
                    f"this PyAV ({av.__version__}) has no {name}; install a wheel from PyPI: "
                    "pip install --force-reinstall --only-binary :all: av"
                )
        if gop < 1 or fps < 1:
            raise ValueError(f"gop={gop}, fps={fps}: expected a keyframe interval and a frame rate of at least 1")
        settings = {"crf": crf, "chroma": chroma, "gop": gop, "fps": fps, "tune": tune, **options}
        card = Card(f"{self.family}:crf={crf:g}", self.family, "video", self.licence, self.paper, architecture=settings)
        super().__init__(card)
        self._chroma: Chroma = chroma
        self._fps = fps
        self._options = {"crf": f"{crf:g}", "g": str(gop), **options}

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        version = ".".join(map(str, av.library_versions["libavcodec"]))
        return f"av {av.__version__}, libavcodec {version}, {cls.encoder}, {cls.decoder}"

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        """One part per frame, named I, P or B, in the order of display."""
        packet = self._packet(stream)
        parts, decoder = packet.parts, self._decoder(packet.height, packet.width)
        shown: list[Any] = []
        try:
            for index, part in enumerate(parts):
                unit = av.Packet(self.prefix + part)
                unit.pts = index  # the decoder hands it on to the frame: parts are in coding order
                shown += decoder.decode(unit)
            shown += decoder.decode(None)
        except av.FFmpegError as error:
            raise StreamError(f"{self.decoder} cannot decode the stream: {error}") from None
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, parts))))
        kind = av.video.frame.PictureType
        return [header, *(StreamPart(kind(f.pict_type).name, t, 1, 8 * len(parts[f.pts])) for t, f in enumerate(shown))]

    def _packet(self, data: bytes) -> stream.Packet:
        return stream.unpack(data, self.container_id, self.family, lambda frames: frames, symbols=True)

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        """The size that is coded."""
        return max(height + height % 2, self.smallest[0]), max(width + width % 2, self.smallest[1])

    def compress_clip(self, clip: Tensor) -> bytes:
        frames, _, height, width = clip.shape
        try:
            with scheduled_as_before():
                packets = list(self._encode(clip))
            parts = self._essential(packets)
        except av.FFmpegError as error:
            raise BadData(
                f"{self.encoder} cannot code {frames} frames of {width}x{height} with {self._options} ({error}); "
                "try a smaller frame or other settings"
            ) from None
        packet = stream.Packet(frames, height, width, tuple(parts))
        _, planes = self._shown(packet)
        return stream.pack(replace(packet, symbol_crc=_crc(planes)), self.container_id)

    def decompress_clip(self, data: bytes) -> Tensor:
        packet = self._packet(data)
        chroma, planes = self._shown(packet)
        packet.expect(_crc(planes), self.family)
        size = self._padded(packet.height, packet.width)
        return torch.stack([to_rgb(p, *size, chroma) for p in planes])[..., : packet.height, : packet.width]

    def _shown(self, packet: stream.Packet) -> tuple[Chroma, list[np.ndarray[Any, Any]]]:
        """The planes of all frames in their order; raises :class:`StreamError` unless they are those that the header
        announces.
        """
        height, width = self._padded(packet.height, packet.width)
        try:
            frames = self._decode(packet)
        except av.FFmpegError as error:
            raise StreamError(f"{self.decoder} cannot decode the stream: {error}") from None
        if len(frames) != packet.frames:
            raise StreamError(f"{len(frames)} frames decode; the header announces {packet.frames}")
        if {(f.height, f.width) for f in frames} != {(height, width)}:
            raise StreamError(f"not all frames are {width}x{height}, as the header of the stream demands")
        chromas = {name: chroma for chroma, name in PIXEL_FORMATS.items()}
        found = {f.format.name for f in frames}
        if len(found) > 1 or found - set(chromas):
            raise StreamError(f"pixels of format {', '.join(found)}; {self.family} writes one of {', '.join(chromas)}")
        return chromas[found.pop()], [f.to_ndarray().reshape(-1) for f in frames]

    def _encode(self, clip: Tensor) -> Iterator[bytes]:
        """The packets of a ``(T, 3, H, W)`` uint8 clip, one per frame."""
        height, width = self._padded(*clip.shape[-2:])
        encoder: Any = av.CodecContext.create(self.encoder, "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, PIXEL_FORMATS[self._chroma]
        encoder.time_base, encoder.framerate = Fraction(1, self._fps), Fraction(self._fps)
        encoder.thread_count = 1
        encoder.options = self._options
        margin = (0, width - clip.shape[-1], 0, height - clip.shape[-2])
        layout = (-1, width) if self._chroma == "4:2:0" else (3, height, width)
        for time, rgb in enumerate(clip):
            planes = to_yuv(F.pad(rgb.float()[None], margin, mode="replicate")[0], self._chroma)
            frame = av.VideoFrame.from_ndarray(planes.reshape(layout), format=encoder.pix_fmt)
            frame.pts, frame.time_base = time, encoder.time_base
            yield from map(bytes, encoder.encode(frame))
        yield from map(bytes, encoder.encode(None))

    def _decode(self, packet: stream.Packet) -> list[av.VideoFrame]:
        decoder = self._decoder(packet.height, packet.width)
        frames = [frame for part in packet.parts for frame in decoder.decode(av.Packet(self.prefix + part))]
        return frames + list(decoder.decode(None))

    def _decoder(self, height: int, width: int) -> Any:
        """A decoder of frames of so many pixels and no more, which conceals no error."""
        decoder: Any = av.CodecContext.create(self.decoder, "r")
        decoder.thread_count = 1
        height, width = self._padded(height, width)
        decoder.options = {"err_detect": "explode", "max_pixels": str((height + BLOCK) * (width + BLOCK))}
        return decoder

    def _essential(self, packets: Sequence[bytes]) -> Sequence[bytes]:
        """The packets without what a decoder does not need."""
        return packets


def _crc(planes: Sequence[np.ndarray[Any, Any]]) -> int:
    crc = 0
    for plane in planes:
        crc = stream.symbol_crc(plane.tobytes(), crc)
    return crc


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """SVT-AV1 makes the thread that calls it a real-time one, where it may (as root, in a container): nobody else would
    get a turn on its core, and every process that it starts would be one too.
    """
    if not hasattr(os, "sched_setscheduler"):  # not Linux
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


@codecs.register("h264")
class H264(PyavCodec):
    """H.264/AVC by x264, at a constant rate factor.

    ``tune=zerolatency`` is the low-delay setting of the literature.
    """

    family, encoder, decoder, prefix = "h264", "libx264", "h264", bitstream.START
    licence = "GPL-2.0-or-later (x264, inside PyAV's wheel)"
    paper = "ITU-T H.264 | ISO/IEC 14496-10"

    def __init__(
        self,
        crf: float = 23.0,
        preset: Preset = "medium",
        gop: int = 16,
        chroma: Chroma = "4:2:0",
        tune: X264Tune | None = None,
        fps: int = 30,
    ) -> None:
        """``crf``: constant rate factor, 0 (lossless except for the colour conversion) to 51 (smallest stream).
        ``preset``: ``ultrafast`` to ``placebo``, as x264 names them. ``gop``: frames from one keyframe to the next.
        ``chroma``: ``4:2:0`` or ``4:4:4``. ``tune``: what the encoder optimises for, by its own names (``psnr``,
        ``ssim``, ``zerolatency`` …). ``fps``: frame rate that the encoder is told, in frames per second.
        """
        between("crf", crf, 0, 51)
        # cpu-independent: the AVX-512 lookahead reads memory that nobody wrote, and bytes change from call to call
        private = "open-gop=0:scenecut=0:cpu-independent=1"
        options = {"preset": preset, "x264-params": private, **({"tune": tune} if tune else {})}
        super().__init__(crf, chroma, gop, fps, options, tune)

    def _essential(self, packets: Sequence[bytes]) -> list[bytes]:
        return bitstream.essential_nals(packets, bitstream.h264_type, headers=range(7, 9), idle=(6, 9, 12))


@codecs.register("h265")
class H265(PyavCodec):
    """H.265/HEVC by x265, at a constant rate factor.

    Wavefronts are off, since they serve only threads, and so is weighted prediction, with which bytes do not repeat.
    """

    family, encoder, decoder, prefix = "h265", "libx265", "hevc", bitstream.START
    licence = "GPL-2.0-or-later (x265, inside PyAV's wheel)"
    paper = "ITU-T H.265 | ISO/IEC 23008-2"
    smallest = 16, 80  # its lookahead writes past the end of rows of fewer than five blocks (x265 4.2: heap overflow)

    def __init__(
        self,
        crf: float = 28.0,
        preset: Preset = "medium",
        gop: int = 16,
        chroma: Chroma = "4:2:0",
        tune: X265Tune | None = None,
        fps: int = 30,
    ) -> None:
        """``crf``: constant rate factor, 0 (finest) to 51 (smallest stream). ``preset``: ``ultrafast`` to ``placebo``,
        as x265 names them. ``gop``: frames from one keyframe to the next. ``chroma``: ``4:2:0`` or ``4:4:4``. ``tune``:
        what the encoder optimises for, by its own names (``psnr``, ``ssim``, ``zerolatency`` …). ``fps``: frame rate
        that the encoder is told, in frames per second.
        """
        between("crf", crf, 0, 51)
        # weightp=0: with weighted prediction, x265 4.2 sometimes writes other bytes for the same short clip
        private = "open-gop=0:scenecut=0:weightp=0:info=0:log-level=none:pools=none:frame-threads=1:wpp=0"
        options = {"preset": preset, "x265-params": private, **({"tune": tune} if tune else {})}
        super().__init__(crf, chroma, gop, fps, options, tune)

    def _essential(self, packets: Sequence[bytes]) -> list[bytes]:
        return bitstream.essential_nals(packets, bitstream.h265_type, headers=range(32, 35), idle=(35, 38, 39, 40))


@codecs.register("av1")
class Av1(PyavCodec):
    """AV1 by SVT-AV1, at a constant rate factor, with 4:2:0 chroma only."""

    family, encoder, decoder = "av1", "libsvtav1", "libdav1d"
    licence = "BSD-3-Clause-Clear (SVT-AV1), BSD-2-Clause (dav1d)"
    paper = "https://aomediacodec.github.io/av1-spec/"
    smallest = 4, 4

    def __init__(
        self,
        crf: int = 35,
        preset: int = 8,
        gop: int = 16,
        chroma: Chroma = "4:2:0",
        tune: SvtTune | None = None,
        fps: int = 30,
    ) -> None:
        """``crf``: constant rate factor, 1 (finest) to 63 (smallest stream). ``preset``: 0 (best compression) to 13
        (fast). ``gop``: frames from one keyframe to the next. ``chroma``: ``4:2:0``, the only one that SVT-AV1 codes.
        ``tune``: what the encoder optimises for, by SVT-AV1's own names (``vq``, ``psnr``, ``ssim``, ``iq``,
        ``ms_ssim``). ``fps``: frame rate that the encoder is told, in frames per second.
        """
        between("crf", crf, 1, 63)  # FFmpeg reads 0 as "not given"
        between("preset", preset, 0, 13)
        if chroma != "4:2:0":
            raise ValueError(f"SVT-AV1 codes 4:2:0 only, not {chroma}; leave chroma out, or use h264, h265 or vp9")
        os.environ.setdefault("SVT_LOG", "1")  # errors only; the library takes its level from nowhere else
        private = "lp=1" + (f":tune={SVT_TUNES.index(tune)}" if tune else "")
        super().__init__(crf, chroma, gop, fps, {"preset": str(preset), "svtav1-params": private}, tune)

    def _essential(self, packets: Sequence[bytes]) -> list[bytes]:
        return bitstream.essential_obus(packets)


@codecs.register("vp9")
class Vp9(PyavCodec):
    """VP9 by libvpx, at constant quality, in one pass."""

    family, encoder, decoder = "vp9", "libvpx-vp9", "vp9"
    licence = "BSD-3-Clause (libvpx)"
    paper = "https://www.webmproject.org/vp9/ (VP9 bitstream and decoding process specification)"

    def __init__(
        self,
        crf: int = 31,
        cpu_used: int = 2,
        gop: int = 16,
        chroma: Chroma = "4:2:0",
        tune: VpxTune | None = None,
        fps: int = 30,
    ) -> None:
        """``crf``: constant quality, 0 (finest) to 63 (smallest stream). ``cpu_used``: 0 (best compression) to 5
        (fast). ``gop``: frames from one keyframe to the next. ``chroma``: ``4:2:0`` or ``4:4:4``. ``tune``: kind of
        content, ``film`` or ``screen``. ``fps``: frame rate that the encoder is told, in frames per second.
        """
        between("crf", crf, 0, 63)
        between("cpu_used", cpu_used, 0, 5)
        options = {"b": "0", "keyint_min": str(gop), "deadline": "good", "cpu-used": str(cpu_used)}
        super().__init__(crf, chroma, gop, fps, options | ({"tune-content": tune} if tune else {}), tune)
