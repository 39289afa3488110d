"""Options of ``robustcodec train`` and ``robustcodec finetune``: what a recipe says of loss and optimisation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import typer

LOSS, GAN, LOOP = "Loss", "Feature and adversarial terms", "Optimisation"


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options below beside its own; it is given them, by name, as ``settings``."""
    own, shared = (inspect.signature(f, eval_str=True) for f in (command, _options))

    def wrapped(**given: Any) -> None:
        command(settings={name: given.pop(name) for name in shared.parameters}, **given)

    mine = [p for p in own.parameters.values() if p.name != "settings"]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in (*mine, *shared.parameters.values())]
    wrapped.__signature__ = own.replace(parameters=options)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in options}
    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    return wrapped


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {k: None if (k, v) == ("gan", "none") else v for k, v in options.items() if v not in (None, [])}


def _options(
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
    gan: Annotated[
        Optional[Literal["none", "dcgan", "dcgan-ns", "wgan-clip", "wgan-gp", "lsgan", "ragan"]],  # noqa: UP045
        typer.Option(
            help="Form of the adversarial loss; none, with --rho 0: without what a recipe or a card says.",
            rich_help_panel=GAN,
        ),
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
) -> None:
    """A signature: each option is a setting of :class:`~robustcodec.training.recipe.Recipe`, None if not given."""
