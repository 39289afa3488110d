"""Training on a GPU, rehearsed: no step mixes devices, and none waits for a value; steps that are skipped are skipped
there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rehearsal import Fetched, Rehearsal

from robustcodec.interfaces import Codec
from robustcodec.registry import codecs
from robustcodec.training.codec import Trainer
from robustcodec.training.denoiser import DenoiserRecipe, DenoiserTrainer
from robustcodec.training.finetune import Finetuner
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.gan import FORMS
from robustcodec.training.loop import Diverged, Loop
from robustcodec.training.recipe import Recipe
from robustcodec.training.skipping import Skipping
from robustcodec.zoo.container import ContainerCodec

SETTINGS: dict[str, Any] = {"name": "rehearsed", "data": ("photos",), "steps": 10, "lmbda": 0.01}
SMALL = "bmshj2018-hyperprior.tiny-q1"
BUNDLED = {"bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "rdae", "rdae-gan"}
CLASSES: dict[str, Any] = {name: codecs.get(name) for name in codecs.names()}
OTHERS = {"process", "compressai"}  # which run code that is not ours
FAMILIES = {cls: name for name, cls in CLASSES.items() if issubclass(cls, ContainerCodec) and name not in OTHERS}
pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")


def step(trainer: Loop[Any], frames: int = 1) -> set[str]:
    """One step on two clips; what of it would be logged, all of it still on the device but the learning rate."""
    seen = trainer._update(torch.zeros(2, frames, 3, 64, 64, device="cuda"), detailed=True)
    assert all(value.is_cuda for name, value in seen.items() if name != "lr")  # type: ignore[union-attr]
    return set(seen)


@pytest.mark.parametrize("family", sorted({*FAMILIES.values()} - {"ssf2020"}))
def test_a_family_is_trained_without_a_fetch(family: str, tmp_path: Path) -> None:
    name = f"{family}.tiny-q1" if family in BUNDLED else f"{family}:weights=random"
    with Rehearsal() as rehearsal:
        trainer = Trainer(Recipe(codec=name, **SETTINGS), tmp_path, "cuda")
        rehearsal.uploads = 0
        assert {"loss", "bpp", "distortion", "gradient"} <= step(trainer)
        assert rehearsal.uploads == 0


def test_ssf2020_waits_only_in_the_backward_of_its_library(tmp_path: Path) -> None:
    """CompressAI's QReLU selects by a mask there, in training alone."""
    with Rehearsal():
        trainer = Trainer(Recipe(codec="ssf2020:weights=random", **SETTINGS), tmp_path, "cuda")
        with pytest.raises(Fetched, match=r"layers.py:\d+ asks for how many values a mask selects"):
            step(trainer, frames=2)


@pytest.mark.parametrize("form", FORMS)
def test_adversarial_distortion_fetches_nothing(form: str, tmp_path: Path) -> None:
    recipe = Recipe(codec="rdae.tiny-q1", gan=form, rho=0.1, n_critic=1, **SETTINGS)  # type: ignore[arg-type]
    with Rehearsal():
        trainer = Trainer(recipe, tmp_path, "cuda")
        assert {"discriminator_loss", "D_real_clips", "gradient_adversarial"} <= step(trainer, frames=4)


@pytest.mark.parametrize(
    "terms",
    [
        {"attack": "pgd:steps=1"},
        {"free": 2},
        {"gradient_penalty": 1.0, "consistency": 1.0, "lipschitz": 1.0, "rate_robustness": 1.0, "ramp": 0.5},
    ],
)
def test_a_finetune_and_its_inner_attack_fetch_nothing(terms: dict[str, Any], tmp_path: Path) -> None:
    recipe = FinetuneRecipe(codec=SMALL, validate="photos", **SETTINGS, **terms)
    with Rehearsal():
        assert "loss_attacked" in step(Finetuner(recipe, tmp_path, "cuda"))


def test_a_denoiser_fetches_nothing(tmp_path: Path) -> None:
    recipe = DenoiserRecipe(name="rehearsed", codec="diffpure", data=("photos",), steps=10)
    with Rehearsal():
        step(DenoiserTrainer(recipe, tmp_path, "cuda"))


def test_a_step_without_a_finite_gradient_changes_nothing_and_is_counted() -> None:
    skipping, other = Skipping(torch.device("cpu")), Skipping(torch.device("cpu"))
    weight, same = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimiser, plain = (torch.optim.Adam([w], lr=0.1, fused=True) for w in (weight, same))
    for scale in (1.0, float("nan"), float("inf"), 2.0):
        weight.grad = torch.full((3,), scale)
        skipping.judge([torch.tensor(1.0), weight.grad.norm()], optimiser)
        optimiser.step()
        if scale in (1.0, 2.0):
            same.grad = torch.full((3,), scale)
            other.judge([same.grad.norm()], plain)
            plain.step()
        assert torch.equal(weight, same)
        assert skipping.look() == {1.0: 0, 2.0: 0, float("inf"): 2}.get(scale, 1)
    assert torch.equal(optimiser.state[weight]["exp_avg"], plain.state[same]["exp_avg"])
    assert optimiser.state[weight]["step"] == 2


def test_too_many_skipped_steps_stop_a_run(tmp_path: Path) -> None:
    class Poisoned(Trainer):
        max_skipped = 3

        def _build(self) -> Codec:
            codec = super()._build()
            with torch.no_grad():
                codec.get_parameter("net.g_a.0.weight").fill_(torch.nan)
            return codec

    recipe = replace(Recipe(codec="bmshj2018-factorized.tiny-q1", **SETTINGS), crop=64, batch=1)
    trainer = Poisoned(recipe, tmp_path)
    with pytest.raises(Diverged, match="3 steps in a row gave no finite gradient, the last at step 2;"):
        trainer.run()
