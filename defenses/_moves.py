"""Moves of pixels that can be undone exactly: the eight views of a frame, circular shifts, orders of colours.

Each names itself in a few bytes, whose checksum :mod:`robustcodec.defenses.wrapping` takes care of.
"""

from __future__ import annotations

import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from robustcodec.defenses.wrapping import Change, Step, StepwiseCodec
from robustcodec.errors import BadData, StreamError
from robustcodec.interfaces import Codec, Defense

SHIFT = struct.Struct("<HH")  # down and right
LARGEST = 65535
ORDERS = list(itertools.permutations(range(3)))

Option = TypeVar("Option")


class Move(ABC):
    """A permutation of the values of every frame of a clip ``(N, T, 3, H, W)``."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """The moved clip."""

    @abstractmethod
    def undo(self, y: Tensor) -> Tensor:
        """The clip of which ``y`` is the moved one; raises :class:`StreamError` if no clip of that size is."""

    @abstractmethod
    def pack(self) -> bytes:
        """The bytes that :meth:`read` reads."""

    @classmethod
    @abstractmethod
    def read(cls, data: bytes) -> tuple[Move, int]:
        """The move that ``data`` begins with and the length of its bytes; raises :class:`StreamError` for others."""

    @classmethod
    @abstractmethod
    def draw(cls, height: int, width: int) -> Move:
        """Any move of a clip of this size, all equally likely, from torch's global random state."""


@dataclass(frozen=True)
class View(Move):
    """View ``k`` of 8: bit 0 mirrors, bit 1 turns upside down, bit 2 then transposes all frames."""

    k: int

    def apply(self, x: Tensor) -> Tensor:
        flipped = self._flip(x)
        return flipped.transpose(-1, -2) if self.k & 4 else flipped

    def undo(self, y: Tensor) -> Tensor:
        return self._flip(y.transpose(-1, -2) if self.k & 4 else y)

    def pack(self) -> bytes:
        return pack_index(self.k)

    @classmethod
    def read(cls, data: bytes) -> tuple[Move, int]:
        return cls(read_index(data, range(8), "view")), 1

    @classmethod
    def draw(cls, height: int, width: int) -> Move:
        return cls(pick(range(8)))

    def _flip(self, x: Tensor) -> Tensor:
        dims = [dim for bit, dim in ((1, -1), (2, -2)) if self.k & bit]
        return x.flip(dims) if dims else x


@dataclass(frozen=True)
class Shift(Move):
    """A circular shift by ``down`` and ``right`` pixels, each less than the side it is along."""

    down: int
    right: int

    def apply(self, x: Tensor) -> Tensor:
        return x.roll((self.down, self.right), (-2, -1))

    def undo(self, y: Tensor) -> Tensor:
        if self.down >= y.shape[-2] or self.right >= y.shape[-1]:
            raise StreamError(
                f"a shift by {self.down} down and {self.right} right of a clip of {y.shape[-1]}x{y.shape[-2]}; "
                "expected less than its sides: head and rest of the stream do not belong together"
            )
        return y.roll((-self.down, -self.right), (-2, -1))

    def pack(self) -> bytes:
        if max(self.down, self.right) > LARGEST:
            raise BadData(f"a shift by {max(self.down, self.right)} pixels; up to {LARGEST} can be written: use a crop")
        return SHIFT.pack(self.down, self.right)

    @classmethod
    def read(cls, data: bytes) -> tuple[Move, int]:
        if len(data) < SHIFT.size:
            raise StreamError(f"{len(data)} bytes; expected at least the {SHIFT.size} of a shift")
        return cls(*SHIFT.unpack_from(data)), SHIFT.size

    @classmethod
    def draw(cls, height: int, width: int) -> Move:
        return cls(pick(range(height)), pick(range(width)))


@dataclass(frozen=True)
class ColourOrder(Move):
    """Order ``k`` of 6: the first channel is colour ``ORDERS[k][0]`` of RGB, and so on."""

    k: int

    def apply(self, x: Tensor) -> Tensor:
        return x[..., list(ORDERS[self.k]), :, :]

    def undo(self, y: Tensor) -> Tensor:
        return y[..., [ORDERS[self.k].index(colour) for colour in range(3)], :, :]

    def pack(self) -> bytes:
        return pack_index(self.k)

    @classmethod
    def read(cls, data: bytes) -> tuple[Move, int]:
        return cls(read_index(data, range(len(ORDERS)), "order of colours")), 1

    @classmethod
    def draw(cls, height: int, width: int) -> Move:
        return cls(pick(range(len(ORDERS))))


class Moving(Defense):
    """A defense that moves the pixels of every clip in one way, or in one drawn for each sample and call."""

    name: ClassVar[str]
    kind: ClassVar[type[Move]]

    @property
    @abstractmethod
    def random(self) -> bool:
        """Whether moves are drawn."""

    @abstractmethod
    def draw(self, height: int, width: int) -> Move:
        """The move of a clip of this size."""

    @abstractmethod
    def makes(self, move: Move, height: int, width: int) -> bool:
        """Whether a coded clip of this size can have been moved so."""

    def wrap(self, codec: Codec) -> Codec:
        return MovedCodec(codec, self)


class MovingBy(Moving):
    """One of a few moves, whatever the size of the clip."""

    @property
    @abstractmethod
    def moves(self) -> Sequence[Move]:
        """Equally likely ones, or one."""

    @property
    def random(self) -> bool:
        return len(self.moves) > 1

    def draw(self, height: int, width: int) -> Move:
        return pick(self.moves)

    def makes(self, move: Move, height: int, width: int) -> bool:
        return move in self.moves


class MovedCodec(StepwiseCodec):
    """Codes each sample after a move that is named in front of the inner stream, and moves it back."""

    side = "move"

    def __init__(self, inner: Codec, defense: Moving) -> None:
        super().__init__(inner, defense.name, random=defense.random, fixed=not defense.random)
        self.defense = defense

    def steps(self, x: Tensor, real: bool) -> list[Step]:
        moves = [self.defense.draw(*x.shape[-2:]) for _ in x]
        return [Step(rows, move.apply, move.undo, move.pack()) for move, rows in self.alike(moves)]

    def read(self, stream: bytes) -> tuple[int, Change]:
        move, length = self.defense.kind.read(stream)

        def undo(y: Tensor) -> Tensor:
            if not self.defense.makes(move, *y.shape[-2:]):
                raise StreamError(f"the stream holds {move}, which is not of {self.defense}; decode it as it was coded")
            return move.undo(y)

        return length, undo


def pick(options: Sequence[Option]) -> Option:
    """One of them, equally likely, from torch's global random state; nothing is drawn where there is no choice."""
    return options[int(torch.randint(len(options), ())) if len(options) > 1 else 0]


def pack_index(index: int) -> bytes:
    """An index below 8 as a byte."""
    return bytes([index])


def read_index(data: bytes, known: Sequence[int], what: str) -> int:
    """The index that ``data`` begins with; raises :class:`StreamError` unless it is one of ``known``."""
    if not data:
        raise StreamError(f"an empty stream; expected a {what} and the stream of a codec")
    index = data[0]
    if index not in known:
        expected = ", ".join(map(str, known))
        raise StreamError(
            f"the stream begins with {data[0]}, which names no {what}; expected one of {expected}: it is damaged, or "
            "was written by another codec or with other parameters"
        )
    return index
