"""The runner: seeds, resume, containment of attacks that break every rule, and findings."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustcodec.errors import StreamError
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Attack, Card, Codec, DataSet, Draws, Metric, Output, Sample, StreamPart, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, data, metrics
from robustcodec.rounding import round_latent
from robustcodec.running.grid import Cell
from robustcodec.running.resolved import Part
from robustcodec.running.store import Result, Store

PIXELS = {"data": "photos:size=24", "limit": 2}


@codecs.register("test-scale")
class Scale(Codec):
    """A learned codec of one weight, whose decoder fails on bright clips if told to."""

    def __init__(self, *, fails_above: float = 2.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(32.0))
        self.fails_above = fails_above
        self.card = Card("test-scale", "test-scale")

    def forward(self, x: Tensor) -> Output:
        y = round_latent(x * self.weight)
        bits = torch.full((len(x),), 8.0 * (8 + x[0].numel()))
        return Output(lambda: (y / self.weight).clamp(0, 1), lambda: bits + 0 * y.flatten(1).sum(1))

    def compress(self, x: Tensor) -> list[bytes]:
        y = (x * self.weight).round().to(torch.uint8)
        return [bytes([0, 0, 0, 0, 0, 0, c.shape[-2], c.shape[-1]]) + c.numpy().tobytes() for c in y]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        out = []
        for s in streams:
            y = torch.frombuffer(bytearray(s[8:]), dtype=torch.uint8).view(-1, 3, s[6], s[7])
            x = y.float() / self.weight
            if float(x.mean()) > self.fails_above:
                raise StreamError("too bright")
            out.append(x)
        return torch.stack(out).detach()


@codecs.register("test-bare")
class Bare(Scale):
    """The same with a rounding that has no gradient: ``torch.round`` alone."""

    def forward(self, x: Tensor) -> Output:
        y = (x * self.weight).round()
        bits = torch.full((len(x),), 8.0 * (8 + x[0].numel()))
        return Output(lambda: (y / self.weight).clamp(0, 1), lambda: bits + 0 * y.flatten(1).sum(1))


def stolen_codec(oracle: Oracle) -> Scale:
    """What a determined attack digs out of its oracle."""
    codec = oracle._members[0]._codec
    assert isinstance(codec, Scale)
    return codec


@attacks.register("test-cheat")
@dataclass(frozen=True)
class Cheat(Attack):
    """Breaks the rule it is told to."""

    how: str = "nothing"

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        match self.how:
            case "nan":
                return x * float("nan")
            case "ball":
                return x + 1
            case "box":
                return x - 1e-2 - x * 1.0
            case "shape":
                return x[..., :-1]
            case "list":
                return [x]  # type: ignore[return-value]
            case "weights":
                with torch.no_grad():
                    stolen_codec(oracle).weight.add_(1)
            case "weights by data":
                stolen_codec(oracle).weight.data.mul_(0.5)
            case "weights and crash":
                stolen_codec(oracle).weight.data.mul_(0.5)
                raise RuntimeError("boom")
            case "train":
                stolen_codec(oracle).train().requires_grad_(True)
                torch.set_grad_enabled(False)
                torch.manual_seed(1)
            case "in place":
                x.zero_()
            case "crash":
                raise RuntimeError("boom")
        return x


@attacks.register("test-peek")
@dataclass(frozen=True)
class Peek(Attack):
    """Declares itself black-box and asks for a gradient."""

    access = "black"

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        with torch.enable_grad():
            return x + oracle.gradient(x)[1]


@codecs.register("test-motion")
class Motion(Scale):
    """The same with a stream that says what it is made of."""

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        frame = 3 * stream[6] * stream[7]
        frames = (len(stream) - 8) // frame
        return [StreamPart("header", 0, 0, 64), *(StreamPart("frame", t, 1, 8 * frame) for t in range(frames))]


@attacks.register("test-first-frame")
@dataclass(frozen=True)
class FirstFrame(Attack):
    """Darkens the first frame and leaves the others."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        darker = x.clone()
        darker[:, 0] -= 16 / 255
        return darker


@data.register("test-clips")
@dataclass(frozen=True)
class Clips(DataSet):
    """Two clips of ``frames`` frames; the first states its frame rate."""

    frames: int = 3

    def samples(self) -> list[Sample]:
        def sample(name: str, level: int, fps: float | None) -> Sample:
            clip = torch.arange(level, level + self.frames, dtype=torch.uint8).view(-1, 1, 1, 1)
            return Sample(name, lambda: clip.expand(self.frames, 3, 16, 8).contiguous(), fps=fps)

        return [sample("rated", 100, 12.5), sample("bare", 120, None)]


