"""Who works on which cell of a run folder, where several runs share one: a file for each cell that is begun.

No locks: a claim is a file that is renewed as long as its run lives, so it expires with it. Two runs that claim a cell
at the same moment both work on it and write the same bytes.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from robustcodec.files import HOST, alive, write_whole
from robustcodec.sealed.shapes import read_json

RENEWED = 20.0  # seconds after which a claim is renewed …
EXPIRED = 120.0  # … and without which it has expired


class Claims:
    """Those of this process, and how it sees those of others, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: set[str] = set()
        for path in list(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.startswith(".") and not self._taken(path):  # of a run that was killed
                path.unlink(missing_ok=True)
        self._leave()
        self._renewed = time.monotonic()

    def take(self, cell_id: str) -> bool:
        """Claim a cell, if that is not done; False if another run works on it."""
        if cell_id in self._mine:
            return True
        path = self._folder / cell_id
        if self._taken(path):
            return False
        write_whole(path, json.dumps({"host": HOST, "pid": os.getpid()}).encode())
        self._mine.add(cell_id)
        return True

    def release(self, cell_id: str) -> None:
        """Give up a cell that is finished."""
        if cell_id in self._mine:
            self._mine.discard(cell_id)
            (self._folder / cell_id).unlink(missing_ok=True)
            self._leave()

    def renew(self) -> None:
        """To be called now and then: others see that this run lives."""
        if time.monotonic() - self._renewed > RENEWED:
            self._renewed = time.monotonic()
            for cell_id in self._mine:
                with suppress(FileNotFoundError):
                    os.utime(self._folder / cell_id)

    def close(self) -> None:
        """Give up all."""
        for cell_id in list(self._mine):
            self.release(cell_id)

    def _leave(self) -> None:
        with suppress(OSError):  # others have claims there, or nobody has
            self._folder.rmdir()

    def _taken(self, path: Path) -> bool:
        try:
            owner, age = read_json(path.read_bytes()), self._now() - path.stat().st_mtime
            host, pid = str(owner["host"]), int(owner["pid"])
        except (OSError, ValueError, TypeError, KeyError):  # gone by now, or not as it was written
            return False
        return age < EXPIRED if host != HOST else pid != os.getpid() and alive(pid)

    def _now(self) -> float:
        """By the clock that gives files their times, which may be that of another machine."""
        probe = self._folder / f".{HOST}.{os.getpid()}"
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink(missing_ok=True)
        return now
