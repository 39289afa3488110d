"""Finetuning: attacks on the weights of the step, what is frozen stays, the best weights, the card."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning import RECIPE
from torch import Tensor

import robustcodec
from robustcodec import weights
from robustcodec.errors import UserError
from robustcodec.interfaces import Card, Draws
from robustcodec.objectives.damage import SourceDistortion
from robustcodec.registry import attacks, codecs, data
from robustcodec.rounding import rounding
from robustcodec.studies.check import check
from robustcodec.training.codec import Trainer, measure
from robustcodec.training.finetune import Finetuner, inherited, read_recipes
from robustcodec.training.finetune_recipe import FinetuneRecipe, Freeze
from robustcodec.training.recipe_file import RecipeFile, command
from robustcodec.training.robust_terms import (
    part_of,
)
from robustcodec.training.validation import craft

HYPERPRIOR = replace(RECIPE, codec="bmshj2018-hyperprior.tiny-q1", crop=64, validate="photos:size=64")
VIDEO = replace(
    RECIPE, codec="rdae:config=tiny,weights=random", data=("clips:frames=2,size=40",), frames=2, steps=2,
    validate="clips:frames=2,size=32",
)  # fmt: skip


def clip(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("how", "coded"), [("straight-through", True), ("noise", False), ("own", False)])
def test_the_loss_rounds_as_the_recipe_says(tmp_path: Path, how: Any, coded: bool) -> None:
    """Straight through, it sees the picture that is decoded, and what attacks on it do; rates are those of noise."""
    tuner = Finetuner(replace(RECIPE, rounding=how), tmp_path)
    x, frozen = clip(1, 1, 3, 64, 64), copy.deepcopy(tuner.codec).eval()
    out = tuner._code(x, torch.autocast("cpu", enabled=False))
    with torch.no_grad(), rounding("straight-through"):
        assert (float((out.x_hat - frozen(x).x_hat).abs().max()) < 1e-5) is coded
        assert float((out.bits - tuner.codec(x).bits).abs()) > 1


# -- one step ---------------------------------------------------------------------------------------------------------


def test_what_a_step_trains_on_hurts_the_weights_of_that_step(tmp_path: Path) -> None:
    """Against random noise of the same size; on other weights the same attack finds other clips."""
    tuner = Finetuner(replace(RECIPE, attack="pgd:steps=4", threat="psnr:34"), tmp_path)
    x = torch.stack([s.load() for s in data.build("photos:size=64").samples()[:2]]).float() / 255
    tuner.codec.train()
    x_adv = tuner._crafted(x, tuner.threat)
    assert tuner.codec.training and all(p.requires_grad and p.grad is None for p in tuner.codec.parameters())
    noisy = tuner.threat.random_start(x, Draws([1, 2]))
    frozen = copy.deepcopy(tuner.codec).eval()

    @torch.no_grad()
    def damage(at: Tensor) -> Tensor:
        x_hat: Tensor = frozen(at).x_hat
        return (x_hat - x).square().flatten(1).mean(1)

    assert (damage(x_adv) > 1.15 * damage(noisy)).all()
    assert (10 * (x_adv - x).square().flatten(1).mean(1).log10() <= -34 + 1e-3).all()
    by_hand = craft(
        codecs.build(RECIPE.codec).eval().requires_grad_(False),
        attacks.build("pgd:steps=4"), SourceDistortion(), tuner.threat, x, (0, 0),
    )  # fmt: skip
    assert torch.equal(by_hand, x_adv)
    with torch.no_grad():
        tuner.codec.net.g_a[0].weight.mul_(1.2)  # type: ignore[union-attr, index]
    assert not torch.equal(tuner._crafted(x, tuner.threat), x_adv)


@pytest.mark.parametrize(
    "terms",
    [
        {"adversarial": 0.0, "gradient_penalty": 0.1},
        {"adversarial": 1.0, "target": "own", "ramp": 0.5},
        {"adversarial": 0.0, "consistency": 1.0, "lipschitz": 1e-4, "rate_robustness": 1.0, "objective": "rate"},
    ],
)
def test_every_loss_moves_the_codec(terms: dict[str, Any], tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, **terms), tmp_path)
    before = [p.clone() for p in tuner.main]
    seen = tuner._update(clip(2, 1, 3, 32, 32), detailed=False)
    assert all(not torch.equal(a, b) for a, b in zip(before, tuner.main, strict=True))
    wanted = {"attacked", *terms} - {"adversarial", "target", "ramp", "objective"}
    wanted = wanted - {"attacked"} if not terms["adversarial"] else wanted
    wanted |= {"clean"} if terms["adversarial"] < 1 else set()
    assert {k.removeprefix("loss_") for k in seen if k.startswith("loss_")} == wanted
    total = sum(float(v) for k, v in seen.items() if k.startswith("loss_"))
    assert float(seen["loss"]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("what", "stays"),
    [("encoder", {"encoder"}), ("decoder", {"synthesis", "prior"}), ("prior", {"prior"}), ("none", set())],
)
def test_freezing_changes_only_what_it_should(what: Freeze, stays: set[str], tmp_path: Path) -> None:
    tuner = Finetuner(replace(HYPERPRIOR, freeze=what, rate_robustness=1.0), tmp_path)
    before = {name: p.clone() for name, p in tuner.codec.named_parameters()}
    tuner._update(clip(2, 1, 3, 64, 64), detailed=False)
    moved = {part_of(tuner.codec, n) for n, p in tuner.codec.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"encoder", "synthesis", "prior"} - stays


def test_free_training_replays_a_batch_along_the_gradient_of_its_updates(tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, free=2, adversarial=1.0, lr=1e-9), tmp_path)
    x, made = 0.25 + 0.5 * clip(2, 1, 3, 32, 32), []
    original = tuner._replayed
    tuner._replayed = lambda *given: made.append(original(*given).clone()) or made[-1].clone()  # type: ignore[method-assign, func-returns-value]
    losses = [tuner._update(x, detailed=False)["distortion"] for _ in range(3)]
    assert losses[2] > losses[0]  # the weights hardly move, so the perturbation did it
    tuner.codec.train()
    leaf = made[1].clone().requires_grad_(True)
    with rounding("none"):  # the slope of the surrogate, without its noise
        (255**2 * RECIPE.lmbda * (tuner.codec(leaf).x_hat - x).square().mean()).backward()
    went = (made[2] - made[1]).flatten()
    assert leaf.grad is not None and torch.dot(went, leaf.grad.flatten()) > 0
    assert ((made[2] - x).square().flatten(1).mean(1) <= 1e-4 * (1 + 1e-4)).all()


def test_free_training_sees_every_batch_so_often(tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, free=2, steps=4, validate_every=3), tmp_path)
    seen: list[Tensor] = []
    update = tuner._update
    tuner._update = lambda x, detailed: seen.append(x) or update(x, detailed)  # type: ignore[method-assign, func-returns-value]
    tuner.run()
    assert [torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False)] == [True, False, True]


# -- a run ------------------------------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_and_patience_ends(tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, patience=2, steps=100), tmp_path)
    first = next(i for i, p in enumerate(tuner.main) if p is tuner.codec.net.g_a[0].weight)  # type: ignore[union-attr, index]
    for step, score in enumerate([3.0, 2.0, 2.5, 2.0]):
        assert not tuner.stopped
        tuner.step = step
        with torch.no_grad():
            tuner.average[first].fill_(step)
        tuner._keep(tuner.candidate(), {"score": score})
    assert tuner.stopped and tuner.best_step == 1 and tuner.best is not None
    assert torch.equal(tuner.best["g_a.0.weight"], torch.ones_like(tuner.average[first]))
    notes: list[str] = []
    card = weights.read_card(tuner.run(on_note=notes.append))
    assert card["training"]["best_step"] == 1
    assert notes == ["stopped at step 3; the best weights are those of step 1"]


def test_the_result_codes_conforms_and_says_where_it_comes_from(finetuned: Path) -> None:
    name = f"bmshj2018-factorized:weights={finetuned}"
    codec = robustcodec.load(name)
    clips = [s.load()[None].float() / 255 for s in data.build("photos:size=64").samples()[:2]]
    assert [c for c in check(codec, clips, lambda: codecs.build(name)) if not c.passed] == []
    training, parent = codec.card.training, codecs.build(RECIPE.codec).card
    assert training["parent"]["name"] == "bmshj2018-factorized.tiny-q1"
    assert training["parent"]["sha256"] == parent.sha256 == weights.sha256(weights.find(parent.family, "tiny-q1"))
    assert training["parents"][-1] == parent.training["command"]
    scores = {"bpp", "psnr", "ms_ssim", "adv_bpp", "adv_psnr", "vi_db", "score"}
    assert set(training["validation"]) == set(training["parent"]["validation"]) == scores
    assert training["attack"] == "fgsm" and training["best_step"] in (2, 4)


def test_what_was_validated_is_what_was_written(finetuned: Path) -> None:
    tuner = Finetuner(RECIPE, finetuned.parent)
    again = tuner.validator.scores(robustcodec.load(f"bmshj2018-factorized:weights={finetuned}").requires_grad_(False))
    for key, value in tuner.best_scores.items():
        assert again[key] == pytest.approx(value, rel=2e-3), key


def test_eight_bit_kernels_are_half_as_large_and_what_was_validated(finetuned: Path, tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, storage="int8"), tmp_path)
    path = tuner.run()
    assert path.stat().st_size < 0.62 * finetuned.stat().st_size
    codec = robustcodec.load(f"bmshj2018-factorized:weights={path}").requires_grad_(False)
    again = tuner.validator.scores(codec)
    for key, value in tuner.best_scores.items():
        assert again[key] == pytest.approx(value, rel=2e-3), key
    kernels = [p for p in codec.parameters() if p.ndim == 4]
    assert kernels and all(len(torch.unique(p[0])) <= 255 for p in kernels)


def test_eight_bits_cost_a_bundled_codec_less_than_a_twentieth_of_a_decibel(photo: Tensor) -> None:
    clip = photo[..., :128, :128]
    codec = robustcodec.load("bmshj2018-hyperprior.tiny-q2")
    before = measure(codec, clip)
    with torch.no_grad():
        for p in codec.parameters():
            p.copy_(weights.rounded(p, "int8"))
    codec.refresh()
    after = measure(codec, clip)
    assert before != after
    assert abs(after["psnr"] - before["psnr"]) < 0.05 and after["bpp"] == pytest.approx(before["bpp"], rel=0.01)


def test_rounding_to_eight_bits_by_hand() -> None:
    kernel = torch.tensor([[0.127, -0.0637, 0.00049], [2e-9, 0.0, 0.0]]).view(2, 3, 1, 1)
    scale = torch.tensor([0.001, 2.0**-14]).half().float()
    expected = torch.tensor([[127.0, -64, 0], [0, 0, 0]]) * scale[:, None]
    found = weights.rounded(kernel, "int8")
    assert torch.equal(found.flatten(1), expected)
    assert torch.equal(weights.rounded(found, "int8"), found)
    some = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    twice = weights.rounded(weights.rounded(some, "int8"), "int8")
    assert torch.equal(twice, weights.rounded(some, "int8"))
    assert ((twice - some).flatten(1).abs().amax(1) <= 0.51 / 127 * some.flatten(1).abs().amax(1)).all()
    assert torch.equal(weights.rounded(some[0, 0], "int8"), some[0, 0].half().float())  # no kernel


def test_an_encoder_alone_writes_streams_for_the_old_decoder(tmp_path: Path) -> None:
    tuner = Finetuner(replace(HYPERPRIOR, freeze="decoder", steps=2), tmp_path)
    new = robustcodec.load(f"bmshj2018-hyperprior:weights={tuner.run()}")
    old = robustcodec.load(HYPERPRIOR.codec)
    parameters = {name.removeprefix("net.") for name, _ in old.named_parameters()}
    for key, tensor in old.state().items():
        moved = key in parameters and key.startswith(("g_a.", "h_a."))
        assert torch.equal(tensor, new.state()[key]) != moved, key
    x = clip(1, 1, 3, 70, 90)
    (stream,) = new.compress(x)
    assert stream != old.compress(x)[0]
    assert torch.equal(old.decompress([stream]), new.decompress([stream]))


# -- video ------------------------------------------------------------------------------------------------------------


def test_video_is_finetuned_and_codes(tmp_path: Path) -> None:
    tuner = Finetuner(replace(VIDEO, lipschitz=1e-4, rate_robustness=1.0), tmp_path)
    codec = robustcodec.load(f"rdae:weights={tuner.run()}")
    x = clip(1, 3, 3, 33, 40)
    assert torch.allclose(codec.decompress(codec.compress(x)), codec(x).x_hat, atol=1e-4)


def test_adversarial_distortion_is_kept(tmp_path: Path) -> None:
    recipe = replace(VIDEO, codec="rdae-gan:config=tiny,weights=random", rho=0.1, gan="lsgan", n_critic=2)
    tuner = Finetuner(recipe, tmp_path)
    assert tuner.adversary is not None
    pair, main = ([p.clone() for p in of] for of in (tuner.adversary.pair.parameters(), tuner.main))
    x = clip(2, 2, 3, 32, 32)
    seen = tuner._update(x, detailed=False)  # the discriminators' turn
    assert "D_real_frames" in seen and "loss" not in seen
    assert any(not torch.equal(a, b) for a, b in zip(pair, tuner.adversary.pair.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(main, tuner.main, strict=True))
    tuner.step = 1
    assert {"D_decoded_clips", "loss_clean", "loss_attacked"} <= set(tuner._update(x, detailed=False))
    assert any(not torch.equal(a, b) for a, b in zip(main, tuner.main, strict=True))


# -- recipes ----------------------------------------------------------------------------------------------------------

SHIPPED = (
    "at-chen-ma", "at-clean-target", "at-encoder", "at-free", "at-gradient", "at-lipschitz", "at-mix", "at-rate",
    "at-trades",
)  # fmt: skip


def test_settings_come_from_the_card_the_file_and_the_command_line_in_that_order(finetuned: Path) -> None:
    file = RecipeFile.read("at-chen-ma", FinetuneRecipe)
    (recipe,) = read_recipes(file, {"codec": "bmshj2018-hyperprior.tiny-q2", "data": ["photos"], "threat": "psnr:34"})
    assert (recipe.lmbda, recipe.metric, recipe.name, recipe.validate) == (0.0075, "mse", "tiny-q2-at", "photos")
    assert (recipe.target, recipe.adversarial, recipe.threat) == ("own", 1.0, "psnr:34")
    (perceptual,) = read_recipes(file, {"codec": "bmshj2018-hyperprior.tiny-msssim-q1", "data": ["x"], "crop": 192})
    assert perceptual.metric == "ms-ssim"
    (again,) = read_recipes(file, {"codec": str(finetuned), "data": ["photos"]})
    assert (again.codec, again.name, again.lmbda) == (f"bmshj2018-factorized:weights={finetuned}", "at-at", 0.0025)


def test_a_gan_is_inherited() -> None:
    card = weights.read_card(weights.find("rdae-gan", "tiny-q2"))
    settings = inherited(Card(card["name"], "rdae-gan", "video", training=card["training"]))
    assert (settings["gan"], settings["rho"], settings["feature"], settings["frames"]) == (
        "lsgan",
        0.2,
        "lpips-squeeze",
        8,
    )
    recipe = FinetuneRecipe("rdae-gan.tiny-q2", data=("clips",), **settings)
    assert command(recipe, settings) == "robustcodec finetune rdae-gan.tiny-q2 --data clips"
    assert command(replace(recipe, gan=None, rho=0.0), settings).endswith("--rho 0.0 --gan none")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_build_what_they_name(name: str, tmp_path: Path) -> None:
    file = RecipeFile.read(name, FinetuneRecipe)
    (recipe,) = read_recipes(file, {"codec": "bmshj2018-factorized.tiny-q1", "data": ["photos"]})
    assert Finetuner(recipe, tmp_path).threat.db == 40  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="robustcodec finetune takes this recipe"):
        RecipeFile.read(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adversarial": 1.5}, r"adversarial=1.5; expected a share in \[0, 1\]"),
        ({"lipschitz": -1.0}, "lipschitz=-1.0; expected a number of at least 0"),
        ({"adversarial": 0.0}, "no term of this loss sees an attacked clip"),
        ({"attacked": 0}, "attacked=0; expected at least 1 of the validation clips"),
        ({"storage": "int8", "freeze": "decoder"}, "storage=int8 rounds the decoder"),
    ],
)
def test_impossible_recipes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(RECIPE, **change)


def test_what_cannot_be_finetuned_is_said(tmp_path: Path) -> None:
    empty: RecipeFile[FinetuneRecipe] = RecipeFile({}, kind=FinetuneRecipe)
    with pytest.raises(UserError, match="no codec to start from"):
        read_recipes(empty, {})
    with pytest.raises(UserError, match="does not say for which λ it was trained; give --lmbda"):
        read_recipes(empty, {"codec": "bmshj2018-factorized:weights=random", "data": ["photos"]})
    with pytest.raises(UserError, match="has nothing to train"):
        Finetuner(replace(RECIPE, codec="jpeg:30"), tmp_path)
    with pytest.raises(UserError, match="checkpoints are float16"):
        Finetuner(replace(RECIPE, codec="bmshj2018-factorized:weights=random", freeze="decoder"), tmp_path)
    with pytest.raises(UserError, match="give --validate a data set"):
        Finetuner(replace(RECIPE, validate=None), tmp_path).run()
    Trainer(replace(RECIPE, steps=1), tmp_path / "train")._save()
    with pytest.raises(UserError, match="consistency: 0.0 → 1.0"):
        Trainer(replace(RECIPE, steps=1, consistency=1.0), tmp_path / "train")
