"""One plugin of each kind, as a third party would write them."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from robustcodec.errors import StreamError
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
from robustcodec.registry import attacks, codecs, data, defenses, metrics, objectives
from robustcodec.rounding import round_latent


@codecs.register("levels")
class Levels(Codec):
    """Rounds every value to ``levels`` steps and packs them with zlib."""

    def __init__(self, *, levels: int = 16) -> None:
        super().__init__()
        self.levels = levels
        self.card = Card(f"levels:levels={levels}", "levels")

    def forward(self, x: Tensor) -> Output:
        def bits() -> Tensor:
            return torch.tensor([8.0 * len(s) for s in self.compress(x.detach())])

        return Output(lambda: (round_latent(x * self.levels) / self.levels).clamp(0, 1), bits)

    def compress(self, x: Tensor) -> list[bytes]:
        symbols = (x * self.levels).round().to(torch.uint8).cpu().numpy()
        return [struct.pack("<4H", *s.shape) + zlib.compress(s.tobytes(), 9) for s in symbols]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        try:
            arrays = [
                np.frombuffer(zlib.decompress(s[8:]), np.uint8).reshape(struct.unpack("<4H", s[:8])) for s in streams
            ]
        except (zlib.error, struct.error, ValueError) as error:
            raise StreamError(f"damaged stream: {error}") from None
        return torch.from_numpy(np.stack(arrays)).float() / self.levels


@attacks.register("brighten")
@dataclass(frozen=True)
class Brighten(Attack):
    """Moves every value up as far as the threat allows."""

    access = "black"

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x + threat.steepest(torch.ones_like(x), x)


@defenses.register("halve")
@dataclass(frozen=True)
class Halve(Defense):
    """Wraps nothing: names the codec only."""

    def wrap(self, codec: Codec) -> Codec:
        codec.card = replace(codec.card, name=f"{codec.card.name}+halve")
        return codec


@objectives.register("darkness")
@dataclass(frozen=True)
class Darkness(Objective):
    """How dark the attacked reconstruction is; scores the share of it that is black."""

    columns: ClassVar[tuple[Column, ...]] = (
        Column("black_share", "share of black values in the attacked reconstruction", "share of black", digits=1),
    )

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return -attacked.x_hat.flatten(1).mean(1)

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        return {"black_share": math.nan if x_adv_hat is None else float((x_adv_hat == 0).double().mean())}


@metrics.register("mean_difference")
def mean_difference() -> Metric:
    """Mean absolute difference."""
    return Metric("mean_difference", "", False, lambda a, b: (a - b).abs().flatten(1).mean(1), "mean |Δ|", 3)


@data.register("ramps")
@dataclass(frozen=True)
class Ramps(DataSet):
    """Grey ramps of ``size`` pixels."""

    size: int = 24

    def samples(self) -> list[Sample]:
        def ramp() -> Tensor:
            line = torch.linspace(0, 255, self.size).to(torch.uint8)
            return line.expand(1, 3, self.size, self.size).contiguous()

        return [Sample("ramp", ramp)]
