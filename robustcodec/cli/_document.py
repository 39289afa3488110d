"""The JSON document of a command, which with ``--json`` is all that its stdout holds.

Plugins are anyone's code and may print, in Python, in C or in processes of theirs. While a command works, all of that
goes to stderr; the document is written when it has ended.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any

_said: ContextVar[list[str]] = ContextVar("said")


def apart(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, of which a parameter ``json`` keeps stdout for what it gives :func:`say`."""

    @wraps(command)
    def run(**options: Any) -> None:
        if not options.get("json"):
            return command(**options)
        said: list[str] = []
        token = _said.set(said)
        try:
            with _stdout_is_stderr():
                command(**options)
        finally:
            _said.reset(token)
            sys.stdout.write("".join(said))

    return run


def say(document: Any, indent: int | None = 1) -> None:
    """Let this be the document of the command; NaN and infinities, which JSON has not, become null."""
    text = json.dumps(_plain(document), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    said = _said.get(None)
    if said is None:  # the command was called by a program
        sys.stdout.write(text)
    else:
        said.append(text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Inside, whoever writes to stdout, by its object or its descriptor, here or in a child, writes to stderr."""
    out = sys.stdout
    _flush(out)
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush(out)
        os.dup2(kept, 1)
        os.close(kept)


def _flush(out: Any) -> None:
    """What Python's ``out`` and C's stdout hold back."""
    out.flush()
    with suppress(OSError, AttributeError):  # of a system without C's standard library
        ctypes.CDLL(None).fflush(None)