CLEAN_SCORED: list[bool] = []


@metrics.register("test_counted")
def counted() -> Metric:
    """A mean difference that notes each call on a clip whose frames are as the codec makes them without an attack."""

    def fn(reference: Tensor, test: Tensor) -> Tensor:
        if reference.shape[1] == 3:
            CLEAN_SCORED.append(bool((reference - test).abs().max() < 5 / 255))
        return (test - reference).flatten(1).mean(1)

    return Metric("test_counted", "", False, fn)


def run(cell: Cell, folder: Path, **options: int) -> Result:
    store = Store(folder)
    Runner(store, **options).run([cell])  # type: ignore[arg-type]
    result = store.result(cell.id)
    assert result is not None
    return result


def cheat(how: str) -> Cell:
    return Cell("test-scale", f"test-cheat:{how}", threat="psnr:34", **PIXELS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "returned values that are not finite: the clean clip was used: 2 of 2 samples"),
        ("ball", "left the threat set"),
        ("shape", "gave float32 (1, 1, 3, 24, 23); expected float32 (1, 1, 3, 24, 24)"),
        ("list", "gave a list of 1; expected float32 (1, 1, 3, 24, 24)"),
        ("weights", "changed the codec's weights"),
        ("weights by data", "changed the codec's weights"),
        ("weights and crash", "changed the codec's weights"),
        ("crash", "boom"),
    ],
)
def test_broken_rules_are_contained_and_told(how: str, message: str, tmp_path: Path) -> None:
    result = run(cheat(how), tmp_path, batch_size=2)
    told = "\n".join((*result.warnings, result.error or ""))
    assert message in told
    if result.status == "ok":
        assert all(row["input_psnr"] >= 34 for row in result.rows)
    if how == "nan":
        assert all(row["input_linf"] == 0 for row in result.rows)


def test_black_box_attacks_get_no_gradient(tmp_path: Path) -> None:
    result = run(Cell("test-scale", "test-peek", **PIXELS), tmp_path)  # type: ignore[arg-type]
    assert result.status == "error"
    assert result.error is not None and "does not require grad" in result.error


def test_state_is_restored_after_an_attack(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    runner = Runner(Store(tmp_path))
    for how in ("train", "in place"):
        assert not runner.run([cheat(how)]).errors
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    codec = runner.worker.codecs.get("test-scale", Part("defense", "none"))
    assert not codec.training and not any(p.requires_grad for p in codec.parameters())
    honest = run(cheat("nothing"), tmp_path / "honest")
    in_place = Store(tmp_path).result(cheat("in place").id)
    assert in_place is not None and [r["psnr"] for r in in_place.rows] == [r["psnr"] for r in honest.rows]


@pytest.mark.parametrize("how", ["weights", "weights by data", "weights and crash"])
def test_cells_after_a_changed_codec_meet_the_original(how: str, tmp_path: Path) -> None:
    Runner(Store(tmp_path)).run([cheat(how), cheat("nothing")])
    shared = Store(tmp_path).result(cheat("nothing").id)
    alone = run(cheat("nothing"), tmp_path / "alone")
    assert shared is not None and shared.rows == alone.rows


def test_memory_of_clean_results_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(Store(tmp_path))
    clean = runner.worker.evaluation._clean
    monkeypatch.setattr(clean, "_Cache__maxsize", 3 * 3 * 24 * 24)
    runner.run([Cell(codec, "noise", **PIXELS) for codec in ("test-scale", "jpeg:50", "jpeg:60")])  # type: ignore[arg-type]
    assert len(clean) == 3


def test_a_new_metric_scores_done_cells_again_from_the_stored_clips(plugins: None, tmp_path: Path) -> None:
    cell = Cell("test-scale", "pgd:steps=2", **PIXELS)  # type: ignore[arg-type]
    first, clips = run(cell, tmp_path), {p: p.stat().st_mtime_ns for p in tmp_path.glob("crafted/*/*")}
    runner = Runner(Store(tmp_path), metrics=["mean_difference"])
    assert not runner.done(cell)
    assert runner.run([cell]).ran == 1 and runner.done(cell)
    again = Store(tmp_path).result(cell.id)
    assert again is not None
    added = {"mean_difference", "adv_mean_difference"}
    assert all(added <= set(row) for row in again.rows)
    assert [{k: v for k, v in row.items() if k not in added} for row in again.rows] == list(first.rows)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("crafted/*/*")} == clips


