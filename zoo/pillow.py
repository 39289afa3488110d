"""Classical image codecs through Pillow: JPEG, WebP, AVIF, JPEG 2000; clips are coded frame by frame.

The stream of an image is the file itself, byte for byte, so its bpp is the literature's. A clip of several
frames is a :mod:`robustcodec.stream` container of files. The file formats carry no checksum: damage inside an
image's entropy-coded data that its decoder cannot notice decodes to other pixels, as in any viewer.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from robustcodec import stream
from robustcodec.errors import BadData, MissingDependency, StreamError
from robustcodec.interfaces import Card, StreamPart
from robustcodec.registry import codecs
from robustcodec.zoo._classical import ClassicalCodec, between
from robustcodec.zoo._jpeg import JpegTransform, Subsampling


def _contained(data: bytes) -> bool:
    """True of a clip of several frames: a single image is its file and nothing else."""
    return data[: len(stream.MAGIC)] == stream.MAGIC


class PillowCodec(ClassicalCodec):
    """One file format of Pillow. The input is rounded to 8 bits; ``forward`` is the real coder, without gradient."""

    format: ClassVar[str]  # Pillow's name of the file format
    library: ClassVar[str]  # Pillow's name of the feature that codes it
    licence: ClassVar[str]
    paper: ClassVar[str]
    ending: ClassVar[bytes] = b""  # what a whole file ends with, where the decoder does not insist on it

    def __init__(self, setting: str, **options: Any) -> None:
        if not features.check(self.library):
            raise MissingDependency(
                f"this Pillow ({PIL.__version__}) cannot write {self.format}; install a wheel from PyPI: "
                "pip install --force-reinstall --only-binary :all: pillow"
            )
        super().__init__(Card(f"{self.family}:{setting}", self.family, licence=self.licence, paper=self.paper))
        self._options = options

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        versions = [features.version(name) for name in (cls.library, "libjpeg_turbo") if cls.library in (name, "jpg")]
        return f"pillow {PIL.__version__}, {cls.library} {' '.join(str(v) for v in versions)}"

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        if not _contained(stream):
            return [StreamPart("image", 0, 1, 8 * len(stream))]
        files = self._packet(stream).parts
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, files))))
        return [header, *(StreamPart("image", i, 1, 8 * len(file)) for i, file in enumerate(files))]

    def compress_clip(self, clip: Tensor) -> bytes:
        files = tuple(self._write(frame) for frame in clip.permute(0, 2, 3, 1).numpy())
        if len(files) == 1:
            return files[0]
        packet = stream.Packet(len(files), clip.shape[2], clip.shape[3], files, symbol_crc=0)
        return stream.pack(packet, self.container_id)

    def _packet(self, data: bytes) -> stream.Packet:
        return stream.unpack(data, self.container_id, self.family, lambda frames: frames)

    def decompress_clip(self, data: bytes) -> Tensor:
        if not _contained(data):
            frames = [self._read(data)]
        else:
            packet = self._packet(data)
            frames = [self._read(file) for file in packet.parts]
            if any(f.shape[:2] != (packet.height, packet.width) for f in frames):
                raise StreamError(f"a frame is not {packet.width}x{packet.height}, as the container's header says")
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)

    def _write(self, frame: np.ndarray[Any, Any]) -> bytes:
        out = io.BytesIO()
        try:
            Image.fromarray(frame).save(out, self.format, **self._options)
        except (OSError, ValueError, RuntimeError) as error:
            height, width = frame.shape[:2]
            raise BadData(
                f"{self.family} cannot code a frame of {width}x{height} ({error}); try a smaller one"
            ) from None
        return out.getvalue()

    def _read(self, data: bytes) -> np.ndarray[Any, Any]:
        if not data.endswith(self.ending):
            raise StreamError(f"{len(data)} bytes that are not a whole {self.format} file: the end is missing")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a header that asks for too many pixels only warns
                with Image.open(io.BytesIO(data), formats=(self.format,)) as image:
                    image.load()
                    mode, pixels = image.mode, np.asarray(image)
        except Exception as error:  # Pillow's readers raise many kinds on damaged files, SyntaxError among them
            raise StreamError(
                f"{len(data)} bytes that are not a whole {self.format} file: {type(error).__name__}: {error}"
            ) from None
        if mode != "RGB":
            raise StreamError(f"a {self.format} file of mode {mode}; expected RGB, as {self.family} writes")
        return pixels


@codecs.register("jpeg")
class Jpeg(PillowCodec):
    """JPEG (libjpeg-turbo), Huffman tables fitted to the image, 4:2:0 chroma unless told."""

    family, format, library, ending = "jpeg", "JPEG", "jpg", b"\xff\xd9"
    licence, paper = "IJG and BSD-3-Clause (libjpeg-turbo)", "ITU-T T.81 | ISO/IEC 10918-1"

    def __init__(
        self,
        quality: int = 75,
        subsampling: Subsampling = "4:2:0",
        optimize: bool = True,
        progressive: bool = False,
    ) -> None:
        """``quality`` 1 (smallest) to 100."""
        between("quality", quality, 1, 100)
        super().__init__(
            f"quality={quality}",
            quality=quality,
            subsampling=subsampling,
            optimize=optimize,
            progressive=progressive,
        )
        self.transform = JpegTransform(quality, subsampling)


@codecs.register("webp")
class WebP(PillowCodec):
    """Lossy WebP: the intra frames of VP8, always 4:2:0."""

    family, format, library = "webp", "WEBP", "webp"
    licence, paper = "BSD-3-Clause (libwebp)", "https://www.rfc-editor.org/rfc/rfc9649"

    def __init__(self, quality: int = 75, method: int = 6) -> None:
        """``quality`` 0 (smallest) to 100; ``method`` 0 (fast) to 6 (best compression)."""
        between("quality", quality, 0, 100)
        between("method", method, 0, 6)
        super().__init__(f"quality={quality}", quality=quality, method=method)


@codecs.register("avif")
class Avif(PillowCodec):
    """AVIF: the intra frames of AV1 (libavif, one thread so that bytes repeat)."""

    family, format, library = "avif", "AVIF", "avif"
    licence, paper = "BSD-2-Clause (libavif, libaom)", "https://aomediacodec.github.io/av1-avif/"

    def __init__(self, quality: int = 60, speed: int = 6, subsampling: Subsampling = "4:2:0") -> None:
        """``quality`` 0 (smallest) to 100; ``speed`` 0 (best compression) to 10 (fast)."""
        between("quality", quality, 0, 100)
        between("speed", speed, 0, 10)
        super().__init__(f"quality={quality}", quality=quality, speed=speed, subsampling=subsampling, max_threads=1)


@codecs.register("jpeg2000")
class Jpeg2000(PillowCodec):
    """JPEG 2000 (OpenJPEG): irreversible 9/7 wavelet, one quality layer, the bare codestream."""

    family, format, library, ending = "jpeg2000", "JPEG2000", "jpg_2000", b"\xff\xd9"
    licence, paper = "BSD-2-Clause (OpenJPEG)", "ITU-T T.800 | ISO/IEC 15444-1"

    def __init__(self, ratio: float = 24.0) -> None:
        """``ratio``: compression ratio against 24 bits per pixel, so 24 asks for 1 bpp; 1 to 1000.

        Rate control holds the size, so an attack can hurt the distortion but hardly the rate.
        """
        between("ratio", ratio, 1, 1000)
        super().__init__(
            f"ratio={ratio:g}",
            quality_mode="rates",
            quality_layers=[ratio],
            irreversible=True,
            no_jp2=True,
        )
