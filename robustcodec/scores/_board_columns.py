"""The columns of boards: of an entry, and of two of them."""

from __future__ import annotations

from dataclasses import replace

from robustcodec.interfaces import Column
from robustcodec.scores._result_columns import RANKED, Columns, table

# of an entry of a board; ``worst`` is what the board says it is
ENTRIES: Columns = RANKED | table(
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
        "bare: attacked by its own gradients; defended: by those of the codec and through the defense; transform: by "
        "crossing rounding boundaries of the transform that the codec states; no-gradient: by queries, and by what was "
        "crafted on another codec",
    ),
    Column("measured_by", "who measured the entry"),
    Column(
        "best_known",
        "the score with clips that others found to do more damage than the suite, where there are any; ranks stay by "
        "the suite",
        "best known",
        "%",
        better="low",
    ),
    Column(
        "best_known_psnr",
        "robust_psnr with those clips: the least PSNR in dB of each sample under anything that is known, the mean",
        "best known robust PSNR",
        "dB",
        better="high",
    ),
    Column("found_by", "who found those clips"),
    Column("found_on", "on how many samples they did"),
    Column("disputed", "how many people dispute the entry; its details say why"),
    Column("warnings", "how many cells have a warning"),
)

# of two entries of a board
PAIRED: Columns = table(
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
