"""Scale-space flow, narrow and random: forward is the decoder, bits are the bytes, gradients reach the keyframe, and
CompressAI's own code is the independent reference.

Fresh random networks have latents that all round to zero and hardly any flow. :func:`lively` scales the last layers.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compressai.models.video import ScaleSpaceFlow
from torch import Tensor, nn

from robustcodec import stream, weights
from robustcodec.errors import BadParameter, StreamError, WeightsError
from robustcodec.interfaces import StreamPart
from robustcodec.registry import codecs
from robustcodec.rounding import Surrogate, rounding
from robustcodec.training import codec as train
from robustcodec.training.recipe import Recipe
from robustcodec.zoo.scale_space_flow import Network

SIDE = 128
BRANCHES = ("img", "motion", "res")


def clip(n: int, t: int, height: int = SIDE, width: int = SIDE, seed: int = 0) -> Tensor:
    """Smooth noise (N, T, 3, H, W) that moves by (2, 1) pixels per frame."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, height // 8 + 4, width // 8 + 4, generator=rng)
    size = height + 2 * t, width + t
    fine = F.interpolate(coarse, size, mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.stack([fine[..., 2 * i : 2 * i + height, i : i + width] for i in range(t)], 1)


def last(module: nn.Module) -> Any:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]


@cache
def lively(gop: int | None = None) -> Any:
    """A narrow random codec whose latents, side information, probabilities, flow and pictures are not degenerate."""
    codec: Any = codecs.build(f"ssf2020:weights=random,gop={gop}")
    net, frames = codec.net, clip(2, 2, seed=9)
    first, second = frames[:, 0], frames[:, 1]
    seen = {"img": first, "motion": torch.cat((second, first), 1), "res": second - first}
    with torch.no_grad():
        for name in BRANCHES:
            analysis, synthesis = net.get_submodule(f"{name}_encoder"), net.get_submodule(f"{name}_decoder")
            prior = net.get_submodule(f"{name}_hyperprior")
            for _ in range(3):
                last(analysis).weight *= 3 / analysis(seen[name]).std()
            y = analysis(seen[name])
            last(prior.hyper_encoder).weight *= 3 / prior.hyper_encoder(y).std()
            last(prior.hyper_decoder_scale).bias += 3
            last(prior.hyper_decoder_mean).weight *= 5
            spread = synthesis(torch.cat((y, y), 1) if name == "res" else y).std()
            last(synthesis).weight *= {"img": 0.15, "motion": 0.05, "res": 0.05}[name] / spread
        last(net.img_decoder).bias += 0.5
        last(net.motion_decoder).bias += torch.tensor([0.02, -0.03, -0.6])  # of half a side, and of the stack of blurs
    codec.refresh()
    return codec


