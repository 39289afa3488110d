"""How sets of frames look to an Inception network: Inception Score and Fréchet Inception Distance (FID).

Inception Score: Salimans et al., 2016, https://arxiv.org/abs/1606.03498. FID: Heusel et al., 2017,
https://arxiv.org/abs/1706.08500. Both by torchmetrics, with torch-fidelity's conversion of the network's weights.

Neither compares a frame with its source: they judge sets, want thousands of frames, and depend on how many there are,
so compare values of equally large sets only.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustcodec.errors import BadData, MissingDependency, WeightsError, counted
from robustcodec.interfaces import Column
from robustcodec.weights.statedict import Published

INCEPTION = Published(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
BATCH = 16  # frames that the network sees at once
SPLITS = 10  # of a set for its Inception Score, as in the paper


@dataclass(frozen=True)
class InceptionScore:
    """Mean over ``splits`` of a set, and their standard deviation (NaN of one split)."""

    mean: float
    std: float


def fid(
    reference: Iterable[Tensor],
    test: Iterable[Tensor],
    feature: Literal[64, 192, 768, 2048] | nn.Module = 2048,
    device: str | torch.device = "cpu",
) -> float:
    """Fréchet distance of the features of two sets of frames: 0 for equal sets, lower is better.

    ``reference``, ``test``: clips ``(N, T, 3, H, W)`` in [0, 1] of any sizes; all their frames count, rounded to
    8 bits. ``feature``: a layer of Inception by its width, or a module from uint8 ``(B, 3, H, W)`` to ``(B, D)``.

    Raises :class:`BadData` for fewer than two frames in a set, :class:`MissingDependency` without torchmetrics,
    torch-fidelity or the weights.
    """
    with _torchmetrics("FrechetInceptionDistance", feature) as build:
        metric = build(feature=feature).to(device)
        for name, clips, real in (("reference", reference, True), ("test", test, False)):
            count = 0
            for frames in _batches(clips):
                metric.update(frames.to(device), real=real)
                count += len(frames)
            if count < 2:
                raise BadData(
                    f"FID was given {counted(count, 'frame')} in the {name} set; expected at least 2, better thousands"
                )
        return float(metric.compute())


def inception_score(
    frames: Iterable[Tensor],
    feature: Literal["logits_unbiased"] | nn.Module = "logits_unbiased",
    splits: int = SPLITS,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> InceptionScore:
    """exp of the mean divergence of each frame's classes from those of its split: 1 at worst, higher is better.

    ``frames``, ``feature``: as for :func:`fid`; a module gives logits ``(B, classes)``. The set is shuffled by
    ``seed`` and cut into ``splits``. Raises as :func:`fid` does, :class:`BadData` for fewer frames than splits.
    """
    if splits < 1:
        raise ValueError(f"splits={splits}; expected at least 1")
    with _torchmetrics("InceptionScore", feature) as build:
        metric = build(feature=feature, splits=splits).to(device)
        count = 0
        for batch in _batches(frames):
            metric.update(batch.to(device))
            count += len(batch)
        if count < splits:
            raise BadData(f"the Inception Score was given {counted(count, 'frame')}; expected at least splits={splits}")
        torch.manual_seed(seed)
        mean, std = metric.compute()
        return InceptionScore(float(mean), float(std))


@dataclass(frozen=True)
class SetScore:
    """A score of a whole set of frames: ``fn(reference, test, device)``, both sets as :func:`fid` takes them."""

    column: Column
    fn: Callable[[Iterable[Tensor], Iterable[Tensor], str | torch.device], float]

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def digits(self) -> int:
        return self.column.digits

    @property
    def higher_is_better(self) -> bool:
        return self.column.better == "high"

    def require(self) -> None:
        """Raise :class:`MissingDependency` now if the network of this score cannot be had."""
        noise = [torch.rand(1, SPLITS, 3, 32, 32)]
        self.fn(noise, noise, "cpu")


SET_SCORES = {
    score.name: score
    for score in (
        SetScore(
            Column("fid", "distance of the decoded frames from those of the source", "FID", "", 2, "low"),
            lambda reference, test, device: fid(reference, test, device=device),
        ),
        SetScore(
            Column("inception_score", f"of the decoded frames, in {SPLITS} splits", "Inception Score", "", 3, "high"),
            lambda reference, test, device: inception_score(test, splits=SPLITS, device=device).mean,
        ),
    )
}


def _batches(clips: Iterable[Tensor]) -> Iterator[Tensor]:
    """Their frames, uint8 ``(B, 3, H, W)``."""
    for clip in clips:
        if clip.ndim != 5 or clip.shape[2] != 3:
            raise BadData(f"a clip of shape {tuple(clip.shape)} was given; expected (N, T, 3, H, W) in [0, 1]")
        # torchmetrics' own conversion cuts off what is behind the point: 102/255 would become 101
        frames = clip.detach().flatten(0, 1).mul(255).round().clamp(0, 255).to(torch.uint8)
        yield from torch.split(frames, BATCH)


@contextlib.contextmanager
def _torchmetrics(name: str, feature: object) -> Iterator[Any]:
    """The class ``name``; building it loads Inception, unless ``feature`` is a module that takes its place."""
    try:
        from torchmetrics import image
    except ImportError as error:
        raise MissingDependency(
            f"FID and Inception Score need torchmetrics, which cannot be imported here ({error}): "
            f"pip install torchmetrics torch-fidelity. {_where()}"
        ) from error

    def build(**options: Any) -> Any:
        if isinstance(feature, nn.Module):
            return getattr(image, name)(**options)
        if find_spec("torch_fidelity") is None:
            raise MissingDependency(f"Inception needs torch-fidelity: pip install torch-fidelity. {_where()}")
        try:
            INCEPTION.load()  # torch-fidelity loads the same file, and would run what is in it
        except WeightsError as error:
            raise MissingDependency(f"the Inception weights cannot be loaded ({error}). {_where()}") from error
        return getattr(image, name)(**options)

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `InceptionScore` will save all extracted features", UserWarning)
        warnings.filterwarnings("ignore", r"std\(\): degrees of freedom is <= 0", UserWarning)
        yield build


def _where() -> str:
    return f"The Inception weights are {INCEPTION.url}; without a network put them at {INCEPTION.cached}"
