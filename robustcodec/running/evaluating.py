"""What an attack cost: real streams of the clean and the attacked clip, decoded from their bytes alone, and scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor

from robustcodec import answers
from robustcodec.clips import as_batch, fingerprint, sample_seed
from robustcodec.coding import EVALUATION, Coded, code, estimated_bits
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Codec, Metric, Objective, Output, Sample
from robustcodec.oracle import damage, level, shown
from robustcodec.running.codecs import Codecs
from robustcodec.running.findings import Finding, sample_findings, stays_inside
from robustcodec.running.provenance import provenance
from robustcodec.running.resolved import Resolved
from robustcodec.running.store import Curves, Row
from robustcodec.scores import temporal
from robustcodec.scores.robustness import NAN, break_scores, clean_scores, sample_scores

PICTURED = 2**23  # bytes of decoded clips kept per cell for pictures
CLEAN = 2**28  # bytes of clean reconstructions kept, since other attacks of a codec ask for them again


@dataclass(frozen=True)
class Estimated:
    """A clip through real bytes, and what its codec thought that they would take."""

    coded: Coded
    bits: float
    frame_bits: list[float]  # real ones of each frame, NaN where not known


@dataclass(frozen=True)
class Clean:
    """A sample without an attack; all of its attacks are compared with it."""

    estimated: Estimated
    x_hat: Tensor  # it did decode
    scores: dict[str, float]


@dataclass(frozen=True)
class Crafted:
    """An adversarial uint8 clip ``(T, 3, H, W)`` of a sample, and how it was reached."""

    sample: Sample
    clip: Tensor
    info: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Scores of some samples of a cell. ``pictured``: by sample, the clips that pictures show, ``PICTURED`` bytes of
    them; those of the first sample in any case.
    """

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    frames: dict[str, Curves]
    pictured: dict[str, dict[str, Tensor]]
    provenance: dict[str, str]


