"""Entries as tables: one line per entry and threat, ranked; and a board's README."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import WORST_IS
from robustcodec.reporting.export import Better
from robustcodec.reporting.text import escape, to_markdown

COLUMNS = {
    "rank": "by score, lowest first, inside one threat; entries with fewer or other attacks do not get onto a board",
    "entry": "the codec and what is wrapped around it",
    "score": "rate premium under attack in percent: bits under the worst attack against those that the anchor needs, "
    "unattacked, for the same PSNR; lower is better",
    "score_low": "lower end of its bootstrap 95 % interval over samples",
    "score_high": "upper end of it",
    "clean_score": "the same premium without an attack",
    "bpp": "bits per pixel of the real bytes, clean",
    "psnr": "clean PSNR in dB, of the decoded bytes against the source",
    "ms_ssim": "clean MS-SSIM",
    "adv_bpp": "bits per pixel of the real bytes under each sample's worst attack",
    "robust_psnr": "PSNR in dB against the clean source under each sample's worst attack, the mean over samples",
    "robust_low": "lower end of its bootstrap 95 % interval",
    "robust_high": "upper end of it",
    "drop": "psnr − robust_psnr in dB",
    "vi_db": "amplification of the perturbation in dB under the attack that is worst in this score, the mean",
    "rate_ratio": "real bytes attacked / clean, likewise",
    "worst_attack": "the attack, with its objective, that is the worst for most samples",
    "attacks": "over how many attacks (attack × objective × access) the worst case was taken",
    "samples": "images or clips",
    "decode_failures": "attacked streams that the decoder could not decode; 0 dB in robust_psnr",
    "beyond": "yes if a PSNR lies outside the anchor's curve, which is then continued as a straight line",
    "kind": "bare: gradients of the codec; defended: of the codec and through the defense; no-gradient: queries, and "
    "what was crafted on another codec",
    "measured_by": "who measured the entry",
    "disputed": "how many people dispute it; why is in its details",
    "warnings": "how many cells have one",
}
SHORT = ["rank", "entry", "score", "clean_score", "bpp", "psnr", "adv_bpp", "robust_psnr", "vi_db", "worst_attack"]


BEST: Better = {"score": "low", "clean_score": "low", "robust_psnr": "high", "vi_db": "low"}


def table(board: Board, entries: Sequence[Entry]) -> pd.DataFrame:
    """One line per threat and entry, those at the board's own threat first; columns ``data``, ``threat``,
    :data:`COLUMNS`. Of the numbers that entries state, see :func:`robustcodec.boards.score.standing`.
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
    frame = pd.DataFrame(lines, columns=["data", "threat", *(c for c in COLUMNS if c != "rank")])
    frame["rank"] = frame.groupby("threat")["score"].rank(method="min").astype(int)
    frame["first"] = frame["threat"] != board.threat
    ranked = frame.sort_values(["first", "threat", "rank", "entry"], ignore_index=True)
    return ranked[["data", "threat", *COLUMNS]]


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
    told = lines.assign(score=[f"{s:+.1f} ({a:+.1f} to {b:+.1f})" for s, a, b in ends], entry=doubted)
    return to_markdown(told[SHORT])


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
        "".join(f"* `{name}`: {meaning}.\n" for name, meaning in COLUMNS.items()),
    ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _protocol(board: Board) -> str:
    lines = [
        f"* Data: `{board.data}`, {len(board.samples)} samples, by their sha256 in [board.toml](board.toml).\n",
        f"* Anchor: {', '.join(f'`{codec}`' for codec in board.anchor)}, points in [anchor.csv](anchor.csv).\n",
    ]
    for kind, blocks in board.protocol.items():
        for block in blocks:
            told = "; ".join(
                f"{key} {', '.join(f'`{v}`' for v in (value if isinstance(value, list) else [value]))}"
                for key, value in block.items()
            )
            lines.append(f"* {kind}: {told}.\n")
    return "".join(lines)
