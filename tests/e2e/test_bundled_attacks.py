"""Attacks on a trained codec that ships: they beat noise by far, and more effort never does less damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustcodec import load, registry
from robustcodec.clips import centre_crop, to_float
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Draws
from robustcodec.oracle import Oracle
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

CODEC = "bmshj2018-hyperprior.tiny-q2"


@pytest.mark.parametrize("threat", ["psnr:40", "psnr:34"])
def test_gradients_beat_noise_at_the_same_input_psnr(threat: str, tmp_path: Path) -> None:
    attacks = ("noise", "fgsm", "pgd:steps=8", "chen-ma:steps=20")
    cells = [Cell(CODEC, attack, threat=threat, data="photos:size=128", limit=2) for attack in attacks]
    store = Store(tmp_path)
    tally = Runner(store).run(cells)
    assert not tally.errors
    rows = store.frame(cells)
    target = float(threat.split(":")[1])
    assert (rows["input_psnr"] >= target).all() and (rows["input_psnr"] < target + 1).all()  # clamping to the box
    vi = rows.groupby("attack")["vi_db"].mean()
    assert vi["noise"] < 2
    assert vi["fgsm"] > vi["noise"] + 3
    assert min(vi["pgd:steps=8"], vi["chen-ma:steps=20"]) > vi["noise"] + 6


def test_more_steps_and_restarts_never_do_less_damage(photo: Tensor) -> None:
    codec = load(CODEC).requires_grad_(False)
    x = to_float(centre_crop(photo, 96))[None]
    threat, objective = registry.threats.build("psnr:40"), registry.objectives.build("distortion")

    def damage(attack: str) -> float:
        oracle = Oracle(codec, objective, x, "white")
        x_adv = registry.attacks.build(attack).run(oracle, x, threat, Draws([3]))
        with torch.no_grad():
            return float(Oracle(codec, objective, x, "black")(threat.project(x_adv, x)))

    by_steps = [damage(f"pgd:steps={n}") for n in (2, 4, 8, 16)]
    by_restarts = [damage(f"pgd:steps=4,restarts={n}") for n in (1, 2, 4)]
    assert by_steps == sorted(by_steps) and by_steps[-1] > by_steps[0]
    assert by_restarts == sorted(by_restarts)


def test_effort_never_costs_damage_in_published_rows(tmp_path: Path) -> None:
    """Through the runner, 8-bit rounding and real bytes: every sample, by steps and by restarts."""
    efforts = ["pgd:steps=3", "pgd:steps=6", "pgd:steps=6,restarts=2", "pgd:steps=6,restarts=3"]
    cells = [Cell(CODEC, attack, threat="psnr:34", data="photos:size=96", limit=3) for attack in efforts]
    store = Store(tmp_path)
    assert not Runner(store).run(cells).errors
    damage = store.frame(cells).pivot(index="sample", columns="attack", values="mse_out")[efforts]
    steps = damage.diff(axis=1).iloc[:, 1:]
    assert (steps >= -1e-9).all(axis=None), damage
    assert (steps.iloc[:, 0] > 0).all()
