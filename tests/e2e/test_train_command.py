"""``robustcodec train`` is the trainer: the command that a card records makes the same bytes again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from robustcodec import cli
from robustcodec.training.codec import Trainer
from robustcodec.training.recipe import Recipe, command

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
