"""Scale-space flow, a learned video codec (Agustsson et al., CVPR 2020,
https://openaccess.thecvf.com/content_CVPR_2020/html/Agustsson_Scale-Space_Flow_for_End-to-End_Optimized_Video_Compression_CVPR_2020_paper.html).

A keyframe is coded as an image. Every other frame is predicted from the reconstruction before it: copies of this
reconstruction with more and more blur form a volume (position and blur), which a coded flow field samples. The codec
also codes what the prediction misses. Each of the three latents has a mean-scale hyperprior of its own. The network and
its weights are CompressAI's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal

import torch
from compressai.models.video import ScaleSpaceFlow
from torch import Tensor, nn

from robustcodec import stream
from robustcodec.interfaces import Output
from robustcodec.probing import LATENTS, MEANS, SCALES, SIDE, probe
from robustcodec.registry import codecs
from robustcodec.rounding import round_latent
from robustcodec.zoo import _entropy
from robustcodec.zoo._latent import CODER_BITS, LatentCodec
from robustcodec.zoo.container import Part, chain
from robustcodec.zoo.frames import Latents

LEVELS = 9
SMALLEST_PART = 64.0  # bits of a rANS part without information: its final state
ENDLESS = stream.MAX_PIXELS  # frames of a GoP that no clip exceeds

Frame = Callable[[], Tensor]  # (B, 3, H, W), made when asked for
Channel = Callable[[str, Frame], Tensor]  # a hyperprior's name and the latent to send → the latent as it is received


class Network(ScaleSpaceFlow):  # type: ignore[misc]
    """CompressAI's network with its widths as parameters: ``N`` inside the transforms, ``M`` of the latents."""

    img_encoder: Any
    img_decoder: Any
    img_hyperprior: Any

    def __init__(self, N: int = 128, M: int = 192) -> None:
        with torch.device("meta"):  # only its classes are wanted, which exist nowhere else
            super().__init__()
        encoder, decoder, hyperprior = type(self.img_encoder), type(self.img_decoder), type(self.img_hyperprior)
        self.img_encoder, self.img_decoder = encoder(3, N, M), decoder(3, M, N)
        self.res_encoder, self.res_decoder = encoder(3, N, M), decoder(3, 2 * M, N)
        self.motion_encoder, self.motion_decoder = encoder(2 * 3, N, M), decoder(2 + 1, M, N)
        self.img_hyperprior, self.res_hyperprior, self.motion_hyperprior = (hyperprior(M, M) for _ in range(3))


