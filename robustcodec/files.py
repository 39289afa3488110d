"""Files that are either absent, as they were, or complete: whoever is killed leaves nothing half written."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from robustcodec.errors import DiskFull, StoreError

ABANDONED = 24 * 3600.0  # seconds after which nobody writes to a file any more, wherever that may be
HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "localhost"  # as names of temporary files say it


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; takes its place, flushed to disk, when the block ends well.

    Raises :class:`OSError` as the system does; the temporary file is then removed.
    """
    partial = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):  # gone already, or a folder that may not be written
            partial.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files below ``folder`` of processes of this machine that are no more, and those that nobody has
    written to for a day: of other machines nothing else tells whether they are at work.
    """
    for parent, _, names in os.walk(folder):  # which passes over folders that others remove meanwhile
        for partial in (Path(parent, name) for name in names if name.startswith(".") and name.endswith(".part")):
            *_, host, pid, _ = partial.name.split(".")
            ended = host == HOST and not (pid.isdigit() and alive(int(pid)))
            with suppress(OSError):  # gone by now
                if ended or time.time() - partial.stat().st_mtime > ABANDONED:
                    partial.unlink()


def alive(pid: int) -> bool:
    """True if this machine has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Size, modification time and number of a file, of which one at least changes when :func:`write_whole` writes it
    again; None if it cannot be seen.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error.strerror or error)
        remedy = "make room (or give another --out)" if full else "give another --out (or mend that)"
        raise (DiskFull if full else StoreError)(
            f"cannot write {path}: {reason}. Finished cells are kept; {remedy} and run the same command again"
        ) from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Inside, ``path`` is read; raises :class:`StoreError` for what the system says, which is no damage."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write ``path`` so that it is either absent, as it was, or complete; raises :class:`StoreError`."""
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            partial.write_bytes(data)


def is_writable(text: str) -> bool:
    """True if files can hold ``text``, as UTF-8. Paths can be of bytes that are none, which Python has as halves of
    letters; what is named after them is in tables, streams and checksums.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dump_toml(table: dict[str, Any], prefix: str = "") -> str:
    """``table`` as TOML: scalars, lists and nested tables; ``None`` is left out."""
    named = {k if re.fullmatch(r"[\w-]+", k, re.ASCII) else _toml(k): v for k, v in table.items() if v is not None}
    lines = [f"{k} = {_toml(v)}" for k, v in named.items() if not isinstance(v, dict)]
    for key, value in named.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", dump_toml(value, f"{prefix}{key}.").rstrip()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)
