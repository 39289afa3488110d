"""Gaussian noise before coding, and randomised smoothing (Cohen, Rosenfeld & Kolter, ICML 2019,
https://arxiv.org/abs/1902.02918), which is the mean of a codec over such noise.

A smoothed function is the mean of its values at noisy inputs. For a codec the mean has to be taken over what the
decoder *shows*, because those values are bounded: each value of ``E[C(x + n)]`` changes by at most
``1 / (√(2π) sigma)`` times the L2 norm of a perturbation, whatever the codec does (Salman et al., 2019,
https://arxiv.org/abs/1906.04584, Lemma 1 for values in [0, 1]). So ``smooth`` sends every noisy coding, the decoder
averages them, and all the bytes count. An encoder that averages by itself and sends one stream would be cheaper, but
what it sends goes once more through the codec, which is not smoothed. The bound helps only for single values and few
pixels. It says nothing against a PSNR budget of a whole picture; the measured gain does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from robustcodec import stream as container
from robustcodec.defenses.preprocessing import PreprocessedCodec, Preprocessor
from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec, Defense, Output, StreamPart
from robustcodec.registry import defenses


@defenses.register("noise")
@dataclass(frozen=True)
class Noise(Preprocessor):
    """Adds Gaussian noise to the clip before coding.

    ``sigma``: standard deviation of the noise, on the [0, 1] scale (positive). Every call draws new noise from torch's
    global random state, and the noisy values are clamped to [0, 1].
    """

    random = True

    sigma: float = 0.01

    def __post_init__(self) -> None:
        _positive(self.sigma)

    def preprocess(self, x: Tensor) -> Tensor:
        return noisy(x, self.sigma)


@defenses.register("smooth")
@dataclass(frozen=True)
class Smooth(Defense):
    """Codes each clip several times with different Gaussian noise, and shows the mean of all decoded clips.

    ``draws``: how many times each clip is coded (at least 1). ``sigma``: standard deviation of the noise, on the [0, 1]
    scale. The stream holds ``draws`` streams and a header. ``draws=1`` is ``noise`` in a container.
    """

    sigma: float = 0.01
    draws: int = 4

    def __post_init__(self) -> None:
        _positive(self.sigma)
        if self.draws < 1:
            raise ValueError(f"draws={self.draws}; expected at least 1")

    def wrap(self, codec: Codec) -> Codec:
        return SmoothCodec(codec, self.sigma, self.draws)


class SmoothCodec(PreprocessedCodec):
    """Several noisy codings in a :mod:`robustcodec.stream` container of one part each, of which the mean is shown."""

    def __init__(self, inner: Codec, sigma: float, draws: int) -> None:
        super().__init__(inner, "smooth", partial(noisy, sigma=sigma), random=True)
        self.draws = draws

    def forward(self, x: Tensor) -> Output:
        once = super().forward
        outputs = [once(x) for _ in range(self.draws)]

        def x_hat() -> Tensor:
            return torch.stack([out.x_hat for out in outputs]).mean(0)

        def bits() -> Tensor:
            each = torch.stack([out.bits for out in outputs], 1)
            shape = x.shape[1], x.shape[-2], x.shape[-1]
            return each.sum(1) + container.overhead_of(shape, each.detach().div(8).ceil().int())

        return Output(x_hat, bits, lambda: [part for out in outputs for part in out.latents])

    def compress(self, x: Tensor) -> list[bytes]:
        frames, _, height, width = x.shape[1:]
        once = super().compress
        codings = zip(*(once(x) for _ in range(self.draws)), strict=True)
        packets = [container.Packet(frames, height, width, parts) for parts in codings]
        return [container.pack(packet, self.container_id) for packet in packets]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips = [self._decompress_clip(s) for s in streams]
        if len({c.shape for c in clips}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        return torch.stack(clips)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        parts = self._packet(stream).parts
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, parts))))
        return [header, *(piece for part in parts for piece in self.inner.anatomy(part))]

    @cached_property
    def container_id(self) -> bytes:
        """What tells the containers of so many draws from others."""
        return hashlib.sha256(f"smooth, {self.draws} draws".encode()).digest()[:4]

    def _packet(self, data: bytes) -> container.Packet:
        return container.unpack(data, self.container_id, self.card.name, lambda frames: self.draws)

    def _decompress_clip(self, data: bytes) -> Tensor:
        packet = self._packet(data)
        clips = self.inner.decompress(packet.parts)
        shape = self.draws, packet.frames, 3, packet.height, packet.width
        if clips.shape != shape:
            raise StreamError(f"codings of shape {tuple(clips.shape)}; the header of the stream announces {shape}")
        return clips.mean(0)


def noisy(x: Tensor, sigma: float) -> Tensor:
    """``x`` with Gaussian noise from torch's global state on the CPU, so that it does not depend on the device."""
    return (x + sigma * torch.randn(x.shape).to(x.device)).clamp(0, 1)


def _positive(sigma: float) -> None:
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma}; expected a positive standard deviation, such as 0.01 or 4/255")
