"""``robustcodec train`` is the trainer: the command that a card records makes the same bytes again."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustcodec import cli
from robustcodec.training.codec import Trainer
from robustcodec.training.recipe import Recipe
from robustcodec.training.recipe_file import command

RECIPE = Recipe(
    codec="bmshj2018-hyperprior:weights=random",
    name="again",
    data=("photos:size=72", "photos:size=80"),
    lmbda=0.02,
    steps=4,
    batch=2,
    crop=64,
    lr=1e-3,
    aux_lr=2e-3,
    clip=0.5,
    ema=0.9,
    seed=3,
    precision="bfloat16",
    validate="photos:size=64",
)


def test_the_recorded_command_trains_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but metric and frames differ from their defaults, so an option that were lost would show."""
    path = Trainer(RECIPE, tmp_path / "direct").run()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*shlex.split(command(RECIPE)), "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    made = tmp_path / "training" / "bmshj2018-hyperprior.again" / path.name
    assert made.read_bytes() == path.read_bytes()
    assert made.with_suffix(".toml").read_bytes() == path.with_suffix(".toml").read_bytes()


def test_a_log_has_lines_and_ctrl_c_says_where_the_same_command_goes_on(tmp_path: Path) -> None:
    """Output to a pipe, as of a training in the background."""
    words = shlex.split(command(replace(RECIPE, steps=5000, validate_every=4)))
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--device", "cpu"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    form = r"step (\d+): loss \S+, \S+ bpp, distortion \S+, \S+ steps/s( \| bpp)?"
    found = [re.match(form, line) for line in lines]
    assert [line and line.groups() for line in found] == [("1", None), ("4", " | bpp"), ("8", " | bpp")]
    assert process.returncode == 130
    message = r"interrupted; the last checkpoint is of step (\d+), and the same command goes on from there"
    stated = re.search(message, " ".join(rest.split()))
    assert stated is not None
    folder = tmp_path / "training" / "bmshj2018-hyperprior.again"
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == int(stated[1]) >= 8
