"""Are learned codecs vulnerable "regardless of architecture, loss and quality"? The bare codecs of a board, crossed.

    python benchmarks/claim.py leaderboards/kodak-whole --markdown leaderboards/claim/claim.md \
        --picture leaderboards/claim/claim.png

The claim is Chen & Ma's (https://arxiv.org/abs/2112.08691). Codecs that were finetuned against attacks are left out:
the claim is about what one trains today. A codec counts as vulnerable on an image if the worst attack takes more PSNR
than the perturbation itself could, added to the decoded picture in the worst way. With the clean error ``D`` and the
perturbation ``d`` (mean squares) that is an error of ``(√D + √d)²``, since norms add at most; a codec that is passive,
such as one that copies its input, never loses more. What is beyond, the codec adds.

Rounding adds to that: a perturbation that pushes coefficients over rounding boundaries raises the error of any codec
that rounds them one by one. Take coefficients of an orthonormal transform, rounding errors uniform in ±1/2 step. One
whose boundary is ``s`` steps away costs the attacker ``s²`` and gains ``2s``, so the nearest boundaries are crossed
first, up to some ``s = t``: ``d = 2t³/3`` and a gain of ``2t²``, with ``D = 1/12``. Together: the error grows from
``D`` to ``D (1 + 6 (d/D)^(2/3))``, as long as ``d ≤ D``. That is the column ``rounding``. Codecs that state their
transform (JPEG), attacked through it, stand beside the learned ones too: they round for real. These are references,
not parts of a learned codec's loss: how much of that is its network's, rounding_share.py tells.

A cell of the matrix is one codec, an architecture and a loss down, qualities across; a cell that no codec fills stays
empty. Below it: whether the loss goes with the quality (Spearman's rank correlation with the clean PSNR, over codecs).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from robustcodec import registry
from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry
from robustcodec.interfaces import Card
from robustcodec.reporting.pictures import figure_of
from robustcodec.reporting.text import to_markdown
from robustcodec.scores.robustness import worst_case

REFERENCE = "none"  # the loss that a codec is trained for which is not trained
Numbers = Any  # a float, an array or a column
QUALITIES = [28, 30, 32, 34]  # clean PSNR in dB between the columns


def loss_of(card: Card) -> str:
    """What a codec was trained for."""
    if card.training.get("discriminator_steps"):
        return "GAN"
    return {"mse": "MSE", "ms-ssim": "MS-SSIM"}[card.training["metric"]]


def passive(psnr: Numbers, input_psnr: Numbers) -> Numbers:
    """The most PSNR, in dB, that the perturbation takes when it is added to a picture of clean ``psnr``."""
    return 20 * np.log10(1 + 10 ** ((psnr - input_psnr) / 20))


def rounding(psnr: Numbers, input_psnr: Numbers) -> Numbers:
    """The PSNR, in dB, that crossing boundaries takes from a codec that rounds uniform coefficients one by one.

    Where the perturbation is larger than the clean error every boundary is crossed; what is left over is not counted.
    """
    share = np.minimum(10 ** ((psnr - input_psnr) / 10), 1)
    return 10 * np.log10(1 + 6 * share ** (2 / 3))


def by_image(entry: Entry, board: Board) -> pd.DataFrame:
    """A row per sample at the threat that ranks: ``bpp``, ``psnr``, ``drop`` and what is ``passive`` and ``rounding``
    in dB, both for the largest perturbation that any attack returned.
    """
    rows = entry.frame(board.data).query("threat == @board.threat")
    worst = worst_case(rows).set_index("sample")
    clean = rows.groupby("sample")[["bpp", "psnr", "input_psnr"]].min()
    references = {of.__name__: of(clean["psnr"], clean["input_psnr"]) for of in (passive, rounding)}
    return clean.assign(drop=clean["psnr"] - worst["robust_psnr"], **references)


def line(entry: Entry, board: Board) -> dict[str, object] | None:
    """A row of the table; None for what is neither one that the claim is about nor a reference."""
    card = registry.codecs.build(entry.codec).card
    learned = entry.kind == "bare" and bool(card.training) and not entry.codec.endswith("-at")
    if not learned and (entry.kind != "transform" or entry.defense != "none"):
        return None
    images, loss = by_image(entry, board), loss_of(card) if learned else REFERENCE
    mean = images.mean()
    return {
        "architecture": card.family, "loss": loss, "codec": entry.codec, "bpp": mean["bpp"], "psnr": mean["psnr"],
        "input_psnr": mean["input_psnr"], "drop": mean["drop"],
        "least drop": images["drop"].min(), "passive": mean["passive"], "rounding": mean["rounding"],
        "beyond": int((images["drop"] > images["passive"]).sum()), "images": len(images),
    }  # fmt: skip


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Mean drop in dB by architecture and loss down, and clean PSNR across; NaN where there is no codec."""
    edges = [-np.inf, *QUALITIES, np.inf]
    names = [f"< {QUALITIES[0]} dB", *(f"{a} to {b} dB" for a, b in zip(QUALITIES, QUALITIES[1:], strict=False))]
    names.append(f"≥ {QUALITIES[-1]} dB")
    quality = pd.cut(table["psnr"], edges, right=False, labels=names)
    cells = table.assign(quality=quality).pivot_table(
        "drop", ["architecture", "loss"], "quality", observed=False, dropna=False
    )
    return cells.dropna(how="all").reindex(columns=names)


