"""Random crops of images and clips to train on; step ``s`` is always the same batch, whoever prepares it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robustcodec.errors import BadData
from robustcodec.interfaces import Sample
from robustcodec.training.recipe import CropShape, Sampling

ATTEMPTS = 20  # samples tried for one crop before giving up


class Crops(Dataset[Tensor]):
    """Batches of crops of ``shape``; those from step ``late[0]`` on are of shape ``late[1]``.

    ``sampling="area"``: all samples are held in memory and each is chosen in proportion to its area and length.
    ``"uniform"``: samples are read when they are needed, all equally often, for sets that fill no memory; ones that
    cannot be read or are too small are passed over with a warning. Raises :class:`BadData` if nothing fits.
    """

    def __init__(
        self,
        samples: list[Sample],
        shape: CropShape,
        seed: int,
        sampling: Sampling = "area",
        late: tuple[int, CropShape] | None = None,
    ) -> None:
        self.samples, self.shape, self.seed, self.sampling, self.late = samples, shape, seed, sampling, late
        for needed in self._shapes if sampling == "area" else []:
            if not any(fits(needed, clip) for clip in self._held):
                raise BadData(
                    f"none of {len(samples)} training samples has {needed}; give larger ones or a smaller --crop"
                )

    def __getitem__(self, step: int) -> Tensor:
        """uint8 ``(batch, frames, 3, size, size)``, flipped at random."""
        rng = np.random.default_rng([self.seed, step])
        shape = self.late[1] if self.late and step >= self.late[0] else self.shape
        clips = self._from_memory(shape, rng) if self.sampling == "area" else self._from_disk(shape, rng)
        return torch.stack([random_crop(clip, shape, rng) for clip in clips])

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

    @property
    def _shapes(self) -> list[CropShape]:
        return [self.shape, *([self.late[1]] if self.late else [])]

    @cached_property
    def _held(self) -> list[Tensor]:
        clips = (sample.load() for sample in self.samples)
        return [clip for clip in clips if any(fits(shape, clip) for shape in self._shapes)]

    @cached_property
    def _weights(self) -> dict[CropShape, np.ndarray[Any, np.dtype[np.float64]]]:
        """How likely each held clip is, per shape; zero if it is too small."""

        def area(shape: CropShape) -> np.ndarray[Any, np.dtype[np.float64]]:
            sizes = [c.shape[0] * c.shape[2] * c.shape[3] if fits(shape, c) else 0 for c in self._held]
            return np.array(sizes, dtype=float)

        return {shape: area(shape) / area(shape).sum() for shape in self._shapes}

    def _from_memory(self, shape: CropShape, rng: np.random.Generator) -> list[Tensor]:
        return [self._held[i] for i in rng.choice(len(self._held), size=shape.batch, p=self._weights[shape])]

    def _from_disk(self, shape: CropShape, rng: np.random.Generator) -> list[Tensor]:
        return [self._readable(shape, rng) for _ in range(shape.batch)]

    def _readable(self, shape: CropShape, rng: np.random.Generator) -> Tensor:
        for _ in range(ATTEMPTS):
            sample = self.samples[int(rng.integers(len(self.samples)))]
            try:
                clip = sample.load()
            except BadData as error:
                warnings.warn(f"passed over a training sample: {error}", stacklevel=2)
                continue
            if fits(shape, clip):
                return clip
        raise BadData(
            f"{ATTEMPTS} training samples in a row, the last {sample.id}, cannot be read or do not have {shape}; "
            "give larger ones or a smaller --crop"
        )


def fits(shape: CropShape, clip: Tensor) -> bool:
    """Whether a clip ``(T, 3, H, W)`` is large enough for a crop."""
    return clip.shape[0] >= shape.frames and min(clip.shape[-2:]) >= shape.size


def random_crop(clip: Tensor, shape: CropShape, rng: np.random.Generator) -> Tensor:
    """uint8 ``(frames, 3, size, size)`` of a clip that fits: a region, shrunk if the shape says so, and flipped."""
    side = shape.size
    if shape.scale < 1:
        side = min(round(shape.size / rng.uniform(shape.scale, 1)), *clip.shape[-2:])
    room = np.array(clip.shape)[[0, 2, 3]] - [shape.frames, side, side] + 1
    t, top, left = (int(rng.integers(n)) for n in room)
    region = clip[t : t + shape.frames, :, top : top + side, left : left + side]
    return _shrunk(region, shape.size).flip([d for d in (-1, -2) if rng.random() < 0.5])


def _shrunk(frames: Tensor, size: int) -> Tensor:
    """uint8 frames at ``size`` × ``size`` pixels, without aliases."""
    if frames.shape[-1] == size:
        return frames
    small = F.interpolate(frames.float(), size=(size, size), mode="bicubic", antialias=True)
    return small.clamp(0, 255).round().to(torch.uint8)
