"""``robustcodec finetune``: make a trained codec robust by training on attacks against it; resumes when run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._recipe_options import recipe_options
from robustcodec.training.finetune_recipe import FinetuneRecipe

if TYPE_CHECKING:
    from rich.console import Console

    from robustcodec.training.finetune import Finetuner


@recipe_options(FinetuneRecipe)
def command(
    *,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="TOML file, or the name of one that ships (at-…), with any of the settings below."),
    ] = None,
    given: dict[str, Any],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Folder. Default: training/FAMILY.NAME."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that read data, with --sampling uniform.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
) -> None:
    """Finetune a trained codec on attacks against it; the same command resumes after an interruption.

    Every step attacks the codec as it is and trains on what it finds. λ, metric and adversarial distortion are the
    codec's own unless given. Every so often the codec is validated on real bytes, clean and under attack: the best
    weights are kept. Writes FAMILY.NAME.safetensors and its card, which `robustcodec run --codec FAMILY:weights=FILE`
    uses.

    Examples:

        robustcodec finetune bmshj2018-hyperprior.tiny-q2 --recipe at-mix --data folder:photos

        robustcodec finetune bmshj2018-hyperprior.tiny-q2 --recipe at-chen-ma --threat psnr:34 --data folder:photos

        robustcodec finetune mbt2018-mean.tiny-q3 --freeze decoder --consistency 1 --attack fgsm --data folder:photos

        robustcodec finetune rdae-gan.tiny-q2 --recipe at-mix --data folder:clips,frames=16 --validate clips:frames=8
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._console import Console
    from robustcodec.cli._display import choose_device
    from robustcodec.cli._training_display import train
    from robustcodec.training.finetune import Finetuner, read_recipes
    from robustcodec.training.recipe_file import RecipeFile

    file = RecipeFile.read(recipe, FinetuneRecipe) if recipe else RecipeFile({}, kind=FinetuneRecipe)
    recipes = read_recipes(file, given)
    console = Console()
    for each in recipes:
        folder = out or Path("training")
        folder = folder / each.folder if len(recipes) > 1 or out is None else folder
        finetuner = Finetuner(each, folder, choose_device(device))
        path = train(finetuner, console, workers)
        console.print(f"weights: {path}\ncard:    {path.with_suffix('.toml')}", highlight=False)
        _compare(finetuner, console)


def _compare(finetuner: Finetuner, console: Console) -> None:
    """How the codec validated before, and how its best weights do."""
    from rich.table import Table

    before, after = finetuner.before, finetuner.best_scores
    table = Table("", *before, title=f"validation, best at step {finetuner.best_step} of {finetuner.step}")
    for what, scores in (("before", before), ("finetuned", after)):
        table.add_row(what, *(f"{scores[key]:.3f}" for key in before))
    console.print(table)
