"""Latents clamped, channel by channel, to the range that clean images give them (Chen & Ma, TCSVT 2023,
https://arxiv.org/abs/2112.08691).

An attack on the rate, or on a few latents, drives them to values that no image has. Only the encoder clamps: the
streams are streams of the codec, which decodes them without knowing about the clamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcodec.defenses.wrapping import Wrapping
from robustcodec.errors import BadData, BadParameter
from robustcodec.interfaces import Codec, Defense, Output, Sample
from robustcodec.registry import data, defenses
from robustcodec.rounding import rounding

# what codecs call the networks that give latents: CompressAI's image codecs, its video codec, RDAE
ANALYSES = ("g_a", "img_encoder", "motion_encoder", "res_encoder", "encoder")


@defenses.register("latent-clamp")
@dataclass(frozen=True)
class LatentClamp(Defense):
    """Clamps each channel of the latents to the range that it has on clean images.

    ``data``: a data set of clean images or clips, with ``;`` in place of the commas between its parameters. ``margin``:
    the range is widened at both ends by this share of its width (at least 0). Clamped are the latents before rounding,
    of codecs with a network that is called ``g_a`` or ``encoder``, or is named as in CompressAI's video codec.

    Attacks get the exact gradient, which is zero for latents outside the range. Therefore attack it through the bare
    codec too (access ``bpda:CODEC``).
    """

    data: str = "photos"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin={self.margin}; expected a fraction of the range, at least 0")

    def made_on(self) -> list[Sample]:
        """The clips that ranges are measured on."""
        samples: list[Sample] = data.build(self.data.replace(";", ",")).samples()
        return samples

    def wrap(self, codec: Codec) -> Codec:
        """Codes all of ``data`` once; raises :class:`BadParameter` for a codec without such a network, and
        :class:`BadData` if the clips do not reach all of them.
        """
        return LatentClampCodec(codec, self)


class LatentClampCodec(Wrapping):
    """``inner`` while it encodes, with the output of its analysis networks clamped to measured ranges."""

    def __init__(self, inner: Codec, defense: LatentClamp) -> None:
        super().__init__(inner, "latent-clamp")
        self.defense = defense
        self._analyses = [(n, m) for n, m in inner.named_modules() if n.rpartition(".")[2] in ANALYSES]
        if not self._analyses:
            raise BadParameter(
                f"latent-clamp needs a codec with a network called {', '.join(ANALYSES)}; {inner.card.name} has none"
            )
        self._ranges = [Range() for _ in self._analyses]
        self.ranges = nn.ModuleList(self._ranges)  # to follow the codec to its device
        self._measure()

    def forward(self, x: Tensor) -> Output:
        with self._watched_by(Range.clamped):  # latents are made here, whatever is asked for later
            out: Output = self.inner(x)
        return out

    def compress(self, x: Tensor) -> list[bytes]:
        with self._watched_by(Range.clamped):
            return self.inner.compress(x)

    def refresh(self) -> None:
        """Ranges belong to the weights."""
        self.inner.refresh()
        self._measure()

    def _measure(self) -> None:
        device = next(self.inner.parameters()).device
        training = self.inner.training
        self.inner.eval()
        for seen in self._ranges:
            seen.clear(device)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), rounding("straight-through"):
            torch.manual_seed(0)  # of a codec that draws
            for sample in self.defense.made_on():
                with self._watched_by(Range.widen):
                    self.inner(sample.load().to(device)[None] / 255)
        self.inner.train(training)
        for seen, (name, _) in zip(self._ranges, self._analyses, strict=True):
            if not seen.low.numel():
                raise BadData(
                    f"latent-clamp: no clip of data={self.defense.data} reaches {name} of {self.inner.card.name}; "
                    "choose clips of several frames, such as data=clips"
                )
            seen.stretch(self.defense.margin)

    @contextmanager
    def _watched_by(self, what: Callable[[Range, Tensor], Tensor]) -> Iterator[None]:
        """Inside, analysis networks give ``what(range, latent)`` in the place of their latents."""
        handles = [
            network.register_forward_hook(lambda module, args, y, seen=seen: what(seen, y))
            for seen, (_, network) in zip(self._ranges, self._analyses, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Range(nn.Module):
    """The least and the greatest value of every channel of a latent ``(B, C, …)``."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.empty(0), persistent=False)
        self.register_buffer("high", torch.empty(0), persistent=False)

    def clear(self, device: torch.device) -> None:
        """Forget all that was seen."""
        self.low = self.high = torch.empty(0, device=device)

    def widen(self, y: Tensor) -> Tensor:
        """``y``, which the range then holds."""
        values = y.float().transpose(0, 1).flatten(1)
        low, high = values.amin(1), values.amax(1)
        self.low = torch.minimum(self.low, low) if self.low.numel() else low
        self.high = torch.maximum(self.high, high) if self.high.numel() else high
        return y

    def stretch(self, margin: float) -> None:
        """Move both ends outwards by ``margin`` times the distance between them."""
        extra = margin * (self.high - self.low)
        self.low, self.high = self.low - extra, self.high + extra

    def clamped(self, y: Tensor) -> Tensor:
        """``y`` inside the range, in float32."""
        shape = (1, -1, *(1 for _ in y.shape[2:]))
        return y.float().clamp(self.low.view(shape), self.high.view(shape))
