"""Clips that others submit against an entry: put inside the threat, coded and decoded by its codec, and compared with
the worst that is known. Nothing that a submitter states is believed; what is not taken has a line that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.boards.audit import audit
from robustcodec.boards.best_known import Known, best_known
from robustcodec.boards.board import BREAKS, RESULTS, Board
from robustcodec.boards.break_audit import audit_breaks
from robustcodec.boards.breaks import Break, Breaks, signature
from robustcodec.boards.change import packed
from robustcodec.boards.entry import CLEAN, DERIVED, Entry, rounded
from robustcodec.boards.founding import samples_of
from robustcodec.boards.given import Given
from robustcodec.boards.verification import CLEAN_DB, CLEAN_RATE, maker_faults
from robustcodec.clips import as_batch, checksum, fingerprint, to_uint8
from robustcodec.errors import BadData, BoardError, RobustCodecError, blamed
from robustcodec.execution.isolation import isolated
from robustcodec.interfaces import Sample
from robustcodec.memory import short_of_memory
from robustcodec.running.codecs import Codecs
from robustcodec.running.crafting import inside
from robustcodec.running.evaluating import Crafted, Evaluation
from robustcodec.running.grid import Cell
from robustcodec.scores.metrics import of_every_run

UNSAID = ("sample", "queries", *CLEAN, *DERIVED)  # what nobody asked, and what an entry has or follows from others
WORD = "submitted"  # in the place of an attack


@dataclass(frozen=True)
class Submission:
    """``breaks``: the entry's, as they are now; ``taken``: those of them that are new; ``refused``: a line for each
    clip that was not taken; ``known``: at the threat, if anything is.
    """

    breaks: Breaks
    taken: tuple[Break, ...]
    refused: tuple[str, ...]
    known: Known | None


class Bench:
    """What measures clips as the entry's own were measured. Raises :class:`BoardError` for an entry of which that
    cannot be done here: with other weights, or a codec that draws at random, for whose draw anybody can make a clip.
    """

    def __init__(self, board: Board, entry: Entry) -> None:
        if faults := maker_faults(entry):
            raise BoardError(f"{entry.name}: {faults[0]}")
        self.board, self.entry, self.codecs = board, entry, Codecs(torch.device("cpu"))
        self.evaluation = Evaluation(self.codecs, {metric.name: metric for metric in of_every_run((), "cpu")})
        self._samples = {sample.id: sample for sample in samples_of(board.data, board.limit)}
        if self.codecs.evaluated(self._cell(board.threat).resolved).randomised:
            raise BoardError(
                f"{entry.name} draws at random what it does, and the draw that judges it is known to all: a clip that "
                "is made for that one says nothing of others, so none are taken"
            )

    def sample(self, name: str) -> Sample:
        """Raises :class:`BoardError` unless it is here, with the bytes that the board measured."""
        sample = self._samples.get(name)
        if sample is None or fingerprint(sample) != self.board.samples[name]:
            what = "missing" if sample is None else "other data"
            raise BoardError(f"{name} is {what} here: {self.board.data} is not what the board measured")
        return sample

    def put_inside(self, threat: str, original: Tensor, clip: Tensor) -> Tensor:
        """The 8-bit clip inside the threat next to ``clip``; all uint8 ``(T, 3, H, W)``."""
        built = self._cell(threat).resolved.threat
        return to_uint8(inside(threat, built, as_batch(clip), as_batch(original)))[0]

    def scores(self, threat: str, sample: Sample, clip: Tensor) -> dict[str, float | None]:
        """Of an adversarial clip, from real bytes: what an entry keeps of one, to as many digits.

        Raises :class:`RobustCodecError` for a clip outside the threat, where the codec fails to write a stream, and if
        the sample without an attack does not come out as the entry says.
        """
        with isolated():
            try:
                crafted = Crafted(sample, clip, {"queries": 0, "findings": [], "blind": False, "budget": 1.0})
                (row,) = self.evaluation.run(self._cell(threat).resolved, [crafted]).rows
            except RobustCodecError:
                raise
            except Exception as error:  # codecs and defenses are anyone's code
                if short_of_memory(error):
                    raise
                raise blamed(self.entry.name, error) from error
        self._check_clean(sample.id, row)
        numbers = {name: rounded(value) for name, value in row.items() if name not in UNSAID}
        return {name: value for name, value in numbers.items() if value is not None or name == "adv_psnr"}

    def _cell(self, threat: str) -> Cell:
        """Damage is the error against the source, as the score of a board has it."""
        access = "oblivious" if self.entry.defense == "none" else "adaptive"
        return Cell(
            self.entry.codec, WORD, "source-distortion", threat, self.entry.defense, access, self.board.data,
            limit=self.board.limit,
        )  # fmt: skip

    def _check_clean(self, sample: str, row: Mapping[str, float]) -> None:
        stated = self.entry.clean.frame().loc[sample]
        apart = abs(row["psnr"] - stated["psnr"]) > CLEAN_DB, abs(row["bpp"] / stated["bpp"] - 1) > CLEAN_RATE
        for name, differs in zip(("psnr", "bpp"), apart, strict=True):
            if differs:
                raise BoardError(
                    f"{name} of {sample} without an attack is {row[name]:.4f} here, {stated[name]:.4f} in the entry"
                )


def submit(
    board: Board,
    entry: Entry,
    clips: Iterable[Given],
    threat: str,
    by: str,
    how: str,
    date: str,
    watch: Callable[[str], None] = lambda note: None,
) -> Submission:
    """Measure ``clips`` and take those onto the board that do more damage than what is known; nothing is written.

    ``date``: as YYYY-MM-DD. Raises :class:`BoardError` for an entry that is disputed or has faults, one that did not
    meet ``threat``, a name that cannot be shown, and as :class:`Bench` does.
    """
    signature(by, how)
    old, bench = _so_far(board, entry, threat), Bench(board, entry)
    new: list[Break] = []
    where: dict[int, str] = {}
    refused: list[str] = []
    for clip in clips:
        watch(clip.where)
        try:
            made = _break(bench, clip, threat, by, how, date)
        except RobustCodecError as error:
            refused.append(str(error) if clip.where in str(error) else f"{clip.where}: {error}")
            continue
        new.append(made)
        where[id(made)] = clip.where
    known = best_known(entry, [*old.breaks, *new], board.points)
    if (at := known.get(threat)) is not None:
        refused += [
            f"{where[id(each)]}: no more damage than is known of {each.sample}: the score would be {score:+.3f} %, it "
            f"stands at {at.score:+.3f} %"
            for each, score in at.refused
            if id(each) in where
        ]
    kept = {each.place: each for of in known.values() for each in of.breaks}
    taken = tuple(each for each in kept.values() if id(each) in where)
    return Submission(old.holding(tuple(kept.values())), taken, tuple(refused), at)


def _so_far(board: Board, entry: Entry, threat: str) -> Breaks:
    """What was found of ``entry``; raises :class:`BoardError` if nothing can be added to that."""
    entries, faults = audit(board)
    breaks, wrong = audit_breaks(board, entries)
    paths = [str(board.folder / folder / entry.file) for folder in (RESULTS, BREAKS)]
    if why := [fault for fault in faults + wrong if fault.startswith(tuple(paths))]:
        raise BoardError(f"{why[0]}; mend that first")
    if entry not in entries:
        raise BoardError(f"{entry.name} is no entry of {board.name}, which has none of that codec with its numbers")
    if entry.disputed:
        doubt = entry.disputed[-1]
        raise BoardError(f"{entry.name} is disputed by {doubt.by} ({doubt.why}); measure it anew first")
    if threat not in (met := sorted({cell.axes["threat"] for cell in entry.cells})):
        raise BoardError(f"{entry.name} was not measured at {threat}; it was at {', '.join(met)}")
    return breaks.get(entry.name) or Breaks.none(entry)


def _break(bench: Bench, clip: Given, threat: str, by: str, how: str, date: str) -> Break:
    """A clip as it is judged; raises :class:`RobustCodecError` that says why it cannot be."""
    sample = bench.sample(clip.sample)
    original, brought = sample.load(), clip.load()
    if brought.shape != original.shape:
        raise BadData(f"{clip.where} is {_size(brought)}; {sample.id} is {_size(original)}")
    if torch.equal(brought, original):
        raise BadData(f"{clip.where} is {sample.id} itself; expected it changed")
    adversarial = bench.put_inside(threat, original, brought)
    scores = bench.scores(threat, sample, adversarial)
    shape = tuple(original.shape)
    return Break(sample.id, threat, by, date, how, checksum(adversarial), shape, packed(adversarial, original), scores)


def _size(clip: Tensor) -> str:
    frames, _, height, width = clip.shape
    return f"{width}x{height} pixels" + (f" in {frames} frames" if frames > 1 else "")
