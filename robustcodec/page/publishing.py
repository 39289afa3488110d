"""All that is shown of a run, in its folder: tables, pictures and a page, each made again only when it has changed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from robustcodec.files import write_whole
from robustcodec.reporting import pictures, security, tables
from robustcodec.reporting.outputs import Outputs, digest
from robustcodec.reporting.side_by_side import side_by_side
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store
from robustcodec.scores.robustness import BOARD, CONTENDER, by_psnr
from robustcodec.studies import defenses_report

PICTURED = 100  # cells at most that have pictures of their own: nobody looks at thousands


@dataclass(frozen=True)
class Shown:
    """What a terminal shows: a leaderboard, an attack table, and signs that a number may not be what it seems."""

    board: pd.DataFrame
    attacks: pd.DataFrame
    signs: list[str]


class Publication:
    """What is shown of ``cells`` of a run, finished or not."""

    def __init__(self, store: Store, cells: Sequence[Cell]) -> None:
        self.store, self.cells = store, cells
        self.rows = store.frame(cells)
        self.folder = store.root / "pictures"

    @property
    def outputs(self) -> Outputs:
        """To be entered; remembers what was made from what."""
        return Outputs(self.store.root, self.store.cache / "outputs.json")

    @cached_property
    def _numbers(self) -> str:
        return digest(self.rows)

    @cached_property
    def _curves(self) -> pd.DataFrame:
        return self.store.curves(self.cells)

    def tables(self, outputs: Outputs) -> Shown:
        """Writes them; raises as :func:`robustcodec.reporting.tables.write` does."""
        names = ("leaderboard.parquet", "attacks.parquet", "signs.json")
        kept = [self.store.cache / name for name in names]

        def make() -> Iterator[Path]:
            made = tables.Tables.of(self.rows)
            yield from tables.write(self.rows, self.store.root, made)
            signs = json.dumps([str(suspicion) for suspicion in made.suspicions])
            frames = [tables.parquet(frame, "the tables are written") for frame in (made.board, made.attacks)]
            for path, data in zip(kept, [*frames, signs.encode()], strict=True):
                write_whole(path, data)
            yield from kept

        outputs.make("tables", self._numbers, make)
        board, attacks = map(pd.read_parquet, kept[:2])
        return Shown(board, attacks, json.loads(kept[2].read_text(encoding="utf-8")))

    def pictures(self, outputs: Outputs, threads: int = 1) -> int:
        """Draws what there is to draw, cells in so many threads; gives how many cells have pictures of their own.

        Raises :class:`StoreError`.
        """
        rows, folder = self.rows, self.folder
        plane, matrix, drift = (folder / f"{name}.png" for name in ("rate-distortion", "vulnerability", "drift"))
        outputs.make("plane", self._numbers, lambda: [pictures.rate_distortion_plot(rows, plane)])
        outputs.make("matrix", self._numbers, lambda: [pictures.vulnerability_heatmap(rows, matrix)])
        if len(self._curves):
            outputs.make("drift", digest(self._curves), lambda: [pictures.drift_plot(self._curves, drift)])
        outputs.make("security", self._numbers, lambda: security.write(rows, folder))
        times = self.store.root / defenses_report.TIMES
        measured = times.read_text(encoding="utf-8") if times.is_file() else ""
        outputs.make("defenses", digest(self._numbers, measured), lambda: defenses_report.write(rows, self.store.root))
        shown = list(_pictured(self.store, self.cells, rows))
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda one: _draw(outputs, self.store, one[0], one[1], folder), shown):
                pass  # raises what it raised
        return len(shown)

    def picture(self, cell_id: str) -> Path | None:
        """The panel of a cell; None if it has none."""
        paths = [self.folder / f"{_file_name(cell)}.png" for cell in self.cells if cell.id == cell_id]
        return next((path for path in paths if path.is_file()), None)

    def page(self, outputs: Outputs, board: pd.DataFrame) -> Path:
        """Writes the page, with the leaderboard of :meth:`tables`; raises as :func:`page.of_run` and `render` do."""
        store, path = self.store, self.store.root / "report" / "index.html"
        facts = [
            (cell.id, found and (found.status, found.why, found.fingerprint, found.provenance))
            for cell, found in ((cell, store.summary(cell.id)) for cell in self.cells)
        ]
        axes = [[getattr(cell, name) for name in cell.__dataclass_fields__] for cell in self.cells]
        clips = [store.decoded_stamp(cell.id) for cell in self.cells]
        name = store.grid().name

        def make() -> list[Path]:
            from robustcodec import page  # Plotly is not needed by who draws nothing

            found = page.Found(self.rows, self._curves, board)
            view = page.of_run(store, self.cells, found)
            write_whole(path, page.render([view], f"robustcodec: {name}").encode())
            return [path]

        outputs.make("page", digest(self._numbers, digest(self._curves), name, axes, facts, clips), make)
        return path


def _pictured(store: Store, cells: Iterable[Cell], rows: pd.DataFrame) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Cells whose first sample is shown, with its row, in their order: all of them, or of more than :data:`PICTURED`
    those of the most damage, one of each contender and budget before a second one of any.
    """
    first = rows.drop_duplicates("cell") if len(rows) else pd.DataFrame({"cell": []})
    if len(first) > PICTURED:
        first = by_psnr(first, [*BOARD, *CONTENDER])
        turn, loss = first.groupby([*BOARD, *CONTENDER]).cumcount(), first["psnr"] - first["adv_psnr"]
        order = first.assign(turn=turn, loss=-loss).sort_values(["turn", "loss"], kind="stable")["cell"]
    else:
        order = first["cell"]
    chosen: list[str] = []
    for cell_id in order:
        if len(chosen) < PICTURED and store.decoded_stamp(cell_id) is not None:
            chosen.append(cell_id)
    rows_of = rows.drop_duplicates("cell").set_index("cell").loc[chosen].to_dict("index") if chosen else {}
    for cell in cells:
        if cell.id in rows_of:
            yield cell, {str(name): value for name, value in rows_of[cell.id].items()}


