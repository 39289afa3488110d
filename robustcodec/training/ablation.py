"""What an ablation tells: variants side by side, each trained with several seeds, whose spread bounds what counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from robustcodec.training.recipe import Recipe


def markdown(recipes: Sequence[Recipe], validations: Mapping[str, Mapping[str, float]]) -> str:
    """A line per variant: the settings in which variants differ and each score, with its range over seeds; then, of
    each score, which variants differ from the best by more than seeds do. ``validations``: scores by recipe's name.
    """
    variants: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        variants.setdefault(recipe.name.removesuffix(seeded(recipe.seed)), []).append(recipe)
    settings = [asdict(each[0]) for each in variants.values()]
    varied = [k for k in settings[0] if k not in ("name", "seed") and len({str(s[k]) for s in settings}) > 1]
    scores = list(next(iter(validations.values())))
    found = {
        variant: {score: [validations[each.name][score] for each in several] for score in scores}
        for variant, several in variants.items()
    }
    lines = [f"| variant | {' | '.join(varied + scores)} |", "|---" * (1 + len(varied) + len(scores)) + "|"]
    for (variant, of), setting in zip(found.items(), settings, strict=True):
        lines.append(f"| {' | '.join([variant, *(str(setting[k]) for k in varied), *map(_shown, of.values())])} |")
    seeds = max(map(len, variants.values()))
    if seeds > 1 and len(variants) > 1:
        lines += ["", f"A difference counts where the ranges over {seeds} seeds do not overlap."]
        lines += [_verdict(score, {variant: of[score] for variant, of in found.items()}) for score in scores]
    return "\n".join(lines) + "\n"


def seeded(seed: int) -> str:
    """How the name of a training ends that is one of several seeds."""
    return f"-s{seed}"


def _shown(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} to {max(values):.4f})"


def _verdict(score: str, found: Mapping[str, Sequence[float]]) -> str:
    """Which variants are worse in a score than the one with the best mean, beyond the seeds."""
    sign = -1 if score == "bpp" else 1  # all others that trainings validate by are qualities
    best = max(found, key=lambda variant: sign * sum(found[variant]))
    least = min(sign * value for value in found[best])
    worse = [variant for variant, values in found.items() if max(sign * value for value in values) < least]
    same = [variant for variant in found if variant not in (best, *worse)]
    return f"* {score}: best {best}; no difference: {', '.join(same) or 'none'}; worse: {', '.join(worse) or 'none'}."
