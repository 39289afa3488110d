"""``robustcodec compare``: rate–distortion of codecs without an attack, as tables, BD-rates, plots and close-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._document import say
from robustcodec.errors import BadParameter

if TYPE_CHECKING:
    import pandas
    from rich.console import Console

    from robustcodec.interfaces import Metric, Sample
    from robustcodec.scores.perception import SetScore

Several = Optional[list[str]]  # noqa: UP045 - typer reads these at run time
Rate = Optional[float]  # noqa: UP045
Region = Optional[str]  # noqa: UP045


def command(
    data: Annotated[str, typer.Option(help="Data set: photos, kodak, folder:PATH, uvg:PATH …")],
    codec: Annotated[
        Several, typer.Option(help="Codec; braces stand for several, such as h264:crf={27,33,39} or rdae.tiny-q{1,2}.")
    ] = None,
    ladder: Annotated[
        Several, typer.Option(help="NAME=CODEC, braces as above: codecs of one line by that name; adds up if repeated.")
    ] = None,
    metric: Annotated[Several, typer.Option(help="Score beside PSNR and MS-SSIM, such as lpips:net=squeeze.")] = None,
    set_score: Annotated[
        Several,
        typer.Option(help="fid or inception_score, of all decoded frames as one set; needs Inception's weights."),
    ] = None,
    frames: Annotated[int, typer.Option(min=0, help="Frames of each clip: short for frames=N of the data set.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Clips of the data set; 0 for all.")] = 0,
    closeup: Annotated[
        Several, typer.Option(help="CLIP[:FRAME]: a region of that frame by every ladder, side by side; with --at-bpp.")
    ] = None,
    at_bpp: Annotated[Rate, typer.Option(help="Rate of the close-ups; the nearest codecs are shown.")] = None,
    box: Annotated[
        Region, typer.Option(help="Of the close-ups: LEFT,TOP,WIDTH,HEIGHT. Default: where codecs differ most.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Folder to write to.")] = Path("runs/compare"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print means and BD-rates as JSON, and nothing else.")] = False,
) -> None:
    """Measure codecs by their real bytes and compare their curves.

    Codecs that differ in rate alone (quality, crf … or a tag's -q1, -q2) are a ladder: a line of the plots. BD-rates
    are against the first ladder. It can be interrupted at any moment; the same command goes on from there.

    Examples:

        robustcodec compare --data kodak --codec "jpeg:quality={10,20,40,60}" --codec "mbt2018-mean.tiny-q{1,2,3}"

        robustcodec compare --data folder:clips --frames 16 --codec "h265:crf={24,30,36,42}" --codec
        "h264:crf={24,30,36,42}" --metric lpips:net=squeeze --closeup foreman:8 --at-bpp 0.1

        robustcodec compare --data kinetics:crop=160 --codec "rdae.tiny-q{1,2,3}" --set-score fid
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import choose_device, progress_bar, report_console

    console = report_console(stderr=json)
    if closeup and not (at_bpp and at_bpp > 0):
        raise BadParameter("--closeup shows codecs at one rate; give it in bits per pixel, such as --at-bpp 0.1")
    with console.status("loading codecs and data …"):
        from robustcodec import registry
        from robustcodec.scores.metrics import of_every_run
        from robustcodec.spec import Spec, expand
        from robustcodec.studies import compare_closeups, compare_report
        from robustcodec.studies.compare import compare
        from robustcodec.studies.compare_sets import set_scores
        from robustcodec.studies.ladders import ladders

        lines = ladders((spec for text in codec or () for spec in expand(text)), _named(ladder or ()))
        spec = Spec.parse(data)
        source = str(replace(spec, params=(*spec.params, ("frames", str(frames))))) if frames else data
        samples: list[Sample] = registry.data.build(source).samples()
        samples = samples[:limit] if limit else samples
        shown = [_frame(text, [sample.id for sample in samples]) for text in closeup or ()]
        region = compare_closeups.Box.parse(box) if box else None
        where = choose_device(device)
        metrics = of_every_run(metric or (), where)
        of_sets = _of_sets(set_score or ())
    named = list(dict.fromkeys(spec for line in lines for spec in line.codecs))
    total = len(named) * (len(samples) + len(of_sets))
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("points", total=total, completed=-1, note="")

            def watch(note: str) -> None:
                progress.update(task, advance=1, note=note)

            rows, failures = compare(lines, samples, metrics, out, where, watch, keep_streams=bool(of_sets))
            sets = None
            if of_sets and len(rows):
                coded = [sample for sample in samples if sample.id in set(rows["clip"])]
                whole = list(dict.fromkeys(compare_report.means(rows)["codec"]))
                sets, more = set_scores(whole, coded, of_sets, out, where, watch)
                failures += more
        paths = compare_report.write(rows, failures, metrics, source, out, sets) if len(rows) else []
        for clip, frame in shown if len(rows) else ():
            sample = next(s for s in samples if s.id == clip)
            with console.status(f"close-up of {clip} …"):
                paths.append(compare_closeups.of_clip(rows, sample, frame, at_bpp or 0, metrics, out, region, where))
    except KeyboardInterrupt:
        console.print("interrupted: what was measured is kept; the same command goes on from here")
        raise typer.Exit(130) from None
    if len(rows) or json:
        points = compare_report.with_sets(compare_report.means(rows), sets)
        _publish(points, metrics, of_sets, console, json)
    if paths:
        console.print("written: " + ", ".join(path.name for path in paths) + f" in {out}", style="dim")
    for failure in failures:
        text = f"failed: codec {failure.codec}, clip {failure.clip}: {failure.reason}"
        console.print(text, style="bold", highlight=False)
    if failures:
        raise typer.Exit(2 if all(failure.mistake for failure in failures) else 1)


def _named(texts: Sequence[str]) -> dict[str, list[str]]:
    from robustcodec.spec import expand

    out: dict[str, list[str]] = {}
    for text in texts:
        name, equals, codecs = text.partition("=")
        if not equals or ":" in name or not name.strip() or not codecs:
            raise BadParameter(f"--ladder {text!r} has no name; expected NAME=CODEC, such as slow=h264:preset=slow")
        out.setdefault(name.strip(), []).extend(expand(codecs))
    return out


def _frame(text: str, clips: Sequence[str]) -> tuple[str, int | None]:
    """The clip and frame that ``CLIP[:FRAME]`` names; no frame: the one in the middle."""
    name, _, number = text.rpartition(":")
    if text in clips:
        return text, None
    if name in clips and number.isdecimal():
        return name, int(number)
    raise BadParameter(f"--closeup {text!r} names no clip of the data set; expected CLIP[:FRAME] of {', '.join(clips)}")


def _of_sets(names: Sequence[str]) -> list[SetScore]:
    """Scores of whole sets, tried out before anything is measured."""
    from robustcodec.scores.perception import SET_SCORES

    if unknown := [name for name in names if name not in SET_SCORES]:
        raise BadParameter(f"--set-score {unknown[0]!r} is not known; expected one of {', '.join(SET_SCORES)}")
    scores = [SET_SCORES[name] for name in dict.fromkeys(names)]
    for score in scores:
        score.require()
    return scores


def _publish(
    points: pandas.DataFrame,
    metrics: Sequence[Metric],
    of_sets: Sequence[SetScore],
    console: Console,
    as_json: bool,
) -> None:
    """Means and BD-rates on the terminal, or as JSON on stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from robustcodec.reporting import text
    from robustcodec.studies.compare_report import bd_rates, percent

    columns: list[Metric | SetScore] = [*metrics, *of_sets]
    names = [metric.name for metric in columns]
    gains, _ = bd_rates(points, metrics)
    if as_json:
        import json

        means = points[["ladder", "codec", "clips", "bpp", *names]]
        tables = {"means": means, "bd_rate": gains.rename_axis("ladder").reset_index()}
        say({key: json.loads(table.to_json(orient="records")) for key, table in tables.items()})
        return
    title = "Means over clips, real bytes"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("codec", overflow="fold")
    for head in ("bpp", *(metric.column.title for metric in columns)):
        shown.add_column(head, justify="right", no_wrap=True)
    for ladder, group in points.groupby("ladder", sort=False):
        shown.add_section()
        for row in group.to_dict("records"):
            scores = (text.shown(row[metric.name], metric.digits) for metric in columns)
            shown.add_row(Text(row["codec"]), f"{row['bpp']:.4f}", *scores)
        if ladder in gains.index:
            values = [percent(v) for v in gains.loc[[str(ladder)]].to_numpy(dtype=float)[0].tolist()]
            shown.add_row(
                Text(f"{ladder}: BD-rate against {points['ladder'].iloc[0]}", style="bold"),
                "",
                *values,
                *("" for _ in of_sets),
            )
    console.print(shown)
