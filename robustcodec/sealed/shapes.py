"""JSON that is read strictly, and compared with the shape that it should have.

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

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", None: "null"}


def read_json(text: str | bytes, **hooks: Any) -> Any:
    """What JSON says; ``hooks``: more of what :func:`json.loads` takes.

    Raises :class:`ValueError` for whatever else there is, for nesting beyond all measure, and for numbers that JSON
    does not have, or that no float holds (``1e999``).
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite, **hooks)
    except RecursionError:
        raise ValueError("it is nested beyond all measure") from None


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
