"""H.264 before coding: the clip that a camera or a platform has compressed already.

Video compression in front of a network is the defense of SHIELD (Das et al., KDD 2018,
https://arxiv.org/abs/1802.06816) in time: what changes from frame to frame and is not motion is coarsely quantised.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustcodec.defenses._preprocessing import PreprocessedCodec, with_gradient_of
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import codecs, defenses


@defenses.register("h264")
@dataclass(frozen=True)
class H264(Defense):
    """Each clip is coded and decoded by x264 at ``crf`` 0 to 51, 4:2:0, before its codec codes it; an image is a clip
    of one keyframe.

    Straight-through: the gradient is that of the identity; values are the real decoder's.
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
