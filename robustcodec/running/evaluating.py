"""What an attack cost: real streams of the clean and the attacked clip, decoded from their bytes alone, and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.clips import as_batch, sample_seed
from robustcodec.coding import EVALUATION, Coded, code, estimated_bits
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Codec, Metric, Objective, Output, Sample
from robustcodec.running.codecs import Codecs
from robustcodec.running.crafting import Crafted
from robustcodec.running.findings import Finding, sample_findings, summarise
from robustcodec.running.provenance import provenance
from robustcodec.running.resolved import Resolved
from robustcodec.running.store import Curves, Result, Row, Store
from robustcodec.scores import temporal
from robustcodec.scores.robustness import NAN, break_scores, clean_scores, sample_scores

PICTURED = 2**23  # bytes of decoded clips kept per cell for pictures; those of the first sample in any case


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


class Evaluation:
    """Scores cells from clips that were crafted. ``metrics``: by name."""

    def __init__(self, store: Store, codecs: Codecs, metrics: Mapping[str, Metric]) -> None:
        self.store, self.codecs, self.metrics = store, codecs, metrics
        self._clean: dict[str, Clean] = {}  # by sample, of the codec and defense in hand
        self._clean_of: tuple[str, str, str] | None = None

    def run(self, cell: Resolved, crafted: list[Crafted]) -> Result:
        """The result of a cell; raises :class:`RobustCodecError` for a codec that cannot decode a clean clip."""
        subject = cell.cell.codec, cell.cell.defense, cell.cell.data
        if self._clean_of != subject:  # cells come sorted: the last is the one to keep
            self._clean, self._clean_of = {}, subject
        codec = self.codecs.evaluated(cell)
        objective = cell.objective.bind(codec)
        rows: list[Row] = []
        frames: dict[str, Curves] = {}
        findings: list[Finding] = []
        pictured: dict[str, dict[str, Tensor]] = {}
        size = 0
        for attack in crafted:
            sample, original = attack.sample, attack.sample.load()
            clean = self._clean_scores(codec, sample, original)
            attacked = self._code(codec, attack.clip, sample)
            scores = self._scores(sample, original, attack.clip, clean, attacked)
            scores |= self._harm(objective, codec, original, attack.clip, clean, attacked, scores["input_psnr"])
            rows.append({"sample": sample.id, **scores, "queries": attack.info["queries"]})
            if len(original) > 1:
                frames[sample.id] = _curves(original, clean, attacked)
            pixels = original[:, 0].numel()
            findings += sample_findings(sample.id, scores, pixels, attack.info, attacked.coded.reason)
            shown = {"original": original, "adversarial": attack.clip, "clean": clean.x_hat}
            if attacked.coded.x_hat is not None:
                shown["attacked"] = attacked.coded.x_hat
            size += sum(clip.numel() for clip in shown.values())
            if not pictured or size <= PICTURED:
                pictured[sample.id] = shown
        self.store.put_decoded(cell.id, pictured)
        return Result(
            cell.id, cell.cell, "ok", tuple(rows), summarise(findings, len(rows)), provenance(self.codecs.device),
            identity=cell.identity, frames=frames,
        )  # fmt: skip

    def _code(self, codec: Codec, clip: Tensor, sample: Sample) -> Estimated:
        """Real bytes and back. A random codec meets all versions of a sample with one draw, which no attack saw."""
        seed, device = sample_seed(sample, EVALUATION), self.codecs.device
        coded = code(codec, clip, device, seed)
        parts = codec.anatomy(coded.stream) if len(clip) > 1 and coded.x_hat is not None else ()
        frame_bits = temporal.bits_per_frame(parts, len(clip)).tolist()
        return Estimated(coded, estimated_bits(codec, clip, device, seed), frame_bits)

    def _clean_scores(self, codec: Codec, sample: Sample, original: Tensor) -> Clean:
        if sample.id not in self._clean:
            estimated = self._code(codec, original, sample)
            x_hat, reason = estimated.coded.x_hat, estimated.coded.reason
            if x_hat is None:
                raise RobustCodecError(f"{codec.card.name} cannot decode its own stream of {sample.id}: {reason}")
            scores = clean_scores(
                as_batch(original), as_batch(x_hat), estimated.coded.bits, estimated.bits, self.metrics, sample.fps
            )
            self._clean[sample.id] = Clean(estimated, x_hat, scores)
        return self._clean[sample.id]

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
    ) -> dict[str, float]:
        """What the attack was after, of real bytes: ``damage``, whether it reached the level at which the codec counts
        as ``broken``, at which input PSNR (``break_db``), and the objective's own scores.
        """
        device = self.codecs.device

        def output(clip: Tensor, coded: Coded) -> Output:
            bits = torch.tensor([coded.bits], device=device)
            return Output(
                lambda: as_batch(coded.decoded(), device), lambda: bits, lambda: codec(as_batch(clip, device)).latents
            )

        x, x_adv, failed = as_batch(original, device), as_batch(adversarial, device), attacked.coded.x_hat is None
        before = output(original, clean.estimated.coded)
        level = float(objective.level(x, before))
        damage = NAN if failed else float(objective(x, before, output(adversarial, attacked.coded), x_adv))
        x_adv_hat = None if failed else as_batch(attacked.coded.decoded(), device)
        return {
            **break_scores(damage, level, input_psnr, failed),
            **objective.scores(x, x_adv, attacked.coded.stream, x_adv_hat),
        }


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
