"""Files and folders below a folder, as somebody who looks at it sees them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

MADE = {"__MACOSX", "@eaDir", "Thumbs.db"}  # by systems, beside what people put there


def folders_below(root: Path) -> Iterator[Path]:
    """``root`` and all folders below it, links followed, each once; hidden ones are left out."""
    seen: set[tuple[int, int]] = set()
    for name, inside, _ in os.walk(root, followlinks=True):
        found = os.stat(name)
        if (found.st_dev, found.st_ino) in seen:  # a link to what is above or beside it
            inside.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        inside[:] = sorted(each for each in inside if not _hidden(each))
        yield Path(name)


def files_below(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Files that end in one of ``suffixes``, in the order of their paths; hidden ones are left out."""
    return sorted(
        path
        for folder in folders_below(root)
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not _hidden(path.name) and path.is_file()
    )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in MADE
