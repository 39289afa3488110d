"""``robustcodec run``: craft and evaluate a grid, with a live display, and end with a leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from robustcodec.errors import counted

if TYPE_CHECKING:
    from robustcodec.cli._console import Console
    from robustcodec.cli.report import Ending
    from robustcodec.execution.executors import Workforce
    from robustcodec.execution.runner import Runner, Tally
    from robustcodec.execution.worker import Setting
    from robustcodec.running.grid import Cell, Grid
    from robustcodec.running.store import Store

Axis = Optional[list[str]]  # noqa: UP045 - typer reads it at run time


class Parsed(TyperCommand):
    """``--ray`` without an address is ``--ray local``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        bare = [word == "--ray" and after.startswith("-") for word, after in pairwise([*args, "--"])]
        words = (["--ray", "local"] if alone else [word] for word, alone in zip(args, bare, strict=True))
        return super().parse_args(ctx, list(chain.from_iterable(words)))


def command(
    grid: Annotated[Optional[Path], typer.Argument(help="Grid file (TOML). Default: the grid that ships.")] = None,  # noqa: UP045
    board: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Leaderboard: measure all that it asks of --codec, bare or with --defense."),
    ] = None,
    codec: Annotated[Axis, typer.Option(help="Codec, such as bmshj2018-hyperprior.tiny-q2 or jpeg:quality=30.")] = None,
    attack: Annotated[Axis, typer.Option(help="Attack, such as pgd:steps=50.")] = None,
    objective: Annotated[
        Axis, typer.Option(help="What attacks maximise: distortion, rate, ms-ssim, target:PATH …")
    ] = None,
    defense: Annotated[Axis, typer.Option(help="Defense, or none.")] = None,
    threat: Annotated[
        Axis,
        typer.Option(
            help="Budget: psnr:40, linf:8/255, l2:1.5, mse:1e-4, flicker:8/255; of clips: psnr:40,frames=first."
        ),
    ] = None,
    data: Annotated[Axis, typer.Option(help="Data set: photos, kodak, folder:PATH, file:PATH.")] = None,
    access: Annotated[
        Axis,
        typer.Option(
            help="oblivious, adaptive[:draws=N], transfer:CODEC (several: A|B) or bpda:CODEC (gradient of another)."
        ),
    ] = None,
    suite: Annotated[
        Axis,
        typer.Option(help="Attacks with their objectives, as robustcodec-standard; robustcodec list suites."),
    ] = None,
    precision: Annotated[
        Axis, typer.Option(help="Of gradients while crafting: float32, or bfloat16, which is faster.")
    ] = None,
    metric: Annotated[Axis, typer.Option(help="Score beside PSNR and MS-SSIM, such as lpips:net=squeeze.")] = None,
    seed: Annotated[Optional[list[int]], typer.Option(help="Seed.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=0, help="Samples of each data set; 0 for all.")] = None,  # noqa: UP045
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", "--output", "-o", help="Run folder. Default: runs/NAME; what has no name gets one, which is said."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, several as cuda:0,cuda:1, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples crafted together (more helps on a GPU).")] = 1,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            min=0,
            envvar="ROBUSTCODEC_WORKERS",
            help="Processes on each device. Default: one per core (CPU) or one (CUDA). Results do not depend on it. "
            "0: none but this one; a plugin that crashes then ends the run.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of each process; results are the same bits for the same number.")
    ] = 1,
    ray: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Workers on a Ray cluster instead: its address, or auto; without one, started on this machine."
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option(min=0, help="Of --ray: share of a GPU for each worker, such as 0.5; 0: none.")
    ] = 0.0,
    shard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Part K of N of the grid, as K/N, for a job array; robustcodec merge puts parts together."),
    ] = None,
    cell_timeout: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.1, help="Seconds of work after which a cell is given up, as its own failure."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as JSON, and nothing else.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page of the run to this machine's browser while cells finish.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of --serve; 0: any that is free.")] = 0,
) -> None:
    """Attack codecs over a grid and rank them.

    Axes can be given more than once, and braces sweep: --threat "psnr:{30,34,40}" gives security curves. The run can be
    interrupted at any moment; the same command resumes it.

    Examples:

        robustcodec run

        robustcodec run --codec mbt2018-mean.tiny-q2 --attack pgd --attack noise --threat psnr:34 --data kodak

        robustcodec run --suite robustcodec-standard --codec mbt2018-mean.tiny-q2 --threat "psnr:{34,40}" --limit 2

        robustcodec run mygrid.toml --device cuda --batch-size 8 --out runs/mine

        robustcodec run mygrid.toml --serve

        robustcodec run mygrid.toml --workers 8 --cell-timeout 3600

        robustcodec run mygrid.toml --shard 2/8

        robustcodec run mygrid.toml --ray auto --gpus-per-worker 0.5

        robustcodec run --board leaderboards/photos-quick --codec mine --defense none --defense self-ensemble
    """
    options = locals()
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import plan_of, report_console
    from robustcodec.running.grid import AXES, Grid, select

    console = report_console(stderr=json)
    given = {axis: list(options[axis] or ()) for axis in (*AXES, "suite")}
    chosen = _of_board(board, given, limit) if board else select(Grid.read(grid) if grid else None, given, limit)
    with console.status("loading codecs and data …"):
        from robustcodec import registry
        from robustcodec.cli._display import choose_device
        from robustcodec.execution.executors import Workforce
        from robustcodec.execution.shards import Shard
        from robustcodec.execution.worker import Setting
        from robustcodec.running.store import Store

        cells, name = chosen.check(), chosen.name
        if shard is not None:
            part = Shard.parse(shard)
            cells, name = part.of(cells), f"{name}-{part.number}-of-{part.count}"
        devices = tuple(choose_device(name) for name in device.split(","))
        for each in metric or ():
            registry.metrics.build(each)
        store = Store(out or Path("runs") / name)  # after all that may be wrong in what was typed
        store.put_grid(chosen)
        workforce = Workforce(devices, workers, cell_timeout is not None, ray, gpus_per_worker)
        plan = plan_of(cells)
    console.print(plan, highlight=False, soft_wrap=True)
    console.print(f"run folder: {store.root}", style="dim", highlight=False, soft_wrap=True)
    setting = Setting(tuple(metric or ()), threads)
    with _served(store.root, port, console) if serve else nullcontext():
        measure(cells, store, workforce, setting, console, json, batch_size, cell_timeout)


