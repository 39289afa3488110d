"""What streams are made of, of every registered codec: the parts are the stream, and are of the frames they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec.errors import MissingDependency, StreamError
from robustcodec.interfaces import Codec, StreamPart
from robustcodec.registry import codecs, defenses
from robustcodec.scores import temporal
from robustcodec.stream import overhead_bits

RDAE = "config=tiny,weights=random,gop=4"
SERVER = Path(__file__).parents[2] / "docs" / "howto" / "serve_numpy.py"
FRAMES = 6


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Smooth frames, then one of noise: every frame has another size in most codecs."""
    rng = torch.Generator().manual_seed(0)
    frames = [torch.linspace(0, 1 - 0.1 * t, 32).expand(3, 32, 32) for t in range(FRAMES - 1)]
    frames.append(torch.rand(3, 32, 32, generator=rng))
    return (torch.stack(frames)[None] * 255).round() / 255


def build(name: str) -> Codec:
    """A codec of that family, learned ones with their smallest widths and random weights."""
    if name == "process":
        name += f":command={sys.executable} {SERVER}"
    if name == "compressai":
        name += ":class=compressai.models:ScaleHyperprior,N=16,M=24,weights=random"
    widths = getattr(codecs.get(name.partition(":")[0]), "widths", None)
    params = f":quality={min(widths)},weights=random" if widths else f":{RDAE}" if name.startswith("rdae") else ""
    try:
        codec: Codec = codecs.build(name + params)
    except MissingDependency as error:  # of an extra
        pytest.skip(str(error))
    return codec


def header(stream: bytes, parts: list[StreamPart], frames: int) -> StreamPart:
    """What the container's own formula says of a 32 × 32 clip."""
    sizes = [p.bits // 8 for p in parts if p.frames]
    return StreamPart("header", 0, 0, overhead_bits((frames, 32, 32), sizes))


@pytest.mark.parametrize("name", [n for n in codecs.names() if not n.startswith("test-")])
def test_the_parts_are_all_of_the_stream(name: str, clip: Tensor) -> None:
    codec = build(name)
    for x in (clip[:, :1], clip[:, -2:]):
        (stream,) = codec.compress(x)
        parts = codec.anatomy(stream)
        assert sum(p.bits for p in parts) == 8 * len(stream)
        assert all(p.bits > 0 and 0 <= p.first and p.first + p.frames <= x.shape[1] for p in parts)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jpeg2000"])
def test_a_frame_of_a_classical_image_codec_is_its_file(name: str, clip: Tensor) -> None:
    codec = build(name)
    (stream,) = codec.compress(clip)
    alone = [8 * len(codec.compress(clip[:, t : t + 1])[0]) for t in range(FRAMES)]
    parts = codec.anatomy(stream)
    assert parts[1:] == [StreamPart("image", t, 1, bits) for t, bits in enumerate(alone)]
    assert parts[0] == header(stream, parts, FRAMES)
    assert temporal.bits_per_frame(parts, FRAMES).tolist() == alone


@pytest.mark.parametrize(("name", "names"), [("bmshj2018-factorized", ["y"]), ("mbt2018-mean", ["y", "z"])])
def test_a_latent_codec_has_its_parts_for_each_frame(name: str, names: list[str], clip: Tensor) -> None:
    codec = build(name)
    (stream,) = codec.compress(clip[:, -3:])
    parts = codec.anatomy(stream)
    assert [(p.name, p.first, p.frames) for p in parts[1:]] == [(n, t, 1) for t in range(3) for n in names]
    assert parts[0] == header(stream, parts, 3)
    for t in range(3):
        alone = codec.anatomy(codec.compress(clip[:, FRAMES - 3 + t : FRAMES - 2 + t])[0])
        assert [p.bits for p in parts if p.frames and p.first == t] == [p.bits for p in alone if p.frames]


def test_a_group_of_pictures_is_one_part(clip: Tensor) -> None:
    codec = build("rdae")
    (stream,) = codec.compress(clip)
    parts = codec.anatomy(stream)
    (whole,), (rest,) = (codec.anatomy(codec.compress(x)[0])[1:] for x in (clip[:, :4], clip[:, 4:]))
    assert parts[1:] == [StreamPart("gop", 0, 4, whole.bits), StreamPart("gop", 4, 2, rest.bits)]
    assert parts[0] == header(stream, parts, FRAMES)
    expected = [whole.bits / 4] * 4 + [rest.bits / 2] * 2
    assert temporal.bits_per_frame(parts, FRAMES).tolist() == expected


def test_a_defense_names_its_side_information(clip: Tensor) -> None:
    codec: Any = defenses.build("self-ensemble:views=2").wrap(build("jpeg"))
    (stream,) = codec.compress(clip[:, :2])
    assert codec.anatomy(stream) == [StreamPart("view", 0, 0, 8), *build("jpeg").anatomy(codec.taken_apart(stream)[1])]
    assert sum(p.bits for p in codec.anatomy(stream)) == 8 * len(stream)


@pytest.mark.parametrize("name", ["jpeg", "bmshj2018-factorized", "rdae"])
def test_damaged_streams_are_not_taken_apart(name: str, clip: Tensor) -> None:
    codec = build(name)
    (stream,) = codec.compress(clip[:, :2])
    with pytest.raises(StreamError):
        codec.anatomy(stream[:-1])
