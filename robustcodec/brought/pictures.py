"""Pictures and clips as torch users have them, as a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.clips import checksum, to_uint8
from robustcodec.errors import BadData
from robustcodec.interfaces import DataSet, Sample

EXPECTED = "RGB as (3, H, W), a batch of pictures as (N, 3, H, W), or a clip as (T, 3, H, W) with clip=True"


@dataclass(frozen=True)
class Pictures(DataSet):
    """``clips``: uint8 ``(T, 3, H, W)`` each. Samples are called by their pixels, so that the random numbers of an
    attack are the same whatever company a picture has.
    """

    clips: tuple[Tensor, ...]

    @classmethod
    def of(cls, tensor: Tensor, clip: bool = False) -> Pictures:
        """A picture ``(3, H, W)`` or a batch of pictures ``(N, 3, H, W)``; with ``clip``, one clip ``(T, 3, H, W)``.

        uint8, or float in [0, 1], which is rounded to 8 bits; on any device. Raises :class:`BadData` for other tensors.
        """
        if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3 or 0 in tensor.shape:
            raise BadData(f"a tensor of shape {tuple(tensor.shape)} was given; expected {EXPECTED}")
        if tensor.ndim == 3 and clip:
            raise BadData(f"a tensor of shape {tuple(tensor.shape)} was given with clip=True; expected (T, 3, H, W)")
        if tensor.is_floating_point():
            low, high = float(tensor.min()), float(tensor.max())
            if not 0 <= low <= high <= 1:
                raise BadData(f"a float tensor from {low:.4g} to {high:.4g} was given; expected values in [0, 1]")
            tensor = to_uint8(tensor.detach().float())
        if tensor.dtype != torch.uint8:
            raise BadData(f"a tensor of {tensor.dtype} was given; expected uint8, or float in [0, 1]")
        pixels = tensor.reshape(-1, *tensor.shape[-3:]).cpu()
        return cls((pixels.clone(),) if clip else tuple(picture[None].clone() for picture in pixels))

    def samples(self) -> list[Sample]:
        sums = [checksum(clip) for clip in self.clips]
        met: Counter[str] = Counter()
        found: list[Sample] = []
        for clip, digest in zip(self.clips, sums, strict=True):
            met[digest] += 1
            again = f"-{met[digest]}" if met[digest] > 1 else ""
            found.append(Sample(f"tensor-{digest[:10]}{again}", lambda clip=clip: clip, checksum=digest))  # type: ignore[misc]
        return found


@dataclass(frozen=True)
class Remembered(DataSet):
    """What is known of pictures that were in memory once: names and checksums, by which results are identified."""

    known: Sequence[tuple[str, str]]

    def samples(self) -> list[Sample]:
        return [Sample(name, self._gone, checksum=digest) for name, digest in self.known]

    @staticmethod
    def _gone() -> Tensor:
        raise BadData("the pictures of this run were tensors in Python; give them to robustcodec.run again")
