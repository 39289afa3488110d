"""One attack on one image or clip: a cell with a data set of one sample, run as a grid would run it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import sample_seed, to_uint8
from robustcodec.coding import EVALUATION, code
from robustcodec.data._lossless import lossless_path, write_lossless
from robustcodec.errors import BadData, BadParameter, RobustCodecError, StoreError, UserError
from robustcodec.execution.runner import Runner
from robustcodec.execution.watching import Watcher
from robustcodec.files import on_disk
from robustcodec.interfaces import Sample
from robustcodec.running.grid import AXES, Cell, Grid
from robustcodec.running.store import Result, Store
from robustcodec.studies.attack_outcome import Outcome

RUN = "run"  # the run folder inside the folder of an attack


def attack(
    source: str | Path | Tensor,
    codec: str,
    attack: str = "pgd",
    objective: str = "distortion",
    threat: str = "psnr:40",
    defense: str = "none",
    access: str = "oblivious",
    seed: int = 0,
    frames: int = 0,
    crop: int = 0,
    metrics: Sequence[str] = (),
    out: str | Path | None = None,
    device: str = "cpu",
    watcher: Watcher | None = None,
) -> Outcome:
    """Attack one image or clip: ``attack("photo.png", "bmshj2018-hyperprior.tiny-q2", threat="36dB").scores``.

    The same numbers as a grid's. ``source``: a file, or RGB as a tensor ``(3, H, W)`` or ``(T, 3, H, W)``, uint8 or
    float in [0, 1], which is rounded to 8 bits. ``frames`` and ``crop`` (of a file): first frames and central pixels;
    0: all. ``threat``: ``36dB``, ``8/255`` or any threat; the others as :class:`robustcodec.running.grid.Cell` has
    them, names all: what is measured is identified by them. ``out``: a folder for clips, streams, a picture and scores,
    and for the run itself, which is then not repeated; without one nothing is kept. ``watcher`` follows the crafting.

    Raises :class:`UserError` for what cannot be run, :class:`RobustCodecError` if the attack or the codec crashed.
    """
    if not isinstance(codec, str):
        raise BadParameter(
            f"codec is a {type(codec).__name__}; expected a name, such as bmshj2018-hyperprior.tiny-q2: numbers are "
            "identified by names. Register a codec of your own to give it one"
        )
    with _folder(out) as folder:
        clip = None
        if isinstance(source, Tensor):
            if frames or crop:
                raise BadParameter(f"frames={frames}, crop={crop} are for files; slice the tensor instead")
            clip = _eight_bits(source)
            path = lossless_path(folder / "original", len(clip))
        else:
            path = Path(source)
            if path.is_file() and folder.resolve() == path.resolve().parent:
                raise StoreError(f"{path} is in {folder}, where files are replaced; give another out")
        options = {"frames": frames, "crop": crop}
        data = ",".join([f"file:path={path}", *(f"{key}={value}" for key, value in options.items() if value)])
        cell = Cell(codec, attack, objective, threat_of(threat), defense, access, data, seed)
        if clip is not None:
            _claim(folder, cell)
            with on_disk(path):
                write_lossless(clip, folder / "original")
        (sample,) = cell.samples()
        sample.load()  # says now what is wrong with the file
        _ = cell.id  # and with any name
        store = _claim(folder, cell)
        runner = Runner(store, device, metrics=metrics)
        runner.run([cell], watcher)
        outcome = _outcome(runner, cell, sample)
        if out is not None:
            outcome.write(folder)
        return outcome


def threat_of(budget: str) -> str:
    """``36dB`` as ``psnr:36``, ``8/255`` as ``linf:8/255``, and any threat as it is; raises :class:`BadParameter`."""
    text = budget.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*dB", text, re.IGNORECASE):
        text = f"psnr:{match[1]}"
    elif re.fullmatch(r"\d+(?:\.\d+)?/\d+", text):
        text = f"linf:{text}"
    if text.partition(":")[0] not in registry.threats.names():
        raise BadParameter(
            f"budget {budget!r}; expected 36dB (PSNR of the attacked input), 8/255 (largest change of a value) or a "
            "threat, such as l2:1.5, psnr:38,frames=first or psnr:40+linf:16 (robustcodec list threats shows all)"
        )
    registry.threats.build(text)
    return text


def _eight_bits(tensor: Tensor) -> Tensor:
    """A picture or clip as uint8 ``(T, 3, H, W)``; raises :class:`BadData` for other tensors."""
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3 or 0 in tensor.shape:
        raise BadData(f"a tensor of shape {tuple(tensor.shape)} was given; expected RGB as (3, H, W) or (T, 3, H, W)")
    if tensor.is_floating_point():
        low, high = float(tensor.min()), float(tensor.max())
        if not 0 <= low <= high <= 1:
            raise BadData(f"a float tensor from {low:.4g} to {high:.4g} was given; expected values in [0, 1]")
        tensor = to_uint8(tensor.detach())
    if tensor.dtype != torch.uint8:
        raise BadData(f"a tensor of {tensor.dtype} was given; expected uint8, or float in [0, 1]")
    return tensor.reshape(-1, *tensor.shape[-3:]).cpu()


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
    """What the store holds of a cell, and its streams again."""
    result, decoded = runner.store.result(cell.id), runner.store.decoded(cell.id)
    if result is None or result.error is not None or sample.id not in decoded:
        raise _failure(cell, result)
    clips = decoded[sample.id]
    (row,) = result.rows
    scores = {
        key: float("nan") if v is None else float(v) for key, v in row.items() if key not in ("sample", "queries")
    }
    warnings = [w.removesuffix(f": 1 of 1 samples ({sample.id})") for w in result.warnings]
    codec, seed = runner.worker.codecs.evaluated(cell.resolved), sample_seed(sample, EVALUATION)
    clean_stream, attacked_stream = (
        code(codec, clips[name], runner.device, seed).stream for name in ("original", "adversarial")
    )
    return Outcome(
        cell,
        scores,
        row["queries"],
        tuple(warnings),
        clips["original"],
        clips["adversarial"],
        clips["clean"],
        clips.get("attacked"),
        clean_stream,
        attacked_stream,
        sample.fps,
    )


def _failure(cell: Cell, result: Result | None) -> RobustCodecError:
    """A message for people as it is; of a crash the last line, with its traceback as a note."""
    text = (result.error if result else None) or "no result was kept"
    if not text.startswith("Traceback"):
        return UserError(text)
    error = RobustCodecError(f"{cell}: {text.strip().splitlines()[-1]}")
    error.add_note(text)
    return error
