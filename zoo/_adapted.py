"""Networks of users as codecs: one that is a codec already, one like CompressAI's, or any from picture to picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustcodec import stream
from robustcodec.clips import to_multiples
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.rounding import Rounded
from robustcodec.zoo._wrapped import STRIDES, Wrapped, is_compressai_like

RAW = b"pict"  # in the place of a model's id
MULTIPLES = (1, 2, 4, *STRIDES)  # of sides, that networks may need


def adapted(network: nn.Module, name: str) -> Codec:
    """``network`` as a codec called ``name``, put into eval mode; raises :class:`UserError` if it cannot work."""
    kind = f"{type(network).__module__}.{type(network).__qualname__}"
    if isinstance(network, Codec):
        network.card = replace(getattr(network, "card", Card(name, kind)), name=name)
        return network.eval()
    if is_compressai_like(network):
        return Wrapped(network, Card(name, kind))
    return Reconstruction(network, Card(name, kind))


class Reconstruction(Codec):
    """A network from pictures to pictures, frame by frame. It makes no bytes: it has distortion alone, and no rate.

    ``forward`` takes ``(N, 3, H, W)`` in [0, 1] and gives a tensor of that shape, or a dictionary or tuple with one
    (``x_hat``, or the first). Its ``torch.round`` lets gradients pass as attackers choose
    (:class:`robustcodec.rounding.Rounded`). What stands in for a stream is the picture itself. A picture whose size the
    network does not keep is padded at its right and lower edge to the next multiple (of 2, 4 … 256) that it keeps.
    """

    coded = False

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network, self.card = network.float(), card
        self._multiples: dict[tuple[int, int], int] = {}  # of sizes that were met
        self.eval()

    def forward(self, x: Tensor) -> Output:
        return Output(lambda: self._shown(x), lambda: torch.full((len(x),), float("nan"), device=x.device))

    def compress(self, x: Tensor) -> list[bytes]:
        pixels = (self._shown(x) * 255).round().to(torch.uint8).cpu()
        (_, frames, _, height, width) = x.shape
        return [stream.pack(stream.Packet(frames, height, width, (p.numpy().tobytes(),)), RAW) for p in pixels]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        packets = [stream.unpack(data, RAW, self.card.family, lambda frames: 1) for data in streams]
        clips = [
            torch.frombuffer(bytearray(p.parts[0]), dtype=torch.uint8).view(p.frames, 3, p.height, p.width)
            for p in packets
        ]
        return torch.stack(clips).float() / 255

    def _shown(self, x: Tensor) -> Tensor:
        frames = x.flatten(0, 1)
        height, width = frames.shape[-2:]
        multiple = self._multiple(height, width, frames)
        padded = to_multiples(frames, multiple, multiple)
        with Rounded():
            out = _picture(self.network(padded))
        if not isinstance(out, Tensor) or out.shape != padded.shape:
            what = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise RobustCodecError(
                f"{self.card.name}: forward gave {what} for pictures of {tuple(padded.shape)}; expected the same shape"
            )
        return out.float().clamp(0, 1)[..., :height, :width].reshape(x.shape)

    def _multiple(self, height: int, width: int, like: Tensor) -> int:
        """The least of :data:`MULTIPLES` to which a picture is padded so that its size is kept; 1 if none does that."""
        if (height, width) not in self._multiples:
            blank = like.new_zeros(1, 3, height, width)
            kept = (multiple for multiple in MULTIPLES if self._keeps(to_multiples(blank, multiple, multiple)))
            self._multiples[height, width] = next(kept, 1)
        return self._multiples[height, width]

    def _keeps(self, blank: Tensor) -> bool:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                out = _picture(self.network(blank))
            except Exception:  # a network may be anyone's code, and says so itself when it is asked in earnest
                return False
        return isinstance(out, Tensor) and out.shape == blank.shape


def _picture(out: Any) -> Any:
    if isinstance(out, dict):
        return out.get("x_hat", next(iter(out.values()), None))
    return out[0] if isinstance(out, tuple | list) and out else out
