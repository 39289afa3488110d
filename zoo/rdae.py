"""The rate–distortion autoencoder for video, and the same trained with adversarial distortion.

Habibian et al., ICCV 2019 (https://arxiv.org/abs/1908.05717); Veerabadran et al., "Adversarial Distortion for
Learned Video Compression", CVPRW 2020 (https://arxiv.org/abs/2004.09508). Closed groups of pictures (GoPs) are coded
independently by a 3-D autoencoder with a learned scalar codebook; the symbols of a GoP are one range-coded string
under the integer prior. Any clip: frames are padded by replication to the strides, the last GoP may be shorter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import stream
from robustcodec import weights as checkpoints
from robustcodec.errors import BadParameter, StreamError, WeightsError
from robustcodec.interfaces import Card, Codec, Output, StreamPart
from robustcodec.registry import codecs
from robustcodec.rounding import Surrogate
from robustcodec.zoo import _wavefront
from robustcodec.zoo._causal_prior import Prior
from robustcodec.zoo._integer_prior import IntegerPrior
from robustcodec.zoo._rdae_networks import CONFIGS, SPATIAL_STRIDE, Architecture, Codebook, Temporal, decoder, encoder

RANGE_CODER_BITS = 32.0  # what a string costs beyond its information: 16 to 48, for it is written in words of 32
SPREAD = 4.0  # the networks see pixels centred, with a variance of about one
SIDE_BY_SIDE = 8  # GoPs decoded together
MAX_LATENT = 1 << 22  # symbols of GoPs decoded together: more than one GoP only below about 1 GiB of memory


@codecs.register("rdae")
class Rdae(Codec):
    """Trained for rate and pixel distortion."""

    family: ClassVar[str] = "rdae"
    paper: ClassVar[str] = "https://arxiv.org/abs/1908.05717"
    compatible: ClassVar[tuple[str, ...]] = ("rdae",)  # families whose weights load
    training_surrogate: ClassVar[Surrogate] = "straight-through"
    encoder_only = ("encoder.",)
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
        """Weights by ``tag`` (bundled), by path, or ``weights="random"`` with ``config``, ``temporal`` and ``seed``.

        ``temporal``: what the prior knows of earlier latent slices. ``gop``: frames per group of pictures, also for
        trained weights. Raises :class:`WeightsError` if weights are missing, damaged or of another family.
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
            strides = tuple(facts["architecture"]["time_strides"])
            architecture = Architecture(**{**facts["architecture"], "time_strides": strides})
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
        self._model_id: bytes | None = None
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
        gops = [self._assign(chunk) for chunk in self._gops(x)]

        @cache
        def x_hat() -> Tensor:
            clips = [self._reconstruct(self.codebook.values(a), x.shape[-2:]) for a in gops]
            clip = torch.cat([c.reshape(n, -1, *c.shape[2:]) for c in clips], 1)[:, :t]
            return clip if self.training else clip.clamp(0, 1)

        def bits() -> Tensor:
            parts = torch.cat([self.prior.bits(a).view(n, -1) for a in gops], 1)
            return parts.sum(1) if self.training else parts.sum(1) + self._overhead(parts, x)

        def coded() -> list[Tensor]:
            return [self.codebook.values(a).reshape(n, -1, *a.shape[1:-1]) for a in gops]

        return Output(x_hat, bits, coded)

    def compress(self, x: Tensor) -> list[bytes]:
        with torch.no_grad():
            return [self._compress_clip(clip[None]) for clip in x]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        packets = [self._packet(s) for s in streams]
        if len({(p.frames, p.height, p.width) for p in packets}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        with torch.no_grad():
            return torch.cat([self._synthesise(p, s) for p, s in zip(packets, self._symbols(packets), strict=True)])

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        packet = self._packet(stream)
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, packet.parts))))
        return [header] + [
            StreamPart("gop", i * self.architecture.gop, self._frames(packet, i), 8 * len(part))
            for i, part in enumerate(packet.parts)
        ]

    def symbols(self, x: Tensor) -> list[Tensor]:
        """Symbols of each GoP of a clip ``(1, T, 3, H, W)``: int64 ``(C, S, h, w)``."""
        with torch.no_grad():
            return [
                self.codebook.symbols(self.encoder(_features(gop[None])))[0] for chunk in self._gops(x) for gop in chunk
            ]

    def refresh(self) -> None:
        self.integer_prior.export(self.prior)
        self._model_id = None

    @property
    def model_id(self) -> bytes:
        """First 4 bytes of the sha256 of architecture and all weights that decoding needs: encoders may differ."""
        if self._model_id is None:
            digest = hashlib.sha256(repr(self.architecture).encode())
            for name, tensor in self.state().items():
                if name.startswith(self.encoder_only):
                    continue
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._model_id = digest.digest()[:4]
        return self._model_id

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
        height, width = x.shape[-2:]
        pad = (0, -width % SPATIAL_STRIDE, 0, -height % SPATIAL_STRIDE)
        padded = [F.pad(c.flatten(0, 1), pad, mode="replicate") for c in chunks]
        return [p.view(*c.shape[:2], *p.shape[1:]) for p, c in zip(padded, chunks, strict=True)]

    def _assign(self, gops: Tensor) -> Tensor:
        return self.codebook(self.encoder(_features(gops)))  # type: ignore[no-any-return]

    def _reconstruct(self, latent: Tensor, size: Sequence[int]) -> Tensor:
        """Clips ``(B, frames, 3, H, W)`` of ``size`` from codebook values."""
        clips = self.decoder(latent.contiguous(memory_format=torch.channels_last_3d)).float() / SPREAD + 0.5
        return clips.transpose(1, 2)[..., : size[0], : size[1]]  # type: ignore[no-any-return]

    def _parts(self, frames: int) -> int:
        return -(-frames // self.architecture.gop)

    def _overhead(self, parts: Tensor, x: Tensor) -> Tensor:
        """Bits of container and range coder; no gradient."""
        shape = x.shape[1], x.shape[-2], x.shape[-1]
        sizes = parts.detach().div(8).ceil().int().tolist()
        total = [stream.overhead_bits(shape, s) + RANGE_CODER_BITS * len(s) for s in sizes]
        return torch.tensor(total, device=x.device)

    def _compress_clip(self, x: Tensor) -> bytes:
        parts, crc = [], 0
        for symbols in self.symbols(x):
            parts.append(_wavefront.encode(self.integer_prior, symbols)[0])
            crc = stream.symbol_crc(_as_bytes(symbols), crc)
        packet = stream.Packet(x.shape[1], x.shape[-2], x.shape[-1], tuple(parts), crc)
        return stream.pack(packet, self.model_id)

    def _packet(self, data: bytes) -> stream.Packet:
        return stream.unpack(data, self.model_id, self.card.name, self._parts)

    def _symbols(self, packets: Sequence[stream.Packet]) -> list[list[Tensor]]:
        """Symbols of every GoP of equally sized clips, decoded side by side, checked against their checksums."""
        a, packet = self.architecture, packets[0]
        height, width = -(-packet.height // SPATIAL_STRIDE), -(-packet.width // SPATIAL_STRIDE)
        found: list[list[Tensor]] = [[] for _ in packets]
        for frames in sorted({a.gop, packet.frames % a.gop or a.gop}, reverse=True):
            size = a.channels, -(-frames // prod(a.time_strides)), height, width
            mine = [(i, j) for i, p in enumerate(packets) for j in range(len(p.parts)) if self._frames(p, j) == frames]
            together = max(1, min(SIDE_BY_SIDE, MAX_LATENT // prod(size)))
            for start in range(0, len(mine), together):
                group = mine[start : start + together]
                strings = [packets[i].parts[j] for i, j in group]
                for (i, _), symbols in zip(group, _wavefront.decode(self.integer_prior, strings, size), strict=True):
                    found[i].append(symbols)
        for p, gops in zip(packets, found, strict=True):
            crc = 0
            for symbols in gops:
                crc = stream.symbol_crc(_as_bytes(symbols), crc)
            if crc != p.symbol_crc:
                raise StreamError(f"{self.card.name} decoded other symbols than were encoded: the stream is damaged")
        return found

    def _frames(self, packet: stream.Packet, part: int) -> int:
        return min(self.architecture.gop, packet.frames - part * self.architecture.gop)

    def _synthesise(self, packet: stream.Packet, gops: list[Tensor]) -> Tensor:
        clips = [
            self._reconstruct(self.codebook.centres[symbols][None], (packet.height, packet.width)) for symbols in gops
        ]
        return torch.cat(clips, 1)[:, : packet.frames].clamp(0, 1)


@codecs.register("rdae-gan")
class RdaeGan(Rdae):
    """The same network finetuned with pixel, feature and adversarial distortion (Veerabadran et al., 2020, Eq. 5)."""

    family = "rdae-gan"
    paper = "https://arxiv.org/abs/2004.09508"
    compatible = ("rdae-gan", "rdae")


def _features(gops: Tensor) -> Tensor:
    """Clips as the encoder takes them: time after channels, centred."""
    return ((gops.transpose(1, 2) - 0.5) * SPREAD).contiguous(memory_format=torch.channels_last_3d)


def _as_bytes(symbols: Tensor) -> bytes:
    return symbols.to(torch.uint8).cpu().numpy().tobytes()
