"""A codec in an environment of its own: a command that answers over pipes, as docs/howto/your-codec-process.md says.

Its streams are in the container of :mod:`robustcodec.stream`: 15 bytes, the clip's size and one or two bytes per part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustcodec import stream
from robustcodec.interfaces import Card, Output
from robustcodec.registry import codecs
from robustcodec.rounding import Surrogate, chosen, kept
from robustcodec.zoo._classical import really_coded
from robustcodec.zoo._server import Server, identity, shared
from robustcodec.zoo._wire import Array
from robustcodec.zoo.container import ContainerCodec, Part

ALWAYS: Surrogate = "straight-through"  # the surrogate of a server that knows no other
STREAM_BYTES = 16  # at most, for each value of a clip, and ...
STREAM_EXTRA = 1 << 20  # ... for each stream


@codecs.register("process")
class ProcessCodec(ContainerCodec):
    """A codec that runs in an environment of its own, by the command that starts its server.

    If the server gives no gradient, the codec is a black box to attacks.
    """

    immaterial = ("timeout", "startup")  # they decide whether there is a number, not which
    runs_code = True

    def __init__(self, command: str, timeout: float = 60.0, startup: float = 300.0) -> None:
        """``command``: what starts the server, as typed in a shell. ``timeout``: seconds for an answer (above 0).
        ``startup``: seconds for the first answer, while the server loads (above 0).

        Raises :class:`ProcessError` if the process ends, hangs or answers something else than the protocol promises.
        """
        if timeout <= 0 or startup <= 0:
            raise ValueError(f"timeout={timeout:g}, startup={startup:g}: expected seconds above 0")
        super().__init__()
        self._server: Server = shared(command, timeout, startup)
        self.described = said = self._server.description
        self._identity = identity(command, timeout, startup)
        self.card = Card(f"process:{said.name}", "process", said.kind, said.licence, said.paper)
        self.differentiable, self.exact_forward, self.randomised = said.gradient, said.exact, said.randomised
        self.register_buffer("_place", torch.empty(0), persistent=False)  # follows .to(device)

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return identity(**params)

    def decoding(self) -> tuple[str, list[tuple[str, Tensor]]]:
        return f"{self.card.name} {self._identity}", []

    def padded(self, height: int, width: int) -> tuple[int, int]:
        down, right = self.described.multiple
        return height + -height % down, width + -width % right

    def layout(self, frames: int) -> Iterator[Part]:
        if self.card.kind == "video":
            return iter([Part("stream", 0, frames)])
        return (Part("stream", t, 1) for t in range(frames))

    def forward(self, x: Tensor) -> Output:
        if not self.described.forward:
            return really_coded(self, x)
        n, t, _, height, width = x.shape
        padded = self._units(x)
        surrogate, sharpness = chosen()
        if surrogate not in self.described.rounding:
            surrogate, sharpness = ALWAYS, 0.0
        anchor = kept(padded) if surrogate == "frozen" else None
        seed = _draw() if self.randomised or surrogate == "noise" else 0
        more = {"rounding": {"surrogate": surrogate, "sharpness": sharpness}, "seed": seed}

        @cache
        def both() -> tuple[Tensor, Tensor]:
            given = padded if self.differentiable else padded.detach()
            shown, bits = _Remote.apply(given, anchor, self._server, more)
            return shown, bits

        def x_hat() -> Tensor:
            return both()[0].clamp(0, 1)[..., :height, :width].reshape(x.shape)

        def total() -> Tensor:
            parts = both()[1].view(n, -1)
            return parts.sum(1) + self.overhead(parts, x)

        return Output(x_hat, total)

    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        seed = _draw() if self.randomised else 0
        units = self._units(clip[None])
        limit = STREAM_BYTES * units[0].numel() + STREAM_EXTRA
        parts = [
            self._server.ask("compress", {"x": _array(unit[None])}, {"stream": ("uint8", (-1,))}, limit, seed=seed)
            for unit in units
        ]
        return [part["stream"].tobytes() for part in parts], 0

    def decode_clip(self, packet: stream.Packet) -> tuple[Tensor, int]:
        size = self.padded(packet.height, packet.width)
        whole = (1, packet.frames, 3, *size) if self.card.kind == "video" else (1, 3, *size)
        frames = [self._decoded(part, whole) for part in packet.parts]
        return torch.cat(frames)[..., : packet.height, : packet.width], 0

    def _decoded(self, part: bytes, shape: tuple[int, ...]) -> Tensor:
        """Frames ``(T, 3, H, W)``."""
        data = {"stream": np.frombuffer(part, np.uint8)}
        x_hat = self._server.ask("decompress", data, {"x_hat": ("float32", shape)}, shape=shape)["x_hat"]
        return _tensor(x_hat, self.get_buffer("_place")).view(-1, *shape[-3:])

    def _units(self, x: Tensor) -> Tensor:
        """What the server codes at once, padded: clips ``(N, T, 3, H, W)``, or frames ``(N T, 3, H, W)`` of images."""
        frames = self.pad(x.flatten(0, 1))
        return frames.view(len(x), -1, *frames.shape[1:]) if self.card.kind == "video" else frames


class _Remote(torch.autograd.Function):
    """``forward`` of a server, and its ``gradient`` where a derivative is asked for: neither depends on the other, so
    that a process may be lost between them.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor | None, server: Server, more: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        given = {"x": _array(x)} | ({} if anchor is None else {"anchor": _array(anchor)})
        ctx.place, ctx.given, ctx.server, ctx.more = x.new_empty(0), given, server, more
        expected = {"x_hat": ("float32", tuple(x.shape)), "bits": ("float32", (len(x),))}
        answer = server.ask("forward", given, expected, **more)
        return _tensor(answer["x_hat"], x), _tensor(answer["bits"], x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        named = zip(("grad_x_hat", "grad_bits"), slopes, strict=True)
        cotangents = {name: _array(slope) for name, slope in named if slope is not None}
        if not cotangents:
            return None, None, None, None
        expected = {"grad": ("float32", ctx.given["x"].shape)}
        answer = ctx.server.ask("gradient", ctx.given | cotangents, expected, **ctx.more)
        return _tensor(answer["grad"], ctx.place), None, None, None


def _array(x: Tensor) -> Array:
    return x.detach().float().cpu().numpy()


def _tensor(values: Array, like: Tensor) -> Tensor:
    """On the device of ``like``."""
    return torch.from_numpy(values.copy()).to(like.device)


def _draw() -> int:
    """A seed, from torch's random state."""
    return int(torch.randint(2**31, ()))
