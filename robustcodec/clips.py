"""Clips as 8-bit values and as floats, and what identifies one: its checksum and its seeds."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from robustcodec.interfaces import Sample
from robustcodec.weights import sha256


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


def fingerprint(sample: Sample) -> str:
    """sha256 of a sample's file, or of its pixels if it has none."""
    if sample.checksum:
        return sample.checksum
    if sample.source is None:
        return checksum(sample.load())
    return sha256(sample.source)


def sample_seed(sample: Sample, seed: int) -> int:
    """Of sample and seed alone: attacks share their draws, so four restarts begin with the two of a shorter run."""
    return int.from_bytes(hashlib.sha256(f"{sample.id}\n{fingerprint(sample)}\n{seed}".encode()).digest()[:7], "little")
