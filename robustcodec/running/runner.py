"""Crafts and evaluates cells. It trusts nobody: it projects, rounds, seeds, counts, freezes and restores.

Craft: an attack meets the victim through an oracle, sample batch by sample batch; what it returns is checked,
projected onto the threat, rounded to 8 bits inside it, and stored. Evaluate: real streams of the clean and the
attacked clip are written and decoded from their bytes alone, and scored. A failing cell never stops a grid.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import sample_seed, to_float, to_uint8
from robustcodec.errors import AttackError, RobustCodecError, StoreError, UserError
from robustcodec.interfaces import (
    Attack,
    Codec,
    Draws,
    Metric,
    Objective,
    Oracle,
    Output,
    Precision,
    Sample,
    Threat,
)
from robustcodec.running import findings as checks
from robustcodec.running.grid import Cell
from robustcodec.running.guided import Guided
from robustcodec.running.provenance import provenance
from robustcodec.running.store import Curves, Result, Row, Store
from robustcodec.scores import robustness, temporal

METRICS = ("psnr", "ms_ssim")  # of every run
EVALUATION = -1  # seeds the draws of random codecs when they are evaluated; crafting has seeds of 0 or more
PICTURED = 2**23  # bytes of decoded clips kept per cell for pictures; those of the first sample in any case
OUTSIDE = 1e-3  # an attack may miss the threat set by this share of its radius (float noise) without a warning


class Watcher(Protocol):
    """What a display learns of a run."""

    def cell_started(self, cell: Cell) -> None: ...
    def sample_done(self, cell: Cell, done: int, total: int) -> None: ...
    def queried(self, damage: float) -> None: ...
    def cell_finished(self, result: Result, seconds: float) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def cell_started(self, cell: Cell) -> None: ...
    def sample_done(self, cell: Cell, done: int, total: int) -> None: ...
    def queried(self, damage: float) -> None: ...
    def cell_finished(self, result: Result, seconds: float) -> None: ...


@dataclass
class Tally:
    """How a run went, in cells."""

    ran: int = 0
    skipped: int = 0
    failed: int = 0
    mistakes: int = 0  # of those that failed: by what was typed or given, not by what ran
    errors: dict[str, str] = field(default_factory=dict)  # cell, as text → last line of its error


@dataclass(frozen=True)
class Coded:
    """A clip's way through real bytes. ``x_hat``: uint8 ``(T, 3, H, W)``, None if the decoder failed;
    ``frame_bits``: of each frame, NaN where not known.
    """

    stream: bytes
    x_hat: Tensor | None
    bits: float
    bits_est: float
    frame_bits: list[float]
    failure: str | None = None


@dataclass(frozen=True)
class Clean:
    """A sample without an attack; all of its attacks are compared with it."""

    coded: Coded
    x_hat: Tensor  # of coded: it did decode
    scores: dict[str, float]


class Runner:
    """Runs cells into a store. ``batch_size``: samples of one shape crafted together on a GPU, where no number depends
    on it beyond float noise; on a CPU samples are crafted one by one, and no bit does. ``metrics``: scores beside PSNR
    and MS-SSIM, such as ``lpips:net=squeeze``; cells that were done without them are scored again, from the clips
    already crafted.

    Raises :class:`MissingDependency` for a metric that cannot be computed here.
    """

    def __init__(self, store: Store, device: str = "cpu", batch_size: int = 1, metrics: Sequence[str] = ()) -> None:
        self.store, self.device, self.batch_size = store, torch.device(device), batch_size
        built: list[Metric] = [registry.metrics.build(name) for name in dict.fromkeys((*METRICS, *metrics))]
        self.metrics = {metric.name: metric for metric in built}
        probe = torch.full((1, 1, 3, 64, 64), 0.5, device=self.device)
        for metric in built:  # a metric that cannot be computed here says so now, not after an hour of crafting
            metric.fn(probe, probe)
        self._codecs: dict[tuple[str, str], Codec] = {}
        self.crafted, self.queries = 0, 0  # clips made by this runner, and what they took; what is shared counts once
        self._clean: dict[str, Clean] = {}  # by sample, of the codec and defense in hand
        self._clean_of: tuple[str, str, str] | None = None

    def run(self, cells: Iterable[Cell], watcher: Watcher | None = None) -> Tally:
        """Run what is missing; failures are kept with their traceback and tried again by the next run.

        Raises :class:`UserError` before anything runs if a cell cannot be identified (a name, weights, data).
        """
        watcher, tally, cells = watcher or Silent(), Tally(), list(cells)
        done = [self.done(cell) for cell in cells]
        for cell, skip in zip(cells, done, strict=True):
            if skip:
                tally.skipped += 1
                continue
            watcher.cell_started(cell)
            started = time.perf_counter()
            try:
                result = self._evaluate(cell, self._craft(cell, watcher))
            except StoreError:  # the disk, not the cell
                raise
            except RobustCodecError as error:
                result = self._failure(cell, str(error))
                tally.mistakes += isinstance(error, UserError)
            except Exception:  # attacks, codecs and defenses are anyone's code: one bad cell must not cost the others
                result = self._failure(cell, traceback.format_exc())
            self.store.put(result)
            seconds = time.perf_counter() - started
            self.store.log(
                {"cell": result.id, "what": str(cell), "status": result.status, "seconds": round(seconds, 2)}
            )
            if result.error is not None:
                tally.failed += 1
                tally.errors[str(cell)] = result.error.strip().splitlines()[-1]
            else:
                tally.ran += 1
            watcher.cell_finished(result, seconds)
        return tally

    def done(self, cell: Cell) -> bool:
        """True if the store holds this cell with every score of this runner."""
        return self.store.done(cell.id, self.metrics)

    def _failure(self, cell: Cell, error: str) -> Result:
        return Result(cell.id, cell, "error", provenance=provenance(self.device), error=error)

    def codec(self, codec: str, defense: str) -> Codec:
        """A defended codec, frozen, in eval mode, on the device; the last few are kept."""
        key = codec, defense
        if key not in self._codecs:
            while len(self._codecs) >= 4:
                self._codecs.pop(next(iter(self._codecs)))
            built: Codec = registry.defenses.build(defense).wrap(registry.codecs.build(codec))
            self._codecs[key] = built.to(self.device).eval().requires_grad_(False)
        return self._codecs[key]

    # -- craft ----------------------------------------------------------------------------------------------------

    def _craft(self, cell: Cell, watcher: Watcher) -> list[tuple[Sample, Tensor, dict[str, Any]]]:
        """Every sample with its adversarial uint8 clip and how it was reached, from the store or made now."""
        samples = cell.samples()
        ids = {s.id: cell.craft_id(s) for s in samples}
        missing = [s for s in samples if self.store.clip(ids[s.id]) is None]
        done = len(samples) - len(missing)
        memory: dict[str, Any] = {}  # what the attack makes once, for all of this cell's samples
        random = self.device.type == "cpu" or (bool(missing) and self._victim(cell).randomised)
        for batch in _batches(missing, 1 if random else self.batch_size):  # random states are of single samples
            clips, infos = self._attack(cell, batch, watcher, memory, probe=batch[0] is missing[0])
            for sample, clip, info in zip(batch, clips, infos, strict=True):
                self.store.put_clip(ids[sample.id], clip, info)
            done += len(batch)
            watcher.sample_done(cell, done, len(samples))
        out = []
        for sample in samples:
            stored = self.store.clip(ids[sample.id])
            assert stored is not None, "written above"
            out.append((sample, *stored))
        return out

    def _victim(self, cell: Cell) -> Codec:
        """What the cell's attack is crafted on."""
        on = cell.victim
        codec = self.codec(on.codec, on.defense)
        return codec if on.guide is None else Guided(codec, self.codec(on.guide, "none")).to(self.device).eval()

    def _attack(
        self, cell: Cell, batch: list[Sample], watcher: Watcher, memory: dict[str, Any], probe: bool
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Adversarial clips and how they were reached; ``probe``: look into the health of the gradient too."""
        attack: Attack = registry.attacks.build(cell.attack)
        objective: Objective = registry.objectives.build(cell.objective)
        threat: Threat = registry.threats.build(cell.threat)
        victim = self._victim(cell)
        if attack.access == "white" and not victim.differentiable:
            raise AttackError(
                f"{victim.card.name} gives no gradient and {cell.attack} needs one; "
                "use access = transfer:CODEC with a learned codec, bpda:CODEC with a surrogate of it (diff-jpeg), "
                "or a black-box attack"
            )
        x = to_float(torch.stack([s.load() for s in batch])).to(self.device)
        seeds = [sample_seed(s, cell.seed) for s in batch]

        ask = partial(
            Oracle,
            victim,
            objective,
            x,
            attack.access,
            draws=cell.victim.draws,
            precision=cast(Precision, cell.precision),
        )

        def changed() -> None:
            self._codecs.clear()  # built again from the file by whoever needs it next
            raise AttackError(f"{cell.attack} changed the codec's weights; its result is not used")

        with _contained(victim, changed):
            torch.manual_seed(seeds[0])  # for whoever draws from the global state
            oracle = ask(lambda damage: watcher.queried(float(damage.mean())), memory)
            returned = attack.run(oracle, x.clone(), threat, Draws(seeds))
        suspicions: list[list[str]] = [[] for _ in batch]
        if probe and attack.access == "white":
            with torch.random.fork_rng(devices=[]):
                suspicions = checks.gradient_health(ask(), x, threat, Draws(seeds))
        x_adv, findings = _checked(cell.attack, returned, x, threat)
        if attack.access == "white" and victim.randomised and cell.victim.draws == 1:
            findings = [[*found, "randomised defense attacked without expectation"] for found in findings]
        x_adv = threat.quantise(threat.project(x_adv, x), x)
        budget = checks.budget_used(x_adv, x, threat)
        infos = [
            {"queries": oracle.queries, "blind": blind, "budget": round(used, 4), "findings": [*found, *noted, *unwell]}
            for blind, used, found, noted, unwell in zip(
                oracle.blind, budget, findings, oracle.remarks, suspicions, strict=True
            )
        ]
        self.crafted += len(batch)
        self.queries += oracle.queries * len(batch)
        return to_uint8(x_adv).cpu(), infos

    # -- evaluate -------------------------------------------------------------------------------------------------

    def _evaluate(self, cell: Cell, crafted: list[tuple[Sample, Tensor, dict[str, Any]]]) -> Result:
        codec = self.codec(cell.codec, cell.defense)
        if self._clean_of != (cell.codec, cell.defense, cell.data):  # cells come sorted: the last is the one to keep
            self._clean, self._clean_of = {}, (cell.codec, cell.defense, cell.data)
        objective: Objective = registry.objectives.build(cell.objective).bind(codec)
        rows: list[Row] = []
        frames: dict[str, Curves] = {}
        findings: list[checks.Finding] = []
        pictured: dict[str, dict[str, Tensor]] = {}
        size = 0
        for sample, adversarial, info in crafted:
            original = sample.load()
            if sample.id not in self._clean:
                self._clean[sample.id] = self._measure(codec, sample, original)
            clean, attacked = self._clean[sample.id], self.code(codec, adversarial, sample)
            x, x_hat = to_float(original)[None], to_float(clean.x_hat)[None]
            x_adv_hat = None if attacked.x_hat is None else to_float(attacked.x_hat)[None]
            scores = robustness.sample_scores(
                x,
                x_hat,
                to_float(adversarial)[None],
                x_adv_hat,
                clean.coded.bits,
                attacked.bits,
                clean.coded.bits_est,
                attacked.bits_est,
                self.metrics,
                sample.fps,
                clean.scores,
            )
            scores |= self._harm(objective, codec, original, adversarial, clean.coded, attacked, scores["input_psnr"])
            pixels = original[:, 0].numel()
            rows.append({"sample": sample.id, **scores, "queries": info["queries"]})
            if len(original) > 1:
                frames[sample.id] = {
                    "psnr": _psnr(x, x_hat),
                    "adv_psnr": _psnr(x, x_adv_hat),
                    "bits": clean.coded.frame_bits,
                    "adv_bits": attacked.frame_bits,
                }
            findings += checks.sample_findings(sample.id, scores, pixels, info, attacked.failure)
            shown = {"original": original, "adversarial": adversarial, "clean": clean.x_hat}
            if attacked.x_hat is not None:
                shown["attacked"] = attacked.x_hat
            size += sum(clip.numel() for clip in shown.values())
            if not pictured or size <= PICTURED:
                pictured[sample.id] = shown
        self.store.put_decoded(cell.id, pictured)
        warnings = checks.summarise(findings, len(rows))
        made = provenance(self.device)
        return Result(cell.id, cell, "ok", tuple(rows), warnings, made, identity=cell.identity(), frames=frames)

    def _measure(self, codec: Codec, sample: Sample, original: Tensor) -> Clean:
        coded = self.code(codec, original, sample)
        if coded.x_hat is None:
            raise RobustCodecError(f"{codec.card.name} cannot decode its own stream of {sample.id}: {coded.failure}")
        x, x_hat = to_float(original)[None], to_float(coded.x_hat)[None]
        scores = robustness.clean_scores(x, x_hat, coded.bits, coded.bits_est, self.metrics, sample.fps)
        return Clean(coded, coded.x_hat, scores)

    @torch.no_grad()
    def _harm(
        self,
        objective: Objective,
        codec: Codec,
        original: Tensor,
        adversarial: Tensor,
        clean: Coded,
        attacked: Coded,
        input_psnr: float,
    ) -> dict[str, float]:
        """What the attack was after, of real bytes: ``damage``, whether it reached the level at which the codec counts
        as ``broken``, at which input PSNR (``break_db``), and the objective's own scores.
        """

        def output(clip: Tensor, coded: Coded) -> Output:
            x_hat, bits = coded.x_hat, torch.tensor([coded.bits], device=self.device)
            assert x_hat is not None, "decoded"
            return Output(lambda: self._on(x_hat), lambda: bits, lambda: codec(self._on(clip)).latents)

        x, x_adv, failed = self._on(original), self._on(adversarial), attacked.x_hat is None
        before = output(original, clean)
        level = float(objective.level(x, before))
        damage = robustness.NAN if failed else float(objective(x, before, output(adversarial, attacked), x_adv))
        x_adv_hat = None if attacked.x_hat is None else self._on(attacked.x_hat)
        return {
            **robustness.break_scores(damage, level, input_psnr, failed),
            **objective.scores(x, x_adv, attacked.stream, x_adv_hat),
        }

    def _on(self, clip: Tensor) -> Tensor:
        """A uint8 clip as the float batch of one on the device."""
        return to_float(clip)[None].to(self.device)

    @torch.no_grad()
    def code(self, codec: Codec, clip: Tensor, sample: Sample) -> Coded:
        """Real bytes and back. A random codec meets all versions of a sample with one draw, which no attack saw."""
        x, seed = self._on(clip), sample_seed(sample, EVALUATION)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            (stream,) = codec.compress(x)
            torch.manual_seed(seed)
            bits, estimate = 8.0 * len(stream), float(codec(x).bits)
        try:
            x_hat = to_uint8(codec.decompress([stream]))[0].cpu()
        except Exception as error:  # a decoder that fails on an attacked input is a finding, whatever it raises
            unknown = [robustness.NAN] * len(clip)
            return Coded(stream, None, bits, estimate, unknown, f"{type(error).__name__}: {error}")
        parts = codec.anatomy(stream) if len(clip) > 1 else ()
        return Coded(stream, x_hat, bits, estimate, temporal.bits_per_frame(parts, len(clip)).tolist())


def _psnr(x: Tensor, x_hat: Tensor | None) -> list[float]:
    """Of each frame of a single clip; NaN without a reconstruction."""
    return [robustness.NAN] * x.shape[1] if x_hat is None else temporal.psnr(x, x_hat)[0].tolist()


def _batches(samples: list[Sample], size: int) -> Iterator[list[Sample]]:
    """Runs of at most ``size`` neighbours of one shape."""
    batch: list[Sample] = []
    shape: torch.Size | None = None
    for sample in samples:
        if size > 1 and batch and (len(batch) == size or sample.load().shape != shape):
            yield batch
            batch = []
        if size == 1:
            yield [sample]
            continue
        if not batch:
            shape = sample.load().shape
        batch.append(sample)
    if batch:
        yield batch


@contextmanager
def _contained(codec: Codec, on_change: Callable[[], None]) -> Iterator[None]:
    """What an attack does to random state, gradient mode or the codec's modes is undone. ``on_change`` is called if
    any tensor of the codec has other values than before, even if the attack then raised. Values are compared, not
    version counters: writing through ``.data`` or numpy leaves those as they were.
    """
    grad = torch.is_grad_enabled()
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            codec.eval().requires_grad_(False)
            after = codec.state_dict()
            if after.keys() != before.keys() or not all(torch.equal(after[k], before[k]) for k in before):
                on_change()


def _checked(name: str, returned: Any, x: Tensor, threat: Threat) -> tuple[Tensor, list[list[str]]]:
    """What an attack returned, made harmless, and per sample what was wrong with it."""
    if not isinstance(returned, Tensor):
        raise AttackError(f"{name} returned {type(returned).__name__}; expected a tensor like its input")
    if returned.shape != x.shape:
        raise AttackError(f"{name} returned shape {tuple(returned.shape)}; expected {tuple(x.shape)} like its input")
    x_adv = returned.detach().to(x.device, x.dtype)
    findings: list[list[str]] = [[] for _ in range(len(x))]
    radius = threat.radius(x).double()
    for i in range(len(x)):
        if not torch.isfinite(x_adv[i]).all():
            findings[i].append("returned values that are not finite: the clean clip was used")
            x_adv = torch.cat([x_adv[:i], x[i : i + 1], x_adv[i + 1 :]])
            continue
        delta = (x_adv[i] - x[i]).flatten().double()
        size = delta.abs().max() if threat.norm == "linf" else delta.norm()
        if size > radius[i] * (1 + OUTSIDE):
            findings[i].append(f"left the threat set ({float(size / radius[i]):.3g} of the budget): projected back")
        elif x_adv[i].min() < -OUTSIDE or x_adv[i].max() > 1 + OUTSIDE:
            findings[i].append("left the [0, 1] box: clamped")
    return x_adv, findings
