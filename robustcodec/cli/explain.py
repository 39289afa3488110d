"""``robustcodec explain``: where in a codec the damage of an attack comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._document import say

if TYPE_CHECKING:
    from rich.table import Table

    from robustcodec.studies.explain import Explanation


def command(
    codec: Annotated[str, typer.Argument(help="Codec with layers, such as bmshj2018-hyperprior.tiny-q2.")],
    file: Annotated[Path, typer.Argument(help="Image (8-bit RGB) or video.")],
    attack: Annotated[str, typer.Option(help="Attack, such as pgd:steps=50.")] = "pgd",
    objective: Annotated[str, typer.Option(help="What it maximises: distortion, rate …")] = "distortion",
    budget: Annotated[
        str, typer.Option(help="36dB (PSNR of the attacked input), 8/255 (largest change) or any threat.")
    ] = "40dB",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    frames: Annotated[int, typer.Option(min=0, help="First frames of a video; 0 for all.")] = 0,
    crop: Annotated[int, typer.Option(min=0, help="Side of the central square to attack; 0 for everything.")] = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Folder to write to. Default: explained/NAME."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and nothing else.")] = False,
) -> None:
    """Attack one image or clip, and show where in the codec the damage comes from.

    How much each layer amplifies the perturbation, and how much damage is left when latents, side information or
    probabilities are those of the clean input. Writes a figure, the numbers, and all that robustcodec attack writes.

    Examples:

        robustcodec explain bmshj2018-hyperprior.tiny-q2 photo.png

        robustcodec explain mbt2018-mean.tiny-q2 photo.png --objective rate --budget 36dB

        robustcodec explain rdae.tiny-q2 clip.y4m --frames 8 --crop 96
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import choose_device, report_console

    console = report_console(stderr=json)
    with console.status("loading codec and data …"):
        from contextlib import nullcontext

        from robustcodec import registry
        from robustcodec.cli._display import OneAttack
        from robustcodec.spec import Spec
        from robustcodec.studies.explain import explain

        registry.codecs.get(Spec.parse(codec).name)  # imports all codecs, which takes seconds
        folder = out or Path("explained") / file.stem
        where = choose_device(device)
    try:
        with OneAttack(console) if console.is_terminal else nullcontext() as display:
            options = {"frames": frames, "crop": crop, "out": folder, "device": where, "watcher": display}
            explanation = explain(codec, file, attack, objective, budget, seed, **options)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        console.print("interrupted: the attack was not finished")
        raise typer.Exit(130) from None
    if json:
        say({**explanation.table(), "out": str(folder)})
        return
    console.print(str(explanation.outcome.cell), style="bold", highlight=False)
    console.print(_layers(explanation))
    console.print(_replaced(explanation))
    for warning in explanation.outcome.warnings:
        console.print(f"warning: {warning}", style="bold", highlight=False)
    figure = folder / "explanation.png"
    console.print(f"figure: {figure}   everything: {folder}", style="dim", soft_wrap=True)


def _layers(explanation: Explanation) -> Table:
    """Every layer in the order of execution."""
    from robustcodec.reporting.text import shown

    table = _table("Perturbation through the codec", ["layer", "kind"], ["‖Δh‖/‖h‖", "amplification"])
    for layer in explanation.layers:
        table.add_row(layer.name, layer.kind, shown(layer.perturbation, 4), shown(layer.amplification, 2))
    return table


def _replaced(explanation: Explanation) -> Table:
    """What is left of the damage when a part is that of the clean input."""
    from robustcodec.reporting.text import shown

    table = _table("Damage left when a part is clean", ["clean part"], ["error left %", "bits left %", "bits"])
    for one in explanation.replaced:
        shares = (shown(100 * share, 1) for share in (one.error_left, one.bits_left))
        table.add_row(one.part, *shares, f"{one.bits:.0f}")
    return table


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    """An empty table with columns of texts and of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in texts:
        table.add_column(head, no_wrap=True)
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table
