"""``robustcodec attack``: one attack on one image or clip, with everything it left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._document import say

if TYPE_CHECKING:
    from rich.table import Table

    from robustcodec.studies.attack_outcome import Outcome


def command(
    file: Annotated[Path, typer.Argument(help="Image (8-bit RGB) or video.")],
    codec: Annotated[str, typer.Option(help="Codec, such as bmshj2018-hyperprior.tiny-q2 or jpeg:quality=30.")],
    attack: Annotated[str, typer.Option(help="Attack, such as pgd:steps=50.")] = "pgd",
    objective: Annotated[str, typer.Option(help="What it maximises: distortion, rate …")] = "distortion",
    budget: Annotated[
        str, typer.Option(help="36dB (PSNR of the attacked input), 8/255 (largest change) or any threat.")
    ] = "40dB",
    defense: Annotated[str, typer.Option(help="Defense, or none.")] = "none",
    access: Annotated[
        str, typer.Option(help="oblivious, adaptive[:draws=N], transfer:CODEC (or A|B) or bpda:CODEC.")
    ] = "oblivious",
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Score beside PSNR and MS-SSIM, such as lpips:net=squeeze."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    frames: Annotated[int, typer.Option(min=0, help="First frames of a video; 0 for all.")] = 0,
    crop: Annotated[int, typer.Option(min=0, help="Side of the central square to attack; 0 for everything.")] = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Folder to write to. Default: attacked/NAME."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, and nothing else.")] = False,
) -> None:
    """Attack one image or clip, and show what the codec makes of it.

    Writes the attacked input, both streams and what they decode to, a picture of it all, and the scores. Images are
    PNG, clips lossless .mkv; robustcodec decompress reads the streams. The numbers are those of robustcodec run.

    Examples:

        robustcodec attack photo.png --codec bmshj2018-hyperprior.tiny-q2 --budget 36dB

        robustcodec attack photo.png --codec mbt2018-mean.tiny-q2 --objective rate --budget 8/255 --out costly

        robustcodec attack photo.png --codec jpeg:quality=30 --access transfer:bmshj2018-factorized.tiny-q1

        robustcodec attack clip.y4m --codec rdae.tiny-q2 --frames 8 --crop 96 --budget psnr:36,frames=first
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import report_console

    console = report_console(stderr=json)
    with console.status("loading codec and data …"):
        from contextlib import nullcontext

        from robustcodec import registry
        from robustcodec.cli._display import Noting, OneAttack, choose_device
        from robustcodec.spec import Spec
        from robustcodec.studies.attack import attack as run

        registry.codecs.get(Spec.parse(codec).name)  # imports it, which takes seconds
        folder = out or Path("attacked") / file.stem
        where = choose_device(device)
    try:
        with OneAttack(console) if console.is_terminal else nullcontext(Noting(console)) as display:
            outcome = run(
                file,
                codec,
                attack,
                objective,
                threat=budget,
                defense=defense,
                access=access,
                seed=seed,
                frames=frames,
                crop=crop,
                metrics=metric or (),
                out=folder,
                device=where,
                watcher=display,
            )
    except KeyboardInterrupt:
        console.print("interrupted: the attack was not finished")
        raise typer.Exit(130) from None
    if json:
        say({**outcome.table(), "out": str(folder)})
        return
    console.print(str(outcome.cell), style="bold", highlight=False)
    console.print(_scores(outcome))
    console.print(_damage(outcome))
    for warning in outcome.warnings:
        console.print(f"warning: {warning}", style="bold", highlight=False)
    console.print(f"picture: {folder / 'panel.png'}   everything: {folder}", style="dim", soft_wrap=True)


def _scores(outcome: Outcome) -> Table:
    """Scores that there are of the clean and of the attacked clip."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from robustcodec.reporting.text import shown
    from robustcodec.scores.columns import column

    scores = outcome.scores
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in ("clean", "attacked"):
        table.add_column(head, justify="right", no_wrap=True)
    for key in scores:
        pair = scores[key], scores.get(f"adv_{key}")
        if pair[1] is not None and any(map(_known, pair)):
            table.add_row(column(key).title, *(shown(v, column(key).digits) for v in pair))
    return table


def _damage(outcome: Outcome) -> Table:
    """All other scores, and what the attack cost."""
    from rich.table import Table

    from robustcodec.interfaces import YES_NO
    from robustcodec.reporting.text import shown
    from robustcodec.scores.columns import column

    scores = outcome.scores
    both = {key for key in scores if f"adv_{key}" in scores}
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for key, value in scores.items():
        if key in both or key.removeprefix("adv_") in both or not _known(value):
            continue
        head = column(key)
        text = ("yes" if value else "no") if head.unit == YES_NO else shown(value, head.digits)
        table.add_row(head.title, text)
    table.add_row("queries", str(outcome.queries))
    return table


def _known(value: float | None) -> bool:
    return value is not None and value == value
