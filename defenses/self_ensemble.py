"""Geometric self-ensemble (Chen & Ma, TCSVT 2023, https://arxiv.org/abs/2112.08691).

The encoder codes all eight flips and rotations of a clip and sends the one that its codec reconstructs best;
the decoder turns it back. The published code did not count the view's 3 bits; here it is a byte of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec, Defense, Output, StreamPart
from robustcodec.registry import defenses
from robustcodec.rounding import rounding

CODE = 36  # a view is written as a multiple of this: a byte with one wrong bit is never another view
TIE = 1e-5  # relative; symmetric clips give equal errors up to float noise, and then the first view counts


@defenses.register("self-ensemble")
@dataclass(frozen=True)
class SelfEnsemble(Defense):
    """``views``: 1, 2 (identity, mirrored), 4 (and upside down) or 8 (and transposed)."""

    views: int = 8

    def __post_init__(self) -> None:
        if self.views not in (1, 2, 4, 8):
            raise ValueError(f"views={self.views}; expected 1, 2, 4 or 8")

    def wrap(self, codec: Codec) -> Codec:
        return SelfEnsembleCodec(codec, self.views)


class SelfEnsembleCodec(Codec):
    """Codes each sample in its best view; one byte in front of the inner stream names it."""

    def __init__(self, inner: Codec, views: int) -> None:
        super().__init__()
        self.inner, self.views = inner, views
        self.card = replace(inner.card, name=f"{inner.card.name}+self-ensemble")
        self.differentiable = inner.differentiable
        self.exact_forward = inner.exact_forward
        self.randomised = inner.randomised
        self.train(inner.training)

    def forward(self, x: Tensor) -> Output:
        """Gradients go through the chosen view only; the choice itself has none."""
        chosen = self.choose(x, self._forward)
        rows = [(chosen == k).nonzero().flatten() for k in range(self.views)]
        outputs = [(k, self.inner(view(x[r], k))) for k, r in enumerate(rows) if len(r)]
        order = torch.cat(rows).argsort()

        def x_hat() -> Tensor:
            return torch.cat([unview(out.x_hat, k) for k, out in outputs])[order]

        def bits() -> Tensor:
            return torch.cat([out.bits for _, out in outputs])[order] + 8

        return Output(x_hat, bits)

    def compress(self, x: Tensor) -> list[bytes]:
        chosen = self.choose(x, self._forward if self.exact_forward else self._decode).tolist()
        return [bytes([CODE * k]) + self.inner.compress(view(x[i : i + 1], k))[0] for i, k in enumerate(chosen)]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips = [self._decompress_clip(s) for s in streams]
        if len({c.shape for c in clips}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        return torch.cat(clips)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        return [StreamPart("view", 0, 0, 8), *self.inner.anatomy(stream[1:])]

    def choose(self, x: Tensor, reconstruct: Callable[[Tensor], Tensor]) -> Tensor:
        """``(N,)`` index of the view with the smallest MSE between itself and its reconstruction."""
        errors = []
        # the encoder's own choice, whatever precision and rounding an attacker assumes around this call
        with torch.no_grad(), rounding("straight-through"), torch.autocast(x.device.type, enabled=False):
            for k in range(self.views):
                v = view(x, k)
                errors.append((reconstruct(v) - v).square().flatten(1).mean(1))
        error = torch.stack(errors, dim=1)
        return (error <= (1 + TIE) * error.amin(1, keepdim=True)).int().argmax(1)

    def aux_loss(self) -> Tensor | None:
        return self.inner.aux_loss()

    def aux_parameters(self) -> list[nn.Parameter]:
        return self.inner.aux_parameters()

    def state(self) -> dict[str, Tensor]:
        return self.inner.state()

    def refresh(self) -> None:
        self.inner.refresh()

    def _forward(self, v: Tensor) -> Tensor:
        out: Output = self.inner(v)
        return out.x_hat

    def _decode(self, v: Tensor) -> Tensor:
        return self.inner.decompress(self.inner.compress(v))

    def _decompress_clip(self, data: bytes) -> Tensor:
        if not data:
            raise StreamError("an empty stream; expected a view and the stream of a codec")
        k, rest = divmod(data[0], CODE)
        if rest or k >= self.views:
            raise StreamError(
                f"the stream begins with {data[0]}, which names no view; expected a multiple of {CODE} "
                f"up to {CODE * (self.views - 1)}: it is damaged, or not of {self.card.name}"
            )
        return unview(self.inner.decompress([data[1:]]), k)


def view(x: Tensor, k: int) -> Tensor:
    """View ``k`` of 8: bit 0 mirrors, bit 1 turns upside down, bit 2 then transposes all frames."""
    flipped = _flip(x, k)
    return flipped.transpose(-1, -2) if k & 4 else flipped


def unview(y: Tensor, k: int) -> Tensor:
    """The clip of which ``y`` is view ``k``."""
    return _flip(y.transpose(-1, -2) if k & 4 else y, k)


def _flip(x: Tensor, k: int) -> Tensor:
    dims = [dim for bit, dim in ((1, -1), (2, -2)) if k & bit]
    return x.flip(dims) if dims else x
