"""Aiming at another picture: decoded as it, or coded as it to the byte; and the latents that codecs show for that."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import Shown

from robustcodec import load, registry
from robustcodec.attacks.pgd import PGD
from robustcodec.data._video import read_video, write_y4m
from robustcodec.errors import AttackError, BadData, BadParameter
from robustcodec.interfaces import Card, Draws, Output
from robustcodec.objectives.targets import Aim, read_target
from robustcodec.oracle import Oracle
from robustcodec.rounding import round_latent, rounding
from robustcodec.weights import sha256

FACTORIZED = "bmshj2018-factorized.tiny-q1"


class Coarse(Shown):
    """Every value rounded to sixteenths; its bytes are the rounded values."""

    card = Card("coarse", "coarse")

    def forward(self, x: Tensor) -> Output:
        latent = round_latent(16 * x)
        return Output(lambda: latent / 16, lambda: torch.full((len(x),), 8.0 * x[0].numel()), lambda: [latent])


def picture(index: int, height: int, width: int) -> Tensor:
    """The top left of a bundled photo, uint8 (1, 3, H, W)."""
    clip: Tensor = registry.data.build("photos:size=64").samples()[index].load()
    return clip[..., :height, :width].contiguous()


def save(clip: Tensor, path: Path) -> Path:
    Image.fromarray(clip[0].permute(1, 2, 0).numpy()).save(path)
    return path


def as_float(clip: Tensor) -> Tensor:
    return clip[None].float() / 255


def shown(x_hat: Tensor) -> Output:
    return Output(lambda: x_hat, lambda: torch.ones(len(x_hat)))


def mse(a: Tensor, b: Tensor) -> float:
    return float(np.mean((a.double().numpy() - b.double().numpy()) ** 2))


def test_target_formulas_levels_and_scores(tmp_path: Path) -> None:
    target = picture(1, 16, 24)
    path, t = save(target, tmp_path / "t.png"), as_float(target)
    x, x_hat, x_adv_hat = (as_float(picture(i, 16, 24)) for i in (0, 2, 3))
    coded = (16 * t).round() / 16
    box = slice(4, 12), slice(8, 18)
    outside = torch.ones(16, 24, dtype=torch.bool)
    outside[box] = False
    moved = mse(x_adv_hat[..., outside], x_hat[..., outside])
    cases = [
        ("", mse(x_adv_hat, t), mse(x_hat, t), mse(x_adv_hat, t)),
        (",form=reconstruction", mse(x_adv_hat, coded), mse(x_hat, coded), mse(x_adv_hat, t)),
        (
            ",form=roi,box=4;8;8;10,background=0.25",
            mse(x_adv_hat[..., box[0], box[1]], coded[..., box[0], box[1]]) + 0.25 * moved,
            mse(x_hat[..., box[0], box[1]], coded[..., box[0], box[1]]),
            mse(x_adv_hat[..., box[0], box[1]], t[..., box[0], box[1]]),
        ),
    ]
    for params, error, clean_error, scored in cases:
        objective = registry.objectives.build(f"target:{path}{params},tau=4").bind(Coarse())
        assert objective(x, shown(x_hat), shown(x_adv_hat), x).item() == pytest.approx(-error, rel=1e-5)
        assert objective.level(x, shown(x_hat)).item() == pytest.approx(-clean_error / 4, rel=1e-5)
        scores = objective.scores(x, x, b"", x_adv_hat)
        assert scores == {"target_psnr": pytest.approx(-10 * math.log10(scored), abs=1e-4)}
        assert math.isnan(objective.scores(x, x, b"", None)["target_psnr"])


def test_a_target_is_the_centre_of_an_image_or_the_frames_of_a_video(tmp_path: Path) -> None:
    image = picture(0, 21, 32)
    path = save(image, tmp_path / "t.png")
    assert torch.equal(read_target(path, 3, 16, 20), image[..., 2:18, 6:26].expand(3, -1, -1, -1))
    clip = torch.cat([picture(i, 32, 32) for i in range(4)])
    write_y4m(clip, tmp_path / "t.y4m")
    seen = read_video(tmp_path / "t.y4m")
    assert torch.equal(read_target(tmp_path / "t.y4m", 3, 16, 32), seen[:3, :, 8:24])
    with pytest.raises(BadData, match=r"32x21 pixels and the clip to be attacked 40x16"):
        read_target(path, 1, 16, 40)
    with pytest.raises(BadData, match="has 4 frames"):
        read_target(tmp_path / "t.y4m", 5, 16, 32)


@pytest.mark.parametrize("form", ["pixel", "reconstruction"])
def test_an_attack_moves_the_reconstruction_to_the_target(form: str, tmp_path: Path) -> None:
    codec = load("bmshj2018-hyperprior.tiny-q1").requires_grad_(False)
    x, path = as_float(picture(0, 64, 64)), save(picture(3, 64, 64), tmp_path / "t.png")
    objective, threat = registry.objectives.build(f"target:{path},form={form}"), registry.threats.build("psnr:20")
    oracle = Oracle(codec, objective, x, "white")
    x_adv = PGD(steps=10).run(oracle, x, threat, Draws([0]))
    assert (oracle(x) < oracle.level()).all() and (oracle(x_adv) > oracle.level()).all()
    bound = objective.bind(codec)
    before, after = (
        bound.scores(x, clip, b"", codec.decompress(codec.compress(clip)))["target_psnr"] for clip in (x, x_adv)
    )
    assert after > before + 3


def test_collision_formula(tmp_path: Path) -> None:
    path = save(picture(1, 8, 8), tmp_path / "t.png")
    x, t = (as_float(picture(i, 8, 8)).expand(2, -1, -1, -1, -1) for i in (0, 1))
    x = x * torch.tensor([1.0, 0.5])[:, None, None, None, None]
    objective = registry.objectives.build(f"collision:{path},margin=0.25").bind(Coarse())
    with rounding("none"):
        damage = objective(x, shown(x), Coarse()(x), x)
    apart = np.abs(16 * x.double().numpy() - (16 * t.double().numpy()).round())
    expected = -(np.maximum(apart - 0.25, 0) ** 2).reshape(2, -1).mean(1)
    np.testing.assert_allclose(damage.numpy(), expected, rtol=1e-4)
    assert objective.level(x, shown(x)).tolist() == [0, 0]
    stream = Coarse().compress(t)[0]
    near = (t + 0.2 / 16).clamp(0, 1)  # not all on the target's side of the next threshold
    agree = ((16 * near).round() == (16 * t).round())[:1].double().mean().item()
    assert 0.5 < agree < 1
    assert objective.scores(x, t[:1], stream, None) == {"same_bytes": 1.0, "latent_agreement": 1.0}
    scores = objective.scores(x, near[:1], Coarse().compress(near)[0], None)
    assert scores == {"same_bytes": 0.0, "latent_agreement": pytest.approx(agree)}


def test_a_collision_is_found_on_coarse_rounding(tmp_path: Path) -> None:
    target = picture(1, 8, 8)
    path, codec = save(target, tmp_path / "t.png"), Coarse()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(-30, 31, target.shape, generator=rng)
    x = as_float((target.int() + noise).clamp(0, 255).byte())
    objective, threat = registry.objectives.build(f"collision:{path}"), registry.threats.build("linf:32/255")
    oracle = Oracle(codec, objective, x, "white")
    x_adv = PGD(steps=60, step_size=0.05).run(oracle, x, threat, Draws([0]))
    assert not torch.equal(x_adv, as_float(target))
    assert codec.compress(x_adv) == codec.compress(as_float(target)) != codec.compress(x)
    assert oracle(x_adv).tolist() == oracle.level().tolist() == [0]


def test_a_collision_is_found_on_a_trained_codec(tmp_path: Path) -> None:
    """Two pictures with a PSNR below 18 dB between them, and one stream."""
    codec = load(FACTORIZED).requires_grad_(False)
    target = picture(3, 16, 16)
    path, t, x = save(target, tmp_path / "t.png"), as_float(target), as_float(picture(0, 16, 16))
    objective, threat = registry.objectives.build(f"collision:{path}"), registry.threats.build("linf:128/255")
    oracle = Oracle(codec, objective, x, "white")
    x_adv = PGD(steps=300, step_size=0.02).run(oracle, x, threat, Draws([0]))
    assert oracle(x_adv).tolist() == oracle.level().tolist() and (oracle(x) < -1).all()
    assert mse(x_adv, t) > 10**-1.8
    (stream,) = codec.compress(x_adv)
    assert [stream] == codec.compress(t)
    scores = objective.bind(codec).scores(x, x_adv, stream, codec.decompress([stream]))
    assert scores == {"same_bytes": 1.0, "latent_agreement": 1.0}


@pytest.mark.parametrize(
    ("spec", "frames"),
    [(FACTORIZED, 2), ("bmshj2018-hyperprior.tiny-q1", 2), ("mbt2018-mean.tiny-q1", 2), ("rdae.tiny-q1:gop=4", 6)],
)
def test_equal_latents_are_equal_bytes(spec: str, frames: int) -> None:
    codec = load(spec).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    x = torch.stack([torch.cat([picture(i, 32, 48)] * frames) for i in (0, 1)]).float() / 255
    x = (0.8 * x + 0.1 + 0.05 * torch.rand(x.shape, generator=rng)).clamp(0, 1)
    noise = torch.rand(x.shape, generator=rng) - 0.5
    with torch.no_grad():
        latents, streams = codec(x).latents, codec.compress(x)
        assert all(len(part) == 2 for part in latents)
        with rounding("none"):
            unrounded = codec(x).latents
        for a, b in zip(latents, unrounded, strict=True):
            assert a.shape == b.shape and 0 < (a - b).abs().max()
            assert spec.startswith("rdae") or (a - b).abs().max() <= 0.5 + 1e-4  # in steps of the rounding
        met = set()
        for exponent in range(8, 26, 2):
            near = x + noise * 2.0**-exponent
            alike = [
                all(torch.allclose(a[i], b[i], atol=1e-3) for a, b in zip(latents, codec(near).latents, strict=True))
                for i in range(2)
            ]
            assert not torch.equal(near, x)
            assert alike == [a == b for a, b in zip(streams, codec.compress(near), strict=True)]
            met |= set(alike)
        assert met == {True, False}


def test_the_target_is_coded_as_it_is_and_spends_no_draw(tmp_path: Path) -> None:
    """Under whatever surrogate an attack asks, and without touching the state that a random victim draws from."""
    codec = load(FACTORIZED).requires_grad_(False)
    target = picture(3, 16, 16)
    aim, x = Aim(save(target, tmp_path / "t.png"), codec), as_float(picture(0, 16, 16))
    state = torch.get_rng_state()
    with rounding("noise"):
        latents = aim.latents(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(latents[0], codec(as_float(target)).latents[0])
    assert torch.equal(aim.x_hat(x), codec(as_float(target)).x_hat)
    assert [aim.stream(x)] == codec.compress(as_float(target))


def test_a_target_is_identified_by_its_bytes(tmp_path: Path) -> None:
    paths = [save(picture(1, 16, 16), tmp_path / name) for name in ("a.png", "b.png")]
    for name in ("target", "collision"):
        (first,), (second,) = (registry.objectives.build(f"{name}:{path}").made_on() for path in paths)
        assert first.id == second.id
        assert first.source is not None and second.source is not None
        assert sha256(first.source) == sha256(second.source)
        assert torch.equal(first.load(), picture(1, 16, 16))


def test_mistakes(tmp_path: Path) -> None:
    path = save(picture(1, 16, 16), tmp_path / "t.png")
    x = as_float(picture(0, 16, 16))
    for spec in ("target", "collision"):
        with pytest.raises(BadParameter, match="needs path"):
            registry.objectives.build(spec)
        with pytest.raises(BadData, match="no target at"):
            registry.objectives.build(f"{spec}:{tmp_path}/missing.png")
        with pytest.raises(AttackError, match="bind"):
            registry.objectives.build(f"{spec}:{path}")(x, shown(x), shown(x), x)
    for params in ("form=roi", "box=0;0;4;4", "form=roi,box=1;2;3", "form=roi,box=0;0;0;4", "tau=1",
                   "form=roi,box=0;0;4;4,background=-1"):  # fmt: skip
        with pytest.raises(BadParameter, match="expected"):
            registry.objectives.build(f"target:{path},{params}")
    with pytest.raises(BadParameter, match="expected 0 to 0.5"):
        registry.objectives.build(f"collision:{path},margin=0.5")
    beyond = registry.objectives.build(f"target:{path},form=roi,box=8;8;9;4").bind(Coarse())
    with pytest.raises(BadParameter, match="beyond a frame of 16x16"):
        beyond(x, shown(x), shown(x), x)
    with pytest.raises(AttackError, match="shows no latents"):
        registry.objectives.build(f"collision:{path}").bind(load("jpeg"))(x, shown(x), shown(x), x)
