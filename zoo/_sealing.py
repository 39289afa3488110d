"""A checksum inside a standard image file, in a field that any viewer skips: a comment, or Exif's image description.

Its text is ``crc32`` and eight hexadecimal digits: the CRC-32 of the whole file with zeros in their place. Damage is
found before an image decoder sees it. A file that was written anew by another program has lost it, or it is wrong.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

from PIL import Image

from robustcodec.errors import StreamError

Field = Literal["comment", "exif"]
LABEL, DIGITS = b"crc32 ", 8
BLANK = LABEL + b"0" * DIGITS
IMAGE_DESCRIPTION = 0x010E  # of Exif 2.3, table 4


def blank(field: Field) -> dict[str, Any]:
    """Options of Pillow's ``save`` for a file that :func:`seal` can complete."""
    if field == "comment":
        return {"comment": BLANK}
    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = BLANK.decode()
    return {"exif": exif.tobytes()}


def seal(file: bytes) -> bytes:
    """The file with its checksum in the place that :func:`blank` left; raises :class:`ValueError` if there is none."""
    at = file.index(BLANK) + len(LABEL)
    return file[:at] + b"%08x" % zlib.crc32(file) + file[at + DIGITS :]


def verify(file: bytes, kind: str) -> None:
    """Raise :class:`StreamError` unless ``file``, an image file of ``kind``, holds its own checksum."""
    at = file.find(LABEL) + len(LABEL)
    given = file[at : at + DIGITS]
    blanked = file[:at] + b"0" * DIGITS + file[at + DIGITS :]
    if at < len(LABEL) or given != b"%08x" % zlib.crc32(blanked):
        raise StreamError(
            f"{len(file)} bytes that are not a {kind} file as it was written: its checksum is wrong or missing. The "
            "file is damaged, cut short, or was saved again by another program"
        )
