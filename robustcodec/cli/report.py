"""``robustcodec report``: tables, pictures and a page of a run folder, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from robustcodec.cli._document import say
from robustcodec.errors import counted

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from robustcodec.page.publishing import Publication
    from robustcodec.running.grid import Cell
    from robustcodec.running.store import Store
    from robustcodec.studies.headlines import Headlines


def command(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/default.")],
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as JSON, and nothing else.")] = False,
    export: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Write a table to FILE: .csv, .parquet, .tex, .md or .json. Repeatable."),
    ] = None,
    table: Annotated[
        Literal["leaderboard", "attacks", "results"],
        typer.Option(help="What --export writes: a line per contender, per attack on it, or per cell and sample."),
    ] = "leaderboard",
    figures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write figures for print, PDF and PNG, into this folder."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page of the run to this machine's browser while cells finish.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --watch; 0: any that is free.")] = 0,
) -> None:
    """Write the leaderboard, tables, pictures and a page to open (report/index.html), and print the leaderboard.

    With --export or --figures it writes those files alone. LaTeX tables need booktabs; figures are as wide as a column
    or a page of a two-column paper.

    Examples:

        robustcodec report runs/default

        robustcodec report runs/default --export table.tex --export table.csv --figures figures

        robustcodec report runs/default --table results --export results.parquet

        robustcodec report runs/default --watch
    """
    from robustcodec.cli._display import report_console
    from robustcodec.errors import UserError
    from robustcodec.running.store import Store

    if json + watch + bool(export or figures) > 1:
        raise UserError("--json, --watch, and --export with --figures exclude each other; give one of them")
    store, console = Store.existing(run), report_console(stderr=json)
    if watch:
        _serve(store, port, console)
    elif export or figures:
        _export(store, export or [], table, figures, console)
    else:
        publish(store, store.grid().cells(), console, as_json=json)


def _export(store: Store, files: Sequence[Path], table: str, folder: Path | None, console: Console) -> None:
    from robustcodec.reporting import export

    for file in files:  # before anything is written
        export.check(file)
    cells = store.grid().cells()
    rows = store.frame(cells)
    paths = [
        export.write(
            export.table(rows, table, file.suffix),
            file,
            caption=f"{table} of {store.root.resolve().name}",
            label=f"tab:{table}",
            best=export.BEST if table == "leaderboard" else None,
        )
        for file in files
    ]
    if folder is not None:
        paths += export.figures(rows, store.curves(cells), folder)
        if rows.empty:
            console.print("no figures: no cell of this run has finished")
    for path in paths:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _serve(store: Store, port: int, console: Console) -> None:
    from robustcodec.page import serving

    pages = serving.Pages(store)
    listener = serving.listen(port)
    console.print(f"{pages.progress}; watch at {serving.address(listener)} (Ctrl-C ends)")
    serving.Server(listener, pages).run()


class Ending:
    """What a terminal shows in the end of a run: its table, and the picture to look at."""

    def table(self, board: pd.DataFrame) -> Table:
        from robustcodec.reporting import tables

        return tables.terminal_table(board)

    def picture(self, publication: Publication, board: pd.DataFrame, told: Headlines) -> Path | None:
        """``told``: of a run of which something can be told."""
        return publication.picture(str(told.cell))


def publish(
    store: Store,
    cells: Sequence[Cell],
    console: Console,
    as_json: bool,
    threads: int | None = None,
    ending: Ending | None = None,
) -> None:
    """Write tables, pictures and the page of ``cells`` into the run folder, of those already there only what changed.
    Print the leaderboard, or why there is none, and what it says in sentences, with the picture to look at and the page
    to open. ``threads``: that draw; None: one per processor.
    """
    from robustcodec.cli._display import say_failures
    from robustcodec.execution.cores import cores
    from robustcodec.page.publishing import Publication
    from robustcodec.reporting import tables
    from robustcodec.running.labels import labels
    from robustcodec.studies.headlines import Headlines

    ending, publication = ending or Ending(), Publication(store, cells)
    with publication.outputs as outputs:
        made = publication.tables(outputs)
        if as_json:
            import json

            say(json.loads(made.board.to_json(orient="records")))
        elif made.board.empty:
            found = {name: store.summary(cell.id) for cell, name in labels(cells).items()}
            say_failures(console, {cell: one.why for cell, one in found.items() if one and one.status != "ok"})
            console.print(tables.EMPTY if None in found.values() else "No results: every cell failed, see above.")
        else:
            console.print(ending.table(made.board))
            if (scores := tables.terminal_scores(made.attacks)) is not None:
                console.print(scores)
        if publication.rows.empty:
            return
        for sign in made.signs:
            console.print(f"warning: {sign}", highlight=False)
        pictured, finished = publication.pictures(outputs, threads or cores()), publication.rows["cell"].nunique()
        site = publication.page(outputs, made.board)
    told = Headlines.of(made.board, publication.rows)
    if told.cell is not None:
        console.print(f"Most telling ({told.about}):", style="bold", highlight=False)
        for sentence in told.sentences:
            console.print(f"- {sentence}", highlight=False)
        if (picture := ending.picture(publication, made.board, told)) is not None:
            console.print(f"look at: {picture}", highlight=False, soft_wrap=True)
    console.print(f"open: {site}", highlight=False, soft_wrap=True)
    some = f" (of the {counted(pictured, 'cell')} of the most damage)" if pictured < finished else ""
    console.print(
        f"tables: {store.root / 'leaderboard.md'}   pictures: {publication.folder}{some}", style="dim", soft_wrap=True
    )
