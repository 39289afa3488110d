"""Files that are either absent, as they were, or complete: whoever is killed leaves nothing half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; takes its place, flushed to disk, when the block ends well.

    Raises :class:`OSError` as the system does; the temporary file is then removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):  # gone already, or a folder that may not be written
            partial.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files below ``folder`` of processes that are no more; others may be at work there."""
    for partial in folder.rglob(".*.part"):
        pid = partial.name.split(".")[-2]
        if not (pid.isdigit() and _alive(int(pid))):
            partial.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
