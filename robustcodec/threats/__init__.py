"""What an attack may return: balls around the clean clip, inside [0, 1], and their 8-bit points.

Every sample of a batch has its own ball. A projection goes onto the ball and is then clamped to [0, 1]. The clean clip
lies inside [0, 1], so clamping brings every value nearer to it and never leaves the ball. Under L∞ the result is the
nearest allowed point; under L2 it is the nearest one wherever the clamp changes nothing.

Every threat can be restricted to some ``frames`` of a clip; all other frames are returned as they were. Plus signs join
threats: ``psnr:40+linf:16`` is what both allow. A module in this folder registers the threats that are defined in it.
"""

from robustcodec.threats.flicker import Flicker
from robustcodec.threats.intersection import Intersection
from robustcodec.threats.l2 import L2, Mse, Psnr
from robustcodec.threats.linf import Linf

__all__ = ["L2", "Flicker", "Intersection", "Linf", "Mse", "Psnr"]
