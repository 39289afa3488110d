"""``robustcodec recompress``: generations of coding and decoding, clean and attacked, as tables and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._document import say
from robustcodec.errors import BadParameter

if TYPE_CHECKING:
    import pandas
    from rich.console import Console

    from robustcodec.interfaces import Sample
    from robustcodec.running.grid import Cell

Several = Optional[list[str]]  # noqa: UP045 - typer reads these at run time


def command(
    data: Annotated[str, typer.Option(help="Data set: photos, kodak, folder:PATH, file:PATH …")],
    codec: Annotated[list[str], typer.Option(help="Codec; braces stand for several, such as jpeg:quality={30,75}.")],
    defense: Annotated[Several, typer.Option(help="Defense around every codec, or none.")] = None,
    generations: Annotated[int, typer.Option(min=1, help="How often each clip is coded and decoded.")] = 10,
    between: Annotated[
        Several,
        typer.Option(
            help="Before a clip is coded again: none, shift:DX,DY (circular, in pixels), or a codec: jpeg:90."
        ),
    ] = None,
    attack: Annotated[
        Several, typer.Option(help="Attack whose result is the first input, beside the clean one, such as pgd.")
    ] = None,
    objective: Annotated[Several, typer.Option(help="What attacks maximise.")] = None,
    threat: Annotated[Several, typer.Option(help="Budget of attacks, such as psnr:40.")] = None,
    access: Annotated[Several, typer.Option(help="What attackers know: oblivious, adaptive …")] = None,
    seed: Annotated[int, typer.Option(help="Seed of attacks.")] = 0,
    metric: Annotated[Several, typer.Option(help="Score beside PSNR and MS-SSIM, such as lpips:net=squeeze.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Samples of the data set; 0 for all.")] = 0,
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Run folder in which attacked clips are looked for and kept. Default: run, inside --out."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Folder to write to.")] = Path("runs/recompress"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the means as JSON, and nothing else.")] = False,
) -> None:
    """Code and decode clips again and again, and see what is left.

    Every generation is real bytes, decoded and rounded to 8 bits; scores are against the clean source. It can be
    interrupted at any moment; the same command goes on from there.

    Examples:

        robustcodec recompress --data photos --codec "mbt2018-mean.tiny-q{1,3}" --codec jpeg:quality=75

        robustcodec recompress --data kodak --codec mbt2018-mean.tiny-q2 --defense none --defense self-ensemble
        --attack pgd --threat psnr:40 --access adaptive --between none --between shift:3,5
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import CraftingNote, choose_device, progress_bar, report_console

    console = report_console(stderr=json)
    axes = {"objective": objective, "threat": threat, "access": access}
    if not attack and (idle := [f"--{name}" for name, given in axes.items() if given]):
        raise BadParameter(f"{' and '.join(idle)} are of an attack, and none is given; add one, such as --attack pgd")
    with console.status("loading codecs and data …"):
        from robustcodec import registry
        from robustcodec.execution.runner import Runner
        from robustcodec.running.grid import Grid
        from robustcodec.running.store import Store
        from robustcodec.scores.metrics import of_every_run
        from robustcodec.spec import expand
        from robustcodec.studies import recompress as chains
        from robustcodec.studies import recompress_report as tables

        codecs = [spec for text in codec for spec in expand(text)]
        defenses = [spec for text in defense or ["none"] for spec in expand(text)]
        betweens = list(dict.fromkeys(spec for text in between or ["none"] for spec in expand(text)))
        samples: list[Sample] = registry.data.build(data).samples()
        samples = samples[:limit] if limit else samples
        cells: list[Cell] = []
        where = choose_device(device)
        store = Store(run or out / "run")
        if attack:
            given: dict[str, Any] = {name: values for name, values in axes.items() if values}
            block = {
                "codec": codecs,
                "defense": defenses,
                "attack": attack,
                "data": [data],
                "seed": seed,
                "limit": limit,
            }
            grid = Grid.parse({"block": [block | given]}, "recompress", "the command line")
            cells = grid.check()
            if not (store.root / "grid.toml").is_file():
                store.put_grid(grid)
        lines = chains.lines(codecs, defenses, cells)
        metrics = of_every_run(metric or (), where)
        runner = Runner(store, where, with_clips=True)
    try:
        with progress_bar(console) as progress:
            total = len(lines) * len(betweens) * len(samples)
            task = progress.add_task("chains", total=total, completed=-1, note="")
            rows, failures = chains.study(
                lines,
                betweens,
                samples,
                generations,
                metrics,
                out,
                runner,
                lambda note: progress.update(task, advance=1, note=note),
                CraftingNote(progress, task),
            )
        paths = tables.write(rows, failures, metrics, data, out)
    except KeyboardInterrupt:
        console.print("interrupted: finished chains are kept; the same command goes on from here")
        raise typer.Exit(130) from None
    if len(rows) or json:
        _publish(tables.means(rows), console, json)
    console.print("written: " + ", ".join(path.name for path in paths) + f" in {out}", style="dim")
    for failure in failures:
        text = f"failed: {failure.codec}; {failure.clip}: {failure.reason}"
        console.print(text, style="bold", highlight=False)
    if failures:
        raise typer.Exit(2 if all(failure.mistake for failure in failures) else 1)


def _publish(points: pandas.DataFrame, console: Console, as_json: bool) -> None:
    """The first and the last generation on the terminal, or all means as JSON on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from robustcodec.reporting.text import shown
    from robustcodec.scores.columns import column
    from robustcodec.studies.recompress import words
    from robustcodec.studies.recompress_report import LINE

    if as_json:
        import json

        say(json.loads(points.to_json(orient="records")))
        return
    last = int(points["generation"].max()) if len(points) else 0
    title = f"Generation 1 → {last}: means over samples, against the clean source"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("codec and first input", overflow="fold")
    scores = [column(name) for name in ("psnr", "ms_ssim", "bpp")]
    for score in scores:
        table.add_column(score.title, justify="right", no_wrap=True)
    for between, group in points.groupby("between", sort=False):
        table.add_section()
        table.add_row(Text(f"between generations: {between}", style="bold"))
        for key, line in group.groupby(LINE[1:], sort=False):
            ends = line.set_index("generation").reindex([1, last])
            cells = [" → ".join(shown(value, score.digits) for value in ends[score.name]) for score in scores]
            table.add_row(Text(words(*map(str, key))), *cells)
    console.print(table)
