"""What all learned image codecs share: padding, the container, weights, and exact entropy parameters.

A codec of latents splits into ``latents`` (analysis and rates of a batch of frames), ``synthesise``
(frames from latents), and ``encode``/``decode`` (one frame to parts of bytes and back). The networks
are CompressAI's modules, so its checkpoints load as they are.
"""

from __future__ import annotations

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from compressai.models import CompressionModel
from torch import Tensor, nn

from robustcodec import stream
from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec, Output, StreamPart
from robustcodec.zoo import _growing, _pretrained
from robustcodec.zoo._gdn import steady

CODER_BITS = 48.0  # what a rANS part costs beyond its information: 32 to 64, for it is written in words of 32


class Latents:
    """Latents of a batch of frames: ``y_hat()`` and the bits of each part, each computed at most once.

    ``coded()``: what is entropy-coded, in steps of the rounding, ``(B, …)`` each.
    """

    def __init__(
        self,
        y_hat: Callable[[], Tensor],
        part_bits: Callable[[], list[Tensor]],
        coded: Callable[[], list[Tensor]],
    ) -> None:
        self.y_hat, self.part_bits, self.coded = y_hat, part_bits, coded


class LatentCodec(Codec):
    """A frame-by-frame learned codec around a CompressAI network ``net``.

    ``architecture(**widths[quality])`` builds the network; ``stride``: frames are padded (replicated) to its
    multiples; ``parts``: byte strings per frame, called ``part_names``.
    """

    family: ClassVar[str]
    paper: ClassVar[str]
    architecture: ClassVar[Callable[..., CompressionModel]]
    widths: ClassVar[dict[int, dict[str, int]]]
    stride: ClassVar[int] = 64
    encoder_only = ("net.g_a.", "net.h_a.")
    synthesis = ("net.g_s.",)
    parts: ClassVar[int] = 2
    part_names: ClassVar[tuple[str, ...]] = ("y", "z")
    latent_layers: ClassVar[tuple[tuple[str, int], ...]] = ()  # as `_growing.grow` needs them; none: it cannot grow

    def __init__(
        self,
        *,
        tag: str | None = None,
        quality: int | None = None,
        metric: Literal["mse", "ms-ssim"] = "mse",
        weights: str | None = None,
        seed: int = 0,
    ) -> None:
        """Weights by ``tag`` (bundled, or ``mse-q3`` for CompressAI's), by ``quality`` and ``metric``
        (CompressAI's), by path, or ``weights="random"`` with ``seed``.

        Raises :class:`WeightsError` if they are missing, damaged or of another family.
        """
        super().__init__()
        source = _pretrained.Source.choose(self.family, tag, quality, metric, weights, seed)
        net, card = _pretrained.network(source, type(self).architecture, self.widths)
        self.card = replace(card, paper=self.paper)
        self.net: Any = steady(net).to(memory_format=torch.channels_last)
        self._exact_modules: dict[str, nn.Module] = {}
        self._model_id: bytes | None = None
        self.eval()

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return _pretrained.Source.choose(cls.family, **params).fingerprint()

    @abstractmethod
    def latents(self, frames: Tensor) -> Latents:
        """Latents of padded frames ``(B, 3, H, W)``."""

    @abstractmethod
    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        """Parts and symbol checksum of one padded frame ``(1, 3, H, W)``."""

    @abstractmethod
    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        """Frame ``(1, 3, height, width)``, padded size, and its symbol checksum."""

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Frames from latents."""
        return self.net.g_s(y_hat).float()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Output:
        n, t, _, height, width = x.shape
        latents = self.latents(self._pad(x.flatten(0, 1)))

        def x_hat() -> Tensor:
            frames = self.synthesise(latents.y_hat())[..., :height, :width]
            frames = frames if self.training else frames.clamp(0, 1)
            return frames.view(n, t, *frames.shape[1:])

        def bits() -> Tensor:
            parts = latents.part_bits()
            total = torch.stack(parts).sum(0).view(n, t).sum(1)
            return total if self.training else total + self._overhead(parts, (n, t, height, width))

        def coded() -> list[Tensor]:
            return [part.reshape(n, t, *part.shape[1:]) for part in latents.coded()]

        return Output(x_hat, bits, coded)

    def compress(self, x: Tensor) -> list[bytes]:
        with torch.no_grad():
            return [self._compress_clip(clip) for clip in x]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        with torch.no_grad():
            clips = [self._decompress_clip(s) for s in streams]
        if len({c.shape for c in clips}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        return torch.stack(clips)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        packet = self._packet(stream)
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, packet.parts))))
        names = self.part_names[: self.parts] * packet.frames
        return [header] + [
            StreamPart(name, i // self.parts, 1, 8 * len(part))
            for i, (name, part) in enumerate(zip(names, packet.parts, strict=True))
        ]

    def grown(self, seed: int, **widths: int) -> Codec:
        if not self.latent_layers:
            return super().grown(seed, **widths)
        _growing.check_widths(self.family, self.card.architecture, widths)
        architecture = {**self.card.architecture, **widths}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = type(self).architecture(**architecture)
        _growing.grow(self.net, net, self.latent_layers)
        net.update(force=True)
        codec = copy.deepcopy(self)
        codec.net = steady(net).to(next(self.parameters()).device).to(memory_format=torch.channels_last)
        codec.card = replace(self.card, architecture=architecture)
        codec._exact_modules, codec._model_id = {}, None
        return codec.train(self.training)

    def refresh(self) -> None:
        self.net.update(force=True, update_quantiles=True)
        self._exact_modules.clear()
        self._model_id = None

    def aux_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.endswith(".quantiles")]

    def aux_loss(self) -> Tensor | None:
        return self.net.aux_loss()  # type: ignore[no-any-return]

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint stores: all weights and the bottleneck's tables; Gaussian tables are recomputed."""
        drop = ("gaussian_conditional.", "lower_bound")
        return {k: v for k, v in self.net.state_dict().items() if not any(d in k for d in drop)}

    @property
    def model_id(self) -> bytes:
        """First 4 bytes of the sha256 of class and all parameters that decoding needs: encoders may differ."""
        if self._model_id is None:
            digest = hashlib.sha256(f"{self.card.family}".encode())
            for name, p in self.net.named_parameters():
                if f"net.{name}".startswith(self.encoder_only):
                    continue
                digest.update(name.encode())
                digest.update(p.detach().float().cpu().contiguous().numpy().tobytes())
            self._model_id = digest.digest()[:4]
        return self._model_id

    def exactly(self, name: str, z: Tensor) -> Tensor:
        """``net.<name>(z)`` in float64: encoder and decoder must agree on entropy parameters on any thread count.

        The order of additions depends on threads and batch size. A scale that this moves across a table threshold
        ruins the stream; in float64 the room for that is nine orders of magnitude smaller than in float32, and the
        checksum of symbols catches what is left.
        """
        if self.training:
            with torch.autocast(z.device.type, enabled=False):
                return self.net.get_submodule(name)(z.float())  # type: ignore[no-any-return]
        return self.twin(name, z.device)(z.double()).float()  # type: ignore[no-any-return]

    def twin(self, name: str, device: torch.device) -> nn.Module:
        """A frozen float64 copy of ``net.<name>`` on ``device``, kept until :meth:`refresh`."""
        twin = self._exact_modules.get(name)
        if twin is None or next(twin.parameters()).device != device:
            twin = copy.deepcopy(self.net.get_submodule(name)).to(device, torch.float64).requires_grad_(False)
            self._exact_modules[name] = twin
        return twin

    def _pad(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        return F.pad(frames, pad, mode="replicate").contiguous(memory_format=torch.channels_last)

    def _overhead(self, parts: list[Tensor], shape: tuple[int, int, int, int]) -> Tensor:
        n, t, height, width = shape
        sizes = torch.stack(parts, dim=-1).detach().div(8).ceil().view(n, -1).int().tolist()
        header = [stream.overhead_bits((t, height, width), s) + CODER_BITS * len(s) for s in sizes]
        return torch.tensor(header, device=parts[0].device)

    def _compress_clip(self, clip: Tensor) -> bytes:
        parts, crc = [], 0
        for frame in clip:
            strings, crc_frame = self.encode(self._pad(frame[None]))
            crc = stream.symbol_crc(crc_frame.to_bytes(2, "little"), crc)
            parts += strings
        packet = stream.Packet(len(clip), clip.shape[-2], clip.shape[-1], tuple(parts), crc)
        return stream.pack(packet, self.model_id)

    def _packet(self, data: bytes) -> stream.Packet:
        return stream.unpack(data, self.model_id, self.card.name, lambda frames: frames * self.parts)

    def _decompress_clip(self, data: bytes) -> Tensor:
        packet = self._packet(data)
        frames, crc = [], 0
        height, width = packet.height + -packet.height % self.stride, packet.width + -packet.width % self.stride
        for i in range(packet.frames):
            strings = packet.parts[i * self.parts : (i + 1) * self.parts]
            frame, crc_frame = self.decode(strings, height, width)
            crc = stream.symbol_crc(crc_frame.to_bytes(2, "little"), crc)
            frames.append(frame[0, :, : packet.height, : packet.width])
        if crc != packet.symbol_crc:
            raise StreamError(
                f"{self.card.name} decoded other symbols than were encoded: its probabilities differ between the "
                "machine that wrote the stream and this one"
            )
        return torch.stack(frames).clamp(0, 1)
