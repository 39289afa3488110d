"""What every training does, whatever it trains: the loop over crops, averaged weights, checkpoints, logs, a card.

Choices that differ from the usual script:

* a step's crops depend on (seed, step) alone, so a resumed run sees what an uninterrupted one would have seen;
* weights are averaged (EMA) and the average is what is validated, measured and saved;
* learning rate: linear warm-up over 2 % of the steps, then a cosine down to 2 % of its peak;
* a step whose loss or gradient is not finite is skipped; fifty in a row stop the run with the last checkpoint kept.
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from robustcodec import weights
from robustcodec.clips import to_float
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.files import whole
from robustcodec.registry import data
from robustcodec.training.crops import Crops, CropShape
from robustcodec.training.recipe import Recipe

WARM_UP, FINAL_RATE = 0.02, 0.02  # of the steps, of the peak learning rate
MAX_SKIPPED = 50
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Progress:
    """What a display needs about a moment of training. Rates in bpp, distortion as the metric's loss; NaN if none."""

    step: int
    steps: int
    loss: float
    bpp: float
    distortion: float
    lr: float
    steps_per_second: float
    validation: dict[str, float]


class Diverged(RobustCodecError):
    """Too many steps in a row gave no finite gradient."""


class Loop(ABC, Generic[M]):
    """One training run in ``out``: ``checkpoint.pt`` (to resume), ``logs/`` (TensorBoard), then weights and card."""

    max_skipped = MAX_SKIPPED

    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model: M = self._build().to(self.device)
        self.main = self._trained()
        self.optimiser = torch.optim.Adam(self.main, lr=recipe.lr)
        self.average = [p.detach().clone() for p in self.main]
        self.notes: list[str] = []  # what the card must say about this run
        self.step, self.skipped = 0, 0
        self.validation: dict[str, float] = {}
        self._prepare()
        self._resume()

    # -- what a kind of training says of itself -----------------------------------------------------------------------

    @property
    @abstractmethod
    def family(self) -> str:
        """What the weights' file is called before its tag."""

    @abstractmethod
    def _build(self) -> M:
        """The model to train; parameters without ``requires_grad`` stay as they are."""

    @abstractmethod
    def _update(self, x: Tensor, detailed: bool) -> dict[str, float]:
        """One step on clips ``x``; returns what to log, all there is if ``detailed``."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores of the averaged weights on the validation set; empty without one."""

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """The card of what is exported."""

    def _trained(self) -> list[nn.Parameter]:
        """The parameters that the loss trains."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def _prepare(self) -> None:
        """Make what else takes part in training, before a checkpoint is read."""

    def _stored(self) -> dict[str, Tensor]:
        """What a checkpoint of the model stores."""
        return dict(self.model.state_dict())

    def _refresh(self) -> None:
        """Rebuild what the model derives from its weights."""

    # -- the loop -----------------------------------------------------------------------------------------------------

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self.family}.{self.recipe.name}.safetensors"

    def run(
        self,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        every: int = 20,
        checkpoint_every: int = 500,
        workers: int = 0,
    ) -> Path:
        """Train to the last step, write weights and card, and return the weights' path.

        ``workers``: processes that read training data (with ``sampling="uniform"``); no number depends on it.
        """
        from torch.utils.tensorboard import SummaryWriter

        r = self.recipe
        samples = [s for spec in r.data for s in data.build(spec).samples()]
        crops = Crops(samples, CropShape(r.batch, r.frames, r.crop), r.seed, r.sampling)
        logs = SummaryWriter(str(self.out / "logs"), purge_step=self.step)
        started, first = perf_counter(), self.step
        try:
            for batch in crops.stream(self.step, r.steps, workers):
                show = (self.step + 1) % every == 0
                seen = self._update(to_float(batch.to(self.device)), detailed=show)
                self.step += 1
                due = self.step % checkpoint_every == 0 or self.step == r.steps
                if due:
                    self._checkpoint()
                    self.validation = self.validate()
                    for key, value in self.validation.items():
                        logs.add_scalar(f"validation/{key}", value, self.step)
                if self.step % every == 0 or due:
                    rate = (self.step - first) / (perf_counter() - started)
                    for key, value in seen.items():
                        logs.add_scalar(f"train/{key}", value, self.step)
                    moment = {k: seen.get(k, math.nan) for k in ("loss", "bpp", "distortion", "lr")}
                    on_progress(
                        Progress(self.step, r.steps, **moment, steps_per_second=rate, validation=self.validation)
                    )
        finally:
            logs.close()
        if not self.validation:  # resumed after the last step
            self.validation = self.validate()
        return self.export()

    def export(self) -> Path:
        """Write the averaged weights (float16) and their card; returns the weights' path."""
        with self._averaged(half=True):
            weights.save(self.weights_path, self._stored(), self._facts())
        return self.weights_path

    def _set_rate(self, peak: float) -> dict[str, float]:
        """The learning rate of this step, set and to be logged."""
        r = self.recipe
        lr = peak * (_cosine(self.step, r.steps) if r.schedule == "cosine" else 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return {"lr": lr}

    def _descend(self, loss: Tensor, measured: dict[str, Tensor], terms: dict[str, Tensor]) -> dict[str, float]:
        """One step of the optimisers down ``loss``; returns it, the gradient's norm and the other two for the log."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.main, self.recipe.clip)
        losses = {"loss": loss, **measured, "gradient": norm} | {f"loss_{name}": term for name, term in terms.items()}
        seen = {name: float(value.detach()) for name, value in losses.items()}
        if not all(map(math.isfinite, seen.values())):
            self.skipped += 1
            if self.skipped >= self.max_skipped:
                raise Diverged(
                    f"training diverged: {self.max_skipped} steps in a row gave no finite gradient, the last at step "
                    f"{self.step}; a checkpoint in {self.out} is from before. Try a smaller --lr or --precision float32"
                )
            return seen
        self.skipped = 0
        self.optimiser.step()
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.main], 1 - decay)
        self._descended()
        return seen

    def _descended(self) -> None:
        """Called after every step of the optimiser."""

    @contextmanager
    def _averaged(self, half: bool = False) -> Iterator[None]:
        """Inside, the model holds the averaged weights (rounded as they are stored if ``half``), ready to use."""
        state = copy.deepcopy(self.model.state_dict())
        with torch.no_grad():
            for p, mean in zip(self.main, self.average, strict=True):
                p.copy_(mean)
            for p in self.model.parameters() if half else []:
                p.copy_(p.half())
        self.model.eval()
        self._refresh()
        try:
            yield
        finally:
            parameters = dict(self.model.named_parameters())
            with torch.no_grad():
                for name, p in parameters.items():
                    p.copy_(state[name])

    # -- resuming -----------------------------------------------------------------------------------------------------

    def _network_state(self) -> dict[str, Tensor]:
        """Parameters, and the running statistics of batch norms."""
        statistics = {
            f"{name}.{key}": value
            for name, module in self.model.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            for key, value in module.named_buffers()
        }
        return {**dict(self.model.named_parameters()), **statistics}

    def _checkpoint(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with whole(self.out / "checkpoint.pt") as partial:
            torch.save(self._state(), partial)

    def _state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "recipe": _as_json(self.recipe),
            "step": self.step,
            "codec": self._network_state(),  # whatever the model is: checkpoints of codecs had it first
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if path.is_file():
            self._restore(torch.load(path, map_location=self.device, weights_only=True))

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`_state` gave; raises :class:`UserError` if that was another run."""
        old, new = ({**asdict(self.recipe), **json.loads(text)} for text in (state["recipe"], _as_json(self.recipe)))
        if changed := ", ".join(f"{k}: {old[k]} → {new[k]}" for k in new if old[k] != new[k]):
            raise UserError(f"{self.out} holds another training run ({changed}); give another --out or remove it")
        tensors = self._network_state()
        with torch.no_grad():
            for name, value in state["codec"].items():
                tensors[name].copy_(value)
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"].cpu())
        self.step = int(state["step"])


def _as_json(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), sort_keys=True)


def _cosine(step: int, steps: int) -> float:
    """Share of the peak learning rate at ``step``."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine
