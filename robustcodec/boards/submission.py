"""From a run to entries of a board: everything that a board asks for is looked at before anything is written."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from robustcodec.boards.board import Board, Kind
from robustcodec.boards.entry import CLEAN, DERIVED, Entry, Measured, Table, axes_of, rounded
from robustcodec.boards.entry_shape import AXES
from robustcodec.boards.founding import samples_of
from robustcodec.brought.objects import is_object
from robustcodec.clips import fingerprint
from robustcodec.coding import defended
from robustcodec.errors import BoardError, UserError, last_line
from robustcodec.page.images import data_uris
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Store
from robustcodec.scores.robustness import worst_rows
from robustcodec.studies.check import check

WHOLE = 1e-3  # of a byte: how far a size may be from a whole number of bytes


@dataclass(frozen=True)
class Refusal:
    """A codec and defense that did not become an entry, and all that stands in the way."""

    codec: str
    defense: str
    reasons: tuple[str, ...]


def check_data(board: Board) -> None:
    """Raises :class:`BoardError` unless the board's data are at hand, sample by sample with the same bytes."""
    here = {s.id: fingerprint(s) for s in samples_of(board.data, board.limit)}
    wanted = dict(board.samples)
    if here == wanted:
        return
    wrong = sorted(s for s in here.keys() & wanted.keys() if here[s] != wanted[s])
    lacking, extra = sorted(wanted.keys() - here.keys()), sorted(here.keys() - wanted.keys())
    differences = [
        f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in (("other bytes:", wrong), ("missing:", lacking), ("not on the board:", extra))
        if names
    ]
    raise BoardError(
        f"the data {board.data} here are not those of {board.name} ({'; '.join(differences)}); expected {len(wanted)} "
        "samples with the checksums in its board.toml"
    )


def candidates(store: Store, board: Board) -> list[tuple[str, str]]:
    """The codecs and defenses that a run met on the board's data."""
    pairs = {(cell.codec, cell.defense) for cell in store.grid().cells() if cell.data == board.data}
    return sorted(pairs)


def entry(store: Store, board: Board, codec: str, defense: str, by: str, date: str) -> Entry | Refusal:
    """The entry of ``codec`` behind ``defense`` out of a run, measured by ``by``; or why it cannot be one.

    ``date``: as YYYY-MM-DD.
    """
    if lent := [name for name in (codec, defense) if is_object(name)]:
        why = f"{lent[0]} was an object in Python, which nobody else can name: register its class in a package"
        return Refusal(codec, defense, (why,))
    try:
        kind = board.kind_of(codec, defense)
        wanted = board.cells(codec, defense, kind)
    except UserError as error:  # another codec of the run may do
        return Refusal(codec, defense, (str(error),))
    results, reasons = _results(store, board, wanted)
    if reasons:
        return Refusal(codec, defense, tuple(reasons))
    rows = store.frame(wanted)
    reasons += _dishonest(rows, board)
    checks = _checks(codec, defense)
    reasons += [
        f"robustcodec check: {c['name']}: {c['measured']}, expected {c['expected']}" for c in checks if not c["passed"]
    ]
    if reasons:
        return Refusal(codec, defense, tuple(reasons))
    try:
        bare = _entry(store, board, (codec, defense, kind), wanted, results, rows, checks, by, date)
        return _pictured(bare, store, rows, board) if board.pictures else bare
    except UserError as error:
        return Refusal(codec, defense, (str(error),))


def _results(store: Store, board: Board, wanted: Sequence[Cell]) -> tuple[list[Result], list[str]]:
    """What the run holds of the cells that the board asks for, and what it lacks."""
    results: list[Result] = []
    missing: list[Cell] = []
    reasons: list[str] = []
    for cell in wanted:
        result = store.result(cell.id)
        if result is None:
            missing.append(cell)
        elif result.error is not None:
            reasons.append(f"{cell} failed: {last_line(result.error)}")
        else:
            results.append(result)
    if missing:
        named = "; ".join(str(cell) for cell in missing[:3]) + (" …" if len(missing) > 3 else "")
        reasons.append(
            f"{len(missing)} of {len(wanted)} cells of the board are missing ({named}): other attacks, another version "
            f"of a suite, other weights or other data do not count; run them with {_run_command(board, wanted[0])}"
        )
    return results, reasons


