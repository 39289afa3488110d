"""Codecs around CompressAI's networks, small and random: forward is the decoder, bits are the bytes, and CompressAI's
own code is the independent reference.
"""

from __future__ import annotations

import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.layers import GDN
from lively import clip, lively
from torch import Tensor, nn

from robustcodec import weights
from robustcodec.errors import StreamError, WeightsError
from robustcodec.registry import codecs
from robustcodec.rounding import rounding
from robustcodec.zoo import _fitting
from robustcodec.zoo._latent import LatentCodec
from robustcodec.zoo._raster import wavefronts

PLAIN = ["bmshj2018-factorized", "bmshj2018-factorized-relu", "bmshj2018-hyperprior", "mbt2018-mean"]
RASTER = ["mbt2018", "cheng2020-anchor", "cheng2020-attn"]
GROUPS = ["cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier"]
VARIABLE = ["bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"]
SOME = pytest.mark.parametrize(
    "name", ["mbt2018-mean", "cheng2020-anchor", "elic2022-chandelier", "mbt2018-vbr", "mbt2018-mean-vbr"]
)
EVERY = pytest.mark.parametrize("name", PLAIN + RASTER + GROUPS + VARIABLE)


def information(codec: LatentCodec, x: Tensor) -> list[Tensor]:
    """Estimated bits of each part, ``(B,)`` each."""
    return codec.latents(codec.pad(x.flatten(0, 1))).part_bits()


@EVERY
@pytest.mark.parametrize("shape", [(2, 1, 64, 96), (1, 2, 37, 53), (1, 1, 1, 1)])
def test_forward_is_the_decoded_stream_and_bits_are_its_size(name: str, shape: tuple[int, int, int, int]) -> None:
    codec, x = lively(name), clip(*shape)
    with torch.no_grad():
        out = codec(x)
        streams = codec.compress(x)
        assert codec.exact_forward
        assert (codec.decompress(streams) - out.x_hat).abs().max() <= 1e-4
        for estimate, data in zip(out.bits.tolist(), streams, strict=True):
            assert abs(estimate - 8 * len(data)) <= 0.01 * 8 * len(data) + 64
        assert out.x_hat.std() > 1e-3 or shape[2:] == (1, 1)
        assert all(p.mean() > 100 for p in information(codec, x))  # not degenerate


@EVERY
def test_gradients_are_finite_and_agree_with_differences_of_the_frozen_function(name: str) -> None:
    codec, x = lively(name), clip(1, 1, 64, 64, seed=1) * 0.5 + 0.25
    for what in ("x_hat", "bits"):
        with rounding("frozen") as state:

            def score(at: Tensor) -> Tensor:
                state.rewind()
                value: Tensor = getattr(codec(at), what).double()  # noqa: B023
                return value.square().sum() if what == "x_hat" else value.sum()  # noqa: B023

            leaf = x.clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(score(leaf), leaf)
            assert grad.isfinite().all() and grad.abs().sum() > 0
            direction, slope, step = grad.sign(), grad.double().abs().sum(), 1e-3
            with torch.no_grad():
                difference = (score(x + step * direction) - score(x - step * direction)) / (2 * step)
        assert float(difference) == pytest.approx(float(slope), rel=0.02), what


