"""Attacks of torchattacks and foolbox on a linear codec, where the smallest break is known in closed form."""

from __future__ import annotations

import importlib.util
import inspect
import random
from dataclasses import dataclass
from typing import Any, Literal

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor
from toys import Linear

from robustcodec import load, registry
from robustcodec.attacks import foolbox as ours_of_foolbox
from robustcodec.attacks import torchattacks as ours_of_torchattacks
from robustcodec.attacks._classifier import Classifier, as_clip, as_picture
from robustcodec.attacks._foreign import Budget, Foreign, read_options
from robustcodec.attacks.foolbox import Foolbox
from robustcodec.attacks.noise import Noise
from robustcodec.attacks.torchattacks import Torchattacks
from robustcodec.clips import to_float
from robustcodec.errors import AttackError, BadParameter, MissingDependency
from robustcodec.interfaces import Attack, Codec, Draws, Output, Threat
from robustcodec.objectives.damage import Distortion, SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.rounding import round_latent
from robustcodec.threats import Linf, Psnr

SIZE = 16
VALUES = 3 * SIZE * SIZE
TOP = 3.0  # largest singular value
LEVEL = 5e-4
WIDE = Psnr(28.0)
Library = type[Torchattacks] | type[Foolbox]
LIBRARIES: list[Library] = [Torchattacks, Foolbox]
RUNNING = [(library, name) for library in LIBRARIES for name, entry in library.catalogue.items() if not entry.cannot]
FEW = {
    "SPSA": "nb_iter=1;nb_sample=8;max_batch_size=8",
    "Square": "n_queries=100",
    "JSMA": "gamma=0.02",
    "PGDRS": "steps=3",
    "PGDRSL2": "steps=3",
    "L2CarliniWagnerAttack": "steps=20;binary_search_steps=5",
    "EADAttack": "steps=20;binary_search_steps=5",
    "BoundaryAttack": "steps=30",
    "HopSkipJumpAttack": "steps=2;initial_gradient_eval_steps=10;max_gradient_eval_steps=20",
    "GenAttack": "steps=5",
    "LinearSearchBlendedUniformNoiseAttack": "steps=20;directions=5",
    "LinearSearchContrastReductionAttack": "steps=20",
    "GaussianBlurAttack": "steps=20",
    "SaltAndPepperNoiseAttack": "steps=20",
    "PointwiseAttack": "l2_binary_search=false",
}


class Stairs(Linear):
    """The same behind a coarse rounding."""

    def forward(self, x: Tensor) -> Output:
        return super().forward(round_latent(20 * x) / 20)


@dataclass(frozen=True, kw_only=True)
class Damage(Distortion):
    """MSE to the clean reconstruction; broken from ``at``."""

    at: float = LEVEL

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return torch.full((len(x),), self.at)


def matrix() -> Tensor:
    rng = torch.Generator().manual_seed(5)
    u, v = (torch.linalg.qr(torch.randn(VALUES, VALUES, generator=rng)).Q for _ in range(2))
    s = 1.4 / torch.arange(VALUES).clamp(min=1) ** 0.3
    s[0] = TOP
    made: Tensor = u @ torch.diag(s) @ v.T
    return made


CODEC = Linear(matrix())


def grey(n: int = 1, frames: int = 1, height: int = SIZE) -> Tensor:
    """Clips far from the faces of the box."""
    shape = (n, frames, 3, height, SIZE)
    return torch.randint(60, 196, shape, generator=torch.Generator().manual_seed(7)) / 255


def attacked(attack: Attack, threat: Threat, x: Tensor, codec: Codec = CODEC, first_seed: int = 0) -> Tensor:
    oracle = Oracle(codec, Damage(), x, attack.access)
    x_adv = attack.run(oracle, x, threat, Draws(range(first_seed, first_seed + len(x))))
    assert x_adv.shape == x.shape
    return threat.quantise(threat.project(x_adv, x), x)


def states() -> tuple[bytes, str, object]:
    """Of the random numbers of torch, numpy and Python."""
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


def damage(x_adv: Tensor, x: Tensor, codec: Codec = CODEC) -> Tensor:
    with torch.no_grad():
        return Oracle(codec, Damage(), x, "black")(x_adv)


def classifier(x: Tensor, access: Literal["white", "black"] = "white", classes: int = 2) -> tuple[Classifier, Oracle]:
    oracle = Oracle(CODEC, Damage(), x, access)
    near = WIDE.random_start(x, Draws([3]))
    return Classifier(oracle, x, WIDE, near, access, classes=classes).eval(), oracle


# -- the codec as a classifier ------------------------------------------------------------------------------------


