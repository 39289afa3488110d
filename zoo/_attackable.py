"""CompressAI's entropy models inside a network of somebody else's, rounding as :mod:`robustcodec.rounding` says.

The class of each model is exchanged for one that does the same, and under :func:`recorded` also what our own families
do: latents are rounded by the surrogate of whoever attacks, and bits are those that the coder spends. Straight-through
functions of the network's modules (``ste_round`` and the like) round by that surrogate too.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor, nn

from robustcodec.probing import LATENTS, MEANS, SCALES, SIDE, probe
from robustcodec.rounding import Rounded, round_latent
from robustcodec.stream import symbol_crc
from robustcodec.zoo import _entropy
from robustcodec.zoo._exchanged import exchange

STRAIGHT_THROUGH = re.compile(r"ste|round|quant", re.IGNORECASE)  # in the names of functions that may be such


class Record:
    """What the entropy models of a network met in one forward: ``latents``, rounded, in the order of the calls, and
    the bits of the likelihoods that they gave.
    """

    def __init__(self) -> None:
        self.latents: list[Tensor] = []
        self._bits: list[tuple[Tensor, Tensor]] = []

    def note(self, latents: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """What an entropy model returns: ``latents``, and likelihoods of which the information is ``bits``."""
        likelihoods = torch.exp2(-bits)
        self.latents.append(latents)
        self._bits.append((likelihoods, bits))
        return latents, likelihoods

    def bits(self, likelihoods: Tensor) -> Tensor:
        """``(B,)`` bits of likelihoods ``(B, …)`` that a network made of those which it was given."""
        for given, bits in self._bits:
            if given is likelihoods:
                return _entropy.total(bits)
        return _entropy.total(-likelihoods.float().clamp(min=_entropy.LEAST).log2())


class Symbols:
    """The checksum ``crc`` of the symbols that are coded, or of those that are decoded if ``decoding``."""

    def __init__(self, decoding: bool) -> None:
        self.decoding, self.crc = decoding, 0

    def met(self, symbols: Tensor) -> None:
        self.crc = symbol_crc(symbols.detach().round().to(torch.int32).cpu().contiguous().numpy().tobytes(), self.crc)


_record: ContextVar[Record | None] = ContextVar("record", default=None)
_symbols: ContextVar[Symbols | None] = ContextVar("symbols", default=None)


@contextmanager
def recorded(rounding: Sequence[tuple[str, str]]) -> Iterator[Record]:
    """Inside, a forward of an :func:`attackable` network rounds and counts as ours do; ``rounding``: its functions that
    :func:`straight_through` found. A ``torch.round`` beside them rounds so too.
    """
    record = Record()
    with ExitStack() as stack:
        for home, name in rounding:
            module = sys.modules[home]
            stack.enter_context(patch.object(module, name, _rounding_like(getattr(module, name))))
        stack.enter_context(Rounded())
        token = _record.set(record)
        stack.callback(_record.reset, token)
        yield record


@contextmanager
def checked(decoding: bool) -> Iterator[Symbols]:
    """Inside, the symbols that CompressAI's entropy models turn from latents, or into latents, are checksummed."""
    symbols = Symbols(decoding)
    token = _symbols.set(symbols)
    try:
        yield symbols
    finally:
        _symbols.reset(token)


def attackable(net: nn.Module) -> nn.Module:
    """``net`` with the classes of its entropy models exchanged; its state dict is unchanged.

    Models that define ``forward`` or ``quantize`` by themselves keep it.
    """
    conditional = any(isinstance(module, GaussianConditional) for module in net.modules())
    for module in net.modules():
        if not isinstance(module, EntropyModel) or isinstance(module, _Rounding):
            continue
        kind = type(module)
        bases: list[type] = [_Rounding] if kind.quantize is EntropyModel.quantize else []
        if bases and kind.forward is EntropyBottleneck.forward:
            bases = [_Bottleneck if conditional else _OnlyBottleneck]
        elif bases and kind.forward is GaussianConditional.forward:
            bases = [_Gaussian]
        if bases:
            exchange(module, *bases)
    return net


class _Rounding(EntropyModel):  # type: ignore[misc]
    """``quantize`` by the surrogate, in a recorded forward; symbols are checksummed."""

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        if mode == "dequantize" and _record.get() is not None:
            return round_latent(inputs, means)
        rounded: Tensor = super().quantize(inputs, mode, means)
        if mode == "symbols" and (symbols := _symbols.get()) is not None and not symbols.decoding:
            symbols.met(rounded)
        return rounded

    def dequantize(self, inputs: Tensor, means: Tensor | None = None, dtype: torch.dtype = torch.float) -> Tensor:
        if (symbols := _symbols.get()) is not None and symbols.decoding:
            symbols.met(inputs)
        return super().dequantize(inputs, means, dtype)  # type: ignore[no-any-return]


class _Bottleneck(_Rounding, EntropyBottleneck):  # type: ignore[misc]
    probed = SIDE

    def forward(self, x: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
        record = _record.get()
        if record is None or (self.training if training is None else training):
            return super().forward(x, training)  # type: ignore[no-any-return]
        x = x.float()
        x_hat = probe(self.probed, _entropy.bottleneck_round(self, x), x)
        return record.note(x_hat, _entropy.each_bottleneck_bits(self, x_hat))


class _OnlyBottleneck(_Bottleneck):
    """Of a network without side information."""

    probed = LATENTS


class _Gaussian(_Rounding, GaussianConditional):  # type: ignore[misc]
    def build_indexes(self, scales: Tensor) -> Tensor:
        return _entropy.table_indexes(self, scales)

    def forward(
        self, inputs: Tensor, scales: Tensor, means: Tensor | None = None, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        record = _record.get()
        if record is None or (self.training if training is None else training):
            return super().forward(inputs, scales, means, training)  # type: ignore[no-any-return]
        inputs, scales = inputs.float(), probe(SCALES, scales.float())
        means = None if means is None else probe(MEANS, means.float())
        outputs = probe(LATENTS, round_latent(inputs, means), inputs)
        return record.note(outputs, _entropy.each_gaussian_bits(self, outputs, scales, means))


def straight_through(net: nn.Module) -> list[tuple[str, str]]:
    """Functions that round with a slope of one, as modules where classes of ``net`` are defined know them: the names of
    module and function. They are found by what they do to a few numbers.
    """
    homes = {name: sys.modules[name] for name in {type(m).__module__ for m in net.modules()} if name in sys.modules}
    return [
        (home, name)
        for home, module in sorted(homes.items())
        for name, function in vars(module).items()
        if STRAIGHT_THROUGH.search(name) and inspect.isfunction(function) and _found_to_round(function)
    ]


def _found_to_round(function: Callable[..., Any]) -> bool:
    if function.__module__.startswith("robustcodec."):
        return False
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if len(needed) != 1 or needed[0].kind not in (needed[0].POSITIONAL_ONLY, needed[0].POSITIONAL_OR_KEYWORD):
        return False
    with torch.enable_grad():
        values = torch.tensor([[[[-1.7, -0.2, 0.4, 2.6]]]], requires_grad=True)
        try:
            (slope,) = torch.autograd.grad(function(values).sum(), values)
            same = torch.allclose(function(values), values.round(), atol=1e-4)
            return same and bool((slope == 1).all())
        except Exception:  # it wants something else than latents
            return False


def _rounding_like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rounded(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(values, *args, **kwargs) if args or kwargs else round_latent(values)

    return rounded
