"""Stored results as tables: a leaderboard, a line per attack, Markdown, CSV, Parquet and a terminal table.

A row is one sample of one cell. Samples weigh the same in every mean, however many runs (objectives, seeds)
each was part of. The worst case over a suite is RobustBench's (Croce et al., 2021,
https://arxiv.org/abs/2010.09670); ``vi_db`` is Chen & Ma's (2023, https://arxiv.org/abs/2112.08691).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from robustcodec.errors import MissingDependency, StoreError
from robustcodec.files import write_whole
from robustcodec.reporting.text import DIGITS, escape, shown, to_markdown
from robustcodec.running import suites
from robustcodec.running.findings import Suspicion, masking
from robustcodec.scores.robustness import WORST_TOO, interval, worst_case

BOARD = ["data", "threat"]  # victims are ranked against each other inside these
VICTIM = ["codec", "defense", "access"]
RUN = ["attack", "objective", "seed"]  # what makes two attempts on the same victim different
EMPTY = "No results yet: no cell of this run has finished. Start or resume it with `robustcodec run`."

LEADERBOARD = {
    "data": "the set of images or clips",
    "threat": "what an attack may return; enforced after rounding to 8 bits",
    "rank": "by robust_psnr, inside one data set and threat",
    "codec": "name.weights",
    "defense": "what is wrapped around the codec",
    "access": "oblivious: crafted on the bare codec; adaptive: through the defense; transfer: on another codec",
    "bpp": "bits per pixel of the real bytes, clean",
    "psnr": "clean PSNR in dB, of the decoded bytes against the source",
    "ms_ssim": "clean MS-SSIM, of the decoded bytes against the source",
    "robust_psnr": "PSNR in dB against the clean source under the attack that is worst for each sample, then the mean",
    "robust_low": "lower end of the bootstrap 95 % interval of robust_psnr over samples",
    "robust_high": "upper end of that interval",
    "drop": "psnr − robust_psnr in dB",
    "vi_db": "amplification of the perturbation in dB under the attack that is worst for each sample in this score, "
    "then the mean",
    "rate_ratio": "real bytes attacked / clean, likewise",
    "break_db": "input PSNR in dB of the smallest perturbation that broke the codec (damage of at least tau times its "
    "clean value: at tau = 2 a PSNR 3 dB lower, or twice the bits), the mean over broken samples",
    "unbroken": "share of samples that nothing broke",
    "worst_attack": "the attack that is the worst for most samples",
    "suite": "the suites that were run in full",
    "attacks": "how many attacks (attack × objective × seed) the worst case is taken over",
    "not_run": "how many attacks others of the same data set and threat met and this one did not: "
    "a rank with fewer attacks is flattered",
    "samples": "how many images or clips",
    "decode_failures": "attacked streams the decoder could not decode: 0 dB in robust_psnr, left out of the "
    "other means of attacked reconstructions",
    "warnings": "what the checks found, × cells",
}

ATTACKS = {
    "data": LEADERBOARD["data"],
    "threat": LEADERBOARD["threat"],
    "objective": "what the attack maximises",
    "codec": LEADERBOARD["codec"],
    "defense": LEADERBOARD["defense"],
    "access": LEADERBOARD["access"],
    "attack": "the optimiser",
    "bpp": LEADERBOARD["bpp"],
    "psnr": LEADERBOARD["psnr"],
    "adv_bpp": "bits per pixel of the real bytes, attacked",
    "adv_psnr": "PSNR in dB of the attacked reconstruction against the clean source",
    "delta_psnr": "psnr − adv_psnr in dB: both against the clean source",
    "delta_own_psnr": "the loss in dB when each reconstruction is compared with its own input (older papers)",
    "vi_db": "amplification 10·log10(MSE of the reconstructions / MSE of the inputs) in dB",
    "vi_low": "lower end of the bootstrap 95 % interval of vi_db over samples",
    "vi_high": "upper end of that interval",
    "rate_ratio": "real bytes attacked / clean",
    "damage": "what the attack maximised, of the real bytes",
    "broken": "share of samples that it broke: damage of at least tau times its clean value (at tau = 2 a PSNR 3 dB "
    "lower, or twice the bits)",
    "break_db": "input PSNR in dB of the perturbations that broke the codec, the mean over broken samples",
    "queries": "of the oracle per sample, of gradients or of damage alone",
    "input_psnr": "PSNR in dB of the attacked input: the budget as reached after 8-bit rounding",
    "input_linf": "largest change of the input in grey levels (1/255), as reached after 8-bit rounding",
    "decode_failures": LEADERBOARD["decode_failures"],
    "samples": LEADERBOARD["samples"],
}

TEMPORAL = {  # of the attack table, where any clip has them
    "kbps": "kilobits (1000 bits) per second of the real bytes at the clip's own frame rate, clean",
    "adv_kbps": "kilobits per second of the real bytes, attacked",
    "flicker": "mean squared change of the error from one frame to the next, in squared grey levels (0–255), clean",
    "adv_flicker": "the same of the attacked reconstruction, against the clean source",
    "drift_last": "delta_psnr in dB of the last frame alone",
    "recovery": "frames after the last perturbed one until each frame loses less than 0.5 dB to the attack; the mean "
    "over clips that recover, – where none does or no frame follows",
}

_MEANS = [c for c in ATTACKS if c not in (*BOARD, *VICTIM, *RUN, "vi_low", "vi_high", "decode_failures", "samples")]
_NEEDED = ["cell", "sample", *BOARD, *VICTIM, *RUN, *_MEANS, "ms_ssim", "decode_failed", "warnings"]


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` in a fixed order; raises :class:`StoreError` for missing columns or a sample stored twice."""
    if rows.empty:
        return pd.DataFrame(columns=_NEEDED)
    if missing := [c for c in _NEEDED if c not in rows]:
        raise StoreError(
            f"these results have no column {', '.join(missing)}; expected one row per cell and sample as "
            "`robustcodec run` writes them; make the file again with this version"
        )
    if twice := int(rows.duplicated(["cell", "sample"]).sum()):
        raise StoreError(f"{twice} rows repeat a sample of a cell already there; give each cell's result once")
    return rows.sort_values(["cell", "sample"], kind="stable", ignore_index=True)