def test_gradient_is_the_oracles() -> None:
    x = grey()
    model, oracle = classifier(x)
    x_adv = WIDE.random_start(x, Draws([1]))
    value, expected = oracle.gradient(x_adv)
    picture = as_picture(x_adv).requires_grad_()
    logits = model(picture)
    torch.testing.assert_close((logits[:, 1] - logits[:, 0]).detach(), (value - LEVEL) / LEVEL)
    (grad,) = torch.autograd.grad(LEVEL * (logits[0, 1] - logits[0, 0]), picture)
    torch.testing.assert_close(as_clip(grad, x), expected, rtol=1e-5, atol=1e-9)


def test_gradient_at_the_clean_clip_is_taken_beside_it() -> None:
    x = grey()
    model, oracle = classifier(x)
    assert not oracle.gradient(x)[1].any()
    picture = as_picture(x).requires_grad_()
    assert torch.autograd.grad(model(picture)[0, 1], picture)[0].any()


def test_margin_is_minus_one_at_the_clean_clip_and_zero_at_the_level() -> None:
    x = grey()
    model, _ = classifier(x)
    assert torch.equal(model(as_picture(x)), torch.tensor([[1.5, 0.5]]))
    direction = torch.linalg.svd(CODEC.matrix).Vh[0].view_as(x)
    x_adv = x + direction * (LEVEL * VALUES) ** 0.5 / TOP
    logits = model(as_picture(x_adv))
    torch.testing.assert_close(logits, torch.ones(1, 2), rtol=0, atol=1e-4)
    further, nearer = (model(as_picture(x + f * (x_adv - x))).argmax(1) for f in (1.01, 0.99))
    assert (int(further), int(nearer)) == (1, 0)


def test_pictures_are_asked_one_by_one_and_classes_beyond_two_never_win() -> None:
    x = grey()
    model, oracle = classifier(x, classes=4)
    before = oracle.queries
    logits = model(as_picture(x).repeat(5, 1, 1, 1))
    assert logits.shape == (5, 4) and oracle.queries == before + 5
    assert (logits[:, 2:] < logits[:, :2].amin(1, keepdim=True) - 5).all()


