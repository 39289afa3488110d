"""Finetuning that is interrupted or goes wrong: it ends with the same bytes, or goes back to the last validation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetuning import RECIPE
from torch import Tensor

from robustcodec import weights
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Codec
from robustcodec.training import loop
from robustcodec.training.finetune import Finetuner
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.progress import TrainingStatus


class Stop(Exception): ...


FREE = replace(RECIPE, free=3, adversarial=1.0)


@pytest.fixture(scope="module")
def freed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What :data:`FREE` makes."""
    return Finetuner(FREE, tmp_path_factory.mktemp("freed")).run()


@pytest.fixture(params=["plain", "free"])
def uninterrupted(request: pytest.FixtureRequest) -> tuple[FinetuneRecipe, Path]:
    """A recipe and what it makes."""
    recipe, made = (FREE, "freed") if request.param == "free" else (RECIPE, "finetuned")
    return recipe, request.getfixturevalue(made)


def test_an_interrupted_run_ends_with_the_same_bytes(
    uninterrupted: tuple[FinetuneRecipe, Path], tmp_path: Path
) -> None:
    recipe, whole = uninterrupted

    def stop(progress: TrainingStatus) -> None:
        if progress.step == 3:
            raise Stop

    with pytest.raises(Stop):
        Finetuner(recipe, tmp_path / "cut").run(stop, every=1)
    resumed = Finetuner(recipe, tmp_path / "cut")
    assert resumed.step == 2 and resumed.before  # that of a validation: two minutes have not passed
    path = resumed.run(every=1)
    assert path.read_bytes() == whole.read_bytes()
    assert path.with_suffix(".toml").read_bytes() == whole.with_suffix(".toml").read_bytes()


def test_ctrl_c_loses_no_step(uninterrupted: tuple[FinetuneRecipe, Path], tmp_path: Path) -> None:
    recipe, whole = uninterrupted

    def press(progress: TrainingStatus) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Finetuner(recipe, tmp_path / "cut").run(press, every=1)
    resumed = Finetuner(recipe, tmp_path / "cut")
    assert resumed.step == 3
    assert resumed.run().read_bytes() == whole.read_bytes()


def test_the_first_step_is_kept_and_then_what_two_minutes_have_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    tuner = Finetuner(replace(RECIPE, validate_every=500, steps=5), tmp_path)

    def note(status: TrainingStatus) -> None:
        saved.append(status.checkpoint)
        if status.step == 3:
            monkeypatch.setattr(loop, "perf_counter", lambda: math.inf)  # two minutes and more

    tuner.run(note, every=1)
    assert saved == [1, 1, 1, 4, 5]


class Poisoned(Finetuner):
    """Its weights are no numbers after step 5, until it has gone back to the validation before."""

    max_skipped = 2

    def _update(self, x: Tensor, detailed: bool) -> loop.Seen:
        seen = super()._update(x, detailed)
        if self.step == 4 and not self.rollbacks:
            with torch.no_grad():
                self.main[0].fill_(math.nan)
        return seen


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Poisoned(replace(RECIPE, steps=6, validate_every=4), tmp_path_factory.mktemp("poisoned")).run()
    assert "rolled back from step 6 to 4" in weights.read_card(path)["training"]["notes"][0]
    return path


@pytest.mark.parametrize(
    ("seconds", "kills"), [(120.0, [6]), (-1.0, [5, 6])], ids=["every two minutes", "after every step"]
)
def test_a_rollback_does_not_depend_on_checkpoints(
    seconds: float, kills: list[int], poisoned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=6, validate_every=4)
    monkeypatch.setattr(loop, "SECONDS", seconds)

    def stop(progress: TrainingStatus) -> None:
        if kills and progress.step == kills[0]:
            del kills[0]
            raise Stop

    while kills:
        with pytest.raises(Stop):
            Poisoned(recipe, tmp_path).run(stop, every=1)
    path = Poisoned(recipe, tmp_path).run()
    assert path.read_bytes() == poisoned.read_bytes()
    assert path.with_suffix(".toml").read_bytes() == poisoned.with_suffix(".toml").read_bytes()


def test_a_validation_that_was_interrupted_counts_when_training_goes_on(finetuned: Path, tmp_path: Path) -> None:
    class Pressed(Finetuner):
        pressed = False

        def _keep(self, codec: Codec, scores: dict[str, float]) -> None:
            if self.step == 4 and not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            super()._keep(codec, scores)

    tuner = Pressed(RECIPE, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tuner.run()
    resumed = Finetuner(RECIPE, tmp_path)
    assert resumed.step == 4 and resumed.best_step == 2
    assert resumed.run().read_bytes() == finetuned.read_bytes() and resumed.best_step == 4


def test_not_a_number_is_rolled_back_and_reported(finetuned: Path, tmp_path: Path) -> None:
    tuner = Finetuner(replace(RECIPE, steps=10, validate_every=6), tmp_path)
    rates: dict[int, float] = {}
    notes: list[str] = []

    def poison(progress: TrainingStatus) -> None:
        rates[progress.step] = progress.lr
        if progress.step == 7 and not tuner.rollbacks:
            with torch.no_grad():
                tuner.main[0].fill_(math.nan)

    tuner.max_skipped = 2
    path = tuner.run(poison, notes.append, every=1)
    assert len(notes) == 1 and "rolled back from step 8 to 6, learning rate × 0.5" in notes[0]
    untouched = Finetuner(replace(RECIPE, steps=10, validate_every=6), tmp_path / "other")
    untouched.step = 9
    assert rates[10] == pytest.approx(0.5 * untouched._set_rate(RECIPE.lr)["lr"])
    state, card = weights.load(path)
    assert all(bool(v.isfinite().all()) for v in state.values() if v.is_floating_point())
    assert card["training"]["notes"] == notes


def test_scores_that_are_ruined_are_rolled_back_too_and_in_the_end_refused(tmp_path: Path) -> None:
    notes: list[str] = []
    tuner = Finetuner(replace(RECIPE, steps=2, lr=3.0, schedule="constant", ema=0.0, clip=1e9), tmp_path)
    with pytest.raises(RobustCodecError, match=r"rolled back from step 2 to 0.*no weights are worth keeping"):
        tuner.run(on_note=notes.append)
    assert len(notes) == 5 and notes[1].endswith("learning rate × 0.25")
