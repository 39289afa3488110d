"""The columns of every table of results: what each is called, how it is printed, what it means.

A table of this package names the columns that it shows; all else about them stands here, and of results and boards in
:mod:`_result_columns` and :mod:`_board_columns`. Metrics and objectives bring columns of their own
(:attr:`Metric.columns`, :attr:`Objective.columns`), which tables show without being told.

A score has one name everywhere: in :data:`RESULTS` it belongs to a sample, or is the mean over samples; in
:data:`RANKED` to the worst case of a contender; in :data:`ENTRIES` to an entry of a board.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from robustcodec.interfaces import Column
from robustcodec.scores._board_columns import ENTRIES, PAIRED
from robustcodec.scores._contributed import of_plugins
from robustcodec.scores._result_columns import RANKED, RESULTS, Columns, table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFENDED", "ENTRIES", "GAINS", "PAIRED", "RANKED", "RESULTS", "UNKNOWN", "Columns"]
__all__ += ["column", "contributed", "pairs", "select", "worst"]
UNKNOWN = "a score of a metric or an objective that is not installed here"

# of a defense against the bare codecs of a ladder
GAINS: Columns = table(
    RESULTS["data"],
    ENTRIES["threat"],
    Column("ladder", "a codec at one or several rates"),
    Column("defense", "what is wrapped around it"),
    Column("codecs", "how many rates of the ladder were met with and without the defense"),
    Column("samples", "how many images or clips these rates share"),
    Column(
        "bd_rate",
        "clean cost: BD-rate in percent of the defended ladder against the bare one; – for a single rate",
        "BD-rate",
        "%",
        better="low",
    ),
    Column(
        "delta_bpp",
        "clean bits per pixel of real bytes, defended − bare, the mean over codecs and samples",
        unit="bpp",
        better="low",
    ),
    Column("delta_psnr", "clean PSNR in dB, defended − bare; mean over codecs and samples", unit="dB", better="high"),
    Column(
        "oblivious",
        "gain of robust_psnr in dB, defended − bare, under attacks crafted on the bare codec; the mean over codecs and "
        "samples",
        unit="dB",
        better="high",
    ),
    Column("oblivious_low", "lower end of the paired 95 % interval of oblivious over samples, – below five", unit="dB"),
    Column("oblivious_high", "upper end of the interval of oblivious", unit="dB"),
    Column(
        "oblivious_attacks",
        "how many attacks (attack × objective × seed) the worst case was taken over, the same ones on both sides; "
        "codecs that met fewer do not count",
    ),
    Column(
        "adaptive",
        "gain of robust_psnr in dB under the worse of attacks crafted through the defense (access adaptive or bpda) "
        "and oblivious ones, since an attacker who knows a defense may also ignore it",
        unit="dB",
        better="high",
    ),
    Column("adaptive_low", "lower end of the interval of adaptive", unit="dB"),
    Column("adaptive_high", "upper end of the interval of adaptive", unit="dB"),
    Column("adaptive_attacks", "how many attacks the worst case of adaptive was taken over"),
    Column(
        "encode_factor",
        "CPU time to encode, defended / bare, measured separately (benchmarks/defense_times.py)",
        better="low",
    ),
    Column("decode_factor", "CPU time to decode, defended / bare, measured separately", better="low"),
    Column("verdict", "whether the gain holds, by the interval of adaptive"),
)

# of a codec with or without a defense, beside :data:`GAINS`
DEFENDED: Columns = RESULTS | table(
    Column("defense", "what is wrapped around it; none: the bare codec, whose attacks are all crafted on it"),
    replace(RESULTS["bpp"], meaning="clean bits per pixel of the real bytes"),
    replace(RESULTS["psnr"], meaning="clean PSNR in dB"),
    Column(
        "oblivious",
        "robust_psnr in dB under attacks crafted on the bare codec, with its 95 % interval",
        unit="dB",
        better="high",
    ),
    Column("adaptive", "robust_psnr in dB under those and attacks through the defense", unit="dB", better="high"),
)

ALL: Columns = PAIRED | DEFENDED | GAINS | ENTRIES | RESULTS


def column(name: str, table: Columns = RESULTS) -> Column:
    """What ``table``, any table, or an installed metric or objective says of a column; of others there is the name."""
    return table.get(name) or ALL.get(name) or of_plugins().get(name) or Column(name, UNKNOWN, name)


def select(table: Columns, names: Iterable[str]) -> dict[str, Column]:
    """Those columns by name, in the order of ``names``."""
    return {name: column(name, table) for name in names}


def contributed(table: pd.DataFrame) -> list[str]:
    """The columns of a table of results that metrics and objectives brought, in their order: numbers that no table of
    this package has of itself, where any line has one.
    """
    numbers = table.select_dtypes("number")
    return [str(name) for name in numbers if name not in ALL and numbers[name].notna().any()]


def pairs(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a metric brought: ``M`` where ``adv_M`` is there too, and that."""
    known = set(names)
    return [n for n in names if f"adv_{n}" in known or (n.startswith("adv_") and n.removeprefix("adv_") in known)]


def worst(name: str, table: Columns) -> Column:
    """A column of a ``table`` of worst cases: what a metric brought of attacked reconstructions is the score under the
    attack that is worst for each sample.
    """
    one = column(name, table)
    if name in ALL or not name.startswith("adv_"):
        return one
    return replace(one, meaning=f"{one.meaning}, under the attack that is worst for each sample, then the mean")
