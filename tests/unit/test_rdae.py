"""The rate–distortion autoencoder: exact entropy coding in integers, closed GoPs, any clip, damage, and weights."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustcodec import stream
from robustcodec.errors import BadParameter, StreamError, WeightsError
from robustcodec.registry import codecs
from robustcodec.rounding import rounding
from robustcodec.training.codec import Trainer
from robustcodec.training.recipe import Recipe
from robustcodec.zoo import _wavefront
from robustcodec.zoo._causal_prior import Prior
from robustcodec.zoo._integer_prior import STREAM_LIMIT, IntegerPrior, Map
from robustcodec.zoo._rdae_networks import CONFIGS, Architecture, Temporal
from robustcodec.zoo.rdae import Rdae

TEMPORAL: list[Temporal] = ["none", "prev", "gru"]
SPEC = "rdae:config=tiny,weights=random"


def prior_of(temporal: Temporal, channels: int = 5, levels: int = 8, seed: int = 0) -> tuple[Prior, IntegerPrior]:
    """A prior with lively random weights, and its integer copy."""
    a = Architecture(8, 1, channels, (1, 2, 1), prior_width=6, prior_layers=3, levels=levels, temporal=temporal)
    torch.manual_seed(seed)
    prior = Prior(a)
    with torch.no_grad():
        for name, p in prior.named_parameters():
            p.mul_(1.3) if p.ndim > 2 else p.normal_(0, 0.3)
            assert p.abs().max() > 0, name
        assert prior.hidden.bias is not None
        prior.hidden.bias.add_(1)  # no position whose rectifiers are all shut
    exported = IntegerPrior(a)
    exported.export(prior)
    return prior, exported


def one_hot(symbols: Tensor, levels: int = 8) -> Tensor:
    return F.one_hot(symbols, levels).float()


@pytest.fixture(scope="module")
def codec() -> Rdae:
    built: Any = codecs.build(SPEC)
    return built  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Five frames of a moving picture of odd size, ``(1, 5, 3, 37, 45)``."""
    y, x = torch.meshgrid(torch.linspace(0, 6, 37), torch.linspace(0, 7, 45), indexing="ij")
    frames = [torch.stack([torch.sin(x + 0.3 * t), torch.cos(y - 0.2 * t), torch.sin(x * y + t)]) for t in range(5)]
    return (torch.stack(frames)[None] + 1) / 2


# -- the prior ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_no_symbol_sees_itself_or_later_ones(temporal: Temporal) -> None:
    prior, _ = prior_of(temporal, channels=3)
    symbols = one_hot(torch.randint(0, 8, (1, 3, 3, 3, 4))).requires_grad_(True)
    log_p = prior(symbols)
    when = torch.arange(3 * 3 * 3 * 4).view(3, 3, 3, 4).permute(1, 0, 2, 3)  # slice, channel, row, column
    context = 0
    for c, s, y, x in [(0, 0, 0, 0), (1, 1, 1, 2), (2, 2, 2, 3), (0, 2, 1, 0)]:
        (grad,) = torch.autograd.grad(log_p[0, c, s, y, x].square().sum(), symbols, retain_graph=True)
        seen = when[grad[0].abs().sum(-1) > 0]
        assert (seen < when[c, s, y, x]).all()
        context += len(seen)
    assert context > 20


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_probabilities_sum_to_one_and_bits_are_cross_entropy(temporal: Temporal) -> None:
    prior, _ = prior_of(temporal)
    symbols = torch.randint(0, 8, (2, 5, 2, 3, 4))
    with torch.no_grad():
        p = prior(one_hot(symbols)).exp()
        bits = prior.bits(one_hot(symbols))
    assert torch.allclose(p.sum(-1), torch.ones(()), atol=1e-5)
    by_hand = -p.gather(-1, symbols[..., None]).log2().flatten(1).sum(1)
    assert torch.allclose(bits, by_hand, rtol=1e-5)
    assert p.min() > 4 / 65536 / 9


