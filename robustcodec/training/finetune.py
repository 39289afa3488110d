"""Adversarial finetuning: a trained codec learns from inputs crafted against it, and is measured under attack.

After Chen & Ma, TCSVT 2023 (https://arxiv.org/abs/2112.08691), with other losses (:class:`FinetuneRecipe`). Per step:
an attack on a frozen copy of the current weights in eval mode, then one update in train mode. What differs from theirs:

* targets, budgets and inner attacks are those of the rest of the package; a budget is per sample;
* every ``validate_every`` steps the averaged weights, rounded as a checkpoint stores them, code validation clips to
  real bytes, clean and attacked at a fixed budget; the best weights are kept, by λ·D + β·R of both kinds of clips;
* where weights or scores diverge, training goes back to the last validation and on with a lower learning rate;
* tables are refreshed, so that the result writes streams; with ``freeze="decoder"`` nothing of the decoder changes.

``free`` is free adversarial training (Shafahi et al., 2019, https://arxiv.org/abs/1904.12843): a batch is replayed, and
its perturbation takes the steepest step along the gradient that each update has anyway.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcodec import weights
from robustcodec.errors import RobustCodecError, StreamError, UserError
from robustcodec.interfaces import Attack, Card, Codec, Draws, Objective, Threat
from robustcodec.registry import attacks, codecs, objectives, threats
from robustcodec.rounding import rounding
from robustcodec.training.codec import Trainer, distortion
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.loop import Diverged, Seen
from robustcodec.training.recipe_file import RecipeFile, command
from robustcodec.training.robust_terms import Shrunk, TrainingOutput, freeze, loss_terms, still
from robustcodec.training.validation import Validator, craft, seeds

MAX_ROLLBACKS, LOWER = 4, 0.5  # times, and what each does to the learning rate
RUINED = 4.0  # times the score of the codec that was started from
INHERITED = (
    "lmbda", "metric", "beta", "rate_unit", "frames", "rho", "gan", "discriminators", "discriminator_lr",
    "discriminator_steps", "n_critic", "gamma", "feature", "feature_layer",
)  # fmt: skip


def inherited(card: Card) -> dict[str, Any]:
    """What a finetune of a codec takes from its card where nothing else is given; its tag becomes ``TAG-at``."""
    settings = {key: card.training[key] for key in INHERITED if key in card.training}
    tag = card.name.removeprefix(f"{card.family}.")
    return {"name": f"{tag}-at", "validate": "clips:frames=8" if card.kind == "video" else "photos", **settings}


def read_recipes(file: RecipeFile[FinetuneRecipe], given: dict[str, Any]) -> list[FinetuneRecipe]:
    """Recipes of a file (``given`` comes before it), completed from the card of the codec that they start from.

    ``codec`` may be the path of a checkpoint. Raises :class:`UserError` for what is missing or wrong.
    """
    start = {**file.settings, **given}.get("codec")
    if start is None:
        raise UserError("no codec to start from; give its name, such as bmshj2018-hyperprior.tiny-q2, or a path")
    if start.endswith(".safetensors") and ":" not in start:
        start = f"{weights.read_card(Path(start))['family']}:weights={start}"
    settings = inherited(codecs.build(start).card) | file.settings
    if "lmbda" not in settings | given:
        raise UserError(f"the card of {start} does not say for which λ it was trained; give --lmbda")
    return RecipeFile(settings, file.variants, file.seeds, FinetuneRecipe).recipes({**given, "codec": start})


class Finetuner(Trainer):
    """One finetune in ``out``, as :class:`Trainer`: the same recipe in the same folder resumes."""

    recipe: FinetuneRecipe
    max_skipped = 5
    shown_every = 10

    def __init__(self, recipe: FinetuneRecipe, out: Path, device: str = "cpu") -> None:
        self.attack: Attack = attacks.build(recipe.attack)
        self.objective: Objective = objectives.build(recipe.objective)
        self.threat: Threat = threats.build(recipe.threat)
        self.validator = Validator(recipe, torch.device(device))
        self.before: dict[str, float] = {}  # how the codec that was started from validates
        self.best: dict[str, Tensor] | None = None
        self.best_scores: dict[str, float] = {}
        self.best_step, self.stale = 0, 0
        self.rollbacks: list[str] = []
        self.delta: Tensor | None = None  # of a batch that is replayed
        self._judged: dict[str, Any] | None = None  # the state that was validated last, to which a rollback goes
        super().__init__(recipe, out, device)

    def _build(self) -> Codec:
        codec = super()._build()
        freeze(codec, self.recipe.freeze)
        return codec

    # -- the loop ---------------------------------------------------------------------------------------------------

    @property
    def remarks(self) -> list[str]:
        return [*self.notes, *self.rollbacks]

    @property
    def replays(self) -> int:  # type: ignore[override]
        return max(1, self.recipe.free)

    def _begin(self) -> None:
        if not self.before:
            self.validation = self.before = self.validate()
            self._remember()

    def _milestone(self) -> None:
        codec, scores = self._validated()
        self._keep(codec, scores)
        self.unjudged = False
        self._remember()

    def _remember(self) -> None:
        """Keep this state, which has been validated, as one to go back to."""
        self._judged = copy.deepcopy(self._own_state())
        self._save()

    def _recover(self, error: Diverged) -> str:
        """Return to the weights that were validated last, with a lower learning rate."""
        step, rollbacks = self.step, self.rollbacks
        assert self._judged is not None, "those that it began with were"
        self._restore(copy.deepcopy(self._judged))
        self.skipping.start()
        reason, factor = str(error).split(";")[0], LOWER ** (len(rollbacks) + 1)
        note = f"{reason}; rolled back from step {step} to {self.step}, learning rate × {factor:g}"
        self.rollbacks = [*rollbacks, note]
        self._save()
        return note

    def _end(self, on_note: Callable[[str], None]) -> None:
        """Raises :class:`RobustCodecError` if training diverged before any weights were worth keeping."""
        if self.best is None:
            raise RobustCodecError(
                f"{self.rollbacks[-1]}; no weights are worth keeping. Try a smaller --lr or --threat"
            )
        if self.stopped:
            on_note(f"stopped at step {self.step}; the best weights are those of step {self.best_step}")

    @property
    def stopped(self) -> bool:  # type: ignore[override]
        return len(self.rollbacks) > MAX_ROLLBACKS or 0 < self.recipe.patience <= self.stale

    def _keep(self, codec: Codec, scores: dict[str, float]) -> None:
        """Remember the weights of ``codec``, which ``scores`` belong to, if none were better."""
        self.validation = scores
        alone = self.recipe.discriminator_steps if self.adversary else 0
        if self.step <= alone and self.step < self.recipe.steps:
            return  # the codec is still what it was
        if scores["score"] < self.best_scores.get("score", math.inf):
            self.best = {k: v.detach().clone() for k, v in codec.state().items()}
            self.best_scores, self.best_step, self.stale = scores, self.step, 0
        else:
            self.stale += 1

    # -- one step ---------------------------------------------------------------------------------------------------

    def _update(self, x: Tensor, detailed: bool) -> Seen:
        """One step on clips ``x``; returns what to log."""
        r = self.recipe
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=r.precision == "bfloat16")
        seen = self._set_rate(r.lr * LOWER ** len(self.rollbacks))
        if self.adversary is not None and not self.adversary.decoder_turn(self.step):
            with torch.no_grad():
                return seen | self.adversary_step(x, self._code(x, half), half)
        threat = Shrunk.ramp(self.threat, (self.step + 1) / (r.ramp * r.steps)) if r.ramp else self.threat
        x_adv = self._replayed(x, threat) if r.free else self._crafted(x, threat)
        x_adv.requires_grad_(bool(r.free or r.gradient_penalty))
        attacked = self._code(x_adv, half)
        clean = self._code(x, half) if r.adversarial < 1 or r.compares else None
        if self.adversary is not None:
            seen |= self.adversary_step(x, clean or attacked, half)

        def others(target: Tensor, x_hat: Tensor) -> Tensor:
            return sum(self._other_terms(target, x_hat, half).values(), torch.zeros((), device=x.device))

        def rate(bits: Tensor) -> Tensor:
            return r.beta * self._rate(bits.sum() / (x.numel() / 3))

        terms = loss_terms(r, x, x_adv, clean, attacked, threat, rate, others)
        shown = clean or attacked
        measured = {"bpp": shown.bits.sum() / (x.numel() / 3), "distortion": distortion(r.metric, x, shown.x_hat)}
        seen |= self._descend(torch.stack(list(terms.values())).sum(), measured, terms)
        if r.free and x_adv.grad is not None:
            further = x_adv.detach() + threat.steepest(x_adv.grad, x)
            self.delta = (threat.project(further, x) - x).nan_to_num()
        return seen

    def adversary_step(self, x: Tensor, coded: TrainingOutput, half: torch.autocast) -> Seen:
        """One step of the discriminators, if the codec has adversarial distortion."""
        assert self.adversary is not None, "asked for only with a GAN form"
        with torch.enable_grad():
            return self.adversary.train(x, coded.x_hat, half)

    def _code(self, x: Tensor, half: torch.autocast) -> TrainingOutput:
        """``x`` through the codec in train mode, latents rounded as the recipe says."""
        self.codec.train()
        for norm in still(self.codec):
            norm.eval()
        own = self.codec.training_surrogate
        chosen = own if self.recipe.rounding == "own" else self.recipe.rounding
        with rounding(chosen), half:
            out = self.codec(x)
            x_hat, latents = out.x_hat, out.latents if self.recipe.lipschitz else []
            if chosen == own:
                return TrainingOutput(x_hat, out.bits, latents)
        with rounding(own), half:
            return TrainingOutput(x_hat, self.codec(x).bits, latents)

    def _crafted(self, x: Tensor, threat: Threat) -> Tensor:
        """Adversarial versions of ``x`` for the weights of this step."""
        victim = copy.deepcopy(self.codec).eval().requires_grad_(False)
        return craft(
            victim, self.attack, self.objective, threat, x, (self.recipe.seed, self.step), self.recipe.precision
        )

    def _replayed(self, x: Tensor, threat: Threat) -> Tensor:
        """``x`` with the perturbation that earlier updates left; random at first."""
        if self.delta is None:
            return threat.random_start(x, Draws(seeds(len(x), self.recipe.seed, 0))).to(x.dtype).clone()
        return threat.project(x + self.delta, x).to(x.dtype).clone()

    # -- what is measured and kept ------------------------------------------------------------------------------------

    def candidate(self) -> Codec:
        """A copy with the averaged weights, rounded as a checkpoint stores them, ready to code.

        A copy, because a codec that has coded keeps tables and exact twins of the weights that it had then. Raises
        :class:`Diverged` for weights that are not worth any tables, which may take minutes and gigabytes.
        """
        codec = copy.deepcopy(self.codec)
        means = {id(p): mean for p, mean in zip(self.main, self.average, strict=True)}
        with torch.no_grad():
            for p, own in zip(codec.parameters(), self.codec.parameters(), strict=True):
                p.copy_(weights.rounded(means.get(id(own), own), self.recipe.storage))
        codec.eval().requires_grad_(False)
        if self.before:
            errors = [distortion(self.recipe.metric, x, codec(x).x_hat) for x in self.validator.clips]
            self._judge_health(self.recipe.lmbda * float(sum(errors)) / len(errors))
        if self.recipe.freeze != "decoder":  # there they are what they were, to the bit
            codec.refresh()
        return codec

    def validate(self) -> dict[str, float]:
        """:meth:`Validator.scores` of the averaged weights; raises :class:`Diverged` if they are ruined."""
        return self._validated()[1]

    def _validated(self) -> tuple[Codec, dict[str, float]]:
        """:meth:`candidate` and its scores."""
        with torch.random.fork_rng(devices=[]):  # the random state of training goes on as if nothing had happened
            torch.manual_seed(self.recipe.seed)
            try:
                codec = self.candidate()
                scores = self.validator.scores(codec)
            except StreamError as error:
                raise Diverged(f"training diverged: at step {self.step} streams do not decode ({error})") from None
        if self.before:
            self._judge_health(scores["score"])
        return codec, scores

    def _judge_health(self, loss: float) -> None:
        before = self.before["score"]
        if not loss < RUINED * before:
            raise Diverged(
                f"training diverged: at step {self.step} λ·D + β·R of the validation clips is at least {loss:.3g}, "
                f"and was {before:.3g}"
            )

    def export(self) -> Path:
        """Write the best weights and their card; returns the weights' path."""
        assert self.best is not None, "run() validates before it exports"
        weights.save(self.weights_path, self.best, self._facts(), self.recipe.storage)
        return self.weights_path

    def _facts(self) -> dict[str, Any]:
        facts, card = super()._facts(), self.codec.card

        def rounded(scores: dict[str, float]) -> dict[str, float]:
            return {k: round(v, 4) for k, v in scores.items() if math.isfinite(v)}  # no MS-SSIM of small clips

        facts["licence"] = card.licence or facts["licence"]
        facts["training"] |= {
            "command": command(self.recipe, inherited(card)),
            "best_step": self.best_step,
            "parent": {"name": card.name, "sha256": card.sha256, "validation": rounded(self.before)},
            "validation": rounded(self.best_scores),
        }
        return facts

    def _state(self) -> dict[str, Any]:
        return {**self._own_state(), "judged": self._judged}

    def _own_state(self) -> dict[str, Any]:
        own = ("before", "validation", "best", "best_scores", "best_step", "stale", "rollbacks", "delta")
        return {**super()._state(), "finetune": {key: getattr(self, key) for key in own}}

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        for key, value in state["finetune"].items():
            setattr(self, key, value)
        if "judged" in state:
            self._judged = state["judged"]
        elif self._judged is None:  # from before checkpoints were written between validations
            self._judged = copy.deepcopy(state)
