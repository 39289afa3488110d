"""JPEG before coding (Dziugaite, Ghahramani & Roy, 2016, https://arxiv.org/abs/1608.00853).

Das et al. call it SHIELD (KDD 2018, https://arxiv.org/abs/1802.06816). As a defense of codecs it is a generation of
JPEG in front of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustcodec.defenses.preprocessing import PreprocessedCodec, with_gradient_of
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import codecs, defenses


@defenses.register("jpeg")
@dataclass(frozen=True)
class Jpeg(Defense):
    """Codes and decodes each frame with libjpeg-turbo before the codec codes it.

    ``quality``: 1 (coarsest) to 100, with 4:2:0 chroma. Values are those of the real decoder; the gradient is that of
    the codec ``diff-jpeg`` of the same quality.
    """

    quality: int = 75

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}; expected 1 (smallest) to 100")

    def fingerprint(self) -> str:
        """Versions of the libraries whose pixels are coded."""
        return codecs.fingerprint("jpeg", quality=self.quality)

    def wrap(self, codec: Codec) -> Codec:
        generation = JpegGeneration(self.quality)
        return PreprocessedCodec(codec, f"jpeg (gradient of {generation.guide.card.name})", generation)


class JpegGeneration(nn.Module):
    """A clip as JPEG shows it, with the gradient of ``diff-jpeg``."""

    def __init__(self, quality: int) -> None:
        super().__init__()
        self.guide: Codec = codecs.build(f"diff-jpeg:quality={quality}")

    def forward(self, x: Tensor) -> Tensor:
        value = self.guide.decompress(self.guide.compress(x))  # files of the real JPEG

        def surrogate() -> Tensor:
            x_hat: Tensor = self.guide(x).x_hat
            return x_hat

        return with_gradient_of(surrogate, value)
