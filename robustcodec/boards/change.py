"""What an adversarial clip changes of its original, as text: the clip itself for who has the original, and for
everybody else a pattern of a few grey levels. So a board whose pictures may not be published holds none.

A change is a whole number from -255 to 255; folded to 0, 1, 2 … (of 0, -1, 1 …) its lower byte holds nearly all there
is, and is deflated apart from the upper one: 5 % more than the entropy of single values at 40 dB (``zlib`` alone).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LARGEST = 2**28  # values of a clip


def packed(adversarial: Tensor, original: Tensor) -> str:
    """``adversarial`` − ``original``, both uint8 ``(T, 3, H, W)``, as text; the same two give the same text."""
    change = (adversarial.to(torch.int16) - original.to(torch.int16)).numpy().ravel()
    folded = np.where(change < 0, -2 * change - 1, 2 * change).astype("<u2")
    deflate = zlib.compressobj(9, strategy=zlib.Z_FILTERED)
    planes = (folded & 255).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()
    return base64.b64encode(deflate.compress(planes) + deflate.flush()).decode()


def unpacked(text: str, shape: Sequence[int]) -> Tensor:
    """What :func:`packed` made a text of: int16 of that shape ``(T, 3, H, W)``.

    Raises :class:`ValueError` for any other text, before it takes more memory than a clip of that shape.
    """
    if len(shape) != 4 or shape[1] != 3 or min(shape) < 1 or (count := int(np.prod(shape, dtype=object))) > LARGEST:
        raise ValueError(f"a clip of shape {list(shape)}; expected T, 3, H, W of at most {LARGEST} values")
    inflate = zlib.decompressobj()
    try:
        planes = inflate.decompress(base64.b64decode(text, validate=True), 2 * count + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"its change cannot be unpacked ({error})") from None
    if len(planes) != 2 * count or not inflate.eof or inflate.unused_data:
        raise ValueError(f"its change is not of the {count} values of its clip")
    low, high = np.frombuffer(planes, np.uint8).reshape(2, count).astype(np.int32)
    folded = low + 256 * high
    if int(folded.max()) > 510:
        raise ValueError("its change has values beyond ±255")
    change = np.where(folded % 2, -(folded + 1) // 2, folded // 2).astype(np.int16)
    return torch.from_numpy(change.reshape(tuple(shape)))
