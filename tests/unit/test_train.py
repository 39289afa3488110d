"""Training: it learns, resumes to the same weights, exports weights that code, and refuses what cannot work."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from torch import Tensor

import robustcodec
from robustcodec import weights
from robustcodec.cli._training_display import train
from robustcodec.data._images import read_image
from robustcodec.errors import BadData, RobustCodecError, UserError, WeightsError
from robustcodec.interfaces import Sample
from robustcodec.registry import codecs, data
from robustcodec.training import loop
from robustcodec.training.codec import Trainer, measure
from robustcodec.training.crops import Crops
from robustcodec.training.progress import TrainingStatus
from robustcodec.training.recipe import CropShape, Recipe, Sampling
from robustcodec.training.recipe_file import command
from robustcodec.training.schedule import share_of_peak

RECIPE = Recipe(
    codec="bmshj2018-factorized:weights=random",
    name="test",
    data=("photos:size=96",),
    lmbda=0.01,
    steps=12,
    batch=2,
    crop=64,
    lr=1e-3,
    validate_every=6,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Trainer(RECIPE, tmp_path_factory.mktemp("trained")).run()


def test_the_loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    seen: list[TrainingStatus] = []
    Trainer(replace(RECIPE, steps=30, validate="photos:size=64", validate_every=15), tmp_path).run(seen.append, every=1)
    assert [p.step for p in seen] == list(range(1, 31))
    first, last = (sum(p.loss for p in part) / 5 for part in (seen[:5], seen[-5:]))
    assert last < 0.7 * first
    assert set(seen[-1].validation) == {"bpp", "psnr", "ms_ssim"}
    assert list((tmp_path / "logs").glob("events*"))


def test_an_interrupted_run_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    class Stop(Exception): ...

    def stop(progress: TrainingStatus) -> None:
        if progress.step == 6:
            raise Stop

    with pytest.raises(Stop):
        Trainer(RECIPE, tmp_path).run(stop, every=1)
    resumed = Trainer(RECIPE, tmp_path)
    assert resumed.step == 6
    path = resumed.run()
    assert path.read_bytes() == trained.read_bytes()
    assert path.with_suffix(".toml").read_bytes() == trained.with_suffix(".toml").read_bytes()


def test_ctrl_c_ends_a_step_and_saves_it(trained: Path, tmp_path: Path) -> None:
    class Pressed(Trainer):
        def _update(self, x: Tensor, detailed: bool) -> loop.Seen:
            if self.step == 3:
                signal.raise_signal(signal.SIGINT)  # before anything of the step has happened
            return super()._update(x, detailed)

    trainer = Pressed(RECIPE, tmp_path)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    finally:
        signal.signal(signal.SIGINT, usual)
    assert trainer.checkpoint == 4
    resumed = Trainer(RECIPE, tmp_path)
    assert resumed.step == 4
    assert resumed.run().read_bytes() == trained.read_bytes()


def test_checkpoints_come_early_and_then_as_time_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(replace(RECIPE, steps=24, validate_every=500), tmp_path)
    saved: list[int] = []

    def note(status: TrainingStatus) -> None:
        saved.append(status.checkpoint)
        if status.step == 22:
            monkeypatch.setattr(loop, "perf_counter", lambda: math.inf)  # two minutes and more

    trainer.run(note, every=1)
    assert saved == [1] * 22 + [23, 24]


def test_a_validation_that_was_interrupted_is_made_when_training_goes_on(trained: Path, tmp_path: Path) -> None:
    recipe, made = replace(RECIPE, validate="photos:size=64"), list[int]()

    class Pressed(Trainer):
        def validate(self) -> dict[str, float]:
            made.append(self.step)
            if made == [6]:
                raise KeyboardInterrupt
            return super().validate()

    with pytest.raises(KeyboardInterrupt):
        Pressed(recipe, tmp_path).run()
    resumed = Pressed(recipe, tmp_path)
    assert resumed.step == 6
    path = resumed.run()
    assert made == [6, 6, 12] and path.read_bytes() == trained.read_bytes()


def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "one bit":
        data[len(data) // 2] ^= 1
    path.write_bytes({"empty": b"", "cut": bytes(data[:-1000]), "no archive": b"hello", "one bit": bytes(data)}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "no archive", "one bit"])
def test_a_damaged_checkpoint_is_named(how: str, tmp_path: Path) -> None:
    Trainer(RECIPE, tmp_path)._save()
    damaged(tmp_path / "checkpoint.pt", how)
    with pytest.raises(UserError, match=r"checkpoint.pt is damaged .*remove it") as refused:
        Trainer(RECIPE, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_something_else_is_named(tmp_path: Path) -> None:
    Trainer(RECIPE, tmp_path)._save()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for other in ({"step": 3}, [1], {**state, "codec": {"x": torch.zeros(3)}}, {**state, "recipe": 100_000 * "["}):
        torch.save(other, tmp_path / "checkpoint.pt")
        with pytest.raises(UserError, match=r"checkpoint.pt is damaged .*remove it"):
            Trainer(RECIPE, tmp_path)


def test_ctrl_c_before_the_first_checkpoint_says_that_nothing_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pressed(Trainer):
        def _begin(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        train(Pressed(RECIPE, tmp_path), Console(width=200), 0)
    said = capsys.readouterr().out
    assert ended.value.exit_code == 130 and "nothing is kept yet" in said and "goes on" not in said


def test_a_checkpoint_from_before_a_setting_existed_resumes(tmp_path: Path) -> None:
    Trainer(RECIPE, tmp_path)._save()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    old = json.loads(state["recipe"])
    for name in ("scale", "late_crop", "warmup", "grow", "storage"):
        del old[name]
    torch.save({**state, "recipe": json.dumps(old), "step": 5}, tmp_path / "checkpoint.pt")
    assert Trainer(RECIPE, tmp_path).step == 5
    with pytest.raises(UserError, match="scale: 1.0 → 0.5"):
        Trainer(replace(RECIPE, scale=0.5), tmp_path)


def test_what_is_validated_and_shipped_is_rounded_alike(tmp_path: Path) -> None:
    recipe = replace(RECIPE, storage="int8", steps=2, validate="photos:size=64")
    path = Trainer(recipe, tmp_path).run()
    codec = robustcodec.load(f"bmshj2018-factorized:weights={path}")
    kernels = [p for p in codec.parameters() if p.ndim == 4]
    assert kernels and all(len(torch.unique(p[0])) <= 255 for p in kernels)
    scores = [measure(codec, s.load()) for s in data.build("photos:size=64").samples()]
    stated = codec.card.training["validation"]
    assert stated == {k: round(sum(s[k] for s in scores) / len(scores), 4) for k in stated}


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
    alone = codecs.build(f"bmshj2018-factorized:weights={copy}")  # without its card it is what its tensors are
    assert alone.card.architecture == {"N": 48, "M": 64} and not alone.card.training
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


def test_late_steps_have_crops_of_their_own() -> None:
    samples = [*data.build("photos:size=96").samples(), *data.build("photos:size=160").samples()]
    recipe = replace(RECIPE, steps=8, late_crop=128, late_share=0.25)
    assert recipe.late_start == 6 and [s.batch for s in recipe.shapes] == [2, 1]  # as many pixels
    shape, late = recipe.shapes
    crops, plain = Crops(samples, shape, 0, late=(6, late)), Crops(samples, shape, 0)
    assert [tuple(crops[s].shape) for s in (5, 6)] == [(2, 1, 3, 64, 64), (1, 1, 3, 128, 128)]
    assert torch.equal(crops[5], plain[5]) and torch.equal(crops[7], Crops(samples, shape, 0, late=(6, late))[7])
    with pytest.raises(BadData, match="none of 6 training samples has 1 frames of 128x128"):
        Crops(samples[:6], shape, 0, late=(6, late))


def test_scaled_crops_are_of_larger_regions_and_without_aliases() -> None:
    stripes = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    stripes[..., ::2] = 200  # of one pixel: shrunk with care they are grey
    stripes[..., 64:, :] = 100
    samples = [Sample("stripes", lambda: stripes)]
    shape = CropShape(batch=8, frames=1, size=64, scale=0.5)
    crops = Crops(samples, shape, 0)
    batch = crops[0]
    assert batch.shape == (8, 1, 3, 64, 64) and torch.equal(batch, Crops(samples, shape, 0)[0])
    contrast = [int(c.max()) - int(c.min()) for c in batch[:, 0, 0].float()]
    assert sum(c < 150 for c in contrast) >= 2 and len(set(contrast)) > 2  # each crop has a factor of its own
    assert all(90 < float(c.float().mean()) < 110 for c in batch)
    plain = Crops(samples, replace(shape, scale=1.0), 0)[0]
    assert all(set(c.unique().tolist()) <= {0, 100, 200} for c in plain)
    whole = Crops([Sample("small", lambda: stripes[..., :70, :70])], shape, 0)[0]  # no region is that large
    assert whole.shape == batch.shape


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
    rates = [share_of_peak(replace(RECIPE, steps=1000), s) for s in range(1000)]
    assert rates[0] == 1 / 20 and max(rates) == rates[20] == 1.0
    assert rates[20:] == sorted(rates[20:], reverse=True) and rates[-1] == pytest.approx(RECIPE.final_lr, abs=1e-4)


def test_warm_up_and_end_of_the_schedule_can_be_chosen() -> None:
    def rates(**change: Any) -> list[float]:
        return [share_of_peak(replace(RECIPE, steps=100, **change), s) for s in range(100)]

    cosine = rates(warmup=0.1, final_lr=0.01)
    assert cosine[:10] == pytest.approx([(s + 1) / 10 for s in range(10)]) and cosine[10] == 1.0
    assert cosine[-1] == pytest.approx(0.01, abs=1e-3)
    assert rates(schedule="constant") == [1.0] * 100
    assert rates(schedule="constant", warmup=0.05) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 96)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "ms-ssim"}, "--crop 64 is too small for MS-SSIM"),
        ({"steps": 0}, "each must be positive"),
        ({"late_share": 1.5}, r"late_share=1.5; expected a share in \[0, 1\]"),
        ({"scale": 0.0}, "scale=0.0; expected a factor above 0 and at most 1"),
        ({"validate_every": 0}, "expected at least 1 of each"),
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
        "--lmbda 0.01 --steps 12 --batch 2 --crop 64 --lr 0.001 --validate-every 6"
    )


@pytest.mark.gpu
def test_bfloat16_trains_on_a_gpu(tmp_path: Path) -> None:
    path = Trainer(replace(RECIPE, precision="bfloat16"), tmp_path, "cuda").run()
    assert os.path.getsize(path) > 0
