"""How much damage a small perturbation does to a learned codec, and what a defense buys at what cost.

import robustcodec

codec = robustcodec.load("bmshj2018-hyperprior.tiny-q2")
frame = robustcodec.run("grid.toml").frame        # pandas: one row per cell and sample
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Run", "load", "run"]

if TYPE_CHECKING:
    import pandas

    from robustcodec.interfaces import Codec


def load(codec: str, defense: str = "none") -> Codec:
    """A codec by name, wrapped by a defense: ``load("bmshj2018-hyperprior.tiny-q2")``, in eval mode.

    Raises :class:`robustcodec.errors.UserError` for unknown names, bad parameters and missing weights.
    """
    from robustcodec import registry

    built: Codec = registry.defenses.build(defense).wrap(registry.codecs.build(codec))
    return built.eval()


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, one row per cell and sample, and what failed (cell → error)."""

    folder: Path
    frame: pandas.DataFrame
    errors: dict[str, str]

    def leaderboard(self) -> pandas.DataFrame:
        """Codecs and defenses ranked by their worst case."""
        from robustcodec import report

        return report.leaderboard(self.frame)


def run(grid: str | Path | None = None, out: str | Path | None = None, device: str = "cpu", batch_size: int = 1) -> Run:
    """Run a grid file (default: the grid that ships) into ``out`` (default: ``runs/NAME``); resumes what is there."""
    from robustcodec.grid import Grid
    from robustcodec.runner import Runner
    from robustcodec.store import Store

    chosen = Grid.default() if grid is None else Grid.read(Path(grid))
    cells = chosen.check()
    store = Store(Path(out) if out else Path("runs") / chosen.name)
    store.put_grid(chosen)
    tally = Runner(store, device, batch_size).run(cells)
    return Run(store.root, store.frame(cells), tally.errors)
