"""How the learning rate goes: a linear warm-up, then a cosine, or its peak to the end."""

from __future__ import annotations

import math

from robustcodec.training.recipe import Recipe

WARM_UP = 0.02  # of the steps, before a cosine


def share_of_peak(recipe: Recipe, step: int) -> float:
    """The learning rate at ``step`` over its peak, in (0, 1]."""
    usual = WARM_UP if recipe.schedule == "cosine" else 0.0
    warm = max(1, round((usual if recipe.warmup is None else recipe.warmup) * recipe.steps))
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, recipe.steps - warm)))
    return recipe.final_lr + (1 - recipe.final_lr) * cosine
