"""A run folder as a view of the page: its leaderboard, how each entry was made, and its most damaged pictures.

Times are left out, as they are of results: a run that was resumed has the same page as one that was not.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from robustcodec.page.images import data_uris
from robustcodec.page.links import links
from robustcodec.page.view import Detail, Shot, View
from robustcodec.reporting.points import worst_of_samples
from robustcodec.reporting.tables import label_of, leaderboard
from robustcodec.running.grid import AXES, Cell
from robustcodec.running.store import Store
from robustcodec.running.summary import Summary
from robustcodec.scores.columns import RANKED, contributed, worst
from robustcodec.scores.robustness import CONTENDER

ABOUT = (
    "Rates are real bytes, and reconstructions are decoded from those bytes alone. Budgets are as reached after the "
    "attacked input was rounded to 8 bits.",
)
SCORED = (
    "Ranked by robust PSNR in dB: what the worst attack on each sample leaves of it, the mean (95 % interval). Higher "
    "is better; compare entries that met the same attacks."
)
UNPICTURED = (
    "No pictures: nothing is measured yet, or what was decoded is no longer in the run folder (decoded/); robustcodec "
    "run makes it again."
)
MAIN = ("rank", "entry", "robust_psnr", "psnr", "drop", "bpp", "rate_ratio")
OWN = {"warnings": "how many kinds of warnings the checks raised; opened with the entry"}
RANKING = (  # those of them that the leaderboard of the run has
    *("rank", "rank_low", "rank_high", "entry", "data", "threat", "robust_psnr", "robust_low", "robust_high", "bound"),
    *("psnr", "drop"),
    *("delta_own_psnr", "bpp", "rate_ratio", "vi_db", "break_db", "unbroken", "input_linf", "worst_attack"),
    *("precision", "attacks", "not_run", "samples", "decode_failures", "warnings"),
)
MACHINE = ("robustcodec", "commit", "python", "device")  # of the provenance; the rest are libraries
_Contender = tuple[str, str, str]


@dataclass(frozen=True)
class Found:
    """What cells have found so far: :meth:`Store.frame` and :meth:`Store.curves` of them, and their leaderboard."""

    rows: pd.DataFrame
    curves: pd.DataFrame
    board: pd.DataFrame

    @classmethod
    def by(cls, store: Store, cells: Sequence[Cell]) -> Found:
        """Raises :class:`StoreError` for a run folder that cannot be read."""
        rows = store.frame(cells)
        return cls(rows, store.curves(cells), leaderboard(rows))


def of_run(store: Store, cells: Sequence[Cell], found: Found | None = None) -> View:
    """What ``cells`` of a run have ``found`` so far; an entry is a codec with its defense and what its attacker knew.

    Raises :class:`StoreError` for a run folder that cannot be read.
    """
    labels, found = _labels(cells), found or Found.by(store, cells)
    rows, curves, board = (_labelled(frame, labels) for frame in (found.rows, found.curves, found.board))
    shots, originals = _pictures(store, rows)
    by_entry: dict[str, list[Cell]] = {}
    for cell in cells:
        by_entry.setdefault(labels[_contender(cell)], []).append(cell)
    ranking = _ranking(board, {str(curve) for curve in curves["data"].unique()} if len(curves) else set())
    return View(
        name="run",
        title="Results",
        about=ABOUT,
        ranking=ranking,
        meanings={name: OWN.get(name) or worst(name, RANKED).meaning for name in map(str, ranking)},
        rows=rows,
        curves=curves,
        details={
            entry: _detail(store, mine, board[board["entry"] == entry]["warnings"]) for entry, mine in by_entry.items()
        },
        shots=shots,
        originals=originals,
        main=MAIN,
        scored=SCORED,
        unpictured=UNPICTURED,
    )


def _contender(cell: Cell) -> _Contender:
    return cell.codec, cell.defense, cell.access


def _labels(cells: Iterable[Cell]) -> dict[_Contender, str]:
    """A label per contender; where two would share one, what the attacker knew tells them apart."""
    contenders = list(dict.fromkeys(map(_contender, cells)))
    short = {key: label_of(*key) for key in contenders}
    shared = [label for label in short.values() if list(short.values()).count(label) > 1]
    return {key: f"{label} ({key[2]})" if label in shared else label for key, label in short.items()}


def _labelled(frame: pd.DataFrame, labels: dict[_Contender, str]) -> pd.DataFrame:
    if frame.empty:
        return frame.assign(entry=pd.Series(dtype=object))
    return frame.assign(entry=[labels[key] for key in frame[CONTENDER].itertuples(index=False, name=None)])


def _ranking(board: pd.DataFrame, clips: set[str]) -> pd.DataFrame:
    """The data set with most contenders first, images before ``clips`` where two have equally many, and of its threats
    the one that most of them met.
    """
    kinds = [len(text.split("; ")) if text else 0 for text in board["warnings"]]
    order = pd.DataFrame(
        {
            "fewer": -board.groupby("data")["entry"].transform("nunique"),
            "moving": board["data"].isin(clips),
            "data": board["data"],
            "rarer": -board.groupby(["data", "threat"])["entry"].transform("nunique"),
        },
        index=board.index,
    ).sort_values(["fewer", "moving", "data", "rarer"], kind="stable")
    shown = board.assign(warnings=kinds).loc[order.index]
    return shown[[name for name in (*RANKING, *contributed(shown)) if name in shown]]


def _detail(store: Store, cells: Sequence[Cell], warnings: Iterable[str]) -> Detail:
    found = [(cell, summary) for cell in cells if (summary := store.summary(cell.id)) is not None]
    signs = dict.fromkeys(w for text in warnings for w in text.split("; ") if w)
    failed = [f"failed: {cell}: {summary.why}" for cell, summary in found if summary.status != "ok"]
    missing = len(cells) - len(found)
    unfinished = [f"{missing} of {len(cells)} cells have no result yet"] if missing else []
    return Detail(
        facts=_facts(cells, [summary for _, summary in found if summary.status == "ok"]),
        command="\n".join(map(_command, _products(list(cells)))),
        warnings=(*signs, *failed, *unfinished),
        links=links(cells[0].codec, cells[0].defense),
    )


def _facts(cells: Sequence[Cell], results: Sequence[Summary]) -> dict[str, str]:
    """What made the numbers; several values where cells differ."""
    first = cells[0]
    facts = {"codec": first.codec, "defense": first.defense, "access": first.access}
    if coded := _joined(r.fingerprint for r in results):
        facts["weights sha256" if re.fullmatch("[0-9a-f]{64}", coded) else "coded by"] = coded
    provenances = [r.provenance for r in results]
    facts |= {name: value for name in MACHINE if (value := _joined(each.get(name, "") for each in provenances))}
    facts["libraries"] = _joined(
        f"{name} {v}" for each in provenances for name, v in each.items() if name not in MACHINE
    )
    facts["precision of gradients"] = _joined(c.precision for c in cells)
    facts["seeds"] = _joined(str(c.seed) for c in cells)
    facts["cells"] = f"{len(results)} of {len(cells)} measured"
    return facts


def _joined(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(v for v in values if v))


def _products(cells: list[Cell]) -> Iterator[list[Cell]]:
    """``cells`` in groups that are each the product of their axes, as one command line measures them."""
    axes = ("limit", *AXES)
    values = {axis: list(dict.fromkeys(getattr(c, axis) for c in cells)) for axis in axes}
    product = set(itertools.product(*values.values()))
    if len(values["limit"]) == 1 and product == {tuple(getattr(c, axis) for axis in axes) for c in cells}:
        yield cells
        return
    axis = next(axis for axis in axes if len(values[axis]) > 1)
    for value in values[axis]:
        yield from _products([c for c in cells if getattr(c, axis) == value])


def _command(cells: Sequence[Cell]) -> str:
    words = ["robustcodec", "run"]
    for axis in AXES:
        for value in dict.fromkeys(str(getattr(c, axis)) for c in cells):
            words += [f"--{axis}", shlex.quote(value)]
    return " ".join([*words, *(["--limit", str(cells[0].limit)] if cells[0].limit else [])])


def _pictures(store: Store, rows: pd.DataFrame) -> tuple[tuple[Shot, ...], dict[tuple[str, str], tuple[str, ...]]]:
    """The worst attack on each sample of each entry and threat, of which the run kept pictures."""
    shots: list[Shot] = []
    originals: dict[tuple[str, str], tuple[str, ...]] = {}
    clean: dict[tuple[str, str, str], tuple[str, ...]] = {}
    if rows.empty:
        return (), {}
    for cell, group in worst_of_samples(rows, ["entry"]).groupby("cell", sort=True):
        decoded = store.decoded(str(cell))
        for row in group.to_dict("records"):
            clips = decoded.get(row["sample"])
            if clips is None:  # a large data set: the run keeps the first samples
                continue
            data, sample, entry = row["data"], row["sample"], row["entry"]
            if (data, sample) not in originals:
                originals[data, sample] = data_uris(clips["original"])
            if (entry, data, sample) not in clean:
                clean[entry, data, sample] = data_uris(clips["clean"])
            attacked = () if row["decode_failed"] == 1 else data_uris(clips["attacked"])
            seen = clean[entry, data, sample], data_uris(clips["adversarial"]), attacked
            shots.append(Shot(entry, row["threat"], data, sample, row["attack"], *seen, damage=row["loss"]))
    return tuple(sorted(shots, key=lambda s: (-s.damage, s.entry, s.data, s.threat, s.sample))), originals
