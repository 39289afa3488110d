"""Training of codecs: rate and distortion, with feature and adversarial terms if the recipe has them.

Choices that differ from the usual script:

* a step's crops depend on (seed, step) alone, so a resumed run sees what an uninterrupted one would have seen;
* weights are averaged (EMA) and the average is what is validated, measured and saved;
* learning rate: linear warm-up over 2 % of the steps, then a cosine down to 2 % of its peak;
* bfloat16 is for convolutions only; likelihoods, hyper-decoder and losses stay float32;
* a step whose loss or gradient is not finite is skipped; fifty in a row stop the run with the last checkpoint kept.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from robustcodec import weights
from robustcodec.adversary import Adversary
from robustcodec.crops import Crops, CropShape
from robustcodec.data import centre_crop, to_float
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.features import FeatureLoss, LpipsLoss, feature_loss
from robustcodec.files import whole
from robustcodec.interfaces import Codec
from robustcodec.metrics import Net
from robustcodec.recipe import Distortion, Recipe, command
from robustcodec.registry import codecs, data
from robustcodec.rounding import rounding

WARM_UP, FINAL_RATE = 0.02, 0.02  # of the steps, of the peak learning rate
MAX_SKIPPED = 50
LPIPS_NETS: dict[str, Net] = {"lpips-alex": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}


@dataclass(frozen=True)
class Progress:
    """What a display needs about a moment of training. Rates in bpp, distortion as the metric's loss."""

    step: int
    steps: int
    loss: float
    bpp: float
    distortion: float
    lr: float
    steps_per_second: float
    validation: dict[str, float]


def distortion(metric: Distortion, x: Tensor, x_hat: Tensor) -> Tensor:
    """Unweighted distortion of clips: MSE or mean absolute difference of 8-bit levels, or 1 − MS-SSIM of frames."""
    if metric == "mse":
        return 255**2 * (x_hat - x).square().mean()
    if metric == "l1":
        return 255 * (x_hat - x).abs().mean()
    from pytorch_msssim import ms_ssim

    return 1 - ms_ssim(x_hat.flatten(0, 1), x.flatten(0, 1), data_range=1.0)  # type: ignore[no-any-return]


class Diverged(RobustCodecError):
    """Too many steps in a row gave no finite gradient."""


