"""What all learned image codecs share: a network with its weights, and exact entropy parameters.

The networks are CompressAI's modules, so its checkpoints load as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from compressai.models import CompressionModel
from torch import Tensor, nn

from robustcodec.interfaces import Codec
from robustcodec.weights.statedict import Fit
from robustcodec.zoo import _growing, _pretrained
from robustcodec.zoo._fitting import WidthsFrom, fit, widths_in
from robustcodec.zoo._gdn import steady
from robustcodec.zoo._pixels import resampled_quickly
from robustcodec.zoo._tiles import in_tiles
from robustcodec.zoo.frames import FrameCodec

CODER_BITS = 48.0  # what a rANS part costs beyond its information: 32 to 64, for it is written in words of 32


class LatentCodec(FrameCodec):
    """A frame-by-frame learned codec around a CompressAI network ``net``.

    ``architecture(**widths[quality])`` builds the network; ``widths_from``: which tensors of a checkpoint show them.
    """

    family: ClassVar[str]
    paper: ClassVar[str]
    architecture: ClassVar[Callable[..., CompressionModel]]
    widths: ClassVar[dict[int, dict[str, int]]]
    widths_from: ClassVar[WidthsFrom] = {"N": ("g_a.0.weight", 0), "M": ("g_a.6.weight", 0)}
    stride = 64
    coder_bits = CODER_BITS
    encoder_only = ("net.g_a.", "net.h_a.")
    synthesis = ("net.g_s.",)
    part_names: tuple[str, ...] = ("y", "z")
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
        """Weights come from a ``tag``, from ``quality`` and ``metric``, or from ``weights``.

        ``tag`` is typed after a dot: it names weights that ship (``bmshj2018-hyperprior.tiny-q2``), or CompressAI's
        official ones (``mse-q3``, ``ms-ssim-q3``). ``quality`` (from 1, the fewest bits, to 8, or to 6 for the
        ``cheng2020`` families) and ``metric`` (``mse`` or ``ms-ssim``, for which it was trained) name CompressAI's
        official weights, too. ``weights`` is the path of a checkpoint, or ``random``: then ``seed`` draws them, and
        ``quality`` only sets the widths of the network (without it, the small widths of the weights that ship).

        Raises :class:`BadParameter` if no weights are named, and :class:`WeightsError` if they are missing, damaged or
        of another family.
        """
        super().__init__()
        source = _pretrained.Source.choose(self.family, tag, quality, metric, weights, seed)
        net, card = _pretrained.network(source, type(self).architecture, self.widths, self.widths_from)
        self.card = replace(card, paper=self.paper)
        self.net: Any = in_tiles(resampled_quickly(steady(net))).to(memory_format=torch.channels_last)
        self._exact_modules: dict[str, nn.Module] = {}
        self.eval()

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return _pretrained.Source.choose(cls.family, **params).fingerprint()

    @classmethod
    def fitting(cls, state: Mapping[str, Tensor]) -> Fit | None:
        """How the tensors of a checkpoint fit this family's network, as wide as they; None if they show no widths."""
        wide = widths_in(state, cls.widths_from)
        return None if wide is None else fit(cls.architecture(**wide), state, wide)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return self.net.g_s(y_hat).float()  # type: ignore[no-any-return]

    def grown(self, seed: int, **widths: int) -> Codec:
        drawn = self.card.weights == "random"  # nothing of it is worth keeping
        if not self.latent_layers and not drawn:
            return super().grown(seed, **widths)
        _growing.check_widths(self.family, self.card.architecture, widths)
        architecture = {**self.card.architecture, **widths}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = type(self).architecture(**architecture)
        if not drawn:
            _growing.grow(self.net, net, self.latent_layers)
        net.update(force=True)
        codec = copy.deepcopy(self)
        codec.net = in_tiles(resampled_quickly(steady(net))).to(next(self.parameters()).device)
        codec.net.to(memory_format=torch.channels_last)
        codec.card = replace(self.card, architecture=architecture)
        codec._exact_modules, codec._model_id = {}, None
        return codec.train(self.training)

    def refresh(self) -> None:
        super().refresh()
        self.net.update(force=True, update_quantiles=True)
        self._exact_modules.clear()

    def aux_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.endswith(".quantiles")]

    def aux_loss(self) -> Tensor | None:
        return self.net.aux_loss()  # type: ignore[no-any-return]

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint stores: all weights and the bottleneck's tables; Gaussian tables are recomputed."""
        drop = ("gaussian_conditional.", "lower_bound")
        return {k: v for k, v in self.net.state_dict().items() if not any(d in k for d in drop)}

    def decoding(self) -> tuple[str, Iterable[tuple[str, Tensor]]]:
        parameters = self.net.named_parameters()
        return self.card.family, ((n, p) for n, p in parameters if not f"net.{n}".startswith(self.encoder_only))

    def pad(self, frames: Tensor) -> Tensor:
        return super().pad(frames).contiguous(memory_format=torch.channels_last)

    def exactly(self, name: str, z: Tensor) -> Tensor:
        """``net.<name>(z)`` computed in float64, because encoder and decoder must agree on the entropy parameters.

        In float32 the order of additions depends on the number of threads and on the batch size. A scale that this
        moves across a threshold of the tables ruins the stream. In float64 such a move is nine orders of magnitude less
        likely, and the checksum of the symbols catches what remains.
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
