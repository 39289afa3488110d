"""The one way through bytes: a clip is written, its bytes alone are read, and that is what is judged. And the one way
to build a codec that is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from robustcodec import answers
from robustcodec.clips import as_batch, to_uint8
from robustcodec.errors import BadParameter, MissingDependency, PluginError, WeightsError, blamed
from robustcodec.interfaces import Card, Codec, Defense
from robustcodec.memory import short_of_memory
from robustcodec.oracle import shown
from robustcodec.registry import codecs, defenses

EVALUATION = -1  # seeds the draws of random codecs when they are evaluated; crafting has seeds of 0 or more
ELSEWHERE = BadParameter, MissingDependency, WeightsError  # what is wrong then is not what was decoded


@dataclass(frozen=True)
class Coded:
    """A clip's way through real bytes.

    ``x_hat``: what the decoder made of ``stream`` in 8 bits, uint8 ``(T, 3, H, W)`` on the CPU; None if it raised
    ``failure``. ``encode_s``, ``decode_s``: wall time in seconds. ``sized``: False of a codec that makes no bytes.
    ``outside``: how far the decoder left [0, 1] before it was clamped, such as ``-0.2 to 1.3``; empty: not at all.
    """

    stream: bytes
    x_hat: Tensor | None
    encode_s: float
    decode_s: float
    failure: BaseException | None = None
    sized: bool = True
    outside: str = ""

    @property
    def bits(self) -> float:
        return 8.0 * len(self.stream) if self.sized else float("nan")

    @property
    def reason(self) -> str | None:
        """Why there is no ``x_hat``."""
        return None if self.failure is None else f"{type(self.failure).__name__}: {self.failure}"

    def decoded(self) -> Tensor:
        """``x_hat``; raises what the decoder raised."""
        if self.x_hat is None:
            assert self.failure is not None, "a decoder gives a clip or a reason"
            raise self.failure if isinstance(self.failure, Exception) else blamed("decompress", self.failure)
        return self.x_hat


def defended(codec: str, defense: str = "none") -> Codec:
    """A codec by name behind a defense, in eval mode; raises :class:`UserError` as the registries do."""
    return wrapped(codecs.build(codec), defenses.build(defense), defense).eval()


def wrapped(codec: Codec, defense: Defense, name: str) -> Codec:
    """``codec`` behind ``defense``; raises :class:`PluginError` if what that makes of it is none."""
    made = defense.wrap(codec)
    if not isinstance(made, Codec) or not isinstance(getattr(made, "card", None), Card):
        raise PluginError(f"{name}: wrap gave {answers.described(made)}; expected a codec with a card")
    return made


def judged(codec: str, defense: str = "none", device: str | torch.device = "cpu") -> Codec:
    """As :func:`defended`, on a device and without gradients to its weights: ready to be attacked and measured."""
    return ready(defended(codec, defense), device)


def ready(codec: Codec, device: str | torch.device) -> Codec:
    """``codec`` itself, on a device, in eval mode and without gradients to its weights."""
    return codec.to(device).eval().requires_grad_(False)


@torch.no_grad()
def code(codec: Codec, clip: Tensor, device: str | torch.device = "cpu", seed: int | None = None) -> Coded:
    """Write a uint8 clip ``(T, 3, H, W)`` and read it back from its bytes.

    ``seed``: of what a random codec draws while it writes; None: it goes on with torch's random state as it is. Raises
    what the encoder raises; a decoder that fails on an attacked input is a finding, whatever it raises but for want of
    memory, and but for a setting, weights or a package that is not right here.
    """
    x, name = as_batch(clip, device), codec.card.name
    start = perf_counter()
    with _drawn_from(seed):
        (stream,) = answers.streams(f"{name}: compress", codec.compress(x), 1)
    written = perf_counter()
    try:
        decoded = read(codec, stream, x.shape)
        outside, x_hat = answers.outside(decoded), to_uint8(decoded)[0]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if short_of_memory(error) or isinstance(error, ELSEWHERE):  # says nothing about the codec
            raise
        return Coded(stream, None, written - start, perf_counter() - written, error, codec.coded)
    return Coded(stream, x_hat, written - start, perf_counter() - written, sized=codec.coded, outside=outside)


@torch.no_grad()
def read(codec: Codec, stream: bytes, shape: torch.Size) -> Tensor:
    """What a stream decodes to, ``(1, T, 3, H, W)`` on the CPU; raises what the decoder raises, and
    :class:`PluginError` for another ``shape`` or values that are not finite.
    """
    said = f"{codec.card.name}: decompress"
    return answers.finite(said, answers.clips(said, codec.decompress([stream]), shape).cpu())


@torch.no_grad()
def estimated_bits(codec: Codec, clip: Tensor, device: str | torch.device = "cpu", seed: int | None = None) -> float:
    """What ``codec`` thinks that the stream of a clip takes; arguments as :func:`code` has them."""
    with _drawn_from(seed):
        return float(shown(codec, as_batch(clip, device)).bits)


@contextmanager
def _drawn_from(seed: int | None) -> Iterator[None]:
    """Inside, torch draws from ``seed``, and afterwards as if nothing had been drawn; None: nothing is changed."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