def _per_sample(group: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return group.groupby("sample")[columns].mean()


def _warnings(group: pd.DataFrame) -> str:
    """``"masked gradient ×2; …"``: each warning with the number of cells that have it."""
    cells = group.drop_duplicates("cell")["warnings"].fillna("")
    found = Counter(w for text in cells for w in {part.strip() for part in text.split(";")} if w)
    return "; ".join(f"{w} ×{n}" for w, n in sorted(found.items()))


def leaderboard(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, threat, codec, defense and access, the most robust first; columns: ``LEADERBOARD``.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    if rows.empty:
        return pd.DataFrame(columns=list(LEADERBOARD))
    worst = dict(list(worst_case(rows).groupby([*BOARD, *VICTIM])))
    others = {key: set(group[RUN].itertuples(index=False)) for key, group in rows.groupby(BOARD)}
    masked: dict[Any, set[str]] = defaultdict(set)
    for suspicion in masking(rows):
        masked[suspicion.victim].add(suspicion.what)
    lines: list[dict[Any, Any]] = []
    for key, group in rows.groupby([*BOARD, *VICTIM]):
        clean = _per_sample(group, ["bpp", "psnr", "ms_ssim"]).mean()
        robust = interval(worst[key]["robust_psnr"])
        met = set(group[RUN].itertuples(index=False))
        names = Counter(worst[key]["worst_attack"].dropna())
        lines.append(
            dict(zip([*BOARD, *VICTIM], key, strict=True))
            | clean.to_dict()
            | worst[key][list(WORST_TOO)].mean().to_dict()
            | {
                "robust_psnr": robust.mean,
                "robust_low": robust.low,
                "robust_high": robust.high,
                "drop": clean["psnr"] - robust.mean,
                "worst_attack": min(names, key=lambda name: (-names[name], name), default="–"),
                "unbroken": float(worst[key]["break_db"].isna().mean()),
                "suite": ", ".join(suites.complete({(run[0], run[1]) for run in met})) or "–",
                "attacks": len(met),
                "not_run": len(others[key[:2]] - met),
                "samples": group["sample"].nunique(),
                "decode_failures": int(group["decode_failed"].sum()),
                "warnings": "; ".join(filter(None, [_warnings(group), *sorted(masked[key])])),
            }
        )
    board = pd.DataFrame(lines).sort_values(
        [*BOARD, "robust_psnr", *VICTIM], ascending=[True, True, False, True, True, True], ignore_index=True
    )
    board["rank"] = board.groupby(BOARD)["robust_psnr"].rank(method="min", ascending=False, na_option="bottom")
    board["rank"] = board["rank"].astype(int)
    return board[list(LEADERBOARD)]


def attack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, threat, objective, codec, defense, access and attack; columns: ``ATTACKS``, then those of
    ``TEMPORAL`` that have a value in any row.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    temporal = [c for c in TEMPORAL if c in rows and rows[c].notna().any()]
    keys = [*BOARD, "objective", *VICTIM, "attack"]
    lines: list[dict[Any, Any]] = []
    for key, group in rows.groupby(keys):
        samples = _per_sample(group, [*_MEANS, *temporal])
        vi = interval(samples["vi_db"])
        lines.append(
            dict(zip(keys, key, strict=True))
            | samples.mean().to_dict()
            | {
                "vi_low": vi.low,
                "vi_high": vi.high,
                "decode_failures": int(group["decode_failed"].sum()),
                "samples": len(samples),
            }
        )
    return pd.DataFrame(lines, columns=[*ATTACKS, *temporal])


def victim(codec: str, defense: str, access: str) -> str:
    """A short name: the codec, the defense if any, the access where it makes a difference."""
    defended = defense != "none"
    name = f"{codec} + {defense}" if defended else codec
    return f"{name} ({access})" if defended or access.startswith("transfer:") else name


def vi_matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean ``vi_db``: a row per codec (with its defense), a column per attack and threat; NaN where not run.

    The objective and the data set are named only where there are several, which are never averaged together.
    """
    rows = checked(rows)
    several = {axis: rows[axis].nunique() > 1 for axis in ("objective", "data")}
    labelled = pd.DataFrame(
        {
            "codec": [victim(*key) for key in rows[VICTIM].itertuples(index=False)],
            "attack": rows["attack"] + (", " + rows["objective"] if several["objective"] else ""),
            "threat": rows["threat"] + (", " + rows["data"] if several["data"] else ""),
            "vi_db": rows["vi_db"].astype(float),
        }
    )
    return labelled.pivot_table(index="codec", columns=["attack", "threat"], values="vi_db", aggfunc="mean")


def _sections(table: pd.DataFrame) -> Iterable[str]:
    for (data, threat), group in table.groupby(BOARD):
        still = [c for c in TEMPORAL if c in group and group[c].isna().all()]  # images beside clips
        yield f"### {escape(str(data))}, {escape(str(threat))}\n\n{to_markdown(group.drop(columns=[*BOARD, *still]))}"


def _meanings(columns: dict[str, str]) -> str:
    return "".join(f"* `{name}`: {meaning}.\n" for name, meaning in columns.items())


def _signs(suspicions: Iterable[Suspicion]) -> Iterable[str]:
    lines = [f"* {escape(str(suspicion))}.\n" for suspicion in suspicions]
    if lines:
        yield "# Signs of gradient masking\n\n" + "".join(lines)


def markdown(board: pd.DataFrame, attacks: pd.DataFrame, suspicions: Iterable[Suspicion] = ()) -> str:
    """A :func:`leaderboard` and an :func:`attack_table` with what each column means, or that there is nothing yet."""
    if board.empty:
        return f"# Leaderboard\n\n{EMPTY}\n"
    parts = [
        "# Leaderboard",
        "Rates are real bytes, and reconstructions are decoded from those bytes alone. Budgets are as reached "
        "after the attacked input was rounded to 8 bits. Higher robust_psnr is better.",
        *_sections(board),
        _meanings(LEADERBOARD),
        "# Attacks",
        *_sections(attacks),
        *_signs(suspicions),
        _meanings(ATTACKS | {c: meaning for c, meaning in TEMPORAL.items() if c in attacks}),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _parquet(rows: pd.DataFrame) -> bytes:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"results.parquet needs pyarrow, which cannot be imported here ({error}); the tables are written. "
            "pyarrow 26 and later need NumPy 2: pip install 'pyarrow>=15,<26'"
        ) from error
    buffer = BytesIO()
    rows.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def write(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv``, ``attacks.csv`` and ``results.parquet``; the same rows, in any
    order, give the same bytes.

    Raises :class:`StoreError` (rows that are not results, a folder that cannot be written) and, after the tables
    are written, :class:`MissingDependency` without a working pyarrow.
    """
    rows = checked(rows)
    board, attacks = leaderboard(rows), attack_table(rows)
    texts = {
        "leaderboard.md": markdown(board, attacks, masking(rows)),
        "leaderboard.csv": board.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        "attacks.csv": attacks.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    write_whole(folder / "results.parquet", _parquet(rows))
    return [folder / name for name in (*texts, "results.parquet")]


def terminal_table(board: pd.DataFrame) -> Table:
    """A :func:`leaderboard` for a terminal of 100 columns or more; nothing is said by colour alone."""
    title = "Leaderboard: robust = mean PSNR under each sample's worst attack"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("codec + defense", overflow="fold")
    for name in ("bpp", "PSNR", "robust", "95 %", "drop", "VI dB", "rate×"):
        table.add_column(name, justify="right", no_wrap=True, style="bold" if name == "robust" else None)
    table.add_column("worst attack", overflow="fold", max_width=12)
    for name in ("met", "n", "!"):
        table.add_column(name, justify="right", no_wrap=True)
    for (data, threat), group in board.groupby(BOARD):
        table.add_section()
        table.add_row("", Text(f"{data}, {threat}", style="bold"))
        for line in group.to_dict("records"):
            table.add_row(
                str(line["rank"]),
                Text(victim(line["codec"], line["defense"], line["access"]).replace(" + ", "\n+ ")),
                *(shown(line[name], DIGITS.get(name, 2)) for name in ("bpp", "psnr", "robust_psnr")),
                f"{shown(line['robust_low'], 1)}–{shown(line['robust_high'], 1)}",
                *(shown(line[name]) for name in ("drop", "vi_db", "rate_ratio")),
                Text(line["worst_attack"]),
                f"{line['attacks']}" + (f"/{line['attacks'] + line['not_run']}" if line["not_run"] else ""),
                str(line["samples"]),
                str(len(line["warnings"].split("; ")) if line["warnings"] else ""),
            )
    legend = "met: attacks, of those others met; n: samples; !: kinds of warnings, see leaderboard.md"
    table.caption, table.caption_justify = legend if len(board) else EMPTY, "left"
    return table
