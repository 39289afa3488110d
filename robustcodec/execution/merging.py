"""Run folders of parts of one grid, made on several machines, as one."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from robustcodec.errors import DamagedFile, StoreError
from robustcodec.files import on_disk, write_whole
from robustcodec.running.store import Store

KEPT = ("cells", "crafted", "decoded")  # folders of a run that hold results; all else is made of them


@dataclass(frozen=True)
class Merged:
    """Files that were copied and files that were there; cells of the grid that nobody has done; cells that failed;
    files that were left out.
    """

    copied: int
    there: int
    missing: int
    failed: int
    damaged: tuple[Path, ...]


def merge(runs: Sequence[Path], out: Path, note: Callable[[str], None] = lambda text: None) -> Merged:
    """Copy the results of ``runs`` into ``out``, which may be one of them; they must be of one grid.

    Raises :class:`StoreError` for what is no run folder, for different grids, and for two runs that hold different
    results of one cell: at equal threads on the same kind of device that does not happen.
    """
    stores = [Store.existing(run) for run in runs]
    grids = {run: store.grid() for run, store in zip(runs, stores, strict=True)}
    first = runs[0]
    for run, grid in grids.items():
        if grid.blocks != grids[first].blocks:
            raise StoreError(f"{run} is a run of another grid than {first}; merge parts of one grid (--shard K/N)")
    target = Store(out)
    if (out / "grid.toml").is_file() and target.grid().blocks != grids[first].blocks:
        raise StoreError(f"{out} holds a run of another grid than {first}; give another --out")
    copied = there = 0
    damaged: list[Path] = []
    for run, store in zip(runs, stores, strict=True):
        if run.resolve() == out.resolve():
            continue
        note(str(run))
        for path in _results(run):
            copy = out / path.relative_to(run)
            if copy.is_file() and filecmp.cmp(path, copy, shallow=False):
                there += 1
                continue
            mine, its = _worth(target, copy), _worth(store, path)
            if its == Worth.DAMAGED:
                damaged.append(path)
            elif its > mine:
                write_whole(copy, path.read_bytes())
                copied += 1
            elif its < Worth.WHOLE:
                there += 1
            else:
                raise StoreError(
                    f"{path} and {copy} hold different results of one thing: they were made with different numbers of "
                    "threads, devices or versions. Remove the one that you do not trust"
                )
        _append_log(run, target)
    target.put_grid(grids[first])
    results = [target.result(cell.id) for cell in target.grid().cells()]
    failed = sum(result is not None and result.status == "error" for result in results)
    return Merged(copied, there, results.count(None), failed, tuple(damaged))


def _results(run: Path) -> Iterator[Path]:
    for folder in KEPT:
        yield from sorted(p for p in (run / folder).rglob("*") if p.is_file() and not p.name.startswith("."))


class Worth(IntEnum):
    """What a file of a run is good for; ``FAILED``: the failure of a cell."""

    DAMAGED = 0
    FAILED = 1
    WHOLE = 2


def _worth(store: Store, path: Path) -> Worth:
    try:
        match path.relative_to(store.root).parts[0]:
            case "cells":
                result = store.result(path.stem)
                failed = result is not None and result.status == "error"
                return Worth.DAMAGED if result is None else Worth.FAILED if failed else Worth.WHOLE
            case "crafted":
                return Worth.WHOLE if store.holds_clip(path.stem) else Worth.DAMAGED
            case _:
                return Worth.WHOLE if store.decoded(path.stem) else Worth.DAMAGED
    except DamagedFile:
        return Worth.DAMAGED


def _append_log(run: Path, target: Store) -> None:
    log = run / "log.jsonl"
    if log.is_file():
        with on_disk(target.root / "log.jsonl"), (target.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(log.read_text(encoding="utf-8"))