@SOME
def test_training_reaches_every_parameter(name: str) -> None:
    codec: Any = codecs.build(f"{name}:weights=random")
    x = clip(1, 1, 64, 64)
    codec.train()
    with rounding("noise"):
        out = codec(x)
        (out.x_hat.sub(0.5).square().sum() + out.bits.sum()).backward()
    codec.aux_loss().backward()
    without = [n for n, p in codec.net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == (["Gain"] if name in VARIABLE else [])  # CompressAI's schedule sets the gains by hand
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter *= 1.01
    codec.eval()
    codec.refresh()
    with torch.no_grad():
        assert (codec.decompress(codec.compress(x)) - codec(x).x_hat).abs().max() <= 1e-4


@EVERY
def test_damaged_and_foreign_streams_raise(name: str) -> None:
    codec = lively(name)
    (data,) = codec.compress(clip(1, 1, 64, 64))
    rng = torch.Generator().manual_seed(0)
    for at in torch.randint(len(data), (40,), generator=rng).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 + at % 255
        for damaged in (bytes(flipped), data[:at]):
            with pytest.raises(StreamError):
                codec.decompress([damaged])
    other = lively("mbt2018-mean" if name != "mbt2018-mean" else "mbt2018")
    for foreign in (b"", data + b"\x00", *other.compress(clip(1, 1, 64, 64))):
        with pytest.raises(StreamError):
            codec.decompress([foreign])


@pytest.mark.parametrize("name", PLAIN + GROUPS)
def test_forward_is_compressais(name: str) -> None:
    codec, x = lively(name), clip(2, 1, 64, 128)
    with torch.no_grad():
        theirs, ours = codec.net(x[:, 0]), codec(x)
        assert (ours.x_hat[:, 0] - theirs["x_hat"].clamp(0, 1)).abs().max() <= 1e-4
        for part, key in zip(information(codec, x), ("y", "z"), strict=False):
            expected = -theirs["likelihoods"][key].log2().flatten(1).sum(1)
            assert torch.allclose(part, expected, rtol=1e-4), key


@pytest.mark.parametrize("name", RASTER + GROUPS)
def test_streams_decode_as_compressais_and_are_not_larger(name: str) -> None:
    codec, x = lively(name), clip(1, 1, 64, 128)
    with torch.no_grad():
        theirs = codec.net.compress(x[:, 0])
        decoded = codec.net.decompress(theirs["strings"], theirs["shape"])["x_hat"]
        parts, _ = codec.encode(codec.pad(x[:, 0]))
        assert (codec(x).x_hat[:, 0] - decoded).abs().max() <= 1e-4
        *y_strings, z_strings = theirs["strings"]
        assert parts[1] == z_strings[0]
        size = sum(len(s[0]) if isinstance(s, list) else len(s) for s in y_strings)
        assert size - 8 * len(y_strings) <= len(parts[0]) <= size + 4  # one rANS ending in place of one per group


@pytest.mark.parametrize("name", VARIABLE)
@pytest.mark.parametrize("gain", [1.0, 0.37268, 0.15])
def test_variable_rate_is_compressais(name: str, gain: float) -> None:
    codec, x = lively(name), clip(2, 1, 64, 128)
    before = codec.gain
    codec.gain = gain
    try:
        with torch.no_grad():
            theirs = codec.net(x[:, 0], stage=2, inputscale=torch.tensor(gain))
            assert (codec(x).x_hat[:, 0] - theirs["x_hat"].clamp(0, 1)).abs().max() <= 1e-4
            expected = {k: -v.log2().flatten(1).sum(1) for k, v in theirs["likelihoods"].items()}
            y_bits, z_bits = information(codec, x)
            assert torch.allclose(y_bits, expected["y"], rtol=1e-4)
            if name == "mbt2018-vbr":  # elsewhere CompressAI rates z on the unit grid whatever its step: see below
                assert torch.allclose(z_bits - 32, expected["z"], rtol=1e-4)
            real = [8 * len(s) for s in codec.compress(x)]
            assert codec(x).bits.tolist() == pytest.approx(real, rel=0.01, abs=64)
    finally:
        codec.gain = before


@pytest.mark.parametrize("name", VARIABLE)
def test_the_gain_travels_in_the_stream(name: str) -> None:
    codec, x = lively(name), clip(1, 1, 64, 64)
    before = codec.gain
    try:
        decoded, sizes = {}, []
        for gain in (0.125, 0.5, 1.0):
            codec.gain = gain
            streams = codec.compress(x)
            decoded[streams[0]] = codec(x).x_hat.detach()
            sizes.append(len(streams[0]))
        codec.gain = 0.7
        for data, expected in decoded.items():
            assert (codec.decompress([data]) - expected).abs().max() <= 1e-4
        assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    finally:
        codec.gain = before


def test_quality_picks_a_trained_gain() -> None:
    codec: Any = codecs.build("bmshj2018-hyperprior-vbr:quality=3,weights=random")
    assert codec.gain == pytest.approx(0.19293) and codec.net.N == 192
    assert codecs.build("bmshj2018-hyperprior-vbr:weights=random").gain == 1.0
    assert codecs.build("bmshj2018-hyperprior-vbr:weights=random,gain=0.25").gain == 0.25
    builder: Any = codecs.get("mbt2018-vbr")
    assert builder.fingerprint(**codecs.resolve("mbt2018-vbr.mse-q2")) == "mbt2018-mse-vbr-f12581a1.pth.tar"


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (7, 3), (2, 9)])
def test_wavefronts_visit_all_positions_after_their_causal_neighbours(size: tuple[int, int]) -> None:
    height, width = size
    when = {
        (r, c): step
        for step, (rows, cols) in enumerate(wavefronts(height, width, torch.device("cpu")))
        for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
    }
    assert set(when) == {(r, c) for r in range(height) for c in range(width)}
    for (r, c), step in when.items():
        for dr, dc in [(-i, j) for i in (1, 2) for j in range(-2, 3)] + [(0, -1), (0, -2)]:
            assert when.get((r + dr, c + dc), -1) < step


