"""Evaluation of the integer prior, and range coding with it: all symbols at once, or wave by wave.

With 3×3×3 kernels in raster order, what position ``(c, y, x)`` depends on has a smaller ``4c + 2y + x``, whatever the
number of layers: all positions of one value form a wave and decode together (after Kang et al., "Parallel Neural
Local Lossless Compression", 2022, https://arxiv.org/abs/2201.05213). An encoder knows all symbols, so for it every
position is in one wave; both run the same code on integers, so both get the same probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import constriction  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustcodec.errors import StreamError
from robustcodec.zoo._integer_prior import (
    BEFORE_GATE,
    EXP_SIZE,
    MIN_BITS,
    STREAM_LIMIT,
    SYMBOL,
    TABLE,
    TABLE_HALF,
    TABLE_STEP,
    IntegerLayer,
    IntegerPrior,
    Linear,
)

FAMILY = constriction.stream.model.Categorical(perfect=False)  # quantised with + · / alone: the same everywhere
CHUNK = 1 << 16  # positions evaluated at once, for memory
WORD = 4  # bytes of a range coder's word


@lru_cache(maxsize=16)
def waves(channels: int, height: int, width: int) -> tuple[NDArray[np.int64], ...]:
    """Raster indices of the positions of each wave, in coding order."""
    c, y, x = np.unravel_index(np.arange(channels * height * width), (channels, height, width))
    when = 4 * c + 2 * y + x
    order = np.argsort(when, kind="stable")
    return tuple(np.split(order, np.flatnonzero(np.diff(when[order])) + 1))


class Slices:
    """``batch`` equally sized latent slices of ``size`` ``(channels, height, width)``, moving through time together."""

    def __init__(self, prior: IntegerPrior, batch: int, size: tuple[int, int, int]) -> None:
        a, device = prior.architecture, prior.exp.device
        self.prior, self.batch, self.size = prior, batch, size
        padded = tuple(n + 2 for n in size)
        self._volume = padded[0] * padded[1] * padded[2]
        grid = torch.arange(self._volume, device=device).view(padded)
        self._inside = grid[1:-1, 1:-1, 1:-1].flatten()
        first = self._volume * torch.arange(batch, device=device)
        self._everywhere = (first[:, None] + self._inside).flatten()
        self._neighbours = (grid[:3, :3, :3] - grid[1, 1, 1]).flatten()  # 27 offsets, raster order
        self._tables = {name: prior.get_buffer(name).double() for name in ("tanh", "sigmoid", "exp")}
        self._layers = [self._prepared(layer) for layer in prior.layers]
        self._hidden, self._out = prior.hidden.linear(), prior.out.linear()
        self._maps = {n: m.linear() for n in ("earlier", "gates", "candidate") if (m := getattr(prior, n)) is not None}
        self._symbols = self._empty(1)
        self._streams = [self._empty(a.prior_width) for _ in prior.layers]
        self._before = [self._empty(1) for _ in range(2)]  # the slices of one and two steps ago
        self._state = self._empty(a.prior_width) if prior.gates is not None else None
        self._bias: list[Tensor] = []
        self._begin()

    def put(self, positions: Tensor, symbols: Tensor) -> None:
        """Make known ``symbols`` ``(batch, m)`` at raster ``positions`` ``(m,)``."""
        levels = self.prior.architecture.levels
        self._symbols[self._rows(positions), 0] = (2 * symbols.flatten() - (levels - 1)).double()

    def weights(self, positions: Tensor) -> Tensor:
        """Unnormalised probabilities ``(batch, m, levels)``, positive integers in float64.

        Everything that ``positions`` depend on must be known; layers are kept for those that come later.
        """
        rows = self._rows(positions)
        local = self._local(positions)
        x = self._symbols
        for (layer, causal, project), bias, stream in zip(self._layers, self._bias, self._streams, strict=True):
            neighbours = self._neighbours[: layer.taps]
            for part in _chunks(torch.arange(len(rows), device=rows.device)):
                at = rows[part]
                a = causal(x[at[:, None] + neighbours].flatten(1)) + bias[local[part]]
                y = project(self._gate(a))
                stream[at] = (y if layer.first else x[at] + y).clamp(-STREAM_LIMIT, STREAM_LIMIT)
            x = stream
        hidden = self._hidden(x[rows].clamp_min(0)).clamp(0, STREAM_LIMIT)
        logits = self._out(hidden)
        below = (logits.amax(1, keepdim=True) - logits).clamp_max(EXP_SIZE - 1)
        return self._tables["exp"][below.long()].view(self.batch, len(positions), -1)

    def advance(self) -> None:
        """This slice is complete: go on to the next one."""
        if self._state is not None:
            self._recur(self._state)
        self._before = [self._symbols, self._before[0]]
        self._symbols = self._empty(1)
        self._begin()

    def _begin(self) -> None:
        """Biases of every layer, from channel and history."""
        history = self._history()
        channel_of = torch.arange(len(self._inside), device=self._inside.device) // (self.size[1] * self.size[2])
        self._bias = []
        for layer, _, _ in self._layers:
            bias = layer.channel.double()[channel_of].repeat(self.batch, 1)
            if layer.history is not None and history is not None:
                bias += layer.history.linear()(history)
            self._bias.append(bias)

    def _history(self) -> Tensor | None:
        if "earlier" in self._maps:
            seen = torch.cat(self._before, 1)
            return torch.cat([self._gate(a) for a in self._convolved("earlier", seen)])
        return None if self._state is None else self._state[self._everywhere]

    def _recur(self, state: Tensor) -> None:
        """``s ← s + u (c − s)`` on the grid of the tables."""
        one = 1 / TABLE
        values = self._symbols * (SYMBOL / TABLE)
        update, reset = torch.cat([self._look("sigmoid", a) for a in self._convolved("gates", values, state)]).chunk(
            2, 1
        )
        kept = torch.zeros_like(state)
        kept[self._everywhere] = torch.floor((reset * state[self._everywhere] + one / 2) / one)
        candidate = torch.cat([self._look("tanh", a) for a in self._convolved("candidate", values, kept)])
        step = update * (candidate - state[self._everywhere])
        state[self._everywhere] += torch.floor((step + one / 2) / one)

    def _convolved(self, name: str, *volumes: Tensor) -> Iterator[Tensor]:
        """A full 3×3×3 convolution of padded ``volumes`` at all positions, in chunks."""
        x = torch.cat(volumes, 1)
        for at in _chunks(self._everywhere):
            yield self._maps[name](x[at[:, None] + self._neighbours].flatten(1))

    def _gate(self, a: Tensor) -> Tensor:
        content, opening = a.chunk(2, 1)
        return self._look("tanh", content) * self._look("sigmoid", opening)

    def _look(self, table: str, a: Tensor) -> Tensor:
        index = torch.floor(a * (BEFORE_GATE / TABLE_STEP) + 0.5).clamp(-TABLE_HALF, TABLE_HALF - 1) + TABLE_HALF
        return self._tables[table][index.long()]

    def _prepared(self, layer: IntegerLayer) -> tuple[IntegerLayer, Linear, Linear]:
        return layer, layer.causal.linear(), layer.project.linear()

    def _rows(self, positions: Tensor) -> Tensor:
        """Rows of ``positions`` in the padded volumes of all slices, batch first."""
        first = self._volume * torch.arange(self.batch, device=positions.device)
        return (first[:, None] + self._inside[positions]).flatten()

    def _local(self, positions: Tensor) -> Tensor:
        """Rows of ``positions`` among the unpadded positions of all slices."""
        first = len(self._inside) * torch.arange(self.batch, device=positions.device)
        return (first[:, None] + positions).flatten()

    def _empty(self, width: int) -> Tensor:
        return torch.zeros(self.batch * self._volume, width, dtype=torch.float64, device=self.prior.exp.device)


def _chunks(rows: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def encode(prior: IntegerPrior, symbols: Tensor) -> tuple[bytes, float]:
    """One GoP's symbols ``(C, S, h, w)`` as a range-coded string, and its cross-entropy under the prior in bits."""
    channels, slices, height, width = symbols.shape
    order = torch.from_numpy(np.concatenate(waves(channels, height, width))).to(symbols.device)
    grid = Slices(prior, 1, (channels, height, width))
    everywhere = torch.arange(len(order), device=symbols.device)
    coder = constriction.stream.queue.RangeEncoder()
    bits = 0.0
    for t in range(slices):
        flat = symbols[:, t].flatten()
        grid.put(everywhere, flat[None])
        weights = grid.weights(everywhere)[0]
        coder.encode(_int32(flat[order]), FAMILY, _rows64(weights[order]))
        chosen = weights.gather(1, flat[:, None])[:, 0]
        bits += float((weights.sum(1).log2() - chosen.log2()).sum())
        if t + 1 < slices:
            grid.advance()
    return coder.get_compressed().astype("<u4").tobytes(), bits


