"""``robustcodec finetune`` is the finetuner: killed and run again it writes the bytes of an uninterrupted run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import robustcodec
from robustcodec import cli
from robustcodec.registry import codecs
from robustcodec.training.finetune import Finetuner, inherited
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.recipe_file import command

CODEC = "bmshj2018-factorized.tiny-q1"
RECIPE = FinetuneRecipe(
    CODEC, "tiny-q1-at", ("photos:size=64",), 0.0025, steps=24, batch=2, crop=32, lr=2e-4, ema=0.9, attack="fgsm",
    threat="psnr:36", ramp=0.5, adversarial=0.75, target="own", consistency=0.5, gradient_penalty=0.01,
    lipschitz=1e-5, rate_robustness=0.5, freeze="prior", validate="photos:size=40", validate_every=6,
    validate_attack="fgsm", validate_threat="psnr:40", attacked=2, balance=0.75, patience=9, seed=3,
)  # fmt: skip


def test_a_killed_command_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all settings differ from their defaults, so an option that were lost would show too."""
    whole = Finetuner(RECIPE, tmp_path / "whole").run()
    words = shlex.split(command(RECIPE, inherited(codecs.build(CODEC).card)))
    assert "--lmbda" not in words and "--name" not in words  # they are the codec's own
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "training" / "bmshj2018-factorized.tiny-q1-at" / "checkpoint.pt"
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--device", "cpu"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first, deadline = None, time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:  # until a checkpoint after the first validation
        stamp = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else None
        if first is not None and stamp not in (None, first):
            break
        first = first or stamp
        time.sleep(0.01)
    assert process.poll() is None, "it should still be at work"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = checkpoint.with_name(whole.name)
    assert not made.exists()
    resumed = Finetuner(RECIPE, checkpoint.parent)
    assert 0 < resumed.step < RECIPE.steps
    result = CliRunner().invoke(cli.app, [*words[1:], "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert f"resuming at step {resumed.step}" in result.output and "validation, best at step" in result.output
    assert made.read_bytes() == whole.read_bytes()
    assert made.with_suffix(".toml").read_bytes() == whole.with_suffix(".toml").read_bytes()
    x = robustcodec.load(f"bmshj2018-factorized:weights={made}").card
    assert x.training["command"] == shlex.join(words)


def test_mistakes_are_one_line_and_help_shows_examples(tmp_path: Path) -> None:
    runner = CliRunner()
    text = runner.invoke(cli.app, ["finetune", "--help"]).output
    assert "--recipe at-chen-ma" in text and "--freeze decoder" in text
    for words, message in (
        ([CODEC, "--attack", "pdg"], "did you mean pgd"),
        ([CODEC, "--threat", "psnr:-3"], "db=-3"),
        ([CODEC, "--recipe", "at-mixx"], "no recipe 'at-mixx'"),
        (["jpeg:30", "--lmbda", "0.01"], "has nothing to train"),
        ([str(tmp_path / "mine.safetensors")], "no card for"),
    ):
        result = runner.invoke(cli.app, ["finetune", *words, "--data", "photos", "--out", str(tmp_path / "out")])
        assert result.exit_code != 0 and message in str(result.exception), result.exception


def test_the_adversarial_distortion_can_be_left_out(tmp_path: Path) -> None:
    options = [
        "rdae-gan.tiny-q1", "--gan", "none", "--rho", "0", "--gamma", "0", "--data", "clips:frames=2,size=40",
        "--crop", "32", "--frames", "2", "--batch", "1", "--steps", "1", "--attack", "fgsm",
        "--validate", "clips:frames=2,size=40",
        "--validate-attack", "fgsm", "--attacked", "1", "--name", "plain", "--out", str(tmp_path),
    ]  # fmt: skip
    result = CliRunner().invoke(cli.app, ["finetune", *options])
    assert result.exit_code == 0, result.output
    training = robustcodec.load(f"rdae-gan:weights={tmp_path / 'rdae-gan.plain.safetensors'}").card.training
    assert "gan" not in training and training["rho"] == 0
    assert "--rho 0.0 --gan none" in training["command"]
