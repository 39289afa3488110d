"""A recipe that finetunes a bundled codec in a moment."""

from __future__ import annotations

from robustcodec.training.finetune_recipe import FinetuneRecipe

RECIPE = FinetuneRecipe(
    "bmshj2018-factorized.tiny-q1", "at", ("photos:size=64",), 0.0025, steps=4, batch=2, crop=32, lr=1e-3, ema=0.5,
    attack="fgsm", validate="photos:size=40", validate_every=2, validate_attack="fgsm", attacked=1,
)  # fmt: skip
