"""Classical image codecs of other packages, which teach Pillow a file format: JPEG XL and HEIC.

The stream of an image is the file itself, as in :mod:`robustcodec.zoo.pillow`. Some 500 bytes of a HEIC file are its
boxes, of which the checksum takes 117; in a JPEG XL file the checksum takes 106 bytes.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, ClassVar

import PIL

from robustcodec.errors import MissingDependency
from robustcodec.registry import codecs
from robustcodec.zoo._classical import between
from robustcodec.zoo._jpeg import Subsampling
from robustcodec.zoo._pillow import PillowCodec


class Plugin(PillowCodec):
    """A format of a package that is imported when it is first needed."""

    package: ClassVar[str]  # where it is installed from, and ...
    module: ClassVar[str]  # ... what that imports

    @classmethod
    def require(cls) -> None:
        cls.plug_in(cls.imported())

    @classmethod
    def imported(cls) -> ModuleType:
        """The package's module; raises :class:`MissingDependency`."""
        try:
            return importlib.import_module(cls.module)
        except ImportError as error:
            raise MissingDependency(
                f"{cls.family} needs {cls.package}, which cannot be imported here ({error}): "
                f"pip install 'robustcodec[{cls.family}]'"
            ) from None

    @classmethod
    def plug_in(cls, module: ModuleType) -> None:
        """Teach Pillow the format, coded by one thread."""

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        try:
            found = version(cls.package)
        except PackageNotFoundError:
            found = "missing"
        return f"pillow {PIL.__version__}, {cls.package} {found}"


@codecs.register("jpegxl")
class JpegXL(Plugin):
    """Lossy JPEG XL by libjxl."""

    family, format, package, module = "jpegxl", "JXL", "pillow-jxl-plugin", "pillow_jxl"
    licence, paper = "BSD-3-Clause (libjxl), GPL-3.0-or-later (pillow-jxl-plugin)", "ISO/IEC 18181-1"

    def __init__(self, quality: int = 75, effort: int = 7) -> None:
        """``quality``: 0 (smallest file) to 99, on about the scale of JPEG. ``effort``: 1 (fast) to 9 (best
        compression).
        """
        between("quality", quality, 0, 99)
        between("effort", effort, 1, 9)
        super().__init__(f"quality={quality}", quality=quality, effort=effort, num_threads=0)

    @classmethod
    def plug_in(cls, module: ModuleType) -> None:
        module.JpegXLImagePlugin.DECODE_THREADS = 0  # none beside this one


@codecs.register("heic")
class Heic(Plugin):
    """HEIC, an intra frame of HEVC in a HEIF file, by libheif with x265 and libde265."""

    family, format, package, module = "heic", "HEIF", "pillow-heif", "pillow_heif"
    licence = "BSD-3-Clause (pillow-heif), LGPL-3.0 (libheif, libde265), GPL-2.0-or-later (x265)"
    paper = "ISO/IEC 23008-12, ITU-T H.265 | ISO/IEC 23008-2"

    def __init__(self, quality: int = 50, subsampling: Subsampling = "4:2:0") -> None:
        """``quality``: 0 (smallest file) to 100. ``subsampling`` of chroma: ``4:2:0``, ``4:2:2`` or ``4:4:4``."""
        between("quality", quality, 0, 100)
        one_thread = {"x265:pools": "none", "x265:frame-threads": "1", "x265:wpp": "0"}
        super().__init__(f"quality={quality}", quality=quality, subsampling=subsampling, enc_params=one_thread)

    @classmethod
    def plug_in(cls, module: ModuleType) -> None:
        module.register_heif_opener(decode_threads=1)