def test_clips_keep_their_curves_and_images_do_not(tmp_path: Path) -> None:
    cell = Cell("test-motion", "test-first-frame", threat="linf:16/255", data="test-clips")
    result = run(cell, tmp_path)
    assert result.error is None and result.frames is not None and set(result.frames) == {"rated", "bare"}
    rated, bare = result.rows
    curves = result.frames["rated"]
    assert {k: len(v) for k, v in curves.items()} == dict.fromkeys(["psnr", "adv_psnr", "bits", "adv_bits"], 3)
    loss = [clean - adv for clean, adv in zip(curves["psnr"], curves["adv_psnr"], strict=True)]
    assert loss[0] > 3 and loss[1:] == [0, 0]  # this codec codes each frame alone
    assert (rated["drift_max"], rated["drift_last"], rated["recovery"]) == (loss[0], 0, 0)
    assert curves["bits"] == curves["adv_bits"] == [8.0 * 3 * 16 * 8] * 3
    bits = rated["bpp"] * 3 * 16 * 8
    assert sum(curves["bits"]) + 64 == bits
    assert rated["kbps"] == pytest.approx(bits / (3 / 12.5) / 1000) and bare["kbps"] is None
    assert rated["adv_kbps"] == rated["kbps"] and bare["adv_kbps"] is None
    image = Cell("test-motion", "test-first-frame", threat="linf:16/255", data="test-clips:frames=1")
    assert run(image, tmp_path).frames is None
    assert "frames" not in json.loads((tmp_path / "cells" / f"{image.id}.json").read_text())


def test_a_stream_of_unknown_anatomy_has_no_bits_per_frame(tmp_path: Path) -> None:
    cell = Cell("test-scale", "test-first-frame", data="test-clips", limit=1)
    frames = run(cell, tmp_path).frames
    assert frames is not None and frames["rated"]["bits"] == [None] * 3


def test_a_clip_that_does_not_decode_keeps_its_clean_curve(plugins: None, tmp_path: Path) -> None:
    cell = Cell("test-motion:fails_above=0.5", "brighten", threat="linf:40/255", data="test-clips", limit=1)
    result = run(cell, tmp_path)
    assert result.frames is not None and result.rows[0]["decode_failed"] == 1
    assert result.frames["rated"]["adv_psnr"] == result.frames["rated"]["adv_bits"] == [None] * 3
    assert None not in result.frames["rated"]["psnr"]


def test_clean_clips_are_scored_once_for_all_attacks(tmp_path: Path) -> None:
    cells = [Cell("test-scale", a, threat="psnr:20", data="test-clips") for a in ("noise", "test-first-frame")]
    runner = Runner(Store(tmp_path), metrics=["test_counted"])
    CLEAN_SCORED.clear()
    assert runner.run(cells).ran == 2
    assert (CLEAN_SCORED.count(True), CLEAN_SCORED.count(False)) == (2, 4)


def test_a_failing_cell_does_not_stop_a_grid_and_is_retried(tmp_path: Path) -> None:
    mistaken = Cell("test-scale", "noise", objective="frame:3", **PIXELS)  # type: ignore[arg-type]
    cells = [cheat("crash"), mistaken, cheat("nothing")]
    first = Runner(Store(tmp_path)).run(cells)
    assert (first.ran, first.failed, first.mistakes, first.skipped) == (1, 2, 1, 0)
    assert "boom" in next(iter(first.errors.values()))
    second = Runner(Store(tmp_path)).run(cells)
    assert (second.ran, second.failed, second.skipped) == (0, 2, 1)


def test_a_decoder_that_fails_under_attack_is_a_finding(plugins: None, tmp_path: Path) -> None:
    photo_means = [float(s.load().float().mean() / 255) for s in cheat("nothing").samples()]
    limit = max(photo_means) + 0.001
    cell = Cell(f"test-scale:fails_above={limit}", "brighten", threat="linf:40/255", **PIXELS)  # type: ignore[arg-type]
    result = run(cell, tmp_path)
    assert result.status == "ok", result.error
    brightest = photo_means.index(max(photo_means))
    row = result.rows[brightest]
    assert row["decode_failed"] == row["broken"] == 1 and row["adv_psnr"] is None
    assert row["break_db"] == row["input_psnr"]
    assert any("decode failed under attack (StreamError: too bright)" in w for w in result.warnings)


