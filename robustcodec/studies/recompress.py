"""Recompression: a clip that is coded, decoded and rounded to 8 bits again and again, as what is passed on often is.

As in Chen & Ma, TCSVT 2023 (https://arxiv.org/abs/2112.08691), from the clean and from an attacked first input, and
with something done in between if wanted: ``shift:DX,DY`` (the picture moves against the codec's grid) or another
codec (a change of format). A shift is circular: no pixel is lost, and it is undone exactly before anything is scored;
where the edges meet it makes one that the codec has to pay for.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from robustcodec.clips import as_batch, checksum, sample_seed
from robustcodec.coding import EVALUATION, code, judged
from robustcodec.errors import BadData, BadParameter, StoreError, UserError
from robustcodec.execution.runner import Runner
from robustcodec.execution.watching import Watcher
from robustcodec.files import remove_leftovers, write_whole
from robustcodec.interfaces import Codec, Metric, Sample
from robustcodec.running.grid import Cell
from robustcodec.running.resolved import Part, identity_of
from robustcodec.scores import rate
from robustcodec.scores.metrics import decibels, of_every_run, squared_error
from robustcodec.scores.robustness import NAN
from robustcodec.sealed import seal_json
from robustcodec.studies.compare import Failure, digest, read_point

VERSION = 1  # raise it whenever the same chain would give other numbers than before
GENERATIONS = 10


@dataclass(frozen=True)
class Generation:
    """One coding. ``x_hat``: uint8 ``(T, 3, H, W)`` of the decoded bytes, where the source is, None if the decoder
    failed; ``scores`` of it against the source by metric; ``previous_psnr`` in dB between it and the generation before
    (of the first: its input), 100 where nothing changed any more; ``failure``: why there is no ``x_hat``.
    """

    bytes: int
    bpp: float
    x_hat: Tensor | None
    scores: dict[str, float]
    previous_psnr: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Between:
    """What happens to a decoded clip before it is coded again: it moves right and down, or is coded by ``codec``."""

    dx: int = 0
    dy: int = 0
    name: str | None = None
    codec: Codec | None = None

    @classmethod
    def parse(cls, text: str, device: str = "cpu") -> Between:
        """``none``, ``shift:DX,DY`` in pixels, or a codec; raises :class:`UserError` for anything else."""
        if text == "none":
            return cls()
        if text.partition(":")[0] == "shift":
            match = re.fullmatch(r"shift:([+-]?\d+),([+-]?\d+)", text)
            if not match:
                raise BadParameter(f"between {text!r}; expected shift:DX,DY in whole pixels, such as shift:3,5")
            return cls(int(match[1]), int(match[2]))
        return cls(name=text, codec=judged(text, device=device))

    def identity(self) -> list[Any]:
        """What can change a number."""
        return [self.dx, self.dy, self.name and identity_of("codec", self.name)]

    def apply(self, clip: Tensor, device: str) -> Tensor:
        """What is coded next, uint8 like ``clip``."""
        moved = self.shifted(clip, 1)
        if self.codec is None:
            return moved
        return code(self.codec, moved, device).decoded()

    def shifted(self, clip: Tensor, times: int) -> Tensor:
        """``clip`` moved so many times; negative: moved back."""
        return clip.roll((times * self.dy, times * self.dx), (-2, -1))


@torch.no_grad()
def recompress(
    codec: Codec,
    clip: Tensor,
    generations: int = GENERATIONS,
    between: str | Between = "none",
    source: Tensor | None = None,
    metrics: Sequence[Metric] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[Generation]:
    """Code a uint8 clip ``(T, 3, H, W)``, decode it, round it to 8 bits, and all that again with what came of it.

    ``between``: as :meth:`Between.parse` reads it; its bytes count for nothing. ``source``: what is scored against, if
    ``clip`` is an attacked version of it. ``metrics``: PSNR and MS-SSIM if not given. Generation g of a codec that
    draws random numbers draws after ``torch.manual_seed(seed + g - 1)``. The list ends early where a decoder failed.

    Raises :class:`BadParameter` for ``generations`` or ``between``, :class:`BadData` for other clips; what the codec
    raises in coding passes.
    """
    source = clip if source is None else source
    for given in (clip, source):
        if given.dtype != torch.uint8 or given.ndim != 4 or given.shape[1] != 3 or given.shape != clip.shape:
            raise BadData(
                f"a clip of {given.dtype} and shape {tuple(given.shape)} was given; expected uint8 (T, 3, H, W), the "
                "source of the shape of the clip"
            )
    if generations < 1:
        raise BadParameter(f"{generations} generations; expected at least 1")
    step = Between.parse(between, device) if isinstance(between, str) else between
    metrics = of_every_run((), device) if metrics is None else metrics
    x, previous, now = as_batch(source, device), clip, clip
    chain: list[Generation] = []
    for number in range(generations):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            if number:
                now = step.apply(now, device)
            coded = code(codec, now, device)
        size, bpp = len(coded.stream), rate.bpp(coded.bits, clip.shape)
        if coded.x_hat is None:
            unknown = {metric.name: NAN for metric in metrics}
            return [*chain, Generation(size, bpp, None, unknown, NAN, coded.reason)]
        now = coded.x_hat
        x_hat = step.shifted(now, -number)
        scores = {metric.name: metric.fn(x, as_batch(x_hat, device)).item() for metric in metrics}
        chain.append(Generation(size, bpp, x_hat, scores, _psnr(previous, x_hat)))
        previous = x_hat
    return chain


@dataclass(frozen=True)
class Line:
    """What is coded again and again, and from which input: the clean one, or that of the attack of ``cell``."""

    codec: str
    defense: str = "none"
    cell: Cell | None = None

    @property
    def first(self) -> str:
        """The first input in words."""
        at = self.cell
        return "clean" if at is None else f"{at.attack}, {at.objective} @ {at.threat}, {at.access}"

    def __str__(self) -> str:
        return words(self.codec, self.defense, self.first)


def words(codec: str, defense: str, first: str) -> str:
    """What a :class:`Line` is called."""
    return f"{codec}{'' if defense == 'none' else f' + {defense}'}, {first}"


def lines(codecs: Iterable[str], defenses: Iterable[str], cells: Sequence[Cell] = ()) -> list[Line]:
    """Every codec with every defense, clean and then as attacked by those of ``cells`` that are about it."""
    pairs = itertools.product(dict.fromkeys(codecs), dict.fromkeys(defenses))
    return [Line(*pair, cell) for pair in pairs for cell in (None, *(c for c in cells if (c.codec, c.defense) == pair))]


def study(
    lines: Sequence[Line],
    between: Sequence[str],
    samples: Sequence[Sample],
    generations: int,
    metrics: Sequence[Metric],
    folder: Path,
    runner: Runner,
    watch: Callable[[str], None] = lambda note: None,
    watcher: Watcher | None = None,
) -> tuple[pd.DataFrame, list[Failure]]:
    """Recompress ``samples`` along every line: one row per line, ``between``, sample and generation, and what failed.

    Attacked inputs are those of the cells in the runner's store, made now if they are not there; cells must be of these
    samples. Each chain is kept in ``folder/points`` as soon as it is known, and is not coded again while codec,
    weights, defense and pixels are the same. ``watch`` is called before each chain, ``watcher`` follows the crafting.
    Columns: ``codec``, ``defense``, ``first``, ``between``, ``sample``, ``generation`` from 1, ``bytes``, ``bpp``, the
    metrics, ``previous_psnr``, ``input_psnr`` of the first input against the source.

    Raises :class:`UserError` before anything is coded if a name is not known or weights are not there.
    """
    device = str(runner.device)
    steps = {text: Between.parse(text, device) for text in between}
    identities = {
        (codec, defense): [identity_of("codec", codec), identity_of("defense", defense)]
        for codec, defense in {(line.codec, line.defense): None for line in lines}
    }
    names = [metric.name for metric in metrics]
    remove_leftovers(folder)
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for line in lines:
        try:
            _craft(line, samples, runner, watcher)
            codec = runner.worker.codecs.get(line.codec, Part("defense", line.defense))
        except StoreError:  # the disk, not the line
            raise
        except (Exception, SystemExit) as error:  # attacks and codecs are anyone's code
            failures.append(Failure.of(str(line), "all", error))
            continue
        for sample, text in itertools.product(samples, between):
            called = f"{sample.id}, {text}" if text != "none" else sample.id
            watch(f"{line}, {called}")
            try:
                source = sample.load()
                first = source if line.cell is None else _crafted(line.cell, sample, runner)
                seed = sample_seed(sample, EVALUATION)  # that of the runner: the first generation is the grid's
                facts = [VERSION, identities[line.codec, line.defense], steps[text].identity(), seed]
                path = folder / "points" / f"{digest([*facts, checksum(source), checksum(first)])}.json"
                known = read_point(path)
                if not _covers(known, generations, names):
                    wanted = max(generations, len(known.get("generations", ())))
                    chain = recompress(codec, first, wanted, steps[text], source, metrics, seed, device)
                    known = _joined(known, chain, _psnr(source, first))
                    write_whole(path, seal_json(path.stem, known))
            except StoreError:
                raise
            except (Exception, SystemExit) as error:  # one bad file or codec must not cost the others
                failures.append(Failure.of(str(line), called, error))
                continue
            shared = {"codec": line.codec, "defense": line.defense, "first": line.first, "between": text}
            rows += [
                {**shared, "sample": sample.id, "generation": number, **point, "input_psnr": known["input_psnr"]}
                for number, point in enumerate(known["generations"][:generations], 1)
            ]
            if known["failure"] and (last := len(known["generations"])) <= generations:
                reason = f"generation {last} could not be decoded: {known['failure']}"
                failures.append(Failure(str(line), called, reason))
    scores = ["bpp", *names, "previous_psnr", "input_psnr"]
    columns = ["codec", "defense", "first", "between", "sample", "generation", "bytes", *scores]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(scores, float)), failures


def _craft(line: Line, samples: Sequence[Sample], runner: Runner, watcher: Watcher | None) -> None:
    """Have the attacked inputs of ``line`` in the runner's store; raises what the cell failed of."""
    cell = line.cell
    if cell is None or all(runner.store.holds_clip(cell.craft_id(sample)) for sample in samples):
        return
    if errors := runner.run([cell], watcher).errors:
        raise UserError(errors[str(cell)])


