"""Training of codecs: rate + λ·distortion on random crops (Ballé et al., 2018, https://arxiv.org/abs/1802.01436).

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from robustcodec import weights
from robustcodec.data import centre_crop, to_float
from robustcodec.errors import BadData, RobustCodecError, UserError
from robustcodec.files import whole
from robustcodec.interfaces import Codec, Sample
from robustcodec.registry import codecs, data
from robustcodec.rounding import rounding

WARM_UP, FINAL_RATE = 0.02, 0.02  # of the steps, of the peak learning rate
MAX_SKIPPED = 50


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained model. ``codec``: ``…:weights=random`` or a checkpoint to start from."""

    codec: str
    name: str  # the tag of the result
    data: tuple[str, ...]
    lmbda: float  # bpp + lmbda·255²·MSE, or bpp + lmbda·(1 − MS-SSIM)
    metric: Literal["mse", "ms-ssim"] = "mse"
    steps: int = 20_000
    batch: int = 8
    crop: int = 128  # pixels; MS-SSIM needs more than 160
    frames: int = 1
    lr: float = 5e-4
    aux_lr: float = 1e-3
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.999
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    validate: str | None = None  # a data set; its first 8 samples, centre-cropped

    def __post_init__(self) -> None:
        if self.metric == "ms-ssim" and self.crop <= 160:
            raise UserError(f"--crop {self.crop} is too small for MS-SSIM's five scales; use 161 or more, such as 192")
        if self.steps < 1 or self.batch < 1 or self.lmbda <= 0:
            raise UserError(f"steps={self.steps}, batch={self.batch}, lmbda={self.lmbda}; each must be positive")


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


def distortion(recipe: Recipe, x: Tensor, x_hat: Tensor) -> Tensor:
    """``lmbda``-free distortion of clips: 255²·MSE, or 1 − MS-SSIM (frames as images)."""
    if recipe.metric == "mse":
        return 255**2 * (x_hat - x).square().mean()
    from pytorch_msssim import ms_ssim

    return 1 - ms_ssim(x_hat.flatten(0, 1), x.flatten(0, 1), data_range=1.0)  # type: ignore[no-any-return]


