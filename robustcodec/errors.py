"""What can go wrong, as a tree. Every message says what was given, what was expected, what to do next.

RobustCodecError
├── UserError             a mistake in what was typed or given: one line, exit code 2, no traceback
│   ├── UnknownName       no plugin of that kind has that name
│   ├── BadParameter      a plugin was given a parameter it does not take, or a value it cannot read
│   ├── BadData           an image, clip or folder that cannot be used
│   ├── WeightsError      missing, damaged or foreign weights
│   ├── StreamError       bytes that are not a whole stream of this codec
│   ├── ProcessError      a codec's own process ended, hung or answered what it should not
│   ├── GridError         a grid file or command line that names no runnable cell
│   ├── StoreError        the run folder cannot be read or written
│   │   ├── DiskFull      there is no room for what was to be written
│   │   └── DamagedFile   a file of a run folder is not as it was written
│   └── BoardError        a leaderboard or an entry that cannot be read, or does not fit
├── OutOfMemory           it does not fit, or did not, into the memory that there is
├── PluginError           a plugin raised where it should not, or gave back something else than it promises
│   └── BrokenPlugin      one that was named cannot be had: its package, file or constructor raised
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
    """A codec's own process ended, hung or answered what it should not."""


class GridError(UserError):
    """A grid file or command line that names no runnable cell."""


class StoreError(UserError):
    """The run folder cannot be read or written."""


class DiskFull(StoreError):
    """There is no room for what was to be written."""


class DamagedFile(StoreError):
    """A file of a run folder is not as it was written; the command that wrote it makes it again."""


class BoardError(UserError):
    """A leaderboard or an entry that cannot be read, or an entry that does not fit its board."""


class OutOfMemory(RobustCodecError):
    """It does not fit, or did not, into the memory that there is; the message holds the ways out."""


class PluginError(RobustCodecError):
    """A plugin raised where it should not, or gave back something else than :mod:`robustcodec.interfaces` promises."""


class BrokenPlugin(PluginError):
    """A plugin that was named cannot be had: its package, file or constructor raised."""


class MissingDependency(RobustCodecError):
    """An optional package or backbone is not there; the message holds the remedy."""


class AttackError(RobustCodecError):
    """An attack broke a rule that the runner cannot repair."""


def blamed(who: str, error: BaseException, kind: type[PluginError] = PluginError) -> PluginError:
    """What a plugin raised, in one line; raises Ctrl-C again, which is nobody's fault."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    return kind(f"{who}{place_of(error)}: {type(error).__name__}: {shortened(str(error))}")


def shortened(text: str) -> str:
    """``text``, of which the end is left out where it is longer than anybody reads."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def last_line(text: str) -> str:
    """What a traceback or a message ends with; shortened of a traceback, of which anybody may have written it."""
    line = (text.strip().splitlines() or [""])[-1]
    return shortened(line) if text.startswith("Traceback") else line


def counted(number: int, noun: str) -> str:
    """How many of something, in words: ``1 clip``, ``2 clips``, ``3 entries``."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{number} {noun}"


def place_of(error: BaseException) -> str:
    """Where it was raised, in brackets: the file and line."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join(f" ({frame.filename}, line {frame.lineno})" for frame in last)
