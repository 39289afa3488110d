"""Files that the names of a cell mention, such as weights and targets, on their way to a machine without them.

They are kept there by their checksum, in the cache, and the names of the cell are changed to say so. What identifies a
cell is their contents, which do not change.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from robustcodec.execution.tasks import Task
from robustcodec.running.grid import Cell
from robustcodec.weights import cache_dir

BREAK = r"[=,;|+:]"  # what stands around a path in a name
TRAVELS = [f.name for f in fields(Cell) if f.name in ("codec", "attack", "objective", "defense", "access")]


@dataclass(frozen=True)
class Parcel:
    """A file with its neighbours of the same stem, such as a card, or a folder: as an archive, ``name`` in it."""

    name: str
    archive: bytes

    @classmethod
    def pack(cls, path: Path) -> Parcel:
        """Times and owners are left out: the same contents are the same bytes."""
        members = [path] if path.is_dir() else sorted(path.parent.glob(f"{path.stem}.*"))
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for member in members:
                archive.add(member, member.name, filter=_plain)
        return cls(path.name, data.getvalue())

    def unpack(self) -> Path:
        """Where it lies on this machine, unpacked if it was not there."""
        digest = hashlib.sha256(self.archive).hexdigest()
        folder = cache_dir() / "travelled" / digest
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder.parent) as partial:
                with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
                    archive.extractall(Path(partial) / digest, filter="data")
                with suppress(OSError):  # another worker of this machine was faster
                    (Path(partial) / digest).rename(folder)
        return folder / self.name


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(mtime=0, uid=0, gid=0, uname="", gname="", deep=False)


def mentioned(cell: Cell) -> set[str]:
    """Paths that the names of a cell mention; its data travel as pixels."""
    words = {word for axis in TRAVELS for word in re.split(BREAK, getattr(cell, axis))}
    return {word for word in words if re.search(r"[./]", word) and Path(word).exists()}


def unpacked(task: Task, parcels: Mapping[str, Parcel]) -> Task:
    """``task`` with every path as it is on this machine."""
    here = {path: str(parcel.unpack()) for path, parcel in parcels.items()}
    if not here:
        return task
    renamed: dict[str, Any] = {axis: _renamed(getattr(task.cell, axis), here) for axis in TRAVELS}
    cell = replace(task.cell, **renamed)
    return replace(task, cell=cell, codecs={_renamed(name, here): facts for name, facts in task.codecs.items()})


def _renamed(name: str, paths: Mapping[str, str]) -> str:
    return "".join(paths.get(word, word) for word in re.split(f"({BREAK})", name))
