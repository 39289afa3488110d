"""Python processes that serve this one: started, asked, watched and ended here, for whoever needs them.

A child is asked by messages, which are pickled, over a pipe of its own. It does not outlive its parent, leaves Ctrl-C
to it, and what it prints goes to stderr, since stdout may be somebody's JSON.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe, connection
from typing import Any

START = "import sys; sys.path[:] = {path!r}; from robustcodec.execution.children import serve; serve({fd}, {parent})"
GRACE = 2.0  # seconds between asking a child to end and ending it

READY = "ready"  # the first thing that a child says: it can be asked now
Say = Callable[[Any], None]


class Child:
    """A process that answers with ``module:function``, once it has said :data:`READY`.

    The function is called as ``function(*args)`` and returns what answers a message: ``answer(message, say)``, where
    ``say`` sends something before the answer. ``environment``: added to this process's. ``files``: descriptors that it
    has too, by the same numbers.
    """

    def __init__(
        self, function: str, *args: Any, environment: Mapping[str, str] | None = None, files: Sequence[int] = ()
    ) -> None:
        self.pipe, theirs = Pipe()
        start = START.format(path=sys.path, fd=theirs.fileno(), parent=os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.DEVNULL,
            stdout=sys.__stderr__,
            pass_fds=[theirs.fileno(), *files],
            env=os.environ | dict(environment or {}),
        )
        theirs.close()
        self.send((function, args))

    def send(self, message: Any) -> None:
        """Ask something; a child that has ended says so when it is listened to."""
        with suppress(BrokenPipeError, ConnectionResetError):
            _send(self.pipe, message)

    def hear(self) -> tuple[bool, Any]:
        """The next thing it says, waited for, and whether that is its answer; raises :class:`EOFError` if it ended."""
        try:
            said: tuple[bool, Any] = pickle.loads(self.pipe.recv_bytes())
        except OSError as error:
            raise EOFError(str(error)) from None
        return said

    def how_it_ended(self) -> str:
        """``ended with exit code 3`` or ``was ended by SIGTERM``."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.end()
            return "stopped listening"
        if code == -signal.SIGKILL:
            return "was ended by SIGKILL, as systems end the largest process when memory runs out"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        """End it, whatever it does."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()


def listen(children: Iterable[Child], seconds: float) -> list[Child]:
    """Those that have something to say or have ended, as soon as there is one, or none after so many seconds."""
    by_pipe = {child.pipe: child for child in children}
    if not by_pipe:
        time.sleep(seconds)
        return []
    return [by_pipe[pipe] for pipe in connection.wait(list(by_pipe), seconds)]  # type: ignore[index]


def serve(fd: int, parent: int) -> None:
    """What a child does: answer the messages of its parent until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    pipe = connection.Connection(fd)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        function, args = pickle.loads(pipe.recv_bytes())
        module, _, name = function.partition(":")
        answer = getattr(importlib.import_module(module), name)(*args)
        _send(pipe, (True, READY))
        while True:
            message = pickle.loads(pipe.recv_bytes())
            _send(pipe, (True, answer(message, lambda said: _send(pipe, (False, said)))))


def _send(pipe: connection.Connection, message: Any) -> None:
    """By plain pickle: that of multiprocessing would share the memory of tensors, which ends with a process."""
    pipe.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even in the middle of an answer."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
