"""The prior in integers: what the bytes are coded with, the same numbers on every machine.

A range decoder needs the encoder's probabilities bit for bit, and floating-point sums depend on threads, batch and
device. Here every quantity is an integer (after Ballé et al., "Integer networks for data compression with
latent-variable models", ICLR 2019): int8 weights, activations on fixed grids, and tables of tanh, sigmoid and exp
that travel with the weights. Integers are carried in float64, where sums and products below 2^53 are exact in any
order and on any device. :mod:`robustcodec.zoo._wavefront` evaluates it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustcodec.zoo._causal_prior import FLOOR, HISTORY, KERNEL, Prior
from robustcodec.zoo._rdae_networks import Architecture

# The unit of every kind of integer.
SYMBOL = 2.0**-1  # 2 · symbol - (levels - 1), so that an even number of levels has no zero
STREAM = 2.0**-8  # the residual stream, 16 bits
BEFORE_GATE = 2.0**-10
TABLE_STEP = 2.0**-7  # of the arguments of tanh and sigmoid, from -8 to 8
TABLE = 2.0**-10  # values of tanh and sigmoid, and the recurrent state
GATED = TABLE * TABLE
LOGIT = 2.0**-6
STREAM_LIMIT = 32767
TABLE_HALF = 1024
WEIGHT_ONE = 65536  # of the most probable symbol, but for the floor
EXP_SIZE = 768  # differences of logits down to -12
TAPS = KERNEL**3
MIN_BITS = FLOOR  # what a symbol carries at the very least, since the floor keeps another one possible

Linear = Callable[[Tensor], Tensor]


def on_grid(value: Tensor, unit: float) -> Tensor:
    """Nearest multiple of ``unit``, as an integer in float64."""
    return (value.detach().double() / unit).round()


class Map(nn.Module):
    """``floor(W x · multiplier / 2^shift + 1/2) + bias``: int8 ``W``, a 16-bit multiplier and a shift per output.

    Inputs and how many there are multiply to less than 2^30 in every layer, which keeps all products below 2^53.
    """

    weight: Tensor
    multiplier: Tensor
    shift: Tensor
    bias: Tensor

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("multiplier", torch.zeros(outputs, dtype=torch.int32))
        self.register_buffer("shift", torch.zeros(outputs, dtype=torch.int8))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.int32))

    def export(self, weight: Tensor, bias: Tensor | None, unit_in: float, unit_out: float) -> None:
        """Quantise float ``weight`` ``(outputs, …)`` per output, and ``bias`` ``(outputs,)``."""
        w = weight.detach().double().flatten(1)
        step = w.abs().amax(1).clamp_min(2.0**-20) / 127
        scale = step * (unit_in / unit_out)
        shift = 16 - torch.frexp(scale)[1].double()
        self.weight.copy_((w / step[:, None]).round())
        self.multiplier.copy_((scale * 2**shift).round())
        self.shift.copy_(shift)
        self.bias.copy_(torch.zeros(()) if bias is None else on_grid(bias, unit_out))

    def linear(self) -> Linear:
        """``(n, inputs)`` → ``(n, outputs)``, integers in float64."""
        weight, multiplier, shift, bias = (t.double() for t in self.buffers())
        weight, half, unit = weight.T.contiguous(), 2 ** (shift - 1), 2**-shift

        def apply(x: Tensor) -> Tensor:
            return torch.floor((x @ weight * multiplier + half) * unit) + bias

        return apply


class IntegerLayer(nn.Module):
    """Integer copy of one layer of the prior."""

    channel: Tensor

    def __init__(self, a: Architecture, first: bool) -> None:
        super().__init__()
        k, inputs = a.prior_width, 1 if first else a.prior_width
        self.first = first
        self.taps = TAPS // 2 if first else TAPS // 2 + 1  # of the kernel, in raster order: those that are known
        self.causal = Map(2 * k, inputs * self.taps)
        self.history = Map(2 * k, k) if a.temporal != "none" else None
        self.project = Map(k, k)
        self.register_buffer("channel", torch.zeros(a.channels, 2 * k, dtype=torch.int32))


class IntegerPrior(nn.Module):
    """int8 weights and integer tables; :meth:`export` fills them from a trained float prior."""

    tanh: Tensor
    sigmoid: Tensor
    exp: Tensor

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        k = a.prior_width
        self.architecture = a
        self.layers: Sequence[IntegerLayer] = nn.ModuleList(  # type: ignore[assignment]
            [IntegerLayer(a, first=i == 0) for i in range(a.prior_layers)]
        )
        self.hidden, self.out = Map(k, k), Map(a.levels, k)
        self.earlier = Map(2 * k, HISTORY * TAPS) if a.temporal == "prev" else None
        self.gates = Map(2 * k, (1 + k) * TAPS) if a.temporal == "gru" else None
        self.candidate = Map(k, (1 + k) * TAPS) if a.temporal == "gru" else None
        for name, size in (("tanh", 2 * TABLE_HALF), ("sigmoid", 2 * TABLE_HALF), ("exp", EXP_SIZE)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.int32))

    def export(self, prior: Prior) -> None:
        """Quantise ``prior``, whose architecture is this one's. Inputs of a map are ordered tap by tap."""
        argument = torch.arange(-TABLE_HALF, TABLE_HALF, dtype=torch.float64) * TABLE_STEP
        self.tanh.copy_(on_grid(torch.tanh(argument), TABLE))
        self.sigmoid.copy_(on_grid(torch.sigmoid(argument), TABLE))
        weights = torch.exp(-torch.arange(EXP_SIZE, dtype=torch.float64) * LOGIT)
        self.exp.copy_(on_grid(weights, 1 / WEIGHT_ONE) + FLOOR * WEIGHT_ONE)
        for i, (mine, theirs) in enumerate(zip(self.layers, prior.layers, strict=True)):
            unit = SYMBOL if i == 0 else STREAM
            mine.causal.export(_by_tap(theirs.causal.weight)[:, : mine.causal.weight.shape[1]], None, unit, BEFORE_GATE)
            mine.channel.copy_(on_grid(theirs.channel.T, BEFORE_GATE))
            mine.project.export(theirs.project.weight, theirs.project.bias, GATED, STREAM)
            if mine.history is not None and theirs.history is not None:
                mine.history.export(theirs.history.weight, None, self.history_unit, BEFORE_GATE)
        self.hidden.export(prior.hidden.weight, prior.hidden.bias, STREAM, STREAM)
        self.out.export(prior.out.weight, prior.out.bias, STREAM, LOGIT)
        if self.earlier is not None and prior.earlier is not None:
            self.earlier.export(_by_tap(prior.earlier.weight), prior.earlier.bias, SYMBOL, BEFORE_GATE)
        if self.gates is not None and self.candidate is not None and prior.recurrence is not None:
            gates, candidate = prior.recurrence.gates, prior.recurrence.candidate
            self.gates.export(_by_tap(gates.weight), gates.bias, TABLE, BEFORE_GATE)
            self.candidate.export(_by_tap(candidate.weight), candidate.bias, TABLE, BEFORE_GATE)

    @property
    def history_unit(self) -> float:
        """Unit of what earlier slices tell: a gated product, or the recurrent state."""
        return GATED if self.earlier is not None else TABLE


def _by_tap(weight: Tensor) -> Tensor:
    """Weights ``(outputs, inputs, 3, 3, 3)`` as ``(outputs, taps · inputs)``: known taps first in a causal kernel."""
    return weight.flatten(2).transpose(1, 2).flatten(1)
