"""Clips as 8-bit values and as floats, and what identifies one: its checksum and its seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.errors import BadData, RobustCodecError
from robustcodec.interfaces import Sample
from robustcodec.weights import sha256

Made = TypeVar("Made")
NAMED = 3  # samples that cannot be used and are told apart; the others are counted


def to_float(clip: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return clip.to(torch.float32) / 255


def to_uint8(clip: Tensor) -> Tensor:
    """float in [0, 1] to the nearest uint8."""
    return (clip.clamp(0, 1) * 255).round().to(torch.uint8)


def as_batch(clip: Tensor, device: str | torch.device = "cpu") -> Tensor:
    """A uint8 clip ``(T, 3, H, W)`` as a float batch of one, ``(1, T, 3, H, W)`` in [0, 1]."""
    return to_float(clip)[None].to(device)


def checksum(clip: Tensor) -> str:
    """sha256 of a uint8 clip's shape and pixels, in hex."""
    digest = hashlib.sha256(str(tuple(clip.shape)).encode())
    digest.update(clip.contiguous().numpy().tobytes())
    return digest.hexdigest()


def centre_crop(clip: Tensor, size: int) -> Tensor:
    """The central ``size`` × ``size`` pixels, or all there are along a shorter side."""
    height, width = clip.shape[-2:]
    top, left = max(0, height - size) // 2, max(0, width - size) // 2
    return clip[..., top : top + size, left : left + size].contiguous()


def to_multiples(frames: Tensor, rows: int, columns: int) -> Tensor:
    """``(B, C, H, W)`` padded at the bottom and at the right by its edges, to multiples of ``rows`` and ``columns``."""
    return F.pad(frames, (0, -frames.shape[-1] % columns, 0, -frames.shape[-2] % rows), mode="replicate")


def fingerprint(sample: Sample) -> str:
    """sha256 of a sample's file, or of its pixels if it has none."""
    if sample.checksum:
        return sample.checksum
    if sample.source is None:
        return checksum(sample.load())
    return sha256(sample.source)


def of_all(samples: Sequence[Sample], make: Callable[[Sample], Made]) -> list[Made]:
    """``make`` of every sample; raises :class:`BadData` that names all of which it cannot be made, or its own error if
    that is one.
    """
    made: list[Made] = []
    faults: list[str] = []
    first: BaseException | None = None
    for sample in samples:
        try:
            made.append(make(sample))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a reader raises
            first = first or error
            known = isinstance(error, RobustCodecError)
            faults.append(str(error) if known else f"{sample.id}: {type(error).__name__}: {error}")
    if first is None:
        return made
    if len(faults) == 1:
        raise first
    more = [f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    reasons = " | ".join([*faults[:NAMED], *more])
    raise BadData(f"{len(faults)} of {len(samples)} samples cannot be used: {reasons}")


def sample_seed(sample: Sample, seed: int) -> int:
    """Of sample and seed alone: attacks share their draws, so four restarts begin with the two of a shorter run."""
    return int.from_bytes(hashlib.sha256(f"{sample.id}\n{fingerprint(sample)}\n{seed}".encode()).digest()[:7], "little")