def decode(prior: IntegerPrior, strings: Sequence[bytes], size: tuple[int, int, int, int]) -> Tensor:
    """Symbols ``(len(strings), C, S, h, w)`` of equally long GoPs, decoded side by side.

    Raises :class:`StreamError` if a string cannot hold that many symbols or cannot have been written by
    :func:`encode`.
    """
    channels, slices, height, width = size
    count = channels * slices * height * width
    for string in strings:
        if len(string) % WORD or count * MIN_BITS > 8 * (len(string) + WORD):
            raise StreamError(f"{len(string)} bytes cannot hold the {count} symbols that the header asks for")
    coders = [constriction.stream.queue.RangeDecoder(np.frombuffer(s, "<u4").astype(np.uint32)) for s in strings]
    device = prior.exp.device
    grid = Slices(prior, len(strings), (channels, height, width))
    steps = [torch.from_numpy(wave).to(device) for wave in waves(channels, height, width)]
    found = torch.zeros(len(strings), slices, channels * height * width, dtype=torch.int64, device=device)
    for t in range(slices):
        for positions in steps:
            weights = grid.weights(positions)
            symbols = torch.stack([_decoded(c, w).to(device) for c, w in zip(coders, weights, strict=True)])
            grid.put(positions, symbols)
            found[:, t, positions] = symbols
        if t + 1 < slices:
            grid.advance()
    if not all(coder.maybe_exhausted() for coder in coders):
        raise StreamError("bytes are left over after the last symbol: the stream is damaged")
    return found.view(len(strings), slices, channels, height, width).transpose(1, 2)


def _decoded(coder: constriction.stream.queue.RangeDecoder, weights: Tensor) -> Tensor:
    try:
        return torch.from_numpy(coder.decode(FAMILY, _rows64(weights))).long()
    except AssertionError:  # what constriction raises for bytes that no encoder writes
        raise StreamError("the entropy-coded bytes are damaged") from None


def _int32(symbols: Tensor) -> NDArray[np.int32]:
    return symbols.cpu().numpy().astype(np.int32)


def _rows64(weights: Tensor) -> NDArray[np.float64]:
    """C-ordered float64: constriction silently misreads any other layout."""
    return np.ascontiguousarray(weights.cpu().numpy(), dtype=np.float64)
