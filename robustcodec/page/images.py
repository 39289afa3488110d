"""Pictures as data URIs: small enough for a page, cut rather than scaled, so that pixels stay pixels."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image
from torch import Tensor

from robustcodec.errors import BadData

SIDE = 512  # pixels; larger pictures are cut to their centre
FRAMES = 16  # of a clip at most; the first ones
QUALITY = 85  # of WebP


def data_uri(frame: Tensor) -> str:
    """A uint8 frame ``(3, H, W)`` as a WebP data URI, its central :data:`SIDE` pixels where it is larger.

    The same frame gives the same text. Raises :class:`BadData` for another shape or type.
    """
    if frame.ndim != 3 or frame.shape[0] != 3 or str(frame.dtype) != "torch.uint8":
        raise BadData(
            f"a picture of shape {tuple(frame.shape)}, {frame.dtype} was given; expected uint8 (3, H, W): "
            "round clips in [0, 1] to 8 bits and take one frame"
        )
    top, left = (max(0, (side - SIDE) // 2) for side in frame.shape[1:])
    cut = frame[:, top : top + SIDE, left : left + SIDE]
    buffer = BytesIO()
    Image.fromarray(cut.permute(1, 2, 0).contiguous().cpu().numpy()).save(buffer, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def data_uris(clip: Tensor) -> tuple[str, ...]:
    """The first :data:`FRAMES` frames of a uint8 clip ``(T, 3, H, W)``, each as :func:`data_uri` makes it."""
    return tuple(data_uri(frame) for frame in clip[:FRAMES])
