"""What plugins give back, held to what :mod:`robustcodec.interfaces` promises before a number is made of it.

Each function gives back what it was given, or raises :class:`PluginError`: who gave what, and what was expected. Those
that loops call look at types and shapes alone, which costs microseconds and makes no GPU wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from robustcodec.errors import BadData, PluginError
from robustcodec.files import is_writable

HALF_A_LEVEL = 0.5 / 255  # so far outside of [0, 1] a value rounds to the same 8 bits as inside


def described(given: Any) -> str:
    """What something is, in a few words: ``float32 (1, 3)``, ``None``, ``a list of 2``."""
    if isinstance(given, Tensor):
        return f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    if given is None:
        return "None"
    many = f" of {len(given)}" if isinstance(given, list | tuple | str | bytes) else ""
    return f"a {type(given).__name__}{many}"


def clips(who: str, given: Any, shape: Sequence[int]) -> Tensor:
    """Float clips of this ``shape``, ``(N, T, 3, H, W)``; their values are not looked at."""
    if not (isinstance(given, Tensor) and given.is_floating_point() and given.shape == tuple(shape)):
        raise PluginError(f"{who} gave {described(given)}; expected float32 {tuple(shape)} in [0, 1]")
    return given


def finite(who: str, given: Tensor) -> Tensor:
    """Values that are all finite. On a GPU this waits for them."""
    if not bool(given.isfinite().all()):
        raise PluginError(f"{who} gave {described(given)} with values that are not finite; expected numbers in [0, 1]")
    return given


def outside(given: Tensor) -> str:
    """How far values leave [0, 1], such as ``-0.2 to 1.3``; empty: by less than 8 bits can show."""
    low, high = map(float, given.aminmax())
    return f"{low:.3g} to {high:.3g}" if low < -HALF_A_LEVEL or high > 1 + HALF_A_LEVEL else ""


def per_sample(who: str, given: Any, count: int) -> Tensor:
    """A float tensor ``(count,)``; its values are not looked at."""
    if not (isinstance(given, Tensor) and given.is_floating_point() and given.shape == (count,)):
        raise PluginError(f"{who} gave {described(given)}; expected float32 ({count},), a number for each sample")
    return given


def streams(who: str, given: Any, count: int) -> list[bytes]:
    """``count`` streams, none of which is empty."""
    whole = isinstance(given, list | tuple) and len(given) == count
    if not (whole and all(isinstance(stream, bytes) and stream for stream in given)):
        what = described(given)
        if whole:
            what += ": " + ", ".join(described(stream) for stream in given[:3])
        raise PluginError(f"{who} gave {what}; expected a list of {count}: bytes for each sample, none empty")
    return list(given)


def pixels(who: str, given: Any) -> Tensor:
    """A uint8 clip ``(T, 3, H, W)``."""
    fits = isinstance(given, Tensor) and given.dtype == torch.uint8 and given.ndim == 4 and given.shape[1] == 3
    if not fits or not given.numel():
        raise PluginError(f"{who} gave {described(given)}; expected a clip, uint8 (T, 3, H, W)")
    return cast(Tensor, given)


@dataclass(frozen=True)
class Reader:
    """Reads the clip of the sample ``name``; raises :class:`PluginError` for what is none.

    Raises :class:`BadData` when it is made, for a name that no file can hold.
    """

    name: str
    read: Callable[[], Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and not is_writable(self.name):
            raise BadData(f"the name of sample {self.name!r} is not UTF-8; rename its file")

    def __call__(self) -> Tensor:
        return pixels(f"sample {self.name}", self.read())


def scores(who: str, given: Any, taken: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by names that are not ``taken``; NaN where there is none."""
    if not isinstance(given, Mapping):
        raise PluginError(f"{who} gave {described(given)}; expected a dictionary of numbers")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, int | float) or math.isinf(value):
            shown = value if isinstance(value, int | float) else described(value)
            raise PluginError(f"{who} gave {name!r}: {shown}; expected a finite number, or NaN where there is none")
        if name in taken:
            raise PluginError(f"{who} gave {name!r}, which is the name of another score; call it otherwise")
    return {name: float(value) for name, value in given.items()}
