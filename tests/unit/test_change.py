"""Perturbations as text: back to the last value, and no text takes more memory than its clip."""

from __future__ import annotations

import base64
import tracemalloc
import zlib

import pytest
import torch

from robustcodec.boards.change import packed, unpacked

SHAPE = (2, 3, 5, 7)


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    one, other = (torch.randint(0, 256, SHAPE, generator=draws, dtype=torch.uint8) for _ in range(2))
    one[0, 0, 0, :2], other[0, 0, 0, :2] = torch.tensor([0, 255]), torch.tensor([255, 0])  # the largest there are
    return one, other


def test_a_change_comes_back_to_the_last_value() -> None:
    one, other = clips()
    assert torch.equal(other + unpacked(packed(one, other), SHAPE), one.to(torch.int16))


def test_it_takes_little_more_than_its_entropy() -> None:
    draws, original = torch.Generator().manual_seed(0), torch.full((1, 3, 128, 128), 128, dtype=torch.uint8)
    delta = (2.55 * torch.randn(original.shape, generator=draws)).round()  # 40 dB
    share = torch.unique(delta, return_counts=True)[1] / delta.numel()
    entropy = float(-(share * share.log2()).sum()) * delta.numel() / 8
    size = len(base64.b64decode(packed((original + delta).to(torch.uint8), original)))
    assert entropy < size < 1.1 * entropy


def deflated(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


COUNT = 2 * 2 * 3 * 5 * 7  # bytes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("§", "cannot be unpacked"),
        ("AAAA", "cannot be unpacked"),
        (deflated(bytes(COUNT - 1)), "not of the 210 values"),
        (deflated(bytes(COUNT + 1)), "not of the 210 values"),
        (deflated(bytes(10**7)), "not of the 210 values"),
        (deflated(bytes(COUNT))[:-8], "not of the 210 values"),
        (base64.b64encode(zlib.compress(bytes(COUNT)) + b"more").decode(), "not of the 210 values"),
        (deflated(bytes(COUNT // 2) + b"\xff" * (COUNT // 2)), "beyond ±255"),
        (deflated(b"\xff" * (COUNT // 2) + b"\x01" * (COUNT // 2)), "beyond ±255"),
    ],
)
def test_any_other_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpacked(text, SHAPE)


def test_a_small_text_makes_no_large_array() -> None:
    bomb = deflated(bytes(2 * 10**7))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not of the 210 values"):
            unpacked(bomb, SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 10**6 > len(bomb)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(), (3, 5, 7), (1, 4, 5, 7), (1, 3, 0, 7), (-1, 3, -5, 7), (2**40, 3, 2**40, 2**40)])
def test_no_shape_is_believed(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustcodec.boards.change.zlib", None)  # refused before anything is unpacked
    with pytest.raises(ValueError, match="a clip of shape"):
        unpacked("AAAA", shape)
