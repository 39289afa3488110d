"""Modules whose class is exchanged for one that does more, made when it is needed.

They are copied and pickled like any module, though nobody can import their class by its name.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


def exchange(module: nn.Module, *more: type) -> None:
    """Let ``module`` do what the classes ``more`` do on top of its own class, which is kept as ``plain``."""
    module.__class__ = _joined(more, type(module))  # type: ignore[arg-type]


@cache
def _joined(more: tuple[type, ...], kind: type) -> Any:
    facts = {"__module__": kind.__module__, "__reduce_ex__": _reduced, "plain": kind, "more": more}
    return type(kind.__name__, (*more, kind), facts)


def _reduced(module: Any, protocol: int) -> tuple[Any, ...]:
    return _made_again, (module.more, module.plain), module.__getstate__()


def _made_again(more: tuple[type, ...], kind: type) -> Any:
    cls = _joined(more, kind)
    return cls.__new__(cls)