def measure(
    cells: Sequence[Cell],
    store: Store,
    workforce: Workforce,
    setting: Setting,
    console: Console,
    as_json: bool,
    batch_size: int = 1,
    cell_timeout: float | None = None,
    ending: Ending | None = None,
) -> None:
    """Run what is missing of ``cells`` before the eyes of who asked for it, and publish it all; arguments are as the
    options of the command. Raises :class:`typer.Exit` if a cell failed or Ctrl-C ended it.
    """
    from robustcodec.cli._display import say_failures
    from robustcodec.cli.report import publish

    runner, tally, drawing = carry_out(cells, store, workforce, setting, console, batch_size, cell_timeout)
    publish(store, cells, console, as_json, drawing, ending)
    were = "was" if tally.skipped == 1 else "were"
    console.print(
        f"{counted(tally.ran, 'cell')} ran, {tally.skipped} {were} done before, {tally.failed} failed; "
        f"{counted(runner.queries, 'query')} to craft {counted(runner.clips, 'clip')}",
        style="dim",
    )
    if tally.ran + tally.skipped:  # else they have been said in the place of a leaderboard
        say_failures(console, tally.errors)
    if tally.failed:
        raise typer.Exit(2 if tally.failed == tally.mistakes else 1)


def carry_out(
    cells: Sequence[Cell],
    store: Store,
    workforce: Workforce,
    setting: Setting,
    console: Console,
    batch_size: int = 1,
    cell_timeout: float | None = None,
) -> tuple[Runner, Tally, int]:
    """Run what is missing of ``cells``; the third of what it returns is how many threads may draw afterwards. Raises
    :class:`typer.Exit` on Ctrl-C.
    """
    from robustcodec.cli._display import RunDisplay
    from robustcodec.execution.cores import cores
    from robustcodec.execution.runner import Runner

    with workforce.hired(setting) as executor:
        runner = Runner(store, workforce.devices[0], batch_size, setting.metrics, executor, cell_timeout)
        try:
            with RunDisplay(console) as display:
                tally = runner.run(cells, display)
        except KeyboardInterrupt:
            done = sum(map(runner.done, cells))
            console.print(
                f"interrupted: {done} of {counted(len(cells), 'cell')} done; the same command goes on from here"
            )
            raise typer.Exit(130) from None
        return runner, tally, max(1, min(cores(), (setting.threads or 1) * executor.slots))


def _of_board(folder: Path, axes: dict[str, list[Any]], limit: int | None) -> Grid:
    """What a board asks of codecs and defenses; raises :class:`GridError` if anything else is asked for too."""
    from robustcodec.boards.board import Board
    from robustcodec.errors import GridError
    from robustcodec.spec import expand

    named = {axis: axes.pop(axis) for axis in ("codec", "defense")}
    if more := [axis for axis, values in axes.items() if values] + (["limit"] if limit is not None else []):
        raise GridError(f"--board fixes all but --codec and --defense; drop --{' and --'.join(more)}")
    if not named["codec"]:
        raise GridError("--board needs a codec to measure; add --codec NAME")
    codecs, defenses = ([each for name in names for each in expand(name)] for names in named.values())
    return Board.read(folder).grid((codec, defense) for codec in codecs for defense in defenses or ["none"])


@contextmanager
def _served(folder: Path, port: int, console: Console) -> Iterator[None]:
    """The page of the run in a browser, from before its first cell until after its last."""
    from robustcodec.page import serving

    listener = serving.listen(port)
    console.print(f"watch at {serving.address(listener)}")
    with serving.beside(folder, listener):
        yield
    console.print(f"the server has ended with the run; its page stays: {folder / serving.PAGE}", style="dim")
