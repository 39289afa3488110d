"""H.266/VVC by Fraunhofer's ``vvencapp`` and ``vvdecapp``, if both programs are on the PATH.

A stream is a :mod:`robustcodec.stream` container with one part, the raw bitstream of the clip; the container costs 15
bytes and the sizes. The input is rounded to 8 bits, padded by replication to multiples of 8, and turned into 4:2:0 by
:mod:`robustcodec.zoo._yuv`. The commands follow the documentation of the two projects; nobody has run them with the
programs yet.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import stream
from robustcodec.errors import BadData, MissingDependency, StreamError
from robustcodec.interfaces import Card, StreamPart
from robustcodec.registry import codecs
from robustcodec.weights import sha256
from robustcodec.zoo._classical import ClassicalCodec, between
from robustcodec.zoo._yuv import to_rgb, to_yuv

ENCODER, DECODER = "vvencapp", "vvdecapp"
BLOCK = 8  # sides are padded to multiples of it
TIME = 3600.0  # seconds for one clip


@codecs.register("vvc")
class Vvc(ClassicalCodec):
    """H.266/VVC by VVenC, at a constant quantiser, with 10 bits inside and 4:2:0 chroma only."""

    family = "vvc"

    def __init__(
        self,
        qp: int = 32,
        preset: Literal["faster", "fast", "medium", "slow", "slower"] = "medium",
        gop: int = 32,
        qpa: bool = False,
        fps: int = 30,
    ) -> None:
        """``qp``: quantiser, 0 (finest) to 63 (smallest stream). ``preset``: ``faster`` to ``slower``, as VVenC names
        them. ``gop``: frames from one keyframe to the next, a multiple of 16. ``qpa``: adapt the quantiser to what
        viewers see, which costs PSNR. ``fps``: frame rate that the encoder is told, in frames per second.

        Raises :class:`MissingDependency` if the programs are not on the PATH.
        """
        between("qp", qp, 0, 63)
        if gop < 16 or gop % 16 or fps < 1:
            raise ValueError(f"gop={gop}, fps={fps}: expected a multiple of 16 and a frame rate of at least 1")
        if missing := [name for name in (ENCODER, DECODER) if shutil.which(name) is None]:
            raise MissingDependency(
                f"vvc needs {ENCODER} and {DECODER} on the PATH; missing: {', '.join(missing)}. Build them from "
                "https://github.com/fraunhoferhhi/vvenc and https://github.com/fraunhoferhhi/vvdec (cmake), or install "
                "your system's packages vvenc and vvdec"
            )
        settings: dict[str, Any] = {"qp": qp, "preset": preset, "gop": gop, "qpa": qpa, "fps": fps}
        licence, paper = "BSD-3-Clause-Clear (VVenC, VVdeC)", "ITU-T H.266 | ISO/IEC 23090-3"
        super().__init__(Card(f"vvc:qp={qp}", self.family, "video", licence, paper, architecture=settings))
        self._settings = settings

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        found = {name: shutil.which(name) for name in (ENCODER, DECODER)}
        return ", ".join(f"{name} {sha256(Path(path))[:16] if path else 'missing'}" for name, path in found.items())

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        packet = self._packet(stream)
        (part,) = packet.parts
        header = StreamPart("header", 0, 0, 8 * (len(stream) - len(part)))
        return [header, StreamPart("clip", 0, packet.frames, 8 * len(part))]

    def _packet(self, data: bytes) -> stream.Packet:
        return stream.unpack(data, self.container_id, self.family, lambda frames: 1, symbols=True)

    def compress_clip(self, clip: Tensor) -> bytes:
        frames, _, height, width = clip.shape
        margin = (0, -width % BLOCK, 0, -height % BLOCK)
        padded = F.pad(clip.float(), margin, mode="replicate").to(torch.uint8)
        with TemporaryDirectory() as folder:
            source, coded = Path(folder, "clip.yuv"), Path(folder, "clip.266")
            source.write_bytes(b"".join(to_yuv(frame, "4:2:0").tobytes() for frame in padded))
            size = padded.shape[-1], padded.shape[-2]
            failure = _run(encoding(source, coded, size, frames, **self._settings))
            if failure or not coded.is_file():
                raise BadData(f"{ENCODER} cannot code {frames} frames of {width}x{height}: {failure or 'no file'}")
            packet = stream.Packet(frames, height, width, (coded.read_bytes(),))
        crc = stream.symbol_crc(self._shown(packet))
        return stream.pack(replace(packet, symbol_crc=crc), self.container_id)

    def decompress_clip(self, data: bytes) -> Tensor:
        packet = self._packet(data)
        planes = self._shown(packet)
        packet.expect(stream.symbol_crc(planes), self.family)
        height, width = packet.height + -packet.height % BLOCK, packet.width + -packet.width % BLOCK
        return clip_of(planes, packet.frames, height, width)[..., : packet.height, : packet.width]

    def _shown(self, packet: stream.Packet) -> bytes:
        """The planes of all frames as the decoder writes them."""
        with TemporaryDirectory() as folder:
            coded, shown = Path(folder, "clip.266"), Path(folder, "clip.yuv")
            coded.write_bytes(packet.parts[0])
            failure = _run(decoding(coded, shown))
            if failure or not shown.is_file():
                raise StreamError(f"{DECODER} cannot decode the stream: {failure or 'no file'}")
            return shown.read_bytes()


def encoding(source: Path, coded: Path, size: tuple[int, int], frames: int, **settings: Any) -> list[str]:
    """What to run to code a file of 8-bit 4:2:0 frames; ``size``: width, height; ``settings``: those of the codec."""
    rate, gop, quantiser, adapted = (str(int(settings[name])) for name in ("fps", "gop", "qp", "qpa"))
    files = ["--input", str(source), "--output", str(coded)]
    clip = ["--size", f"{size[0]}x{size[1]}", "--format", "yuv420", "--framerate", rate, "--frames", str(frames)]
    quality = ["--preset", settings["preset"], "--qp", quantiser, "--qpa", adapted, "--passes", "1"]
    coder = ["--threads", "1", "--intraperiod", gop, "--refreshtype", "idr", "--verbosity", "1"]
    return [ENCODER, *files, *clip, *quality, *coder]


def decoding(coded: Path, shown: Path) -> list[str]:
    """What to run to decode a bitstream to raw frames."""
    return [DECODER, "--bitstream", str(coded), "--output", str(shown), "--threads", "1", "--verbosity", "1"]


def clip_of(data: bytes, frames: int, height: int, width: int) -> Tensor:
    """uint8 ``(T, 3, H, W)`` of raw 4:2:0 frames in 10 bits, 2 bytes a value, or in 8 bits."""
    values = frames * height * width * 3 // 2
    if len(data) not in (values, 2 * values):
        raise StreamError(f"{DECODER} wrote {len(data)} bytes; expected {frames} frames of {width}x{height}")
    planes = np.frombuffer(data, "u1") if len(data) == values else np.frombuffer(data, "<u2") / np.float32(4)
    return torch.stack([to_rgb(frame.copy(), height, width, "4:2:0") for frame in planes.reshape(frames, -1)])


def _run(command: Sequence[str]) -> str:
    """Run it; how it failed, on one line, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIME, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIME:g} s"
    if done.returncode == 0:
        return ""
    said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[-300:]
    return f"exit code {done.returncode}: {said}"
