"""The run folder: one JSON file per finished cell, one file per adversarial clip, each written whole or not at all.

A file's existence means "done". Nothing in a cell's file depends on when or how fast it was made, so a run that
was killed and resumed is byte-identical to one that was not; times go to ``log.jsonl``, and to ``cache``, which holds
nothing that is not made again where it is missing.
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
from robustcodec.errors import StoreError
from robustcodec.files import Stamp, on_disk, remove_leftovers, stamp, write_whole
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.index import Index
from robustcodec.running.summary import Summary, lines

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

    @classmethod
    def existing(cls, root: Path) -> Store:
        """The store of a run; raises :class:`StoreError`, and leaves nothing behind, where there is none."""
        if not (root / "grid.toml").is_file():
            raise StoreError(f"{root} is not a run folder (no grid.toml); give the --out of a robustcodec run")
        return cls(root)

    def done(self, cell_id: str, scores: Iterable[str] = ()) -> bool:
        """True if this cell has succeeded and holds these scores; failed ones run again."""
        summary = self.summary(cell_id)
        return summary is not None and summary.status == "ok" and summary.holds(scores)

    def put(self, result: Result) -> None:
        """Keep a result."""
        table = asdict(result) | {"rows": _plain(result.rows)}
        table["cell"] = {f.name: getattr(result.cell, f.name) for f in fields(Cell)}  # of a drawn one: its cell's
        if frames := table.pop("frames"):
            table["frames"] = _plain(frames)
        text = json.dumps(table, indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(self.root / "cells" / f"{result.id}.json", text.encode() + b"\n")

    def result(self, cell_id: str) -> Result | None:
        """The result of a cell, with what an audit has found of it, or None if there is none yet."""
        if not self._cell_path(cell_id).is_file():
            return None
        result = self._read(cell_id)
        return replace(result, warnings=(*result.warnings, *self._audited.get(cell_id, ())))

    def summary(self, cell_id: str) -> Summary | None:
        """What tables need of :meth:`result`, of which the file is read only if the index does not know it."""
        summary = self._index.summary(self._cell_path(cell_id), lambda: self._summarised(cell_id))
        if summary is None or cell_id not in self._audited:
            return summary
        return replace(summary, warnings=(*summary.warnings, *self._audited[cell_id]))

    def _read(self, cell_id: str) -> Result:
        try:
            table = json.loads(self._cell_path(cell_id).read_text(encoding="utf-8"))
            return Result(**{**table, "cell": Cell(**table["cell"]), "warnings": tuple(table["warnings"])})
        except (ValueError, TypeError, KeyError) as error:
            raise self._foreign(cell_id, error) from None

    def _summarised(self, cell_id: str) -> Summary:
        try:
            return Summary.of(self._read(cell_id))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._foreign(cell_id, error) from None

    def _foreign(self, cell_id: str, error: Exception) -> StoreError:
        path = self._cell_path(cell_id)
        return StoreError(f"{path} is not a result of this release ({error}); remove it and run again")

    def put_audit(self, findings: Mapping[str, Sequence[str]]) -> None:
        """Keep what an audit has found, by cell, in the place of what another one found before."""
        text = json.dumps(findings, indent=1, sort_keys=True, ensure_ascii=False)
        write_whole(self.audits / "findings.json", text.encode() + b"\n")
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
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise StoreError(f"{path} is no result of an audit ({error}); remove it and audit again") from None

    def put_clip(self, craft_id: str, clip: Tensor, info: dict[str, Any]) -> None:
        """Keep an adversarial uint8 clip ``(T, 3, H, W)`` and how it was reached."""
        from safetensors.torch import save

        data = save({"clip": clip.contiguous()}, {"info": json.dumps(info, sort_keys=True)})
        write_whole(self._clip_path(craft_id), data)

    def holds_clip(self, craft_id: str) -> bool:
        """True if this adversarial clip is there."""
        return self._clip_path(craft_id).is_file()

    def clip(self, craft_id: str) -> tuple[Tensor, dict[str, Any]] | None:
        """An adversarial clip and its info, or None if it is not there."""
        from safetensors import safe_open

        path = self._clip_path(craft_id)
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            return file.get_tensor("clip"), json.loads(file.metadata()["info"])

    def put_decoded(self, cell_id: str, samples: dict[str, dict[str, Tensor]]) -> None:
        """Keep the clips that pictures show: by sample, and by what they are (``original``, ``attacked`` …)."""
        from safetensors.torch import save

        named = {f"{what}/{sample}": clip for sample, clips in samples.items() for what, clip in clips.items()}
        order = json.dumps(list(samples))
        write_whole(
            self._decoded_path(cell_id),
            save({name: clip.contiguous() for name, clip in named.items()}, {"samples": order}),
        )

    def decoded(self, cell_id: str) -> dict[str, dict[str, Tensor]]:
        """The clips of :meth:`put_decoded`, in that order; none if there are none."""
        from safetensors import safe_open

        path = self._decoded_path(cell_id)
        if not path.is_file():
            return {}
        with safe_open(path, "pt") as file:
            clips: dict[str, dict[str, Tensor]] = {name: {} for name in json.loads(file.metadata()["samples"])}
            for name in file.keys():
                what, _, sample = name.partition("/")
                clips[sample][what] = file.get_tensor(name)
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
        return Grid.read(self.root / "grid.toml")

    def log(self, entry: dict[str, Any]) -> None:
        """Append to the log, the one file with times in it."""
        with on_disk(self.root / "log.jsonl"), (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def logged(self) -> Iterator[dict[str, Any]]:
        """What the log holds; a line that was not written to its end is left out."""
        path = self.root / "log.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            with suppress(ValueError):
                yield json.loads(line)

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


def with_precision(rows: pandas.DataFrame) -> pandas.DataFrame:
    """``rows`` with the column ``precision``: what lacks it was made when there was one alone."""
    return rows if "precision" in rows else rows.assign(precision=Cell.precision)
