"""Adversarial training: every GAN form trains and resumes, gradients are logged, recipes read and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from typer.testing import CliRunner

from robustcodec import cli, weights
from robustcodec.errors import UserError
from robustcodec.training.ablation import markdown
from robustcodec.training.codec import Trainer, distortion
from robustcodec.training.gan import FORMS
from robustcodec.training.gan_pair import Adversary
from robustcodec.training.recipe import GanForm, Recipe
from robustcodec.training.recipe_file import RecipeFile

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(
    "rdae-gan:config=tiny,weights=random", "test", ("clips:frames=4,size=40",), 0.003, rho=0.01, gan="lsgan",
    steps=3, batch=2, crop=32, frames=4, validate_every=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Trainer(RECIPE, tmp_path_factory.mktemp("gan")).run(every=1)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    log = EventAccumulator(str(folder / "logs"))
    log.Reload()
    return {tag: [(e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def test_scores_rate_and_gradient_norms_are_logged(trained: Path) -> None:
    logged = scalars(trained.parent)
    for tag in (
        "D_real_frames", "D_real_clips", "D_decoded_frames", "D_decoded_clips", "discriminator_loss", "bpp",
        "gradient_pixel", "gradient_adversarial", "loss_pixel", "loss_adversarial",
    ):  # fmt: skip
        assert [step for step, _ in logged[f"train/{tag}"]] == [1, 2, 3], tag


@pytest.mark.parametrize("form", get_args(GanForm))
def test_every_form_moves_decoder_and_discriminators(form: GanForm, tmp_path: Path) -> None:
    steps = FORMS[form].n_critic
    trainer = Trainer(replace(RECIPE, gan=form, steps=steps), tmp_path)
    assert trainer.adversary is not None
    pair = [p.clone() for p in trainer.adversary.pair.parameters()]
    main = [p.clone() for p in trainer.main]
    trainer.run()
    assert any(not torch.equal(a, b) for a, b in zip(pair, trainer.adversary.pair.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(main, trainer.main, strict=True))


def test_discriminators_train_alone_first(tmp_path: Path) -> None:
    trainer = Trainer(replace(RECIPE, discriminator_steps=2), tmp_path)
    before = [p.clone() for p in trainer.main]
    for step in range(3):
        trainer.step = step
        seen = trainer._update(torch.rand(2, 4, 3, 32, 32), detailed=True)
        moved = any(not torch.equal(a, b) for a, b in zip(before, trainer.main, strict=True))
        assert moved == ("bpp" in seen) == (step == 2)


def test_an_interrupted_run_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    class Stop(Exception): ...

    def stop(progress: Any) -> None:
        if progress.step == 2:
            raise Stop

    with pytest.raises(Stop):
        Trainer(RECIPE, tmp_path).run(stop, every=1)
    assert Trainer(RECIPE, tmp_path).run(every=1).read_bytes() == trained.read_bytes()


def test_a_missing_vgg_is_said_aloud_and_in_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.warns(UserWarning, match="the VGG-19 term is OFF"):
        trainer = Trainer(replace(RECIPE, gamma=0.1, steps=1), tmp_path / "run")
    card = weights.read_card(trainer.run())
    assert any("VGG-19 term is OFF" in note for note in card["training"]["notes"])
    assert card["training"]["gamma"] == 0.1


def test_random_features_are_a_term_with_a_gradient(tmp_path: Path) -> None:
    trainer = Trainer(replace(RECIPE, gamma=0.1, vgg_weights="random", steps=1), tmp_path)
    seen = trainer._update(torch.rand(1, 2, 3, 32, 32), detailed=True)
    assert seen["gradient_feature"] > 0 and seen["loss_feature"] > 0
    assert any("not perceptual" in note for note in trainer.notes)


def test_pixel_distortions_by_hand() -> None:
    x, x_hat = torch.zeros(1, 1, 3, 2, 2), torch.full((1, 1, 3, 2, 2), 2 / 255)
    assert float(distortion("mse", x, x_hat)) == pytest.approx(4)
    assert float(distortion("l1", x, x_hat)) == pytest.approx(2)


def test_the_rate_per_symbol_is_that_per_pixel_times_the_pixels_of_a_symbol(tmp_path: Path) -> None:
    plain = replace(RECIPE, gan=None, rho=0.0, steps=1)
    x = torch.rand(2, 4, 3, 32, 32)
    losses = []
    for unit in ("bpp", "symbol"):
        seen = Trainer(replace(plain, rate_unit=unit), tmp_path / unit)._update(x, detailed=False)
        losses.append(float(seen["loss"]) - float(seen["loss_pixel"]))
    assert losses[1] == pytest.approx(losses[0] * 8 * 8 * 2 / 16, rel=1e-4)
    with pytest.raises(UserError, match="codes no discrete symbols"):
        image = replace(plain, codec="bmshj2018-factorized:weights=random", rate_unit="symbol", frames=1, crop=64)
        Trainer(image, tmp_path / "image")._update(torch.rand(1, 1, 3, 64, 64), detailed=False)


def test_resuming_restores_the_discriminators(tmp_path: Path) -> None:
    def adversary() -> Adversary:
        return Adversary(replace(RECIPE, gan="wgan-gp"), torch.device("cpu"))

    one, x = adversary(), torch.rand(2, 2, 3, 32, 32)
    plain = torch.autocast("cpu", torch.bfloat16, enabled=False)
    one.train(x, x.flip(-1), plain)
    other = adversary()
    other.load_state(one.state())
    again = [a.train(x, x.flip(-2), plain) for a in (one, other)]
    assert again[0] == again[1]


# -- recipes --------------------------------------------------------------------------------------------------------

RATES = (("one", 0.1), ("two", 0.2), ("three", 0.3))
SHIPPED = ["rdae-ablation", "rdae-gan-paper", "rdae-gan-tiny", "rdae-paper", "rdae-tiny"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_make_recipes(name: str) -> None:
    given = {"codec": "rdae-gan:weights=random", "name": "x", "data": ["clips"], "lmbda": 0.1}
    file: RecipeFile[Recipe] = RecipeFile.read(name)
    recipes = file.recipes({k: v for k, v in given.items() if k not in file.settings})
    assert len(recipes) == (7 * 3 if name == "rdae-ablation" else 1)
    if "paper" in name:
        assert (recipes[0].lmbda, recipes[0].frames, recipes[0].crop, recipes[0].batch) == (0.005, 16, 160, 37)
        assert (recipes[0].lr, recipes[0].rate_unit, recipes[0].schedule) == (1e-4, "symbol", "constant")
    if name == "rdae-gan-paper":
        assert (recipes[0].gamma, recipes[0].rho, recipes[0].gan) == (0.1, 0.0001, "lsgan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lambda = 1", "sets lambda, which no recipe has"),
        ("name = ", "is not a TOML file"),
        ("lmbda = 1.0", "the recipe lacks codec, name, data; give --codec --name --data"),
        ("[[variant]]\ngan = 'lsgan'", "a [[variant]] without a name"),
        ("seeds = [1, 1]", "expected different whole numbers"),
    ],
)
def test_wrong_recipes_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        RecipeFile.read(str(tmp_path / "wrong.toml")).recipes({})
    assert message in str(caught.value)


def test_unknown_recipes_name_those_that_ship() -> None:
    with pytest.raises(UserError, match="rdae-ablation, rdae-gan-paper, rdae-gan-tiny, rdae-paper, rdae-tiny"):
        RecipeFile.read("rdae-papr")
    with pytest.raises(UserError, match="give both a GAN form and its weight"):
        replace(RECIPE, gan=None)


def test_an_ablation_trains_every_variant_with_every_seed(trained: Path, tmp_path: Path) -> None:
    text = (ROOT / "zoo" / "recipes" / "rdae-ablation.toml").read_text()
    head, *variants = text.replace("[0, 1, 2]", "[0, 4]").split("[[variant]]")
    (tmp_path / "two.toml").write_text("[[variant]]".join([head, variants[0], variants[-1]]))
    result = CliRunner().invoke(
        cli.app,
        ["train", "--recipe", str(tmp_path / "two.toml"), f"rdae-gan:weights={trained}", "--data",
         "clips:frames=4,size=40", "--validate", "clips:frames=2,size=64", "--steps", "1", "--batch", "1", "--frames",
         "2", "--crop", "32", "--out", str(tmp_path)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    assert lines[0] == "| variant | lmbda | metric | gan | bpp | psnr | ms_ssim |"
    assert lines[2].startswith("| ablation-dcgan-l1 | 0.0192 | l1 | dcgan | ") and " to " in lines[2]
    assert lines[3].startswith("| ablation-wgan-gp-l2 | 0.0012 | mse | wgan-gp | ")
    assert {path.stem for path in tmp_path.glob("*/*.safetensors")} == {
        f"rdae-gan.ablation-{variant}-s{seed}" for variant in ("dcgan-l1", "wgan-gp-l2") for seed in (0, 4)
    }


def test_what_counts_is_more_than_the_spread_of_seeds() -> None:
    psnr = {"one": (30.0, 30.4), "two": (30.1, 30.2), "three": (29.0, 29.9)}
    recipes = [replace(RECIPE, name=f"{name}-s{seed}", seed=seed, lr=lr) for name, lr in RATES for seed in (0, 1)]
    found = {r.name: {"bpp": 0.1 * (1 + r.seed), "psnr": psnr[r.name.split("-")[0]][r.seed]} for r in recipes}
    lines = markdown(recipes, found).splitlines()
    assert lines[0] == "| variant | lr | bpp | psnr |"
    assert lines[2] == "| one | 0.1 | 0.1500 (0.1000 to 0.2000) | 30.2000 (30.0000 to 30.4000) |"
    assert lines[-2] == "* bpp: best one; no difference: two, three; worse: none."
    assert lines[-1] == "* psnr: best one; no difference: two; worse: three."
    denoised = {name: {"psnr_0.1": of["psnr"]} for name, of in found.items()}  # a denoiser's, which is no metric
    assert markdown(recipes, denoised).splitlines()[-1] == "* psnr_0.1: best one; no difference: two; worse: three."
    alone = markdown(recipes[::2], {r.name: found[r.name] for r in recipes[::2]})
    assert "to" not in alone.splitlines()[2] and "best" not in alone