def integer_reference(prior: IntegerPrior, symbols: Tensor) -> Tensor:
    """Weights of one slice by ordinary masked convolutions of int64, without history: ``(C, h, w, levels)``."""
    a = prior.architecture

    def requantise(layer: Map, accumulated: Tensor) -> Tensor:
        """Integers alone: multiply, add half, shift; a multiplier may have a shift of at most 62 bits."""
        out = []
        for i, values in enumerate(accumulated):
            shift = int(layer.shift[i])
            product = values * int(layer.multiplier[i])
            out.append(((product + (1 << shift >> 1)) >> shift) + int(layer.bias[i]))
        return torch.stack(out)

    def convolve(x: Tensor, weight: Tensor, taps: int) -> Tensor:
        channels, inputs = weight.shape[0], x.shape[0]
        kernel = torch.zeros(channels, 27, inputs, dtype=torch.int64)
        kernel[:, :taps] = weight.long().view(channels, taps, inputs)
        kernel = kernel.transpose(1, 2).reshape(channels, inputs, 3, 3, 3)
        return F.conv3d(x[None].double(), kernel.double(), padding=1)[0].round().long()

    def table(name: str, argument: Tensor) -> Tensor:
        index = ((argument + 4) >> 3).clamp(-1024, 1023) + 1024
        return prior.get_buffer(name).long()[index]

    def pointwise(layer: Map, x: Tensor) -> Tensor:
        return requantise(layer, torch.einsum("oi,ichw->ochw", layer.weight.long(), x))

    x = (2 * symbols - (a.levels - 1))[None]
    for i, layer in enumerate(prior.layers):
        causal = layer.causal
        argument = requantise(causal, convolve(x, causal.weight, layer.taps)) + layer.channel.long().T[..., None, None]
        content, opening = argument.chunk(2)
        y = pointwise(layer.project, table("tanh", content) * table("sigmoid", opening))
        x = (y if i == 0 else x + y).clamp(-STREAM_LIMIT, STREAM_LIMIT)
    hidden = pointwise(prior.hidden, x.clamp_min(0)).clamp(0, STREAM_LIMIT)
    logits = pointwise(prior.out, hidden)
    below = (logits.amax(0) - logits).clamp_max(767)
    return prior.get_buffer("exp").long()[below].permute(1, 2, 3, 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7), st.integers(2, 9), st.integers(0, 1000))
def test_waves_equal_the_full_pass_and_plain_integer_convolutions(
    channels: int, height: int, width: int, levels: int, seed: int
) -> None:
    _, prior = prior_of("none", channels, levels, seed)
    symbols = torch.randint(0, levels, (channels, height, width), generator=torch.Generator().manual_seed(seed))
    size = channels, height, width
    full, wavy = (_wavefront.Slices(prior, 1, size) for _ in range(2))
    everywhere = torch.arange(symbols.numel())
    full.put(everywhere, symbols.flatten()[None])
    expected = full.weights(everywhere)[0]
    assert torch.equal(expected.view(*size, levels).long(), integer_reference(prior, symbols))
    seen = torch.zeros(0, dtype=torch.long)
    for wave in _wavefront.waves(*size):
        positions = torch.from_numpy(wave)
        assert torch.equal(wavy.weights(positions)[0], expected[positions])
        wavy.put(positions, symbols.flatten()[positions][None])
        seen = torch.cat((seen, positions))
    assert torch.equal(seen.sort().values, everywhere)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(TEMPORAL), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_strings_decode_to_their_symbols_alone_or_together(
    temporal: Temporal, slices: int, height: int, width: int, seed: int
) -> None:
    prior, exported = prior_of(temporal, channels=3, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    symbols = torch.randint(0, 8, (3, 3, slices, height, width), generator=rng)
    coded = [_wavefront.encode(exported, s) for s in symbols]
    size = 3, slices, height, width
    assert torch.equal(_wavefront.decode(exported, [c[0] for c in coded], size), symbols)
    for (string, bits), s in zip(coded, symbols, strict=True):
        assert torch.equal(_wavefront.decode(exported, [string], size)[0], s)
        assert abs(8 * len(string) - bits) <= 0.01 * bits + 64
    with torch.no_grad():
        floating = prior.bits(one_hot(symbols))
    assert torch.tensor([c[1] for c in coded]).sum() == pytest.approx(float(floating.sum()), rel=0.005)


def test_a_trained_prior_loses_nothing_in_integers() -> None:
    """After training the two cross-entropies agree far better than 0.5 %: 200 steps on correlated symbols."""
    a = Architecture(8, 1, 4, (1, 2, 1), prior_width=12, prior_layers=3, temporal="prev")
    torch.manual_seed(0)
    prior, optimiser = Prior(a), None
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)

    def draw(n: int) -> Tensor:
        smooth = F.avg_pool3d(torch.randn(n, 4, 5, 12, 12), 3, stride=1, padding=1)[:, :, 1:4, 2:10, 2:10]
        return (smooth / smooth.std() * 1.5 + 3.5).round().clamp(0, 7).long()

    for _ in range(60):
        loss = prior.bits(one_hot(draw(4))).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    exported = IntegerPrior(a)
    exported.export(prior)
    held_out = draw(6)
    with torch.no_grad():
        floating = float(prior.bits(one_hot(held_out)).sum())
    assert floating < 0.9 * 3 * held_out.numel()
    integer = sum(_wavefront.encode(exported, s)[1] for s in held_out)
    assert integer == pytest.approx(floating, rel=0.002)


