"""Trained weights: a ``.safetensors`` file and a TOML card of the same stem beside it.

Bundled checkpoints live in ``robustcodec/zoo/weights``; cards of codecs in ``robustcodec/zoo/cards``, cards of other
networks beside them.
Downloads go to ``cache_dir()`` and are kept only if their sha256 matches.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import site
import sys
import sysconfig
import tomllib
import urllib.request
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robustcodec.errors import WeightsError
from robustcodec.files import dump_toml, whole

if TYPE_CHECKING:
    from torch import Tensor

Storage = Literal["float16", "int8"]
KERNEL = 4  # dimensions of what int8 is for: kernels of convolutions
CARD = {"family": str, "sha256": str, "architecture": dict}  # what every card has
INSTALLED = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")} | {site.getusersitepackages()}
ROWS = ".rows"  # after the name of a kernel: the scales of its rows


def cache_dir() -> Path:
    """Where downloads are kept: ``$ROBUSTCODEC_CACHE`` or ``~/.cache/robustcodec``."""
    return Path(os.environ.get("ROBUSTCODEC_CACHE", "~/.cache/robustcodec")).expanduser()


def packages(module: str) -> list[str]:
    """The installed packages that a loaded module is of, with their versions; none: it is somebody's own, also where it
    has a name that some package has too, such as ``tests`` or ``models``.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not any(Path(file).is_relative_to(folder) for folder in INSTALLED):
        return []
    return [f"{name} {version(name)}" for name in sorted(set(_distributions().get(module.partition(".")[0], ())))]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def sha256(path: Path) -> str:
    """sha256 of a file, in hex; computed once while size and modification time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, digest: str, path: Path) -> Path:
    """``path``, downloaded from ``url`` if it is not there; raises :class:`WeightsError` offline or if it differs."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(url, timeout=30) as response, whole(path) as partial:
                with partial.open("wb") as out:
                    shutil.copyfileobj(response, out)
                _check(partial, digest, path, url)
        except OSError as error:  # URLError is one
            raise WeightsError(
                f"{path.name} is not on this machine and cannot be downloaded ({error}); "
                f"get it from {url} and put it at {path}"
            ) from None
    _check(path, digest, path, url)
    return path


def _check(file: Path, digest: str, path: Path, url: str) -> None:
    """Raises :class:`WeightsError` about ``path``, of which ``file`` is the content."""
    actual = sha256(file)
    if not actual.startswith(digest):
        raise WeightsError(
            f"{path} is damaged or another file: its sha256 starts with {actual[:16]}, expected {digest[:16]}; "
            f"delete it and get it again from {url}"
        )


def bundled_tags(family: str) -> list[str]:
    """Tags of the checkpoints that ship for ``family``, sorted."""
    folders = [files("robustcodec.zoo") / name for name in ("cards", "weights")]
    names = [e.name for folder in folders for e in folder.iterdir() if e.name.startswith(f"{family}.")]
    return sorted(n.removeprefix(f"{family}.").removesuffix(".toml") for n in names if n.endswith(".toml"))


def find(family: str, tag: str) -> Path:
    """The bundled ``.safetensors`` file of ``family.tag``; raises :class:`WeightsError` with the known tags."""
    if tag not in bundled_tags(family):
        known = ", ".join(bundled_tags(family)) or "none"
        raise WeightsError(f"no weights {family}.{tag} ship with this release; bundled tags of {family}: {known}")
    return Path(str(files("robustcodec.zoo") / "weights" / f"{family}.{tag}.safetensors"))


@cache
def _parse_card(path: Path, stamp: float) -> dict[str, Any]:
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(f"{path} is not TOML, which a card is written in: {error}") from None
    for key, kind in CARD.items():
        if not isinstance(card.get(key), kind):
            raise WeightsError(f"{path} is no card: {key} = {card.get(key)!r}, expected {kind.__name__}")
    return card


def read_card(weights: Path) -> dict[str, Any]:
    """The card of a checkpoint: ``stem.toml`` beside it, or in ``cards/`` for bundled ones."""
    for path in _cards(weights):
        if path.is_file():
            return _parse_card(path, path.stat().st_mtime)
    name = _cards(weights)[0].name
    raise WeightsError(f"no card for {weights}: expected {name} beside it; robustcodec train writes both")


