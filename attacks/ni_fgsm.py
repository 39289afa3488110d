"""NI-FGSM: MI-FGSM that takes its gradients where the momentum leads (Lin et al., 2020,
https://arxiv.org/abs/1908.06281).
"""

from __future__ import annotations

from typing import ClassVar

from robustcodec.attacks._momentum import Momentum
from robustcodec.registry import attacks


@attacks.register("ni-fgsm")
class NIFGSM(Momentum):
    """Steepest ascent along a decaying sum of gradients, each taken where that sum alone would lead (Nesterov).

    Each gradient is taken at ``x + α·momentum·g``, where α is the mean step and g the sum so far. As published, this
    point may lie outside the threat; what is returned does not. The parameters are those of ``mi-fgsm``: the number of
    ``steps``, their length together, ``reach``, in radii of the threat, the decay ``momentum`` of the sum, the
    ``start`` as a fraction, in [0, 1], of a random allowed perturbation, and ``constants``, where ``published`` means
    the paper's settings of these four fields.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    look_ahead: ClassVar[bool] = True