def reconstructions(codec: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return codec(x).x_hat  # type: ignore[no-any-return]


@pytest.mark.parametrize("gop", [None, 2])
@pytest.mark.parametrize("shape", [(2, 3, 128, 128), (1, 3, 37, 53), (1, 1, 1, 1), (1, 2, 130, 64)])
def test_forward_is_the_decoded_stream_and_bits_are_its_size(gop: int | None, shape: tuple[int, int, int, int]) -> None:
    codec, x = lively(gop), clip(*shape)
    with torch.no_grad():
        out, streams = codec(x), codec.compress(x)
        assert codec.exact_forward and codec.card.kind == "video"
        assert out.x_hat.shape == x.shape
        assert (codec.decompress(streams) - out.x_hat).abs().max() <= 1e-4
        for estimate, data in zip(out.bits.tolist(), streams, strict=True):
            assert abs(estimate - 8 * len(data)) <= 0.01 * 8 * len(data) + 64
    assert out.x_hat.std() > 1e-3 or shape[2:] == (1, 1)


def test_a_part_without_information_is_the_coders_final_state() -> None:
    """Fresh random networks have nothing in y: that is what their parts of y cost."""
    codec: Any = codecs.build("ssf2020:weights=random")
    parts = codec.anatomy(codec.compress(clip(1, 2, 64, 64))[0])
    assert {p.bits for p in parts if p.name.endswith("y")} == {64}
    for information, final in ((0.0, 64.0), (10.0, 54.0), (16.0, 48.0), (900.0, 48.0)):
        overhead = codec.overhead(torch.tensor([[information]]), clip(1, 1, 64, 64))
        assert overhead.tolist() == [stream.overhead_bits((1, 64, 64), [int(information) // 8]) + final]


def test_frames_and_bits_are_compressais() -> None:
    codec, x = lively(), clip(2, 3)
    with torch.no_grad():
        theirs, ours = codec.net(list(x.unbind(1))), codec(x)
        x_hat = torch.stack(theirs["x_hat"], 1).clamp(0, 1)
        rates = [like for frame in theirs["likelihoods"] for like in frame.values()]
        expected = torch.stack([-r[part].log2().flatten(1).sum(1) for r in rates for part in "yz"])
        assert (ours.x_hat - x_hat).abs().max() <= 1e-4
        assert torch.allclose(ours.bits - codec.overhead(expected.T, x), expected.sum(0), 1e-3)
        assert expected[0::2].min() > 1000 and expected[1::2].min() > 50  # not degenerate
        gaps = (x_hat[:, 1:] - x_hat[:, :-1]).abs().mean((0, 2, 3, 4))
        assert gaps.min() > 0.01


def test_parts_are_compressais_strings_and_its_decoder_reads_them() -> None:
    codec, x = lively(), clip(1, 3)
    with torch.no_grad():
        strings, shapes = codec.net.compress(list(x.unbind(1)))
        theirs = [
            s[0] for frame in strings for pair in ([frame] if isinstance(frame, list) else frame.values()) for s in pair
        ]
        parts, _ = codec.encode(x[0])
        decoded = torch.stack(codec.net.decompress(strings, shapes), 1)
    assert parts == theirs
    assert (codec.decompress(codec.compress(x)) - decoded.clamp(0, 1)).abs().max() <= 1e-4


def test_a_narrow_network_has_compressais_layers() -> None:
    with torch.device("meta"):
        theirs = ScaleSpaceFlow()
    with torch.device("meta"):
        ours = Network()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert not any(p.is_meta for p in codecs.build("ssf2020:weights=random").parameters())


def slopes(codec: Any, x: Tensor, score: Callable[[Any], Tensor], frames: slice) -> tuple[float, float]:
    """Derivative of ``score`` along the sign of its gradient to some frames: by autograd, by central differences."""
    with rounding("frozen") as state:

        def value(at: Tensor) -> Tensor:
            state.rewind()
            total: Tensor = score(codec(at)).double()
            return total

        leaf = x.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(value(leaf), leaf)
        assert grad.isfinite().all()
        direction, step = torch.zeros_like(grad), 1e-3
        direction[:, frames] = grad[:, frames].sign()
        with torch.no_grad():
            difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    return float((grad * direction).double().sum()), float(difference)


@pytest.mark.parametrize("what", ["x_hat", "bits"])
def test_gradients_agree_with_differences_of_the_frozen_function(what: str) -> None:
    x = clip(1, 3, seed=1) * 0.5 + 0.25

    def score(out: Any) -> Tensor:
        per_sample: Tensor = (out.x_hat - x).square().flatten(1).sum(1) if what == "x_hat" else out.bits
        return per_sample.sum()

    slope, difference = slopes(lively(), x, score, slice(0, 3))
    assert slope > 0 and difference == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("what", ["x_hat", "bits"])
def test_the_keyframe_answers_for_the_last_frame(what: str) -> None:
    """In CompressAI's forward the last frame knows nothing of the first: it detaches the reconstruction."""
    codec, x = lively(), clip(1, 3, seed=1) * 0.5 + 0.25

    def score(out: Any) -> Tensor:
        per_sample: Tensor = (out.x_hat - x)[:, 2].square().flatten(1).sum(1) if what == "x_hat" else out.bits
        return per_sample.sum()

    slope, difference = slopes(codec, x, score, slice(0, 1))
    assert slope > 0 and difference == pytest.approx(slope, rel=0.03)
    leaf = x.clone().requires_grad_(True)
    theirs = torch.stack(codec.net(list(leaf.unbind(1)))["x_hat"], 1)
    (grad,) = torch.autograd.grad((theirs[:, 2] - x[:, 2]).square().sum(), leaf)
    assert grad[:, 0].abs().max() == 0


@pytest.mark.parametrize("surrogate", ["straight-through", "none"])
def test_a_keyframe_resets(surrogate: Surrogate) -> None:
    codec, x = lively(2), clip(1, 4)
    leaf = x.clone().requires_grad_(True)
    with rounding(surrogate):
        (grad,) = torch.autograd.grad(codec(leaf).x_hat[:, 2:].sum(), leaf)
    assert grad[:, :2].abs().max() == 0 and grad[:, 2].abs().max() > 0
    changed = torch.cat((1 - x[:, :2], x[:, 2:]), 1)
    before, after = reconstructions(codec, x), reconstructions(codec, changed)
    assert torch.equal(before[:, 2:], after[:, 2:]) and (before[:, :2] - after[:, :2]).abs().max() > 0.1
    assert (reconstructions(lively(), changed) - reconstructions(lively(), x))[:, 2:].abs().max() > 1e-3
    assert torch.equal(reconstructions(lively(1), x)[:, 3:], reconstructions(lively(), x[:, 3:]))


def test_a_clip_is_coded_alike_alone_and_in_a_batch() -> None:
    codec, x = lively(), clip(3, 3, 64, 96)
    assert codec.compress(x) == [codec.compress(x[i : i + 1])[0] for i in range(3)]
    assert torch.equal(reconstructions(codec, x)[1:2], reconstructions(codec, x[1:2]))


@pytest.mark.parametrize("gop", [None, 2, 3])
def test_the_parts_of_a_stream_are_those_of_its_frames(gop: int | None) -> None:
    codec = lively(gop)
    for frames in (1, 2, 4):
        (data,) = codec.compress(clip(1, frames, 32, 32))
        header, *parts = codec.anatomy(data)
        names = [
            [
                (t, n)
                for n in (("y", "z") if t % (gop or 9) == 0 else ("motion y", "motion z", "residual y", "residual z"))
            ]
            for t in range(frames)
        ]
        assert [(p.first, p.name) for p in parts] == sum(names, [])
        assert all(p.frames == 1 for p in parts)
        sizes = [p.bits // 8 for p in parts]
        assert header == StreamPart("header", 0, 0, stream.overhead_bits((frames, 32, 32), sizes))
        assert header.bits + 8 * sum(sizes) == 8 * len(data)


def test_streams_are_self_contained_and_of_one_model(tmp_path: Path) -> None:
    codec, x, path = lively(), clip(1, 2, 64, 64), tmp_path / "small.safetensors"
    card = {"name": "ssf2020.small", "family": "ssf2020", "architecture": codec.card.architecture}
    weights.save(path, codec.state(), card)
    writer, reader = (codecs.build(f"ssf2020:weights={path}") for _ in range(2))
    streams = writer.compress(x)
    assert torch.equal(reader.decompress(streams), writer.decompress(streams))
    assert reader.card.name == "ssf2020.small" and reader.card.kind == "video"
    for other in (lively(2), codecs.build(f"ssf2020:weights={path},gop=1")):
        with pytest.raises(StreamError, match="was not written by"):
            other.decompress(streams)
    with pytest.raises(WeightsError, match="ssf2020"):
        codecs.build(f"mbt2018-mean:weights={path}")
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress(codec.compress(x) + codec.compress(x[:, :1]))


def test_damaged_streams_raise() -> None:
    codec = lively()
    (data,) = codec.compress(clip(1, 2, 64, 64))
    rng = torch.Generator().manual_seed(0)
    for at in torch.randint(len(data), (40,), generator=rng).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 + at % 255
        for damaged in (bytes(flipped), data[:at]):
            with pytest.raises(StreamError):
                codec.decompress([damaged])
            with pytest.raises(StreamError):
                codec.anatomy(damaged)


def test_other_symbols_than_were_encoded_raise() -> None:
    codec = lively()
    (data,) = codec.compress(clip(1, 2, 64, 64))
    packet = codec.packet(data)
    swapped = stream.Packet(2, 64, 64, packet.parts[:2] + packet.parts[4:] + packet.parts[2:4], packet.symbol_crc)
    with pytest.raises(StreamError, match="something else than was encoded"):
        codec.decompress([stream.pack(swapped, codec.model_id)])


def test_training_reaches_every_parameter_and_stops_at_the_keyframe() -> None:
    codec: Any = codecs.build("ssf2020:weights=random")
    x = clip(1, 3, 64, 64)
    codec.train()
    with rounding("noise"):
        out = codec(x)
        later = out.x_hat[:, 1:].square().sum()
        (late,) = torch.autograd.grad(later, codec.net.img_decoder[0].weight, retain_graph=True)
        assert late.abs().max() == 0
        (out.x_hat.sub(0.5).square().sum() + out.bits.sum()).backward()
    codec.aux_loss().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in codec.parameters())
    assert len(codec.aux_parameters()) == 3
    assert torch.allclose(codec.aux_loss(), sum(codec.net.aux_loss()))


def test_a_training_step_gives_a_checkpoint_that_codes(tmp_path: Path) -> None:
    recipe = Recipe("ssf2020:weights=random", "test", ("clips",), 0.01, steps=1, batch=1, crop=64, frames=3)
    path = train.Trainer(recipe, tmp_path).run()
    trained, x = codecs.build(f"ssf2020:weights={path}"), clip(1, 2, 64, 64)
    start = dict(codecs.build("ssf2020:weights=random").named_parameters())
    moved = [n for n, p in trained.named_parameters() if (p - start[n]).abs().max() > 1e-4]
    assert any("motion_encoder" in n for n in moved) and any("img_decoder" in n for n in moved)
    assert (trained.decompress(trained.compress(x)) - reconstructions(trained, x)).abs().max() <= 1e-4


def test_official_weights_name_file_address_and_place_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(Network, "__init__", lambda self, N, M: nn.Module.__init__(self))  # 34 M weights take a while
    builder: Any = codecs.get("ssf2020")
    for spec in ("ssf2020.mse-q3", "ssf2020:quality=3,metric=mse,gop=8"):
        with pytest.raises(WeightsError) as caught:
            codecs.build(spec)
        for fact in ("ssf2020-mse-3-9c8b998d.pth.tar", "https://", str(tmp_path)):
            assert fact in str(caught.value)
        assert builder.fingerprint(**codecs.resolve(spec)) == "ssf2020-mse-3-9c8b998d.pth.tar"


def test_what_cannot_be_built_says_why() -> None:
    for spec in ("ssf2020.ms-ssim-q3", "ssf2020.mse-q10"):
        with pytest.raises(WeightsError, match="publishes no weights"):
            codecs.build(spec)
    with pytest.raises(BadParameter, match="gop=0"):
        codecs.build("ssf2020:weights=random,gop=0")
    with pytest.raises(BadParameter, match="needs weights"):
        codecs.build("ssf2020")