class Trainer:
    """One training run in ``out``: ``checkpoint.pt`` (to resume), ``logs/`` (TensorBoard), then weights and card."""

    max_skipped = MAX_SKIPPED

    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.codec: Codec = self._build().to(self.device)
        aux = [p for p in self.codec.aux_parameters() if p.requires_grad]
        main = [p for p in self.codec.parameters() if p.requires_grad and all(p is not a for a in aux)]
        self.optimiser = torch.optim.Adam(main, lr=recipe.lr)
        self.aux_optimiser = torch.optim.Adam(aux, lr=recipe.aux_lr) if aux else None
        self.main = main
        self.average = [p.detach().clone() for p in main]
        self.notes: list[str] = []  # what the card must say about this run
        self.features = self._feature_term()
        self.adversary = self._adversary()
        self.step, self.skipped = 0, 0
        self.validation: dict[str, float] = {}
        self._resume()

    def _build(self) -> Codec:
        """The codec to train; parameters without ``requires_grad`` stay as they are."""
        codec: Codec = codecs.build(self.recipe.codec)
        if not codec.differentiable:
            raise UserError(f"{self.recipe.codec} has nothing to train; give a learned codec")
        return codec

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self.codec.card.family}.{self.recipe.name}.safetensors"

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

    def validate(self) -> dict[str, float]:
        """Real bytes and distortion of the averaged weights on the validation set; empty without one."""
        if self.recipe.validate is None:
            return {}
        clips = [centre_crop(s.load(), 256) for s in data.build(self.recipe.validate).samples()[:8]]
        with self._averaged():
            scores = [measure(self.codec, to_float(c)[None].to(self.device)) for c in clips]
        return {k: sum(s[k] for s in scores) / len(scores) for k in scores[0]}

    def export(self) -> Path:
        """Write the averaged weights (float16) and their card; returns the weights' path."""
        with self._averaged(half=True):
            weights.save(self.weights_path, self.codec.state(), self._facts())
        return self.weights_path

    def _facts(self) -> dict[str, Any]:
        """The card of what is exported."""
        from importlib.metadata import version

        recipe = {k: v for k, v in asdict(self.recipe).items() if k != "name"}
        card = self.codec.card
        before = [*card.training.get("parents", ()), *filter(None, [card.training.get("command")])]
        return {
            "name": f"{card.family}.{self.recipe.name}",
            "family": card.family,
            "licence": "BSD-3-Clause",
            "paper": card.paper,
            "architecture": card.architecture,
            "training": {
                **recipe,
                "parents": before,  # commands that trained what this run started from, oldest first
                "command": command(self.recipe),
                "torch": version("torch"),
                "notes": self.notes,
                "validation": {k: round(v, 4) for k, v in self.validation.items()},
            },
        }

    def _update(self, x: Tensor, detailed: bool) -> dict[str, float]:
        """One step on clips ``x``; returns what to log, the norms of the terms' gradients only if ``detailed``."""
        r = self.recipe
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=r.precision == "bfloat16")
        seen = self._set_rate(r.lr)
        self.codec.train()
        turn = self.adversary is None or self.adversary.decoder_turn(self.step)
        with torch.set_grad_enabled(turn), rounding(self.codec.training_surrogate), half:
            out = self.codec(x)
            x_hat, bits = out.x_hat, out.bits
        if self.adversary is not None:
            seen |= self.adversary.train(x, x_hat, half)
        if turn:
            seen |= self._update_codec(x, x_hat, bits, half, detailed)
        return seen

    def _set_rate(self, peak: float) -> dict[str, float]:
        """The learning rate of this step, set and to be logged."""
        r = self.recipe
        lr = peak * (_cosine(self.step, r.steps) if r.schedule == "cosine" else 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return {"lr": lr}

    def _update_codec(
        self, x: Tensor, x_hat: Tensor, bits: Tensor, half: torch.autocast, detailed: bool
    ) -> dict[str, float]:
        r = self.recipe
        bpp = bits.sum() / (x.numel() / 3)
        dist = distortion(r.metric, x, x_hat)  # in float32: MS-SSIM subtracts squares that nearly cancel
        terms = {"pixel": r.lmbda * dist, **self._other_terms(x, x_hat, half)}
        seen = {}
        if detailed and len(terms) > 1:
            for name, term in terms.items():
                (slope,) = torch.autograd.grad(term, x_hat, retain_graph=True)
                seen[f"gradient_{name}"] = float(slope.norm())
        warm = min(1.0, self.step / (r.rate_warmup * r.steps)) if r.rate_warmup else 1.0
        loss = warm * r.beta * self._rate(bpp) + torch.stack(list(terms.values())).sum()
        return seen | self._descend(loss, {"bpp": bpp, "distortion": dist}, terms)

    def _other_terms(self, x: Tensor, x_hat: Tensor, half: torch.autocast) -> dict[str, Tensor]:
        """Weighted feature and adversarial losses of a reconstruction ``x_hat`` of ``x``, those that the recipe has."""
        terms = {}
        if self.features is not None:
            terms["feature"] = self.recipe.gamma * self.features(x, x_hat)  # bfloat16 would move it by several percent
        if self.adversary is not None:
            terms["adversarial"] = self.recipe.rho * self.adversary.loss(x, x_hat, half)
        return terms

    def _rate(self, bpp: Tensor) -> Tensor:
        """The rate in the recipe's unit."""
        return bpp if self.recipe.rate_unit == "bpp" else bpp / self._symbols_per_pixel

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
        if self.aux_optimiser is not None and (aux := self.codec.aux_loss()) is not None:
            self.aux_optimiser.zero_grad()
            aux.backward()  # type: ignore[no-untyped-call]
            self.aux_optimiser.step()
        return seen

    @property
    def _symbols_per_pixel(self) -> float:
        if self.codec.symbols_per_pixel is None:
            raise UserError(f"{self.recipe.codec} codes no discrete symbols; give --rate-unit bpp")
        return self.codec.symbols_per_pixel

    def _feature_term(self) -> torch.nn.Module | None:
        r = self.recipe
        if r.gamma == 0:
            return None
        with self._noted():
            term: FeatureLoss | LpipsLoss | None
            if r.feature == "vgg19":
                term = feature_loss(r.vgg_weights, r.feature_layer)
            else:
                term = LpipsLoss(LPIPS_NETS[r.feature])
        self.notes += [] if term is None else [f"feature term: {term.origin}"]
        return None if term is None else term.to(self.device)

    def _adversary(self) -> Adversary | None:
        r = self.recipe
        if r.gan is None:
            return None
        with self._noted():
            pair = Adversary(r, self.device)
        self.notes.append(f"frame discriminator: {pair.origin}")
        return pair

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Warnings inside go into the card as well."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            self.notes.append(str(warning.message))
            warnings.warn(warning.message, stacklevel=3)

    @contextmanager
    def _averaged(self, half: bool = False) -> Iterator[None]:
        """Inside, the codec holds the averaged weights (rounded as they are stored if ``half``), ready to code."""
        state = copy.deepcopy(self.codec.state_dict())
        with torch.no_grad():
            for p, mean in zip(self.main, self.average, strict=True):
                p.copy_(mean)
            for p in self.codec.parameters() if half else []:
                p.copy_(p.half())
        self.codec.eval()
        self.codec.refresh()
        try:
            yield
        finally:
            parameters = dict(self.codec.named_parameters())
            with torch.no_grad():
                for name, p in parameters.items():
                    p.copy_(state[name])

    def _network_state(self) -> dict[str, Tensor]:
        """Parameters, and the running statistics of batch norms."""
        statistics = {
            f"{name}.{key}": value
            for name, module in self.codec.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            for key, value in module.named_buffers()
        }
        return {**dict(self.codec.named_parameters()), **statistics}

    def _checkpoint(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with whole(self.out / "checkpoint.pt") as partial:
            torch.save(self._state(), partial)

    def _state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "recipe": _as_json(self.recipe),
            "step": self.step,
            "codec": self._network_state(),
            "adversary": self.adversary.state() if self.adversary else None,
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "aux_optimiser": self.aux_optimiser.state_dict() if self.aux_optimiser else None,
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
        if self.aux_optimiser is not None:
            self.aux_optimiser.load_state_dict(state["aux_optimiser"])
        if self.adversary is not None:
            self.adversary.load_state(state["adversary"])
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


def measure(codec: Codec, x: Tensor) -> dict[str, float]:
    """bpp of the real bytes, PSNR and MS-SSIM after 8-bit rounding of one clip ``(1, T, 3, H, W)``."""
    from robustcodec.registry import metrics

    stream = codec.compress(x)
    x_hat = codec.decompress(stream).clamp(0, 1).mul(255).round() / 255
    scores = {name: float(metrics.build(name).fn(x, x_hat)) for name in ("psnr", "ms_ssim")}
    return {"bpp": 8 * len(stream[0]) / (x.numel() / 3), **scores}