@codecs.register("ssf2020")
class ScaleSpaceFlowCodec(LatentCodec):
    """Video codec that predicts each frame by sampling blurred copies of the frame before it.

    References are the decoder's frames, and gradients pass through all of them back to the keyframe. CompressAI stops
    gradients at the keyframe, citing the paper, and so does this codec in training mode. In eval mode it does not stop
    them: an attack that cannot see what the first frame does to the others would look weaker than it is.
    """

    family = "ssf2020"
    paper = (
        "https://openaccess.thecvf.com/content_CVPR_2020/html/Agustsson_Scale-Space_Flow_for_End-to-End_Optimized_"
        "Video_Compression_CVPR_2020_paper.html"
    )
    architecture = Network
    widths = {quality: {"N": 128, "M": 192} for quality in range(1, LEVELS + 1)}
    widths_from = {"N": ("img_encoder.0.weight", 0), "M": ("img_encoder.6.weight", 0)}
    stride = 128
    key_parts = ("y", "z")
    inter_parts = ("motion y", "motion z", "residual y", "residual z")

    def __init__(
        self,
        *,
        tag: str | None = None,
        quality: int | None = None,
        metric: Literal["mse", "ms-ssim"] = "mse",
        weights: str | None = None,
        seed: int = 0,
        gop: int | None = None,
    ) -> None:
        """``gop``: frames from one keyframe to the next (at least 1); by default the first frame is the only keyframe.

        ``tag``, ``quality`` (1 to 9), ``metric``, ``weights`` and ``seed`` say where the weights come from, as for the
        image codecs (:class:`LatentCodec`).
        """
        if gop is not None and gop < 1:
            raise ValueError(f"gop={gop} is out of range; expected 1 (keyframes only) or more, or none")
        super().__init__(tag=tag, quality=quality, metric=metric, weights=weights, seed=seed)
        self.card = replace(self.card, kind="video")
        self.gop = gop or ENDLESS

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return super().fingerprint(**{k: v for k, v in params.items() if k != "gop"})

    def forward(self, x: Tensor) -> Output:
        n, t, _, height, width = x.shape
        frames = self.pad(x.flatten(0, 1))
        padded = frames.view(n, t, *frames.shape[1:])
        # One by one but in training: a batch may change the order of additions; a latent close to a rounding threshold
        # then falls otherwise than in the encoder, and all later frames of the clip with it.
        sent = [self._estimate(clips) for clips in padded.chunk(1 if self.training else n)]

        def x_hat() -> Tensor:
            clips = torch.cat([torch.stack([frame() for frame in made], 1) for made, _ in sent])
            clips = clips[..., :height, :width]
            return clips if self.training else clips.clamp(0, 1)

        def bits() -> Tensor:
            samples = [[part for latents in all_latents for part in latents.part_bits()] for _, all_latents in sent]
            parts = [torch.cat(part) for part in zip(*samples, strict=True)]
            total = torch.stack(parts).sum(0)
            return total if self.training else total + self.overhead(torch.stack(parts, -1), x)

        def coded() -> list[Tensor]:
            samples = [[part for latents in all_latents for part in latents.coded()] for _, all_latents in sent]
            return [torch.cat(part) for part in zip(*samples, strict=True)]

        return Output(x_hat, bits, coded)

    def aux_loss(self) -> Tensor | None:
        return torch.stack(self.net.aux_loss()).sum()

    @property
    def model_id(self) -> bytes:
        """Also of the GoP, which says what the parts of a stream are."""
        return hashlib.sha256(super().model_id + f"{self.gop}".encode()).digest()[:4]

    def twin(self, name: str, device: torch.device) -> nn.Module:
        """Without the training surrogate of QReLU: the gradient of the decoder as it is."""
        twin = super().twin(name, device)
        if name.endswith("hyper_decoder_scale"):
            twin.qrelu1 = twin.qrelu2 = twin.qrelu3 = _clamp  # type: ignore[assignment]
        return twin

    def latents(self, frames: Tensor) -> Latents:
        """Latents of padded keyframes ``(B, 3, H, W)``."""
        return self._rounded("img_hyperprior", self.net.img_encoder(frames))

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        """Parts and symbol checksum of the padded frames ``(T, 3, H, W)`` of one clip."""
        parts: list[bytes] = []
        crc = 0

        def channel(name: str, latent: Frame) -> Tensor:
            nonlocal crc
            hyperprior, y = self.net.get_submodule(name), latent().float()
            z_data, z_hat, z_crc = _entropy.encode_bottleneck(
                hyperprior.entropy_bottleneck, hyperprior.hyper_encoder(y)
            )
            scales, means = self._gaussian(name, z_hat)
            y_data, y_crc = _entropy.encode_gaussian(hyperprior.gaussian_conditional, y, scales, means)
            parts.extend((y_data, z_data))
            crc = chain(crc, z_crc, y_crc)
            return (y - means).round() + means

        self._code(len(frame), lambda t: frame[t : t + 1], channel)
        return parts, crc

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        """Padded frames ``(T, 3, height, width)`` of one clip, and their symbol checksum."""
        size = height // self.stride, width // self.stride
        received, crc = iter(parts), 0

        def channel(name: str, latent: Frame) -> Tensor:
            nonlocal crc
            hyperprior, y_data, z_data = self.net.get_submodule(name), next(received), next(received)
            z_hat, z_crc = _entropy.decode_bottleneck(hyperprior.entropy_bottleneck, z_data, *size)
            scales, means = self._gaussian(name, z_hat)
            y_hat, y_crc = _entropy.decode_gaussian(hyperprior.gaussian_conditional, y_data, scales, means)
            crc = chain(crc, z_crc, y_crc)
            return y_hat

        def unseen(t: int) -> Tensor:
            raise AssertionError("the decoder asked for a frame of the source")

        frames = self._code(self._frames(len(parts)), unseen, channel)
        return torch.cat([frame() for frame in frames]), crc

    def _code(self, frames: int, source: Callable[[int], Tensor], channel: Channel) -> list[Frame]:
        """Reconstructions of the padded frames ``source(t)``, ``(B, 3, H, W)``.

        Estimate, encoder and decoder are this loop with different channels; the decoder's asks for no latent, so it
        never sees the source.
        """
        made: list[Frame] = []
        for t in range(frames):
            x = partial(source, t)
            if t % self.gop == 0:
                made.append(self._keyframe(x, channel))
            else:
                reference = made[-1]()
                after_key = (t - 1) % self.gop == 0
                made.append(
                    self._predicted(x, reference.detach() if self.training and after_key else reference, channel)
                )
        return made

    def _keyframe(self, x: Frame, channel: Channel) -> Frame:
        y_hat = channel("img_hyperprior", lambda: self.net.img_encoder(x()))
        return cache(lambda: self._synthesis("img_decoder", y_hat))

    def _predicted(self, x: Frame, reference: Tensor, channel: Channel) -> Frame:
        motion = channel("motion_hyperprior", lambda: self.net.motion_encoder(torch.cat((x(), reference), 1)))
        flow = self._synthesis("motion_decoder", motion)
        with torch.autocast(reference.device.type, enabled=False):
            prediction: Tensor = self.net.forward_prediction(reference, flow)
        residual = channel("res_hyperprior", lambda: self.net.res_encoder(x() - prediction))
        return cache(lambda: prediction + self._synthesis("res_decoder", torch.cat((residual, motion), 1)))

    def _estimate(self, clips: Tensor) -> tuple[list[Frame], list[Latents]]:
        """Reconstructions and latents, in the order of their parts, of padded clips ``(B, T, 3, H, W)``."""
        sent: list[Latents] = []

        def channel(name: str, latent: Frame) -> Tensor:
            sent.append(self._rounded(name, latent()))
            return sent[-1].y_hat()

        return self._code(clips.shape[1], lambda t: clips[:, t], channel), sent

    def _rounded(self, name: str, y: Tensor) -> Latents:
        """``y`` and its side information on their grids."""
        hyperprior, y = self.net.get_submodule(name), y.float()
        z = hyperprior.hyper_encoder(y).float()
        channel = name.removesuffix("_hyperprior")  # the image, its motion or the residual
        z_hat = probe(f"{channel} {SIDE}", _entropy.bottleneck_round(hyperprior.entropy_bottleneck, z), z)
        scales, means = self._gaussian(name, z_hat)
        scales, means = probe(f"{channel} {SCALES}", scales, z_hat), probe(f"{channel} {MEANS}", means, z_hat)
        y_hat = probe(f"{channel} {LATENTS}", round_latent(y, means), y)

        def part_bits() -> list[Tensor]:
            return [
                _entropy.gaussian_bits(hyperprior.gaussian_conditional, y_hat, scales, means),
                _entropy.bottleneck_bits(hyperprior.entropy_bottleneck, z_hat),
            ]

        return Latents(lambda: y_hat, part_bits, lambda: [y_hat, z_hat])

    def _gaussian(self, name: str, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means of a latent."""
        z_hat = z_hat.contiguous()  # in whatever order the coder left it
        return self.exactly(f"{name}.hyper_decoder_scale", z_hat), self.exactly(f"{name}.hyper_decoder_mean", z_hat)

    def _synthesis(self, name: str, y_hat: Tensor) -> Tensor:
        y_hat = y_hat.contiguous(memory_format=torch.channels_last)
        return self.net.get_submodule(name)(y_hat).float()  # type: ignore[no-any-return]

    def overhead(self, part_bits: Tensor, x: Tensor) -> Tensor:
        """Parts of predicted frames are often so small that the coder's final state is all of them."""
        missing = (SMALLEST_PART - CODER_BITS - part_bits.detach()).clamp(min=0).sum(1)
        return super().overhead(part_bits, x) + missing

    def layout(self, frames: int) -> Iterator[Part]:
        for t in range(frames):
            for name in self.inter_parts if t % self.gop else self.key_parts:
                yield Part(name, t, 1)

    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        return self.encode(self.pad(clip))

    def decode_clip(self, packet: stream.Packet) -> tuple[Tensor, int]:
        return self.decode(packet.parts, *self.padded(packet.height, packet.width))

    def _parts(self, frames: int) -> int:
        keyframes = -(-frames // self.gop)
        return len(self.key_parts) * keyframes + len(self.inter_parts) * (frames - keyframes)

    def _frames(self, parts: int) -> int:
        """The inverse of :meth:`_parts`."""
        gops, rest = divmod(parts, self._parts(self.gop))
        key, inter = len(self.key_parts), len(self.inter_parts)
        return gops * self.gop + (1 + (rest - key) // inter if rest else 0)


def _clamp(x: Tensor) -> Tensor:
    return x.clamp(0, 255)
