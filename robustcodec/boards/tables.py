"""Entries as tables: one line per entry and threat, ranked; and a board's README."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import WORST_IS
from robustcodec.reporting.export import best_of
from robustcodec.reporting.text import escape, to_markdown
from robustcodec.scores.columns import ENTRIES, contributed, pairs, select, worst

COLUMNS = select(
    ENTRIES,
    ["rank", "entry", "score", "score_low", "score_high", "clean_score", "bpp", "psnr", "ms_ssim", "adv_bpp"]
    + ["robust_psnr", "robust_low", "robust_high", "drop", "vi_db", "rate_ratio", "worst_attack", "attacks", "samples"]
    + ["decode_failures", "beyond", "kind", "measured_by", "disputed", "warnings"],
)
SHORT = ["rank", "entry", "score", "clean_score", "bpp", "psnr", "adv_bpp", "robust_psnr", "vi_db", "worst_attack"]
BEST = best_of(["score", "clean_score", "robust_psnr", "vi_db"])


def meanings(ranking: pd.DataFrame) -> dict[str, str]:
    """What each column of a :func:`table` means."""
    return {str(name): worst(str(name), ENTRIES).meaning for name in ranking}


def table(board: Board, entries: Sequence[Entry]) -> pd.DataFrame:
    """One line per threat and entry, those at the board's own threat first; columns ``data``, ``threat``,
    :data:`COLUMNS`, and scores of metrics that any entry was measured with. Of the numbers that entries state, see
    :func:`robustcodec.boards.score.standing`.
    """
    lines = [
        {
            "data": board.data,
            "threat": threat,
            "entry": entry.name,
            **standing,
            "kind": entry.kind,
            "measured_by": entry.measured_by,
            "disputed": len(entry.disputed),
            "warnings": sum(bool(cell.warnings) for cell in entry.cells),
        }
        for entry in entries
        for threat, standing in entry.scores.items()
    ]
    extra = pairs(dict.fromkeys(n for entry in entries for scores in entry.scores.values() for n in scores))
    columns = ["data", "threat", *COLUMNS, *(name for name in extra if name not in COLUMNS)]
    frame = pd.DataFrame(lines, columns=[name for name in columns if name != "rank"])
    frame["rank"] = frame.groupby("threat")["score"].rank(method="min").astype(int)
    frame["first"] = frame["threat"] != board.threat
    ranked = frame.sort_values(["first", "threat", "rank", "entry"], ignore_index=True)
    return ranked[columns]


def main_columns(ranking: pd.DataFrame) -> list[str]:
    """What of a :func:`table` fits onto a page: its main columns, and the scores of metrics that were asked for."""
    return ["data", "threat", *SHORT, *contributed(ranking)]


def explanation(board: Board) -> str:
    """What the score is and why it is fair, in a paragraph."""
    return (
        "The score is the rate premium under attack: how many percent more bits an entry spends under its worst attack "
        f"than the anchor ({', '.join(board.anchor)}) needs, without an attack, to show the same PSNR. Of each sample "
        f"the attack counts that {WORST_IS[board.worst]}, over every attack and access that the board asks for; its "
        "bits and its PSNR against the clean source are averaged over samples, and the anchor's bits are read off its "
        "own clean curve at that PSNR (mean over the same samples; straight lines in PSNR and log-rate between its "
        "points). Lower is better, and 0 % is the anchor unattacked. Nobody wins by spending more bits: who shows half "
        "a decibel more is charged what the anchor pays for it. Nobody wins by a poor picture either, which has little "
        "to lose: what is shown counts, not what was lost. The clean premium is the same without an attack; the "
        "difference of the two is what the attack costs. Intervals are 95 % bootstrap intervals over samples, with "
        "the same draws for entry and anchor."
    )


def short(board: Board, entries: Sequence[Entry], threat: str) -> str:
    """The ranking at ``threat`` as Markdown, its main columns; disputed entries say so."""
    whole = table(board, entries)
    lines = whole[whole["threat"] == threat]
    ends = zip(lines["score"], lines["score_low"], lines["score_high"], strict=True)
    doubted = [f"{name} (disputed)" if n else name for name, n in zip(lines["entry"], lines["disputed"], strict=True)]
    shown = lines.assign(score=[f"{s:+.1f} ({a:+.1f} to {b:+.1f})" for s, a, b in ends], entry=doubted)
    return to_markdown(shown[SHORT])


def readme(board: Board, entries: Sequence[Entry]) -> str:
    """The board as Markdown."""
    whole = table(board, entries)
    where = f"leaderboards/{board.name}"
    parts = [f"# {escape(board.title)}", escape(board.about), explanation(board)]
    for threat in dict.fromkeys(whole["threat"]):
        ranks = " (ranks)" if threat == board.threat else ""
        parts += [f"## {escape(str(threat))}{ranks}", short(board, entries, threat)]
    if not entries:
        parts.append("No entries yet.")
    doubts = [f"* {escape(e.name)}: {escape(d.why)} ({escape(d.by)}, {d.date})\n" for e in entries for d in e.disputed]
    if doubts:
        parts += ["## Disputed", "".join(doubts)]
    parts += ["## What is measured", _protocol(board), "## Reproduce, verify, submit"]
    parts.append(
        "```sh\n"
        f"robustcodec run --board {where} --codec CODEC   # and --defense DEFENSE: measures what the board asks for\n"
        f"robustcodec leaderboard add runs/{board.name} {where} --by NAME   # one file in results/\n"
        f"robustcodec leaderboard verify {where}/results/ENTRY.json   # measures a part of it again\n"
        "```"
    )
    parts += [
        "## Columns",
        "All of them are in [table.csv](table.csv).",
        "".join(f"* `{name}`: {meaning}.\n" for name, meaning in meanings(whole[whole.columns[2:]]).items()),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _protocol(board: Board) -> str:
    lines = [
        f"* Data: `{board.data}`, {len(board.samples)} samples, by their sha256 in [board.toml](board.toml).\n",
        f"* Anchor: {', '.join(f'`{codec}`' for codec in board.anchor)}, points in [anchor.csv](anchor.csv).\n",
    ]
    for kind, blocks in board.protocol.items():
        for block in blocks:
            values = "; ".join(
                f"{key} {', '.join(f'`{v}`' for v in (value if isinstance(value, list) else [value]))}"
                for key, value in block.items()
            )
            lines.append(f"* {kind}: {values}.\n")
    return "".join(lines)
