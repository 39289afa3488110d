"""``robustcodec train``: train a codec or a defense's denoiser, with a display, checkpoints and resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._recipe_options import LOSS, chosen, recipe_options

if TYPE_CHECKING:
    from rich.console import Console

    from robustcodec.training.loop import Loop
    from robustcodec.training.recipe import Recipe


@recipe_options
def command(
    codec: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="What to train: FAMILY:weights=random, a checkpoint to start from, or diffpure."),
    ] = None,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="TOML file, or the name of one that ships, with any of the settings below."),
    ] = None,
    data: Annotated[Optional[list[str]], typer.Option(help="Training data, such as folder:photos. Repeatable.")] = None,  # noqa: UP045
    name: Annotated[Optional[str], typer.Option(help="Tag of the result: FAMILY.NAME.safetensors.")] = None,  # noqa: UP045
    rate_warmup: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the steps over which the weight of the rate grows from 0.", rich_help_panel=LOSS),
    ] = None,
    validate: Annotated[Optional[str], typer.Option(help="Data set to measure on while training.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder. Default: training/FAMILY.NAME.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes that read data, with --sampling uniform.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
    *,
    settings: dict[str, Any],
) -> None:
    """Train a learned codec, or the denoiser of a defense; the same command resumes after an interruption.

    The loss is β·rate + λ·distortion + γ·features + ρ·adversarial; a denoiser has its own and no such terms. Writes
    checkpoints and TensorBoard logs, and at the end FAMILY.NAME.safetensors with its card, which
    `robustcodec run --codec FAMILY:weights=FILE` uses (`--defense diffpure:weights=FILE`).

    Examples:

        robustcodec train bmshj2018-hyperprior:weights=random --data folder:photos --lmbda 0.0075 --name mine-q2

        robustcodec train --recipe rdae-tiny --data folder:clips,frames=16,downscale=2 --lmbda 0.0036 --name mine-q3

        robustcodec train --recipe rdae-gan-tiny rdae-gan:weights=rdae.mine-q3.safetensors --data folder:clips …

        robustcodec train --recipe rdae-ablation --data folder:clips,frames=16 --validate clips

        robustcodec train diffpure --data folder:photos --name mine
    """
    given = {"codec": codec, "name": name, "data": data, "validate": validate, "rate_warmup": rate_warmup, **settings}
    from robustcodec.cli._allocator import keep_memory

    keep_memory()
    from rich.console import Console

    from robustcodec.cli._display import choose_device
    from robustcodec.training.codec import Trainer
    from robustcodec.training.denoiser import DenoiserRecipe, DenoiserTrainer, is_denoiser
    from robustcodec.training.recipe import Recipe, RecipeFile

    file: RecipeFile[Recipe] = RecipeFile.read(recipe) if recipe else RecipeFile({})
    denoiser = is_denoiser(codec or file.settings.get("codec", ""))
    kind: type[Recipe] = DenoiserRecipe if denoiser else Recipe
    make: type[Loop[Any]] = DenoiserTrainer if denoiser else Trainer
    recipes = RecipeFile(file.settings, file.variants, kind).recipes(chosen(given))
    console, validations = Console(), {}
    for each in recipes:
        folder = out or Path("training")
        folder = folder / each.folder if len(recipes) > 1 or out is None else folder
        trainer = make(each, folder, choose_device(device))
        path = _train(trainer, each, console, workers)
        console.print(f"weights: {path}\ncard:    {path.with_suffix('.toml')}", markup=False, highlight=False)
        validations[each.name] = trainer.validation
    if len(recipes) > 1:
        _compare(recipes, validations, out or Path("training"), console)


def _train(trainer: Loop[Any], recipe: Recipe, console: Console, workers: int) -> Path:
    import math

    from robustcodec.cli._display import progress_bar
    from robustcodec.training.loop import Progress

    for note in trainer.notes:
        console.print(note, style="yellow", markup=False)
    if trainer.step:
        console.print(f"resuming at step {trainer.step}", style="dim")
    with progress_bar(console) as progress:
        task = progress.add_task(recipe.name, total=recipe.steps, completed=trainer.step, note="")

        def show(moment: Progress) -> None:
            note = f"loss {moment.loss:.3f}"
            if not math.isnan(moment.bpp):
                note += f", {moment.bpp:.3f} bpp, distortion {moment.distortion:.4g}"
            note += f", {moment.steps_per_second:.1f} steps/s"
            if moment.validation:
                note += " | " + ", ".join(f"{k} {v:.3f}" for k, v in moment.validation.items())
            progress.update(task, completed=moment.step, note=note)

        try:
            return trainer.run(show, workers=workers)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from the last checkpoint")
            raise typer.Exit(130) from None


def _compare(recipes: list[Recipe], validations: dict[str, dict[str, float]], folder: Path, console: Console) -> None:
    """The table of an ablation: what differs between the variants, and how each validates."""
    from dataclasses import asdict

    from robustcodec.files import whole

    settings = [asdict(r) for r in recipes]
    varied = [k for k in settings[0] if k != "name" and len({str(s[k]) for s in settings}) > 1]
    scores = list(next(iter(validations.values())))
    lines = [f"| variant | {' | '.join(varied + scores)} |", "|---" * (1 + len(varied) + len(scores)) + "|"]
    for r, s in zip(recipes, settings, strict=True):
        cells = [str(s[k]) for k in varied] + [f"{validations[r.name][k]:.4f}" for k in scores]
        lines.append(f"| {r.name} | {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    path = folder / "ablation.md"
    with whole(path) as partial:
        partial.write_text(table, encoding="utf-8")
    console.print(f"\n{table}\ntable: {path}", markup=False, highlight=False)
