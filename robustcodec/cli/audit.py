"""``robustcodec audit``: has a run reached the worst case?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustcodec.cli._document import say
from robustcodec.errors import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pandas import DataFrame
    from rich.table import Table

    from robustcodec.running.grid import Cell


def command(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/default.")],
    share: Annotated[float, typer.Option(help="Of the samples of each cell, at least one.")] = 0.1,
    longer: Annotated[int, typer.Option(help="How many times as long a schedule is tried.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the draw of samples.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples crafted together (more helps on a GPU).")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
) -> None:
    """Try to do more damage than a run did, on some of its samples.

    Every attack is tried again with other surrogates of the rounding and with a longer schedule, and every clip that
    another cell has crafted of the same sample within the same threat is tried too. What does clearly more damage than
    the worst case of the run becomes a finding of its cell: report, the page and leaderboard add show it, until the
    next audit. Of each codec a line says how much PSNR the run's attacks took, and how much with those of the audit:
    the ratio tells how strong the attacks of the run are (RUN/audit/reach.csv). What is crafted stays in RUN/audit: an
    audit that was interrupted goes on with the same command.

    Examples:

        robustcodec audit runs/default

        robustcodec audit runs/mine --share 0.25 --longer 20 --seed 1

        robustcodec audit runs/mine --json
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import report_console
    from robustcodec.cli.report import publish

    console = report_console(stderr=json)
    with console.status("loading codecs and data …"):
        from robustcodec.cli._display import RunDisplay, choose_device, say_failures
        from robustcodec.execution.runner import Runner
        from robustcodec.running.store import Store
        from robustcodec.studies import audit
        from robustcodec.studies.audit_reach import reach

        store = Store.existing(run)
        plan = audit.plan(store, share, longer, seed)
        tried = [challenge.cell for challenge in plan.challenges]
        runner = Runner(Store(store.audits), choose_device(device), batch_size)
    try:
        with RunDisplay(console) as display:
            found, tally = audit.audit(store, runner, plan, display, display.note)
    except KeyboardInterrupt:
        console.print("interrupted: what was crafted is kept; the same command goes on from here")
        raise typer.Exit(130) from None
    publish(store, store.grid().cells(), console, as_json=False)
    reached = reach(store, plan)
    if json:
        say({"findings": found, "reach": reached.to_dict("records")})
    else:
        if found:
            console.print(_table(plan.samples, found))
        console.print(_reached(reached))
    console.print(
        f"{counted(len(plan.samples), 'cell')} audited by {len(tried)} changed attacks and each other's clips, and "
        f"{len(found)} {'was' if len(found) == 1 else 'were'} beaten; {counted(tally.failed, 'attack')} failed",
        style="dim",
    )
    say_failures(console, tally.errors)
    if tally.failed:
        raise typer.Exit(1)


def _reached(reached: DataFrame) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = "Mean loss of PSNR (dB) under the worst attack of each audited sample"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("threat", "codec", "defense"):
        table.add_column(head, overflow="fold")
    for head in ("samples", "run", "with audit", "ratio"):
        table.add_column(head, justify="right")
    for row in reached.to_dict("records"):
        names = (Text(str(row[name])) for name in ("threat", "codec", "defense"))
        table.add_row(*names, str(row["samples"]), *(f"{row[n]:.2f}" for n in ("loss", "audited_loss", "ratio")))
    return table


def _table(cells: Iterable[Cell], found: Mapping[str, Sequence[str]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title="What does more damage than the run", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("cell", "finding"):
        table.add_column(head, overflow="fold")
    for cell in cells:
        for line in found.get(cell.id, ()):
            table.add_row(Text(str(cell)), Text(line.removeprefix("audit: ")))
    return table
