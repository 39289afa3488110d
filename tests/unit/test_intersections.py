"""Threats joined by plus signs: nearest points and steepest steps against a general solver, 8-bit points by search."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from robustcodec import registry
from robustcodec.errors import BadParameter, UnknownName
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Draws, Threat
from robustcodec.reporting.points import family
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.resolved import identity_of
from robustcodec.running.store import Store
from robustcodec.threats import L2, Intersection, Linf, Psnr
from robustcodec.threats._filling import filled
from robustcodec.threats.intersection import join

SHAPE = (2, 3, 2, 2)  # T, 3, H, W
JOINED = [
    "l2:0.5+linf:30",
    "linf:30+l2:0.5",
    "l2:0.35,per=frame+linf:40+l2:0.4",
    "l2:0.5,frames=first+linf:60",
    "l2:0.5+linf:60,frames=-1",
    "psnr:22+mse:4e-3,per=frame+linf:0.2",
    "linf:20+linf:0.3,frames=first",
    "l2:0.5,per=frame+l2:0.6",
]
FLICKERING = ["flicker:30+psnr:22", "psnr:22,per=frame+flicker:60,frames=first"]


def clip(seed: int = 0) -> Tensor:
    """8-bit, with values so near to black and white that the box binds."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (1, *SHAPE), generator=rng)
    x[..., 0] = torch.randint(0, 2, (1, *SHAPE[:3]), generator=rng) * 255
    return x / 255


def noise(seed: int, like: Tensor, size: float = 0.3) -> Tensor:
    return size * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed + 9))


