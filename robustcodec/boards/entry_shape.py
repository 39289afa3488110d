"""What the file of an entry has to hold, before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from robustcodec.boards.board import Kind
from robustcodec.running import grid
from robustcodec.sealed import shapes

FORMAT = 2
READABLE = (1, FORMAT)  # the first one stated its scores too, which follow from its rows
SHARED = ("codec", "defense", "data", "seed")  # axes that are alike in all cells of an entry
AXES = tuple(axis for axis in grid.AXES if axis not in SHARED)  # in which they differ
MEASURED = ("bpp", "psnr", "adv_bpp", "input_linf", "decode_failed", "broken")  # a number of every sample
NEEDED = (*MEASURED, "bpp_est", "adv_bpp_est", "adv_psnr", "input_psnr")  # a number or null

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PICTURE = re.compile(r"data:image/\w+;base64,[A-Za-z0-9+/]+=*")
_NUMBERS = {"columns": [str], "constant": {str: (float, None)}, "rows": {str: [(float, None)]}}
_PART = {"name": str, str: object}
_CELL = {
    "id": re.compile("[0-9a-f]{16}"),
    "axes": dict.fromkeys(AXES, str),
    "identity": {str: object},
    "warnings": [str],
    "seconds": float,
    "table": _NUMBERS,
    "frames": {str: {str: [(float, None)]}},
}
_SHAPE = {
    "format": int,
    "board": str,
    "codec": str,
    "defense": str,
    "kind": re.compile("|".join(get_args(Kind))),
    "measured_by": str,
    "date": _DATE,
    "command": str,
    "seed": int,
    "provenance": {str: str},
    "checks": [{"name": str, "passed": bool, "measured": str, "expected": str}],
    "identity": {"version": int, "codec": _PART, "defense": _PART, "data": _PART, "seed": int, str: object},
    "clean": _NUMBERS,
    "cells": [_CELL],
    "disputed": [{"by": str, "date": _DATE, "why": str}],
    "pictures": {str: {"attack": str, "original": [_PICTURE], str: [_PICTURE]}},
}


def check(table: Mapping[str, Any]) -> None:
    """Raises :class:`ValueError` for a parsed file without ``sha256`` that is not an entry's: parts of another type,
    numbers that are missing, doubled, or of samples that it did not measure.
    """
    shapes.check(table, _SHAPE if table["format"] == FORMAT else {**_SHAPE, "scores": {str: object}})
    samples = set(table["clean"]["rows"])
    keys = [tuple(cell["axes"][axis] for axis in AXES) for cell in table["cells"]]
    if empty := [
        what for what, held in (("samples", samples), ("cells", keys), ("checks", table["checks"])) if not held
    ]:
        raise ValueError(f"it has no {' and no '.join(empty)}")
    if len(set(keys)) < len(keys):
        raise ValueError("two of its cells are of the same attack, objective, threat, access and precision")
    clean = _columns(table["clean"], "its clean numbers")
    for cell in table["cells"]:
        try:
            _check_cell(cell, samples, clean)
        except ValueError as error:
            raise ValueError(f"the cell {cell['id']}: {error}") from None
    if unknown := sorted(set(table["pictures"]) - samples):
        raise ValueError(f"it has pictures of {unknown[0]!r}, which is none of its samples")
    if blank := [sample for sample, shown in table["pictures"].items() if not all(shown.values())]:
        raise ValueError(f"the pictures of {blank[0]!r} are without a frame")


def _check_cell(cell: Mapping[str, Any], samples: set[str], clean: Mapping[str, list[Any]]) -> None:
    if set(cell["table"]["rows"]) != samples:
        raise ValueError("it has other samples than the clean numbers")
    own = _columns(cell["table"], "its table")
    if twice := sorted(own.keys() & clean.keys()):
        raise ValueError(f"{', '.join(twice)} is also among the clean numbers")
    numbers = {**own, **clean}
    if missing := [name for name in NEEDED if name not in numbers]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if empty := [name for name in MEASURED if None in numbers[name]]:
        raise ValueError(f"it has no {', '.join(empty)} of every sample")
    if cell["seconds"] < 0 or not {*numbers["decode_failed"], *numbers["broken"]} <= {0, 1}:
        raise ValueError("expected seconds of at least 0, and decode_failed and broken of 0 or 1")
    decoded = zip(numbers["adv_psnr"], numbers["decode_failed"], strict=True)
    if any(psnr is None and failed != 1 for psnr, failed in decoded):
        raise ValueError("it has no adv_psnr of a sample that was decoded")
    for sample, curves in cell["frames"].items():
        if sample not in samples:
            raise ValueError(f"it has curves of {sample!r}, which is none of its samples")
        if len({len(curve) for curve in curves.values()}) > 1:
            raise ValueError(f"the curves of {sample!r} are not of equally many frames")


def _columns(table: Mapping[str, Any], what: str) -> dict[str, list[Any]]:
    """The values of every column, in the order of its rows by name of the sample."""
    names = [*table["columns"], *table["constant"]]
    if len(set(names)) < len(names):
        raise ValueError(f"{what} name a column twice")
    rows = sorted(table["rows"].items())
    if wrong := [sample for sample, row in rows if len(row) != len(table["columns"])]:
        raise ValueError(f"the row of {wrong[0]!r} has not one number for each of {len(table['columns'])} columns")
    constant = {name: [value] * len(rows) for name, value in table["constant"].items()}
    return {name: [row[i] for _, row in rows] for i, name in enumerate(table["columns"])} | constant
