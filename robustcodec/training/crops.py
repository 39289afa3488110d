"""Random crops of images and clips to train on; step ``s`` is always the same batch, whoever prepares it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustcodec.errors import BadData
from robustcodec.interfaces import Sample

ATTEMPTS = 20  # samples tried for one crop before giving up
Sampling = Literal["area", "uniform"]


@dataclass(frozen=True)
class CropShape:
    """What a batch looks like: ``batch`` crops of ``frames`` frames and ``size`` × ``size`` pixels."""

    batch: int
    frames: int
    size: int

    def fits(self, clip: Tensor) -> bool:
        return clip.shape[0] >= self.frames and min(clip.shape[-2:]) >= self.size

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.size}x{self.size} pixels"


class Crops(Dataset[Tensor]):
    """Batches of crops. ``sampling="area"``: all samples are held in memory and each is chosen in proportion to its
    area and length. ``"uniform"``: samples are read when they are needed, all equally often, for sets that fill no
    memory; ones that cannot be read or are too small are passed over with a warning.

    Raises :class:`BadData` if nothing fits.
    """

    def __init__(self, samples: list[Sample], shape: CropShape, seed: int, sampling: Sampling = "area") -> None:
        self.samples, self.shape, self.seed, self.sampling = samples, shape, seed, sampling
        if sampling == "area" and not self._held:
            raise BadData(f"none of {len(samples)} training samples has {shape}; give larger ones or a smaller --crop")

    def __getitem__(self, step: int) -> Tensor:
        """uint8 ``(batch, frames, 3, size, size)``, flipped at random."""
        s, rng = self.shape, np.random.default_rng([self.seed, step])
        clips = self._from_memory(rng) if self.sampling == "area" else self._from_disk(rng)
        out = []
        for clip in clips:
            room = np.array(clip.shape)[[0, 2, 3]] - [s.frames, s.size, s.size] + 1
            t, top, left = (int(rng.integers(n)) for n in room)
            crop = clip[t : t + s.frames, :, top : top + s.size, left : left + s.size]
            out.append(crop.flip([d for d in (-1, -2) if rng.random() < 0.5]))
        return torch.stack(out)

    def stream(self, first: int, last: int, workers: int = 0) -> Iterator[Tensor]:
        """Batches of steps ``first`` … ``last`` − 1, prepared ahead by a thread or by ``workers`` processes."""
        if workers:
            steps: Any = range(first, last)
            yield from DataLoader(self, batch_size=None, sampler=steps, num_workers=workers, prefetch_factor=4)
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.__getitem__, first)
            for step in range(first, last):
                batch = ahead.result()
                if step + 1 < last:
                    ahead = pool.submit(self.__getitem__, step + 1)
                yield batch

    @cached_property
    def _held(self) -> list[Tensor]:
        return [clip for sample in self.samples if self.shape.fits(clip := sample.load())]

    @cached_property
    def _weights(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        area = np.array([c.shape[0] * c.shape[2] * c.shape[3] for c in self._held], dtype=float)
        weights: np.ndarray[Any, np.dtype[np.float64]] = area / area.sum()
        return weights

    def _from_memory(self, rng: np.random.Generator) -> list[Tensor]:
        return [self._held[i] for i in rng.choice(len(self._held), size=self.shape.batch, p=self._weights)]

    def _from_disk(self, rng: np.random.Generator) -> list[Tensor]:
        return [self._readable(rng) for _ in range(self.shape.batch)]

    def _readable(self, rng: np.random.Generator) -> Tensor:
        for _ in range(ATTEMPTS):
            sample = self.samples[int(rng.integers(len(self.samples)))]
            try:
                clip = sample.load()
            except BadData as error:
                warnings.warn(f"passed over a training sample: {error}", stacklevel=2)
                continue
            if self.shape.fits(clip):
                return clip
        raise BadData(
            f"{ATTEMPTS} training samples in a row, the last {sample.id}, cannot be read or do not have {self.shape}; "
            "give larger ones or a smaller --crop"
        )