def test_factorized_relu_is_the_relu_network() -> None:
    net = lively("bmshj2018-factorized-relu").net
    assert any(isinstance(m, nn.ReLU) for m in net.g_a) and any(isinstance(m, nn.ReLU) for m in net.g_s)
    assert not any(isinstance(m, GDN) for m in net.modules())
    assert any(isinstance(m, GDN) for m in lively("bmshj2018-factorized").net.modules())


def test_elic2022_is_the_official_network() -> None:
    assert codecs.get("elic2022") is codecs.get("elic2022-official")


@SOME
def test_checkpoints_load_by_path_and_only_into_their_family(name: str, tmp_path: Path) -> None:
    codec, path = lively(name), tmp_path / "small.safetensors"
    card = {"name": f"{name}.small", "family": name, "architecture": codec.card.architecture}
    weights.save(path, codec.state(), card)
    loaded, x = codecs.build(f"{name}:weights={path}"), clip(1, 1, 64, 64)
    assert loaded.card.name == f"{name}.small"
    with torch.no_grad():
        assert (loaded.decompress(loaded.compress(x)) - loaded(x).x_hat).abs().max() <= 1e-4
    other = "mbt2018-mean" if name != "mbt2018-mean" else "mbt2018"
    with pytest.raises(WeightsError, match=name):
        codecs.build(f"{other}:weights={path}")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="sha256"):
        codecs.build(f"{name}:weights={path}")


@pytest.mark.parametrize("name", ["mbt2018", "cheng2020-anchor-checkerboard", "mbt2018-vbr"])
def test_a_wrong_pickle_raises(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    torch.save(lively("bmshj2018-hyperprior").net.state_dict(), path)
    with pytest.raises(WeightsError, match="does not fit"):
        codecs.build(f"{name}:weights={path}")
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no checkpoint"):
        codecs.build(f"{name}:weights={path}")


def test_variable_rate_checkpoints_may_hold_stale_tables() -> None:
    source = lively("mbt2018-mean-vbr")
    target: Any = codecs.build("mbt2018-mean-vbr:weights=random,seed=1")
    source.compress(clip(1, 1, 64, 64))
    state = {**source.net.state_dict(), "QuantOffset": torch.zeros(1)}
    assert state["entropy_bottleneck._quantized_cdf"].numel() > 0
    _fitting.load_into(target.net, state, "stale.pth")
    target.refresh()
    assert target.model_id == source.model_id
    assert torch.equal(
        target.decompress(source.compress(clip(1, 1, 64, 64))), source.decompress(source.compress(clip(1, 1, 64, 64)))
    )


@pytest.mark.parametrize(
    "spec, file",
    [
        ("mbt2018.mse-q3", "mbt2018-3-22901978.pth.tar"),
        ("cheng2020-attn:quality=1,metric=ms-ssim", "cheng2020_attn-ms-ssim-1-c5381d91.pth.tar"),
        ("mbt2018-mean-vbr.mse-q3", "mbt2018-mean-mse-vbr-45d095e9.pth.tar"),
    ],
)
def test_official_weights_name_file_address_and_place_when_offline(
    spec: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(WeightsError) as caught:
        codecs.build(spec)
    for fact in (file, "https://", str(tmp_path)):
        assert fact in str(caught.value)


@pytest.mark.parametrize("spec", ["elic2022.mse-q3", "cheng2020-anchor-checkerboard.mse-q3", "mbt2018-vbr.ms-ssim-q3"])
def test_weights_that_nobody_publishes_say_so(spec: str) -> None:
    with pytest.raises(WeightsError, match="publishes no weights"):
        codecs.build(spec)


def test_its_data_sets_come_when_they_are_asked_for() -> None:
    from compressai.datasets import ImageFolder

    assert ImageFolder.__module__ == "compressai.datasets.image" and ImageFolder.__getitem__


@pytest.mark.parametrize("spec", ["bmshj2018-hyperprior.tiny-q2", "mbt2018:weights=random"])
def test_codecs_are_pickled(spec: str) -> None:
    """As whoever sends one to another process does."""
    codec, x = codecs.build(spec), clip(1, 1, 64, 64)
    again: Any = pickle.loads(pickle.dumps(codec))
    assert again.compress(x) == codec.compress(x)
    assert torch.equal(again.decompress(codec.compress(x)), codec.decompress(codec.compress(x)))
