"""Files that anybody may have written: what no program of ours writes into JSON is refused before its shape is seen."""

from __future__ import annotations

import json
from typing import Any

from robustcodec.reporting.printing import printable
from robustcodec.sealed.shapes import read_json

DEEPEST = 20  # tables and lists inside each other
LARGEST = 2**63  # what other programs can hold, too


def parse(text: str) -> Any:
    """JSON; raises :class:`ValueError` for what is none, NaN and infinities (``1e999`` is one), numbers of 2^63 and
    more, a name that stands twice in a table, texts with control characters, and for nesting beyond :data:`DEEPEST`.
    """
    value = read_json(text, parse_int=_integer, object_pairs_hook=_table)
    plain(value)
    return value


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
