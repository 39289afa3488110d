"""``robustcodec report``: tables and pictures of a run folder, finished or not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from robustcodec.grid import Cell
    from robustcodec.store import Store


def command(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/default.")],
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as JSON, and nothing else.")] = False,
) -> None:
    """Write the leaderboard, tables and pictures of a run, and print the leaderboard.

    Example:

        robustcodec report runs/default
    """
    from robustcodec.cli._display import report_console
    from robustcodec.store import Store

    if not (run / "grid.toml").is_file():
        from robustcodec.errors import StoreError

        raise StoreError(f"{run} is not a run folder (no grid.toml); give the --out of a robustcodec run")
    store = Store(run)
    publish(store, store.grid().cells(), report_console(stderr=json), as_json=json)


def publish(store: Store, cells: Sequence[Cell], console: Console, as_json: bool) -> None:
    """Write tables and pictures of ``cells`` into the run folder and print the leaderboard."""
    from robustcodec import checks, defended, pictures, report, security

    rows = store.frame(cells)
    report.write(rows, store.root)
    board = report.leaderboard(rows)
    if as_json:
        sys.stdout.write(board.to_json(orient="records", indent=1) + "\n")
    else:
        console.print(report.terminal_table(board))
    if rows.empty:
        return
    for suspicion in checks.masking(rows):
        console.print(f"warning: {suspicion}", markup=False, highlight=False)
    folder = store.root / "pictures"
    pictures.write_all(store, cells, rows, folder)
    security.write(rows, folder)
    defended.write(rows, store.root)
    console.print(f"tables: {store.root / 'leaderboard.md'}   pictures: {folder}", style="dim", markup=False)