def _crafted(cell: Cell, sample: Sample, runner: Runner) -> Tensor:
    stored = runner.store.clip(cell.craft_id(sample))
    if stored is None:
        path = runner.store.root / "cells" / f"{cell.id}.json"
        raise UserError(f"the attacked clip is not in the run folder; remove {path} and run again to have it made")
    return stored[0]


def _covers(known: dict[str, Any], generations: int, names: Iterable[str]) -> bool:
    """True if a stored chain holds so many generations, or all there are, with every score."""
    points = known.get("generations", ())
    long = len(points) >= generations or known.get("failure")
    return bool(points and long and all(set(names) <= set(point) for point in points))


def _joined(known: dict[str, Any], chain: Sequence[Generation], input_psnr: float) -> dict[str, Any]:
    """A chain as it is stored, with the scores that it had before; JSON has no NaN."""
    points = []
    before = known.get("generations", [])
    for old, new in zip([*before, *[{}] * (len(chain) - len(before))], chain, strict=True):
        scores = {"bpp": new.bpp, **new.scores, "previous_psnr": new.previous_psnr}
        plain = {name: None if math.isnan(score) else score for name, score in scores.items()}
        points.append({**old, "bytes": new.bytes, **plain})
    return {"generations": points, "failure": chain[-1].failure, "input_psnr": input_psnr}


def _psnr(reference: Tensor, test: Tensor) -> float:
    """Of two uint8 clips, in dB."""
    return decibels(squared_error(as_batch(reference), as_batch(test))).item()