# -- the codec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 1, 1), (8, 16, 16), (9, 24, 9), (17, 8, 40), (3, 37, 53)])
def test_any_clip_survives_its_bytes(codec: Rdae, frames: int, height: int, width: int) -> None:
    x = torch.rand(2, frames, 3, height, width)
    streams = codec.compress(x)
    decoded = codec.decompress(streams)
    with torch.no_grad():
        out = codec(x)
    assert decoded.shape == x.shape
    assert torch.allclose(out.x_hat, decoded, atol=1e-5)
    for bits, s in zip(out.bits.tolist(), streams, strict=True):
        assert abs(bits - 8 * len(s)) <= 0.01 * 8 * len(s) + 64
    assert [codec.compress(x[i : i + 1])[0] for i in range(2)] == streams


def test_gops_are_closed() -> None:
    short = codecs.build(f"{SPEC},gop=2")
    x = torch.rand(1, 6, 3, 16, 16)
    changed = x.clone()
    changed[:, 3] = torch.rand(3, 16, 16)
    with torch.no_grad():
        apart = (short(x).x_hat - short(changed).x_hat).abs().amax((0, 2, 3, 4))
    assert torch.equal(apart[[0, 1, 4, 5]], torch.zeros(4)) and (apart[2:4] > 0).all()
    with pytest.raises(BadParameter, match=r"gop=3; expected a positive multiple of 2"):
        codecs.build(f"{SPEC},gop=3")


def test_another_gop_is_another_model(codec: Rdae, clip: Tensor) -> None:
    with pytest.raises(StreamError, match="was not written by"):
        codecs.build(f"{SPEC},gop=4").decompress(codec.compress(clip))


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_every_kind_of_history_codes(temporal: Temporal, clip: Tensor) -> None:
    built: Any = codecs.build(f"{SPEC},temporal={temporal}")
    symbols = torch.stack([s for s in built._symbols([built.packet(built.compress(clip)[0])])[0]])
    assert torch.equal(symbols, torch.stack(built.symbols(clip)))


def test_written_with_two_threads_read_with_one_and_in_another_process(
    codec: Rdae, clip: Tensor, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        (data,) = codec.compress(clip)
        torch.set_num_threads(1)
        here = codec.decompress([data])
    finally:
        torch.set_num_threads(before)
    (tmp_path / "clip.rc").write_bytes(data)
    program = (
        "import sys, torch, numpy; from robustcodec.registry import codecs\n"
        f"codec = codecs.build({SPEC!r}); data = open(sys.argv[1], 'rb').read()\n"
        "numpy.save(sys.argv[2], codec.decompress([data]).numpy())"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "clip.rc", tmp_path / "there.npy"], check=True)
    assert np.abs(np.load(tmp_path / "there.npy") - here.numpy()).max() < 1e-5


@pytest.mark.parametrize("surrogate", ["straight-through", "none", "noise"])
def test_gradients_reach_the_input(codec: Rdae, clip: Tensor, surrogate: str) -> None:
    x = clip.clone().requires_grad_(True)
    with rounding(surrogate):  # type: ignore[arg-type]
        out = codec(x)
        for value in (out.x_hat.square().sum(), out.bits.sum()):
            (grad,) = torch.autograd.grad(value, x, retain_graph=True)
            assert grad.isfinite().all() and (grad != 0).float().mean() > 0.5


