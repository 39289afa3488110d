"""One plugin of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_type

import numpy as np
import torch
from torch import Tensor

from robustcodec.interfaces import (
    Attack,
    Card,
    Codec,
    Column,
    DataSet,
    Defense,
    Draws,
    Metric,
    Objective,
    Output,
    Sample,
    Threat,
)
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, data, defenses, metrics, objectives, threats
from robustcodec.rounding import round_latent
from robustcodec.threats import Linf
from robustcodec.zoo.symbols import SymbolCodec, Symbols


@codecs.register("halves")
class Halves(Codec):
    """Every value in seven bits, by hand."""

    def __init__(self, step: int = 2) -> None:
        super().__init__()
        self.step, self.card = step, Card("halves", "halves")

    def forward(self, x: Tensor) -> Output:
        levels = round_latent(x * 255 / self.step)
        return Output(lambda: levels * self.step / 255, lambda: x.new_full((len(x),), 8.0 * x[0].numel()))

    def compress(self, x: Tensor) -> list[bytes]:
        return [bytes(map(int, clip.flatten())) for clip in (x * 255 / self.step).round()]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack([torch.tensor(list(stream)) * self.step / 255 for stream in streams])


@codecs.register("block-halves")
class BlockHalves(SymbolCodec):
    """The same on a base class of the package."""

    stride, channels = 1, 3

    def __init__(self) -> None:
        super().__init__()
        self.card = Card("block-halves", "block-halves")

    def analyse(self, frames: Tensor) -> Tensor:
        return frames * 127

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return y_hat / 127

    def estimate(self, y_hat: Tensor) -> Tensor:
        return y_hat.new_full((len(y_hat),), 8.0 * y_hat[0].numel())

    def encode_symbols(self, symbols: Symbols) -> bytes:
        return symbols.astype(np.uint8).tobytes()

    def decode_symbols(self, data: bytes, count: int) -> Symbols:
        return np.frombuffer(data, np.uint8, count).astype(np.int32)


@attacks.register("shift")
@dataclass(frozen=True)
class Shift(Attack):
    steps: int = 1

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        damage = assert_type(oracle(x), Tensor)
        for _ in range(self.steps):
            damage, slope = oracle.gradient(x)
            x = threat.project(x + threat.steepest(slope, x), x)
        return torch.where(damage.isfinite()[:, None, None, None, None], x, x + rng.uniform(x.shape))


@defenses.register("nothing-at-all")
@dataclass(frozen=True)
class Nothing(Defense):
    def wrap(self, codec: Codec) -> Codec:
        return codec


@objectives.register("darkness")
@dataclass(frozen=True)
class Darkness(Objective):
    columns = (Column("dark", "how dark it is"),)

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return 1 - attacked.x_hat.flatten(1).mean(1)


@metrics.register("largest")
def largest() -> Metric:
    return Metric("largest", "levels", False, lambda a, b: 255 * (a - b).abs().flatten(1).amax(1))


@threats.register("greys")
def greys(count: int = 2) -> Threat:
    return Linf(count / 255)


@data.register("black")
@dataclass(frozen=True)
class Black(DataSet):
    size: int = 64

    def samples(self) -> list[Sample]:
        return [Sample("black", lambda: torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8))]
