"""``robustcodec merge``: parts of one grid, made on several machines, as one run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustcodec.errors import counted


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one grid, such as those of run --shard K/N.")],
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Run folder to make, or to add to.")],
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as JSON, and nothing else.")] = False,
) -> None:
    """Put run folders of one grid together, and show the leaderboard of all of it.

    The same files come out as of one run on one machine. What is missing still, because a part has not ended, is said;
    the same command adds it later.

    Examples:

        robustcodec merge runs/mine-1-of-2 runs/mine-2-of-2 --out runs/mine
    """
    from robustcodec.cli._display import report_console
    from robustcodec.cli.report import publish
    from robustcodec.execution.merging import merge
    from robustcodec.running.store import Store

    console = report_console(stderr=json)
    with console.status("merging …") as status:
        merged = merge(runs, out, lambda run: status.update(f"merging {run} …"))
    for path in merged.damaged:
        console.print(f"left out: {path} is damaged", style="yellow", highlight=False, soft_wrap=True)
    store = Store(out)
    publish(store, store.grid().cells(), console, as_json=json)
    console.print(
        f"{counted(merged.copied, 'file')} copied, {merged.there} there before; "
        f"{counted(merged.missing, 'cell')} missing and {merged.failed} failed",
        style="dim",
    )
    if merged.failed:
        raise typer.Exit(1)
