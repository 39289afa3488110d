"""What can go wrong, as a tree. Every message says what was given, what was expected, what to do next.

RobustCodecError
├── UserError             a mistake in what was typed or given: one line, exit code 2, no traceback
│   ├── UnknownName       no plugin of that kind has that name
│   ├── BadParameter      a plugin was given a parameter it does not take, or a value it cannot read
│   ├── BadData           an image, clip or folder that cannot be used
│   ├── WeightsError      missing, damaged or foreign weights
│   ├── StreamError       bytes that are not a whole stream of this codec
│   ├── ProcessError      a codec's own process ended, hung or gave a forbidden answer
│   ├── GridError         a grid file or command line that names no cell that can run
│   ├── StoreError        the run folder cannot be read or written
│   │   ├── DiskFull      the disk has no room for what was to be written
│   │   └── DamagedFile   a file of a run folder differs from what was written
│   └── BoardError        a leaderboard or an entry that cannot be read, or does not fit
├── OutOfMemory           the work does not fit, or did not fit, into memory
├── PluginError           a plugin raised where it should not, or returned something else than promised
│   └── BrokenPlugin      a plugin that was named cannot be used: its package, file or constructor raised
├── MissingDependency     an optional package or backbone is not installed
└── AttackError           an attack broke a rule that the runner cannot repair
"""

from __future__ import annotations

import re
import traceback

LONGEST = 500  # signs of a message that a plugin made, where it is one line of many


class RobustCodecError(Exception):
    """Root of all errors this package raises on purpose."""


class UserError(RobustCodecError):
    """A mistake in what was typed or given; the command line prints it without a traceback."""


class UnknownName(UserError):
    """No plugin of that kind has that name."""


class BadParameter(UserError):
    """A plugin was given a parameter it does not take, or a value it cannot read."""


class BadData(UserError):
    """An image, clip or folder that cannot be used."""


class WeightsError(UserError):
    """Missing, damaged or foreign weights."""


class StreamError(UserError):
    """Bytes that are not a whole stream of this codec."""


class ProcessError(UserError):
    """A codec's own process ended, hung or gave an answer that the protocol does not allow."""


class GridError(UserError):
    """A grid file or a command line that names no cell that can run."""


class StoreError(UserError):
    """The run folder cannot be read or written."""


class DiskFull(StoreError):
    """The disk has no room for what was to be written."""


class DamagedFile(StoreError):
    """A file of a run folder differs from what was written; the command that wrote it makes it again."""


class BoardError(UserError):
    """A leaderboard or an entry that cannot be read, or an entry that does not fit its board."""


class OutOfMemory(RobustCodecError):
    """The work does not fit, or did not fit, into memory; the message lists the ways out."""


class PluginError(RobustCodecError):
    """A plugin raised where it should not, or returned something else than :mod:`robustcodec.interfaces` promises."""


class BrokenPlugin(PluginError):
    """A plugin that was named cannot be used, because its package, file or constructor raised."""


class MissingDependency(RobustCodecError):
    """An optional package or backbone is not installed; the message says how to get it."""


class AttackError(RobustCodecError):
    """An attack broke a rule that the runner cannot repair."""


def blamed(who: str, error: BaseException, kind: type[PluginError] = PluginError) -> PluginError:
    """The error of a plugin as one line. Ctrl-C is raised again, since it is nobody's fault."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return kind(f"{who}{place_of(error)}: {type(error).__name__}: {shortened(str(error))}")


def shortened(text: str) -> str:
    """``text``, without its end if it is longer than anybody reads."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def last_line(text: str) -> str:
    """The last line of a traceback or a message; shortened if it is of a traceback, which anybody may have written."""
    line = (text.strip().splitlines() or [""])[-1]
    return shortened(line) if text.startswith("Traceback") else line


def counted(number: int, noun: str) -> str:
    """A number with its noun, in words: ``1 clip``, ``2 clips``, ``3 entries``."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{number} {noun}"


def place_of(error: BaseException) -> str:
    """The file and line where ``error`` was raised, in brackets."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join(f" ({frame.filename}, line {frame.lineno})" for frame in last)