def _cards(weights: Path) -> tuple[Path, Path]:
    """Where a checkpoint's card may be: beside it, or among those that ship."""
    beside = weights.with_name(weights.name.removesuffix(".safetensors") + ".toml")
    return beside, weights.parent.parent / "cards" / beside.name


def has_card(weights: Path) -> bool:
    """Whether a checkpoint is one of ours: a ``.safetensors`` file with its card."""
    return weights.suffix == ".safetensors" and any(path.is_file() for path in _cards(weights))


def load(weights: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict (float16 widened to float32) and card of a checkpoint; raises :class:`WeightsError` if the card says
    another sha256, or if a value is NaN or infinite.
    """
    if not weights.is_file():
        raise WeightsError(f"no weights at {weights}; expected a .safetensors file written by robustcodec train")
    card = read_card(weights)
    actual = sha256(weights)
    if actual != card["sha256"]:
        raise WeightsError(
            f"{weights} does not match its card: sha256 {actual[:16]}…, the card says {card['sha256'][:16]}…"
        )
    state = widened(tensors(weights))
    require_finite(weights, state)
    return state, card


def not_finite(state: Mapping[str, Tensor]) -> dict[str, int]:
    """How many values of each tensor are NaN or infinite, where any are."""
    counts = {name: int((~v.isfinite()).sum()) for name, v in state.items() if v.is_floating_point()}
    return {name: count for name, count in counts.items() if count}


def require_finite(weights: Path, state: Mapping[str, Tensor]) -> None:
    """Raises :class:`WeightsError` if a value of these tensors of a file is NaN or infinite."""
    if wrong := not_finite(state):
        name, count = next(iter(wrong.items()))
        raise WeightsError(
            f"{weights} holds values that are not finite: {count} of {name}, {len(wrong)} of {len(state)} tensors in "
            "all; take a checkpoint from before the training diverged"
        )


def tensors(weights: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(weights)
    except SafetensorError as error:
        raise WeightsError(f"{weights} is cut short, damaged or not a safetensors file: {error}") from None


def widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`save` wrote, float16 and 8 bits as float32."""
    import torch

    rows = {name: state[f"{name}{ROWS}"] for name in state if f"{name}{ROWS}" in state}
    wide = {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items() if not k.endswith(ROWS)}
    return wide | {k: _of_rows(wide[k], scale) for k, scale in rows.items()}


def rounded(tensor: Tensor, storage: Storage) -> Tensor:
    """A parameter as a checkpoint gives it back, in its own precision: float16; with ``int8``, kernels of convolutions
    as 8-bit integers times one float16 scale per row of their first dimension. Rounding twice changes nothing.
    """
    if storage == "int8" and tensor.ndim >= KERNEL:
        return _of_rows(*_rows(tensor)).to(tensor.dtype)
    return tensor.half().to(tensor.dtype)


def _rows(tensor: Tensor) -> tuple[Tensor, Tensor]:
    wide = tensor.detach().float()
    scale = (wide.flatten(1).abs().amax(1) / 127).clamp_min(2.0**-14).half()
    integers = (wide / scale.float().view(-1, *[1] * (tensor.ndim - 1))).round().clamp(-127, 127)
    return integers.char(), scale


def _of_rows(integers: Tensor, scale: Tensor) -> Tensor:
    return integers.float() * scale.float().view(-1, *[1] * (integers.ndim - 1))


def save(weights: Path, state: dict[str, Tensor], card: dict[str, Any], storage: Storage = "float16") -> None:
    """Write ``state`` (floats as :func:`rounded` has them) and then its card, each whole or not at all."""
    import torch
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.dtype not in (torch.float32, torch.float64):
            stored[key] = value.detach().cpu().contiguous()
        elif storage == "int8" and value.ndim >= KERNEL:
            integers, scale = _rows(value)
            stored |= {key: integers.cpu().contiguous(), f"{key}{ROWS}": scale.cpu().contiguous()}
        else:
            stored[key] = value.detach().cpu().half().contiguous()
    weights.parent.mkdir(parents=True, exist_ok=True)
    with whole(weights) as partial:
        save_file(stored, partial)
    text = dump_toml({**card, "sha256": sha256(weights)})
    path = weights.with_name(weights.name.removesuffix(".safetensors") + ".toml")
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
