"""The process behind a codec of another environment: started when it is first asked, restarted once for a request that
it did not answer, ended with whoever needed it; and its identity.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from robustcodec.errors import BadData, ProcessError, StreamError
from robustcodec.weights import sha256
from robustcodec.zoo._child import Child, Lost, words_of
from robustcodec.zoo._wire import Array, Description, Expected, Incoming, pack

Made = TypeVar("Made")
KINDS = {"stream": StreamError, "data": BadData}  # an answered error's


class Server:
    """Answers of one command, one at a time. It travels to other processes as its command: each starts its own."""

    def __init__(self, command: str, timeout: float, startup: float, files: Mapping[str, str]) -> None:
        """``timeout``, ``startup``: seconds for an answer, and for the first one; ``files``: of :func:`named_files`."""
        self.command, self.timeout, self.startup, self.files = command, timeout, startup, dict(files)
        self._lock = threading.Lock()
        self._process: Child | None = None
        self._description: Description | None = None
        self._number = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (self.command, self.timeout, self.startup)

    @property
    def description(self) -> Description:
        with self._lock:
            if self._description is None:
                self._persist(self._running)
        assert self._description is not None, "a process runs once it has described itself"
        return self._description

    def ask(
        self, op: str, arrays: Mapping[str, Array], expected: Expected, limit: int = 0, **more: Any
    ) -> dict[str, Array]:
        """The arrays of the answer. ``more``: goes into the request; the others are :class:`Incoming`'s.

        Raises :class:`ProcessError` when two processes were lost over it, or for an answer that cannot be, and what
        the server itself raised: :class:`StreamError`, :class:`BadData` or :class:`ProcessError`.
        """
        with self._lock:
            return self._persist(
                lambda: self._exchange(self._running(), {"op": op, **more}, arrays, expected, limit, self.timeout)
            ).arrays

    def _persist(self, attempt: Callable[[], Made]) -> Made:
        """``attempt()``, with a fresh process if the first one was lost over it."""
        try:
            try:
                return attempt()
            except Lost:
                return attempt()
        except Lost as how:
            raise ProcessError(f"the codec's process {self.command!r} {how}, and so it did before a restart") from None
        except ProcessError as error:
            raise ProcessError(f"the codec's process {self.command!r} {error}") from None

    def _running(self) -> Child:
        """The process, started and asked what it is, if there is none."""
        if self._process is not None and self._process.usable:
            return self._process
        self._process = process = Child(self.command)
        try:
            answer = self._exchange(process, {"op": "describe"}, {}, {}, 0, self.startup)
            description = Description.read(answer.head)
            if self._description not in (None, description):
                raise ProcessError("describes another codec than before it was restarted; run it again as it is now")
        except ProcessError:
            process.end()
            raise
        self._description = description
        return process

    def _exchange(
        self,
        process: Child,
        head: Mapping[str, Any],
        arrays: Mapping[str, Array],
        expected: Expected,
        limit: int,
        seconds: float,
    ) -> Incoming:
        self._number += 1
        answer = Incoming(self._number, expected, limit)
        try:
            process.exchange(pack({"id": self._number, **head}, arrays), answer, seconds, head["op"])
            _ = answer.arrays  # wrong values are met here
        except BaseException:  # KeyboardInterrupt too: the rest of the answer would be taken for the next one
            process.end()
            raise
        if (error := answer.head.get("error")) is not None:
            raise KINDS.get(str(answer.head.get("kind")), ProcessError)(
                f"cannot {head['op']}: {' '.join(str(error)[:2000].split())}"
            )
        return answer


_servers: weakref.WeakValueDictionary[tuple[Any, ...], Server] = weakref.WeakValueDictionary()
_identities: dict[tuple[Any, ...], str] = {}


def shared(command: str, timeout: float, startup: float) -> Server:
    """The one server of this process for a command and the files that it names, as they are now."""
    files = named_files(command)
    key = (command, timeout, startup, *files.items())
    server = _servers.get(key)
    if server is None:
        server = _servers[key] = Server(command, timeout, startup, files)
    return server


def identity(command: str, timeout: float, startup: float) -> str:
    """What its server states, and checksums of the files that it names. Asked once for these files."""
    key = (command, *named_files(command).items())
    if key not in _identities:
        server = shared(command, timeout, startup)
        named = [f"{Path(path).name} {digest[:16]}" for path, digest in server.files.items()]
        _identities[key] = ", ".join((server.description.identity, *named))
    return _identities[key]


def named_files(command: str) -> dict[str, str]:
    """sha256 by path of each file that a command names, also as ``--option=PATH``."""
    words = [part for word in words_of(command) for part in (word, word.partition("=")[2]) if part]
    return {word: sha256(Path(word)) for word in words if os.path.isfile(word)}  # a word may be too long for a path
