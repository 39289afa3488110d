"""What a process has beside torch and what anyone's code can change or close: kept, and put back."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def kept() -> Iterator[None]:
    """Afterwards the environment, the folder, standard output and error, which warnings are shown and the limit of
    recursion are as they were, whatever was done inside.
    """
    out, err = _descriptor(1), _descriptor(2)
    with _environment(), _folder(), _manners(), out, err, _stream("stdout"), _stream("stderr"):
        yield


@contextmanager
def _environment() -> Iterator[None]:
    had = os.environ.copy()
    try:
        yield
    finally:
        if os.environ != had:
            for name in os.environ.keys() - had.keys():
                del os.environ[name]
            os.environ.update(had)


@contextmanager
def _folder() -> Iterator[None]:
    had = _current()
    try:
        yield
    finally:
        if had is not None and had != _current():
            with suppress(OSError):  # it is gone: whoever needs it says so
                os.chdir(had)


def _current() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


@contextmanager
def _manners() -> Iterator[None]:
    """Only what changed is put back: else a warning that is said once would be said once more each time."""
    filters, depth = list(warnings.filters), sys.getrecursionlimit()
    try:
        yield
    finally:
        if warnings.filters != filters:
            warnings.resetwarnings()
            warnings.filters[:] = filters  # type: ignore[index]
        sys.setrecursionlimit(depth)


@contextmanager
def _descriptor(number: int) -> Iterator[None]:
    """A descriptor that is closed, or leads elsewhere, leads again to where it led."""
    try:
        spare = os.dup(number)
    except OSError:  # it was closed before
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # the spare was closed too: nothing leads back
            if not _same(spare, number):
                os.dup2(spare, number)
            os.close(spare)


def _same(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False


@contextmanager
def _stream(name: str) -> Iterator[None]:
    """Inside, the stream is shown as one that cannot be closed: what is closed cannot be opened again."""
    had = getattr(sys, name)
    if had is not None:
        setattr(sys, name, Lent(had))
    try:
        yield
    finally:
        setattr(sys, name, had)


class Lent:
    """A stream in someone else's hands: it does all that the stream does but close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._stream.flush()
