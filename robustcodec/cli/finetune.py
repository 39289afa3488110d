"""``robustcodec finetune``: make a trained codec robust by training on attacks against it; resumes when run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from robustcodec.cli._recipe_options import LOSS, chosen, recipe_options

if TYPE_CHECKING:
    from rich.console import Console

    from robustcodec.training.finetune import Finetuner

ATTACK, MEASURE = "What is learned from", "Validation"


@recipe_options
def command(
    codec: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A trained codec: FAMILY.TAG, FAMILY:weights=FILE, or the path of a .safetensors file."),
    ] = None,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="TOML file, or the name of one that ships (at-…), with any of the settings below."),
    ] = None,
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Training data, such as folder:photos. Repeatable."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Tag of the result: FAMILY.NAME.safetensors. Default: TAG-at."),
    ] = None,
    attack: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Inner attack. Fast ones: fgsm, pgd:steps=3,step_size=0.5.", rich_help_panel=ATTACK),
    ] = None,
    objective: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What it maximises.", rich_help_panel=ATTACK),
    ] = None,
    threat: Annotated[Optional[str], typer.Option(help="Its budget.", rich_help_panel=ATTACK)] = None,  # noqa: UP045
    ramp: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the steps over which the budget grows from 0.", rich_help_panel=ATTACK),
    ] = None,
    free: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            help="Replays of every batch, attacked with the updates' own gradients (free training).",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    freeze: Annotated[
        Optional[Literal["none", "encoder", "decoder", "prior"]],  # noqa: UP045
        typer.Option(help="What stays; decoder: streams still decode in the old decoder.", rich_help_panel=ATTACK),
    ] = None,
    storage: Annotated[
        Optional[Literal["float16", "int8"]],  # noqa: UP045
        typer.Option(help="Of the result; int8: kernels in 8 bits, half the size."),
    ] = None,
    adversarial: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Weight of attacked samples in rate and distortion; clean ones have 1 − this.", rich_help_panel=LOSS
        ),
    ] = None,
    target: Annotated[
        Optional[Literal["clean", "own"]],  # noqa: UP045
        typer.Option(
            help="What an attacked reconstruction is compared with: the source, or its own input.", rich_help_panel=LOSS
        ),
    ] = None,
    consistency: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight of λ·D(C(x*), C(x)), as in TRADES.", rich_help_panel=LOSS),
    ] = None,
    gradient_penalty: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight of the first-order rise of the distortion over the budget.", rich_help_panel=LOSS),
    ] = None,
    lipschitz: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight of ‖y(x*) − y(x)‖² / ‖x* − x‖² of the latents.", rich_help_panel=LOSS),
    ] = None,
    rate_robustness: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Weight of the bits that an attack adds.", rich_help_panel=LOSS),
    ] = None,
    validate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Data set; its first 8 clips count. Default: photos, or clips for video.", rich_help_panel=MEASURE
        ),
    ] = None,
    validate_every: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Steps between validations, which are also checkpoints.", rich_help_panel=MEASURE),
    ] = None,
    validate_attack: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Attack on the validation clips.", rich_help_panel=MEASURE),
    ] = None,
    validate_threat: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Its budget. Default: --threat.", rich_help_panel=MEASURE),
    ] = None,
    attacked: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="How many of the validation clips are attacked.", rich_help_panel=MEASURE),
    ] = None,
    balance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            help="Share of attacked clips in the score that chooses the best weights.", rich_help_panel=MEASURE
        ),
    ] = None,
    patience: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Validations without a better score before stopping; 0: never.", rich_help_panel=MEASURE),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="Folder. Default: training/FAMILY.NAME.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes that read data, with --sampling uniform.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda … or auto.")] = "auto",
    *,
    settings: dict[str, Any],
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
    given = {
        "codec": codec,
        "data": data,
        "name": name,
        "attack": attack,
        "objective": objective,
        "threat": threat,
        "ramp": ramp,
        "free": free,
        "freeze": freeze,
        "storage": storage,
        "adversarial": adversarial,
        "target": target,
        "consistency": consistency,
        "gradient_penalty": gradient_penalty,
        "lipschitz": lipschitz,
        "rate_robustness": rate_robustness,
        "validate": validate,
        "validate_every": validate_every,
        "validate_attack": validate_attack,
        "validate_threat": validate_threat,
        "attacked": attacked,
        "balance": balance,
        "patience": patience,
        **settings,
    }
    from robustcodec.cli._allocator import keep_memory

    keep_memory()
    from rich.console import Console

    from robustcodec.cli._display import choose_device
    from robustcodec.training.finetune import Finetuner, read_recipes
    from robustcodec.training.recipe import FinetuneRecipe, RecipeFile

    file = RecipeFile.read(recipe, FinetuneRecipe) if recipe else RecipeFile({}, kind=FinetuneRecipe)
    recipes = read_recipes(file, chosen(given))
    console = Console()
    for each in recipes:
        folder = out or Path("training")
        folder = folder / each.folder if len(recipes) > 1 or out is None else folder
        finetuner = Finetuner(each, folder, choose_device(device))
        path = _finetune(finetuner, console, workers)
        console.print(f"weights: {path}\ncard:    {path.with_suffix('.toml')}", markup=False, highlight=False)
        _compare(finetuner, console)


def _finetune(finetuner: Finetuner, console: Console, workers: int) -> Path:
    from robustcodec.cli._display import progress_bar
    from robustcodec.training.codec import Progress

    recipe = finetuner.recipe
    for note in [*finetuner.notes, *finetuner.rollbacks]:
        console.print(note, style="yellow", markup=False)
    if finetuner.step:
        console.print(f"resuming at step {finetuner.step}", style="dim")
    with progress_bar(console) as progress:
        task = progress.add_task(
            recipe.name, total=recipe.steps, completed=finetuner.step, note="" if finetuner.before else "validating"
        )

        told: dict[str, float] = {}

        def show(moment: Progress) -> None:
            nonlocal told
            note = f"loss {moment.loss:.3f}, {moment.steps_per_second:.1f} steps/s"
            shown = {k: moment.validation[k] for k in ("bpp", "psnr", "adv_psnr", "vi_db")}
            scores = ", ".join(f"{k} {v:.3f}" for k, v in shown.items())
            if moment.validation != told:  # a line that stays, also where no bar is drawn
                progress.console.print(f"step {moment.step}: {scores}", style="dim", highlight=False)
                told = moment.validation
            note += " | " + scores
            progress.update(task, completed=moment.step, note=note)

        def tell(note: str) -> None:
            progress.console.print(note, style="yellow", markup=False)

        try:
            return finetuner.run(show, tell, workers=workers)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from the last checkpoint")
            raise typer.Exit(130) from None


def _compare(finetuner: Finetuner, console: Console) -> None:
    """How the codec validated before, and how its best weights do."""
    from rich.table import Table

    before, after = finetuner.before, finetuner.best_scores
    table = Table("", *before, title=f"validation, best at step {finetuner.best_step} of {finetuner.step}")
    for what, scores in (("before", before), ("finetuned", after)):
        table.add_row(what, *(f"{scores[key]:.3f}" for key in before))
    console.print(table)
