"""What an image file itself says of its values: Pillow reduces most that have more than 8 bits to 8 without a word."""

from __future__ import annotations

import re
from pathlib import Path

TIFF_BITS, TIFF_KIND = 258, 339  # tags BitsPerSample and SampleFormat
TIFF_KINDS = {2: " signed", 3: " float"}


def beyond_8_bits(path: Path) -> str:
    """``16-bit``, ``32-bit float`` … if that is what the file holds; nothing for values of 0 to 255.

    Files are known by how they begin. What is damaged may raise anything.
    """
    content = path.read_bytes()
    kind = ""
    if content.startswith(b"\x89PNG"):
        bits = content[24] if len(content) > 24 else 8  # in IHDR, the first chunk
    elif content.startswith(b"\xff\xd8"):
        bits = _jpeg(content)
    elif content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        bits, kind = _tiff(path)
    elif re.match(rb"P[1-6fF]\s", content):
        bits, kind = _netpbm(content)
    elif content[4:8] == b"ftyp":  # AVIF: of the picture, its tiles and whatever else is coded in the file
        found = re.findall(rb"av1C\x81.(.)", content, re.DOTALL)
        bits = max((8 + bool(flags[0] & 0x40) * (2 + 2 * bool(flags[0] & 0x20)) for flags in found), default=8)
    elif (at := content.find(b"\xff\x4f\xff\x51")) >= 0 and (at == 0 or content[4:8] == b"jP  "):
        bits = _jpeg2000(content[at:])
    else:  # WebP, BMP, GIF: they have no more
        bits = 8
    return f"{bits}-bit{kind}" if bits > 8 or kind else ""


def _jpeg(content: bytes) -> int:
    """The precision in the header of the frame."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 < len(content):
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return content[at + 4]
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return 8


def _jpeg2000(codestream: bytes) -> int:
    """The largest precision in the SIZ segment, three bytes for each component."""
    components = int.from_bytes(codestream[40:42])
    return max(((depth & 0x7F) + 1 for depth in codestream[42 : 42 + 3 * components : 3]), default=8)


def _netpbm(content: bytes) -> tuple[int, str]:
    kind = content[1:2]
    if kind in b"fF":
        return 32, " float"
    if kind in b"14":
        return 1, ""
    _, _, _, largest = re.sub(rb"#[^\n]*", b"", content[:4096]).split(maxsplit=4)[:4]
    return int(largest).bit_length(), ""


def _tiff(path: Path) -> tuple[int, str]:
    """Of the first picture."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with path.open("rb") as file:
        header = file.read(8)
        if header[2:3] == b"+" or header[3:4] == b"+":  # BigTIFF
            header += file.read(8)
        tags = ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
    kinds = [TIFF_KINDS.get(kind, "") for kind in tags.get(TIFF_KIND, (1,))]
    return max(tags.get(TIFF_BITS, (1,))), max(kinds)
