"""Stored results as tables: a leaderboard, a line per attack, Markdown, CSV, Parquet and a terminal table.

A row is one sample of one cell. Samples weigh the same in every mean, however many runs (objectives, seeds)
each was part of. The worst case over a suite is RobustBench's (Croce et al., 2021,
https://arxiv.org/abs/2010.09670); ``vi_db`` is Chen & Ma's (2023, https://arxiv.org/abs/2112.08691).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from robustcodec.errors import MissingDependency, StoreError
from robustcodec.files import write_whole
from robustcodec.interfaces import Column
from robustcodec.reporting.text import bounded, code, ends, escape, place, shown, spread, to_csv, to_markdown
from robustcodec.running import suites
from robustcodec.running.findings import Suspicion, masking
from robustcodec.running.grid import Cell
from robustcodec.running.store import with_precision
from robustcodec.scores import ranks
from robustcodec.scores.columns import RANKED, RESULTS, Columns, column, contributed, pairs, select, worst
from robustcodec.scores.intervals import TOO_FEW, interval
from robustcodec.scores.robustness import BOARD, CONTENDER, WORST_OF, WORST_TOO, worst_case, worst_rows
from robustcodec.scores.strength import BOUND, met_strong

RUN = ["attack", "objective", "precision", "seed"]  # what makes two attempts on the same contender different
EMPTY = "No results yet: no cell of this run has finished. Start or resume it with `robustcodec run`."

LEADERBOARD = select(
    RANKED,
    [*BOARD, *ranks.RANKS, *CONTENDER, "bpp", "psnr", "ms_ssim", "robust_psnr", "robust_low", "robust_high", "bound"]
    + ["drop", "delta_own_psnr", "vi_db", "rate_ratio", "break_db", "unbroken", "input_linf", "worst_attack", "suite"]
    + ["attacks", "not_run", "samples", "decode_failures", "warnings"],
)
ATTACKS = select(
    RESULTS,
    [*BOARD, "objective", *CONTENDER, "attack", "bpp", "psnr", "adv_bpp", "adv_psnr", "delta_psnr", "delta_own_psnr"]
    + ["vi_db", "vi_low", "vi_high", "rate_ratio", "damage", "broken", "break_db", "queries", "input_psnr"]
    + ["input_linf", "decode_failures", "samples"],
)
TEMPORAL = select(  # of the attack table, where any clip has them
    RESULTS, ["kbps", "adv_kbps", "flicker", "adv_flicker", "drift_last", "recovery"]
)

_MEANS = [c for c in ATTACKS if c not in (*BOARD, *CONTENDER, *RUN, "vi_low", "vi_high", "decode_failures", "samples")]
_OWN = [axis for axis in RUN if axis != "precision"]  # older results are of the only precision that there was
_NEEDED = ["cell", "sample", *BOARD, *CONTENDER, *_OWN, *_MEANS, "ms_ssim", "decode_failed", "warnings"]


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` in a fixed order, with their ``precision``.

    Raises :class:`StoreError` for missing columns or a sample stored twice.
    """
    if rows.empty:
        return pd.DataFrame(columns=_NEEDED)
    if missing := [c for c in _NEEDED if c not in rows]:
        raise StoreError(
            f"these results have no column {', '.join(missing)}; expected one row per cell and sample as "
            "`robustcodec run` writes them; make the file again with this version"
        )
    if twice := int(rows.duplicated(["cell", "sample"]).sum()):
        raise StoreError(f"{twice} rows repeat a sample of a cell already there; give each cell's result once")
    return with_precision(rows).sort_values(["cell", "sample"], kind="stable", ignore_index=True)


def says_precision(rows: pd.DataFrame) -> bool:
    """Whether tables of ``rows`` say the precision: where any attack was crafted in another one than is usual."""
    return bool((rows["precision"] != Cell.precision).any())


def _saying_precision(columns: Iterable[str], rows: pd.DataFrame, after: str) -> list[str]:
    names = list(columns)
    if says_precision(rows):
        names.insert(names.index(after) + 1, "precision")
    return names


