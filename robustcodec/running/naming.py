"""Names for grids that nobody has named: two different ones never share a folder, and the same one finds its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from robustcodec.running.resolved import digest_of

LONGEST = 32  # characters of the readable beginning
DIGITS = 8  # of the digest


def name_of(blocks: Sequence[dict[str, Any]], beginning: str = "") -> str:
    """``beginning``, or else the first codec, and a digest of all that ``blocks`` of a grid ask for."""
    beginning = beginning or str(next((codec for block in blocks for codec in block["codec"]), "empty"))
    return f"{readable(beginning)}-{digest_of(list(blocks))[:DIGITS]}"


def readable(name: str) -> str:
    """What of ``name`` any file system takes, and at most :data:`LONGEST` characters."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:LONGEST].strip("-.") or "run"
