"""Gated autoregressive prior over discrete latents, conditioned on earlier slices of time.

A gated PixelCNN (van den Oord et al., 2016, https://arxiv.org/abs/1606.05328) whose masked convolutions run over
``(channel, row, column)`` of one latent slice as one volume, in raster order; what earlier slices tell enters every
layer as a bias per position. This is the floating-point prior that training and attacks differentiate;
:mod:`robustcodec.zoo._integer_prior` is its exact copy that the bytes are coded with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcodec.zoo._rdae_networks import Architecture

KERNEL = 3
FLOOR = 4 / 65536  # added to every level's weight: no symbol is free, none impossible
HISTORY = 2  # earlier slices that ``temporal="prev"`` sees


def causal_mask(*, include_centre: bool) -> Tensor:
    """1 where a tap of the kernel lies before its centre in raster order, ``(3, 3, 3)``."""
    taps = torch.arange(KERNEL**3)
    centre = KERNEL**3 // 2
    return ((taps <= centre) if include_centre else (taps < centre)).float().view(KERNEL, KERNEL, KERNEL)


def gate(a: Tensor) -> Tensor:
    """``tanh(first half) · sigmoid(second half)`` of the channels."""
    content, opening = a.chunk(2, 1)
    return torch.tanh(content) * torch.sigmoid(opening)


class Pointwise(nn.Conv3d):
    """A 1×1×1 convolution as one matrix product, which CPUs differentiate several times as fast."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y = (self.weight.flatten(1) @ x.flatten(2)).view(len(x), -1, *x.shape[2:])
        return y if self.bias is None else y + self.bias.view(-1, 1, 1, 1)


class Layer(nn.Module):
    """Masked convolution plus bias of channel and history, gate, 1×1×1 projection; a residual unless the first."""

    def __init__(self, a: Architecture, first: bool) -> None:
        super().__init__()
        k = a.prior_width
        self.first = first
        self.causal = nn.Conv3d(1 if first else k, 2 * k, KERNEL, padding=1, bias=False)
        self.channel = nn.Parameter(torch.zeros(2 * k, a.channels))
        self.history = Pointwise(k, 2 * k, bias=False) if a.temporal != "none" else None
        self.project = Pointwise(k, k)
        self.register_buffer("mask", causal_mask(include_centre=not first), persistent=False)

    def forward(self, x: Tensor, history: Tensor | None) -> Tensor:
        a = F.conv3d(x, self.causal.weight * self.get_buffer("mask"), padding=1)
        a = a + self.channel[..., None, None]
        if self.history is not None:
            a = a + self.history(history)
        y = self.project(gate(a))
        return y if self.first else x + y  # type: ignore[no-any-return]


class Recurrence(nn.Module):
    """ConvGRU over slices (Ballas et al., 2016, https://arxiv.org/abs/1511.06432): ``s ← s + u (c − s)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv3d(1 + width, 2 * width, KERNEL, padding=1)  # update, reset
        self.candidate = nn.Conv3d(1 + width, width, KERNEL, padding=1)

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """State after a slice: ``values`` ``(B, 1, C, h, w)``, ``state`` ``(B, width, C, h, w)``."""
        update, reset = torch.sigmoid(self.gates(torch.cat((values, state), 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat((values, reset * state), 1)))
        return state + update * (candidate - state)


class Prior(nn.Module):
    """Distribution of every symbol given those before it: earlier slices, then earlier in its slice."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        k = a.prior_width
        self.architecture = a
        self.earlier = nn.Conv3d(HISTORY, 2 * k, KERNEL, padding=1) if a.temporal == "prev" else None
        self.recurrence = Recurrence(k) if a.temporal == "gru" else None
        self.layers: Sequence[Layer] = nn.ModuleList(  # type: ignore[assignment]
            [Layer(a, first=i == 0) for i in range(a.prior_layers)]
        )
        self.hidden = Pointwise(k, k)
        self.out = Pointwise(k, a.levels)
        self.register_buffer("levels", torch.arange(a.levels) - (a.levels - 1) / 2, persistent=False)

    def forward(self, assignment: Tensor) -> Tensor:
        """Log-probabilities (natural) like ``assignment``, which is ``(B, C, S, h, w, levels)``."""
        b, _, s = assignment.shape[:3]
        values = (assignment @ self.get_buffer("levels")).transpose(1, 2)  # (B, S, C, h, w)
        history = self._history(values)
        x = values.flatten(0, 1)[:, None]
        for layer in self.layers:
            x = layer(x, history)
        logits = self.out(torch.relu(self.hidden(torch.relu(x)))).float()
        weights = torch.exp(logits - logits.amax(1, keepdim=True)) + FLOOR
        log_p: Tensor = weights.log() - weights.sum(1, keepdim=True).log()
        return log_p.view(b, s, *log_p.shape[1:]).permute(0, 3, 1, 4, 5, 2)

    def bits(self, assignment: Tensor) -> Tensor:
        """``(B,)`` code length of each item in bits: cross-entropy, differentiable in ``assignment`` twice over."""
        nats: Tensor = -(assignment * self(assignment)).flatten(1).sum(1)
        return nats / math.log(2)

    def _history(self, values: Tensor) -> Tensor | None:
        """What every slice may know of those before it, ``(B·S, width, C, h, w)``."""
        slices = values.shape[1]
        if self.earlier is not None:
            before = F.pad(values, (0, 0, 0, 0, 0, 0, HISTORY, 0))
            stacked = torch.stack([before[:, HISTORY - i : HISTORY - i + slices] for i in range(1, HISTORY + 1)], 2)
            return gate(self.earlier(stacked.flatten(0, 1)))
        if self.recurrence is None:
            return None
        state = values.new_zeros(len(values), self.recurrence.width, *values.shape[2:])
        states = []
        for t in range(slices):
            states.append(state)
            state = self.recurrence(values[:, t, None], state)
        return torch.stack(states, 1).flatten(0, 1)
