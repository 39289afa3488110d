"""NI-FGSM: MI-FGSM with gradients taken where the momentum leads (Lin et al., 2020, https://arxiv.org/abs/1908.06281)."""

from __future__ import annotations

from typing import ClassVar

from robustcodec.attacks._momentum import Momentum
from robustcodec.registry import attacks


@attacks.register("ni-fgsm")
class NIFGSM(Momentum):
    """``mi-fgsm`` whose gradients are of ``x + α·momentum·g``, α being the mean step and g the sum so far.

    That point may be outside the threat, as published; what is returned is not. Parameters as for ``mi-fgsm``.
    """

    look_ahead: ClassVar[bool] = True
