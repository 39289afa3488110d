"""What image file formats through Pillow share: the stream of an image is the file, byte for byte, and a clip of
several frames is a :mod:`robustcodec.stream` container of files. Every file holds a checksum, as
:mod:`robustcodec.zoo._sealing` says, and all of its bytes count.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robustcodec import stream
from robustcodec.errors import BadData, StreamError
from robustcodec.interfaces import Card, StreamPart
from robustcodec.zoo import _sealing
from robustcodec.zoo._classical import ClassicalCodec


def _contained(data: bytes) -> bool:
    """True of a clip of several frames: a single image is its file and nothing else."""
    return data[: len(stream.MAGIC)] == stream.MAGIC


class PillowCodec(ClassicalCodec):
    """One file format of Pillow. The input is rounded to 8 bits; ``forward`` is the real coder, without gradient."""

    format: ClassVar[str]  # Pillow's name of the file format
    licence: ClassVar[str]
    paper: ClassVar[str]
    checksum: ClassVar[_sealing.Field] = "exif"  # where a file of this format holds it

    def __init__(self, setting: str, **options: Any) -> None:
        self.require()
        super().__init__(Card(f"{self.family}:{setting}", self.family, licence=self.licence, paper=self.paper))
        self._options = options

    @classmethod
    @abstractmethod
    def require(cls) -> None:
        """Raises :class:`robustcodec.errors.MissingDependency` if this Pillow cannot read and write the format."""

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
        packet = stream.Packet(len(files), clip.shape[2], clip.shape[3], files)
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
            Image.fromarray(frame).save(out, self.format, **self._options, **_sealing.blank(self.checksum))
            return _sealing.seal(out.getvalue())
        except (OSError, ValueError, RuntimeError) as error:
            height, width = frame.shape[:2]
            raise BadData(
                f"{self.family} cannot code a frame of {width}x{height} ({error}); try a smaller one"
            ) from None

    def _read(self, data: bytes) -> np.ndarray[Any, Any]:
        _sealing.verify(data, self.format)
        try:
            with patch.object(Image, "MAX_IMAGE_PIXELS", None):  # the limit is ours
                with Image.open(io.BytesIO(data), formats=(self.format,)) as image:
                    stream.within_limit(1, image.height, image.width)
                    image.load()
                    mode, pixels = image.mode, np.asarray(image)
        except (StreamError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise StreamError(f"{len(data)} bytes that are not a {self.format} file, but of another format") from None
        except Exception as error:  # Pillow's readers raise many kinds on damaged files, SyntaxError among them
            raise StreamError(
                f"{len(data)} bytes that are not a whole {self.format} file: {type(error).__name__}: {error}"
            ) from None
        if mode != "RGB":
            raise StreamError(f"a {self.format} file of mode {mode}; expected RGB, as {self.family} writes")
        return pixels
