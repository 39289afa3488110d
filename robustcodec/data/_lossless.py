"""Clips as files that lose nothing: one frame as PNG, more as FFV1 in Matroska (RFC 9043).

y4m holds YCbCr, whose 8 bits do not hold RGB: a value moves by up to 2 levels, as much as many a whole budget.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from torch import Tensor

from robustcodec.data._images import write_image
from robustcodec.data._video import UNKNOWN_RATE
from robustcodec.files import whole


def lossless_path(stem: Path, frames: int) -> Path:
    """Where :func:`write_lossless` puts a clip of so many frames: ``stem`` with ``.png`` or ``.mkv``."""
    return stem.with_name(stem.name + (".png" if frames == 1 else ".mkv"))


def write_lossless(clip: Tensor, stem: Path, fps: float | None = None) -> Path:
    """Write a uint8 clip ``(T, 3, H, W)`` so that reading gives every value back; equal clips give equal bytes.
    ``fps``: frames per second, if known.

    Raises :class:`OSError` as the system does.
    """
    path = lossless_path(stem, len(clip))
    with whole(path) as partial:
        if len(clip) == 1:
            write_image(clip, partial)
        else:
            _write_ffv1(clip, partial, fps)
    return path


def _write_ffv1(clip: Tensor, path: Path, fps: float | None) -> None:
    import av

    # bitexact: no random identifiers and no versions in the file
    with av.open(f"file:{path}", "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        if fps is None:  # players need one all the same
            container.metadata["comment"] = UNKNOWN_RATE
        rate = Fraction(fps or 30).limit_denominator(1001)
        stream = container.add_stream("ffv1", rate=rate, options={"flags": "+bitexact"})
        stream.height, stream.width = clip.shape[-2:]
        stream.pix_fmt = "bgr0"  # coded by a reversible colour transform
        for pixels in clip:
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
