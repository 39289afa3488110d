"""JSON files that state the sha256 of all else in them: what somebody changed by hand is seen, and so is what is no
such file at all. Lists of numbers and small tables stand on one line, so that a diff can be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from robustcodec.boards import untrusted
from robustcodec.errors import BoardError
from robustcodec.sealed import shapes


def digest(value: Any) -> str:
    """sha256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(table: Mapping[str, Any]) -> str:
    """``table`` as a file that :func:`table_of` reads back."""
    return f"{_lines({**table, 'sha256': digest(table)})}\n"


def table_of(path: Path, formats: Collection[int], again: str) -> dict[str, Any]:
    """What a file says, without its ``sha256``. ``formats``: that can be read; ``again``: how to make the file anew.

    Raises :class:`ValueError` for what is no such file, and :class:`BoardError` for one of another format or one that
    was changed.
    """
    try:
        table = untrusted.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    shapes.check(table, {"sha256": str, "format": int, str: object})
    claimed, form = table.pop("sha256"), table["format"]
    if form not in formats:
        raise BoardError(f"{path} has format {form!r}, this release reads up to {max(formats)}; {again}")
    if claimed != digest(table):
        raise BoardError(
            f"{path} was changed after it was made: its content does not have the sha256 that it states; {again}"
        )
    return dict(table)


def _lines(value: Any, indent: str = "") -> str:
    """JSON with a line for every list of numbers and every small table."""
    deeper = indent + " "
    if isinstance(value, Mapping) and any(isinstance(v, Mapping | list | tuple) for v in value.values()):
        inner = [f"{deeper}{json.dumps(k, ensure_ascii=False)}: {_lines(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value):
        return "[\n" + ",\n".join(deeper + _lines(v, deeper) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
