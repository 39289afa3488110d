"""What every training does, whatever it trains: the loop over crops, averaged weights, checkpoints, logs, a card.

Choices that differ from the usual script:

* a step's crops depend on (seed, step) alone, so a resumed run sees what an uninterrupted one would have seen;
* weights are averaged (EMA) and the average, rounded as it will be stored, is what is validated and saved;
* learning rate: linear warm-up over 2 % of the steps, then a cosine down to 2 % of its peak, if not told else;
* a step whose loss or gradient is not finite changes no weights; fifty in a row stop the run with the last checkpoint
  kept, on a GPU when its numbers are next shown;
* Ctrl-C waits for the end of a step and writes a checkpoint; others follow the first step, as time passes and
  before a validation. No number depends on when: a checkpoint knows whether its step is still to be validated.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from robustcodec import weights
from robustcodec.clips import to_float
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.interfaces import Card
from robustcodec.registry import data
from robustcodec.training import checkpoints
from robustcodec.training.crops import Crops
from robustcodec.training.interruption import uninterrupted
from robustcodec.training.progress import Log, TrainingStatus
from robustcodec.training.recipe import Recipe
from robustcodec.training.recipe_file import command
from robustcodec.training.schedule import share_of_peak
from robustcodec.training.skipping import Skipping

SECONDS = 120.0  # from one checkpoint to the next; the first of a run is that of its first step
MAX_SKIPPED = 50
M = TypeVar("M", bound=nn.Module)
Seen = dict[str, float | Tensor]  # what is logged of a step; a tensor is a scalar, on the device until it is shown


class Diverged(RobustCodecError):
    """Too many steps in a row gave no finite gradient."""


def commands(card: Card) -> list[str]:
    """What trained the weights of ``card``, oldest first; empty where that is not known."""
    return [*card.training.get("parents", ()), *filter(None, [card.training.get("command")])]


class Loop(ABC, Generic[M]):
    """One training run in ``out``: ``checkpoint.pt`` (to resume), ``logs/`` (TensorBoard), then weights and card."""

    max_skipped = MAX_SKIPPED
    shown_every: ClassVar[int] = 20  # steps

    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model: M = self._build().to(self.device)
        self.main = self._trained()
        self.optimiser = torch.optim.Adam(self.main, lr=recipe.lr, fused=True)
        self.average = [p.detach().clone() for p in self.main]
        self.notes: list[str] = []  # of how it was set up
        self.step, self.skipping = 0, Skipping(self.device)
        self.checkpoint = 0  # the step of the last one
        self.validation: dict[str, float] = {}
        self.unjudged = False  # the weights of this step are still to be validated
        self._prepare()
        self._resume()

    # -- what a kind of training says of itself -----------------------------------------------------------------------

    @property
    @abstractmethod
    def card(self) -> Card:
        """Of the model before it was trained here."""

    @property
    def parents(self) -> list[Card]:
        """Of what the model begins with."""
        return [self.card]

    @abstractmethod
    def _build(self) -> M:
        """The model to train; parameters without ``requires_grad`` stay as they are."""

    @abstractmethod
    def _update(self, x: Tensor, detailed: bool) -> Seen:
        """One step on clips ``x``; returns what to log, all there is if ``detailed``. Reads no value of the device."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores of the averaged weights on the validation set; empty without one."""

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
    def remarks(self) -> list[str]:
        """What a reader of the card must know about this run."""
        return self.notes

    replays = 1  # steps in a row that train on one batch
    stopped = False  # before the last step

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self.card.family}.{self.recipe.name}.safetensors"

    def run(
        self,
        on_progress: Callable[[TrainingStatus], None] = lambda status: None,
        on_note: Callable[[str], None] = lambda note: None,
        every: int | None = None,
        workers: int = 0,
    ) -> Path:
        """Train to the last step, write weights and card, and return the weights' path.

        ``on_note`` is told what happens beside the plan, ``on_progress`` of every ``every``-th step and of those that
        validate or are saved. ``workers``: processes that read training data (with ``sampling="uniform"``); no number
        depends on it.
        """
        r = self.recipe
        samples = [s for spec in r.data for s in data.build(spec).samples()]
        shape, late = r.shapes
        start = r.late_start // self.replays
        crops = Crops(samples, shape, r.seed, r.sampling, (start, late) if r.late_start < r.steps else None)
        self._begin()
        self._next_save = -math.inf
        with Log(self.out / "logs", self.step, r.steps, on_progress) as log:
            try:
                while (self.step < r.steps or self.unjudged) and not self.stopped:
                    try:
                        if self.unjudged:
                            self._judge(log)
                        else:
                            self._stretch(crops, log, every or self.shown_every, workers)
                    except Diverged as error:
                        on_note(self._recover(error))
            except KeyboardInterrupt:
                if self.step != self.checkpoint:
                    self._save()
                raise
        self._end(on_note)
        return self.export()

    def _stretch(self, crops: Crops, log: Log, every: int, workers: int) -> None:
        """The steps that are left, as far as nothing diverges or stops them."""
        r = self.recipe
        first = self.step // self.replays
        for index, batch in enumerate(crops.stream(first, -(-r.steps // self.replays), workers), first):
            x = to_float(batch.to(self.device))
            for _ in range(self.step, min(r.steps, (index + 1) * self.replays)):
                shown = (self.step + 1) % every == 0
                milestone = (self.step + 1) % r.validate_every == 0 or self.step + 1 == r.steps
                with uninterrupted():
                    seen = self._update(x, detailed=shown)
                    if shown or milestone or self.device.type == "cpu":  # there nobody waits
                        self._check()
                    self.step += 1
                if milestone:
                    self.unjudged = True
                    self._save()
                    self._judge(log)
                elif saving := self._save_is_due():
                    self._save()
                if milestone or saving or shown:
                    values = {name: float(value) for name, value in seen.items()}
                    log.show(self.step, values, self.validation, self.checkpoint)
                if self.stopped:
                    return

    def _begin(self) -> None:
        """Called before the first step of a run."""

    def _judge(self, log: Log) -> None:
        """Validate the weights of this step."""
        self._milestone()
        log.write("validation", self.step, self.validation)

    def _milestone(self) -> None:
        self.validation = self.validate()
        self.unjudged = False

    def _recover(self, error: Diverged) -> str:
        """Go back to where training can go on; returns what happened."""
        raise error

    def _end(self, on_note: Callable[[str], None]) -> None:
        """Called after the last step of a run."""
        if not self.validation:  # resumed after the last step
            self.validation = self.validate()

    def export(self) -> Path:
        """Write the averaged weights and their card; returns the weights' path."""
        with self._averaged():
            weights.save(self.weights_path, self._stored(), self._facts(), self.recipe.storage)
        return self.weights_path

    def _facts(self) -> dict[str, Any]:
        """The card of what is exported."""
        card, r = self.card, self.recipe
        settings = {k: v for k, v in asdict(r).items() if k != "name" and k not in r.unused}
        return {
            "name": f"{card.family}.{r.name}",
            "family": card.family,
            "licence": "BSD-3-Clause",
            "paper": card.paper,
            "architecture": card.architecture,
            "training": {
                **settings,
                "parents": [c for parent in self.parents for c in commands(parent)],  # what made its beginning
                "command": command(r),
                "torch": version("torch"),
                "notes": self.remarks,
                "validation": {k: round(v, 4) for k, v in self.validation.items()},
            },
        }

    def _set_rate(self, peak: float) -> Seen:
        """The learning rate of this step, set and to be logged."""
        lr = peak * share_of_peak(self.recipe, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return {"lr": lr}

    def _descend(self, loss: Tensor, measured: dict[str, Tensor], terms: dict[str, Tensor]) -> Seen:
        """One step of the optimisers down ``loss``; returns it, the gradient's norm and the other two for the log."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.main, self.recipe.clip)
        losses = {"loss": loss, **measured, "gradient": norm} | {f"loss_{name}": term for name, term in terms.items()}
        self.skipping.judge(losses.values(), self.optimiser)
        self.optimiser.step()
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.main], 1 - decay)
        self._descended()
        return {name: value.detach() for name, value in losses.items()}

    def _check(self) -> int:
        """How many of the last steps in a row were skipped; raises :class:`Diverged` for too many."""
        skipped = self.skipping.look()
        if skipped >= self.max_skipped:
            raise Diverged(
                f"training diverged: {skipped} steps in a row gave no finite gradient, the last at step "
                f"{self.step}; a checkpoint in {self.out} is from before. Try a smaller --lr or --precision float32"
            )
        return skipped

    def _descended(self) -> None:
        """Called after every step of the optimiser."""

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights, rounded as they are stored, ready to use."""
        own = [p.detach().clone() for p in self.model.parameters()]
        try:
            with torch.no_grad():
                for p, mean in zip(self.main, self.average, strict=True):
                    p.copy_(mean)
            self._round()
            self.model.eval()
            self._refresh()
            self._round()  # what that has moved
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.model.parameters(), own, strict=True):
                    p.copy_(value)

    @torch.no_grad()
    def _round(self) -> None:
        for p in self.model.parameters():
            p.copy_(weights.rounded(p, self.recipe.storage))

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

    def _save(self) -> None:
        """Write a checkpoint."""
        checkpoints.write(self.checkpoint_path, self._state())
        self.checkpoint, self._next_save = self.step, perf_counter() + SECONDS

    def _save_is_due(self) -> bool:
        return perf_counter() >= self._next_save and not self._check()

    def _state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "recipe": _as_json(self.recipe),
            "step": self.step,
            "unjudged": self.unjudged,
            "skipped": self.skipping.look(),
            "codec": self._network_state(),  # whatever the model is: checkpoints of codecs had it first
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def _resume(self) -> None:
        if self.checkpoint_path.is_file():
            state = checkpoints.read(self.checkpoint_path, self.device)
            with checkpoints.believed(self.checkpoint_path):
                self._restore(state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`_state` gave; raises :class:`UserError` if that was another run."""
        usual = {f.name: f.default for f in fields(self.recipe) if f.default is not MISSING}
        old = usual | json.loads(state["recipe"])  # from before a setting existed, it was as it is by default
        new = json.loads(_as_json(self.recipe))
        if changed := ", ".join(f"{k}: {old[k]} → {new[k]}" for k in new if old[k] != new[k]):
            raise UserError(f"{self.out} holds another training run ({changed}); give another --out or remove it")
        tensors = self._network_state()
        with torch.no_grad():
            for name, value in state["codec"].items():
                tensors[name].copy_(value)
        self.average = state["average"]
        for group in state["optimiser"]["param_groups"]:
            group["fused"] = True  # checkpoints from before it was say otherwise
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"].cpu())
        self.step = self.checkpoint = int(state["step"])
        self.unjudged = bool(state.get("unjudged"))  # checkpoints from before it was do not say
        self.skipping.start(int(state.get("skipped", 0)))


def _as_json(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), sort_keys=True)
