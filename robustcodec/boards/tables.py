"""A board as Markdown: what the score is, who stands where, who is better than whom, and how to take part."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from robustcodec.boards.board import REACH, Board
from robustcodec.boards.entry import Entry
from robustcodec.boards.ranking import Ranking, short_columns
from robustcodec.errors import counted
from robustcodec.reporting.export import best_of
from robustcodec.reporting.text import bounded, code, ends, escape, place, to_markdown
from robustcodec.scores.columns import ENTRIES, PAIRED, worst
from robustcodec.scores.intervals import LEVEL

BEST = best_of(["score", "clean_score", "robust_psnr", "vi_db"])
UNRANKED = (
    "Lower bounds of damage, not ranked: what these met were queries and what was crafted on other codecs (or, of a "
    "defended codec, on the bare one), so the worst case is at least as bad."
)

FOUND_BY_OTHERS = (
    "Clips that others submitted and that hurt an entry more than the suite did, measured from real bytes. Ranks stay "
    "by the suite, which all entries met alike. The clips are in breaks/, as what they change of their samples."
)


def meanings(table: pd.DataFrame) -> dict[str, str]:
    """What each column of a table of entries means."""
    return {str(name): worst(str(name), ENTRIES).meaning for name in table}


def explanation(board: Board) -> str:
    """What the score is, and how fair, in a paragraph."""
    return (
        "The score is the rate premium under attack: how many percent more bits an entry spends under its worst attack "
        f"than the anchor ({', '.join(board.anchor)}) needs, without an attack, to show the same PSNR. Of each sample "
        "the attack counts that raises the score the most, over every attack and access that the board asks for; bits "
        "and PSNR against the clean source are averaged over samples, and the anchor's bits are read off its own clean "
        "curve at that PSNR (mean over the same samples; straight lines in PSNR and log-rate between its points). "
        "Lower is better, and 0 % is the anchor unattacked. Nobody wins by spending more bits: who shows half "
        "a decibel more is charged what the anchor pays for it. But an attack takes less from a poorer picture, so of "
        "one codec the lower rate often has the lower premium: compare entries of like PSNR, or a codec's rates "
        "together. The clean premium is the same without an attack; the difference of the two is what the attack "
        "costs. Intervals are at 95 %: the jackknife over samples, entry and "
        "anchor without the same one, and Student's t; below five samples there is none. A rank is an interval too, "
        "in parentheses where samples leave it open: 1 + the number of entries that are significantly better to the "
        "number of ranked ones − those that are significantly worse (paired by sample, corrected by Holm for all "
        "pairs)."
    )


def scored(board: Board) -> str:
    """What the score is, in a sentence, with its unit and what attacks aim at."""
    anchor = ", ".join(dict.fromkeys(name.partition(":")[0] for name in board.anchor))
    aims = ", ".join(sorted(board.objectives))
    return (
        f"Score (%): under its worst attack an entry spends that many percent more bits than {anchor}, unattacked, "
        f"needs for the same PSNR (95 % interval). Lower is better. Attacks aim at {aims}."
    )


def strength(board: Board) -> str:
    """How strong the board's attacks are, in a sentence; nothing where that was not measured."""
    if (table := board.reach) is None:
        return ""
    codecs, samples = table["codec"].nunique(), int(table["samples"].max())
    return (
        f"How strong are these attacks? Where longer and changed attacks were tried as well (robustcodec audit, "
        f"{counted(samples, 'sample')} of {counted(codecs, 'codec')}), the mean loss of PSNR was "
        f"{table['ratio'].mean():.2f} times what these attacks take, and {table['ratio'].max():.2f} times at most. "
        "1.00 is the best there is."
    )


def short(board: Board, ranking: Ranking, threat: str) -> str:
    """The ranking at ``threat`` as Markdown, its main columns, then lower bounds; disputed entries say so."""
    ranked, bounds = (ranking.at(threat, bounds) for bounds in (False, True))
    parts = [to_markdown(_printed(ranked)[short_columns(ranked)])] if len(ranked) else []
    parts += [UNRANKED + "\n", to_markdown(_printed(bounds)[short_columns(bounds)[1:]])] if len(bounds) else []
    return "\n".join(parts)


