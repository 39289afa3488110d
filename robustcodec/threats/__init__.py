"""What an attack may return: balls around the clean clip, inside the [0, 1] box, and their 8-bit points.

Every item of a batch has its own ball. A projection goes onto the ball and is then clamped to the box; the
clean clip is in the box, so clamping brings every value nearer to it and never leaves the ball. For L∞
that is the nearest allowed point; for L2 it is the nearest one wherever the box does not bind.

Of a clip every threat may be restricted to some ``frames``; the others are returned as they were. Plus signs join
threats: ``psnr:40+linf:16`` is what both allow. A module here registers threats by being here.
"""

from robustcodec.threats.flicker import Flicker
from robustcodec.threats.intersection import Intersection
from robustcodec.threats.l2 import L2, Mse, Psnr
from robustcodec.threats.linf import Linf

__all__ = ["L2", "Flicker", "Intersection", "Linf", "Mse", "Psnr"]
