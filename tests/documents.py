"""What documents show, as ``.ci/as_written.py`` reads them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]


def _as_written() -> ModuleType:
    spec = importlib.util.spec_from_file_location("as_written", ROOT / ".ci" / "as_written.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["as_written"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: str | Path) -> list[Any]:
    """All blocks of a page, named from the root of the repository, from its top."""
    found: list[Any] = _as_written().blocks(ROOT / page)
    return found


def shown(page: str | Path, name: str) -> str:
    """The file that a page shows by this name."""
    (text,) = [block.text for block in blocks(page) if block.kind in ("file", "run") and block.told == name]
    return str(text)
