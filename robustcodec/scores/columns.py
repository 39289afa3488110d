"""The columns of every table of results: what each is called, how it is printed, what it means.

A table of this package names the columns that it shows; all else about them stands here. Metrics and objectives bring
columns of their own (:attr:`Metric.columns`, :attr:`Objective.columns`), which tables show without being told.

A score has one name everywhere: in :data:`RESULTS` it belongs to a sample, or is the mean over samples; in
:data:`RANKED` to the worst case of a contender; in :data:`ENTRIES` to an entry of a board.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from robustcodec.interfaces import YES_NO, Column
from robustcodec.scores import metrics
from robustcodec.scores._contributed import of_plugins

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, Column]
UNKNOWN = "a score of a metric or an objective that is not installed here"


def _table(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}


# of a sample under one attack, and their means over samples
RESULTS: Columns = _table(
    Column("cell", "what was measured, as the hash of everything that can change a number"),
    Column("data", "the set of images or clips"),
    Column("threat", "what an attack may return; enforced after rounding to 8 bits"),
    Column("objective", "what the attack maximises"),
    Column("codec", "the codec and its weights, as name.weights"),
    Column("defense", "what is wrapped around the codec"),
    Column("access", "oblivious: crafted on the bare codec; adaptive: through the defense; transfer: on another codec"),
    Column("attack", "the optimiser"),
    Column("precision", "arithmetic of gradients while crafting; results are always evaluated in float32"),
    Column("seed", "the seed of the attack's random numbers"),
    Column("entry", "the codec, the defense around it, and what its attacker knew where that makes a difference"),
    Column("sample", "the name of an image or clip within its data set"),
    Column("samples", "how many images or clips"),
    Column("warnings", "what the checks found, and in how many cells (×)"),
    Column("bpp", "bits per pixel of the real bytes, clean", "bpp", "bpp", 3, "low"),
    Column("bpp_est", "bits per pixel as the codec estimates them, clean", "estimated bpp", "bpp", 3, "low"),
    *metrics.psnr().columns,
    *metrics.ms_ssim().columns,
    Column("adv_bpp", "bits per pixel of the real bytes, attacked", "attacked bpp", "bpp", 3, "low"),
    Column(
        "adv_bpp_est", "bits per pixel as the codec estimates them, attacked", "attacked estimated bpp", "bpp", 3, "low"
    ),
    Column("delta_psnr", "psnr − adv_psnr in dB: both against the clean source", "loss of PSNR", "dB", 2, "low"),
    Column(
        "delta_own_psnr",
        "the loss in dB when each reconstruction is compared with its own input (older papers)",
        "loss of PSNR, each against its own input",
        "dB",
        2,
        "low",
    ),
    Column("loss", "clean PSNR − PSNR under the worst attack in dB, of one sample", "loss of PSNR", "dB", 2, "low"),
    Column(
        "vi_db",
        "amplification 10·log10(MSE of the reconstructions / MSE of the inputs) in dB",
        "VI dB",
        "dB",
        2,
        "low",
    ),
    Column("vi_low", "lower end of the 95 % interval of vi_db over samples, – below five", unit="dB"),
    Column("vi_high", "upper end of the 95 % interval of vi_db over samples", unit="dB"),
    Column("mse_out", "MSE between the clean and the attacked reconstruction", "MSE of the outputs", "", 6, "low"),
    Column("rate_ratio", "real bytes attacked / clean", "rate ×", "", 3, "low"),
    Column("rate_ratio_est", "bits attacked / clean, as the codec estimates them", "estimated rate ×", "", 3, "low"),
    Column("damage", "what the attack maximised, measured on the real bytes", digits=5, better="low"),
    Column(
        "broken",
        "share of samples that the attack broke: damage of at least tau times its clean value (at tau = 2 a PSNR 3 dB "
        "lower, or twice the bits)",
        unit=YES_NO,
        better="low",
    ),
    Column(
        "break_db",
        "input PSNR in dB of the perturbations that broke the codec, the mean over broken samples",
        "break dB",
        "dB",
        2,
        "low",
    ),
    Column("queries", "questions to the codec per sample, for gradients or for damage alone", digits=0, better="high"),
    Column(
        "input_psnr",
        "PSNR in dB of the attacked input: the budget as reached after 8-bit rounding",
        "input PSNR",
        "dB",
    ),
    Column(
        "input_linf",
        "largest change of the input in grey levels (1/255), as reached after 8-bit rounding",
        "input L∞",
        "1/255",
        1,
    ),
    Column("input_l2", "Euclidean norm of the change of the input, on the [0, 1] scale", "input L2"),
    Column(
        "decode_failed",
        "share of attacked streams that the decoder could not decode; such a sample counts as 0 dB",
        unit=YES_NO,
        better="low",
    ),
    Column(
        "decode_failures",
        "attacked streams that the decoder could not decode; they count as 0 dB in robust_psnr and are left out of the "
        "other means of attacked reconstructions",
        better="low",
    ),
    # over time, of clips alone
    Column(
        "kbps",
        "kilobits (1000 bits) per second of the real bytes at the clip's own frame rate, clean",
        "kbps",
        "kbps",
        better="low",
    ),
    Column("adv_kbps", "kilobits per second of the real bytes, attacked", "attacked kbps", "kbps", better="low"),
    Column(
        "flicker",
        "mean squared change of the error from one frame to the next, in squared grey levels (0–255), clean",
        better="low",
    ),
    Column(
        "adv_flicker",
        "flicker of the attacked reconstruction, against the clean source",
        "attacked flicker",
        better="low",
    ),
    Column("drift_last", "delta_psnr in dB of the last frame alone", "loss in the last frame", "dB", better="low"),
    Column("drift_max", "delta_psnr in dB of the worst frame alone", "loss in the worst frame", "dB", better="low"),
    Column(
        "recovery",
        "frames after the last perturbed one until each frame loses less than 0.5 dB to the attack; the mean over "
        "clips that recover, – where none does or no frame follows",
        unit="frames",
        digits=1,
        better="low",
    ),
    # of one generation of recompression
    Column(
        "previous_psnr",
        "PSNR in dB against the generation before",
        "PSNR against the generation before",
        "dB",
        better="high",
    ),
    # of one frame
    Column("frame", "the number of the frame, from 0"),
    Column("bits", "bits spent on the frame, clean", better="low"),
    Column("adv_bits", "bits spent on the frame, attacked", better="low"),
)

# of a contender: the worst case of each sample over attacks, then the mean
RANKED: Columns = RESULTS | _table(
    Column("rank", "place by robust_psnr within a data set and threat, if a strong attack was met", "#", digits=0),
    Column(
        "rank_low",
        "the best rank that the samples leave open: 1 + how many are significantly better (paired by sample, "
        "corrected by Holm for all pairs)",
        digits=0,
    ),
    Column("rank_high", "the worst rank that they leave open: how many are ranked − how many are significantly worse"),
    Column(
        "bound",
        "the damage is only a lower bound, since no attack used its own gradient or transform (through the defense, "
        "if it has one); therefore it has no rank",
    ),
    Column(
        "robust_psnr",
        "PSNR in dB against the clean source under the attack that is worst for each sample, then the mean",
        "robust PSNR",
        "dB",
        better="high",
    ),
    Column("robust_low", "lower end of the 95 % interval of robust_psnr over samples, – below five", unit="dB"),
    Column("robust_high", "upper end of the 95 % interval of robust_psnr", unit="dB"),
    Column("drop", "psnr − robust_psnr in dB", unit="dB", better="low"),
    replace(
        RESULTS["delta_own_psnr"],
        meaning="the drop in dB when each reconstruction is compared with its own input (older papers), under the same "
        "attacks",
    ),
    replace(
        RESULTS["input_linf"],
        meaning="largest change of the input in grey levels (1/255) under the attack that is worst for each sample, "
        "then the mean",
    ),
    replace(
        RESULTS["vi_db"],
        meaning="amplification of the perturbation in dB under the attack that is worst for each sample in this score, "
        "then the mean",
    ),
    replace(RESULTS["rate_ratio"], meaning="real bytes attacked / clean in the worst case of each sample, the mean"),
    replace(
        RESULTS["break_db"],
        meaning="input PSNR in dB of the smallest perturbation that broke the codec (damage of at least tau times its "
        "clean value: at tau = 2 a PSNR 3 dB lower, or twice the bits), the mean over broken samples",
    ),
    Column("unbroken", "share of samples that no attack broke", better="high"),
    Column("worst_attack", "the attack that is worst for the most samples"),
    Column("suite", "the suites that were run in full"),
    Column("attacks", "how many attacks (attack × objective × seed) the worst case is taken over"),
    Column(
        "not_run",
        "how many attacks others of the same data set and threat met and this one did not: a rank with fewer attacks "
        "is flattered",
    ),
)

# of an entry of a board; ``worst`` is what the board says it is
ENTRIES: Columns = RANKED | _table(
    replace(RANKED["threat"], meaning="what an attack may return"),
    replace(
        RANKED["rank"],
        meaning="place by score, lowest first, within one threat, if a strong attack was met; those with fewer "
        "or other attacks do not get onto a board",
    ),
    Column("entry", "the codec and what is wrapped around it"),
    Column(
        "score",
        "rate premium under attack in percent: bits under attack against those that the anchor needs, unattacked, "
        "for the same PSNR; for each sample the attack counts that raises it the most; lower is better",
        unit="%",
        better="low",
    ),
    Column("score_low", "lower end of the 95 % interval of the score over samples, – below five", unit="%"),
    Column("score_high", "upper end of the 95 % interval of the score", unit="%"),
    Column("clean_score", "the same premium without an attack", unit="%", better="low"),
    replace(RANKED["ms_ssim"], meaning="clean MS-SSIM"),
    replace(RANKED["adv_bpp"], meaning="bits per pixel of the real bytes under the attacks that the score chose"),
    replace(RANKED["adv_psnr"], meaning="PSNR in dB against the clean source under the attacks that the score chose"),
    replace(
        RANKED["input_linf"],
        meaning="largest change of the input in grey levels (1/255) under the attacks that the score chose, the mean",
    ),
    replace(
        RANKED["robust_psnr"],
        meaning="PSNR in dB against the clean source under the attack that leaves the least for each sample, the mean",
    ),
    replace(
        RANKED["vi_db"],
        meaning="amplification of the perturbation in dB under the attack that is worst in this score, the mean",
    ),
    replace(RANKED["worst_attack"], meaning="the attack, with its objective, that the score chose for most samples"),
    replace(RANKED["attacks"], meaning="how many attacks (attack × objective × access) the worst case was taken over"),
    replace(RANKED["samples"], meaning="images or clips"),
    replace(
        RANKED["decode_failures"],
        meaning="attacked streams that the decoder could not decode; 0 dB in robust_psnr",
    ),
    Column(
        "beyond",
        "yes if a PSNR lies outside the anchor's curve, which is then continued as a straight line",
    ),
    Column(
        "kind",
        "bare: attacked by its own gradients; defended: by those of the codec and through the defense; no-gradient: by "
        "queries, and by what was crafted on another codec",
    ),
    Column("measured_by", "who measured the entry"),
    Column("disputed", "how many people dispute the entry; its details say why"),
    Column("warnings", "how many cells have a warning"),
)

# of a defense against the bare codecs of a ladder
GAINS: Columns = _table(
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

# of two entries of a board
PAIRED: Columns = _table(
    ENTRIES["threat"],
    Column("one", "the entry that is ranked higher"),
    Column("other", "the entry that is ranked below it"),
    Column(
        "difference",
        "how many percent more bits the first needs under attack than the other, against what the anchor needs for "
        "the PSNR of each; paired by sample",
        unit="%",
        better="low",
    ),
    Column("low", "lower end of the 95 % interval of difference, – below five samples", unit="%"),
    Column("high", "upper end of the 95 % interval of difference", unit="%"),
    replace(ENTRIES["samples"], meaning="images or clips that both share"),
    Column("p", "probability of so large a difference if there were none", digits=4),
    Column("p_holm", "p corrected by Holm for all pairs of the threat: below 0.05 the two differ", digits=4),
)

# of a codec with or without a defense, beside :data:`GAINS`
DEFENDED: Columns = RESULTS | _table(
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


_ALL: Columns = PAIRED | DEFENDED | GAINS | ENTRIES | RESULTS


def column(name: str, table: Columns = RESULTS) -> Column:
    """What ``table``, any table, or an installed metric or objective says of a column; of others there is the name."""
    return table.get(name) or _ALL.get(name) or of_plugins().get(name) or Column(name, UNKNOWN, name)


def select(table: Columns, names: Iterable[str]) -> dict[str, Column]:
    """Those columns by name, in the order of ``names``."""
    return {name: column(name, table) for name in names}


def contributed(table: pd.DataFrame) -> list[str]:
    """The columns of a table of results that metrics and objectives brought, in their order: numbers that no table of
    this package has of itself, where any line has one.
    """
    numbers = table.select_dtypes("number")
    return [str(name) for name in numbers if name not in _ALL and numbers[name].notna().any()]


def pairs(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a metric brought: ``M`` where ``adv_M`` is there too, and that."""
    known = set(names)
    return [n for n in names if f"adv_{n}" in known or (n.startswith("adv_") and n.removeprefix("adv_") in known)]


def worst(name: str, table: Columns) -> Column:
    """A column of a ``table`` of worst cases: what a metric brought of attacked reconstructions is the score under the
    attack that is worst for each sample.
    """
    one = column(name, table)
    if name in _ALL or not name.startswith("adv_"):
        return one
    return replace(one, meaning=f"{one.meaning}, under the attack that is worst for each sample, then the mean")
