"""The most telling numbers of a run, in sentences, and the cell whose picture shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustcodec.errors import counted
from robustcodec.reporting.tables import label_of
from robustcodec.scores.robustness import BOARD, CONTENDER, shown_psnr
from robustcodec.scores.strength import BOUND
from robustcodec.studies import defenses_report

MOST = 3  # sentences
LITTLE = 0.005  # dB, or share of bytes, that tables print as nothing

Line = dict[str, Any]  # of a leaderboard, or of a table of defenses


@dataclass(frozen=True)
class Headlines:
    """``about``: the data set and threat that the sentences are of, the ones that most contenders met; ``cell``: id of
    the one whose first sample lost most, of the contender that lost most; None without any sentence about it.
    """

    about: str = ""
    sentences: tuple[str, ...] = ()
    cell: str | None = None

    @classmethod
    def of(cls, board: pd.DataFrame, rows: pd.DataFrame) -> Headlines:
        """What a :func:`~robustcodec.reporting.tables.leaderboard` of ``rows``, one per cell and sample, says.

        What nothing strong attacked has lower bounds of damage, which are said as such; scores without a number, such
        as the bytes of a codec that writes none, are left out. Raises as :func:`defenses_report.gains` does.
        """
        if board.empty:
            return cls()
        met = board.groupby(BOARD).size()
        data, threat = max(dict.fromkeys(rows[BOARD].itertuples(index=False, name=None)), key=lambda key: met[key])
        mine, here = (frame[(frame["data"] == data) & (frame["threat"] == threat)] for frame in (board, rows))
        sentences = [*_amplification(mine), *_loss(mine), *_defense(here), *_bytes(mine)][:MOST]
        bounds = int((mine["bound"] == BOUND).sum())
        open_ones = f"; of {counted(bounds, 'contender')} of {len(mine)} only lower bounds are known" if bounds else ""
        about = f"{data} at {threat}, {counted(int(mine['samples'].max()), 'sample')}{open_ones}"
        return cls(about, tuple(sentences), worst_cell(mine, here))


def _most(board: pd.DataFrame, score: str) -> tuple[Line, str, str] | None:
    """The line with the largest ``score``, and the words for "most" and "at least" where they are true of it."""
    known = _by(board, score)
    if not known:
        return None
    return known[0], " most" if len(known) > 1 else "", "at least " if known[0]["bound"] == BOUND else ""


def _by(table: pd.DataFrame, score: str) -> list[Line]:
    """The lines that have this score, the largest first."""
    known = table.dropna(subset=[score]).sort_values(score, ascending=False, kind="stable")
    return [{str(name): value for name, value in line.items()} for line in known.to_dict("records")]


def _name(line: Line) -> str:
    return label_of(line["codec"], line["defense"], line["access"])


def _amplification(board: pd.DataFrame) -> Iterator[str]:
    if (found := _most(board, "vi_db")) is None:
        return
    line, most, least = found
    value = line["vi_db"]
    if value < LITTLE:
        yield f"No attack was amplified: the change of the decoded picture of {_name(line)} is {least}{value:.1f} dB."
        return
    times = 10 ** (value / 10)
    yield (
        f"{_name(line)} amplifies{most}: its decoded picture changes by {least}{value:.1f} dB more than its input did "
        f"({times:.{int(times < 10)}f} times the energy)."
    )


def _loss(board: pd.DataFrame) -> Iterator[str]:
    if (found := _most(board, "drop")) is None:
        return
    line, most, least = found
    if line["drop"] < LITTLE:
        yield f"No attack cost quality: {_name(line)} keeps its {line['psnr']:.2f} dB PSNR."
        return
    failed = line["decode_failures"]
    undecoded = f"; {counted(failed, 'stream')} could not be decoded, which counts as 0 dB" if failed else ""
    yield (
        f"{_name(line)} loses{most} quality: {least}{line['drop']:.2f} dB PSNR, from {line['psnr']:.2f} to "
        f"{line['robust_psnr']:.2f} dB{undecoded}."
    )


def _bytes(board: pd.DataFrame) -> Iterator[str]:
    if (found := _most(board, "rate_ratio")) is None:
        return
    line, most, least = found
    more = line["rate_ratio"] - 1
    if more < LITTLE:
        yield "No attack made streams longer."
        return
    yield f"{_name(line)} pays{most} in bytes: {least}{100 * more:.0f} % more than without an attack."


def _defense(rows: pd.DataFrame) -> Iterator[str]:
    """Of the defense that keeps most of its gain under attacks that know it, or else gains most while they do not."""
    if set(rows["defense"]) == {"none"}:
        return
    gains = defenses_report.gains(rows)
    adaptive, known = _by(gains, "adaptive"), _by(gains, "oblivious")
    if not (adaptive or known):
        return
    line = (adaptive or known)[0]
    who, gained = line["defense"], line["oblivious"]
    defended = set(rows.loc[rows["defense"] == who, "codec"])
    codec = defended.pop() if len(defended) == 1 else line["ladder"]
    if not adaptive:
        yield (
            f"{who} gives {codec} at most {gained:.2f} dB PSNR back: no attack knew of it."
            if gained >= LITTLE
            else f"{who} gives {codec} nothing back, although no attack knew of it."
        )
        return
    kept = f"{line['adaptive']:.2f} dB" if line["adaptive"] >= LITTLE else "nothing"
    unsure = line["adaptive"] >= LITTLE and line["verdict"] == defenses_report.VANISHES
    doubt = " These samples do not tell that from nothing." if unsure else ""
    if math.isnan(gained):
        yield f"{who} gives {codec} {kept} of PSNR back under attacks made for it.{doubt}"
        return
    yield f"{who} gives {codec} {gained:.2f} dB PSNR back while attacks do not know it, and {kept} once they do.{doubt}"


def worst_cell(board: pd.DataFrame, rows: pd.DataFrame) -> str | None:
    """The cell of the contender that lost most, whose first sample, which is the one that pictures show, lost most."""
    if (found := _most(board, "drop")) is None:
        return None
    mine = rows[(rows[CONTENDER] == [found[0][axis] for axis in CONTENDER]).all(axis=1)].drop_duplicates("cell")
    return str(_by(mine.assign(loss=mine["psnr"] - shown_psnr(mine)), "loss")[0]["cell"])
