"""A grid on several machines: shards, merging, and runs that share a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robustcodec.errors import GridError, StoreError
from robustcodec.execution.claims import EXPIRED, Claims
from robustcodec.execution.luggage import Parcel, mentioned, unpacked
from robustcodec.execution.merging import merge
from robustcodec.execution.runner import Runner
from robustcodec.execution.shards import Shard
from robustcodec.execution.tasks import Task
from robustcodec.execution.watching import Watcher
from robustcodec.files import HOST, remove_leftovers, write_whole
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Result, Store

GRID = Grid(
    "parts",
    (
        {
            "codec": ["jpeg:quality=50", "jpeg:quality=60", "webp:quality=50"],
            "attack": ["noise", "square:queries=2"],
            "defense": ["none", "blur"],
            "data": ["photos:size=16"],
            "limit": 2,
        },
    ),
)


def crafted(cell: Cell) -> set[str]:
    return {cell.craft_id(sample) for sample in cell.samples()}


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_shards_are_the_whole_grid_and_none_crafts_what_another_does(count: int) -> None:
    cells = GRID.cells()
    shards = [Shard(number, count).of(cells) for number in range(1, count + 1)]
    assert sorted(map(str, cells)) == sorted(str(cell) for shard in shards for cell in shard)
    clips = [set().union(*map(crafted, shard)) if shard else set() for shard in shards]
    assert sum(map(len, clips)) == len(set().union(*clips)) == 12
    assert max(map(len, shards)) <= (12 if count == 1 else 2 * -(-6 // count))
    assert all([cell for cell in cells if cell in shard] == shard for shard in shards)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/-2", ""])
def test_what_is_no_shard_is_said(text: str) -> None:
    with pytest.raises(GridError, match="expected K/N with K from 1 to N"):
        Shard.parse(text)


def results(folder: Path) -> dict[str, bytes]:
    paths = [p for name in ("cells", "crafted", "decoded") for p in (folder / name).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_merged_shards_are_the_bytes_of_one_run(tmp_path: Path) -> None:
    cells = GRID.cells()
    whole, parts = tmp_path / "whole", [tmp_path / "1", tmp_path / "2"]
    for folder, some in zip([whole, *parts], [cells, Shard(1, 2).of(cells), Shard(2, 2).of(cells)], strict=True):
        store = Store(folder)
        store.put_grid(GRID)
        assert not Runner(store).run(some).errors
    merged = merge(parts, tmp_path / "merged")
    assert (merged.missing, merged.failed) == (0, 0) and results(tmp_path / "merged") == results(whole)
    again = merge([tmp_path / "merged", parts[1]], tmp_path / "merged")
    assert again.copied == 0 and again.there > 0
    half = merge(parts[:1], tmp_path / "half")
    assert half.missing == len(Shard(2, 2).of(cells))
    other = Store(parts[0])
    known = other.result(next((parts[0] / "cells").glob("*.json")).stem)
    assert known is not None
    other.put(replace(known, rows=tuple({**row, "psnr": 1.0} for row in known.rows)))
    with pytest.raises(StoreError, match="hold different results of one thing"):
        merge(parts[:1], tmp_path / "merged")


@pytest.mark.parametrize("kind", ["cells/*.json", "crafted/*/*.safetensors", "decoded/*.safetensors"])
def test_what_is_damaged_is_not_merged_and_what_is_whole_replaces_it(kind: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "whole")
    store.put_grid(GRID)
    Runner(store).run(GRID.cells()[:1])
    damaged = Path(shutil.copytree(store.root, tmp_path / "damaged"))
    (file,) = list(damaged.glob(kind))[:1]
    file.write_bytes(file.read_bytes()[:-9])
    for order in (["damaged", "whole"], ["whole", "damaged"]):
        merged = merge([tmp_path / name for name in order], tmp_path / "-".join(order))
        assert results(tmp_path / "-".join(order)) == results(store.root)
        assert merged.damaged == (file,) and (merged.missing, merged.failed) == (len(GRID.cells()) - 1, 0)
    merge([store.root], damaged)
    assert results(damaged) == results(store.root)


def test_a_success_replaces_a_failure_and_other_grids_are_refused(tmp_path: Path) -> None:
    cell = Cell("jpeg:quality=50", "noise", data="photos:size=16", limit=1)
    grid = Grid("one", ({"codec": [cell.codec], "attack": ["noise"], "data": [cell.data], "limit": 1},))
    stores = [Store(tmp_path / name) for name in "ab"]
    for store in stores:
        store.put_grid(grid)
    Runner(stores[0]).run([cell])
    good = (stores[0].root / "cells" / f"{cell.id}.json").read_bytes()
    stores[1].put(Result(cell.id, cell, "error", error="out of memory"))
    for order in ("ab", "ba"):
        assert merge([tmp_path / name for name in order], tmp_path / order).failed == 0
        assert (tmp_path / order / "cells" / f"{cell.id}.json").read_bytes() == good
    other = Store(tmp_path / "other")
    other.put_grid(GRID)
    with pytest.raises(StoreError, match="is a run of another grid than"):
        merge([tmp_path / "a", other.root], tmp_path / "out")
    with pytest.raises(StoreError, match="holds a run of another grid"):
        merge([tmp_path / "a"], other.root)
    with pytest.raises(StoreError, match="is not a run folder"):
        merge([tmp_path], tmp_path / "out")


def foreign(folder: Path, cell: str, age: float = 0.0, host: str = "elsewhere", pid: int = 1) -> Path:
    """A claim of another run."""
    path = folder / cell
    write_whole(path, json.dumps({"host": host, "pid": pid}).encode())
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def test_claims_hold_while_their_run_lives(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    assert claims.take("mine") and claims.take("mine")
    foreign(tmp_path / "claims", "theirs")
    foreign(tmp_path / "claims", "expired", EXPIRED + 60)
    with subprocess.Popen(["true"]) as ended:
        pass
    foreign(tmp_path / "claims", "dead", host=HOST, pid=ended.pid)
    foreign(tmp_path / "claims", "living", host=HOST, pid=os.getppid())
    (tmp_path / "claims" / "damaged").write_text("{")
    taken = {cell for cell in ("theirs", "expired", "dead", "living", "damaged") if claims.take(cell)}
    assert taken == {"expired", "dead", "damaged"}
    claims.close()
    assert sorted(p.name for p in (tmp_path / "claims").iterdir()) == ["living", "theirs"]


def test_a_run_leaves_to_another_what_that_has_begun_and_takes_over_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustcodec.execution.scheduler.LOOKED", 0.0)
    cells = GRID.cells()
    done, left = cells[0], cells[1]
    other = Store(tmp_path / "other")
    Runner(other).run([done])
    store = Store(tmp_path / "run")
    claims = [foreign(store.claims, cell.id) for cell in (done, left)]
    merged = False

    class Watch(Watcher):
        """The other run ends one cell and dies before it ends the other."""

        def cell_finished(self, result: Result, seconds: float) -> None:
            nonlocal merged
            if merged:
                return
            merged = True
            for path in results(other.root):
                write_whole(store.root / path, (other.root / path).read_bytes())
            claims[0].unlink()
            os.utime(claims[1], (0, 0))

    tally = Runner(store).run(cells, Watch())
    assert (tally.ran, tally.skipped, tally.failed) == (len(cells) - 1, 1, 0)
    assert not store.claims.exists()


def test_temporary_files_of_other_machines_are_left_alone_until_they_are_old(tmp_path: Path) -> None:
    """Whatever lives here under the number of their process says nothing of them."""
    with subprocess.Popen(["true"]) as ended:
        pass
    mine, theirs, old = (
        tmp_path / f".{name}.json.{host}.{pid}.part"
        for name, host, pid in (("a", HOST, ended.pid), ("a", "elsewhere", ended.pid), ("b", "elsewhere", os.getpid()))
    )
    for path in (mine, theirs, old):
        path.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    remove_leftovers(tmp_path)
    assert theirs.exists() and not mine.exists() and not old.exists()


def test_files_that_names_mention_travel_with_their_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTCODEC_CACHE", str(tmp_path / "cache"))
    weights, folder = tmp_path / "here" / "w.safetensors", tmp_path / "here" / "clips"
    folder.mkdir(parents=True)
    for path in (weights, weights.with_suffix(".toml"), folder / "a.png", tmp_path / "here" / "other.toml"):
        path.write_text(path.name)
    cell = Cell(
        f"bmshj2018-hyperprior:weights={weights}", f"universal:folder:{folder};size=8", data=f"folder:{folder}",
        access=f"transfer:jpeg:quality=50|bmshj2018-hyperprior:weights={weights}",
    )  # fmt: skip
    assert mentioned(cell) == {str(weights), str(folder)}
    parcels = {path: Parcel.pack(Path(path)) for path in mentioned(cell)}
    assert parcels[str(weights)] == Parcel.pack(weights)
    there = unpacked(Task(cell, (), {cell.codec: "facts"}, ""), parcels)
    for word in mentioned(there.cell):
        assert word.startswith(str(tmp_path / "cache"))
    moved = Path(there.cell.codec.partition("=")[2])
    assert moved.read_text() == "w.safetensors" and moved.with_suffix(".toml").is_file()
    assert not (moved.parent / "other.toml").exists() and there.cell.data == cell.data
    assert list(there.codecs) == [there.cell.codec] and there.cell.access.endswith(str(moved))


def test_folders_that_others_remove_meanwhile_are_passed_over(tmp_path: Path) -> None:
    for i in range(50):
        (tmp_path / f"stays-{i}").mkdir()
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            for i in range(50):
                (tmp_path / f"goes-{i}").mkdir()
                (tmp_path / f"goes-{i}").rmdir()

    other = threading.Thread(target=churn)
    other.start()
    try:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            remove_leftovers(tmp_path)
    finally:
        done.set()
        other.join()
