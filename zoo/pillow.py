"""Classical image codecs through Pillow: JPEG, WebP, AVIF and JPEG 2000; clips are coded frame by frame.

The stream of an image is the file itself, byte for byte. A clip of several frames is a :mod:`robustcodec.stream`
container of files. Any viewer opens these files. A checksum lies in their comment (JPEG and JPEG 2000, 18 bytes) or in
their Exif data (WebP 68, AVIF 117 bytes), so that damage is found before a picture is shown.
"""

from __future__ import annotations

from typing import Any, ClassVar

import PIL
from PIL import features

from robustcodec.errors import MissingDependency
from robustcodec.registry import codecs
from robustcodec.zoo._classical import between
from robustcodec.zoo._jpeg import JpegTransform, Subsampling
from robustcodec.zoo._pillow import PillowCodec


class BuiltIn(PillowCodec):
    """A format that Pillow's own wheel brings."""

    library: ClassVar[str]  # Pillow's name of the feature that codes it

    @classmethod
    def require(cls) -> None:
        if not features.check(cls.library):
            raise MissingDependency(
                f"this Pillow ({PIL.__version__}) cannot write {cls.format}; install a wheel from PyPI: "
                "pip install --force-reinstall --only-binary :all: pillow"
            )

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        versions = [features.version(name) for name in (cls.library, "libjpeg_turbo") if cls.library in (name, "jpg")]
        return f"pillow {PIL.__version__}, {cls.library} {' '.join(str(v) for v in versions)}"


@codecs.register("jpeg")
class Jpeg(BuiltIn):
    """JPEG by libjpeg-turbo."""

    family, format, library, checksum = "jpeg", "JPEG", "jpg", "comment"
    licence, paper = "IJG and BSD-3-Clause (libjpeg-turbo)", "ITU-T T.81 | ISO/IEC 10918-1"

    def __init__(
        self,
        quality: int = 75,
        subsampling: Subsampling = "4:2:0",
        optimize: bool = True,
        progressive: bool = False,
    ) -> None:
        """``quality``: 1 (smallest file) to 100. ``subsampling`` of chroma: ``4:2:0``, ``4:2:2`` or ``4:4:4``.
        ``optimize``: fit the Huffman tables to the image. ``progressive``: write a progressive file.
        """
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
class WebP(BuiltIn):
    """Lossy WebP, which codes an image as an intra frame of VP8, always with 4:2:0 chroma."""

    family, format, library = "webp", "WEBP", "webp"
    licence, paper = "BSD-3-Clause (libwebp)", "https://www.rfc-editor.org/rfc/rfc9649"

    def __init__(self, quality: int = 75, method: int = 6) -> None:
        """``quality``: 0 (smallest file) to 100. ``method``: 0 (fast) to 6 (best compression)."""
        between("quality", quality, 0, 100)
        between("method", method, 0, 6)
        super().__init__(f"quality={quality}", quality=quality, method=method)


@codecs.register("avif")
class Avif(BuiltIn):
    """AVIF by libavif, which codes an image as an intra frame of AV1; one thread codes, so that the bytes repeat."""

    family, format, library = "avif", "AVIF", "avif"
    licence, paper = "BSD-2-Clause (libavif, libaom)", "https://aomediacodec.github.io/av1-avif/"

    def __init__(self, quality: int = 60, speed: int = 6, subsampling: Subsampling = "4:2:0") -> None:
        """``quality``: 0 (smallest file) to 100. ``speed``: 0 (best compression) to 10 (fast). ``subsampling`` of
        chroma: ``4:2:0``, ``4:2:2`` or ``4:4:4``.
        """
        between("quality", quality, 0, 100)
        between("speed", speed, 0, 10)
        super().__init__(f"quality={quality}", quality=quality, speed=speed, subsampling=subsampling, max_threads=1)


@codecs.register("jpeg2000")
class Jpeg2000(BuiltIn):
    """JPEG 2000 by OpenJPEG, with the irreversible 9/7 wavelet and one quality layer, as a bare codestream."""

    family, format, library, checksum = "jpeg2000", "JPEG2000", "jpg_2000", "comment"
    licence, paper = "BSD-2-Clause (OpenJPEG)", "ITU-T T.800 | ISO/IEC 15444-1"

    def __init__(self, ratio: float = 24.0) -> None:
        """``ratio``: compression ratio against 24 bits per pixel, 1 to 1000; at 24 a pixel gets 1 bit.

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
