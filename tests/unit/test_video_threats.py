"""Threats of clips: chosen frames, budgets per frame and flicker, against image threats and brute force; attacks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcodec import load, registry
from robustcodec.clips import to_float
from robustcodec.errors import BadParameter
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Codec, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.running import findings as checks
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store
from robustcodec.threats import L2, Flicker, Mse, Psnr

BALLS = ["linf:8/255", "flicker:8/255", "l2:0.5", "mse:1e-4", "psnr:36", "psnr:36,per=frame", "l2:0.2,per=frame"]
CHOICES = {
    "all": [0, 1, 2, 3, 4],
    "first": [0],
    "3": [3],
    "-1": [4],
    "1:": [1, 2, 3, 4],
    "::4": [0, 4],
    "1::2": [1, 3],
    "-2:": [3, 4],
}


def clips(seed: int = 0, n: int = 2, frames: int = 5, size: int = 12, low: int = 0, high: int = 256) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, frames, 3, size, size), generator=rng) / 255


def noise_like(x: Tensor, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", CHOICES)
@pytest.mark.parametrize("ball", BALLS)
def test_only_the_chosen_frames_change(ball: str, frames: str) -> None:
    threat: Threat = registry.threats.build(f"{ball},frames={frames}")
    x = clips(low=30, high=226)
    others = [t for t in range(5) if t not in CHOICES[frames]]
    x_adv = x + noise_like(x) + 0.02
    for made in (threat.project(x_adv, x), threat.quantise(x_adv, x), threat.random_start(x, Draws([3, 4]))):
        assert torch.equal(made[:, others], x[:, others])
        assert (made != x)[:, CHOICES[frames]].flatten(2).any(2).all()
    for made in (threat.steepest(x_adv - x, x), threat.confine(x_adv - x, x)):
        assert not made[:, others].any()
        assert made[:, CHOICES[frames]].flatten(2).any(2).all()


def test_frames_beyond_a_clip_are_an_error_that_says_so() -> None:
    image = clips(frames=1)
    for frames in ("5", "-6", "5:", "1:1"):
        threat = registry.threats.build(f"psnr:40,frames={frames}")
        with pytest.raises(BadParameter, match=rf"frames={frames} is beyond a clip of 5 frames \(0 to 4\)"):
            threat.project(clips(), clips())
    for frames in ("1", "1:"):
        for make in (threat.project, threat.quantise, threat.steepest):
            with pytest.raises(BadParameter, match="choose others"):
                make(image, image)
        with pytest.raises(BadParameter):
            registry.threats.build(f"l2:1,per=frame,frames={frames}").radius(image)


@pytest.mark.parametrize("frames", ["every4", "", "first,second", "::0", "::-1", "1:2:3:4", "1.5", "x:"])
def test_unreadable_choices_are_refused(frames: str) -> None:
    with pytest.raises(BadParameter, match="expected all, first, a number or a slice"):
        registry.threats.build(f"linf:8/255,frames={frames}")


def test_a_choice_is_identity_and_all_frames_are_what_they_were() -> None:
    cell = Cell("jpeg:30", "noise", data="photos:size=16", threat="psnr:40")
    assert cell.resolved.identity["threat"] == {"name": "psnr", "params": {"db": 40.0}}
    assert Cell("jpeg:30", "noise", data="photos:size=16", threat="psnr:40,per=clip,frames=all").id == cell.id
    for other in ("psnr:40,frames=first", "psnr:40,per=frame"):
        assert Cell("jpeg:30", "noise", data="photos:size=16", threat=other).id != cell.id


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("db", [34.0, 40.0])
def test_a_clip_s_budget_is_spent_on_the_frames_that_may_change(db: float) -> None:
    x = clips(frames=5, size=48, low=80, high=176)
    threat = Psnr(db, frames="first")
    y = threat.quantise(threat.project(x + noise_like(x), x), x)
    mse = (y - x).double().square()
    np.testing.assert_allclose(-10 * torch.log10(mse.flatten(1).mean(1)), db, atol=0.03)
    np.testing.assert_allclose(-10 * torch.log10(mse[:, 0].flatten(1).mean(1)), db - 10 * np.log10(5), atol=0.03)
    assert threat.radius(x) == pytest.approx(Psnr(db).radius(x))


@pytest.mark.parametrize(
    ("per_clip", "image"),
    [(Psnr(40, frames="2"), L2((5e-4 * 432) ** 0.5)), (Mse(1e-4, frames="2"), L2((5e-4 * 432) ** 0.5))],
    ids=["psnr", "mse"],
)
def test_one_frame_with_the_budget_of_a_clip_is_an_image_with_that_budget(per_clip: Threat, image: Threat) -> None:
    x = clips()
    x_adv = x + noise_like(x)
    for name in ("project", "quantise", "steepest"):
        of_clip, of_image = getattr(per_clip, name)(x_adv, x), getattr(image, name)(x_adv[:, 2:3], x[:, 2:3])
        torch.testing.assert_close(of_clip[:, 2:3], of_image, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("per_frame", "image"),
    [(Psnr(38, per="frame"), Psnr(38)), (Mse(1e-4, per="frame"), Mse(1e-4)), (L2(0.2, per="frame"), L2(0.2))],
    ids=["psnr", "mse", "l2"],
)
def test_a_budget_per_frame_is_that_of_each_frame_as_an_image(per_frame: Threat, image: Threat) -> None:
    x = clips()
    x_adv = x + noise_like(x) * torch.tensor([1.0, 0.1, 0.001, 0, 2])[None, :, None, None, None]
    for name in ("project", "quantise", "steepest"):
        frames = [getattr(image, name)(x_adv[:, t : t + 1], x[:, t : t + 1]) for t in range(5)]
        torch.testing.assert_close(getattr(per_frame, name)(x_adv, x), torch.cat(frames, 1), rtol=1e-6, atol=1e-7)
    assert per_frame.radius(x) == pytest.approx(5**0.5 * image.radius(x[:, :1]))


def test_random_starts_are_uniform_in_the_ball_of_the_chosen_frames() -> None:
    n = 6000
    x = torch.full((n, 3, 3, 1, 1), 0.5)
    # P(|n| <= r) = r^d in d dimensions: 3 of the one frame, 6 of two, 3 of each frame
    for threat, parts, d in (
        (L2(0.3, frames="first"), [slice(0, 1)], 3),
        (L2(0.3, frames="1:"), [slice(1, 3)], 6),
        (L2(0.3, per="frame"), [slice(t, t + 1) for t in range(3)], 3),
    ):
        delta = threat.random_start(x, Draws(range(n))) - x
        for part in parts:
            r = delta[:, part].flatten(1).norm(dim=1) / 0.3
            assert all(abs(float((r <= q).float().mean()) - q**d) < 0.02 for q in (0.5, 0.7, 0.9))


@pytest.mark.parametrize("frames", ["all", "first", "1::2"])
@pytest.mark.parametrize("ball", BALLS)
def test_random_noise_uses_the_budget(ball: str, frames: str) -> None:
    threat: Threat = registry.threats.build(f"{ball},frames={frames}")
    x = clips(size=32, low=80, high=176)
    x_adv = threat.quantise(x + threat.steepest(noise_like(x), x), x)
    assert all(0.95 < used <= 1.0001 for used in checks.budget_used(x_adv, x, threat))


# -- flicker ----------------------------------------------------------------------------------------------------------


def flickered(x: Tensor, eps: float, seed: int = 5) -> Tensor:
    """An allowed input, made by hand."""
    rng = torch.Generator().manual_seed(seed)
    offset = eps * (2 * torch.rand(*x.shape[:3], 1, 1, generator=rng) - 1)
    return (x + offset).clamp(0, 1)


@pytest.mark.parametrize(("low", "high"), [(0, 256), (0, 20), (240, 256), (255, 256), (90, 160)])
def test_flicker_leaves_what_is_allowed(low: int, high: int) -> None:
    x = clips(low=low, high=high)
    allowed = flickered(x, 0.05)
    torch.testing.assert_close(Flicker(0.05).project(allowed, x), allowed, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spread", [0.02, 0.2])
def test_flicker_finds_the_nearest_offset(spread: float) -> None:
    x = clips(n=1, frames=2)
    x_adv = flickered(x, 0.08) + spread * noise_like(x) / 0.1
    found = Flicker(0.1).project(x_adv, x)
    grid = torch.linspace(-0.1, 0.1, 401)[:, None, None, None, None]
    reached = (found - x_adv).square().sum((3, 4))[0]
    for t in range(2):
        best = ((x[:, t] + grid[:, 0]).clamp(0, 1) - x_adv[:, t]).square().sum((2, 3)).amin(0)
        assert (reached[t] <= best * 1.001 + 1e-6).all()


def test_flicker_is_constant_over_the_pixels_that_can_move() -> None:
    x = clips(low=60, high=196)
    for made in (
        Flicker(0.1).project(x + noise_like(x), x),
        Flicker(0.1).random_start(x, Draws([0, 1])),
        Flicker(0.1).quantise(x + noise_like(x) + 0.03, x),
        x + Flicker(0.1).steepest(noise_like(x), x),
    ):
        delta = (made - x).flatten(3)
        assert (delta.amax(3) - delta.amin(3)).max() < 1e-6 and 0 < delta.abs().max() <= 0.1 + 1e-6


def test_flicker_step_is_the_best_of_all_corners() -> None:
    x = torch.full((1, 2, 3, 4, 4), 0.5)
    grad = noise_like(x)
    reached = float((grad * Flicker(0.03).steepest(grad, x)).sum())
    corners = torch.tensor(list(itertools.product((-0.03, 0.03), repeat=6))).view(-1, 2, 3, 1, 1)
    gains = (grad * corners).flatten(1).sum(1)
    assert reached == pytest.approx(float(gains.max()), rel=1e-5)
    assert float((gains > 0.99 * reached).sum()) == 1


def test_8_bit_flicker_is_a_whole_offset_clamped_to_the_box() -> None:
    x = clips()
    eps = 6.6 / 255
    y = (255 * Flicker(eps).quantise(flickered(x, eps) + 0.1 * noise_like(x), x)).round().int()
    clean = (255 * x).round().int()
    offsets = []
    for i, t, c in itertools.product(range(2), range(5), range(3)):
        fits = [o for o in range(-6, 7) if torch.equal((clean[i, t, c] + o).clamp(0, 255), y[i, t, c])]
        assert len(fits) == 1
        offsets += fits
    assert min(offsets) < -3 and max(offsets) > 3


def test_8_bit_flicker_rounds_to_the_nearest_level() -> None:
    x = clips()
    x_adv = flickered(x, 6 / 255)
    y = Flicker(6 / 255).quantise(x_adv, x)
    levels = torch.arange(-6, 7).view(-1, 1, 1, 1, 1, 1) / 255
    best = ((x + levels).clamp(0, 1) - x_adv).square().sum((4, 5)).amin(0)
    torch.testing.assert_close((y - x_adv).square().sum((3, 4)), best, rtol=1e-4, atol=1e-7)


def test_random_flicker_is_uniform() -> None:
    x = torch.full((2000, 2, 3, 2, 2), 0.5)
    share = (Flicker(0.2).random_start(x, Draws(range(2000))) - x)[..., 0, 0].flatten() / 0.2
    for q in (-0.5, 0.0, 0.5):
        assert abs(float((share < q).float().mean()) - (q + 1) / 2) < 0.02


# -- attacks on clips -------------------------------------------------------------------------------------------------

CODECS = ["rdae:config=tiny,weights=random", "bmshj2018-factorized.tiny-q1"]
ATTACKS = ["noise", "fgsm", "pgd:steps=2", "chen-ma:steps=3"]


@pytest.fixture(scope="module", params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return load(request.param).requires_grad_(False)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    sample = registry.data.build("clips:frames=4,size=32").samples()[0]
    return to_float(sample.load())[None]


@pytest.mark.parametrize("ball", BALLS)
def test_every_attack_on_every_threat_of_clips(ball: str, codec: Codec, clip: Tensor) -> None:
    objective = registry.objectives.build("distortion")
    for frames, others in (("all", []), ("first", [1, 2, 3]), ("1::2", [0, 2])):
        threat: Threat = registry.threats.build(f"{ball},frames={frames}")
        for name in ATTACKS:
            attack = registry.attacks.build(name)
            oracle = Oracle(codec, objective, clip, attack.access)
            found = threat.project(attack.run(oracle, clip.clone(), threat, Draws([0])), clip)
            y = threat.quantise(found, clip)
            assert torch.isfinite(y).all() and not any(oracle.blind), (name, frames)
            assert torch.equal(y[:, others], clip[:, others]), (name, frames)
            if not name.startswith("chen-ma"):  # three steps of Adam may come to less than a level
                assert not torch.equal(y, clip), (name, frames)


@pytest.mark.parametrize("ball", ["linf:4/255", "psnr:36", "psnr:36,per=frame", "flicker:4/255"])
def test_gradients_beat_noise_on_one_frame(ball: str, clip: Tensor) -> None:
    codec = load(CODECS[1]).requires_grad_(False)
    threat: Threat = registry.threats.build(f"{ball},frames=2")
    objective = registry.objectives.build("distortion")
    damage = {}
    for name in ("noise", "pgd:steps=5"):
        attack = registry.attacks.build(name)
        found = attack.run(Oracle(codec, objective, clip, attack.access), clip, threat, Draws([0]))
        with torch.no_grad():
            damage[name] = float(Oracle(codec, objective, clip, "black")(threat.quantise(found, clip)))
    assert damage["pgd:steps=5"] > 1.5 * damage["noise"]


@pytest.mark.parametrize("codec_name", CODECS)
@pytest.mark.parametrize("attack", ["noise", "pgd:steps=2"])
def test_stored_clips_differ_in_the_first_frame_only(codec_name: str, attack: str, tmp_path: Path) -> None:
    cell = Cell(codec_name, attack, threat="psnr:34,frames=first", data="clips:frames=4,size=32", limit=1)
    store = Store(tmp_path)
    assert Runner(store).run([cell]).ran == 1
    (sample,) = cell.samples()
    stored = store.clip(cell.craft_id(sample))
    assert stored is not None
    original, adversarial = sample.load(), stored[0]
    assert torch.equal(original[1:], adversarial[1:]) and not torch.equal(original[0], adversarial[0])
    result = store.result(cell.id)
    assert result is not None and not any("threat set" in w for w in result.warnings)
    assert 34 <= result.rows[0]["input_psnr"] < 34.3  # the box takes a little of the noise


def test_a_frame_that_no_clip_has_fails_its_cell_by_a_mistake(tmp_path: Path) -> None:
    cell = Cell(CODECS[1], "noise", threat="linf:4/255,frames=7", data="clips:frames=4,size=32", limit=1)
    tally = Runner(Store(tmp_path)).run([cell])
    assert tally.failed == 1 and tally.mistakes == 1
    assert "frames=7 is beyond a clip of 4 frames" in tally.errors[str(cell)]
