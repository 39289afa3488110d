"""``robustcodec train``: train a codec of the zoo on images or clips, with a display, checkpoints and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer


def command(
    codec: Annotated[str, typer.Argument(help="What to train: FAMILY:weights=random, or a checkpoint to start from.")],
    data: Annotated[list[str], typer.Option(help="Training data, such as folder:photos. Can be repeated.")],
    lmbda: Annotated[
        float, typer.Option(help="Weight λ of the distortion: bpp + λ·255²·MSE or bpp + λ·(1 − MS-SSIM).")
    ],
    name: Annotated[str, typer.Option(help="Tag of the result: FAMILY.NAME.safetensors.")],
    metric: Annotated[Literal["mse", "ms-ssim"], typer.Option(help="Distortion.")] = "mse",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 20_000,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 8,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels.")] = 128,
    frames: Annotated[int, typer.Option(help="Frames of a crop.")] = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate of Adam.")] = 5e-4,
    aux_lr: Annotated[
        float, typer.Option(help="Learning rate of the auxiliary optimiser (bottleneck quantiles).")
    ] = 1e-3,
    clip: Annotated[float, typer.Option(help="Largest gradient norm.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of the weights' moving average.")] = 0.999,
    seed: Annotated[int, typer.Option(help="Seed of crops, noise and initial weights.")] = 0,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Precision of the convolutions (bfloat16: AMP).")
    ] = "float32",
    validate: Annotated[Optional[str], typer.Option(help="Data set to measure on while training.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder. Default: training/FAMILY.NAME.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
) -> None:
    """Train a learned codec; the same command resumes after an interruption.

    Writes checkpoints and TensorBoard logs, and at the end FAMILY.NAME.safetensors with its card, which
    `robustcodec run --codec FAMILY:weights=FILE` uses.

    Examples:

        robustcodec train bmshj2018-hyperprior:weights=random --data folder:photos --lmbda 0.0075 --name mine-q2

        robustcodec train bmshj2018-hyperprior.tiny-q2 --data folder:photos --lmbda 0.0225 --name mine-q3 --steps 4000
    """
    from robustcodec.allocator import keep_memory

    keep_memory()
    from rich.console import Console

    from robustcodec.cli._display import choose_device, progress_bar
    from robustcodec.spec import Spec
    from robustcodec.train import Progress, Recipe, Trainer

    recipe = Recipe(
        codec=codec,
        name=name,
        data=tuple(data),
        lmbda=lmbda,
        metric=metric,
        steps=steps,
        batch=batch,
        crop=crop,
        frames=frames,
        lr=lr,
        aux_lr=aux_lr,
        clip=clip,
        ema=ema,
        seed=seed,
        precision=precision,
        validate=validate,
    )
    console = Console()
    trainer = Trainer(recipe, out or Path("training") / f"{Spec.parse(codec).name}.{name}", choose_device(device))
    if trainer.step:
        console.print(f"resuming at step {trainer.step}", style="dim")
    with progress_bar(console) as progress:
        task = progress.add_task(name, total=steps, completed=trainer.step, note="")

        def show(moment: Progress) -> None:
            note = f"loss {moment.loss:.3f} = {moment.bpp:.3f} bpp + λ·{moment.distortion:.4g}"
            note += f", {moment.steps_per_second:.1f} steps/s"
            if moment.validation:
                note += " | " + ", ".join(f"{k} {v:.3f}" for k, v in moment.validation.items())
            progress.update(task, completed=moment.step, note=note)

        try:
            path = trainer.run(show)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from the last checkpoint")
            raise typer.Exit(130) from None
    console.print(f"weights: {path}\ncard:    {path.with_suffix('.toml')}", markup=False, highlight=False)
