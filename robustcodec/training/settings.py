"""What a field of a recipe means, said where the field stands: the command line makes its options of it.

``steps: Annotated[int, Setting("Optimiser steps.", LOOP)] = 20_000`` is a field, an option with a type and a default,
and its line in ``--help``.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_args


@dataclass(frozen=True)
class Setting:
    """Help of a field, which says what None means if it can be None, and the panel of ``--help`` that it stands in."""

    help: str
    panel: str | None = None


@dataclass(frozen=True)
class Described:
    """A field of a recipe; ``default``: :data:`dataclasses.MISSING` if it must be given."""

    name: str
    type: Any
    default: Any
    help: str
    panel: str | None

    @property
    def required(self) -> bool:
        return self.default is MISSING


def described(kind: type) -> list[Described]:
    """All fields of the dataclass ``kind``; one that a subclass gives only another default keeps its description."""
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, hint in inspect.get_annotations(base, eval_str=True).items():
            if hasattr(hint, "__metadata__") or name not in hints:  # Annotated
                hints[name] = hint
    out = []
    for field in fields(kind):
        type_, setting = get_args(hints[field.name])
        out.append(Described(field.name, type_, field.default, setting.help, setting.panel))
    return out
