"""The rate–distortion autoencoder for video, and the same network trained with adversarial distortion.

Habibian et al., ICCV 2019 (https://arxiv.org/abs/1908.05717); Veerabadran et al., "Adversarial Distortion for Learned
Video Compression", CVPRW 2020 (https://arxiv.org/abs/2004.09508). A 3-D autoencoder with a learned scalar codebook
codes closed groups of pictures (GoPs), each by itself. The symbols of a GoP are one range-coded string under the
integer prior. The codec takes any clip: frames are padded by replication to the strides, and the last GoP may be
shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robustcodec import stream
from robustcodec import weights as checkpoints
from robustcodec.errors import BadParameter, WeightsError
from robustcodec.interfaces import Card, Output
from robustcodec.probing import LATENTS, probe
from robustcodec.registry import codecs
from robustcodec.rounding import Surrogate
from robustcodec.weights.described import described
from robustcodec.zoo import _wavefront
from robustcodec.zoo._causal_prior import Prior
from robustcodec.zoo._integer_prior import IntegerPrior
from robustcodec.zoo._rdae_networks import (
    CONFIGS,
    SPATIAL_STRIDE,
    Architecture,
    Codebook,
    Temporal,
    decoder,
    encoder,
    stored,
)
from robustcodec.zoo.container import ContainerCodec, Part

RANGE_CODER_BITS = 32.0  # what a string costs beyond its information: 16 to 48, for it is written in words of 32
SPREAD = 4.0  # the networks see pixels centred, with a variance of about one
SIDE_BY_SIDE = 8  # GoPs decoded together
MAX_LATENT = 1 << 22  # symbols of GoPs decoded together: more than one GoP only below about 1 GiB of memory


@codecs.register("rdae")
class Rdae(ContainerCodec):
    """Video codec of a 3-D autoencoder with a learned scalar codebook, trained for rate and pixel distortion."""

    family: ClassVar[str] = "rdae"
    paper: ClassVar[str] = "https://arxiv.org/abs/1908.05717"
    compatible: ClassVar[tuple[str, ...]] = ("rdae",)  # families whose weights load
    training_surrogate: ClassVar[Surrogate] = "straight-through"
    encoder_only = ("encoder.",)
    stride = SPATIAL_STRIDE
    coder_bits = RANGE_CODER_BITS
    synthesis = ("decoder.",)

    def __init__(
        self,
        *,
        tag: str | None = None,
        weights: str | None = None,
        config: Literal["tiny", "mid", "paper"] = "tiny",
        temporal: Temporal | None = None,
        gop: int | None = None,
        seed: int = 0,
    ) -> None:
        """Weights come from a ``tag`` (weights that ship), from ``weights`` (the path of a checkpoint), or are drawn
        with ``weights=random``.

        Drawn weights follow ``seed``, in the sizes of ``config``: ``tiny``, ``mid`` or ``paper``. ``temporal``: what
        the prior of a drawn network knows of earlier latent slices (``none``; ``prev``, the two slices before; ``gru``,
        a recurrent memory of all). ``gop``: frames per group of pictures, for trained weights too; by default the
        number that the weights were trained with.

        Raises :class:`WeightsError` if weights are missing, damaged or of another family.
        """
        super().__init__()
        path = self._path(tag, weights)
        if path is None:
            facts: dict[str, Any] = {"name": f"{self.family}.random-{seed}"}
            architecture = replace(CONFIGS[config], temporal=temporal or CONFIGS[config].temporal)
        else:
            state, facts = checkpoints.load(path)
            if facts["family"] not in self.compatible:
                raise WeightsError(f"{path} holds weights of {facts['family']}, not of {self.family}")
            if temporal is not None:
                raise BadParameter(
                    f"temporal={temporal} goes with weights=random; {path.name} says what its prior sees"
                )
            architecture = described(path, facts, Architecture, stored(state))
        architecture = replace(architecture, gop=gop) if gop else architecture
        texts = {k: facts[k] for k in ("licence", "sha256", "training", "measured") if k in facts}
        self.architecture = architecture
        self.card = Card(
            facts["name"],
            self.family,
            kind="video",
            paper=self.paper,
            weights=path.name if path else "random",
            architecture=asdict(architecture),
            **texts,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder, self.decoder = encoder(architecture), decoder(architecture)
            self.codebook, self.prior = Codebook(architecture.levels), Prior(architecture)
        self.integer_prior = IntegerPrior(architecture)
        self.symbols_per_pixel = architecture.channels / (prod(architecture.time_strides) * SPATIAL_STRIDE**2)
        if path is None:
            self.refresh()
        else:
            self._load(state, path)
        for network in (self.encoder, self.decoder):
            network.to(memory_format=torch.channels_last_3d)
        self.eval()

    @classmethod
    def _path(cls, tag: str | None, weights: str | None) -> Path | None:
        if tag is not None:
            return checkpoints.find(cls.family, tag)
        if weights is None:
            tags = ", ".join(f"{cls.family}.{t}" for t in checkpoints.bundled_tags(cls.family)) or "none"
            raise BadParameter(
                f"codec {cls.family!r} needs weights: a bundled tag ({tags}), {cls.family}:weights=FILE, or "
                f"{cls.family}:config=tiny,weights=random"
            )
        return None if weights == "random" else Path(weights)

    @classmethod
    def fingerprint(cls, tag: str | None = None, weights: str | None = None, **params: Any) -> str:
        path = cls._path(tag, weights)
        return "random" if path is None else str(checkpoints.read_card(path)["sha256"])

    def forward(self, x: Tensor) -> Output:
        n, t = x.shape[:2]
        latents = [self._analyse(chunk) for chunk in self._gops(x)]
        gops = [probe(LATENTS, self.codebook(z)) for z in latents]

        @cache
        def x_hat() -> Tensor:
            levels = [probe(LATENTS, self.codebook.values(a), z) for a, z in zip(gops, latents, strict=True)]
            clips = [self._reconstruct(values, x.shape[-2:]) for values in levels]
            clip = torch.cat([c.reshape(n, -1, *c.shape[2:]) for c in clips], 1)[:, :t]
            return clip if self.training else clip.clamp(0, 1)

        def bits() -> Tensor:
            parts = torch.cat([self.prior.bits(a).view(n, -1) for a in gops], 1)
            return parts.sum(1) if self.training else parts.sum(1) + self.overhead(parts, x)

        def coded() -> list[Tensor]:
            return [self.codebook.values(a).reshape(n, -1, *a.shape[1:-1]) for a in gops]

        return Output(x_hat, bits, coded)

    def layout(self, frames: int) -> Iterator[Part]:
        gop = self.architecture.gop
        return (Part("gop", first, min(gop, frames - first)) for first in range(0, frames, gop))

    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        gops = self.symbols(clip[None])
        return [_wavefront.encode(self.integer_prior, gop)[0] for gop in gops], _checksum(gops)

    def decode_clip(self, packet: stream.Packet) -> tuple[Tensor, int]:
        return next(self.decode_clips([packet]))

    def decode_clips(self, packets: Sequence[stream.Packet]) -> Iterator[tuple[Tensor, int]]:
        for packet, gops in zip(packets, self._symbols(packets), strict=True):
            yield self._synthesise(packet, gops), _checksum(gops)

    def symbols(self, x: Tensor) -> list[Tensor]:
        """Symbols of each GoP of a clip ``(1, T, 3, H, W)``: int64 ``(C, S, h, w)``."""
        with torch.no_grad():
            return [self.codebook.symbols(self._analyse(gop[None]))[0] for chunk in self._gops(x) for gop in chunk]

    def refresh(self) -> None:
        super().refresh()
        self.integer_prior.export(self.prior)

    def decoding(self) -> tuple[str, Iterable[tuple[str, Tensor]]]:
        return repr(self.architecture), super().decoding()[1]

    def _load(self, state: dict[str, Tensor], path: Path) -> None:
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"{path} does not fit the architecture that its card gives: {reason}") from None

    def _gops(self, x: Tensor) -> list[Tensor]:
        """Full GoPs of all clips ``(N·n, gop, 3, H, W)``, then the shorter last ones; all padded to the strides."""
        gop, stride = self.architecture.gop, prod(self.architecture.time_strides)
        whole = x.shape[1] // gop * gop
        chunks = [x[:, :whole].reshape(-1, gop, *x.shape[2:])] if whole else []
        if rest := x.shape[1] - whole:
            last = x[:, -1:].expand(-1, -rest % stride, -1, -1, -1)
            chunks.append(torch.cat((x[:, whole:], last), 1))
        padded = [self.pad(chunk.flatten(0, 1)) for chunk in chunks]
        return [p.view(*c.shape[:2], *p.shape[1:]) for p, c in zip(padded, chunks, strict=True)]

    def _analyse(self, gops: Tensor) -> Tensor:
        """The latent of GoPs, before its assignment to the codebook."""
        return self.encoder(_features(gops))  # type: ignore[no-any-return]

    def _reconstruct(self, latent: Tensor, size: Sequence[int]) -> Tensor:
        """Clips ``(B, frames, 3, H, W)`` of ``size`` from codebook values."""
        clips = self.decoder(latent.contiguous(memory_format=torch.channels_last_3d)).float() / SPREAD + 0.5
        return clips.transpose(1, 2)[..., : size[0], : size[1]]  # type: ignore[no-any-return]

    def _symbols(self, packets: Sequence[stream.Packet]) -> list[list[Tensor]]:
        """Symbols of every GoP of equally sized clips, decoded side by side."""
        a, packet = self.architecture, packets[0]
        height, width = (side // SPATIAL_STRIDE for side in self.padded(packet.height, packet.width))
        layout = list(self.layout(packet.frames))
        found: list[list[Tensor]] = [[] for _ in packets]
        for frames in sorted({a.gop, packet.frames % a.gop or a.gop}, reverse=True):
            size = a.channels, -(-frames // prod(a.time_strides)), height, width
            mine = [(i, j) for i in range(len(packets)) for j, part in enumerate(layout) if part.frames == frames]
            together = max(1, min(SIDE_BY_SIDE, MAX_LATENT // prod(size)))
            for start in range(0, len(mine), together):
                group = mine[start : start + together]
                strings = [packets[i].parts[j] for i, j in group]
                for (i, _), symbols in zip(group, _wavefront.decode(self.integer_prior, strings, size), strict=True):
                    found[i].append(symbols)
        return found

    def _synthesise(self, packet: stream.Packet, gops: list[Tensor]) -> Tensor:
        """Its frames ``(T, 3, H, W)``, the last one perhaps repeated."""
        clips = [
            self._reconstruct(self.codebook.centres[symbols][None], (packet.height, packet.width)) for symbols in gops
        ]
        return torch.cat(clips, 1)[0]


@codecs.register("rdae-gan")
class RdaeGan(Rdae):
    """The video codec ``rdae``, finetuned with pixel, feature and adversarial distortion (Veerabadran et al., 2020, Eq.
    5).
    """

    family = "rdae-gan"
    paper = "https://arxiv.org/abs/2004.09508"
    compatible = ("rdae-gan", "rdae")


def _features(gops: Tensor) -> Tensor:
    """Clips as the encoder takes them: time after channels, centred."""
    return ((gops.transpose(1, 2) - 0.5) * SPREAD).contiguous(memory_format=torch.channels_last_3d)


def _checksum(gops: Sequence[Tensor]) -> int:
    crc = 0
    for symbols in gops:
        crc = stream.symbol_crc(symbols.to(torch.uint8).cpu().numpy().tobytes(), crc)
    return crc
