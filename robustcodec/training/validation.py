"""How well a codec in training does on real bytes, clean and attacked at a fixed budget; how a batch is attacked."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from robustcodec.clips import as_batch, centre_crop, to_uint8
from robustcodec.coding import code
from robustcodec.errors import AttackError, UserError
from robustcodec.interfaces import Attack, Codec, Draws, Objective, Precision, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, data, metrics, objectives, threats
from robustcodec.scores.metrics import EVERY_RUN
from robustcodec.scores.robustness import clean_scores, sample_scores
from robustcodec.training.codec import distortion
from robustcodec.training.finetune_recipe import FinetuneRecipe

CLIPS, SIZE = 8, 256  # first ones of the validation set, their central pixels
SHOWN = ("bpp", "psnr", "ms_ssim", "adv_bpp", "adv_psnr", "vi_db")


class Validator:
    """The validation of a finetune: its clips, attack and budget. The budget never ramps, whatever training does."""

    def __init__(self, recipe: FinetuneRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.attack: Attack = attacks.build(recipe.validate_attack)
        self.objective: Objective = objectives.build(recipe.objective)
        self.threat: Threat = threats.build(recipe.validate_threat or recipe.threat)

    @cached_property
    def clips(self) -> list[Tensor]:
        """Float clips ``(1, T, 3, H, W)``; raises :class:`UserError` without any, or if they are too small."""
        name, r = self.recipe.validate, self.recipe
        if name is None:
            raise UserError("a finetune keeps what validates best; give --validate a data set")
        clips = [as_batch(centre_crop(s.load(), SIZE), self.device) for s in data.build(name).samples()[:CLIPS]]
        if r.metric == "ms-ssim" and any(min(clip.shape[-2:]) <= 160 for clip in clips):
            raise UserError(
                f"clips of {name} are too small for MS-SSIM's five scales; give ones of more than 160 pixels"
            )
        return clips

    def scores(self, codec: Codec) -> dict[str, float]:
        """Means over clips, the first ``attacked`` of them also attacked.

        Keys are :data:`SHOWN`, as in :mod:`robustcodec.scores.robustness`, and ``score``, which is to be low: λ·D + β·R
        of the clean clips and of the attacked ones, both against the clean source, weighted 1 − ``balance`` to
        ``balance``. Raises :class:`StreamError` if the codec does not decode what it wrote.
        """
        r = self.recipe
        named = {name: metrics.build(name) for name in EVERY_RUN}
        rows: list[dict[str, float]] = []
        for index, x in enumerate(self.clips):
            x_hat, bits = _through_bytes(codec, x)
            row = clean_scores(x, x_hat, bits, math.nan, named) | {"loss": self._loss(codec, x, x_hat, bits)}
            if index < r.attacked:
                x_adv = craft(codec, self.attack, self.objective, self.threat, x, (r.seed, index))
                x_adv = self.threat.quantise(x_adv, x)
                adv_hat, adv_bits = _through_bytes(codec, x_adv)
                row = sample_scores(x, x_hat, x_adv, adv_hat, bits, adv_bits, math.nan, math.nan, named, clean=row)
                row["adv_loss"] = self._loss(codec, x, adv_hat, adv_bits)
            rows.append(row)
        mean = {k: float(np.mean([row[k] for row in rows if k in row])) for k in (*SHOWN, "loss", "adv_loss")}
        score = (1 - r.balance) * mean.pop("loss") + r.balance * mean.pop("adv_loss")
        return {**mean, "score": score}

    def _loss(self, codec: Codec, x: Tensor, x_hat: Tensor, bits: float) -> float:
        r = self.recipe
        rate = bits / (x.numel() / 3)
        if r.rate_unit == "symbol" and codec.symbols_per_pixel is not None:
            rate /= codec.symbols_per_pixel
        return float(r.lmbda * distortion(r.metric, x, x_hat)) + r.beta * rate


def craft(
    codec: Codec,
    attack: Attack,
    objective: Objective,
    threat: Threat,
    x: Tensor,
    seed: tuple[int, int],
    precision: Precision = "float32",
) -> Tensor:
    """What ``attack`` makes of clips ``x`` within ``threat``, against a frozen ``codec`` in eval mode; no gradient.

    Raises :class:`AttackError` if it returns clips of another shape.
    """
    own = seeds(len(x), *seed)
    oracle = Oracle(codec, objective, x, attack.access, precision=precision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own[0])  # for whoever draws from the global state
        x_adv = attack.run(oracle, x.clone(), threat, Draws(own))
    if x_adv.shape != x.shape:
        raise AttackError(f"{attack} returned shape {tuple(x_adv.shape)}; expected {tuple(x.shape)}")
    return threat.project(x_adv.detach(), x).to(x.dtype)


def seeds(count: int, *entropy: int) -> list[int]:
    """So many seeds, always the same for the same ``entropy``."""
    return [int(s) for s in np.random.default_rng(entropy).integers(2**62, size=count)]


def _through_bytes(codec: Codec, x: Tensor) -> tuple[Tensor, float]:
    """Reconstruction of one 8-bit clip ``(1, T, 3, H, W)`` from its stream, and the stream's bits."""
    coded = code(codec, to_uint8(x)[0], x.device)
    return as_batch(coded.decoded(), x.device), coded.bits
