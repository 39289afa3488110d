"""How much damage a small perturbation does to a learned codec, and what a defense buys at what cost.

import robustcodec

codec = robustcodec.load("bmshj2018-hyperprior.tiny-q2")
frame = robustcodec.run("grid.toml").frame        # pandas: one row per cell and sample
board = robustcodec.read("runs/default").leaderboard()
outcome = robustcodec.attack("photo.png", "bmshj2018-hyperprior.tiny-q2", attack="pgd", threat="36dB")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "attack", "leaderboard", "load", "read", "run"]

if TYPE_CHECKING:
    import pandas

    from robustcodec.interfaces import Codec
    from robustcodec.studies.attack import attack


def load(codec: str, defense: str = "none") -> Codec:
    """A codec by name, wrapped by a defense: ``load("bmshj2018-hyperprior.tiny-q2")``, in eval mode.

    Raises :class:`robustcodec.errors.UserError` for unknown names, bad parameters and missing weights.
    """
    from robustcodec.coding import defended

    return defended(codec, defense)


@dataclass(frozen=True)
class Run:
    """A run, finished or not: its folder, one row per finished cell and sample, and what failed (cell → error)."""

    folder: Path
    frame: pandas.DataFrame
    errors: dict[str, str]

    def leaderboard(self) -> pandas.DataFrame:
        """Codecs and defenses of this run by their worst case; boards (:func:`leaderboard`) are something else."""
        from robustcodec.reporting.tables import leaderboard

        return leaderboard(self.frame)

    def attacks(self) -> pandas.DataFrame:
        """What each attack did to each codec and defense; columns: :data:`robustcodec.reporting.tables.ATTACKS`."""
        from robustcodec.reporting.tables import attack_table

        return attack_table(self.frame)


def run(grid: str | Path | None = None, out: str | Path | None = None, device: str = "cpu", batch_size: int = 1) -> Run:
    """Run a grid file (default: the grid that ships) into ``out`` (default: ``runs/NAME``); resumes what is there."""
    from robustcodec.execution.runner import Runner
    from robustcodec.running.grid import Grid
    from robustcodec.running.store import Store

    chosen = Grid.default() if grid is None else Grid.read(Path(grid))
    cells = chosen.check()
    store = Store(Path(out) if out else Path("runs") / chosen.name)
    store.put_grid(chosen)
    tally = Runner(store, device, batch_size).run(cells)
    return Run(store.root, store.frame(cells), tally.errors)


def read(folder: str | Path) -> Run:
    """An existing run folder, as far as it has come: ``read("runs/default").leaderboard()``.

    Raises :class:`robustcodec.errors.StoreError` for a folder that holds no run, or results of another release.
    """
    from robustcodec.running.store import Store

    store = Store.existing(Path(folder))
    cells = store.grid().cells()
    summaries = [(str(cell), store.summary(cell.id)) for cell in cells]
    errors = {cell: found.why for cell, found in summaries if found is not None and found.status != "ok"}
    return Run(store.root, store.frame(cells), errors)


def leaderboard(folder: str | Path) -> pandas.DataFrame:
    """A board's entries, ranked: ``leaderboard("leaderboards/photos-quick")``; one line per threat and entry, columns:
    :data:`robustcodec.boards.ranking.COLUMNS`.

    Raises :class:`robustcodec.errors.BoardError` for a folder without a board, or an entry changed by hand.
    """
    from robustcodec.boards.audit import audit
    from robustcodec.boards.board import Board
    from robustcodec.boards.ranking import ranking
    from robustcodec.errors import BoardError

    board = Board.read(Path(folder))
    entries, faults = audit(board)
    if faults:
        raise BoardError(f"{folder}: {faults[0]}")
    return ranking(board, entries).table


def __getattr__(name: str) -> Any:
    """``attack`` is the study's own function, loaded when it is first asked for: what it needs takes seconds."""
    if name == "attack":
        from robustcodec.studies.attack import attack

        return attack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
