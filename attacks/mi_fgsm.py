"""MI-FGSM: steepest ascent along a decaying sum of gradients (Dong et al., 2018, https://arxiv.org/abs/1710.06081)."""

from __future__ import annotations

from robustcodec.attacks._momentum import Momentum
from robustcodec.registry import attacks


@attacks.register("mi-fgsm")
class MIFGSM(Momentum):
    """Steepest ascent along a decaying sum of past gradients, each scaled to a mean absolute value of 1.

    ``steps``: number of steps, all of equal length. ``reach``: their length together, in radii of the threat. The sum
    of gradients decays by the factor ``momentum`` (at least 0) per step. ``start``: the climb begins at this fraction,
    in [0, 1], of a random allowed perturbation. ``constants="published"`` means the paper's settings: 10 steps that
    together are one radius long, momentum 1, from the clean clip, where ``distortion`` has almost no gradient. It sets
    ``steps``, ``reach``, ``momentum`` and ``start`` itself; ``constants="threat"`` leaves them as they are given.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """
