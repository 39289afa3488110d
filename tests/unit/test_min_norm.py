"""The smallest break: on a linear codec, where it is known, and of clips through real bytes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor

from robustcodec.attacks.min_norm import MinNorm
from robustcodec.errors import BadParameter
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Draws, Threat
from robustcodec.objectives.damage import Distortion
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store
from robustcodec.threats import Linf, Psnr

SHAPE = (1, 3, 8, 8)


def broken(threat: Threat, x: Tensor, attack: MinNorm, tau: float) -> tuple[Tensor, Tensor, Oracle]:
    oracle = Oracle(toys.Linear(toys.spectrum(SHAPE)), Distortion(tau=tau), x, "white")
    x_adv = attack.run(oracle, x, threat, Draws(range(len(x))))
    assert torch.equal(threat.quantise(x_adv, x), x_adv)  # 8-bit and allowed
    return x_adv, oracle(x_adv) / oracle.level(), oracle


def test_of_a_linear_codec_it_is_the_first_singular_vector() -> None:
    """Broken from an error of 0.001 times the clean one, so that it breaks within the box: |A d| = 2 |d| at best."""
    x, tau = toys.grey(SHAPE), 1.005
    x_adv, share, oracle = broken(Psnr(20), x, MinNorm(), tau)
    assert (share >= 1).all() and (share <= 1.2).all()
    smallest = (oracle.level() * math.prod(SHAPE)).sqrt() / 2
    length = (x_adv - x).flatten(1).norm(dim=1)
    assert (length >= smallest).all() and (length <= 1.08 * smallest).all()


def test_what_nothing_breaks_is_hurt_as_much_as_the_budget_allows() -> None:
    x = toys.grey(SHAPE)
    x_adv, share, _ = broken(Psnr(45), x, MinNorm(steps=30), 2.0)
    delta = (x_adv - x).flatten(1)
    assert (share < 1).all() and (delta.norm(dim=1) >= 0.95 * Psnr(45).radius(x)).all()
    assert ((delta @ toys.spectrum(SHAPE).T).norm(dim=1) > 1.9 * delta.norm(dim=1)).all()  # of at most 2


def test_under_linf_the_largest_change_is_small() -> None:
    x = toys.grey(SHAPE)
    x_adv, share, _ = broken(Linf(40), x, MinNorm(steps=60), 1.005)
    levels = (255 * (x_adv - x)).abs().flatten(1).amax(1)
    assert (share >= 1).all() and (levels < 20).all()
    again, same, _ = broken(Linf(int(levels.max()) - 1), x, MinNorm(steps=60), 1.005)
    assert (same < 1).any() and not torch.equal(again, x)  # one level less does not do


def test_samples_have_norms_of_their_own() -> None:
    x = toys.grey(SHAPE)
    x[1] = (255 * (0.9 * x[1] + 0.05)).round() / 255
    together = broken(Psnr(20), x, MinNorm(steps=20), 1.005)[0]
    first = broken(Psnr(20), x[:1], MinNorm(steps=20), 1.005)[0]
    torch.testing.assert_close((together[:1] - x[:1]).norm(), (first - x[:1]).norm(), rtol=0.02, atol=0)


def test_through_real_bytes_it_is_still_broken_and_nearer_than_the_budget(tmp_path: Path) -> None:
    axes = {"objective": "source-distortion", "threat": "psnr:26", "data": "photos:size=32", "limit": 2}
    cell = Cell("bmshj2018-factorized.tiny-q1", "min-norm:steps=20", **axes)  # type: ignore[arg-type]
    store = Store(tmp_path)
    Runner(store).run([cell])
    result = store.result(cell.id)
    assert result is not None and result.error is None
    for row in result.rows:
        assert row["broken"] == 1 and row["break_db"] > 28


def test_mistakes_are_said() -> None:
    for spec in ("min-norm:steps=0", "min-norm:margin=-1", "min-norm:step_size=0"):
        with pytest.raises(BadParameter, match="expected"):
            attacks.build(spec)
