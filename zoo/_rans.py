"""CompressAI's range decoder, which stays inside its string.

The decoder in C++ trusts its string: one that is damaged, or for fewer symbols than it is asked for, makes it read on
in whatever memory comes behind (Giesen's rANS, https://github.com/rygorous/ryg_rans, knows no end of a stream). Here
zeros come behind, as many as it can read. After that its symbols are wrong, which their checksum says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

PER_SYMBOL = 80  # bytes: an escape behind the end has up to 8 nibbles of 15 in its length, so up to 135 digits
ESCAPES = 4096  # so many of them: each has a probability of about 2^-20 there, and nobody chooses more than a few
PER_TABLE = 4  # bytes for any other symbol, of which a table of 16 bits takes at most 2
PER_BYTE = 16  # bytes of digits that the string itself may announce: 15 for each nibble of a length
FIRST = 1 << 12  # symbols that a decoder has room for before it knows how many there are


def padded(data: bytes, symbols: int) -> bytes:
    """``data`` and what may be read behind it while ``symbols`` are decoded."""
    behind = PER_SYMBOL * min(symbols, ESCAPES) + PER_TABLE * symbols + PER_BYTE * (len(data) + PER_BYTE)
    return data + bytes(behind)


class Bounded:
    """``RansDecoder`` with the same methods. One that decodes step by step begins again with more room when its
    symbols become twice as many; steps with the same tables are then one, so that this takes little time.
    """

    kind: type[Any]  # CompressAI's own

    def __init__(self) -> None:
        self._decoder = self.kind()
        self._data, self._room, self._steps = b"", 0, list[tuple[list[int], tuple[Any, ...]]]()
        self._asked = 0

    def set_stream(self, data: bytes) -> None:
        self._data, self._steps, self._asked = data, [], 0
        self._begin(FIRST)

    def decode_stream(self, indexes: Sequence[int], *tables: Any) -> list[int]:
        self._asked += len(indexes)
        if self._asked > self._room:
            self._begin(2 * self._asked)
            for done, known in self._steps:
                self._decoder.decode_stream(done, *known)
        if not self._steps or any(a is not b for a, b in zip(self._steps[-1][1], tables, strict=True)):
            self._steps.append(([], tables))
        self._steps[-1][0].extend(indexes)
        return self._decoder.decode_stream(indexes, *tables)  # type: ignore[no-any-return]

    def decode_with_indexes(self, data: bytes, indexes: Sequence[int], *tables: Any) -> list[int]:
        return self._decoder.decode_with_indexes(padded(data, len(indexes)), indexes, *tables)  # type: ignore[no-any-return]

    def _begin(self, room: int) -> None:
        self._room = room
        self._decoder.set_stream(padded(self._data, room))


def bound(ans: ModuleType) -> None:
    """Put :class:`Bounded` in the place of the decoder of ``compressai.ans``, for all who take it from there or did."""
    if ans.RansDecoder is Bounded:
        return
    Bounded.kind = ans.RansDecoder
    for module in [ans, *sys.modules.values()]:
        if getattr(module, "__dict__", {}).get("RansDecoder") is Bounded.kind:
            module.RansDecoder = Bounded  # type: ignore[attr-defined]
