"""Summaries of the cells of a run, kept in one file, so that a table is read without reading every cell's file.

Those files are the truth. The index is a cache that may be deleted: a cell whose file is not the one that was read is
read again, and an index that is damaged, or of another release, is as good as none. It is written whole, and who writes
it last wins: no lock is needed, and writers on several machines cost each other no more than reading again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from robustcodec.errors import StoreError
from robustcodec.files import Stamp, stamp, write_whole
from robustcodec.running.summary import Numbers, Summary, Values

VERSION = 2  # of the file; raise it with any change of it or of Summary
FEW = 32  # files that are read as quickly as an index of them
SHARE = 8  # one in so many may be missing from the file: each is read again by the next process
_NUMBERS = ("rows", "curves")


class Index:
    """Summaries by the name of the cell's file, kept at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unsaved = 0

    def summary(self, file: Path, read: Callable[[], Summary]) -> Summary | None:
        """That of a cell's file, ``read`` if the file has changed since; None without a file."""
        now = stamp(file)
        if now is None:
            return None
        known = self._known.get(file.stem)
        if known is not None and known[0] == now:
            return known[1]
        summary = read()
        self._known[file.stem] = now, summary
        self._unsaved += 1
        if self._unsaved > max(FEW, len(self._known) // SHARE):
            self._save()
        return summary

    @cached_property
    def _known(self) -> dict[str, tuple[Stamp, Summary]]:
        if not self.path.is_file():
            return {}
        try:
            data = BytesIO(self.path.read_bytes())
            with np.load(data, allow_pickle=False) as file:  # its members have checksums
                return _unpacked(json.loads(file["heads"].tobytes()), file["values"])
        except Exception:  # however it is damaged, what it held is read again
            return {}

    def _save(self) -> None:
        heads, values = _packed(self._known)
        buffer = BytesIO()
        np.savez(buffer, heads=np.frombuffer(json.dumps(heads).encode(), dtype=np.uint8), values=values)
        self._unsaved = 0
        with suppress(StoreError):  # a full disk, or somebody else's folder: it would only save time
            write_whole(self.path, buffer.getvalue())


def _packed(known: dict[str, tuple[Stamp, Summary]]) -> tuple[dict[str, Any], Values]:
    """As JSON and one array: a line per cell, in which what cells have in common is said by its place among all that
    there is.
    """
    places: dict[str, int] = {}

    def place(value: Any) -> int:
        return places.setdefault(json.dumps(value), len(places))

    lines, arrays = [], []
    for name, (now, summary) in known.items():
        line: list[Any] = [name, list(now)]
        for field in fields(Summary):
            value = getattr(summary, field.name)
            if field.name in _NUMBERS:
                line += [place(value.names), place(value.samples)]
                arrays.append(value.values.ravel())
            else:
                line.append(place(value))
        lines.append(line)
    return {"version": VERSION, "said": list(places), "cells": lines}, np.concatenate([np.empty(0), *arrays])


def _unpacked(heads: dict[str, Any], values: Values) -> dict[str, tuple[Stamp, Summary]]:
    """What was :func:`_packed`; raises :class:`ValueError` and others for what was not."""
    if heads["version"] != VERSION:
        raise ValueError(heads["version"])
    said = [_tuples(json.loads(text)) for text in heads["said"]]
    known, at = {}, 0
    for name, now, *line in heads["cells"]:
        places = iter(line)
        facts: dict[str, Any] = {}
        for field in fields(Summary):
            facts[field.name] = said[next(places)]
            if field.name in _NUMBERS:
                names, samples = facts[field.name], said[next(places)]
                start, at = at, at + len(names) * len(samples)
                facts[field.name] = Numbers(names, samples, values[start:at].reshape(len(samples), len(names)))
        known[name] = tuple(now), Summary(**facts)
    return known


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
