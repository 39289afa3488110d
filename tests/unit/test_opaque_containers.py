"""Containers of codecs that have no symbols to show: none shows another clip when only the last checksum is right."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustcodec.coding import defended
from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec
from robustcodec.zoo._adapted import adapted

CODECS: dict[str, Callable[[], Codec]] = {
    "image files": lambda: defended("jpeg"),
    "smoothing": lambda: defended("h264", "smooth:sigma=0.05,draws=2"),
    "a network": lambda: adapted(nn.Identity(), "same"),
}


def written(codec: Codec) -> bytes:
    """Two frames of 16×16, of which a flat second one gives parts of another length."""
    clip = torch.rand(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    clip[:, 1] = 0.5
    torch.manual_seed(0)
    return codec.compress(clip)[0]


def put_right(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def shown(codec: Codec, stream: bytes) -> Tensor | str:
    """What a decoder makes of a stream: a clip, or why not."""
    try:
        return codec.decompress([stream])
    except StreamError as error:
        return str(error)


@pytest.mark.parametrize("kind", CODECS)
def test_no_byte_of_the_parts_can_be_another_one(kind: str) -> None:
    codec = CODECS[kind]()
    body = written(codec)[:-4]
    assert isinstance(shown(codec, put_right(body)), Tensor)
    for at in range(len(body) - 1, len(body) - 400, -40):
        flipped = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        assert "something else than was encoded" in str(shown(codec, put_right(flipped)))


def test_frames_cannot_change_places() -> None:
    codec = CODECS["image files"]()
    body = written(codec)[:-4]
    second = body.rindex(b"\xff\xd8\xff")  # where a file of JPEG begins
    first = body.index(b"\xff\xd8\xff")
    sizes = body[first - 4 : first]  # two lengths of two bytes each
    swapped = body[: first - 4] + sizes[2:] + sizes[:2] + body[second:] + body[first:second]
    assert len(swapped) == len(body) and "something else than was encoded" in str(shown(codec, put_right(swapped)))
