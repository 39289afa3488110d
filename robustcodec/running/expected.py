"""What the file of a result must hold: a row for each sample of its cell, numbers for scores, and the cell's own id.

A file that was damaged, or changed by hand, is told from one that was written, also where it has no checksum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustcodec.running.resolved import digest_of

Table = Mapping[str, Any]


def check(table: Table, cell_id: str) -> None:
    """Raises :class:`ValueError` if ``table``, as JSON gave it, is not the result of the cell ``cell_id``."""
    _demand(table.get("id") == cell_id, f"it is of the cell {table.get('id')!r}")
    _demand(table.get("status") in ("ok", "error"), f"status {table.get('status')!r}")
    _demand((table["status"] == "error") == isinstance(table.get("error"), str), "an error that is none")
    _demand(_texts(table.get("warnings", [])), "warnings that are no list of texts")
    _demand(table.get("provenance") is None or _texts([*_dict(table, "provenance").values()]), "a strange provenance")
    rows = table.get("rows")
    _demand(isinstance(rows, list) and all(map(_is_row, rows)), "rows that are no table of numbers")
    names = [row["sample"] for row in table["rows"]]
    if table.get("identity") is not None:
        _check_identity(_dict(table, "identity"), table, names)
    for sample, curves in _dict(table, "frames").items() if table.get("frames") is not None else ():
        _demand(sample in names, f"curves of {sample!r}, which has no row")
        _demand(isinstance(curves, dict) and all(map(_are_numbers, curves.values())), f"strange curves of {sample!r}")
        _demand(len(set(map(len, curves.values()))) <= 1, f"curves of {sample!r} of different lengths")


def _check_identity(identity: Table, table: Table, names: list[str]) -> None:
    _demand(digest_of(identity) == table["id"], "the identity of another cell")
    samples = [sample for sample, _ in identity["samples"]]
    if table["status"] == "ok" and names != samples:
        raise ValueError(f"rows of {_some(names)}; expected {_some(samples)}")


def _some(names: list[str]) -> str:
    return f"{len(names)} samples ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"


def _is_row(row: object) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("sample"), str)
        and _are_numbers([value for name, value in row.items() if name != "sample"])
    )


def _are_numbers(values: object) -> bool:
    """A list of numbers and of nulls, which stand for what is no number."""
    return isinstance(values, list) and all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
    )


def _texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _dict(table: Table, key: str) -> dict[str, Any]:
    value = table.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key} is no table")
    return value


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
