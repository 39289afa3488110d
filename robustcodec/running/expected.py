"""What the file of a result must hold: a row for each sample of its cell, numbers for scores, and the cell's own id.

A file that was damaged, or changed by hand, is told from one that was written, also where it has no checksum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robustcodec.running.resolved import digest_of
from robustcodec.sealed import shapes

NUMBER = (float, None)  # null stands for what is no number
SHAPE = {
    "id": str,
    "cell": {str: object},
    "status": re.compile("ok|error"),
    "rows": [{"sample": str, str: NUMBER}],
    "warnings?": [str],
    "provenance?": ({str: str}, None),
    "error?": (str, None),
    "identity?": ({"samples": [[str]], str: object}, None),
    "frames?": ({str: {str: [NUMBER]}}, None),
}


def check(table: Mapping[str, Any], cell_id: str) -> None:
    """Raises :class:`ValueError` if ``table``, as JSON gave it, is not the result of the cell ``cell_id``."""
    shapes.check(table, SHAPE)
    if table["id"] != cell_id:
        raise ValueError(f"it is of the cell {table['id']!r}")
    if (table["status"] == "error") != isinstance(table.get("error"), str):
        raise ValueError("an error that is none")
    names = [row["sample"] for row in table["rows"]]
    if identity := table.get("identity"):
        if digest_of(identity) != cell_id:
            raise ValueError("the identity of another cell")
        samples = [sample for sample, _ in identity["samples"]]
        if table["status"] == "ok" and names != samples:
            raise ValueError(f"rows of {_some(names)}; expected {_some(samples)}")
    for sample, curves in (table.get("frames") or {}).items():
        if sample not in names:
            raise ValueError(f"curves of {sample!r}, which has no row")
        if len(set(map(len, curves.values()))) > 1:
            raise ValueError(f"curves of {sample!r} of different lengths")


def _some(names: list[str]) -> str:
    return f"{len(names)} samples ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
