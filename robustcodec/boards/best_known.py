"""The best known damage to an entry: its suite's worst cases, and what others found beyond them.

A clip counts where the entry's score is higher with it than with the worst that is known of its sample, all others
being as they are. Whoever found the same first keeps it. Ranks stay by the suite alone: it is what all entries met
alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from robustcodec.boards.breaks import Break
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import GAIN, Anchor, percent, premium, worst_for
from robustcodec.scores.robustness import FAILED_PSNR, shown_psnr


@dataclass(frozen=True)
class Known:
    """At one threat. ``score`` in percent and ``psnr`` in dB: with the ``breaks``, those that count; ``suite``: the
    score without; ``samples``: how many there are; ``refused``: the others, each with the score that it would make.
    """

    suite: float
    score: float
    psnr: float
    samples: int
    breaks: tuple[Break, ...]
    refused: tuple[tuple[Break, float], ...] = ()

    @property
    def by(self) -> str:
        """Who found it, those of most clips first."""
        counts = Counter(each.by for each in self.breaks)
        return ", ".join(sorted(counts, key=lambda name: (-counts[name], name)))

    @property
    def line(self) -> dict[str, float | str]:
        """What tables show, by the names of columns."""
        known = {"best_known": self.score, "best_known_psnr": self.psnr}
        return {**known, "found_by": self.by, "found_on": len(self.breaks)}


def best_known(entry: Entry, breaks: Iterable[Break], points: pd.DataFrame) -> dict[str, Known]:
    """By threat, of those that any of ``breaks`` is of. ``points``: of the anchor; of two clips that do the same damage
    the first one counts.
    """
    by_threat: dict[str, list[Break]] = {}
    for each in breaks:
        by_threat.setdefault(each.threat, []).append(each)
    rows = entry.frame("")
    return {threat: _known(rows[rows["threat"] == threat], found, points) for threat, found in by_threat.items()}


def _known(rows: pd.DataFrame, breaks: Sequence[Break], points: pd.DataFrame) -> Known:
    worst = worst_for(points)(rows, ["sample"]).set_index("sample")[["adv_bpp", "adv_psnr"]].astype(float)
    least = shown_psnr(rows).groupby(rows["sample"]).min()
    anchor = Anchor.on(points, [str(sample) for sample in worst.index])
    score = suite = _premium(worst, anchor)
    taken: dict[str, Break] = {}
    rises = True
    while rises:  # what was taken of one sample may let a clip of another one count
        rises = False
        for each in breaks:
            with_it = _with(worst, each)
            if (raised := _premium(with_it, anchor)) > score + GAIN:
                worst, score, taken[each.sample], rises = with_it, raised, each, True
    others = [each for each in breaks if each is not taken.get(each.sample)]
    refused = tuple((each, percent(_premium(_with(worst, each), anchor))) for each in others)
    for each in taken.values():
        least[each.sample] = min(least[each.sample], _damage(each.scores)[1])
    return Known(percent(suite), percent(score), float(least.mean()), len(worst), tuple(taken.values()), tuple(refused))


def _with(worst: pd.DataFrame, clip: Break) -> pd.DataFrame:
    """``worst``, rates and PSNR by sample, with those of a clip."""
    changed = worst.copy()
    changed.loc[clip.sample] = _damage(clip.scores)
    return changed


def _premium(worst: pd.DataFrame, anchor: Anchor) -> float:
    return premium(worst["adv_bpp"].to_numpy(float), worst["adv_psnr"].to_numpy(float), anchor).value


def _damage(scores: Mapping[str, float | None]) -> tuple[float, float]:
    """Bits per pixel and PSNR in dB; a decoder that failed showed nothing."""
    size, shown = scores["adv_bpp"], scores.get("adv_psnr")
    assert size is not None, "a file of breaks has one of every clip"
    return size, FAILED_PSNR if scores["decode_failed"] == 1 or shown is None else shown
