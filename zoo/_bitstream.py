"""What of an encoder's packets a decoder needs: ITU-T H.264 and H.265 Annex B, AV1 specification §5.3.

Encoders repeat parameter sets at every keyframe and add messages, delimiters and padding. None of it changes a
pixel of a stream that is decoded from its first frame, so none of it is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

START = b"\x00\x00\x01"  # of a NAL unit; emulation prevention keeps it out of the units themselves


def nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units of a byte stream, without start codes; no unit ends with a zero byte."""
    return [unit.rstrip(b"\x00") for unit in annex_b.split(START)[1:]]


def h264_type(unit: bytes) -> int:
    """``nal_unit_type`` of ITU-T H.264 table 7-1: 5 an IDR slice, 6 SEI, 7 and 8 parameter sets."""
    return unit[0] & 31


def h265_type(unit: bytes) -> int:
    """``nal_unit_type`` of ITU-T H.265 table 7-1: 19 and 20 IDR slices, 32 to 34 parameter sets, 39 SEI."""
    return unit[0] >> 1 & 63


def obus(unit: bytes) -> Iterator[tuple[int, bytes]]:
    """``obu_type`` and bytes of each OBU of a temporal unit whose OBUs state their sizes."""
    at = 0
    while at < len(unit):
        head, end = unit[at], at + 1 + (unit[at] >> 2 & 1)
        size = shift = 0
        while True:
            byte = unit[end]
            size |= (byte & 0x7F) << shift
            shift, end = shift + 7, end + 1
            if byte < 0x80:
                break
        yield head >> 3 & 15, unit[at : end + size]
        at = end + size


def essential_nals(
    packets: Sequence[bytes], kind: Callable[[bytes], int], headers: range, idle: Sequence[int]
) -> list[bytes]:
    """Each packet's NAL units joined by start codes, without the first start code.

    Units of the types ``idle`` are left out, and units of the types ``headers`` that came before.
    """
    typed = [[(kind(unit), unit) for unit in nal_units(packet)] for packet in packets]
    return [START.join(units) for units in _once(typed, headers, idle)]


def essential_obus(packets: Sequence[bytes]) -> list[bytes]:
    """Each temporal unit without delimiter, metadata and padding, and without sequence headers that came before."""
    return [b"".join(units) for units in _once([list(obus(p)) for p in packets], headers=(1,), idle=(2, 5, 15))]


def _once(
    packets: Sequence[Sequence[tuple[int, bytes]]], headers: Sequence[int], idle: Sequence[int]
) -> Iterator[list[bytes]]:
    sent: set[bytes] = set()
    for packet in packets:
        kept = [unit for kind, unit in packet if kind not in idle and not (kind in headers and unit in sent)]
        sent.update(unit for kind, unit in packet if kind in headers)
        yield kept
