"""Training of a defense's denoiser: it resumes, its command is its recipe, and the loss falls."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import clips, stored_purifier

from robustcodec import cli, weights
from robustcodec.clips import to_uint8
from robustcodec.data._images import write_image
from robustcodec.defenses._purifier_weights import purifier
from robustcodec.errors import UserError
from robustcodec.registry import codecs, defenses
from robustcodec.training.denoiser import DenoiserRecipe, DenoiserTrainer, is_denoiser
from robustcodec.training.progress import TrainingStatus
from robustcodec.training.recipe import Recipe
from robustcodec.training.recipe_file import command

RECIPE = DenoiserRecipe(
    codec="diffpure", name="test", data=("photos:size=64",), steps=4, batch=2, crop=16, lr=1e-3, seed=3
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ours with the small network."""
    return stored_purifier(tmp_path_factory.mktemp("weights"))


def test_an_interrupted_run_ends_with_the_same_weights(stored: Path, tmp_path: Path) -> None:
    class Stop(Exception): ...

    def stop(progress: TrainingStatus) -> None:
        if progress.step == 2:
            raise Stop

    recipe = replace(RECIPE, codec=f"diffpure:weights={stored}", validate="photos:size=16", validate_every=2)
    path = DenoiserTrainer(recipe, tmp_path / "whole").run()
    with pytest.raises(Stop):
        DenoiserTrainer(recipe, tmp_path / "parts").run(stop, every=1)
    resumed = DenoiserTrainer(recipe, tmp_path / "parts")
    assert resumed.step == 2
    again = resumed.run()
    assert again.read_bytes() == path.read_bytes()
    assert again.with_suffix(".toml").read_bytes() == path.with_suffix(".toml").read_bytes()
    card = weights.read_card(path)
    assert card["training"]["command"] == command(recipe) and "lmbda" not in card["training"]
    assert set(card["training"]["validation"]) == {"psnr_0.02", "psnr_0.05", "psnr_0.1"}
    assert list((tmp_path / "whole" / "logs").glob("events*"))
    further = DenoiserTrainer(replace(recipe, codec=f"diffpure:weights={path}"), tmp_path / "further")
    torch.testing.assert_close(further.denoiser.state(), weights.load(path)[0])
    assert further._facts()["training"]["parents"] == [command(recipe)]
    assert further.model is not purifier(str(path)) and all(p.requires_grad for p in further.main)


def test_the_command_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, steps=2)
    path = DenoiserTrainer(recipe, tmp_path / "direct").run()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*shlex.split(command(recipe)), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    made = tmp_path / "training" / "diffpure.test" / path.name
    assert made.read_bytes() == path.read_bytes()
    assert made.with_suffix(".toml").read_bytes() == path.with_suffix(".toml").read_bytes()
    codec = defenses.build(f"diffpure:weights={made}").wrap(codecs.build("bmshj2018-factorized.tiny-q1"))
    assert codec.compress(clips(1, 1, 16, 16))


def test_training_lowers_the_loss(stored: Path, tmp_path: Path) -> None:
    """On flat images, where noise is all that there is to see."""
    (tmp_path / "flat").mkdir()
    for i, colour in enumerate(torch.rand(12, 1, 3, 1, 1, generator=torch.Generator().manual_seed(0))):
        write_image(to_uint8(colour.expand(1, 3, 32, 32)), tmp_path / "flat" / f"{i}.png")
    recipe = replace(
        RECIPE, codec=f"diffpure:weights={stored}", data=(f"folder:{tmp_path}/flat",), steps=120, batch=8, crop=32
    )
    seen: list[TrainingStatus] = []
    DenoiserTrainer(replace(recipe, lr=5e-3), tmp_path / "run").run(seen.append, every=1)
    first, last = (sum(p.loss for p in part) / 10 for part in (seen[:10], seen[-10:]))
    assert last < 0.92 * first
    assert math.isnan(seen[0].bpp)


def test_settings_that_do_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="metric, gamma would change nothing"):
        replace(RECIPE, metric="l1", gamma=0.1)
    assert is_denoiser("diffpure") and is_denoiser("diffpure:weights=random")
    assert not any(map(is_denoiser, ("", "jpeg", "blur", "nothing", "bmshj2018-hyperprior:weights=random")))
    assert command(Recipe(codec="a", name="b", data=("c",), lmbda=1.0)).startswith("robustcodec train a --name b")
