"""The runner's numbers: of what they are, whose draws are in them, and on what they do not depend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import SIZES, Shown

from robustcodec.clips import to_float, to_uint8
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Attack, Card, Draws, Objective, Output, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, objectives
from robustcodec.rounding import round_latent
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Row, Store

REDUCED: list[tuple[bool, bool]] = []  # of each forward: under a gradient, in reduced precision


@codecs.register("test-coarse")
class Coarse(Shown):
    """Rounds to ``levels`` levels, and notes in what arithmetic it is asked."""

    def __init__(self, *, levels: int = 16) -> None:
        super().__init__()
        self.levels, self.card = levels, Card("test-coarse", "test-coarse")

    def forward(self, x: Tensor) -> Output:
        REDUCED.append((x.requires_grad, torch.is_autocast_enabled("cpu")))
        x_hat = round_latent(x * self.levels) / self.levels
        return Output(lambda: x_hat, lambda: torch.full((len(x),), 8.0 * (SIZES.size + 4 * x[0].numel())))


@codecs.register("test-dice")
class Dice(Coarse):
    """A random codec: its streams and its estimate are longer by as many bytes as it throws."""

    randomised = True

    def forward(self, x: Tensor) -> Output:
        out, thrown = super().forward(x), int(torch.randint(1000, ()))
        return Output(lambda: out.x_hat, lambda: out.bits + 8 * thrown)

    def compress(self, x: Tensor) -> list[bytes]:
        state = torch.get_rng_state()
        streams = super().compress(x)
        torch.set_rng_state(state)
        return [stream + bytes(int(torch.randint(1000, ()))) for stream in streams]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        shapes = [SIZES.unpack_from(s) for s in streams]
        return super().decompress(
            [s[: SIZES.size + 4 * torch.Size(shape).numel()] for s, shape in zip(streams, shapes, strict=True)]
        )


@codecs.register("test-ripple")
class Ripple(Coarse):
    """Adds a ripple so fine that its slope says nothing about the neighbourhood."""

    def forward(self, x: Tensor) -> Output:
        rippled, bits = x + 0.01 * torch.sin(x * 6e4), super().forward(x).bits
        return Output(lambda: rippled, lambda: bits)


SCORED: list[tuple[Tensor, Tensor, bytes, Tensor | None]] = []  # what an objective's own scores are made of


@objectives.register("test-scored")
@dataclass(frozen=True)
class Scored(Objective):
    """Notes what it is given for scores of its own, and has one."""

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return (attacked.x_hat - x).square().flatten(1).mean(1)

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        SCORED.append((x, x_adv, stream, x_adv_hat))
        return {"stream_bytes": len(stream)}


@attacks.register("test-global-draws")
@dataclass(frozen=True)
class GlobalDraws(Attack):
    """Noise from torch's global random state."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x + threat.steepest(torch.randn(x.shape), x)


@attacks.register("test-beyond")
@dataclass(frozen=True)
class Beyond(Attack):
    """Brightens by ``share`` of the budget."""

    share: float = 1.0

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x + self.share * threat.steepest(torch.ones_like(x), x)


def run(cell: Cell, folder: Path) -> Result:
    store = Store(folder)
    Runner(store).run([cell])
    result = store.result(cell.id)
    assert result is not None and result.error is None, result
    return result


def rows(codec: str, attack: str, folder: Path, *, seed: int = 0, precision: str = "float32") -> tuple[Row, ...]:
    return run(
        Cell(codec, attack, threat="psnr:30", data="photos:size=24", limit=2, seed=seed, precision=precision), folder
    ).rows


def test_numbers_do_not_depend_on_the_cells_before(tmp_path: Path) -> None:
    """Neighbours differ in a parameter of the codec, then of the defense, then in the size of samples of one name."""
    cells = [Cell("test-coarse", "noise", defense="bitdepth:bits=3", data="photos:size=16", limit=1)]
    for change in ({"codec": "test-coarse:levels=8"}, {"defense": "bitdepth:bits=5"}, {"data": "photos:size=24"}):
        cells.append(replace(cells[-1], **change))  # type: ignore[arg-type]
    store = Store(tmp_path / "together")
    assert Runner(store).run(cells).ran == len(cells)
    for i, cell in enumerate(cells):
        together = store.result(cell.id)
        assert together is not None and together.rows == run(cell, tmp_path / str(i)).rows


def test_draws_from_the_global_state_are_of_sample_and_seed(tmp_path: Path) -> None:
    one, other = (rows("test-coarse", "test-global-draws", tmp_path / "a", seed=seed) for seed in (0, 1))
    assert one == rows("test-coarse", "test-global-draws", tmp_path / "b") and one != other


