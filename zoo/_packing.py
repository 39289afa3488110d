"""What ``compress`` of a CompressAI-like network returns, as parts of a container and back.

That is a dictionary of strings and shapes, nested as the author likes. The nesting is the same for all clips and
belongs to the model; a stream holds the strings, and the sizes only where they do not follow from the clip's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from robustcodec.errors import StreamError, UserError

STRING, NUMBER = "string", "number"


class Form(NamedTuple):
    """``tree``: the nesting, with :data:`STRING` and :data:`NUMBER` in the place of these; ``strings``: how many;
    ``numbers``: those of a clip of ``height`` × ``width`` pixels.
    """

    tree: Any
    strings: int
    numbers: tuple[int, ...]
    height: int
    width: int

    @classmethod
    def of(cls, result: Mapping[str, Any], height: int, width: int) -> Form:
        """The form of what ``compress`` gave for one clip; raises :class:`UserError` if it holds anything else."""
        tree, strings, numbers = taken_apart(result)
        return cls(tree, len(strings), tuple(numbers), height, width)

    def pack(self, result: Mapping[str, Any], height: int, width: int) -> list[bytes]:
        """Sizes (empty where they are as expected), then the strings."""
        tree, strings, numbers = taken_apart(result)
        if tree != self.tree:
            raise UserError(
                f"compress gave {len(strings)} strings in another order than before, for {width}x{height} pixels; "
                "expected the same for all clips"
            )
        expected = [*self._expected(height, width)] == numbers
        return [b"" if expected else json.dumps(numbers, separators=(",", ":")).encode(), *strings]

    def unpack(self, parts: list[bytes], height: int, width: int) -> dict[str, Any]:
        """What :meth:`pack` was given; raises :class:`StreamError` for sizes that cannot be read."""
        numbers = [*self._expected(height, width)]
        if parts[0]:
            try:
                numbers = [int(n) for n in json.loads(parts[0])]
            except (ValueError, TypeError, OverflowError, RecursionError):
                raise StreamError("the stream's sizes cannot be read: it is damaged") from None
            if len(numbers) != len(self.numbers) or any(not 0 <= n <= height * width for n in numbers):
                raise StreamError(f"the stream's sizes, {numbers}, are not those of {width}x{height} pixels")
        whole: dict[str, Any] = _put_together(self.tree, iter(parts[1:]), iter(numbers))
        return whole

    def _expected(self, height: int, width: int) -> Iterator[int]:
        """Two numbers, one after the other, that are to each other as the sides were are a height and a width of
        latents, in proportion to the clip's; all others stay.
        """
        last: tuple[int, ...] = ()
        for n in self.numbers:
            if last and n and n * self.height == last[-1] * self.width and self.height % last[-1] == 0:
                stride = self.height // last[-1]
                yield from (height // stride, width // stride)
                last = ()
            else:
                yield from last
                last = (n,)
        yield from last


def taken_apart(value: Any, name: str = "compress") -> tuple[Any, list[bytes], list[int]]:
    """The nesting of ``value``, its strings and its whole numbers; tuples are told from lists."""
    if isinstance(value, bytes):
        return STRING, [value], []
    if isinstance(value, bool) or value is None:
        return ("constant", value), [], []
    if isinstance(value, int):
        return NUMBER, [], [value]
    if not isinstance(value, Mapping | list | tuple):
        what = "a tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(f"{name} of the network gave {what}; expected strings of bytes, sizes, and lists of them")
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    found = [(key, *taken_apart(entry, f"{name}[{key!r}]")) for key, entry in items]
    kind = "dict" if isinstance(value, Mapping) else "list" if isinstance(value, list) else "tuple"
    tree = (kind, [(key, entry) for key, entry, _, _ in found])
    return tree, [s for _, _, some, _ in found for s in some], [n for *_, some in found for n in some]


def _put_together(tree: Any, strings: Iterator[bytes], numbers: Iterator[int]) -> Any:
    if tree == STRING:
        return next(strings)
    if tree == NUMBER:
        return next(numbers)
    kind, entries = tree
    if kind == "constant":
        return entries
    built = [(key, _put_together(entry, strings, numbers)) for key, entry in entries]
    if kind == "dict":
        return dict(built)
    return [v for _, v in built] if kind == "list" else tuple(v for _, v in built)
