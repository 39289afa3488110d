"""Any CompressAI-like network as a codec: ``forward`` gives ``x_hat`` and ``likelihoods``, ``compress`` strings and
shapes, ``decompress`` a picture of them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

from robustcodec.errors import StreamError, UserError
from robustcodec.interfaces import Card
from robustcodec.zoo._attackable import attackable, checked, recorded, straight_through
from robustcodec.zoo._exact import exact, forget, inexact
from robustcodec.zoo._gdn import steady
from robustcodec.zoo._latent import CODER_BITS
from robustcodec.zoo._packing import Form
from robustcodec.zoo._pixels import resampled_quickly
from robustcodec.zoo._tiles import in_tiles
from robustcodec.zoo.frames import FrameCodec, Latents

STRIDES = (8, 16, 32, 64, 128, 256)  # what sides may have to be multiples of, tried in this order
METHODS = ("forward", "compress", "decompress")


def is_compressai_like(model: nn.Module) -> bool:
    """Whether ``model`` has the methods that :class:`Wrapped` needs."""
    return all(callable(getattr(model, name, None)) for name in METHODS)


class Wrapped(FrameCodec):
    """A network of images, frame by frame. A copy of ``model`` is kept, so that the caller's stays as it is.

    Entropy parameters are exact and latents are rounded by the attacker's surrogate as far as its structure shows (see
    :mod:`robustcodec.zoo._exact`, :mod:`robustcodec.zoo._attackable`); ``robustcodec check`` says where its forward is
    not what its bytes decode to.
    """

    encoder_only = ("net.g_a.", "net.h_a.")
    synthesis = ("net.g_s.",)
    coder_bits = CODER_BITS

    def __init__(self, model: nn.Module, card: Card, stride: int | None = None) -> None:
        """``stride``: what sides are padded to multiples of; None: the smallest that works is looked for.

        Raises :class:`UserError` for a model without the three methods, or one that does not work at any size.
        """
        super().__init__()
        if not is_compressai_like(model):
            lacking = ", ".join(name for name in METHODS if not callable(getattr(model, name, None)))
            raise UserError(f"{type(model).__name__} has no {lacking}; expected a network like those of CompressAI")
        net = copy.deepcopy(model).float().eval()
        _update(net)
        self._rounding = straight_through(net)
        self.net: Any = exact(attackable(in_tiles(resampled_quickly(steady(net)))))
        self._fit(stride)
        architecture = {**card.architecture, "multiples of": self.stride}
        if left := inexact(net):
            architecture["not in float64"] = ", ".join(left)
        self.card = replace(card, architecture=architecture)
        self.part_names = ("sizes", *(f"string {k}" for k in range(1, self._form.strings + 1)))
        self.eval()

    def latents(self, frames: Tensor) -> Latents:
        """What is called ``y_hat`` here is the picture: a foreign forward does all at once."""
        with recorded(self._rounding) as record:
            out = self.net(frames)
        likelihoods = _tensors(out["likelihoods"])
        return Latents(lambda: out["x_hat"].float(), lambda: [*map(record.bits, likelihoods)], lambda: record.latents)

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return y_hat

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        result, crc = self._compressed(frame)
        return self._form.pack(result, *frame.shape[-2:]), crc

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        taken = self._form.unpack([*parts], height, width)
        with checked(decoding=True) as symbols:
            try:
                out = self.net.decompress(**taken)
            except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise StreamError(
                    f"{type(self.net).__name__} cannot decode the stream, which is damaged: "
                    f"{type(error).__name__}: {error}"
                ) from error
        return out["x_hat"].float(), symbols.crc if self._symbols_checked else 0

    def pad(self, frames: Tensor) -> Tensor:
        return super().pad(frames).contiguous(memory_format=self._layout)

    def overhead(self, part_bits: Tensor, x: Tensor) -> Tensor:
        """Of sizes that are empty, and of strings that share the bits, since nobody knows how."""
        each = part_bits.sum(1, keepdim=True) / max(self._form.strings * x.shape[1], 1)
        strings = torch.cat((torch.zeros_like(each), each.expand(-1, self._form.strings)), 1).repeat(1, x.shape[1])
        return super().overhead(strings, x) - self.coder_bits * x.shape[1]

    def state(self) -> dict[str, Tensor]:
        return dict(self.net.state_dict())

    def decoding(self) -> tuple[str, Iterable[tuple[str, Tensor]]]:
        parameters = self.net.named_parameters()
        return self.card.family, ((n, p) for n, p in parameters if not f"net.{n}".startswith(self.encoder_only))

    def aux_loss(self) -> Tensor | None:
        return self.net.aux_loss() if self.aux_parameters() else None

    def aux_parameters(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.endswith(".quantiles")]

    def refresh(self) -> None:
        super().refresh()
        _update(self.net)
        forget(self.net)

    def _compressed(self, frame: Tensor) -> tuple[dict[str, Any], int]:
        """What ``decompress`` takes of what ``compress`` gives for a padded frame, and the checksum of its symbols."""
        with checked(decoding=False) as symbols:
            result = self.net.compress(frame)
        taken = inspect.signature(self.net.decompress).parameters
        names = [name for name in result if name in taken] or ["strings", "shape"]
        return {name: result[name] for name in names}, symbols.crc if self._symbols_checked else 0

    @torch.no_grad()
    def _fit(self, stride: int | None) -> None:
        """Find the multiples of sides and the layout in memory that the network works with, by coding a few pixels."""
        known = getattr(self.net, "downsampling_factor", None)
        strides = [stride] if stride else [*([known] if isinstance(known, int) else []), *STRIDES]
        failure: Exception | None = None
        for candidate in strides:
            for layout in (torch.channels_last, torch.contiguous_format):
                self.net.to(memory_format=layout)
                self.stride, self._layout, self._symbols_checked = candidate, layout, True
                try:
                    self._try()
                    return
                except Exception as error:  # whatever a network raises at a size that it does not take
                    failure = error
        raise UserError(
            f"{type(self.net).__name__} codes no picture whose sides are multiples of "
            f"{', '.join(map(str, dict.fromkeys(strides)))}: {type(failure).__name__}: {failure}; "
            "what it needs may be given as stride=…"
        ) from failure

    def _try(self) -> None:
        """Code a small picture; raises whatever the network raises, and ValueError for another size than it had."""
        height, width = self.stride, 3 * self.stride
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        rows, columns = torch.linspace(0, 3, height, device=device), torch.linspace(0, 5, width, device=device)
        waves = torch.sin(rows[:, None] * columns)[None].repeat(3, 1, 1)
        frame = self.pad((0.5 + 0.4 * waves)[None])
        out = self.net(frame)
        if not isinstance(out, dict) or not {"x_hat", "likelihoods"} <= set(out):
            raise ValueError(f"forward gave {_what(out)}; expected a dictionary with x_hat and likelihoods")
        result, crc = self._compressed(frame)
        self._form = Form.of(result, height, width)
        decoded, again = self.decode(self._form.pack(result, height, width), height, width)
        for name, picture in ("forward", out["x_hat"]), ("decompress", decoded):
            if picture.shape != frame.shape:
                raise ValueError(f"{name} gave a picture of {tuple(picture.shape)} for {tuple(frame.shape)}")
        self._symbols_checked = crc == again  # not so for a network that handles symbols by itself


def _update(net: nn.Module) -> None:
    """The tables of all entropy models are made of the weights as they are."""
    if callable(make := getattr(net, "update", None)):
        make(force=True)
    elif any(isinstance(module, EntropyModel) for module in net.modules()):
        raise UserError(f"{type(net).__name__} has no update(), which makes the tables of its entropy coder")


def _tensors(likelihoods: Any) -> list[Tensor]:
    """Likelihoods in a dictionary, in lists, or alone."""
    if isinstance(likelihoods, Tensor):
        return [likelihoods]
    entries = likelihoods.values() if isinstance(likelihoods, dict) else likelihoods
    return [tensor for entry in entries for tensor in _tensors(entry)]


def _what(value: Any) -> str:
    return f"a dictionary with {', '.join(map(str, value))}" if isinstance(value, dict) else f"a {type(value).__name__}"