class Crops:
    """Random crops of a list of samples, each chosen in proportion to its area; step ``s`` is always the same batch."""

    def __init__(self, samples: list[Sample], recipe: Recipe) -> None:
        self.recipe = recipe
        clips = [s.load() for s in samples]
        self.clips = [c for c in clips if c.shape[0] >= recipe.frames and min(c.shape[-2:]) >= recipe.crop]
        if not self.clips:
            raise BadData(
                f"none of {len(clips)} training samples has {recipe.frames} frames of {recipe.crop}x{recipe.crop} "
                "pixels; give larger ones or a smaller --crop"
            )
        area = np.array([c.shape[0] * c.shape[2] * c.shape[3] for c in self.clips], dtype=float)
        self.weight = area / area.sum()

    def __getitem__(self, step: int) -> Tensor:
        """uint8 ``(batch, frames, 3, crop, crop)``, flipped at random."""
        r, rng = self.recipe, np.random.default_rng([self.recipe.seed, step])
        out = []
        for i in rng.choice(len(self.clips), size=r.batch, p=self.weight):
            clip = self.clips[i]
            t, top, left = (
                int(rng.integers(n)) for n in (np.array(clip.shape)[[0, 2, 3]] - [r.frames, r.crop, r.crop] + 1)
            )
            crop = clip[t : t + r.frames, :, top : top + r.crop, left : left + r.crop]
            out.append(crop.flip([d for d in (-1, -2) if rng.random() < 0.5]))
        return torch.stack(out)

    def stream(self, first: int, last: int) -> Iterator[Tensor]:
        """Batches of steps ``first`` … ``last`` − 1, prepared one ahead by a thread."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.__getitem__, first)
            for step in range(first, last):
                batch = ahead.result()
                ahead = pool.submit(self.__getitem__, step + 1)
                yield batch


class Trainer:
    """One training run in ``out``: ``checkpoint.pt`` (to resume), ``logs/`` (TensorBoard), then weights and card."""

    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        self.recipe, self.out, self.device = recipe, out, torch.device(device)
        torch.manual_seed(recipe.seed)
        self.codec: Codec = codecs.build(recipe.codec).to(self.device)
        if not self.codec.differentiable:
            raise UserError(f"{recipe.codec} has nothing to train; give a learned codec")
        aux = self.codec.aux_parameters()
        main = [p for p in self.codec.parameters() if all(p is not a for a in aux)]
        self.optimiser = torch.optim.Adam(main, lr=recipe.lr)
        self.aux_optimiser = torch.optim.Adam(aux, lr=recipe.aux_lr) if aux else None
        self.main = main
        self.average = [p.detach().clone() for p in main]
        self.step, self.skipped = 0, 0
        self.validation: dict[str, float] = {}
        self._resume()

    @property
    def weights_path(self) -> Path:
        return self.out / f"{self.codec.card.family}.{self.recipe.name}.safetensors"

    def run(
        self,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        every: int = 20,
        checkpoint_every: int = 500,
    ) -> Path:
        """Train to the last step, write weights and card, and return the weights' path."""
        from torch.utils.tensorboard import SummaryWriter

        r = self.recipe
        crops = Crops([s for spec in r.data for s in data.build(spec).samples()], r)
        logs = SummaryWriter(str(self.out / "logs"), purge_step=self.step)
        started, first = perf_counter(), self.step
        try:
            for batch in crops.stream(self.step, r.steps):
                bpp, dist, norm = self._update(to_float(batch.to(self.device)))
                self.step += 1
                due = self.step % checkpoint_every == 0 or self.step == r.steps
                if due:
                    self._checkpoint()
                    self.validation = self.validate()
                    for key, value in self.validation.items():
                        logs.add_scalar(f"validation/{key}", value, self.step)
                if self.step % every == 0 or due:
                    rate = (self.step - first) / (perf_counter() - started)
                    loss = bpp + r.lmbda * dist
                    lr = self.optimiser.param_groups[0]["lr"]
                    for key, value in {"loss": loss, "bpp": bpp, r.metric: dist, "gradient": norm, "lr": lr}.items():
                        logs.add_scalar(f"train/{key}", value, self.step)
                    on_progress(Progress(self.step, r.steps, loss, bpp, dist, lr, rate, self.validation))
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
        from importlib.metadata import version

        recipe = {k: v for k, v in asdict(self.recipe).items() if k != "name"}
        card = self.codec.card
        facts = {
            "name": f"{card.family}.{self.recipe.name}",
            "family": card.family,
            "licence": "BSD-3-Clause",
            "paper": card.paper,
            "architecture": card.architecture,
            "training": {
                **recipe,
                "command": command(self.recipe),
                "torch": version("torch"),
                "validation": {k: round(v, 4) for k, v in self.validation.items()},
            },
        }
        with self._averaged(half=True):
            weights.save(self.weights_path, self.codec.state(), facts)
        return self.weights_path

    def _update(self, x: Tensor) -> tuple[float, float, float]:
        """One step on clips ``x``; returns bpp, distortion and gradient norm."""
        r = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = r.lr * _schedule(self.step, r.steps)
        self.codec.train()
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=r.precision == "bfloat16")
        with rounding("noise"), half:
            out = self.codec(x)
            x_hat, bits = out.x_hat, out.bits
        bpp = bits.sum() / (x.numel() / 3)
        dist = distortion(r, x, x_hat)  # in float32: MS-SSIM subtracts squares that nearly cancel
        self.optimiser.zero_grad()
        (bpp + r.lmbda * dist).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.main, r.clip)
        scores = float(bpp.detach()), float(dist.detach()), float(norm)
        if not all(map(math.isfinite, scores)):
            self.skipped += 1
            if self.skipped >= MAX_SKIPPED:
                raise RobustCodecError(
                    f"training diverged: {MAX_SKIPPED} steps in a row gave no finite gradient, the last at step "
                    f"{self.step}; a checkpoint in {self.out} is from before. Try a smaller --lr or --precision float32"
                )
            return scores
        self.skipped = 0
        self.optimiser.step()
        decay = min(r.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.main], 1 - decay)
        if self.aux_optimiser is not None and (aux := self.codec.aux_loss()) is not None:
            self.aux_optimiser.zero_grad()
            aux.backward()  # type: ignore[no-untyped-call]
            self.aux_optimiser.step()
        return scores

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

    def _checkpoint(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "step": self.step,
            "codec": {k: v for k, v in self.codec.named_parameters()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "aux_optimiser": self.aux_optimiser.state_dict() if self.aux_optimiser else None,
            "rng": torch.get_rng_state(),
        }
        with whole(self.out / "checkpoint.pt") as partial:
            torch.save(state, partial)

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        recipe = json.dumps(asdict(self.recipe), sort_keys=True)
        if state["recipe"] != recipe:
            old, new = json.loads(state["recipe"]), json.loads(recipe)
            changed = ", ".join(f"{k}: {old.get(k)} → {new[k]}" for k in new if old.get(k) != new[k])
            raise UserError(f"{self.out} holds another training run ({changed}); give another --out or remove it")
        with torch.no_grad():
            for name, p in self.codec.named_parameters():
                p.copy_(state["codec"][name])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        if self.aux_optimiser is not None:
            self.aux_optimiser.load_state_dict(state["aux_optimiser"])
        torch.set_rng_state(state["rng"].cpu())
        self.step = int(state["step"])


def _schedule(step: int, steps: int) -> float:
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


def command(recipe: Recipe) -> str:
    """The command line that trains ``recipe``."""
    words = ["robustcodec train", recipe.codec]
    defaults = {f.name: f.default for f in fields(Recipe)}
    for key, value in asdict(recipe).items():
        if key == "codec" or value == defaults[key]:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            words.append(f"--{key.replace('_', '-')} {item}")
    return " ".join(words)