def _dishonest(rows: pd.DataFrame, board: Board) -> Iterator[str]:
    """Sizes that no stream of bytes can have, and clean scores that depend on the attack."""
    pixels = {s.id: s.load()[:, 0].numel() for s in samples_of(board.data, board.limit)}
    if rows["bpp"].isna().any():
        yield "it makes no bytes: a board ranks what comes out of bytes"
    for name in ("bpp", "adv_bpp"):
        sizes = rows[name] * rows["sample"].map(pixels) / 8
        broken = (sizes - sizes.round()).abs() > WHOLE
        if broken.any():
            yield (
                f"{name} of {rows.loc[broken, 'sample'].iloc[0]} is {sizes[broken].iloc[0]:.3f} bytes, not whole: "
                "an estimate; a board takes real bytes"
            )
    apart = rows.groupby("sample")[[c for c in CLEAN if c in rows]].nunique(dropna=False).max()
    if (apart > 1).any():
        yield (
            f"the clean {', '.join(apart[apart > 1].index)} of a sample differs between cells: its codec does not code "
            "the same clip to the same bytes"
        )


def _checks(codec: str, defense: str) -> list[dict[str, Any]]:
    built = defended(codec, defense)
    checks = check(built, rebuild=lambda: defended(codec, defense))
    return [{"name": c.name, "passed": c.passed, "measured": c.measured, "expected": c.expected} for c in checks]


def _entry(
    store: Store,
    board: Board,
    contender: tuple[str, str, Kind],
    wanted: Sequence[Cell],
    results: Sequence[Result],
    rows: pd.DataFrame,
    checks: Sequence[dict[str, Any]],
    by: str,
    date: str,
) -> Entry:
    codec, defense, kind = contender
    spent = seconds(store)
    shared, own = _identities(results)
    clean = [c for c in CLEAN if c in rows and rows[c].notna().any()]
    first = rows[rows["cell"] == wanted[0].id].set_index("sample")
    return Entry(
        board=board.name,
        codec=codec,
        defense=defense,
        kind=kind,
        measured_by=by,
        date=date,
        command=_run_command(board, wanted[0]),
        seed=wanted[0].seed,
        provenance=_provenance(results),
        checks=tuple(checks),
        identity=shared,
        clean=Table.of(first[clean]),
        cells=tuple(
            Measured(
                cell.id,
                dict(zip(AXES, axes_of(cell), strict=True)),
                identity,
                result.warnings,
                round(spent[cell.id], 1),
                Table.of(_numbers(rows[rows["cell"] == cell.id], clean)),
                {s: {k: [rounded(v) for v in c] for k, c in f.items()} for s, f in (result.frames or {}).items()},
            )
            for cell, result, identity in zip(wanted, results, own, strict=True)
        ),
    )


def _numbers(rows: pd.DataFrame, clean: Sequence[str]) -> pd.DataFrame:
    """What an entry keeps of a cell's rows."""
    text = [c for c in rows if c in Cell.__dataclass_fields__ or c in ("cell", "warnings")]
    kept = rows.set_index("sample").drop(columns=[*(c for c in text if c != "sample"), *clean, *DERIVED])
    return kept.dropna(axis="columns", how="all")


def _identities(results: Sequence[Result]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the identities of all cells share, without their samples, and the rest of each."""
    whole = [{k: v for k, v in (r.identity or {}).items() if k != "samples"} for r in results]
    alike = {k: v for k, v in whole[0].items() if all(k in w and w[k] == v for w in whole)}
    return alike, [{k: v for k, v in w.items() if k not in alike} for w in whole]


def _provenance(results: Sequence[Result]) -> dict[str, str]:
    """Of all cells: what differs between them is listed."""
    values: dict[str, set[str]] = defaultdict(set)
    for result in results:
        for key, value in (result.provenance or {}).items():
            values[key].add(value)
    return {key: ", ".join(sorted(several)) for key, several in values.items()}


def seconds(store: Store) -> dict[str, float]:
    """Wall time by cell, over all attempts."""
    spent: dict[str, float] = defaultdict(float)
    for noted in store.logged():
        if "cell" in noted:
            spent[noted["cell"]] += float(noted["seconds"])
    return spent


def _run_command(board: Board, cell: Cell) -> str:
    words = ["robustcodec", "run", "--board", f"leaderboards/{board.name}", "--codec", cell.codec]
    words += ["--defense", cell.defense] if cell.defense != "none" else []
    return shlex.join(words)


def _pictured(entry: Entry, store: Store, rows: pd.DataFrame, board: Board) -> Entry:
    """With pictures of each sample under the attack that leaves the least PSNR of it at the threat that ranks; raises
    :class:`UserError` if the run keeps none of one.
    """
    worst = worst_rows(rows[rows["threat"] == board.threat], ["sample"])
    pictures = {}
    for row in worst.to_dict("records"):
        sample = str(row["sample"])
        clips = store.decoded(str(row["cell"])).get(sample)
        if clips is None:
            raise UserError(
                f"the run keeps no picture of {sample} ({row['cell']}), which {board.name} shows; run that cell again"
            )
        shown = {name: list(data_uris(clip)) for name, clip in clips.items()}
        pictures[sample] = {"attack": f"{row['attack']}, {row['objective']}", **shown}
    return replace(entry, pictures=pictures)
