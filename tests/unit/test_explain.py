"""Where damage comes from: a small codec of which every number is computed by hand, and the bundled ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import robustcodec
from robustcodec.clips import to_uint8
from robustcodec.errors import BadData, UserError
from robustcodec.interfaces import Card
from robustcodec.probing import LATENTS, probe, probed
from robustcodec.studies.explain import Explanation, explain, replacements
from robustcodec.studies.layers import Layer, trace
from robustcodec.zoo.symbols import SymbolCodec, Symbols


class Twice(nn.Module):
    """Adds what is inside it to its input, in place as CompressAI's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.inside(x)
        out += x
        return out  # type: ignore[no-any-return]


class Gained(nn.Module):
    """A layer with a parameter of its own and a module inside, which is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.inside = nn.Parameter(torch.tensor(2.0)), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x) * self.gain  # type: ignore[no-any-return]


class Hand(SymbolCodec):
    """Whole grey levels in [0, 100] as symbols, by layers that a hand can follow."""

    card, channels = Card("hand", "hand"), 3

    def __init__(self) -> None:
        super().__init__()
        first, last = (nn.Conv2d(3, 3, 1, bias=False) for _ in range(2))
        self.g_a = nn.Sequential(first, nn.ReLU(inplace=True), nn.Identity(), Twice())
        self.g_s = nn.Sequential(Gained(), last)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.copy_(torch.eye(3)[..., None, None])
            first.weight.mul_(50)
            last.weight.div_(200)
        self.eval()

    def analyse(self, frames: Tensor) -> Tensor:
        return self.g_a(frames)  # type: ignore[no-any-return]

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return self.g_s(y_hat)  # type: ignore[no-any-return]

    def estimate(self, y_hat: Tensor) -> Tensor:
        return y_hat.abs().flatten(1).sum(1)

    def encode_symbols(self, symbols: Symbols) -> bytes:
        return symbols.astype("<i4").tobytes()

    def decode_symbols(self, data: bytes, count: int) -> Symbols:
        return np.frombuffer(data, "<i4", count).astype(np.int32)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Grey and red of one pixel: 0.204 × 100 = 20.4 rounds to 20, 0.206 to 21."""
    x = torch.full((1, 1, 3, 1, 1), 0.204)
    x_adv = x.clone()
    x_adv[:, :, 0] = 0.206
    return x, x_adv


def test_every_layer_against_sums_by_hand(pair: tuple[Tensor, Tensor]) -> None:
    """All layers are linear here: only the rounding changes the ratio."""
    before = 0.002 / (0.204 * math.sqrt(3))
    behind = 1 / (20 * math.sqrt(3))
    expected = [
        ("input", "clip", before, math.nan),
        ("g_a.0", "Conv2d", before, 1),
        ("g_a.1", "ReLU", before, 1),
        ("g_a.3.inside", "Conv2d", before, 1),
        ("g_a.3", "Twice", before, 1),
        ("latents", "coded", behind, behind / before),
        ("g_s.0", "Gained", behind, 1),
        ("g_s.1", "Conv2d", behind, 1),
        ("reconstruction", "clip", behind, math.nan),
    ]
    layers = trace(Hand(), *pair)
    assert [(layer.name, layer.kind) for layer in layers] == [row[:2] for row in expected]
    for layer, (_, _, size, factor) in zip(layers, expected, strict=True):
        assert layer.perturbation == pytest.approx(size, rel=1e-4), layer
        assert layer.amplification == pytest.approx(factor, rel=1e-4, nan_ok=True), layer