def test_stream_and_estimate_of_a_random_codec_are_of_one_draw_that_no_attack_saw(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = rows("test-dice", "noise", tmp_path)
    for row in (first, second):
        assert row["bpp"] == row["bpp_est"] == row["adv_bpp"] == row["adv_bpp_est"]
    assert first["bpp"] != second["bpp"]
    other, _ = rows("test-dice", "noise", tmp_path, seed=1)
    assert other["bpp"] == first["bpp"]
    assert torch.equal(torch.rand(3), expected)  # and none of it is the caller's


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reduced_precision_is_of_gradients_alone(precision: str, tmp_path: Path) -> None:
    REDUCED.clear()
    rows("test-coarse", "pgd:steps=2", tmp_path, precision=precision)
    asked = {under_gradient: set[bool]() for under_gradient in (True, False)}
    for under_gradient, reduced in REDUCED:
        asked[under_gradient].add(reduced)
    assert True in asked[True] if precision == "bfloat16" else asked[True] == {False}
    assert asked[False] == {False}


@pytest.mark.parametrize("threat", ["linf:8/255", "psnr:40"])
@pytest.mark.parametrize(("share", "outside"), [(1.0005, False), (1.002, True)])
def test_a_budget_may_be_missed_by_a_thousandth(threat: str, share: float, outside: bool, tmp_path: Path) -> None:
    cell = Cell("test-coarse", f"test-beyond:share={share}", threat=threat, data="photos:size=24", limit=1)
    warnings = run(cell, tmp_path).warnings
    assert any("left the threat set" in warning for warning in warnings) == outside


def test_a_gradient_that_turns_at_random_is_told_of_the_first_sample(tmp_path: Path) -> None:
    result = run(Cell("test-ripple", "pgd:steps=2", threat="psnr:30", data="photos:size=24", limit=2), tmp_path)
    first = result.rows[0]["sample"]
    assert f"shattered gradient: it turns between neighbouring inputs: 1 of 2 samples ({first})" in result.warnings


def test_damage_is_of_what_was_decoded(tmp_path: Path) -> None:
    """Broken from ``level`` on, where ``break_db`` is the PSNR of the perturbation."""
    (row, _) = rows("test-coarse", "noise", tmp_path)
    assert row["damage"] == pytest.approx(row["mse_out"], rel=1e-5)
    level = 10 ** (-row["psnr"] / 10)
    assert row["broken"] == float(row["damage"] >= level)
    assert row["break_db"] == (row["input_psnr"] if row["broken"] else None)


def test_scores_of_an_objective_are_of_the_attacked_clip_and_its_bytes(tmp_path: Path) -> None:
    cell = Cell("test-coarse", "noise", objective="test-scored", data="photos:size=24", limit=1)
    SCORED.clear()
    row, store, codec = run(cell, tmp_path).rows[0], Store(tmp_path), codecs.build("test-coarse")
    ((x, x_adv, stream, x_adv_hat),) = SCORED
    (sample,) = cell.samples()
    crafted = store.clip(cell.craft_id(sample))
    assert crafted is not None and x_adv_hat is not None
    assert torch.equal(x, to_float(sample.load())[None]) and torch.equal(x_adv, to_float(crafted[0])[None])
    assert stream == codec.compress(x_adv)[0] != codec.compress(x)[0] and row["stream_bytes"] == len(stream)
    assert torch.equal(x_adv_hat, to_float(to_uint8(codec.decompress([stream]))))


def test_pictures_are_of_what_was_coded_and_as_many_as_fit(tmp_path: Path) -> None:
    """8 MiB in a cell, and the first sample in any case."""
    cell = Cell("test-coarse", "noise", threat="psnr:30", data="photos:size=512", limit=4)
    run(cell, tmp_path)
    store, codec = Store(tmp_path), codecs.build("test-coarse")
    decoded = store.decoded(cell.id)
    assert list(decoded) == [sample.id for sample in cell.samples()[:3]]
    for sample in cell.samples()[:3]:
        crafted = store.clip(cell.craft_id(sample))
        assert crafted is not None
        inputs = {"original": sample.load(), "adversarial": crafted[0]}
        clean, attacked = (to_uint8(codec(to_float(clip)[None]).x_hat)[0] for clip in inputs.values())
        expected = inputs | {"clean": clean, "attacked": attacked}
        assert decoded[sample.id].keys() == expected.keys()
        assert all(torch.equal(decoded[sample.id][name], clip) for name, clip in expected.items())
