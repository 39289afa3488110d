"""Training: it learns, resumes to the same weights, exports weights that code, and refuses what cannot work."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustcodec import weights
from robustcodec.data._images import read_image
from robustcodec.errors import BadData, RobustCodecError, UserError, WeightsError
from robustcodec.interfaces import Sample
from robustcodec.registry import codecs, data
from robustcodec.training.codec import Trainer
from robustcodec.training.crops import Crops, CropShape, Sampling
from robustcodec.training.loop import FINAL_RATE, Progress, _cosine
from robustcodec.training.recipe import Recipe, command

RECIPE = Recipe(
    codec="bmshj2018-factorized:weights=random",
    name="test",
    data=("photos:size=96",),
    lmbda=0.01,
    steps=12,
    batch=2,
    crop=64,
    lr=1e-3,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Trainer(RECIPE, tmp_path_factory.mktemp("trained")).run(checkpoint_every=6)


def test_the_loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    seen: list[Progress] = []
    Trainer(replace(RECIPE, steps=30, validate="photos:size=64"), tmp_path).run(
        seen.append, every=1, checkpoint_every=15
    )
    assert [p.step for p in seen] == list(range(1, 31))
    first, last = (sum(p.loss for p in part) / 5 for part in (seen[:5], seen[-5:]))
    assert last < 0.7 * first
    assert set(seen[-1].validation) == {"bpp", "psnr", "ms_ssim"}
    assert list((tmp_path / "logs").glob("events*"))


def test_an_interrupted_run_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    class Stop(Exception): ...

    def stop(progress: Progress) -> None:
        if progress.step == 6:
            raise Stop

    with pytest.raises(Stop):
        Trainer(RECIPE, tmp_path).run(stop, every=1, checkpoint_every=6)
    resumed = Trainer(RECIPE, tmp_path)
    assert resumed.step == 6
    path = resumed.run(checkpoint_every=6)
    assert path.read_bytes() == trained.read_bytes()
    assert path.with_suffix(".toml").read_bytes() == trained.with_suffix(".toml").read_bytes()


def test_another_recipe_in_the_same_folder_is_refused(trained: Path) -> None:
    with pytest.raises(UserError, match="lmbda: 0.01 → 0.02"):
        Trainer(replace(RECIPE, lmbda=0.02), trained.parent)


def test_exported_weights_load_code_and_carry_their_card(trained: Path) -> None:
    codec = codecs.build(f"bmshj2018-factorized:weights={trained}")
    x = torch.rand(1, 1, 3, 40, 50)
    assert torch.allclose(codec.decompress(codec.compress(x)), codec(x).x_hat, atol=1e-4)
    card = codec.card
    assert (card.name, card.architecture) == ("bmshj2018-factorized.test", {"N": 48, "M": 64})
    assert card.training["command"] == command(RECIPE) and card.training["lmbda"] == 0.01
    assert card.sha256 == weights.sha256(trained)


def test_training_starts_from_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    start = Trainer(replace(RECIPE, codec=f"bmshj2018-factorized:weights={trained}"), tmp_path)
    state, _ = weights.load(trained)
    assert torch.equal(start.codec.state()["g_a.0.weight"], state["g_a.0.weight"])


def test_damaged_and_foreign_checkpoints_are_refused(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / trained.name
    copy.write_bytes(trained.read_bytes())
    with pytest.raises(WeightsError, match="no card for"):
        codecs.build(f"bmshj2018-factorized:weights={copy}")
    copy.with_suffix(".toml").write_bytes(trained.with_suffix(".toml").read_bytes())
    with pytest.raises(WeightsError, match="holds weights of bmshj2018-factorized, not of mbt2018-mean"):
        codecs.build(f"mbt2018-mean:weights={copy}")
    copy.write_bytes(trained.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="does not match its card"):
        codecs.build(f"bmshj2018-factorized:weights={copy}")
    with pytest.raises(WeightsError, match="no weights at"):
        codecs.build("bmshj2018-factorized:weights=nowhere.safetensors,seed=1")


def test_divergence_stops_the_run(tmp_path: Path) -> None:
    trainer = Trainer(replace(RECIPE, steps=200), tmp_path)
    with torch.no_grad():
        trainer.main[0].fill_(math.nan)
    with pytest.raises(RobustCodecError, match="training diverged"):
        trainer.run()


@pytest.mark.parametrize("sampling", ["area", "uniform"])
def test_crops_depend_on_seed_and_step_alone(sampling: Sampling) -> None:
    samples = data.build("photos:size=96").samples()
    shape = CropShape(batch=2, frames=1, size=64)
    crops = Crops(samples, shape, 0, sampling)
    assert torch.equal(crops[5], Crops(samples, shape, 0, sampling)[5])
    assert not torch.equal(crops[5], crops[6])
    assert not torch.equal(crops[5], Crops(samples, shape, 1, sampling)[5])
    expected = torch.stack([crops[3], crops[4], crops[5]])
    assert torch.equal(torch.stack(list(crops.stream(3, 6))), expected)
    assert torch.equal(torch.stack(list(crops.stream(3, 6, workers=2))), expected)


def test_samples_that_are_too_small_are_refused_or_passed_over() -> None:
    samples = data.build("photos:size=96").samples()
    large = data.build("photos:size=160").samples()
    shape = CropShape(batch=2, frames=1, size=128)
    with pytest.raises(BadData, match="none of 6 training samples has 1 frames of 128x128"):
        Crops(samples, shape, 0)
    with pytest.raises(BadData, match="20 training samples in a row"):
        Crops(samples, shape, 0, "uniform")[0]
    broken = Sample("broken", lambda: read_image(Path("nowhere.png")))
    with pytest.warns(UserWarning, match="passed over a training sample: no image at nowhere.png"):
        batches = [Crops([*samples, *large, broken], shape, 0, "uniform")[i] for i in range(8)]
    assert all(b.shape == (2, 1, 3, 128, 128) for b in batches)


def test_the_schedule_warms_up_and_ends_low() -> None:
    rates = [_cosine(s, 1000) for s in range(1000)]
    assert rates[0] == 1 / 20 and max(rates) == rates[20] == 1.0
    assert rates[20:] == sorted(rates[20:], reverse=True) and rates[-1] == pytest.approx(FINAL_RATE, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "ms-ssim"}, "--crop 64 is too small for MS-SSIM"),
        ({"steps": 0}, "each must be positive"),
    ],
)
def test_impossible_recipes(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(RECIPE, **change)  # type: ignore[arg-type]


def test_classical_codecs_have_nothing_to_train(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has nothing to train"):
        Trainer(replace(RECIPE, codec="jpeg:30"), tmp_path)


def test_the_recorded_command_is_the_one_that_trains() -> None:
    assert command(RECIPE) == (
        "robustcodec train bmshj2018-factorized:weights=random --name test --data photos:size=96 "
        "--lmbda 0.01 --steps 12 --batch 2 --crop 64 --lr 0.001"
    )


@pytest.mark.gpu
def test_bfloat16_trains_on_a_gpu(tmp_path: Path) -> None:
    path = Trainer(replace(RECIPE, precision="bfloat16"), tmp_path, "cuda").run()
    assert os.path.getsize(path) > 0
