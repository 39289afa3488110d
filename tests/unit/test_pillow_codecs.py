"""Codecs of Pillow: the stream is the file, any size works, damage raises."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, features
from torch import Tensor

from robustcodec.errors import BadParameter, StreamError
from robustcodec.registry import codecs
from robustcodec.zoo import _sealing

FORMATS = {"jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF", "jpeg2000": "JPEG2000"}
EVERY = pytest.mark.parametrize("name", FORMATS)


def clip(n: int, t: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth 8-bit noise (N, T, 3, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n * t, 3, height // 8 + 2, width // 8 + 2, generator=rng)
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return fine.mul(255).round().div(255).unflatten(0, (n, t))  # type: ignore[no-untyped-call, no-any-return]


@EVERY
@pytest.mark.parametrize("size", [(64, 96), (37, 53), (1, 1), (1, 9)])
def test_forward_is_the_decoded_stream(name: str, size: tuple[int, int]) -> None:
    x, codec = clip(2, 2, *size), codecs.build(name)
    out, streams = codec(x), codec.compress(x)
    assert torch.equal(out.x_hat, codec.decompress(streams))
    assert out.bits.tolist() == [8 * len(s) for s in streams]
    assert out.x_hat.shape == x.shape and not out.x_hat.requires_grad
    assert codec.differentiable is False


@EVERY
def test_an_image_is_the_file_itself_and_any_viewer_shows_the_same(name: str) -> None:
    x, codec = clip(1, 1, 37, 53), codecs.build(name)
    (data,) = codec.compress(x)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == FORMATS[name]
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, codec.decompress([data])[0, 0].mul(255).round().byte().permute(1, 2, 0).numpy())


def test_jpeg_writes_what_pillow_writes() -> None:
    x = clip(1, 1, 64, 96)
    out = io.BytesIO()
    image = Image.fromarray(x[0, 0].mul(255).round().byte().permute(1, 2, 0).numpy())
    image.save(out, "JPEG", quality=30, subsampling="4:4:4", optimize=True, comment="crc32 00000000")
    (data,) = codecs.build("jpeg:quality=30,subsampling=4:4:4").compress(x)
    assert data.replace(b"crc32 %08x" % zlib.crc32(out.getvalue()), b"crc32 00000000") == out.getvalue()


@EVERY
def test_a_single_image_is_a_file_with_a_checksum_that_viewers_see(name: str) -> None:
    (data,) = codecs.build(name).compress(clip(1, 1, 40, 48))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format or "").lower() == name and image.size == (48, 40)
        comment = image.info.get("comment")
        text = comment.decode() if isinstance(comment, bytes) else comment or image.getexif()[0x010E]
    label, digits = text.rstrip("\0").split()
    assert label == "crc32" and zlib.crc32(data.replace(digits.encode(), b"0" * 8)) == int(digits, 16)


@EVERY
def test_bytes_repeat_and_inputs_are_rounded_to_8_bits(name: str) -> None:
    x = clip(1, 1, 40, 40)
    codec = codecs.build(name)
    assert codec.compress(x) == codecs.build(name).compress(x + 0.4 / 255)


@pytest.mark.parametrize(
    "low, high", [("jpeg:10", "jpeg:95"), ("webp:10", "webp:95"), ("avif:10", "avif:95"), ("jpeg2000:60", "jpeg2000:4")]
)
def test_the_parameter_trades_rate_for_distortion(low: str, high: str) -> None:
    x = clip(1, 1, 96, 96)
    (small, blurred), (large, sharp) = ((o.bits.item(), o.x_hat) for o in (codecs.build(s)(x) for s in (low, high)))
    assert small < large
    assert (blurred - x).square().mean() > (sharp - x).square().mean()


def test_jpeg2000_keeps_the_asked_rate() -> None:
    x = torch.rand(1, 1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    bits = codecs.build("jpeg2000:ratio=12")(x).bits.item()
    assert bits == pytest.approx(24 / 12 * 128 * 128, rel=0.06)


@EVERY
@pytest.mark.parametrize("frames", [1, 3])
def test_truncated_streams_raise(name: str, frames: int) -> None:
    codec = codecs.build(name)
    (data,) = codec.compress(clip(1, frames, 24, 24))
    for length in range(len(data)):
        with pytest.raises(StreamError):
            codec.decompress([data[:length]])


@EVERY
def test_damage_raises(name: str) -> None:
    codec, rng = codecs.build(name), np.random.default_rng(0)
    (image,), (video,) = codec.compress(clip(1, 1, 24, 24)), codec.compress(clip(1, 2, 24, 24))
    for _ in range(200):
        damaged = bytearray(image)
        for at in rng.integers(0, len(image), rng.integers(1, 5)):
            damaged[at] ^= int(rng.integers(1, 256))
        with pytest.raises(StreamError):
            codec.decompress([bytes(damaged)])
        damaged = bytearray(video)
        damaged[int(rng.integers(0, len(video)))] ^= int(rng.integers(1, 256))
        with pytest.raises(StreamError):
            codec.decompress([bytes(damaged)])


@EVERY
def test_other_formats_raise(name: str) -> None:
    codec = codecs.build(name)
    for other in FORMATS:
        if other != name:
            for frames in (1, 2):
                with pytest.raises(StreamError):
                    codec.decompress(codecs.build(other).compress(clip(1, frames, 16, 16)))
    for junk in (b"", b"\x00", b"rc", bytes(100)):
        with pytest.raises(StreamError):
            codec.decompress([junk])


def test_a_header_that_asks_for_too_many_pixels_raises() -> None:
    codec = codecs.build("jpeg")
    data = bytearray(codec.compress(clip(1, 1, 16, 16))[0])
    at = data.index(b"\xff\xc0") + 5  # baseline frame header: height, width
    data[at : at + 4] = struct.pack(">HH", 12000, 12000)
    with pytest.raises(StreamError, match="checksum is wrong"):
        codec.decompress([bytes(data)])
    blank = re.sub(rb"crc32 \w{8}", _sealing.BLANK, bytes(data))
    with pytest.raises(StreamError, match="expected 1 to 67108864 pixels in all"):
        codec.decompress([_sealing.seal(blank)])


def test_grey_files_and_mixed_sizes_raise() -> None:
    codec = codecs.build("jpeg")
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG", comment=_sealing.BLANK)
    with pytest.raises(StreamError, match="mode L"):
        codec.decompress([_sealing.seal(out.getvalue())])
    with pytest.raises(StreamError, match="saved again by another program"):
        codec.decompress([out.getvalue()])
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress([*codec.compress(clip(1, 1, 8, 8)), *codec.compress(clip(1, 1, 8, 16))])


@pytest.mark.parametrize(
    "spec",
    ["jpeg:quality=0", "jpeg:quality=101", "webp:method=7", "avif:speed=11", "jpeg2000:0", "jpeg:subsampling=4:1"],
)
def test_parameters_out_of_range_raise(spec: str) -> None:
    with pytest.raises(BadParameter):
        codecs.build(spec)


@EVERY
def test_identity_holds_the_library_version(name: str) -> None:
    builder: Any = codecs.get(name)
    feature = {"jpeg": "libjpeg_turbo", "jpeg2000": "jpg_2000"}.get(name, name)
    assert str(features.version(feature)) in builder.fingerprint(**codecs.resolve(name))
    assert codecs.build(name).card.family == name and codecs.build(name).card.licence and codecs.build(name).card.paper