def repaired(data: bytes) -> bytes:
    """``data`` with a checksum that matches, as a forger would write it."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def test_two_thousand_damaged_streams(codec: Rdae) -> None:
    """Flips, cuts and splices; every second one with a repaired checksum, so that it reaches the range decoder."""
    x = torch.rand(2, 2, 3, 8, 8)
    whole, other = codec.compress(x)
    rng = np.random.default_rng(0)
    decoded_after = 0
    for i in range(2000):
        at = int(rng.integers(len(whole)))
        if i % 4 < 2:
            data = whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        elif i % 4 == 2:
            data = whole[:at]
        else:
            data = whole[:at] + other[int(rng.integers(len(other))) :]
        forged = i % 2 == 1 and len(data) >= 4
        data = repaired(data) if forged else data
        if data in (whole, other):
            continue
        try:
            decoded = codec.decompress([data])
        except StreamError:
            continue
        assert forged, "damage passed the checksum of bytes"
        decoded_after += 1
        packet = codec.packet(data)
        assert decoded.shape == (1, packet.frames, 3, packet.height, packet.width)
        symbols = codec._symbols([packet])[0]
        crc = 0
        for gop in symbols:
            crc = zlib.crc32(gop.to(torch.uint8).numpy().tobytes(), crc)
        assert crc == packet.symbol_crc
    assert decoded_after < 200


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 1 << 13, 1 << 13), (1 << 20, 8, 8), (1 << 26, 1, 1)])
def test_a_forged_header_allocates_nothing(codec: Rdae, frames: int, height: int, width: int) -> None:
    parts = tuple(b"\0" * 8 for _ in range(min(-(-frames // 8), 1 << 10)))
    forged = stream.pack(stream.Packet(frames, height, width, parts, 0), codec.model_id)
    with pytest.raises(StreamError, match="cannot hold|too short|asks for"):
        codec.decompress([forged])


def test_strings_with_bytes_left_over_or_missing_are_refused(codec: Rdae) -> None:
    prior = codec.integer_prior
    symbols = torch.randint(0, 8, (16, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    string, _ = _wavefront.encode(prior, symbols)
    with pytest.raises(StreamError, match="left over"):
        _wavefront.decode(prior, [string + b"\1\2\3\4\5\6\7\10"], (16, 2, 3, 3))
    with pytest.raises(StreamError, match="cannot hold"):
        _wavefront.decode(prior, [string[:-1]], (16, 2, 3, 3))


# -- weights and training -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(SPEC, "test", ("clips:frames=4,size=40",), 0.003, steps=4, batch=2, crop=32, frames=4)
    return Trainer(recipe, tmp_path_factory.mktemp("rdae")).run()


def test_trained_weights_load_and_code_bit_for_bit(trained: Path, clip: Tensor) -> None:
    first: Any = codecs.build(f"rdae:weights={trained}")
    second: Any = codecs.build(f"rdae:weights={trained}")
    (data,) = first.compress(clip)
    assert second.compress(clip) == [data]
    assert torch.equal(first.decompress([data]), second.decompress([data]))
    assert first.card.architecture["temporal"] == "prev" and first.card.kind == "video"
    exported = IntegerPrior(first.architecture)
    exported.export(first.prior)
    for mine, stored in zip(exported.buffers(), first.integer_prior.buffers(), strict=True):
        assert torch.equal(mine, stored)


def test_rdae_weights_start_rdae_gan_and_nothing_else(trained: Path) -> None:
    assert codecs.build(f"rdae-gan:weights={trained}").card.family == "rdae-gan"
    with pytest.raises(WeightsError, match="holds weights of rdae, not of mbt2018-mean"):
        codecs.build(f"mbt2018-mean:weights={trained}")
    with pytest.raises(BadParameter, match=r"test.safetensors says what its prior sees"):
        codecs.build(f"rdae:weights={trained},temporal=gru")
    with pytest.raises(BadParameter, match="needs weights"):
        codecs.build("rdae")


@pytest.mark.parametrize("config", ["mid", "paper"])
def test_larger_configurations_code_and_train_a_step(config: str, tmp_path: Path) -> None:
    recipe = Recipe(
        f"rdae:config={config},weights=random", config, ("clips:frames=16,size=32",), 0.005, beta=0.1,
        rate_unit="symbol", steps=1, batch=1, crop=16, frames=8,
    )  # fmt: skip
    trainer = Trainer(recipe, tmp_path)
    before = trainer.main[0].clone()
    built: Any = codecs.build(f"rdae:weights={trainer.run()}")
    assert not torch.equal(trainer.main[0], before)
    assert built.architecture == CONFIGS[config]
    assert built.decompress(built.compress(torch.rand(1, 3, 3, 9, 9))).shape == (1, 3, 3, 9, 9)
