"""What codecs around codecs share: they code another clip in the place of the one that they are given, and undo that
after decoding.

Side information, the "head", is a few bytes in front of the inner codec's stream. A checksum of the head is laid over
the end of that stream (exclusive or), where streams have a checksum of their own. With a damaged head, the inner codec
therefore meets a damaged stream.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec, Output, StreamPart

MASK = 4  # bytes

Change = Callable[[Tensor], Tensor]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Step:
    """One change for the samples ``rows`` of a batch, and how to undo it.

    The inner codec codes ``apply(x[rows])``, and ``head`` is written in front of its stream. ``undo`` turns the clips
    that the inner codec decodes into the clips that are shown.
    """

    rows: Sequence[int]
    apply: Change
    undo: Change
    head: bytes


class Wrapping(Codec):
    """A codec ``inner`` behind a defense ``name``; it keeps everything of ``inner`` that the defense does not change.

    Subclasses give ``forward`` and ``compress``. ``random``: set it to True if these draw from torch's global random
    state.
    """

    def __init__(self, inner: Codec, name: str, *, random: bool = False) -> None:
        super().__init__()
        self.inner: Codec = inner
        self.card = replace(inner.card, name=f"{inner.card.name}+{name}")
        self.differentiable = inner.differentiable
        self.exact_forward = inner.exact_forward
        self.coded = inner.coded
        self.randomised = random or inner.randomised
        self.symbols_per_pixel = inner.symbols_per_pixel
        self.training_surrogate = inner.training_surrogate  # type: ignore[misc]  # the inner codec's, not this class's
        self.train(inner.training)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return self.inner.decompress(streams)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        return self.inner.anatomy(stream)

    def aux_loss(self) -> Tensor | None:
        return self.inner.aux_loss()

    def aux_parameters(self) -> list[nn.Parameter]:
        return self.inner.aux_parameters()

    def state(self) -> dict[str, Tensor]:
        return self.inner.state()

    def refresh(self) -> None:
        self.inner.refresh()


class StepwiseCodec(Wrapping):
    """Changes clips in front of ``inner`` as :meth:`steps` says, and undoes behind it what :meth:`read` finds in the
    bytes.

    ``random``: set it to True if :meth:`steps` draws random numbers; after the same seed, ``forward`` and ``compress``
    then draw the same. ``fixed``: set it to True if every clip of a size meets the same step; the inner codec's latents
    then say everything about the stream, and are shown. Other subclasses show no latents.
    """

    side = "side information"  # what an anatomy calls the head

    def __init__(self, inner: Codec, name: str, *, random: bool = False, fixed: bool = False) -> None:
        super().__init__(inner, name, random=random)
        self.fixed = fixed

    @abstractmethod
    def steps(self, x: Tensor, real: bool) -> list[Step]:
        """The steps for ``x`` ``(N, T, 3, H, W)``; each sample is in exactly one step.

        ``real``: True when bytes will be written. Where the inner codec's ``forward`` is only a surrogate, a choice
        then uses the real bytes instead.
        """

    @abstractmethod
    def read(self, stream: bytes) -> tuple[int, Change]:
        """The length of the head of ``stream`` in bytes, and the function that undoes the step that the head names.

        Raises :class:`StreamError` for a head that this codec does not write. The function may raise it too, for a clip
        that does not belong to the head.
        """

    def alike(self, keys: Sequence[Key]) -> list[tuple[Key, list[int]]]:
        """Each different key of a batch, with the indices of the samples that have it.

        Where the inner codec draws random numbers, each sample stands alone and in order, so that ``forward`` and
        ``compress`` draw the same numbers for it.
        """
        if self.inner.randomised:
            return [(key, [i]) for i, key in enumerate(keys)]
        groups: dict[Key, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(key, []).append(i)
        return list(groups.items())

    def forward(self, x: Tensor) -> Output:
        steps = self.steps(x, real=False)
        coded: list[tuple[Step, Output]] = [(step, self.inner(step.apply(x[list(step.rows)]))) for step in steps]
        order = torch.tensor([i for step in steps for i in step.rows], device=x.device).argsort()

        def x_hat() -> Tensor:
            return torch.cat([step.undo(out.x_hat) for step, out in coded])[order]

        def bits() -> Tensor:
            return torch.cat([out.bits + 8 * len(step.head) for step, out in coded])[order]

        def latents() -> list[Tensor]:
            return [torch.cat(same)[order] for same in zip(*(out.latents for _, out in coded), strict=True)]

        return Output(x_hat, bits, latents if self.fixed else None)

    def compress(self, x: Tensor) -> list[bytes]:
        streams = [b""] * len(x)
        for step in self.steps(x, real=True):
            for i in step.rows:
                streams[i] = step.head + laid_over(self.inner.compress(step.apply(x[i : i + 1]))[0], step.head)
        return streams

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips = [self._decompress_clip(s) for s in streams]
        if len({c.shape for c in clips}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        return torch.cat(clips)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        head, inner, _ = self.taken_apart(stream)
        return [StreamPart(self.side, 0, 0, 8 * len(head)), *self.inner.anatomy(inner)]

    def taken_apart(self, stream: bytes) -> tuple[bytes, bytes, Change]:
        """The head, the stream of the inner codec, and the function that undoes the step; raises as :meth:`read`."""
        length, undo = self.read(stream)
        head = stream[:length]
        return head, laid_over(stream[length:], head), undo

    def _decompress_clip(self, data: bytes) -> Tensor:
        _, inner, undo = self.taken_apart(data)
        return undo(self.inner.decompress([inner]))


def laid_over(stream: bytes, head: bytes) -> bytes:
    """``stream`` with the CRC-32 of ``head`` laid over its last bytes by exclusive or; doing it twice restores the
    stream.
    """
    end = stream[-MASK:]
    mask = zlib.crc32(head).to_bytes(MASK, "little")
    return stream[: len(stream) - len(end)] + bytes(a ^ b for a, b in zip(end, mask, strict=False))
