"""One run of a command that answers over pipes: sent requests, heard, ended.

It has no terminal (Ctrl-C is its parent's), computes with as many threads as torch does here, and does not see this
environment's Python paths. What it prints to stderr is kept for messages, the last lines of it.
"""

from __future__ import annotations

import io
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import IO

import torch

from robustcodec.errors import BadParameter
from robustcodec.zoo._wire import Incoming

OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of this environment, wrong in another
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CHUNK = 1 << 20  # bytes read or written at once
LAST_LINES = 5  # of stderr, in a message, and ...
LONGEST_LINE = 1 << 16  # ... bytes of one
GRACE = 2.0  # seconds in which a process that closed its pipes ends by itself


class Lost(Exception):
    """The process ended, or did not answer in time; the message says how."""


class Child:
    """One run of a command, with its three pipes."""

    def __init__(self, command: str) -> None:
        threads = dict.fromkeys(THREADS, str(torch.get_num_threads()))
        environment = {k: v for k, v in os.environ.items() if k not in OURS} | threads
        try:
            self._popen = subprocess.Popen(
                words_of(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C is not its; and it is ended with all that it started
            )
        except OSError as error:
            raise BadParameter(
                f"the command {command!r} cannot be started: {error}; check the path and that it may be executed"
            ) from None
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
        """Send all of ``request`` and read all of ``answer``, both as the pipes allow; raises :class:`Lost`."""
        deadline = time.monotonic() + seconds
        unsent = memoryview(request)
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            ready.register(self._to, selectors.EVENT_WRITE)
            while not answer.whole or unsent:
                events = ready.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise Lost(f"did not answer {op} within {seconds:g} s{answer.begun}{self._said()}")
                for key, _ in events:
                    if key.fileobj is self._from:
                        if (data := self._from.read(CHUNK)) is None:  # there was nothing after all
                            continue
                        if not data:
                            raise Lost(f"{self._how_it_ended()} while it was asked to {op}{answer.begun}{self._said()}")
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


def _keep(pipe: IO[bytes], lines: deque[str]) -> None:
    with io.BufferedReader(pipe) as stderr:  # type: ignore[type-var]
        while line := stderr.readline(LONGEST_LINE):
            if text := line.decode("utf-8", "replace").strip().rpartition("\r")[2]:  # of a progress bar, as it is now
                lines.append(text[:500])


def _end(popen: subprocess.Popen[bytes], owner: int) -> None:
    """End the process and all that it started; a fork leaves its parent's alone."""
    if os.getpid() != owner:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # a driver may hold it for a while
        popen.wait(GRACE)
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            pipe.close()


def words_of(command: str) -> list[str]:
    """As a shell reads it, whether or not the whole is in quotes of its own; nothing is expanded."""
    try:
        words = shlex.split(command)
        if len(words) == 1 and not os.path.isfile(words[0]):
            words = shlex.split(words[0])
    except ValueError as error:
        raise BadParameter(f"command={command!r} cannot be read: {error}; close each quote") from None
    if not words:
        raise BadParameter("command is empty; expected what starts the server, such as python serve.py")
    return words
