"""How much each layer of a codec amplifies a perturbation, after "ARDA" (https://arxiv.org/abs/2405.07717): its size
beside that of what it perturbs, where it enters a layer and where it leaves it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustcodec.errors import AttackError, UserError
from robustcodec.interfaces import Codec, Output
from robustcodec.probing import probed
from robustcodec.rounding import rounding

FIRST, LAST = "input", "reconstruction"
Note = Callable[[str, str, Tensor | None, Tensor], None]  # name, kind, what entered a layer and what left it


@dataclass(frozen=True)
class Layer:
    """One layer, or one thing that is coded.

    ``kind``: what it computes, such as ``Conv2d``; ``coded`` of what is coded, ``clip`` of both ends. ``perturbation``:
    ``‖h(x*) − h(x)‖ / ‖h(x)‖`` of what leaves it, in L2 over all its calls; ``amplification``: that over the same ratio
    of what enters it. NaN where nothing enters, or what enters is zero or not perturbed.
    """

    name: str
    kind: str
    perturbation: float
    amplification: float


@torch.no_grad()
def trace(codec: Codec, x: Tensor, x_adv: Tensor) -> list[Layer]:
    """The layers that make latents and picture of a clip, in the order of their execution; clips ``(1, T, 3, H, W)``.

    Layers are the modules that compute something themselves: all without modules inside, blocks that add what is
    inside them to their input, and layers with parameters of their own, whose insides are not shown. Between them is
    what the codec probes: what the decoder receives, and probabilities. The first is the clip, the last what is shown
    of it. Raises :class:`UserError` as :func:`require_layers`.
    """
    require_layers(codec)
    clean: deque[tuple[Tensor | None, Tensor]] = deque()
    sizes: dict[str, _Sizes] = {}

    def keep(name: str, kind: str, entered: Tensor | None, left: Tensor) -> None:
        clean.append((entered, left.clone()))  # a later layer may work in place

    def compare(name: str, kind: str, entered: Tensor | None, left: Tensor) -> None:
        before, behind = clean.popleft()
        size = sizes.setdefault(name, _Sizes(kind))
        size.left.add(behind, left)
        if before is not None and entered is not None:
            size.entered.add(before, entered)

    with rounding("straight-through"):
        _shown(codec, x)  # what a codec builds when it is first used must not be a copy of modules that are watched
        with _watched(codec, keep):
            x_hat = _shown(codec, x)
        with _watched(codec, compare):
            x_adv_hat = _shown(codec, x_adv)
    return [
        Layer(FIRST, "clip", _relative(x, x_adv), math.nan),
        *(
            Layer(name, s.kind, s.left.relative, s.left.relative / (s.entered.relative or math.nan))
            for name, s in sizes.items()
        ),
        Layer(LAST, "clip", _relative(x_hat, x_adv_hat), math.nan),
    ]


def require_layers(codec: Codec) -> None:
    """Raises :class:`UserError` for a codec without modules: it has no layers to look into."""
    if next(codec.children(), None) is None:
        raise UserError(
            f"{codec.card.name} has no layers to look into; expected a learned codec, such as "
            "bmshj2018-hyperprior.tiny-q2 (robustcodec list codecs shows all)"
        )


def _shown(codec: Codec, clip: Tensor) -> Tensor:
    """The picture of a clip, after all latents."""
    out: Output = codec(clip)
    with suppress(AttackError):  # a codec that shows no latents still has layers
        _ = out.latents
    return out.x_hat


class _Size:
    """Squares of a perturbation and of what it perturbs, summed over calls."""

    def __init__(self) -> None:
        self.difference = self.reference = 0.0

    def add(self, clean: Tensor, attacked: Tensor) -> None:
        self.difference += float((attacked.double() - clean.double()).square().sum())
        self.reference += float(clean.double().square().sum())

    @property
    def relative(self) -> float:
        return math.sqrt(self.difference / self.reference) if self.reference else math.nan


def _relative(clean: Tensor, attacked: Tensor) -> float:
    size = _Size()
    size.add(clean, attacked)
    return size.relative


class _Sizes:
    """What enters a layer and what leaves it."""

    def __init__(self, kind: str) -> None:
        self.kind, self.entered, self.left = kind, _Size(), _Size()


@contextmanager
def _watched(codec: Codec, note: Note) -> Iterator[None]:
    """Every layer that runs inside the block is noted."""
    last: tuple[Tensor, int] | None = None  # what left the last layer, and which version of it
    entered: list[Tensor | None] = []  # what entered those that are being computed
    insides = 0  # how many of them have parameters of their own

    def changed(value: Tensor) -> bool:
        """False of a container, which hands on what the last module inside it gave."""
        nonlocal last
        before, last = last, (value, value._version)
        return before is None or value is not before[0] or value._version != before[1]

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal insides
        of_interest = insides == 0 and bool(inputs) and isinstance(inputs[0], Tensor)
        entered.append(inputs[0].clone() if of_interest else None)  # a layer may work in place
        insides += _owns_parameters(module)

    def after(name: str, module: nn.Module, value: Any) -> None:
        nonlocal insides
        insides -= _owns_parameters(module)
        source = entered.pop()
        if source is not None and isinstance(value, Tensor) and value.ndim == source.ndim and changed(value):
            note(name, module._get_name(), source, value)  # type: ignore[no-untyped-call]

    def probe(name: str, value: Tensor, source: Tensor | None) -> Tensor:
        if source is not None:
            note(name, "coded", source.clone(), value)
        return value

    handles = []
    for name, module in codec.named_modules():
        if module is not codec:
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(_named(name.removeprefix("net."), after)))
    try:
        with probed(probe):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _named(name: str, hook: Callable[[str, nn.Module, Any], None]) -> Callable[[nn.Module, Any, Any], None]:
    return lambda module, inputs, value: hook(name, module, value)


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