class Evaluation:
    """Scores clips that were crafted. ``metrics``: by name."""

    def __init__(self, codecs: Codecs, metrics: Mapping[str, Metric]) -> None:
        self.codecs, self.metrics = codecs, metrics
        self._clean: LRUCache[tuple[str, ...], Clean] = LRUCache(CLEAN, lambda clean: clean.x_hat.numel())

    def run(self, cell: Resolved, crafted: Sequence[Crafted]) -> Part:
        """Raises :class:`RobustCodecError` for a codec that cannot decode a clean clip, and for a clip that the threat
        of the cell does not allow.
        """
        codec = self.codecs.evaluated(cell)
        objective = cell.objective.bind(codec)
        rows: list[Row] = []
        frames: dict[str, Curves] = {}
        findings: list[Finding] = []
        pictured: dict[str, dict[str, Tensor]] = {}
        size = 0
        for attack in crafted:
            sample, original = attack.sample, attack.sample.load()
            _check_budget(attack, original, cell)
            clean = self._clean_scores(cell, codec, sample, original)
            attacked = self._code(codec, attack.clip, sample)
            scores = self._scores(sample, original, attack.clip, clean, attacked)
            harm, own = self._harm(objective, codec, original, attack.clip, clean, attacked, scores["input_psnr"])
            scores |= harm
            scores |= answers.scores(f"scores of {cell.cell.objective}", own, scores)
            rows.append({"sample": sample.id, **scores, "queries": attack.info["queries"]})
            if len(original) > 1:
                frames[sample.id] = _curves(original, clean, attacked)
            pixels = original[:, 0].numel()
            findings += sample_findings(sample.id, scores, pixels, attack.info, attacked.coded.reason)
            findings += [Finding(sample.id, sign) for sign in self._signs(original, clean, attacked, scores)]
            shown = {"original": original, "adversarial": attack.clip, "clean": clean.x_hat}
            if attacked.coded.x_hat is not None:
                shown["attacked"] = attacked.coded.x_hat
            size += sum(clip.numel() for clip in shown.values())
            if not pictured or size <= PICTURED:
                pictured[sample.id] = shown
        return Part(tuple(rows), tuple(findings), frames, pictured, provenance(self.codecs.device))

    def _code(self, codec: Codec, clip: Tensor, sample: Sample) -> Estimated:
        """Real bytes and back. A random codec meets all versions of a sample with one draw, which no attack saw."""
        seed, device = sample_seed(sample, EVALUATION), self.codecs.device
        coded = code(codec, clip, device, seed)
        parts = codec.anatomy(coded.stream) if len(clip) > 1 and coded.x_hat is not None else ()
        frame_bits = temporal.bits_per_frame(parts, len(clip)).tolist()
        return Estimated(coded, estimated_bits(codec, clip, device, seed), frame_bits)

    def _clean_scores(self, cell: Resolved, codec: Codec, sample: Sample, original: Tensor) -> Clean:
        key = cell.cell.codec, cell.cell.defense, cell.cell.data, sample.id, fingerprint(sample)
        if (known := self._clean.get(key)) is not None:
            return known
        estimated = self._code(codec, original, sample)
        x_hat, reason = estimated.coded.x_hat, estimated.coded.reason
        if x_hat is None:
            raise RobustCodecError(f"{codec.card.name} cannot decode its own stream of {sample.id}: {reason}")
        scores = clean_scores(
            as_batch(original), as_batch(x_hat), estimated.coded.bits, estimated.bits, self.metrics, sample.fps
        )
        clean = Clean(estimated, x_hat, scores)
        if x_hat.numel() <= CLEAN:
            self._clean[key] = clean
        return clean

    def _scores(
        self, sample: Sample, original: Tensor, adversarial: Tensor, clean: Clean, attacked: Estimated
    ) -> dict[str, float]:
        x_adv_hat = attacked.coded.x_hat
        return sample_scores(
            as_batch(original),
            as_batch(clean.x_hat),
            as_batch(adversarial),
            None if x_adv_hat is None else as_batch(x_adv_hat),
            clean.estimated.coded.bits,
            attacked.coded.bits,
            clean.estimated.bits,
            attacked.bits,
            self.metrics,
            sample.fps,
            clean.scores,
        )

    @torch.no_grad()
    def _harm(
        self,
        objective: Objective,
        codec: Codec,
        original: Tensor,
        adversarial: Tensor,
        clean: Clean,
        attacked: Estimated,
        input_psnr: float,
    ) -> tuple[dict[str, float], Any]:
        """What the attack was after, of real bytes: ``damage``, whether it reached the level at which the codec counts
        as ``broken``, at which input PSNR (``break_db``); and what the objective says are scores of its own.
        """
        device = self.codecs.device

        def output(clip: Tensor, coded: Coded) -> Output:
            bits = torch.tensor([coded.bits], device=device)
            return Output(
                lambda: as_batch(coded.decoded(), device),
                lambda: bits,
                lambda: shown(codec, as_batch(clip, device)).latents,
            )

        x, x_adv, failed = as_batch(original, device), as_batch(adversarial, device), attacked.coded.x_hat is None
        before = output(original, clean.estimated.coded)
        most = float(level(objective, x, before))
        harm = NAN if failed else float(damage(objective, x, before, output(adversarial, attacked.coded), x_adv))
        x_adv_hat = None if failed else as_batch(attacked.coded.decoded(), device)
        own = objective.scores(x, x_adv, attacked.coded.stream, x_adv_hat)
        return break_scores(harm, most, input_psnr, failed), own

    def _signs(self, original: Tensor, clean: Clean, attacked: Estimated, scores: Mapping[str, float]) -> Iterator[str]:
        """What is odd about what a sample's codec, metrics and objective gave."""
        decodes = [("clean", "", clean.estimated.coded)]
        if attacked.coded.x_hat is not None:
            decodes.append(("attacked", "adv_", attacked.coded))
        for when, prefix, coded in decodes:
            if coded.outside:
                yield f"the decoder left [0, 1] ({when}): clamped"
            if coded.sized and not math.isfinite(scores[f"{prefix}bpp_est"]):
                yield f"the estimated rate is not a finite number ({when})"
            for name, metric in self.metrics.items():
                if not math.isfinite(scores[prefix + name]) and min(original.shape[-2:]) >= metric.least:
                    yield f"{name} is not a finite number ({when})"
        if attacked.coded.x_hat is not None and not math.isfinite(scores["damage"]):
            yield "the damage is not a finite number"


def _check_budget(attack: Crafted, original: Tensor, cell: Resolved) -> None:
    """Whoever crafted the clip, and however it came here."""
    x, threat = as_batch(original), cell.threat
    alike = attack.clip.shape == original.shape and attack.clip.dtype == original.dtype
    if not alike or not stays_inside(as_batch(attack.clip), x, threat):
        raise RobustCodecError(
            f"the attacked clip of {attack.sample.id} is outside the budget of {cell.cell.threat}; if somebody has "
            "changed it, remove the folder crafted of the run and run again"
        )


def _curves(original: Tensor, clean: Clean, attacked: Estimated) -> Curves:
    """Of each frame of a clip: PSNR in dB against the source and real bits, clean and attacked."""
    return {
        "psnr": _psnr(original, clean.x_hat),
        "adv_psnr": _psnr(original, attacked.coded.x_hat),
        "bits": clean.estimated.frame_bits,
        "adv_bits": attacked.frame_bits,
    }


def _psnr(original: Tensor, x_hat: Tensor | None) -> list[float]:
    """Of each frame; NaN without a reconstruction."""
    return [NAN] * len(original) if x_hat is None else temporal.psnr(as_batch(original), as_batch(x_hat))[0].tolist()
