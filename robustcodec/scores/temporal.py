"""What an attack does over time: quality frame by frame, drift, recovery, flicker, bits per frame.

Flicker: mean squared difference between the temporal changes of two clips. Xu et al., 2021, train against it
(https://arxiv.org/abs/2102.05822); the root per pair of frames is dtSSD, the measure of temporal coherence of
Erofeev et al., BMVC 2015 (https://videomatting.com).

All but the bits are functions of clips ``(N, T, 3, H, W)`` in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from robustcodec.errors import counted
from robustcodec.interfaces import Metric, StreamPart
from robustcodec.scores import metrics

RECOVERED = 0.5  # dB: a loss of PSNR that counts as none
NAN = float("nan")


def per_frame(metric: Metric, reference: Tensor, test: Tensor) -> Tensor:
    """``(N, T)`` scores of single frames, each a clip of its own to ``metric``.

    Raises :class:`ValueError` unless both are clips of one shape.
    """
    metrics.difference(reference, test)
    return metric.fn(reference.flatten(0, 1)[:, None], test.flatten(0, 1)[:, None]).view(reference.shape[:2])


def psnr(reference: Tensor, test: Tensor) -> Tensor:
    """``(N, T)`` PSNR of each frame in dB, at most 100."""
    return per_frame(metrics.psnr(), reference, test)


def drift(x: Tensor, x_hat: Tensor, x_adv_hat: Tensor) -> Tensor:
    """``(N, T)`` dB that the attack costs each frame: its PSNR in ``x_hat`` minus that in ``x_adv_hat``, against ``x``.

    Where a perturbed frame is a reference of later ones, later ones lose too although their input is clean.
    """
    return psnr(x, x_hat) - psnr(x, x_adv_hat)


def perturbed(x: Tensor, x_adv: Tensor) -> Tensor:
    """``(N, T)`` bool: frames in which any value differs."""
    return metrics.difference(x, x_adv).ne(0).flatten(2).any(2)


def recovery(drift: Tensor, perturbed: Tensor, threshold: float = RECOVERED) -> Tensor:
    """``(N,)`` frames after the last perturbed one until the loss is below ``threshold`` dB for good; 0: at once.

    ``drift``, ``perturbed``: ``(N, T)``, of the functions of that name. NaN: the loss lasts to the end of the clip,
    no frame is perturbed, or none follows the last perturbed one.
    """
    if drift.ndim != 2 or drift.shape != perturbed.shape:
        raise ValueError(f"shapes {tuple(drift.shape)} and {tuple(perturbed.shape)} were given; expected twice (N, T)")
    lengths = []
    for loss, touched in zip(drift, perturbed, strict=True):
        frames = touched.nonzero()
        hurt = ~(loss[int(frames[-1]) + 1 :] < threshold) if len(frames) else loss.new_ones(0).bool()
        last = hurt.nonzero()
        lasts = not len(hurt) or bool(hurt[-1])
        lengths.append(NAN if lasts else float(last[-1]) + 1 if len(last) else 0.0)
    return torch.tensor(lengths, dtype=torch.float64)


def flicker(reference: Tensor, test: Tensor) -> Tensor:
    """``(N,)`` mean of ``((test_t - test_{t-1}) - (reference_t - reference_{t-1}))²`` in squared grey levels (0–255).

    0 if the error of ``test`` stands still, twice its MSE if errors of neighbouring frames have nothing in common.
    NaN for clips of one frame.
    """
    change = (255 * metrics.difference(reference, test).double()).diff(dim=1)
    return change.square().flatten(1).mean(1) if change.shape[1] else change.new_full((len(change),), NAN)


def bits_per_frame(parts: Iterable[StreamPart], frames: int) -> Tensor:
    """``(frames,)`` bits spent on each frame; a part over several frames is spread evenly, headers are left out.

    NaN throughout if no part says which frames it is for; raises :class:`ValueError` for parts beyond the clip.
    """
    placed = [p for p in parts if p.frames]
    if not placed:
        return torch.full((frames,), NAN, dtype=torch.float64)
    bits = torch.zeros(frames, dtype=torch.float64)
    for part in placed:
        if part.first < 0 or part.first + part.frames > frames:
            raise ValueError(f"{part} reaches beyond a clip of {counted(frames, 'frame')}")
        bits[part.first : part.first + part.frames] += part.bits / part.frames
    return bits
