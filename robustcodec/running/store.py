"""The run folder: one JSON file per finished cell, one file per adversarial clip, each written whole or not at all.

A file's existence means "done", if it is as it was written: each has a checksum, and what a cell's file holds is
compared with what the cell must hold. What is damaged counts as not there. Nothing in a cell's file depends on when or
how fast it was made, so a run that was killed and resumed is byte-identical to one that was not; times go to
``log.jsonl``, and to ``cache``, which holds nothing that is not made again where it is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robustcodec.brought import objects
from robustcodec.errors import DamagedFile, GridError, StoreError
from robustcodec.files import Stamp, on_disk, readable, remove_leftovers, stamp, write_whole
from robustcodec.running import expected
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.index import Index
from robustcodec.running.summary import Summary, lines
from robustcodec.sealed import is_whole, seal_json, seal_tensors, unseal_json, unseal_tensors
from robustcodec.sealed.shapes import read_json

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

Row = dict[str, Any]  # sample id, scores by name, queries
Curves = dict[str, list[float]]  # psnr, adv_psnr, bits, adv_bits: one number per frame


@dataclass(frozen=True)
class Result:
    """What came of a cell. ``rows``: one per sample; ``error``: a message and a traceback if it failed; ``identity``:
    what its id was made of, the checksums of weights and samples among it; ``frames``: by sample, of clips of more
    than one frame.
    """

    id: str
    cell: Cell
    status: Literal["ok", "error"]
    rows: tuple[Row, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: dict[str, str] | None = None
    error: str | None = None
    identity: dict[str, Any] | None = None
    frames: dict[str, Curves] | None = None


def _plain(value: Any) -> Any:
    """NaN and infinities as null, at any depth of rows and curves: JSON has no others."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Store:
    """A run folder at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with on_disk(root):
            (root / "cells").mkdir(parents=True, exist_ok=True)
            remove_leftovers(root)
        self._index = Index(self.cache / "cells.npz")
        self.damages: list[str] = []  # a line for each file that was found damaged, and counts as not there

    @classmethod
    def existing(cls, root: Path) -> Store:
        """The store of a run; raises :class:`StoreError`, and leaves nothing behind, where there is none."""
        if not (root / "grid.toml").is_file():
            raise StoreError(f"{root} is not a run folder (no grid.toml); give the --out of a robustcodec run")
        return cls(root)

    def done(self, cell_id: str, scores: Iterable[str] = ()) -> bool:
        """True if this cell has succeeded and holds these scores; failed ones run again, and damaged ones."""
        try:
            summary = self.summary(cell_id)
        except DamagedFile as error:
            self._note(error)
            return False
        pictures = self._decoded_path(cell_id)
        if pictures.is_file() and not is_whole(pictures):
            self._note(_damaged(pictures, "it was cut short"))
            return False
        return summary is not None and summary.status == "ok" and summary.holds(scores)

    def _note(self, damage: DamagedFile) -> None:
        """Log, once, that a file is made again."""
        if str(damage) not in self.damages:
            self.damages.append(str(damage))
            self.log({"damaged": str(damage)})

    def put(self, result: Result) -> None:
        """Keep a result."""
        table = asdict(result) | {"rows": _plain(result.rows)}
        table["cell"] = {f.name: getattr(result.cell, f.name) for f in fields(Cell)}  # of a drawn one: its cell's
        if frames := table.pop("frames"):
            table["frames"] = _plain(frames)
        write_whole(self._cell_path(result.id), seal_json(result.id, table))

    def result(self, cell_id: str) -> Result | None:
        """The result of a cell, with what an audit has found of it, or None if there is none yet."""
        if not self._cell_path(cell_id).is_file():
            return None
        result = self._read(cell_id)
        return replace(result, warnings=(*result.warnings, *self._audited.get(cell_id, ())))

    def summary(self, cell_id: str) -> Summary | None:
        """What tables need of :meth:`result`, of which the file is read only if the index does not know it."""
        summary = self._index.summary(self._cell_path(cell_id), lambda: Summary.of(self._read(cell_id)))
        if summary is None or cell_id not in self._audited:
            return summary
        return replace(summary, warnings=(*summary.warnings, *self._audited[cell_id]))

    def _read(self, cell_id: str) -> Result:
        path = self._cell_path(cell_id)
        try:
            with readable(path):
                table = unseal_json(cell_id, path.read_bytes())
            expected.check(table, cell_id)
            return Result(**{**table, "cell": Cell(**table["cell"]), "warnings": tuple(table["warnings"])})
        except (ValueError, TypeError, KeyError, GridError) as error:
            raise _damaged(path, f"it is not a result of this release: {error}") from None

    def put_audit(self, findings: Mapping[str, Sequence[str]]) -> None:
        """Keep what an audit has found, by cell, in the place of what another one found before."""
        write_whole(self.audits / "findings.json", seal_json("findings", dict(sorted(findings.items()))))
        self.__dict__.pop("_audited", None)

    @property
    def cache(self) -> Path:
        """The folder of what only saves time, and may be deleted."""
        return self.root / "cache"

    @property
    def paces(self) -> Path:
        """The folder of what runs that go on say of themselves."""
        return self.cache / "paces"

    @property
    def audits(self) -> Path:
        """The folder, a run folder itself, of what audits craft."""
        return self.root / "audit"

    @cached_property
    def _audited(self) -> dict[str, list[str]]:
        path = self.audits / "findings.json"
        if not path.is_file():
            return {}
        try:
            findings = unseal_json("findings", path.read_bytes())
            if not all(isinstance(of, list) and all(isinstance(line, str) for line in of) for of in findings.values()):
                raise ValueError("its findings are no texts")
        except ValueError as error:
            raise StoreError(f"{path} is no result of an audit ({error}); remove it and audit again") from None
        return findings

    def put_clip(self, craft_id: str, clip: Tensor, info: dict[str, Any]) -> None:
        """Keep an adversarial uint8 clip ``(T, 3, H, W)`` and how it was reached."""
        write_whole(self._clip_path(craft_id), seal_tensors(craft_id, {"clip": clip}, info))

    def holds_clip(self, craft_id: str) -> bool:
        """True if this adversarial clip is there, as it was written."""
        return self.clip(craft_id) is not None

    def clip(self, craft_id: str) -> tuple[Tensor, dict[str, Any]] | None:
        """An adversarial clip and its info; None if it is not there as it was written, which is logged."""
        path = self._clip_path(craft_id)
        if not path.is_file():
            return None
        try:
            with readable(path):
                tensors, info = unseal_tensors(craft_id, path)
        except ValueError as error:
            self._note(_damaged(path, str(error)))
            return None
        return tensors["clip"], info

    def put_decoded(self, cell_id: str, samples: dict[str, dict[str, Tensor]]) -> None:
        """Keep the clips that pictures show: by sample, and by what they are (``original``, ``attacked`` …)."""
        named = {f"{what}/{sample}": clip for sample, clips in samples.items() for what, clip in clips.items()}
        write_whole(self._decoded_path(cell_id), seal_tensors(cell_id, named, list(samples)))

    def decoded(self, cell_id: str) -> dict[str, dict[str, Tensor]]:
        """The clips of :meth:`put_decoded`, in that order; none if there are none.

        Raises :class:`DamagedFile`, once it has emptied the file: :meth:`done` then sees that at a glance.
        """
        path = self._decoded_path(cell_id)
        if not path.is_file():
            return {}
        try:
            with readable(path):
                tensors, samples = unseal_tensors(cell_id, path, before="samples")
        except ValueError as error:
            with suppress(OSError):  # somebody else's folder
                path.write_bytes(b"")
            raise _damaged(path, str(error)) from None
        clips: dict[str, dict[str, Tensor]] = {name: {} for name in samples}
        for name, tensor in tensors.items():
            what, _, sample = name.partition("/")
            clips.setdefault(sample, {})[what] = tensor
        return clips

    def decoded_stamp(self, cell_id: str) -> Stamp | None:
        """What changes whenever the clips of :meth:`put_decoded` are written; None if there are none."""
        return stamp(self._decoded_path(cell_id))

    def put_grid(self, grid: Grid) -> None:
        """Keep the grid that was asked for last."""
        write_whole(self.root / "grid.toml", grid.to_toml().encode())

    def grid(self) -> Grid:
        """The grid of this run folder."""
        if not (self.root / "grid.toml").is_file():
            raise StoreError(f"{self.root} is not a run folder (no grid.toml); give the --out of a robustcodec run")
        objects.take_up(self.root)
        try:
            return Grid.read(self.root / "grid.toml")
        except GridError as error:
            raise _damaged(self.root / "grid.toml", str(error)) from None

    def log(self, entry: dict[str, Any]) -> None:
        """Append to the log, the one file with times in it."""
        with on_disk(self.root / "log.jsonl"), (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def logged(self) -> Iterator[dict[str, Any]]:
        """What the log holds; a line that was not written to its end is left out."""
        path = self.root / "log.jsonl"
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            with suppress(ValueError):
                if isinstance(entry := read_json(line), dict):
                    yield entry

    def frame(self, cells: Iterable[Cell]) -> pandas.DataFrame:
        """One row per finished cell and sample: the axes, ``sample``, the scores, ``warnings``."""
        import pandas

        finished = [(cell, summary) for cell, summary in self._finished(cells) if summary.rows.samples]
        if not finished:
            return pandas.DataFrame()
        warnings = ["; ".join(summary.warnings) for _, summary in finished]
        frame = lines([(cell, summary.rows) for cell, summary in finished], {"warnings": warnings})
        counted = "queries" in frame and bool(frame["queries"].notna().all())
        return frame.astype({"queries": int}) if counted else frame

    def curves(self, cells: Iterable[Cell]) -> pandas.DataFrame:
        """One row per finished cell, sample and frame of clips of more than one frame: the axes, ``sample``,
        ``frame`` (from 0), ``psnr`` and ``adv_psnr`` in dB, ``bits`` and ``adv_bits``; NaN where there is no number.
        """
        import pandas

        tables = [(cell, summary.curves) for cell, summary in self._finished(cells) if summary.curves.samples]
        if not tables:
            return pandas.DataFrame()
        curves = lines(tables, {})
        return curves.assign(frame=curves.groupby(["cell", "sample"]).cumcount())

    def _finished(self, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Summary]]:
        for cell in cells:
            summary = self.summary(cell.id)
            if summary is not None and summary.status == "ok":
                yield cell, summary

    def _decoded_path(self, cell_id: str) -> Path:
        return self.root / "decoded" / f"{cell_id}.safetensors"

    def _cell_path(self, cell_id: str) -> Path:
        return self.root / "cells" / f"{cell_id}.json"

    @property
    def claims(self) -> Path:
        """The folder in which runs that share this one say what they work on."""
        return self.root / "claims"

    def _clip_path(self, craft_id: str) -> Path:
        return self.root / "crafted" / craft_id[:2] / f"{craft_id}.safetensors"


def _damaged(path: Path, why: str) -> DamagedFile:
    return DamagedFile(f"{path} is damaged ({why}); it is made again when the same robustcodec run is started again")


def with_precision(rows: pandas.DataFrame) -> pandas.DataFrame:
    """``rows`` with the column ``precision``: what lacks it was made when there was one alone."""
    return rows if "precision" in rows else rows.assign(precision=Cell.precision)
