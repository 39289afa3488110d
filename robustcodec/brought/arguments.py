"""Arguments of the functions that users call, looked at before anything is done with them."""

from __future__ import annotations

from os import PathLike
from typing import Any

from robustcodec.errors import BadParameter, UserError

PATH: tuple[type, ...] = (str, PathLike)


def check(words: str, value: Any, kinds: type | tuple[type, ...], optional: bool = False) -> None:
    """Raise :class:`BadParameter` if ``value`` is none of ``kinds``; ``words``: ``NAME: what is expected``."""
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    if (optional and value is None) or (isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))):
        return
    name, _, expected = words.partition(": ")
    raise BadParameter(f"{name} is {given(value)}; expected {expected}{' or None' if optional else ''}")


def names(what: str, value: Any) -> list[str]:
    """``value``, a name or several, as a list; raises :class:`BadParameter` for anything else."""
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(each, str) and each for each in several):
        raise BadParameter(f"{what} is {given(value)}; expected a name, or a list of names")
    return list(several)


def device_of(name: str) -> str:
    """``name`` itself; raises :class:`UserError` for a device that is not there."""
    import torch

    check("device: a name such as cpu or cuda:0", name, str)
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}); expected auto, cpu or cuda") from None
    return name


def given(value: Any) -> str:
    """What was given, in a few words."""
    if isinstance(value, int | float | str | bool | None):
        return repr(value)[:60]
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")
