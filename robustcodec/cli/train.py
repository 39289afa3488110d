"""``robustcodec train``: train a codec or a defense's denoiser, with a display, checkpoints and resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._recipe_options import recipe_options
from robustcodec.training.recipe import Recipe

if TYPE_CHECKING:
    from robustcodec.training.loop import Loop


@recipe_options(Recipe)
def command(
    *,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="TOML file, or the name of one that ships, with any of the settings below."),
    ] = None,
    given: dict[str, Any],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Folder. Default: training/FAMILY.NAME."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that read data, with --sampling uniform.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
) -> None:
    """Train a learned codec, or the denoiser of a defense; the same command resumes after an interruption.

    The loss is β·rate + λ·distortion + γ·features + ρ·adversarial; a denoiser has its own and no such terms. Writes
    checkpoints and TensorBoard logs, and at the end FAMILY.NAME.safetensors with its card, which
    `robustcodec run --codec FAMILY:weights=FILE` uses (`--defense diffpure:weights=FILE`).

    Examples:

        robustcodec train bmshj2018-hyperprior:weights=random --data folder:photos --lmbda 0.0075 --name mine-q2

        robustcodec train bmshj2018-hyperprior.tiny-q3 --grow N=128,M=192 --late-crop 256 --storage int8 --lmbda 0.013 …

        robustcodec train --recipe rdae-tiny --data folder:clips,frames=16,downscale=2 --lmbda 0.0036 --name mine-q3

        robustcodec train --recipe rdae-gan-tiny rdae-gan:weights=rdae.mine-q3.safetensors --data folder:clips …

        robustcodec train --recipe rdae-ablation --data folder:clips,frames=16 --validate clips

        robustcodec train diffpure --data folder:photos --name mine
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._console import Console
    from robustcodec.cli._display import choose_device
    from robustcodec.cli._training_display import train
    from robustcodec.training.codec import Trainer
    from robustcodec.training.denoiser import DenoiserRecipe, DenoiserTrainer, is_denoiser
    from robustcodec.training.recipe_file import RecipeFile

    file: RecipeFile[Recipe] = RecipeFile.read(recipe) if recipe else RecipeFile({})
    denoiser = is_denoiser(given.get("codec") or file.settings.get("codec", ""))
    kind: type[Recipe] = DenoiserRecipe if denoiser else Recipe
    make: type[Loop[Any]] = DenoiserTrainer if denoiser else Trainer
    recipes = RecipeFile(file.settings, file.variants, file.seeds, kind).recipes(given)
    console, validations = Console(), {}
    for each in recipes:
        folder = out or Path("training")
        folder = folder / each.folder if len(recipes) > 1 or out is None else folder
        trainer = make(each, folder, choose_device(device))
        path = train(trainer, console, workers)
        console.print(f"weights: {path}\ncard:    {path.with_suffix('.toml')}", highlight=False)
        validations[each.name] = trainer.validation
    if len(recipes) > 1:
        from robustcodec.files import write_whole
        from robustcodec.training.ablation import markdown

        table, path = markdown(recipes, validations), (out or Path("training")) / "ablation.md"
        write_whole(path, table.encode())
        console.print(f"\n{table}\ntable: {path}", highlight=False)