def solved(name: str, start: Tensor, aim: Tensor, x: Tensor | None) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The perturbation nearest to ``aim``, in the box around ``x``; without one that of the largest product with
    ``aim``. By sequential quadratic programming, which knows the bounds from their names alone."""
    target, size = aim.flatten().double().numpy(), aim.numel()
    frames, values = SHAPE[0], size // SHAPE[0]
    low, high = np.full(size, -10.0), np.full(size, 10.0)
    if x is not None:
        low, high = -x.flatten().double().numpy(), 1 - x.flatten().double().numpy()
    constraints = []
    for spec in registry.threats.layers(name):
        params = registry.threats.resolve(spec)
        which = {"all": [0, 1], "first": [0], "-1": [1]}[str(params["frames"])]
        held = np.repeat([frame not in which for frame in range(frames)], values)
        low[held] = high[held] = 0
        if spec.name == "linf":
            eps = float(params["eps"] or 0)
            eps = eps / 255 if eps > 1 else eps
            low, high = np.maximum(low, -eps), np.minimum(high, eps)
            continue
        per = params["per"] == "frame"
        count = values if per else size
        square = {
            "l2": lambda p, n: p["eps"] ** 2,
            "mse": lambda p, n: p["mse"] * n,
            "psnr": lambda p, n: 10 ** (-p["db"] / 10) * n,
        }[spec.name](params, count)
        for part in [slice(i * values, (i + 1) * values) for i in range(frames)] if per else [slice(0, size)]:

            def slack(d: np.ndarray, part: slice = part, square: float = square) -> float:  # type: ignore[type-arg]
                return float(square - (d[part] ** 2).sum())

            constraints.append({"type": "ineq", "fun": slack})

    def cost(d: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(((d - target) ** 2).sum() if x is not None else -(d * target).sum())

    def slope(d: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return 2 * (d - target) if x is not None else -target

    solver: Any = minimize
    found = solver(
        cost, 0.9 * start.flatten().double().numpy(), jac=slope, method="SLSQP", constraints=constraints,
        bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return np.asarray(found.x)


@pytest.mark.parametrize("name", JOINED)
def test_projection_is_what_a_general_solver_finds(name: str) -> None:
    threat, x = registry.threats.build(name), clip()
    assert isinstance(threat, Intersection)
    for seed in range(2):
        aim = noise(seed, x)
        ours = threat.project(x + aim, x) - x
        theirs = solved(name, ours, aim, x)
        np.testing.assert_allclose(ours.flatten().numpy(), theirs, atol=2e-4)
        mine, other = (float((torch.as_tensor(d).view_as(aim) - aim).double().norm()) for d in (ours, theirs))
        assert mine <= other + 1e-5


@pytest.mark.parametrize("name", JOINED)
def test_the_steepest_step_is_what_a_general_solver_finds(name: str) -> None:
    threat, x = registry.threats.build(name), clip()
    grad = noise(3, x, 1.0)
    ours = threat.steepest(1e-6 * grad, x)
    theirs = solved(name, ours, grad, None)
    gain, other = float((ours * grad).sum()), float((theirs * grad.flatten().numpy()).sum())
    assert gain == pytest.approx(other, rel=1e-5)
    largest = ours.abs().max() if threat.norm == "linf" else ours.double().norm()
    assert float(largest) == pytest.approx(float(threat.radius(x)), rel=1e-5)


@pytest.mark.parametrize("name", [*JOINED, *FLICKERING])
def test_inside_all_of_them_to_the_bit_and_samples_stand_alone(name: str) -> None:
    threat = registry.threats.build(name)
    parts = [registry.threats.build(spec) for spec in registry.threats.layers(name)]
    x = torch.cat([clip(1), clip(2)])
    x_adv = x + noise(5, x)
    projected, start = threat.project(x_adv, x), threat.random_start(x, Draws([1, 2]))
    for inside in (projected, start):
        torch.testing.assert_close(threat.project(inside, x), inside, rtol=0, atol=1e-6)
        for part in parts:
            torch.testing.assert_close(part.project(inside, x), inside, rtol=0, atol=1e-5)
    q = threat.quantise(projected, x)
    assert torch.equal(q, (255 * q).round() / 255) and torch.equal(threat.quantise(q, x), q)
    assert all(torch.equal(part.quantise(q, x), q) for part in parts)
    assert not torch.equal(q, x) and torch.equal(threat.quantise(x, x), x) and torch.equal(threat.project(x, x), x)
    for batch_of in (threat.project, threat.quantise, threat.steepest):
        alone = torch.cat([batch_of(x_adv[i : i + 1], x[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(batch_of(x_adv, x), alone, rtol=1e-6, atol=1e-7)
    assert torch.equal(threat.steepest(torch.zeros_like(x), x), torch.zeros_like(x))


def test_8_bit_points_fill_the_budget() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(60, 196, (2, 1, 3, 64, 64), generator=rng) / 255
    x_adv = x + 0.1 * torch.randn(x.shape, generator=rng) ** 3
    threat = registry.threats.build("psnr:34+linf:12")
    levels = (255 * (threat.quantise(threat.project(x_adv, x), x) - x)).round()
    psnr = 10 * torch.log10(255**2 / levels.square().flatten(1).mean(1))
    assert (psnr >= 34).all() and (psnr <= 34.01).all() and float(levels.abs().max()) == 12
    tight = registry.threats.build("psnr:10+linf:3")  # the ball is beyond the corners of the box
    assert torch.equal((255 * (tight.quantise(x + 0.5, x) - x)).round(), torch.full_like(x, 3))
    assert float(tight.radius(x)[0]) == pytest.approx(3 / 255 * math.sqrt(x[0].numel()))


def test_rounding_is_the_largest_scale_that_fits() -> None:
    x = torch.full((1, 1, 3, 4, 4), 128 / 255)
    delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) * 4 / 255
    y = registry.threats.build(f"mse:{6 / 255**2}+linf:5").quantise(x + delta, x)
    candidates = [np.clip(np.round(s * 255 * delta.double().numpy()), -5, 5) for s in np.linspace(0, 1, 20_001)]
    np.testing.assert_array_equal((255 * y).round().numpy() - 128, [c for c in candidates if (c**2).mean() <= 6][-1])


def test_filling_is_exact_for_many_values_and_any_order() -> None:
    rng = torch.Generator().manual_seed(0)
    size, largest = torch.rand(3, 20_000, generator=rng) ** 6, torch.rand(3, 20_000, generator=rng) ** 2
    size[0, :100] = 0
    for radius in (1e-3, 1.0, 20.0, 60.0, 1e6):
        out = filled(size, largest, radius)
        assert (out <= largest).all()
        free = (out < largest) & (size > 0)
        scale = (out / size).where(free, torch.nan)
        assert (out.double().norm(dim=1) <= radius * (1 + 1e-6)).all()
        for row, low, r in zip(out, scale, scale, strict=True):
            if not low.isnan().all():  # one scale for all that no bound holds, and the radius is reached
                np.testing.assert_allclose(r[~r.isnan()].numpy(), float(r[~r.isnan()][0]), rtol=1e-5)
                assert float(row.double().norm()) == pytest.approx(radius, rel=1e-6)


def test_allowed_is_what_all_allow_and_a_whole_number_counts_levels() -> None:
    threat = registry.threats.build("psnr:40+linf:16")
    assert threat.allows(40.0, 16.0) and not threat.allows(39.9, 16.0) and not threat.allows(45.0, 17.0)
    assert Linf(16) == Linf(16 / 255) and identity_of("threat", "linf:16") == identity_of("threat", "linf:16/255")
    assert identity_of("threat", "flicker:8") == identity_of("threat", "flicker:8/255")
    assert identity_of("threat", "psnr:40+linf:16")["layers"][1] == identity_of("threat", "linf:16/255")
    assert Linf(1).eps == 1  # the whole range


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("psnr:40+linf:300", BadParameter, "whole number"),
        ("psnr:40+lniff:3", UnknownName, "did you mean linf"),
        ("psnr:40+", BadParameter, "cannot be read"),
    ],
)
def test_mistakes_name_the_threat(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        registry.threats.build(name)


def test_a_threat_without_bounds_is_not_joined() -> None:
    moon: Threat = object.__new__(type("Moon", (Threat,), dict.fromkeys(Threat.__abstractmethods__)))
    assert isinstance(join(("psnr", "l2"), (Psnr(40), L2(0.1))), Intersection)
    with pytest.raises(BadParameter, match="moon cannot be joined"):
        join(("psnr", "moon"), (Psnr(40), moon))


def test_grids_sweep_it_and_a_run_keeps_it(tmp_path: Path) -> None:
    block = {"codec": ["jpeg"], "attack": ["noise"], "threat": ["psnr:{40,34}+linf:{8,16}"]}
    threats = [c.threat for c in Grid.parse({"block": [block]}, "g", "here").cells()]
    assert sorted(threats) == [f"psnr:{d}+linf:{e}" for d, e in itertools.product((34, 40), ("16", "8"))]
    assert {family(t) for t in threats} == {"psnr+linf"} and family("psnr:40,frames=first") == "psnr,frames=first"
    cell = Cell("jpeg:quality=50", "noise", "source-distortion", "psnr:34+linf:5", data="photos:size=16", limit=1)
    store = Store(tmp_path)
    Runner(store).run([cell])
    result = store.result(cell.id)
    assert result is not None and result.error is None and "budget" not in "".join(result.warnings)
    assert result.rows[0]["input_linf"] == pytest.approx(5, abs=1e-3) and result.rows[0]["input_psnr"] < 34.6
