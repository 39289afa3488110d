"""One attack on images or a clip: a cell with a data set of these, run as a grid would run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import overload

from torch import Tensor, nn

from robustcodec import registry
from robustcodec.brought import files, objects
from robustcodec.brought.arguments import PATH, check, device_of
from robustcodec.brought.arguments import names as names_of
from robustcodec.brought.pictures import Pictures
from robustcodec.clips import sample_seed
from robustcodec.coding import EVALUATION, code
from robustcodec.errors import BadParameter, OutOfMemory, RobustCodecError, StoreError, UserError, last_line
from robustcodec.execution.isolation import isolated
from robustcodec.execution.runner import Runner
from robustcodec.execution.watching import Watcher
from robustcodec.interfaces import Attack, Defense, Objective, Sample, Threat
from robustcodec.memory import OUT
from robustcodec.running.grid import AXES, Cell, Grid
from robustcodec.running.store import Result, Store
from robustcodec.spec import Spec
from robustcodec.studies.attack_outcome import Outcome, Outcomes

RUN = "run"  # the run folder inside the folder of an attack


@overload  # type checkers and editors show these two
def attack(
    source: str | Path,
    codec: str | nn.Module,
    attack: str | Attack = ...,
    objective: str | Objective = ...,
    threat: str | Threat = ...,
    defense: str | Defense = ...,
    access: str = ...,
    seed: int = ...,
    frames: int = ...,
    crop: int = ...,
    metrics: Sequence[str] = ...,
    out: str | Path | None = ...,
    device: str = ...,
    watcher: Watcher | None = ...,
    clip: bool = ...,
) -> Outcome: ...
@overload
def attack(
    source: str | Path | Tensor,
    codec: str | nn.Module,
    attack: str | Attack = ...,
    objective: str | Objective = ...,
    threat: str | Threat = ...,
    defense: str | Defense = ...,
    access: str = ...,
    seed: int = ...,
    frames: int = ...,
    crop: int = ...,
    metrics: Sequence[str] = ...,
    out: str | Path | None = ...,
    device: str = ...,
    watcher: Watcher | None = ...,
    clip: bool = ...,
) -> Outcome | Outcomes: ...
def attack(
    source: str | Path | Tensor,
    codec: str | nn.Module,
    attack: str | Attack = "pgd",
    objective: str | Objective = "distortion",
    threat: str | Threat = "psnr:40",
    defense: str | Defense = "none",
    access: str = "oblivious",
    seed: int = 0,
    frames: int = 0,
    crop: int = 0,
    metrics: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "cpu",
    watcher: Watcher | None = None,
    clip: bool = False,
) -> Outcome | Outcomes:
    """Attack images or a clip: ``attack("photo.png", "bmshj2018-hyperprior.tiny-q2", threat="36dB").scores``.

    The same numbers as a grid's. ``source``: a file, or RGB as a tensor: a picture ``(3, H, W)``, a batch of pictures
    ``(N, 3, H, W)``, or with ``clip`` one clip ``(T, 3, H, W)``; uint8 or float in [0, 1], which is rounded to 8 bits.
    A batch gives :class:`Outcomes`, one for each picture; all else an :class:`Outcome`. ``frames`` and ``crop`` (of a
    file): first frames and central pixels; 0: all.

    ``codec``: as :func:`robustcodec.load` takes it. ``threat``: ``36dB``, ``8/255`` or any threat; this and the others
    are names, as :class:`robustcodec.running.grid.Cell` has them, or objects. ``out``: a folder for clips, streams, a
    picture and scores, and for the run itself, which is then not repeated; without one nothing is kept. ``watcher``
    follows the crafting.

    Raises :class:`UserError` for what cannot be run, :class:`RobustCodecError` if the attack or the codec crashed.

    >>> import robustcodec, torch
    >>> picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> outcome = robustcodec.attack(picture, "bmshj2018-factorized.tiny-q1", attack="pgd:steps=3", threat="36dB")
    >>> outcome.adversarial.shape, outcome.scores["input_psnr"] > 35.9
    (torch.Size([1, 3, 64, 64]), True)
    >>> robustcodec.attack(torch.stack([picture, picture.flip(2)]), "jpeg", attack="noise").frame.shape[0]
    2
    """
    check("source: a file, or a tensor", source, (*PATH, Tensor))
    check("access: a name such as oblivious", access, str)
    for name, number in {"seed": seed, "frames": frames, "crop": crop}.items():
        check(f"{name}: a whole number", number, int)
    check("out: a folder", out, PATH, optional=True)
    check("clip: True or False", clip, bool)
    metrics, device = names_of("metrics", metrics), device_of(device)
    with isolated(), _folder(out) as folder:
        names = (
            objects.named("codecs", codec),
            objects.named("attacks", attack),
            objects.named("objectives", objective),
            threat_of(threat) if isinstance(threat, str) else objects.named("threats", threat),
            objects.named("defenses", defense),
        )
        if isinstance(source, Tensor):
            if frames or crop:
                raise BadParameter(f"frames={frames}, crop={crop} are for files; slice the tensor instead")
            data = objects.named("data", Pictures.of(source, clip))
        else:
            path = Path(source)
            if path.is_file() and folder.resolve() == path.resolve().parent:
                raise StoreError(f"{path} is in {folder}, where files are replaced; give another out")
            options = [(key, str(value)) for key, value in (("frames", frames), ("crop", crop)) if value]
            data = str(Spec("file", None, (("path", str(path)), *options)))
        cell = Cell(*names, access=access, data=data, seed=seed)
        if (flaw := cell.resolved.flaw) is not None:  # says now what is wrong with any name
            raise flaw
        for metric in metrics:
            registry.metrics.build(metric)
        samples = cell.samples()
        samples[0].load()  # and with the file
        store = _claim(folder, cell)
        objects.put_down(store.root)
        runner = Runner(store, device, metrics=metrics, with_clips=True)
        if watcher is not None and not runner.done(cell):
            crafting = runner.worker.crafting
            first = crafting.need(cell.resolved, crafting.clips(samples[:1]))
            if first is not None:
                watcher.noted(first.line(runner.device))
        runner.run([cell], watcher)
        alone = not isinstance(source, Tensor) or source.ndim == 3 or clip
        outcomes = Outcomes(tuple(_outcome(runner, cell, sample) for sample in samples))
        if out is not None:
            for sample, outcome in zip(samples, outcomes, strict=True):
                outcome.write(folder if alone else folder / sample.id)
        return outcomes[0] if alone else outcomes


def threat_of(budget: str) -> str:
    """``36dB`` as ``psnr:36``, ``8/255`` as ``linf:8/255``, and any threat as it is; raises :class:`BadParameter`."""
    text = registry.spelled_out(budget)
    if not files.is_in_file(Spec.parse(text).name) and text.partition(":")[0] not in registry.threats.names():
        raise BadParameter(
            f"budget {budget!r}; expected 36dB (PSNR of the attacked input), 8/255 (largest change of a value) or a "
            "threat, such as l2:1.5, psnr:38,frames=first or psnr:40+linf:16 (robustcodec list threats shows all)"
        )
    registry.threats.build(text)
    return text


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """``out``, if it is free or of an earlier attack, or a temporary folder."""
    if out is None:
        with TemporaryDirectory(prefix="robustcodec-") as name:
            yield Path(name)
        return
    folder = Path(out)
    foreign = folder.exists() and not (folder / RUN / "grid.toml").is_file()
    if foreign and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} exists and is not the folder of an attack; give another out, or empty it")
    yield folder


def _claim(folder: Path, cell: Cell) -> Store:
    """The store inside ``folder``, which marks it as ours."""
    store = Store(folder / RUN)
    store.put_grid(Grid("attack", ({axis: [getattr(cell, axis)] for axis in AXES},)))
    return store


def _outcome(runner: Runner, cell: Cell, sample: Sample) -> Outcome:
    """What the store holds of a sample of a cell, and its streams again."""
    result, crafted = runner.store.result(cell.id), runner.store.clip(cell.craft_id(sample))
    if result is None or result.error is not None or crafted is None:
        raise _failure(cell, result)
    row = next(row for row in result.rows if row["sample"] == sample.id)
    scores = {
        key: float("nan") if v is None else float(v) for key, v in row.items() if key not in ("sample", "queries")
    }
    warnings = [w.removesuffix(f": 1 of 1 samples ({sample.id})") for w in result.warnings]
    codec, seed = runner.worker.codecs.evaluated(cell.resolved), sample_seed(sample, EVALUATION)
    original, adversarial = sample.load(), crafted[0]
    clean, attacked = (code(codec, clip, runner.device, seed) for clip in (original, adversarial))
    return Outcome(
        cell,
        scores,
        row["queries"],
        tuple(warnings),
        original,
        adversarial,
        clean.decoded(),
        attacked.x_hat,
        clean.stream,
        attacked.stream,
        sample.fps,
        sample.id,
    )


def _failure(cell: Cell, result: Result | None) -> RobustCodecError:
    """A message for people as it is; of a crash the last line, with its traceback as a note."""
    text = (result.error if result else None) or "no result was kept"
    if text.startswith(OUT):
        return OutOfMemory(text)
    if not text.startswith("Traceback"):
        return UserError(text)
    error = RobustCodecError(f"{cell}: {last_line(text)}")
    error.add_note(text)
    return error
