"""What users call, and what type checkers make of what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pandas
import torch
from torch import Tensor

import robustcodec
from measured.plugins import Halves, Nothing, Shift, greys
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.interfaces import Attack, Codec, DataSet, Defense, Metric, Objective, Threat
from robustcodec.registry import attacks, codecs, data, defenses, metrics, objectives, threats


def use(folder: Path, picture: Tensor) -> list[str]:
    """Every public function, with names and with objects."""
    codec = assert_type(robustcodec.load("jpeg", defense="flip"), Codec)
    assert_type(robustcodec.load(Halves(), Nothing()), Codec)
    streams = assert_type(codec.compress(picture), list[bytes])
    assert_type(codec.decompress(streams), Tensor)
    assert_type(codec.forward(picture).bits, Tensor)

    run = robustcodec.run(
        codec=[Halves(), "jpeg"], attack=Shift(), threat=greys(3), data=picture, seed=[0, 1], out=folder
    )
    assert_type(run, robustcodec.Run)
    assert_type(robustcodec.run("grid.toml", metrics=["lpips"]).errors, dict[str, str])
    assert_type(robustcodec.run({"name": "small", "block": [{"codec": ["jpeg"]}]}, limit=1).folder, Path)
    assert_type(robustcodec.read(folder), robustcodec.Run)
    assert_type(run.frame, pandas.DataFrame)
    assert_type(run.leaderboard(), pandas.DataFrame)
    assert_type(run.attacks(), pandas.DataFrame)
    assert_type(robustcodec.leaderboard("leaderboards/photos-quick"), pandas.DataFrame)

    outcome = robustcodec.attack("photo.png", codec, Shift(), threat="36dB", out=folder, device="cpu")
    assert_type(outcome, robustcodec.Outcome)
    assert_type(outcome.scores["adv_psnr"], float)
    assert_type(outcome.attacked, Tensor | None)
    several = robustcodec.attack(picture, "jpeg", attack="noise")
    assert_type(several, robustcodec.Outcome | robustcodec.Outcomes)
    if isinstance(several, robustcodec.Outcomes):
        assert_type(several[0], robustcodec.Outcome)
        assert_type(several.frame, pandas.DataFrame)
    assert_type(robustcodec.__version__, str)
    return [one.sample for one in several] if isinstance(several, robustcodec.Outcomes) else [several.sample]


def build() -> None:
    """Names to plugins; decorators leave what they decorate as it is."""
    assert_type(codecs.build("jpeg"), Codec)
    assert_type(attacks.build("pgd:steps=3"), Attack)
    assert_type(defenses.build("flip+jpeg"), Defense)
    assert_type(objectives.build("rate"), Objective)
    assert_type(metrics.build("lpips"), Metric)
    assert_type(threats.build("linf:8"), Threat)
    assert_type(data.build("photos"), DataSet)
    assert_type(Halves(step=4), Halves)
    assert_type(Shift(steps=3).steps, int)
    try:
        robustcodec.load("no-such")
    except UserError as error:
        assert_type(error, UserError)
    except RobustCodecError:
        raise


def wrong() -> None:
    """What type checkers must refuse; where they do not, mypy names an ignore that is not needed."""
    robustcodec.load(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    robustcodec.run(codec=3.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    robustcodec.attack("a.png", "jpeg", stepz=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    robustcodec.lod("jpeg")  # type: ignore[attr-defined]  # pyright: ignore
    robustcodec.Path  # type: ignore[attr-defined]  # pyright: ignore  # noqa: B018
    Shift(stepz=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    torch.zeros(robustcodec.attack("a.png", "jpeg"))  # type: ignore[call-overload]  # pyright: ignore
