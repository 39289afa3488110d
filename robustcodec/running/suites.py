"""Suites: named, versioned lists of attacks without a parameter, whose worst case per sample is *the* number.

As AutoAttack's are for classifiers (Croce & Hein, 2020, https://arxiv.org/abs/2003.01690). A suite is a TOML file in
``attacks/suites`` (or anywhere, given by path) called ``NAME.vVERSION.toml``; a published version never changes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from robustcodec.errors import GridError, UnknownName


@dataclass(frozen=True)
class Suite:
    """``members``: (attack, objective), as they are written in a grid."""

    name: str
    version: int
    about: str
    members: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.name}.v{self.version}"


@cache
def bundled() -> tuple[Suite, ...]:
    """All that ship, by name and version."""
    folder = files("robustcodec.attacks") / "suites"
    suites = [_parse(f.name, f.read_text(encoding="utf-8")) for f in folder.iterdir() if f.name.endswith(".toml")]
    return tuple(sorted(suites, key=lambda s: (s.name, s.version)))


def find(text: str) -> Suite:
    """``robustcodec-standard`` (its newest version), ``robustcodec-standard.v1`` or the path of a file.

    Raises :class:`UnknownName`, or :class:`GridError` for a file that is no suite.
    """
    if text.endswith(".toml"):
        try:
            return _parse(Path(text).name, Path(text).read_text(encoding="utf-8"))
        except OSError as error:
            raise GridError(
                f"the suite {text} cannot be read ({error.strerror}); give the path of a suite file"
            ) from None
    known = [s for s in bundled() if text in (s.name, str(s))]
    if not known:
        names = ", ".join(map(str, bundled()))
        raise UnknownName(f"no suite is named {text!r}; expected one of {names}, or the path of a .toml file")
    return known[-1]


def complete(attempts: Iterable[tuple[str, str]]) -> list[str]:
    """The bundled suites of which every (attack, objective) is among ``attempts``."""
    pairs = set(attempts)
    return [str(suite) for suite in bundled() if pairs.issuperset(suite.members)]


def _parse(file: str, text: str) -> Suite:
    name = re.fullmatch(r"([\w-]+)\.v(\d+)\.toml", file)
    try:
        table = tomllib.loads(text)
        members = tuple((str(m["attack"]), str(m["objective"])) for m in table["member"])
        if name is None or not members:
            raise KeyError("member" if name else "a name such as mine.v1.toml")
        return Suite(name[1], int(name[2]), str(table["about"]), members)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise GridError(
            f'{file} is not a suite ({error}); expected a file NAME.vVERSION.toml with about = "…" and '
            "[[member]] tables of an attack and an objective"
        ) from None
