"""What documents show, as ``.ci/as_written.py`` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scripts

ROOT = Path(__file__).parents[1]


def blocks(page: str | Path) -> list[Any]:
    """All blocks of a page, named from the root of the repository, from its top."""
    found: list[Any] = scripts.load(".ci/as_written.py").blocks(ROOT / page)
    return found


def shown(page: str | Path, name: str) -> str:
    """The file that a page shows by this name."""
    (text,) = [block.text for block in blocks(page) if block.kind in ("file", "run") and block.told == name]
    return str(text)
