"""``robustcodec train``: train a codec or a defense's denoiser, with a display, checkpoints and resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from robustcodec.loop import Loop
    from robustcodec.recipe import Recipe

LOSS, GAN, LOOP = "Loss", "Feature and adversarial terms", "Optimisation"


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
    lmbda: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight λ of the distortion: λ·255²·MSE, λ·255·L1 or λ·(1 − MS-SSIM).", rich_help_panel=LOSS),
    ] = None,
    metric: Annotated[
        Optional[Literal["mse", "l1", "ms-ssim"]],  # noqa: UP045
        typer.Option(help="Distortion.", rich_help_panel=LOSS),
    ] = None,
    beta: Annotated[Optional[float], typer.Option(help="Weight β of the rate.", rich_help_panel=LOSS)] = None,  # noqa: UP045
    rate_unit: Annotated[
        Optional[Literal["bpp", "symbol"]],  # noqa: UP045
        typer.Option(help="The rate in bits per pixel or per latent symbol.", rich_help_panel=LOSS),
    ] = None,
    rate_warmup: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the steps over which the weight of the rate grows from 0.", rich_help_panel=LOSS),
    ] = None,
    gan: Annotated[
        Optional[Literal["dcgan", "dcgan-ns", "wgan-clip", "wgan-gp", "lsgan", "ragan"]],  # noqa: UP045
        typer.Option(help="Form of the adversarial loss.", rich_help_panel=GAN),
    ] = None,
    rho: Annotated[Optional[float], typer.Option(help="Weight ρ of the adversarial loss.", rich_help_panel=GAN)] = None,  # noqa: UP045
    discriminators: Annotated[
        Optional[Literal["tiny", "paper"]],  # noqa: UP045
        typer.Option(help="Size of the pair; paper: ResNet-34 on frames, 3-D ResNet on clips.", rich_help_panel=GAN),
    ] = None,
    discriminator_lr: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Learning rate of the discriminators.", rich_help_panel=GAN),
    ] = None,
    discriminator_steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="First steps, which train the discriminators alone.", rich_help_panel=GAN),
    ] = None,
    n_critic: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Steps of the discriminators per step of the codec.", rich_help_panel=GAN),
    ] = None,
    resnet34_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="PATH, download or scratch. Default: torch's cache or scratch.", rich_help_panel=GAN),
    ] = None,
    gamma: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight γ of the feature distance.", rich_help_panel=GAN),
    ] = None,
    feature: Annotated[
        Optional[Literal["vgg19", "lpips-alex", "lpips-vgg", "lpips-squeeze"]],  # noqa: UP045
        typer.Option(help="Features: VGG-19 as in the paper, or LPIPS as in HiFiC.", rich_help_panel=GAN),
    ] = None,
    vgg_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="PATH, download, required or random. Default: torch's cache, or the term is off.", rich_help_panel=GAN
        ),
    ] = None,
    feature_layer: Annotated[
        Optional[Literal["conv5_4", "relu5_4"]],  # noqa: UP045
        typer.Option(help="VGG-19 features before or after the activation.", rich_help_panel=GAN),
    ] = None,
    steps: Annotated[Optional[int], typer.Option(help="Optimiser steps.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    batch: Annotated[Optional[int], typer.Option(help="Crops per step.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    crop: Annotated[Optional[int], typer.Option(help="Side of a crop in pixels.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    frames: Annotated[Optional[int], typer.Option(help="Frames of a crop.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    sampling: Annotated[
        Optional[Literal["area", "uniform"]],  # noqa: UP045
        typer.Option(help="area: all data in memory. uniform: read when needed.", rich_help_panel=LOOP),
    ] = None,
    lr: Annotated[Optional[float], typer.Option(help="Peak learning rate of Adam.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    aux_lr: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Learning rate of the auxiliary optimiser (bottleneck quantiles).", rich_help_panel=LOOP),
    ] = None,
    schedule: Annotated[
        Optional[Literal["cosine", "constant"]],  # noqa: UP045
        typer.Option(help="Course of the learning rate.", rich_help_panel=LOOP),
    ] = None,
    clip: Annotated[Optional[float], typer.Option(help="Largest gradient norm.", rich_help_panel=LOOP)] = None,  # noqa: UP045
    ema: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Decay of the weights' moving average.", rich_help_panel=LOOP),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Seed of crops, noise and initial weights.", rich_help_panel=LOOP),
    ] = None,
    precision: Annotated[
        Optional[Literal["float32", "bfloat16"]],  # noqa: UP045
        typer.Option(help="Precision of the convolutions (bfloat16: AMP).", rich_help_panel=LOOP),
    ] = None,
    validate: Annotated[Optional[str], typer.Option(help="Data set to measure on while training.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder. Default: training/FAMILY.NAME.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes that read data, with --sampling uniform.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
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
    given = {
        "codec": codec,
        "name": name,
        "data": data,
        "lmbda": lmbda,
        "metric": metric,
        "beta": beta,
        "rate_unit": rate_unit,
        "rate_warmup": rate_warmup,
        "gan": gan,
        "rho": rho,
        "discriminators": discriminators,
        "discriminator_lr": discriminator_lr,
        "discriminator_steps": discriminator_steps,
        "n_critic": n_critic,
        "resnet34_weights": resnet34_weights,
        "gamma": gamma,
        "feature": feature,
        "vgg_weights": vgg_weights,
        "feature_layer": feature_layer,
        "steps": steps,
        "batch": batch,
        "crop": crop,
        "frames": frames,
        "sampling": sampling,
        "lr": lr,
        "aux_lr": aux_lr,
        "schedule": schedule,
        "clip": clip,
        "ema": ema,
        "seed": seed,
        "precision": precision,
        "validate": validate,
    }
    from robustcodec.allocator import keep_memory

    keep_memory()
    from rich.console import Console

    from robustcodec.cli._display import choose_device
    from robustcodec.denoising import DenoiserRecipe, DenoiserTrainer, is_denoiser
    from robustcodec.recipe import Recipe, RecipeFile
    from robustcodec.train import Trainer

    file: RecipeFile[Recipe] = RecipeFile.read(recipe) if recipe else RecipeFile({})
    denoiser = is_denoiser(codec or file.settings.get("codec", ""))
    kind: type[Recipe] = DenoiserRecipe if denoiser else Recipe
    make: type[Loop[Any]] = DenoiserTrainer if denoiser else Trainer
    recipes = RecipeFile(file.settings, file.variants, kind).recipes(
        {k: v for k, v in given.items() if v not in (None, [])}
    )
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
    from robustcodec.loop import Progress

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
