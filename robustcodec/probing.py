"""What a codec codes, by name: where a forward can be looked into, and changed.

Codecs call :func:`probe` on what they code and on what its probabilities are made of; a study chooses by
:func:`probed` what happens there. Elsewhere a probe gives back what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

LATENTS, SIDE, SCALES, MEANS = "latents", "side information", "scales", "means"
Handler = Callable[[str, Tensor, Tensor | None], Tensor]  # name, value, what it was made of → the value to go on with

_handler: ContextVar[Handler | None] = ContextVar("probing", default=None)


def probe(name: str, value: Tensor, source: Tensor | None = None) -> Tensor:
    """``value``, or what the handler puts in its place, shaped alike; ``source``: what was rounded to it, if anything.

    All values of one name are replaced together, in the order of their calls: together they must decide what they are
    called for, such as the picture and the bits of ``latents``.
    """
    handler = _handler.get()
    return value if handler is None else handler(name, value, source)


@contextmanager
def probed(handler: Handler) -> Iterator[None]:
    """``handler`` meets every probe inside the block."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)
