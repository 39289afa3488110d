"""``robustcodec leaderboard measure``: what whoever keeps boards has measured, by one command that resumes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._tables import build_tables
from robustcodec.errors import counted

if TYPE_CHECKING:
    from robustcodec.boards.board import Board
    from robustcodec.cli._console import Console
    from robustcodec.execution.executors import Workforce
    from robustcodec.running.store import Store


def measure_all(
    boards: Annotated[Path, typer.Argument(help="A board, or a folder of boards.")] = Path("leaderboards"),
    by: Annotated[str, typer.Option(help="Who measures: a name, with an address if you like.")] = "",
    out: Annotated[
        Path, typer.Option("--out", "--output", "-o", help="Folder of the run folders, one for each board.")
    ] = Path("runs/boards"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, several as cuda:0,cuda:1, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples crafted together (more helps on a GPU).")] = 1,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, envvar="ROBUSTCODEC_WORKERS", help="Processes on each device. Default: as of run."),
    ] = None,
) -> None:
    """Measure all that boards name under [[contenders]], and make entries of it.

    The same command goes on where it was interrupted, also on a board that has got more contenders. Entries of others
    stay. What fails or is refused is named and stops nothing else; exit code 1 then.

    Examples:

        robustcodec leaderboard measure leaderboards --by "A. Person"

        robustcodec leaderboard measure leaderboards/photos-quick --by "A. Person" --workers 2 --out runs/boards
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.boards import submission
    from robustcodec.boards.board import boards_below
    from robustcodec.cli._display import choose_device, report_console
    from robustcodec.errors import BoardError, UserError
    from robustcodec.execution.executors import Workforce
    from robustcodec.running.store import Store

    if not by.strip():
        raise BoardError("entries say who measured them; give --by NAME")
    console, failed = report_console(), 0
    workforce = Workforce(tuple(choose_device(name) for name in device.split(",")), workers)
    asked = [board for board in boards_below(boards) if board.contenders]
    if not asked:
        raise BoardError(f"no board in {boards} has [[contenders]]; name in its board.toml what is to be measured")
    for board in asked:
        console.print(f"{board.name}: {counted(len(board.named()), 'contender')}", style="bold", highlight=False)
        try:
            submission.check_data(board)
            store = Store(out / board.name)
            failed += _measured(board, store, workforce, batch_size, console)
            failed += enter(store, board, board.named(), by, console)
        except UserError as error:  # other boards may do
            console.print(f"not measured: {board.name}: {error}", style="bold", highlight=False, soft_wrap=True)
            failed += 1
    faults = build_tables(boards)
    if failed or faults:
        raise typer.Exit(1)


def _measured(board: Board, store: Store, workforce: Workforce, batch_size: int, console: Console) -> int:
    """Run what is missing; returns how many cells failed. Raises :class:`typer.Exit` on Ctrl-C."""
    from robustcodec.boards import submission
    from robustcodec.cli._display import plan_of, say_failures
    from robustcodec.cli.run import carry_out
    from robustcodec.execution.worker import Setting

    grid = board.grid(pair for pair in board.named() if _can_be_built(board, *pair))
    store.put_grid(grid)
    cells = grid.check()
    console.print(plan_of(cells), highlight=False, soft_wrap=True)
    _, tally, _ = carry_out(cells, store, workforce, Setting((), 1), console, batch_size)
    say_failures(console, tally.errors)
    spent = sum(submission.seconds(store).values())
    console.print(f"{board.name}: {spent / 3600:.2f} hours of work in {counted(len(cells), 'cell')}", highlight=False)
    return tally.failed


def _can_be_built(board: Board, codec: str, defense: str) -> bool:
    """What cannot is refused, with its reason, when entries are made."""
    from robustcodec.errors import UserError

    try:
        board.kind_of(codec, defense)
    except UserError:
        return False
    return True


def enter(store: Store, board: Board, pairs: Iterable[tuple[str, str]], by: str, console: Console) -> int:
    """Make entries of codecs and defenses that a run met; says which, and returns how many were refused."""
    from datetime import date

    from robustcodec.boards import submission
    from robustcodec.boards.board import RESULTS
    from robustcodec.boards.entry import Entry

    refused = 0
    for codec, defense in pairs:
        with console.status(f"looking at {codec}, {defense} …"):
            result = submission.entry(store, board, codec, defense, by, date.today().isoformat())
        if isinstance(result, Entry):
            console.print(f"added: {result.write(board.folder / RESULTS)}", highlight=False, soft_wrap=True)
            continue
        refused += 1
        console.print(f"refused: {codec}, defense {defense}", style="bold", highlight=False, soft_wrap=True)
        for reason in result.reasons:
            console.print(f"  {reason}", highlight=False, soft_wrap=True)
    return refused
