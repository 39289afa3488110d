"""The columns of results: of a sample under one attack, and of a contender under its worst one."""

from __future__ import annotations

from dataclasses import replace

from robustcodec.interfaces import YES_NO, Column
from robustcodec.scores import metrics

Columns = dict[str, Column]


def table(*columns: Column) -> Columns:
    """By name."""
    return {column.name: column for column in columns}


# of a sample under one attack, and their means over samples
RESULTS: Columns = table(
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
RANKED: Columns = RESULTS | table(
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
