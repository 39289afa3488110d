"""JPEG XL and HEIC: the stream is the file, bytes repeat, damage raises. Skipped where an extra is not installed."""

from __future__ import annotations

import io
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import toys
from PIL import Image

from robustcodec.errors import BadParameter, MissingDependency, StreamError
from robustcodec.interfaces import Codec
from robustcodec.registry import codecs

ROOT = Path(__file__).parents[2]
MODULES = {"jpegxl": "pillow_jxl", "heic": "pillow_heif"}
FORMATS = {"jpegxl": "JXL", "heic": "HEIF"}
EVERY = pytest.mark.parametrize("name", MODULES)


def build(spec: str) -> Codec:
    pytest.importorskip(MODULES[spec.partition(":")[0]])
    codec: Codec = codecs.build(spec)
    return codec


@EVERY
@pytest.mark.parametrize("size", [(48, 64), (37, 53), (1, 9)])
def test_forward_is_the_decoded_file_that_any_viewer_shows(name: str, size: tuple[int, int]) -> None:
    codec, x = build(name), toys.clips(1, 1, *size)
    out, (data,) = codec(x), codec.compress(x)
    decoded = codec.decompress([data])
    assert out.bits.tolist() == [8 * len(data)] and (out.x_hat == decoded).all()
    assert (decoded - x).abs().mean() < 0.1 and decoded.shape == x.shape
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == FORMATS[name]
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, decoded[0, 0].mul(255).round().byte().permute(1, 2, 0).numpy())


@EVERY
def test_bytes_repeat_and_a_clip_is_its_files(name: str) -> None:
    codec, x = build(name), toys.clips(1, 2, 40, 40)
    (data,) = codec.compress(x)
    assert [data] == build(name).compress(x + 0.4 / 255)
    files = [codec.compress(x[:, t : t + 1])[0] for t in range(2)]
    assert [p.bits for p in codec.anatomy(data)][1:] == [8 * len(f) for f in files] and files[0] in data


@EVERY
def test_quality_trades_rate_for_distortion(name: str) -> None:
    x = toys.clips(1, 1, 64, 64)
    worse, better = (build(f"{name}:{quality}")(x) for quality in (10, 95))
    assert worse.bits.item() < better.bits.item()
    assert (worse.x_hat - x).square().mean() > (better.x_hat - x).square().mean()


@EVERY
def test_truncated_and_foreign_files_raise(name: str) -> None:
    codec = build(name)
    (data,) = codec.compress(toys.clips(1, 1, 24, 24))
    foreign = codecs.build("jpeg").compress(toys.clips(1, 1, 24, 24))
    for stream in (*(data[:length] for length in range(0, len(data), 7)), data[:-1], *foreign):
        with pytest.raises(StreamError):
            codec.decompress([stream])


@EVERY
def test_an_extra_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    with pytest.raises(MissingDependency, match=rf"{name} needs pillow-.*: pip install 'robustcodec\[{name}\]'"):
        codecs.build(name)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert len(extras[name]) == 1


@pytest.mark.parametrize("spec", ["jpegxl:quality=100", "jpegxl:effort=0", "heic:quality=101", "heic:subsampling=4:1"])
def test_parameters_out_of_range_raise(spec: str) -> None:
    with pytest.raises(BadParameter):
        codecs.build(spec)
