"""The changelog tells the truth about versions and about where things are now."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import robustcodec

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")


def is_there(dotted: str) -> bool:
    """Whether a module, or what a module holds, can be imported by this name."""
    module, _, name = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        try:
            return hasattr(importlib.import_module(module), name)
        except ModuleNotFoundError:
            return False
    return True


def test_what_moved_is_there_and_no_longer_where_it_was() -> None:
    moved = re.findall(r"^\| `(robustcodec\.[\w.]+)` \| `(robustcodec\.[\w.]+)` \|$", CHANGELOG, re.MULTILINE)
    assert len(moved) > 60
    assert [new for _, new in moved if not is_there(new)] == []
    assert [old for old, _ in moved if is_there(old)] == []


def test_it_begins_with_this_version_in_the_usual_form() -> None:
    versions = re.findall(r"^## \[(\S+)\] - (unreleased|\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
    assert versions[0][0] == robustcodec.__version__ and [version for version, _ in versions] == ["0.2.0", "0.1.0"]
    kinds = {*re.findall(r"^### (\w+)$", CHANGELOG, re.MULTILINE)}
    assert kinds == {"Added", "Changed", "Fixed", "Removed", "Security"}
