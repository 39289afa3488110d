"""MI-FGSM: steepest ascent along a decaying sum of gradients (Dong et al., 2018, https://arxiv.org/abs/1710.06081)."""

from __future__ import annotations

from robustcodec.attacks._momentum import Momentum
from robustcodec.registry import attacks


@attacks.register("mi-fgsm")
class MIFGSM(Momentum):
    """``steps`` steps, together ``reach`` radii long, along a sum of gradients that decays by ``momentum``.

    Gradients are summed at mean absolute value 1. ``start``: where the first is taken, as a fraction in [0, 1] of a
    random allowed perturbation. ``constants="published"``: 10 steps that together are one radius long, momentum 1, from
    the clean clip, where ``distortion`` has next to no gradient; it sets these four fields itself. Every ``judge``-th
    iterate and the last are judged by what the codec really does with their 8-bit version, and the best is returned.
    ``surrogate``: how the gradient passes the rounding of latents.
    """