def verdicts(table: pd.DataFrame) -> str:
    """What follows, in sentences."""
    pairs, beyond = int(table["images"].sum()), int(table["beyond"].sum())
    said = [
        f"{beyond} of {pairs} pairs of codec and image lose more than the perturbation itself could take, "
        f"on {int((table['beyond'] == table['images']).sum())} of {len(table)} codecs every image.",
        f"No image of any codec loses less than {table['least drop'].min():.2f} dB.",
    ]
    beyond_rounding = table["drop"] - table["rounding"]
    said.append(
        "Beside uniform coefficients rounded one by one, codecs lose "
        f"{beyond_rounding.min():+.2f} to {beyond_rounding.max():+.2f} dB, on average {beyond_rounding.mean():+.2f}."
    )
    if len(table) > 4:
        found = spearmanr(table["psnr"].to_numpy(float), table["drop"].to_numpy(float))
        said.append(f"Loss and clean PSNR go together with ρ = {found.statistic:.2f} (p = {found.pvalue:.2g}).")
    for axis in ("architecture", "loss"):
        spans = table.groupby(axis)["drop"].agg(["min", "max"])
        shown = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, low, high in spans.itertuples())
        said.append(f"Mean loss in dB by {axis}: {shown}.")
    return "\n".join(f"- {sentence}" for sentence in said)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Loss over clean PSNR, a colour per architecture and loss, with what is passive and what is rounding."""
    with figure_of(7, 4.5, path) as figure:
        axis = figure.subplots()
        for (architecture, loss), group in table.sort_values("psnr").groupby(["architecture", "loss"]):
            reference = loss == REFERENCE
            label, colour = (architecture, "0.5") if reference else (f"{architecture}, {loss}", None)
            axis.plot(group["psnr"], group["drop"], "o-", color=colour, label=label)
        reach = np.linspace(table["psnr"].min() - 0.5, table["psnr"].max() + 0.5, 50)
        given = table["input_psnr"].mean()
        axis.plot(reach, passive(reach, given), "--", color="0.5", label="the perturbation alone, at most")
        axis.plot(reach, rounding(reach, given), ":", color="0.5", label="uniform coefficients, rounded one by one")
        axis.set(xlabel="clean PSNR (dB)", ylabel="PSNR lost to the worst attack (dB)", ylim=(0, None))
        axis.grid(color="0.9")
        axis.legend(fontsize="small")


def main() -> None:
    """Print (and write) the tables and sentences; draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    board = Board.read(options.board)
    lines = [found for path in board.entries() if (found := line(Entry.read(path), board))]
    if all(found["loss"] == REFERENCE for found in lines):
        parser.error(f"{board.folder} has no entry of a bare learned codec; measure some with leaderboard measure")
    table = pd.DataFrame(lines).sort_values(["architecture", "loss", "psnr"])
    crossed = matrix(table).reset_index()
    learned = table[table["loss"] != REFERENCE]
    text = f"{to_markdown(crossed)}\n\n{verdicts(learned)}\n\n{to_markdown(table)}\n"
    print(text)
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        heading = f"# Vulnerable regardless of architecture, loss and quality?\n\n{__doc__}\n"
        options.markdown.write_text(heading + text, encoding="utf-8")
    if options.picture:
        draw(table, options.picture)


if __name__ == "__main__":
    main()
