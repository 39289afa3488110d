"""H.264 before coding, as if a camera or a platform had compressed the clip already.

SHIELD (Das et al., KDD 2018, https://arxiv.org/abs/1802.06816) puts image compression in front of a network as a
defense; this is its counterpart in time. Changes from frame to frame that are not motion are coarsely quantised.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustcodec.defenses.preprocessing import PreprocessedCodec, with_gradient_of
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import codecs, defenses


@defenses.register("h264")
@dataclass(frozen=True)
class H264(Defense):
    """Codes and decodes each clip with x264 before the codec codes it.

    ``crf``: constant rate factor, 0 to 51 (coarsest), with 4:2:0 chroma. An image is a clip of one keyframe. Values are
    those of the real decoder. The gradient is straight-through, that of the identity.
    """

    crf: float = 23.0

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf:g}; expected 0 (finest) to 51 (smallest)")

    def fingerprint(self) -> str:
        """Versions of the libraries whose pixels are coded."""
        return codecs.fingerprint("h264", crf=self.crf)

    def wrap(self, codec: Codec) -> Codec:
        return PreprocessedCodec(codec, "h264 (gradient of the identity)", H264Generation(self.crf))


class H264Generation(nn.Module):
    """A clip as H.264 shows it, with the gradient of the identity."""

    def __init__(self, crf: float) -> None:
        super().__init__()
        self.real: Codec = codecs.build(f"h264:crf={crf}")

    def forward(self, x: Tensor) -> Tensor:
        return with_gradient_of(lambda: x, self.real.decompress(self.real.compress(x)))
