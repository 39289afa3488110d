"""The process behind a codec of another environment: started when it is first asked, restarted once for a request that
it did not answer, ended with whoever needed it.

It has no terminal (Ctrl-C is its parent's), computes with as many threads as torch does here, and does not see this
environment's Python paths. What it prints to stderr is kept for messages, the last lines of it.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import torch

from robustcodec.errors import BadData, BadParameter, ProcessError, StreamError
from robustcodec.weights import sha256
from robustcodec.zoo._wire import Array, Description, Expected, Incoming, pack

Made = TypeVar("Made")
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of this environment, wrong in another
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CHUNK = 1 << 20  # bytes read or written at once
LAST_LINES = 5  # of stderr, in a message
GRACE = 2.0  # seconds in which a process that closed its pipes ends by itself
KINDS = {"stream": StreamError, "data": BadData}  # an answered error's


class _Lost(Exception):
    """The process ended, or did not answer in time."""


class Server:
    """Answers of one command, one at a time. It travels to other processes as its command: each starts its own."""

    def __init__(self, command: str, timeout: float, startup: float, files: Mapping[str, str]) -> None:
        """``timeout``, ``startup``: seconds for an answer, and for the first one; ``files``: of :func:`named_files`."""
        self.command, self.timeout, self.startup, self.files = command, timeout, startup, dict(files)
        self._lock = threading.Lock()
        self._process: _Process | None = None
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
            except _Lost:
                return attempt()
        except _Lost as how:
            raise ProcessError(f"the codec's process {self.command!r} {how}, and so it did before a restart") from None
        except ProcessError as error:
            raise ProcessError(f"the codec's process {self.command!r} {error}") from None

    def _running(self) -> _Process:
        """The process, started and asked what it is, if there is none."""
        if self._process is not None and self._process.usable:
            return self._process
        self._process = process = _Process(self.command)
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
        process: _Process,
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


class _Process:
    """One run of a command, with its three pipes."""

    def __init__(self, command: str) -> None:
        threads = dict.fromkeys(THREADS, str(torch.get_num_threads()))
        environment = {k: v for k, v in os.environ.items() if k not in OURS} | threads
        try:
            self._popen = subprocess.Popen(
                _words(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C is not its; and it is ended with all that it started
            )
        except OSError as error:
            raise ProcessError(f"cannot be started: {error}; check the path and that it may be executed") from None
        self.pid, self._owner = self._popen.pid, os.getpid()
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        assert self._popen.stdin and self._popen.stdout and self._popen.stderr
        self._to, self._from = self._popen.stdin, self._popen.stdout
        os.set_blocking(self._to.fileno(), False)
        os.set_blocking(self._from.fileno(), False)
        self._listener = threading.Thread(target=_keep, args=(self._popen.stderr, self._lines), daemon=True)
        self._listener.start()
        self.end = weakref.finalize(self, _end, self._popen, self._owner)

    @property
    def usable(self) -> bool:
        """Not one that has ended, or that a fork of this process has from its parent."""
        return self.end.alive and self._owner == os.getpid() and self._popen.poll() is None

    def exchange(self, request: bytes, answer: Incoming, seconds: float, op: str) -> None:
        """Send all of ``request`` and read all of ``answer``, both as the pipes allow; raises :class:`_Lost`."""
        deadline = time.monotonic() + seconds
        unsent = memoryview(request)
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            ready.register(self._to, selectors.EVENT_WRITE)
            while not answer.whole or unsent:
                events = ready.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise _Lost(f"did not answer {op} within {seconds:g} s{answer.begun}{self._said()}")
                for key, _ in events:
                    if key.fileobj is self._from:
                        if (data := self._from.read(CHUNK)) is None:  # there was nothing after all
                            continue
                        if not data:
                            raise _Lost(
                                f"{self._how_it_ended()} while it was asked to {op}{answer.begun}{self._said()}"
                            )
                        answer.feed(data)
                        continue
                    with suppress(BrokenPipeError):  # it has ended, which reading says
                        unsent = unsent[os.write(self._to.fileno(), unsent[:CHUNK]) :]
                        if unsent:
                            continue
                    ready.unregister(self._to)

    def _how_it_ended(self) -> str:
        try:
            code = self._popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "closed its stdout"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _said(self) -> str:
        """The last lines of its stderr; of one that has ended, all of them are in."""
        if self._popen.poll() is not None:
            self._listener.join(GRACE)
        return f"; its last lines: {' | '.join(self._lines)}" if self._lines else "; it wrote nothing to stderr"


def _keep(stderr: IO[bytes], lines: deque[str]) -> None:
    with stderr:
        for line in stderr:
            if text := line.decode("utf-8", "replace").strip():
                lines.append(text[:500])


def _end(popen: subprocess.Popen[bytes], owner: int) -> None:
    """End the process and all that it started; a fork leaves its parent's alone."""
    if os.getpid() != owner:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            pipe.close()


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
    words = [part for word in _words(command) for part in (word, word.partition("=")[2]) if part]
    return {word: sha256(Path(word)) for word in words if os.path.isfile(word)}  # a word may be too long for a path


def _words(command: str) -> list[str]:
    """As a shell reads it, whether or not the whole is in quotes of its own; nothing is expanded."""
    try:
        words = shlex.split(command)
        words = shlex.split(words[0]) if len(words) == 1 else words
    except ValueError as error:
        raise BadParameter(f"command={command!r} cannot be read: {error}; close each quote") from None
    if not words:
        raise BadParameter("command is empty; expected what starts the server, such as python serve.py")
    return words