def _draw(outputs: Outputs, store: Store, cell: Cell, row: dict[str, Any], folder: Path) -> None:
    """A panel of a cell's first sample; of a clip also a side-by-side ``.mp4`` and its animated preview ``.webp``."""
    named = cell.codec, cell.defense, cell.attack, cell.threat
    captions = pictures.Captions(*named, row["psnr"], row["bpp"], row["adv_psnr"], row["adv_bpp"])
    failed, kbps = bool(row["decode_failed"]), float(row.get("kbps", math.nan))
    name = _file_name(cell)

    def make() -> Iterator[Path]:
        clips = next(iter(store.decoded(cell.id).values()))
        attacked = None if failed else clips["attacked"]
        shown = clips["original"], clips["adversarial"], clips["clean"], attacked
        yield pictures.panel(*shown, captions, folder / f"{name}.png")
        if len(clips["original"]) > 1:
            kept = {what: clip for what, clip in clips.items() if what != "attacked" or not failed}
            fps = 1000 * kbps / (row["bpp"] * clips["original"][0, 0].numel())
            yield from side_by_side(kept, folder, name, fps if math.isfinite(fps) else 30)

    of = digest(astuple(captions), failed, kbps, store.decoded_stamp(cell.id))
    outputs.make(f"cell {cell.id}", of, make)


def _file_name(cell: Cell) -> str:
    """A name that a person can find and two cells never share."""
    defense = "" if cell.defense == "none" else f"+{cell.defense}"
    text = f"{cell.codec}{defense}_{cell.access}_{cell.attack}_{cell.threat}_{cell.objective}"
    return f"{re.sub(r'[^A-Za-z0-9.+=-]+', '_', text)[:180]}_{cell.id[:6]}"