def test_a_trace_leaves_nothing_behind(pair: tuple[Tensor, Tensor]) -> None:
    codec: Any = robustcodec.load("mbt2018-mean.tiny-q2")
    trace(codec, *pair)
    twins = codec._exact_modules["h_s"]
    hooks = [m for module in (codec, twins) for m in module.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_a_replaced_part_by_hand(pair: tuple[Tensor, Tensor]) -> None:
    """The rounding took one of three values from 20 to 21: 0.01 in the picture, and a bit."""
    nothing, latents, everything = replacements(Hand(), *pair)
    assert (nothing.part, latents.part, everything.part) == ("nothing", "latents", "everything")
    assert nothing.error == pytest.approx(0.01**2 / 3, rel=1e-3) and nothing.bits - everything.bits == pytest.approx(1)
    assert (nothing.error_left, nothing.bits_left) == (1, 1)
    assert (latents.error, latents.error_left, latents.bits_left) == (0, 0, 0)


def test_probes_of_one_name_are_replaced_in_their_order() -> None:
    values = iter([torch.tensor(1.0), torch.tensor(2.0)])
    with probed(lambda name, value, source: next(values) if name == LATENTS else value):
        first, other, second = (probe(name, torch.tensor(0.0)) for name in (LATENTS, "scales", LATENTS))
    assert [float(v) for v in (first, other, second)] == [1, 0, 2] and probe(LATENTS, torch.tensor(5.0)) == 5


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("bmshj2018-factorized.tiny-q2", 1),
        ("bmshj2018-hyperprior.tiny-q2", 1),
        ("mbt2018-mean.tiny-q2", 1),
        ("mbt2018:quality=1,weights=random", 1),
        ("elic2022:quality=1,weights=random", 1),
        ("bmshj2018-hyperprior-vbr:quality=8,weights=random", 1),
        ("rdae.tiny-q2", 2),
        ("ssf2020:quality=1,weights=random", 2),
    ],
)
def test_families_show_what_they_code(name: str, frames: int, photo: Tensor) -> None:
    """The picture depends on latents alone, so nothing of the error is left without them; on scales never. With all
    parts clean the bits are the clean ones, whichever way a family makes its probabilities.
    """
    codec = robustcodec.load(name)
    with torch.no_grad():
        grown = ("g_a.0.weight",) if "elic" in name else ("g_a.6.weight", "img_encoder.6.weight")
        for weight_name, weight in codec.named_parameters():
            if "random" in name and weight_name.endswith(grown):
                weight.mul_(30)  # latents of untrained networks all round to zero
    clips = [photo[..., 8 * t : 8 * t + 64, 40:104] for t in range(frames)]
    x = torch.cat(clips)[None].float() / 255
    x_adv = (x + 0.06 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    shown = {one.part: one for one in replacements(codec, x, x_adv)}
    assert shown["nothing"].error > 0 and shown["nothing"].bits != shown["everything"].bits
    for part, one in shown.items():
        if part.endswith("scales"):
            assert one.error_left == 1
    if "latents" in shown:
        assert shown["latents"].error == 0
    expected = {"latents"} if "factorized" in name or "rdae" in name else {"latents", "side information", "scales"}
    assert expected <= {part.split(" ", 1)[-1] if frames > 1 and "ssf" in name else part for part in shown}


def test_replaced_scales_cost_what_they_say(photo: Tensor) -> None:
    """Bits of attacked latents under clean scales, from the networks alone."""
    codec = robustcodec.load("bmshj2018-hyperprior.tiny-q2")
    x = photo[None, ..., :64, :64].float() / 255
    x_adv = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    shown = {one.part: one for one in replacements(codec, x, x_adv)}
    net: Any = codec.net
    with torch.no_grad():
        y, y_adv = net.g_a(x[0]), net.g_a(x_adv[0])
        medians = net.entropy_bottleneck.quantiles[:, 0, 1].view(1, -1, 1, 1)
        scales = [net.h_s((net.h_a(v.abs()) - medians).round() + medians) for v in (y, y_adv)]
        bits = [-net.gaussian_conditional._likelihood(y_adv.round(), s).clamp(min=1e-9).log2().sum() for s in scales]
    saved = shown["nothing"].bits - shown["scales"].bits
    assert saved == pytest.approx(float(bits[1] - bits[0]), rel=0.05, abs=3)


@pytest.fixture(scope="module")
def explanation(photo: Tensor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Explanation, Path]:
    folder = tmp_path_factory.mktemp("explained")
    clip = photo[0, :, :64, :64]
    return explain("bmshj2018-factorized.tiny-q1", clip, "pgd:steps=2", threat="36dB", out=folder), folder


def test_it_explains_an_attack(explanation: tuple[Explanation, Path]) -> None:
    """The ends are the input's and the reconstruction's own, of the clips that the attack left."""
    shown, folder = explanation
    first, *_, last = shown.layers
    original, adversarial = (c.double() for c in (shown.outcome.original, shown.outcome.adversarial))
    assert first.perturbation == pytest.approx(float((adversarial - original).norm() / original.norm()))
    codec = robustcodec.load("bmshj2018-factorized.tiny-q1")
    with torch.no_grad():
        clean, attacked = (codec(c[None].float() / 255).x_hat.double() for c in (original, adversarial))
    assert last.perturbation == pytest.approx(float((attacked - clean).norm() / clean.norm()))
    assert to_uint8(clean[0].float()).float().sub(shown.outcome.clean.float()).abs().max() <= 1
    with Image.open(folder / "explanation.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20) or ()) > 20
    assert (folder / "explanation.json").is_file() and (folder / "panel.png").is_file()


def test_the_table_is_json(explanation: tuple[Explanation, Path]) -> None:
    table = explanation[0].table()
    assert table["layers"][0]["amplification"] is None and table["layers"][1]["name"] == "g_a.0"
    assert [row["part"] for row in table["replaced"]] == ["nothing", "latents", "everything"]
    assert isinstance(explanation[0].layers[0], Layer)


def test_a_codec_without_layers_is_refused_before_the_attack(photo: Tensor) -> None:
    with pytest.raises(UserError, match="jpeg.*has no layers to look into; expected a learned codec"):
        explain("jpeg:quality=30", photo[0])


def test_a_batch_is_refused_before_the_attack(photo: Tensor) -> None:
    with pytest.raises(BadData, match=r"source is a tensor \(1, 3, .* expected one picture \(3, H, W\)"):
        explain("bmshj2018-factorized.tiny-q1", photo)
