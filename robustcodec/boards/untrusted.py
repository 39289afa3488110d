"""Files that anybody may have written: JSON read strictly, and compared with the shape that it should have.

A shape is written as what it looks like: ``str``, ``bool``, ``int`` or ``float`` (a number, whole or not); ``None``; a
pattern, which a text must match; ``[shape]``, a list of any length; ``{"a": shape, "b?": shape}``, a table of just
these names, of which ``b`` may be left out (``str: shape`` allows others beside them); a tuple, any of its members;
``object``, whatever JSON can hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from robustcodec.reporting.printing import printable

DEEPEST = 20  # tables and lists inside each other
LARGEST = 2**63  # what other programs can hold, too
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", None: "null"}


def parse(text: str) -> Any:
    """JSON; raises :class:`ValueError` for what is none, NaN and infinities (``1e999`` is one), numbers of 2^63 and
    more, a name that stands twice in a table, texts with control characters, and for nesting beyond :data:`DEEPEST`.
    """
    try:
        value = json.loads(
            text, parse_float=_finite, parse_int=_integer, parse_constant=_finite, object_pairs_hook=_table
        )
    except RecursionError:
        raise ValueError(f"tables and lists are nested more than {DEEPEST} deep") from None
    plain(value)
    return value


def check(value: Any, shape: Any, place: str = "") -> None:
    """Raises :class:`ValueError`, which names the place, unless ``value``, parsed JSON, has that shape."""
    if shape is object:
        return
    if isinstance(shape, tuple):
        if not any(_fits(value, each, place) for each in shape):
            raise _unlike(value, shape, place)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _unlike(value, shape, place)
        for number, each in enumerate(value):
            check(each, shape[0], f"{place}/{number}")
    elif isinstance(shape, dict):
        if not isinstance(value, Mapping):
            raise _unlike(value, shape, place)
        known = {name.removesuffix("?"): each for name, each in shape.items() if name is not str}
        if missing := [name for name in known if name in shape and name not in value]:
            raise ValueError(f"{place[1:] or 'it'} has no {', '.join(missing)}")
        if unknown := [name for name in value if name not in known and str not in shape]:
            raise ValueError(f"{place[1:] or 'it'} has {', '.join(map(repr, unknown[:3]))}, which is not known")
        for name, each in value.items():
            check(each, known[name] if name in known else shape[str], f"{place}/{name}")
    elif not _is(value, shape):
        raise _unlike(value, shape, place)


def _fits(value: Any, shape: Any, place: str) -> bool:
    try:
        check(value, shape, place)
    except ValueError:
        return False
    return True


def _is(value: Any, shape: Any) -> bool:
    if shape is None:
        return value is None
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    kinds = (int, float) if shape is float else shape
    return isinstance(value, kinds) and (shape is bool or not isinstance(value, bool))


def _unlike(value: Any, shape: Any, place: str) -> ValueError:
    return ValueError(f"{place[1:] or 'all of it'} is {shown(value)}, expected {_words(shape)}")


def shown(value: Any) -> str:
    """Parsed JSON in a few words."""
    for kind, word in ((Mapping, "table"), (list, "list")):
        if isinstance(value, kind):
            return f"a {word} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]} …"


def _words(shape: Any) -> str:
    if isinstance(shape, tuple):
        return " or ".join(map(_words, shape))
    if isinstance(shape, re.Pattern):
        return f"a text like {shape.pattern}"
    return "a list" if isinstance(shape, list) else "a table" if isinstance(shape, dict) else _WORDS[shape]


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >= LARGEST:
        raise ValueError(f"the number {text[:20]} … is too large")
    return number


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a table names {next(n for n in names if names.count(n) > 1)!r} twice")
    return table


def plain(value: Any, depth: int = 0) -> None:
    """Raises :class:`ValueError` for control characters in a text, and for nesting beyond :data:`DEEPEST`."""
    if depth > DEEPEST:
        raise ValueError(f"tables and lists are nested more than {DEEPEST} deep")
    if isinstance(value, str):
        if printable(value) != value:
            raise ValueError(f"the text {json.dumps(value[:60])} holds control characters")
    elif isinstance(value, list | dict):
        for each in [*value, *value.values()] if isinstance(value, dict) else value:
            plain(each, depth + 1)
