"""What the page of results shows: plain data, whatever it was gathered from (a run, a leaderboard)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from robustcodec.scores.robustness import WorstRows, worst_rows


@dataclass(frozen=True)
class Link:
    """Where something about an entry is: ``what`` it is, its ``name``, and its address, empty if it has none."""

    what: str
    name: str
    address: str = ""


@dataclass(frozen=True)
class Detail:
    """What stands beside the numbers of one entry.

    Attributes:
        facts: Provenance by its label: "measured by", "commit", "device", "weights sha256" ...
        command: The shell line or lines that reproduce the numbers.
        warnings: What a reader must know before trusting them.
        disputed: "2026-11-02, A. Person: why", one per dispute; empty where nobody disputes the entry.
        found: What others found beyond the attacks that it met, a line each.
        links: Papers, weights and the like.
    """

    facts: dict[str, str]
    command: str
    warnings: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Shot:
    """One sample of one entry under its worst attack, each frame as a data URI.

    Attributes:
        entry: The label of the entry, as in `View.ranking`.
        threat: The threat model the attack kept to, e.g. "linf:8".
        data: The data set the sample is of.
        sample: The name of the sample within it.
        attack: The attack that did the most damage.
        clean: What the codec decodes from the original.
        adversarial: The attacked input.
        attacked: What the codec decodes from the attacked input; empty where the decoder failed.
        damage: dB of PSNR lost to the attack; the most damaged samples are shown first.
    """

    entry: str
    threat: str
    data: str
    sample: str
    attack: str
    clean: tuple[str, ...]
    adversarial: tuple[str, ...]
    attacked: tuple[str, ...]
    damage: float


@dataclass(frozen=True)
class View:
    """One set of entries that are compared with each other.

    Attributes:
        name: Short and unique in the page; used in links.
        title: The heading.
        about: Paragraphs of plain text.
        ranking: Columns "data", "threat", "entry" and any others (numbers or text), rows in the order to show; the page
            opens on the data and threat of the first one.
        meanings: Column of `ranking` -> what it means.
        rows: One row per cell and sample, as `Store.frame` gives them, and "entry".
        curves: One row per cell, sample and frame, as `Store.curves` gives them, and "entry"; empty for images.
        details: What stands beside the numbers, by entry.
        shots: The pictures there are.
        originals: (data, sample) -> the original, one data URI per frame.
        anchor: A clean curve for the rate-distortion plot, columns data, codec, bpp and psnr.
        worst: What chooses the attack that counts of each sample, as the ranking does, for arrows and the table of
            samples; pictures and losses of PSNR are of the attack that leaves the least PSNR.
        main: The columns of `ranking` that are shown at first, in this order; none for all.
        scored: One sentence: what ranks, in which unit.
        unpictured: One sentence: why there are no pictures, and how to have some; shown where there are none.
    """

    name: str
    title: str
    about: tuple[str, ...]
    ranking: pd.DataFrame
    meanings: dict[str, str]
    rows: pd.DataFrame
    curves: pd.DataFrame
    details: dict[str, Detail]
    shots: tuple[Shot, ...]
    originals: dict[tuple[str, str], tuple[str, ...]]
    anchor: pd.DataFrame | None = None
    worst: WorstRows = worst_rows
    main: tuple[str, ...] = ()
    scored: str = ""
    unpictured: str = ""