def _per_sample(group: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return group.groupby("sample")[columns].mean()


def _warnings(group: pd.DataFrame) -> str:
    """``"masked gradient ×2; …"``: each warning with the number of cells that have it."""
    cells = group.drop_duplicates("cell")["warnings"].fillna("")
    counts = Counter(w for text in cells for w in {part.strip() for part in text.split(";")} if w)
    return "; ".join(f"{w} ×{n}" for w, n in sorted(counts.items()))


def leaderboard(rows: pd.DataFrame, suspicions: Iterable[Suspicion] | None = None) -> pd.DataFrame:
    """One line per data set, threat, codec, defense and access, the most robust first, then those that met no strong
    attack: their damage is a lower bound, and they have no rank.

    Columns: ``LEADERBOARD``, ``precision`` where not all attacks were crafted in float32, and of each metric that was
    asked for its clean mean and its mean under each sample's worst attack. ``suspicions``: what :func:`masking` finds
    in these rows, if at hand. The leaderboards of :mod:`robustcodec.boards`, with their entries and their own score,
    are something else.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    if rows.empty:
        return pd.DataFrame(columns=list(LEADERBOARD))
    worst_of = dict(list(worst_case(rows).groupby([*BOARD, *CONTENDER])))
    scores = pairs(contributed(rows))
    attacked = [name for name in scores if name.startswith("adv_")]
    worst_attacks = dict(list(worst_rows(rows, WORST_OF).groupby([*BOARD, *CONTENDER])))
    others = {key: set(group[RUN].itertuples(index=False)) for key, group in rows.groupby(BOARD)}
    masked: dict[Any, set[str]] = defaultdict(set)
    for suspicion in masking(rows) if suspicions is None else suspicions:
        masked[suspicion.contender].add(suspicion.what)
    lines: list[dict[Any, Any]] = []
    for key, group in rows.groupby([*BOARD, *CONTENDER]):
        clean = _per_sample(group, ["bpp", "psnr", "ms_ssim", *(c for c in scores if c not in attacked)]).mean()
        robust = interval(worst_of[key].set_index("sample")["robust_psnr"])
        attempts = set(group[RUN].itertuples(index=False))
        names = Counter(worst_of[key]["worst_attack"].dropna())
        lines.append(
            dict(zip([*BOARD, *CONTENDER], key, strict=True))
            | clean.to_dict()
            | worst_of[key][list(WORST_TOO)].mean().to_dict()
            | worst_attacks[key][["delta_own_psnr", "input_linf", *attacked]].mean().to_dict()
            | {
                "robust_psnr": robust.mean,
                "robust_low": robust.low,
                "robust_high": robust.high,
                "bound": "" if met_strong(group) else BOUND,
                "drop": clean["psnr"] - robust.mean,
                "worst_attack": min(names, key=lambda name: (-names[name], name), default="–"),
                "unbroken": float(worst_of[key]["break_db"].isna().mean()),
                "precision": ", ".join(sorted(set(group["precision"]))),
                "suite": ", ".join(suites.complete({(run[0], run[1]) for run in attempts})) or "–",
                "attacks": len(attempts),
                "not_run": len(others[key[:2]] - attempts),
                "samples": group["sample"].nunique(),
                "decode_failures": int(group["decode_failed"].sum()),
                "warnings": "; ".join(filter(None, [_warnings(group), *sorted(masked[key])])),
            }
        )
    board = _ranked(pd.DataFrame(lines), {key: of.set_index("sample")["robust_psnr"] for key, of in worst_of.items()})
    return board[[*_saying_precision(LEADERBOARD, rows, "worst_attack"), *scores]]


def _ranked(lines: pd.DataFrame, robust: dict[Any, pd.Series[float]]) -> pd.DataFrame:
    """``lines`` in their order, with the ranks of those that are no lower bounds. ``robust``: PSNR by sample of each
    data set, threat and contender.
    """
    keys = [*BOARD, *CONTENDER]
    rising = [True, True, True, False, True, True, True]
    lines = lines.sort_values([*BOARD, "bound", "robust_psnr", *CONTENDER], ascending=rising, ignore_index=True)
    places = [pd.DataFrame(columns=ranks.RANKS)]
    for _, group in lines[lines["bound"] != BOUND].groupby(BOARD):
        names = dict(zip(map(str, group.index), group[keys].itertuples(index=False, name=None), strict=True))
        tested = ranks.pairs(list(names), ranks.paired({name: robust[key] for name, key in names.items()}))
        found = ranks.ranks(dict(zip(names, group["robust_psnr"], strict=True)), tested, "high")
        places.append(found.set_axis(group.index))
    return lines.join(pd.concat(places).astype("Int64"))


def attack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, threat, objective, codec, defense, access, attack and precision.

    Columns: ``ATTACKS`` (and ``precision`` where it is not float32 alone), then those of ``TEMPORAL`` that have a value
    in any row, then those of metrics that were asked for and of objectives that have scores of their own.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    if rows.empty:
        return pd.DataFrame(columns=list(ATTACKS))
    temporal = [c for c in TEMPORAL if c in rows and rows[c].notna().any()]
    extra = [*temporal, *contributed(rows)]
    keys = [*BOARD, "objective", *CONTENDER, "attack", "precision"]
    samples = rows.groupby([*keys, "sample"])[[*_MEANS, *extra]].mean()  # all at once: there may be thousands
    lines = samples.groupby(level=keys).mean()
    by_line = samples.reset_index(keys)["vi_db"].groupby(samples.groupby(level=keys).ngroup().to_numpy())
    intervals = [interval(group) for _, group in by_line]
    lines["vi_low"], lines["vi_high"] = [each.low for each in intervals], [each.high for each in intervals]
    lines["decode_failures"] = rows.groupby(keys)["decode_failed"].sum().astype(int)
    lines["samples"] = samples.groupby(level=keys).size()
    return lines.reset_index()[[*_saying_precision(ATTACKS, rows, "attack"), *extra]]


def label_of(codec: str, defense: str, access: str) -> str:
    """A short name of a contender: the codec, the defense if any, the access where it makes a difference."""
    defended = defense != "none"
    name = f"{codec} + {defense}" if defended else codec
    return f"{name} ({access})" if defended or access.startswith("transfer:") else name


def _sections(table: pd.DataFrame, always: Columns) -> Iterable[str]:
    """A table per data set and threat, without columns that have no number there and are not ``always`` shown."""
    for (data, threat), group in table.groupby(BOARD):
        if "bound" in group:
            group = bounded(group).assign(rank=[place(line) for line in group.to_dict("records")])
            group = group.drop(columns=["rank_low", "rank_high"])
        unused = [c for c in group if c not in always and group[c].isna().all()]  # images beside clips
        yield f"### {escape(str(data))}, {escape(str(threat))}\n\n{to_markdown(group.drop(columns=[*BOARD, *unused]))}"


def _meanings(columns: Iterable[Column]) -> str:
    return "".join(f"* {code(column.name)}: {escape(column.meaning)}.\n" for column in columns)


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
        "after the attacked input was rounded to 8 bits. Higher robust_psnr is better. A rank stands with the interval "
        "that the samples leave open; what met no strong attack has a lower bound of damage (≥) and no rank.",
        *_sections(board, LEADERBOARD),
        _meanings(worst(str(name), RANKED) for name in board),
        "# Attacks",
        *_sections(attacks, ATTACKS),
        *_signs(suspicions),
        _meanings(column(str(name)) for name in attacks),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def parquet(frame: pd.DataFrame, otherwise: str) -> bytes:
    """``frame`` as a Parquet file; raises :class:`MissingDependency`, which says what is there ``otherwise``."""
    buffer = BytesIO()
    try:
        frame.to_parquet(buffer, engine="pyarrow", index=False)
    except ImportError as error:
        raise MissingDependency(
            f"Parquet needs pyarrow, which cannot be imported here ({error}); {otherwise}. pyarrow 26 and later need "
            "NumPy 2: pip install 'pyarrow>=15,<26'"
        ) from error
    return buffer.getvalue()


@dataclass(frozen=True)
class Tables:
    """The tables of some rows: :func:`leaderboard`, :func:`attack_table` and :func:`masking`."""

    board: pd.DataFrame
    attacks: pd.DataFrame
    suspicions: list[Suspicion]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Tables:
        """Raises :class:`StoreError` for rows that are not results."""
        rows = checked(rows)
        suspicions = masking(rows)
        return cls(leaderboard(rows, suspicions), attack_table(rows), suspicions)


def write(rows: pd.DataFrame, folder: Path, tables: Tables | None = None) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv``, ``attacks.csv`` and ``results.parquet``; the same rows, in any
    order, give the same bytes. ``tables``: those of the rows, if at hand.

    Raises :class:`StoreError` (rows that are not results, a folder that cannot be written) and, after the tables
    are written, :class:`MissingDependency` without a working pyarrow.
    """
    rows, tables = checked(rows), tables or Tables.of(rows)
    board, attacks = tables.board, tables.attacks
    texts = {
        "leaderboard.md": markdown(board, attacks, tables.suspicions),
        "leaderboard.csv": to_csv(board, "%.6g"),
        "attacks.csv": to_csv(attacks, "%.6g"),
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    write_whole(folder / "results.parquet", parquet(rows, "the tables are written"))
    return [folder / name for name in (*texts, "results.parquet")]


def terminal_table(board: pd.DataFrame) -> Table:
    """A :func:`leaderboard` for a terminal of 100 columns or more; nothing is said by colour alone."""
    title = "Leaderboard: robust = mean PSNR under each sample's worst attack"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("codec + defense", overflow="fold")
    labels = {name: column(name).label for name in ("bpp", "psnr", "drop", "vi_db", "rate_ratio", "worst_attack")}
    *numbers, worst = labels.values()
    for name in (*numbers[:2], "robust", "95 %", *numbers[2:]):
        table.add_column(name, justify="right", no_wrap=True, style="bold" if name == "robust" else None)
    table.add_column(worst, overflow="fold", max_width=10)
    for name in ("met", "n", "!"):
        table.add_column(name, justify="right", no_wrap=True)
    for (data, threat), group in board.groupby(BOARD):
        table.add_section()
        table.add_row("", Text(f"{data}, {threat}", style="bold"))
        for line, signed in zip(group.to_dict("records"), bounded(group).to_dict("records"), strict=True):
            table.add_row(
                spread(line),
                Text(label_of(line["codec"], line["defense"], line["access"]).replace(" + ", "\n+ ")),
                *(shown(signed[name], column(name).digits) for name in ("bpp", "psnr", "robust_psnr")),
                ends(line["robust_low"], line["robust_high"], 1).replace(" to ", "–").replace(TOO_FEW, "n < 5"),
                *(shown(signed[name], column(name).digits) for name in ("drop", "vi_db", "rate_ratio")),
                Text(line["worst_attack"]),
                f"{line['attacks']}" + (f"/{line['attacks'] + line['not_run']}" if line["not_run"] else ""),
                str(line["samples"]),
                kinds_of_warnings(line),
            )
    legend = (
        "#: the ranks that the samples leave open; –, ≥, ≤: a lower bound of damage, nothing strong attacked it\n"
        "met: attacks, of those others met; n: samples; !: kinds of warnings, see leaderboard.md"
    )
    table.caption, table.caption_justify = legend if len(board) else EMPTY, "left"
    return table


def kinds_of_warnings(line: Mapping[Any, Any]) -> str:
    """How many kinds a line of a :func:`leaderboard` has; empty for none."""
    return str(len(line["warnings"].split("; "))) if line["warnings"] else ""


def terminal_scores(attacks: pd.DataFrame) -> Table | None:
    """What metrics and objectives brought into an :func:`attack_table`, for a terminal; None where they brought
    nothing. One line per attack.
    """
    names = contributed(attacks)
    if not names:
        return None
    table = Table(title="Other scores", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("codec + defense", "attack, objective"):
        table.add_column(head, overflow="fold")
    for name in names:
        table.add_column(Text(column(name).title), justify="right")
    for (data, threat), group in attacks.groupby(BOARD):
        table.add_section()
        table.add_row(Text(f"{data}, {threat}", style="bold"))
        for line in group.to_dict("records"):
            attempt = ", ".join(line[axis] for axis in ("attack", "objective", "precision") if axis in line)
            contender = label_of(line["codec"], line["defense"], line["access"])
            scores = (shown(line[name], column(name).digits) for name in names)
            table.add_row(Text(contender), Text(attempt), *scores)
    return table