def test_clips_are_shown_frame_below_frame() -> None:
    x = grey(frames=2, height=SIZE // 2)
    picture = as_picture(x)
    assert picture.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(picture[:, :, : SIZE // 2], x[:, 0]) and torch.equal(picture[:, :, SIZE // 2 :], x[:, 1])
    assert torch.equal(as_clip(picture, x), x)


def test_frames_that_a_threat_holds_are_not_shown_changed() -> None:
    x = grey(frames=2, height=SIZE // 2)
    threat = Psnr(28.0, frames="first")
    model = Classifier(Oracle(CODEC, Damage(), x, "white"), x, threat, x)
    x_adv = WIDE.random_start(x, Draws([1]))
    shown = model.allowed(as_picture(x_adv))
    assert torch.equal(shown[:, 1], x[:, 1]) and torch.equal(shown[:, 0], x_adv[:, 0])


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(AttackError, match="square images of one frame"):
        classifier(grey())[0](torch.zeros(1, 3, 8, 8))


def test_a_codec_that_is_broken_from_the_start_is_refused() -> None:
    x = grey()
    with pytest.raises(AttackError, match="higher tau"):
        Classifier(Oracle(CODEC, Damage(at=0.0), x, "white"), x, WIDE, x)


# -- the smallest break -------------------------------------------------------------------------------------------


def test_smallest_break_is_the_smallest_multiple_that_breaks() -> None:
    x = grey()
    model, _ = classifier(x, "black")
    direction = torch.linalg.svd(CODEC.matrix).Vh[0].view_as(x)
    exact = (LEVEL * VALUES) ** 0.5 / TOP
    for size in (0.97 * exact, exact, 1.5 * exact, 20 * exact):  # the first breaks only when it is enlarged
        found = model.smallest_break(x + size * direction)
        assert torch.equal(found, WIDE.quantise(found, x)) and damage(found, x) >= LEVEL
        assert 0.97 * exact < (found - x).norm() < 1.06 * exact, size


def test_smallest_break_of_what_cannot_break_is_all_that_is_allowed() -> None:
    x, weak = grey(), torch.linalg.svd(CODEC.matrix).Vh[-1].view(1, 1, 3, SIZE, SIZE)
    model, _ = classifier(x, "black")
    for size in (0.1, 100.0):
        found = model.smallest_break(x + size * weak)
        assert damage(found, x) < LEVEL
        assert 0.99 * WIDE.radius(x) < (found - x).norm() <= 1.0001 * WIDE.radius(x)
    assert torch.equal(model.smallest_break(x), x)


@pytest.mark.parametrize(
    "attack",
    [
        Foolbox("L2CarliniWagner", "steps=100;binary_search_steps=6;initial_const=1"),
        Foolbox("DDN"),
    ],
    ids=repr,
)
def test_minimum_norm_attacks_find_the_closed_form(attack: Foreign) -> None:
    """The shortest perturbation whose damage ``|A d|² / values`` is the level lies along the top singular vector."""
    x = grey()
    level = Oracle(CODEC, Damage(), x, "black").level()
    shortest = float((level * VALUES).sqrt()) / TOP
    found = attacked(attack, WIDE, x)
    assert damage(found, x) >= level
    assert 0.98 * shortest < (found - x).norm() < 1.05 * shortest


def test_rounding_of_latents_is_judged() -> None:
    """Gradients skip the rounding; that the codec is broken is found out with it."""
    x, codec = grey(), Stairs(CODEC.matrix)
    found = attacked(Foolbox("DDN", "steps=50"), WIDE, x, codec)
    assert damage(found, x, codec) >= LEVEL


# -- every attack -------------------------------------------------------------------------------------------------


def test_the_catalogues_are_the_libraries() -> None:
    assert set(ours_of_torchattacks.CATALOGUE) == set(torchattacks.__all__)
    theirs = {c.__name__ for c in vars(foolbox.attacks).values() if inspect.isclass(c)} - {"Attack"}
    assert set(ours_of_foolbox.CATALOGUE) == theirs
    for alias, name in ours_of_foolbox.ALIASES.items():
        assert getattr(foolbox.attacks, alias).__name__ == name and Foolbox(alias).full_name == name


def test_enough_of_them_run() -> None:
    counts = {library: sum(a is library for a, _ in RUNNING) for library in LIBRARIES}
    assert counts[Torchattacks] >= 25 and counts[Foolbox] >= 30


@pytest.mark.parametrize(("library", "name"), RUNNING, ids=[f"{a.library}:{n}" for a, n in RUNNING])
def test_every_attack_runs(library: Library, name: str) -> None:
    if "BrendelBethge" in name and importlib.util.find_spec("numba") is None:
        with pytest.raises(MissingDependency, match="pip install numba"):
            attacked(library(name), WIDE, grey())
        return
    x = grey()
    attack = library(name, FEW.get(name, ""))
    oracle = Oracle(CODEC, Damage(), x, attack.access)
    x_adv = attack.run(oracle, x, WIDE, Draws([0]))
    assert torch.isfinite(x_adv).all() and oracle.queries > 0
    reached = damage(WIDE.quantise(WIDE.project(x_adv, x), x), x)
    noise = damage(attacked(Noise(), WIDE, x), x)
    gave_up = any("clean clip back" in remark for remark in oracle.remarks[0])
    assert gave_up == torch.equal(x_adv, x) or name == "VANILA"
    if attack.entry.kind == "loss" and name not in ("SPSA", "GenAttack", "PGDRS", "PGDRSL2"):
        assert reached > 2 * noise  # those four ask about noisier clips than the others, or too seldom here
    if attack.entry.kind == "minimum" and not gave_up:
        assert reached >= LEVEL or reached > noise


@pytest.mark.parametrize(
    "attack",
    [
        Torchattacks("VMIFGSM", "steps=4"),
        Torchattacks("APGD", "steps=5"),
        Torchattacks("Pixle"),
        Foolbox("L2PGD", "steps=5"),
        Foolbox("BoundaryAttack", "steps=20"),
        Foolbox("GenAttack", "steps=3"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("threat", [WIDE, Linf(8 / 255)], ids=repr)
def test_a_result_depends_on_its_seed_alone(attack: Foreign, threat: Threat) -> None:
    x = grey(2)
    torch.manual_seed(0)
    together = attacked(attack, threat, x)
    before = states()
    alone = torch.cat([attacked(attack, threat, x[i : i + 1], first_seed=i) for i in (1, 0)]).flip(0)
    assert torch.equal(together, alone)
    assert states() == before
    other = attacked(attack, threat, x, first_seed=50)
    assert not torch.equal(together, other)


@pytest.mark.parametrize(
    "spec", ["torchattacks:VMIFGSM,options=steps=3;N=2", "foolbox:LinfBasicIterative,options=steps=5"]
)
def test_clips_of_several_frames(spec: str) -> None:
    x = grey(frames=2, height=SIZE // 2)
    attack = registry.attacks.build(spec)
    noise = damage(attacked(Noise(), WIDE, x), x)
    assert damage(attacked(attack, WIDE, x), x) > 2 * noise


@pytest.mark.parametrize(
    "attack",
    [
        Torchattacks("MIFGSM", "steps=5"),
        Torchattacks("PGDL2", "steps=5"),
        Foolbox("L2BasicIterative", "steps=5"),
        Foolbox("DDN", "steps=20"),
    ],
    ids=repr,
)
def test_on_a_trained_codec(attack: Foreign) -> None:
    codec = load("bmshj2018-factorized.tiny-q1").eval().requires_grad_(False)
    x = to_float(registry.data.build("photos:size=32").samples()[0].load())[None]
    objective, threat, reached = SourceDistortion(), Psnr(24.0), []
    for one in (attack, Noise()):
        x_adv = one.run(Oracle(codec, objective, x, one.access), x, threat, Draws([0]))
        with torch.no_grad():
            reached.append(Oracle(codec, objective, x, "black")(threat.quantise(threat.project(x_adv, x), x)))
    assert reached[0] > reached[1]
    if attack.entry.kind == "minimum":
        assert reached[0] >= Oracle(codec, objective, x, "black").level()


def test_black_attacks_ask_for_no_gradient() -> None:
    x = grey()
    for library, name in RUNNING:
        attack = library(name, FEW.get(name, ""))
        if attack.access == "black" and name in ("SPSA", "Square", "HopSkipJumpAttack", "GenAttack", "OnePixel"):
            oracle = Oracle(CODEC, Damage(), x, "black")  # raises if asked for one
            attack.run(oracle, x, WIDE, Draws([0]))
            assert oracle._seen_gradient is None


# -- names, options, budgets --------------------------------------------------------------------------------------


def test_options_are_read() -> None:
    read = read_options("steps=5;eps=8/255;norm=L2;random_start=False;x_dimensions=2:10;step=1e-3;loss=none")
    expected = {"steps": 5, "eps": 8 / 255, "norm": "L2", "random_start": False, "x_dimensions": (2, 10)}
    assert read == expected | {"step": 1e-3, "loss": None}
    assert read_options("") == {}


def test_mistakes_are_named() -> None:
    for spec, what in (
        ("torchattacks:VMIFGSM,options=stepps=5", "takes no option stepps; it takes eps, alpha, steps"),
        ("torchattacks:VMIFGSM,options=steps=many", "no number"),
        ("torchattacks:VMIFGSM,options=steps", "no key=value"),
        ("torchattacks:VMI", "no attack 'VMI'"),
        ("foolbox:L2CarliniWagner,options=init_attack=x", "takes no option"),
        ("foolbox:L2PGD,start=0", "fraction"),
        ("foolbox:L2PGD,scale=0", "positive factor"),
    ):
        with pytest.raises(BadParameter, match=what):
            registry.attacks.build(spec)
    attack: Any = registry.attacks.build("foolbox:HopSkipJump")
    assert attack.full_name == "HopSkipJumpAttack"


@pytest.mark.parametrize("spec", ["torchattacks:LGV", "torchattacks:MultiAttack", "foolbox:DatasetAttack"])
def test_what_cannot_attack_a_codec_says_why(spec: str) -> None:
    with pytest.raises(AttackError, match="cannot attack a codec: it "):
        attacked(registry.attacks.build(spec), WIDE, grey())


def test_budgets_of_other_norms() -> None:
    x = grey()
    eight = Budget.of(Linf(8 / 255), x)
    assert eight.linf == pytest.approx(8 / 255) and eight.l2 == pytest.approx(8 / 255 * VALUES**0.5)
    assert eight.l1 == pytest.approx(8 / 255 * VALUES)
    forty = Budget.of(Psnr(40.0), x)
    assert forty.l2 == pytest.approx(0.01 * VALUES**0.5) and forty.linf == pytest.approx(0.01)


def test_a_step_is_the_librarys_share_of_the_budget() -> None:
    """BIM by hand: signs of the oracle's gradient, a quarter of eps each, inside ±eps."""
    x, eps = grey(), 4 / 255
    found = Torchattacks("BIM", "steps=3").run(Oracle(CODEC, Damage(), x, "white"), x, Linf(eps), Draws([0]))
    oracle, draws = Oracle(CODEC, Damage(), x, "white"), Draws([0])
    draws.uniform(x.shape[:1])
    near = x + 0.5 * (Linf(eps).random_start(x, draws.child()) - x)
    by_hand = x
    for step in range(3):
        _, grad = oracle.gradient(by_hand if step else near)
        by_hand = (by_hand + eps / 4 * grad.sign()).clamp(x - eps, x + eps)
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-6)