def test_numbers_do_not_depend_on_batch_order_or_company(tmp_path: Path) -> None:
    """A random start of one sample is the same alone, in a batch, and in another grid."""
    cell = Cell("test-scale", "noise", threat="psnr:34", data="photos:size=24")
    alone = run(cell, tmp_path / "a")
    batched = run(cell, tmp_path / "b", batch_size=4)
    fewer = run(Cell("test-scale", "noise", threat="psnr:34", data="photos:size=24", limit=3), tmp_path / "c")
    assert alone.rows == batched.rows
    assert fewer.rows == alone.rows[:3]
    other = run(Cell("test-scale", "noise", threat="psnr:34", data="photos:size=24", seed=1), tmp_path / "d")
    assert other.rows != alone.rows


def test_adversarial_clips_are_shared_by_cells_that_only_evaluate_them(tmp_path: Path) -> None:
    bare = Cell("test-scale", "noise", **PIXELS)  # type: ignore[arg-type]
    oblivious = Cell("test-scale", "noise", defense="self-ensemble", **PIXELS)  # type: ignore[arg-type]
    adaptive = Cell("test-scale", "noise", defense="self-ensemble", access="adaptive", **PIXELS)  # type: ignore[arg-type]
    transfer = Cell("jpeg:quality=50", "noise", access="transfer:test-scale", **PIXELS)  # type: ignore[arg-type]
    sample = bare.samples()[0]
    assert bare.craft_id(sample) == oblivious.craft_id(sample) == transfer.craft_id(sample)
    assert adaptive.craft_id(sample) != bare.craft_id(sample)
    runner = Runner(Store(tmp_path))
    runner.run([bare, oblivious, transfer])
    assert len(list(tmp_path.glob("crafted/*/*.safetensors"))) == 2 == runner.clips


def test_defenses_and_transfer_targets_cost_no_query(tmp_path: Path) -> None:
    """A grid of D oblivious defenses and T transfer targets asks the victim as often as the bare codec alone."""
    bare = Cell("test-scale", "pgd:steps=3", **PIXELS)  # type: ignore[arg-type]
    defended = [Cell("test-scale", "pgd:steps=3", defense=d, **PIXELS) for d in ("self-ensemble", "resize")]  # type: ignore[arg-type]
    targets = [Cell(f"jpeg:quality={q}", "pgd:steps=3", access="transfer:test-scale", **PIXELS) for q in (40, 50, 60)]  # type: ignore[arg-type]
    alone, grid = Runner(Store(tmp_path / "alone")), Runner(Store(tmp_path / "grid"))
    assert not alone.run([bare]).errors and not grid.run([bare, *defended, *targets]).errors
    assert alone.queries == grid.queries == 2 * (3 + 1)
    assert grid.run([bare, *defended, *targets]).ran == 0 and grid.queries == alone.queries


def test_a_codec_that_rounds_without_a_surrogate_is_flagged(tmp_path: Path) -> None:
    """Its gradient is zero: an attack that fails proves nothing."""
    cell = Cell("test-bare", "pgd:steps=3", objective="source-distortion", **PIXELS)  # type: ignore[arg-type]
    result = run(cell, tmp_path)
    assert any("zero gradient: the attack was blind: 2 of 2" in w for w in result.warnings), result.warnings
    honest = run(Cell("test-scale", "pgd:steps=3", objective="source-distortion", **PIXELS), tmp_path)  # type: ignore[arg-type]
    assert not any("zero gradient" in w for w in honest.warnings)


def test_a_white_box_attack_on_a_codec_without_gradient_says_what_to_do(tmp_path: Path) -> None:
    result = run(Cell("jpeg:quality=50", "pgd:steps=1", **PIXELS), tmp_path)  # type: ignore[arg-type]
    assert result.error is not None and "use access = transfer:CODEC" in result.error


def test_results_hold_no_times_and_are_byte_identical(tmp_path: Path) -> None:
    cell = Cell("test-scale", "pgd:steps=2", **PIXELS)  # type: ignore[arg-type]
    for name in "ab":
        run(cell, tmp_path / name)
    files = [(tmp_path / name / "cells" / f"{cell.id}.json").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    table = json.loads(files[0])
    assert table["provenance"]["python"] == sys.version.split()[0]
    samples = [[s.id, hashlib.sha256(s.source.read_bytes()).hexdigest()] for s in cell.samples() if s.source]
    assert table["identity"]["samples"] == samples and len(samples) == 2
