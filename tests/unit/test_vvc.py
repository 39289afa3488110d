"""VVC: its commands, and its frames; with the programs themselves only where they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import toys

from robustcodec.errors import BadParameter, MissingDependency, StreamError
from robustcodec.registry import codecs
from robustcodec.zoo import vvc
from robustcodec.zoo._yuv import to_rgb, to_yuv

installed = pytest.mark.skipif(not (shutil.which(vvc.ENCODER) and shutil.which(vvc.DECODER)), reason="no VVenC, VVdeC")


def options(command: list[str]) -> dict[str, str]:
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_the_encoder_is_told_the_clip_and_one_thread() -> None:
    settings = {"qp": 27, "preset": "fast", "gop": 32, "qpa": False, "fps": 25}
    command = vvc.encoding(Path("a.yuv"), Path("b.266"), (64, 48), 9, **settings)
    assert command[0] == "vvencapp"
    told = options(command)
    assert (told["--size"], told["--frames"], told["--framerate"], told["--format"]) == ("64x48", "9", "25", "yuv420")
    assert (told["--qp"], told["--preset"], told["--intraperiod"], told["--qpa"]) == ("27", "fast", "32", "0")
    assert told["--threads"] == "1" and options(vvc.decoding(Path("b"), Path("c")))["--threads"] == "1"


@pytest.mark.parametrize("bits", [8, 10])
def test_frames_come_back_from_8_and_from_10_bits(bits: int) -> None:
    clip = toys.clips(1, 2, 16, 24)[0].mul(255).round().to(torch.uint8)
    planes = [to_yuv(frame, "4:2:0") for frame in clip]
    data = b"".join(p.tobytes() if bits == 8 else (4 * p.astype("<u2")).tobytes() for p in planes)
    expected = torch.stack([to_rgb(p, 16, 24, "4:2:0") for p in planes])
    assert torch.equal(vvc.clip_of(data, 2, 16, 24), expected)
    assert (expected.float() - clip.float()).abs().mean() < 8
    with pytest.raises(StreamError, match="expected 3 frames of 24x16"):
        vvc.clip_of(data, 3, 16, 24)


def test_programs_that_are_missing_are_named_with_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match="missing: vvencapp, vvdecapp. Build them from .*vvenc"):
        codecs.build("vvc")
    assert codecs.fingerprint("vvc", qp=32) == "vvencapp missing, vvdecapp missing"


@pytest.mark.parametrize("spec", ["vvc:qp=64", "vvc:gop=20", "vvc:fps=0", "vvc:preset=veryslow"])
def test_parameters_out_of_range_raise(spec: str) -> None:
    with pytest.raises(BadParameter):
        codecs.build(spec)


@installed
@pytest.mark.parametrize(("t", "height", "width"), [(1, 37, 53), (3, 64, 64)])
def test_forward_is_the_decoded_stream(t: int, height: int, width: int) -> None:
    codec, x = codecs.build("vvc:preset=faster"), toys.clips(1, t, height, width)
    out, (data,) = codec(x), codec.compress(x)
    assert [data] == codec.compress(x) and torch.equal(out.x_hat, codec.decompress([data]))
    assert out.bits.tolist() == [8 * len(data)] and (out.x_hat - x).abs().mean() < 0.1
    worse = codecs.build("vvc:preset=faster,qp=50")(x)
    assert worse.bits.item() < out.bits.item() and np.isfinite(out.bits.item())
