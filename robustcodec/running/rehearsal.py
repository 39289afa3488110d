"""What memory an attack needs, found out before it begins: a shorter one is watched on small crops, and what it held at
most is continued to the whole clip, since it grows with the pixels.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustcodec.clips import centre_crop
from robustcodec.errors import OutOfMemory
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.memory import OUT, WAYS_OUT, available, shown
from robustcodec.memory.tiling import limits, tiling
from robustcodec.oracle import Oracle

LARGE = 1 << 20  # pixels of a batch from which on a rehearsal is worth its time
SMALL, MIDDLE = 128, 256  # sides of the crops
TILE = 64  # side of tiles that are small beside a crop
HALO = 32  # pixels around a tile, about
STEPS = 2  # of the attack: more hold no more
UNSEEN = 1.2  # what a process takes for each byte of its tensors: gaps, and what libraries need for themselves


@dataclass(frozen=True)
class Need:
    """Bytes that an attack will hold at most, on clips of so many pixels: in ``total``, and if codecs did not compute
    large pictures in tiles, ``whole``.
    """

    width: int
    height: int
    clips: int
    total: float
    whole: float

    def line(self, device: torch.device) -> str:
        """For people, before it begins."""
        free = available(device)
        left = "" if free is None else f"; {shown(free)} are free"
        tiles = f" (in tiles that are computed twice; at once it were {shown(self.whole)})"
        need = f"{self} about {shown(self.total)} of memory{tiles if self.whole > self.total else ''}{left}"
        return f"{need}; a part is done much sooner (crop=256, --crop 256)"

    def __str__(self) -> str:
        frames = f"{self.clips} frames of " if self.clips > 1 else ""
        return f"to attack {frames}{self.width}x{self.height} pixels takes"

    def check(self, device: torch.device) -> None:
        """Raises :class:`OutOfMemory` if it will not fit."""
        free = available(device)
        if free is not None and self.total > free:
            raise OutOfMemory(f"{OUT}: {self.line(device)}; {WAYS_OUT}")


def need(attack: Attack, threat: Threat, oracle: Callable[[Tensor], Oracle], x: Tensor) -> Need | None:
    """Of ``attack`` on clips ``x``, ``(N, T, 3, H, W)``; ``oracle``: of any clips, as the attack will have it. None if
    they are small, or the attack cannot be rehearsed, which is for itself to say.
    """
    n, frames, _, height, width = x.shape
    pixels = n * frames * height * width
    if pixels < LARGE:
        return None
    short = _short(attack)

    def peak(side: int) -> tuple[int, int]:
        """Pixels of a crop, and bytes held at most."""
        crop = centre_crop(x, side)
        with torch.random.fork_rng(devices=[]), Held() as held:
            short.run(oracle(crop), crop.clone(), threat, Draws([0] * n))
        return n * frames * crop.shape[-2] * crop.shape[-1], held.most

    try:
        with tiling(pixels, limits().side):
            whole = _continued(peak(SMALL), peak(MIDDLE), pixels)
        if pixels <= limits().whole:
            return Need(width, height, n * frames, UNSEEN * whole, UNSEEN * whole)
        with tiling(0, TILE):
            oracle(centre_crop(x, SMALL)).look(centre_crop(x, SMALL))  # finds out how far networks look
            small, middle = peak(SMALL), peak(MIDDLE)
        with tiling(0, MIDDLE):
            one_tile = peak(MIDDLE)[1]
    except Exception:  # attacks and codecs are anyone's code
        return None
    grown = MIDDLE**2 - (TILE + 2 * HALO) ** 2
    largest = min(height * width, (limits().side + 2 * HALO) ** 2)
    of_tile = max(0.0, (one_tile - middle[1]) / grown) * (largest - (TILE + 2 * HALO) ** 2)
    return Need(width, height, n * frames, UNSEEN * (_continued(small, middle, pixels) + of_tile), UNSEEN * whole)


def _short(attack: Attack) -> Attack:
    """The same attack with few steps, where it takes that."""
    fewer: dict[str, Any] = {}
    for name in attack.effort:
        value = getattr(attack, name, None)
        if isinstance(value, int) and value > STEPS:
            fewer[name] = STEPS
    try:
        return replace(attack, **fewer)  # type: ignore[type-var]
    except Exception:  # it needs more
        return attack


def _continued(one: tuple[int, int], other: tuple[int, int], pixels: int) -> float:
    """Bytes at ``pixels``, on the line through two pairs of pixels and bytes."""
    (x0, y0), (x1, y1) = one, other
    return y1 + (y1 - y0) / (x1 - x0) * (pixels - x1) if x1 > x0 else float(y1)


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of all tensors that are made inside and not yet freed, and the ``most`` of them at any time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: dict[int, weakref.finalize[..., Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._meet(value.untyped_storage())
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self.now += size
            self.most = max(self.most, self.now)
            self._known[key] = weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size
