"""Suites: named, versioned lists of attacks without a parameter, whose worst case per sample is *the* number.

As AutoAttack's are for classifiers (Croce & Hein, 2020, https://arxiv.org/abs/2003.01690). A suite is a TOML file in
``attacks/suites`` (or anywhere, given by path) called ``NAME.vVERSION.toml``; a published version never changes. What
its members leave out is what it was when it was published: version 1 of those that ship means the defaults of then.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import cast

from robustcodec import registry
from robustcodec.errors import GridError, UnknownName
from robustcodec.interfaces import Attack
from robustcodec.spec import Spec


@dataclass(frozen=True)
class Suite:
    """``written``: (attack, objective), as in its file; ``former``: with the defaults of the first release."""

    name: str
    version: int
    about: str
    written: tuple[tuple[str, str], ...]
    former: bool = False

    @cached_property
    def members(self) -> tuple[tuple[str, str], ...]:
        """(attack, objective), as a grid would have to name them today."""
        return tuple((_explicit(attack) if self.former else attack, objective) for attack, objective in self.written)

    def __str__(self) -> str:
        return f"{self.name}.v{self.version}"


@cache
def bundled() -> tuple[Suite, ...]:
    """All that ship, by name and version."""
    folder = files("robustcodec.attacks") / "suites"
    suites = [_parse(f.name, f.read_text(encoding="utf-8")) for f in folder.iterdir() if f.name.endswith(".toml")]
    published = [replace(suite, former=suite.version == 1) for suite in suites]
    return tuple(sorted(published, key=lambda s: (s.name, s.version)))


def find(text: str) -> Suite:
    """``robustcodec-standard`` (its newest version), ``robustcodec-standard.v1`` or the path of a file.

    Raises :class:`UnknownName`, or :class:`GridError` for a file that is no suite.
    """
    if text.endswith(".toml"):
        try:
            return _parse(Path(text).name, Path(text).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise GridError(f"the suite {text} cannot be read ({reason}); give the path of a suite file") from None
    known = [s for s in bundled() if text in (s.name, str(s))]
    if not known:
        names = [str(suite) for suite in bundled()]
        meant = [name for name in names if text in name.replace("robustcodec-", "")][-1:]
        meant = meant or difflib.get_close_matches(text, names, n=1, cutoff=0.5)
        hint = f"; did you mean {meant[0].partition('.')[0]}?" if meant else "."
        raise UnknownName(
            f"no suite is named {text!r}{hint} Expected one of {', '.join(names)}, or the path of a .toml file"
        )
    return known[-1]


def complete(attempts: Iterable[tuple[str, str]]) -> list[str]:
    """The bundled suites of which every (attack, objective) is among ``attempts``."""
    pairs = set(attempts)
    return [str(suite) for suite in bundled() if pairs.issuperset(suite.members)]


def _explicit(attack: str) -> str:
    """``attack`` with the former defaults of what it leaves out: :attr:`robustcodec.interfaces.Plugin.superseded`."""
    spec = Spec.parse(attack)
    former = cast("type[Attack]", registry.attacks.get(spec.name)).superseded
    known, given = registry.attacks.resolve(spec), dict(spec.params)
    added = [(name, str(value)) for name, value in former.items() if name in known and name not in given]
    return str(replace(spec, params=(*spec.params, *added)))


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
