"""From which size on codecs compute a picture in tiles, and how large these are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Limits(NamedTuple):
    """``whole``: pixels of a batch that are computed at once; ``side``: pixels along a tile, at most."""

    whole: int = 1 << 22
    side: int = 1024


USUAL = Limits()
_limits: ContextVar[Limits] = ContextVar("tiling", default=USUAL)


def limits() -> Limits:
    """Those that hold here: the same for everybody, since they can change the last bit of a result."""
    return _limits.get()


@contextmanager
def tiling(whole: int, side: int) -> Iterator[None]:
    """Other limits inside the block, for who measures what tiles are worth."""
    token = _limits.set(Limits(whole, side))
    try:
        yield
    finally:
        _limits.reset(token)
