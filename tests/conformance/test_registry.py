"""What every registered attack, objective, threat, defense and metric must do, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from robustcodec import load, registry
from robustcodec.interfaces import Codec, Draws
from robustcodec.oracle import Oracle
from robustcodec.spec import parameters

CODEC = "bmshj2018-hyperprior.tiny-q1"
NAMED = {"torchattacks": "torchattacks:MIFGSM,options=steps=2", "foolbox": "foolbox:LinfPGD,options=steps=2"}
FEW = {"steps": "2", "restarts": "1", "queries": "8", "samples": "2", "binary_search": "2"}  # what takes them takes few


def own(kind: registry.Registry[Any]) -> list[str]:
    """Names that this package registers; tests register others in the same process."""
    return [n for n in kind.names() if kind.get(n).__module__.startswith("robustcodec.")]


def quick(name: str) -> str:
    if name in NAMED:
        return NAMED[name]
    known = registry.attacks.resolve(name)
    return f"{name}:" + ",".join(f"{k}={v}" for k, v in FEW.items() if k in known)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load(CODEC).requires_grad_(False)


@pytest.fixture(scope="module")
def x() -> Iterator[Tensor]:
    photos = registry.data.build("photos:size=64").samples()[:2]
    yield torch.stack([s.load() for s in photos]).float() / 255


@pytest.mark.parametrize("name", own(registry.attacks))
def test_attacks_are_deterministic_per_sample_and_shaped_alike(name: str, codec: Codec, x: Tensor) -> None:
    attack, threat = registry.attacks.build(quick(name).rstrip(":")), registry.threats.build("psnr:36")
    if attack.access == "transform":
        codec = load("jpeg:quality=50")  # which states one
    objective = registry.objectives.build("distortion")

    def run(clips: Tensor, seeds: list[int]) -> Tensor:
        oracle = Oracle(codec, objective, clips, attack.access)
        out: Tensor = attack.run(oracle, clips.clone(), threat, Draws(seeds))
        inside: Tensor = threat.quantise(threat.project(out, clips), clips)
        return inside

    both = run(x, [1, 2])
    assert both.shape == x.shape and torch.isfinite(both).all()
    assert torch.equal(both, run(x, [1, 2]))
    alone = run(x[1:], [2])
    assert (alone - both[1:]).abs().mean() < 0.1 / 255  # a batch may differ by float noise before rounding


@pytest.mark.parametrize("name", own(registry.attacks))
def test_an_attack_is_spelled_by_its_repr(name: str) -> None:
    """Fields are identity: what resolves from the name builds an equal attack."""
    spec = NAMED.get(name, name)
    attack = registry.attacks.build(spec)
    fields = registry.attacks.resolve(spec)
    assert registry.attacks.get(name)(**fields) == attack
    assert all(f"{key}={value!r}" in repr(attack) for key, value in fields.items())


@pytest.mark.parametrize("name", [n for n in own(registry.objectives) if n != "lpips"])  # its backbone is a download
def test_objectives_give_damage_per_sample_with_a_gradient(name: str, codec: Codec, x: Tensor, tmp_path: Path) -> None:
    needs = "path" in parameters(registry.objectives.get(name))
    if needs:
        Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "t.png")
    clip = x.expand(-1, 2, -1, -1, -1)
    oracle = Oracle(codec, registry.objectives.build(f"{name}:{tmp_path}/t.png" if needs else name), clip, "white")
    damage, grad = oracle.gradient((clip + 0.02 * torch.sin(torch.arange(64.0))).clamp(0, 1))
    assert damage.shape == (2,) and torch.isfinite(damage).all()
    assert torch.isfinite(grad).all() and grad.flatten(1).abs().amax(1).min() > 0
    level = oracle.level()
    assert level.shape == (2,) and torch.isfinite(level).all() and (oracle(clip) < level).all()


@pytest.mark.parametrize("name", own(registry.defenses))
def test_defended_codecs_are_codecs(name: str, x: Tensor) -> None:
    defended = load(CODEC, name)
    torch.manual_seed(0)  # the same draw of a random one
    streams = defended.compress(x)
    torch.manual_seed(0)
    out = defended(x)
    assert (defended.decompress(streams) - out.x_hat).abs().max() < 1e-4
    for bits, stream in zip(out.bits.tolist(), streams, strict=True):
        assert abs(bits - 8 * len(stream)) <= 0.02 * 8 * len(stream) + 64


@pytest.mark.parametrize("name", [n for n in own(registry.metrics) if n != "lpips"])
def test_metrics_prefer_the_same_picture(name: str) -> None:
    metric = registry.metrics.build(name)
    reference = registry.data.build("photos:size=176").samples()[0].load()[None].float() / 255
    worse = (reference + 0.1 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    same, other = metric.fn(reference, reference), metric.fn(reference, worse)
    assert same.shape == (1,) and ((same > other) if metric.higher_is_better else (same < other)).all()