def _printed(lines: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the main columns as text, where they are more than a number."""
    intervals = zip(lines["score"], lines["score_low"], lines["score_high"], strict=True)
    doubted = [f"{name} (disputed)" if n else name for name, n in zip(lines["entry"], lines["disputed"], strict=True)]
    scores = [f"{score:+.1f} ({ends(low, high, 1, '+')})" for score, low, high in intervals]
    if "best_known" in lines:
        lines = lines.assign(best_known=["–" if pd.isna(score) else f"{score:+.1f}" for score in lines["best_known"]])
    return bounded(lines.assign(score=scores, entry=doubted, rank=[place(line) for line in lines.to_dict("records")]))


def neighbours(ranking: Ranking, threat: str) -> str:
    """Each ranked entry against the one behind it, as Markdown; nothing where there is one alone."""
    names = list(ranking.at(threat, bounds=False)["entry"])
    pairs = ranking.pairs[ranking.pairs["threat"] == threat].set_index(["one", "other"])
    shown = pairs.loc[list(zip(names, names[1:], strict=False))].reset_index().drop(columns="threat")
    if shown.empty:
        return ""
    decided = int((pairs["p_holm"] < 1 - LEVEL).sum())
    return f"{to_markdown(shown)}\nOf all {len(pairs)} pairs {decided} differ significantly.\n"


def readme(board: Board, entries: Sequence[Entry], ranking: Ranking) -> str:
    """The board as Markdown."""
    where = shlex.quote(f"leaderboards/{board.name}")
    threats = list(dict.fromkeys(map(str, ranking.table["threat"])))
    parts = [f"# {escape(board.title)}", escape(board.about), escape(explanation(board))]
    if said := strength(board):
        parts.append(f"{escape(said)} Each codec is in [{REACH}]({REACH}).")
    for threat in threats:
        ranks = " (ranks)" if threat == board.threat else ""
        parts += [f"## {escape(threat)}{ranks}", short(board, ranking, threat)]
    if not entries:
        parts.append("No entries yet.")
    doubts = [
        f"* {escape(e.name)}: {escape(d.why)} ({escape(d.by)}, {escape(d.date)})\n" for e in entries for d in e.disputed
    ]
    if doubts:
        parts += ["## Disputed", "".join(doubts)]
    if found := found_lines(ranking):
        items = "".join(f"* {escape(name)}, {escape(line)}\n" for name, lines in found.items() for line in lines)
        parts += ["## Best known", FOUND_BY_OTHERS, items]
    if compared := [(threat, text) for threat in threats if (text := neighbours(ranking, threat))]:
        parts += ["## Neighbours in the ranking", "All pairs are in [pairs.csv](pairs.csv)."]
        parts += [part for threat, text in compared for part in (f"### {escape(threat)}", text)]
    parts += ["## What is measured", _protocol(board), "## Reproduce, verify, submit"]
    parts.append(
        "```sh\n"
        f"robustcodec run --board {where} --codec CODEC   # and --defense DEFENSE: measures what the board asks for\n"
        f"robustcodec leaderboard add {shlex.quote(f'runs/{board.name}')} {where} --by NAME   # one file in results/\n"
        f"robustcodec leaderboard verify {where}/results/ENTRY.json   # measures a part of it again\n"
        f"robustcodec leaderboard break {where} CLIPS --entry ENTRY --by NAME --how HOW   # clips that hurt it more\n"
        "```"
    )
    about = meanings(ranking.table[ranking.table.columns[2:]])
    about |= {f"{name} (of pairs)": column.meaning for name, column in PAIRED.items() if name != "threat"}
    parts += [
        "## Columns",
        "All of them are in [table.csv](table.csv).",
        "".join(f"* {code(name)}: {escape(meaning)}.\n" for name, meaning in about.items()),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def found_lines(ranking: Ranking) -> dict[str, list[str]]:
    """By entry, a line for each threat and each one who found damage beyond its suite's."""
    lines: dict[str, list[str]] = {}
    for name, by_threat in ranking.known.items():
        for threat, known in by_threat.items():
            score = f"{threat}: {known.score:+.1f} in the place of {known.suite:+.1f}"
            for (by, date, how), count in Counter((each.by, each.date, each.how) for each in known.breaks).items():
                of = f"{count} of {counted(known.samples, 'sample')}"
                lines.setdefault(name, []).append(f"{score}; on {of} found by {by}, {date}: {how}")
    return lines


def _protocol(board: Board) -> str:
    lines = [
        f"* Data: {code(board.data)}, {counted(len(board.samples), 'sample')}, "
        "by their sha256 in [board.toml](board.toml).\n",
        f"* Anchor: {', '.join(map(code, board.anchor))}, points in [anchor.csv](anchor.csv).\n",
    ]
    for kind, blocks in board.protocol.items():
        for block in blocks:
            values = "; ".join(
                f"{key} {', '.join(code(str(v)) for v in (value if isinstance(value, list) else [value]))}"
                for key, value in block.items()
            )
            lines.append(f"* {kind}: {values}.\n")
    return "".join(lines)
