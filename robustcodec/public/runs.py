"""Grids: run, and read as far as they have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    import pandas
    from torch import Tensor, nn

    from robustcodec.interfaces import Attack, DataSet, Defense, Objective, Threat
    from robustcodec.running.grid import Grid

T = TypeVar("T")
Some: TypeAlias = T | Sequence[T] | None  # of an axis of a grid


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


def run(
    grid: str | Path | Mapping[str, Any] | Grid | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    batch_size: int = 1,
    *,
    codec: Some[str | nn.Module] = None,
    attack: Some[str | Attack] = None,
    objective: Some[str | Objective] = None,
    threat: Some[str | Threat] = None,
    defense: Some[str | Defense] = None,
    access: Some[str] = None,
    data: Some[str | DataSet | Tensor] = None,
    suite: Some[str] = None,
    precision: Some[str] = None,
    seed: Some[int] = None,
    limit: int | None = None,
    metrics: Sequence[str] = (),
) -> Run:
    """Run a grid into ``out``; resumes what is there, if the same is given. Default: ``runs/NAME``; what has no name is
    named by what it asks for.

    ``grid``: a grid file, a dictionary as such a file holds, or a Grid; None: the grid that ships, or of ``codec`` and
    ``attack``. Each axis is a name, an object or a list of them, in place of those of the grid: codecs as :func:`load`
    takes them, attacks, objectives, threats and defenses as instances of :mod:`robustcodec.interfaces`, data as a data
    set or a tensor ``(N, 3, H, W)``, uint8 or float in [0, 1]. ``limit``: samples of each data set; 0: all.
    ``metrics``: scores beside PSNR and MS-SSIM.

    Raises :class:`robustcodec.errors.UserError` before anything runs, for whatever cannot be run. What is broken in a
    plugin is an error of its own cells, in ``errors``, and raised if there are no others.

    >>> import robustcodec, torch
    >>> pictures = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    >>> run = robustcodec.run(codec=["jpeg:quality=30", "webp"], attack="noise", data=pictures, out="mine")
    >>> run.frame[["codec", "psnr", "adv_psnr"]].shape
    (4, 3)
    """
    from robustcodec import registry
    from robustcodec.brought import objects
    from robustcodec.brought.arguments import PATH, check, device_of, names
    from robustcodec.execution.isolation import isolated
    from robustcodec.execution.runner import Runner
    from robustcodec.running.grid import Grid, select
    from robustcodec.running.store import Store

    check("grid: a grid file, a dictionary or a Grid", grid, (*PATH, Mapping, Grid), optional=True)
    check("out: a folder", out, PATH, optional=True)
    check("batch_size: a whole number", batch_size, int)
    check("limit: a number of samples", limit, int, optional=True)
    metrics, device = names("metrics", metrics), device_of(device)
    match grid:
        case None | Grid():
            base = grid
        case Mapping():
            base = Grid.parse(dict(grid), "", "the dictionary")
        case _:
            base = Grid.read(Path(grid))
    kinds = {"codec": "codecs", "attack": "attacks", "objective": "objectives", "threat": "threats"}
    kinds |= {"defense": "defenses", "data": "data"}
    axes: dict[str, Any] = dict(
        codec=codec, attack=attack, objective=objective, threat=threat, defense=defense, access=access
    )
    axes |= dict(data=data, suite=suite, precision=precision, seed=seed)
    given = {
        axis: list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        for axis, value in axes.items()
    }
    with isolated():
        named = {
            axis: [objects.named(kinds[axis], each) if axis in kinds else each for each in values if each is not None]
            for axis, values in given.items()
        }
    chosen = select(base, named, limit)
    cells = chosen.check()
    for metric in metrics:
        registry.metrics.build(metric)
    store = Store(Path(out) if out else Path("runs") / chosen.name)
    objects.put_down(store.root)
    store.put_grid(chosen)
    tally = Runner(store, device, batch_size, metrics).run(cells)
    return Run(store.root, store.frame(cells), tally.errors)


def read(folder: str | Path) -> Run:
    """An existing run folder, as far as it has come: ``read("runs/default").leaderboard()``.

    Raises :class:`robustcodec.errors.StoreError` for a folder that holds no run, or results of another release.

    >>> import robustcodec
    >>> _ = robustcodec.run(codec="webp", attack="noise", data="photos:size=48", limit=2, out="webp")
    >>> robustcodec.read("webp").leaderboard()["codec"].tolist()
    ['webp']
    """
    from robustcodec.brought.arguments import PATH, check
    from robustcodec.running.store import Store

    check("folder: a run folder", folder, PATH)
    store = Store.existing(Path(folder))
    cells = store.grid().cells()
    summaries = [(str(cell), store.summary(cell.id)) for cell in cells]
    errors = {cell: found.why for cell, found in summaries if found is not None and found.status != "ok"}
    return Run(store.root, store.frame(cells), errors)
