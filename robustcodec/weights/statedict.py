"""Weights as people save them: the tensors of a ``.pth``, ``.pt``, ``.tar``, ``.ckpt`` or ``.safetensors`` file by
name, out of whatever they are wrapped in.

Pickles may run code when they are read, so they are read by ``torch.load(weights_only=True)`` alone, which makes
tensors, plain containers and the few harmless classes of :func:`_harmless`. What else a file holds is named, not made.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustcodec import weights
from robustcodec.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

UNDER = ("ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "net", "network", "generator",
         "weights", "params", "params_ema")  # fmt: skip
PREFIXES = ("module.", "model.", "net.", "network.", "ema_model.", "_forward_module.")
COMPILED = "_orig_mod."  # torch.compile puts it in front of the names in whatever was compiled
REASON = re.compile(r"(?<=WeightsUnpickler error: ).*|Detected pickle protocol \d+")  # in a page of torch's advice
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Held:
    """What a file holds: ``tensors`` by name without wrappers, ``wrappers`` in words, and what else is ``beside``."""

    tensors: dict[str, Tensor]
    wrappers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def not_finite(self) -> dict[str, int]:
        """How many values of each tensor are NaN or infinite, where any are."""
        return weights.not_finite(self.tensors)


@dataclass(frozen=True)
class Fit:
    """How a file's tensors fit a network: what is ``missing``, ``unexpected``, or has ``other`` sizes, by name."""

    widths: dict[str, int]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def differences(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.other)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another size": self.other}
        return "; ".join(f"{len(v)} {kind} ({_some([*v])})" for kind, v in kinds.items() if v) or "all tensors fit"


def read(path: Path) -> Held:
    """The weights in a file; raises :class:`WeightsError` for one that is missing, damaged, holds none, or cannot be
    read without running what is in it.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; expected a .pth, .pth.tar, .pt, .ckpt or .safetensors file")
    if _is_safetensors(path):
        stored = weights.tensors(path)
        ours = any(name.endswith(weights.ROWS) for name in stored)  # in 8 bits
        return _unprefixed(weights.widened(stored) if ours else stored, (), ())
    return unwrapped(_unpickled(path), str(path))


def finite(path: Path) -> dict[str, Tensor]:
    """The tensors of :func:`read`; raises :class:`WeightsError` also if a value is NaN or infinite."""
    tensors = read(path).tensors
    weights.require_finite(path, tensors)
    return tensors


@dataclass(frozen=True)
class Published:
    """A file of weights named ``NAME-DIGEST.pth``, or ``.pth.tar``: DIGEST is how the sha256 of its content starts.

    Libraries that load such files by themselves run what is in them: they are given the tensors, or load a file that
    has been read here before.
    """

    url: str

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rpartition("/")[2]

    @property
    def digest(self) -> str:
        return self.name.partition(".pth")[0].rpartition("-")[2]

    @property
    def cached(self) -> Path:
        """Where ``torch.hub`` keeps the file, and all who load by it."""
        from torch import hub

        return Path(hub.get_dir()) / "checkpoints" / self.name

    def load(self, path: Path | None = None) -> dict[str, Tensor]:
        """The state dict at ``path``, or else in torch's cache, downloaded into it if it is not there.

        Raises :class:`WeightsError` without a file, if its sha256 starts otherwise, or as :func:`finite` does.
        """
        if path is not None and not path.is_file():
            raise WeightsError(f"no weights at {path}; expected {self.name}, from {self.url}")
        return finite(weights.fetch(self.url, self.digest, path or self.cached))


def unwrapped(loaded: object, where: str) -> Held:
    """The state dict in what a pickle held; raises :class:`WeightsError` with what is there if there is none.

    Averaged weights are taken where a file has both.
    """
    found, wrappers, beside = loaded, list[str](), list[str]()
    while not _is_state(found):
        inner = _inner(found)
        if inner is None:
            raise WeightsError(f"{where} holds no weights by name, but {_told(loaded)}; save model.state_dict()")
        assert isinstance(found, Mapping)
        wrappers.append(f'under "{inner}"')
        beside += [f"{key}: {_told(value)}" for key, value in found.items() if key != inner]
        found = found[inner]
    assert isinstance(found, Mapping)
    tensors = {str(k): v for k, v in found.items() if _is_tensor(v)}
    return _unprefixed(tensors, wrappers, beside)


def _unprefixed(tensors: Mapping[str, Tensor], wrappers: list[str] | tuple[()], beside: list[str] | tuple[()]) -> Held:
    said, left = [*wrappers], [*beside]
    if any(COMPILED in name for name in tensors):
        said.append(f'"{COMPILED}" in names')
        tensors = {name.replace(COMPILED, ""): value for name, value in tensors.items()}
    while prefix := next((p for p in PREFIXES if _most(tensors, p)), None):
        said.append(f'names begin with "{prefix}"')
        left += [f"{name}: {_told(value)}" for name, value in tensors.items() if not name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    return Held(dict(tensors), tuple(said), tuple(left))


def _most(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether what begins so is the network: more than half of the tensors, with other things (a loss, a counter)."""
    return 2 * sum(name.startswith(prefix) for name in tensors) > len(tensors)


def _is_tensor(value: object) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor)


def _is_state(value: object) -> bool:
    """A dictionary of which most entries are tensors."""
    if not isinstance(value, Mapping) or not value:
        return False
    named = sum(isinstance(k, str) and _is_tensor(v) for k, v in value.items())
    return 2 * named > len(value)


def _inner(found: object) -> str | None:
    """Under which name of a dictionary the weights are: a known one, or the only one that has any."""
    if not isinstance(found, Mapping):
        return None
    holding = [k for k, v in found.items() if isinstance(k, str) and (_is_state(v) or _inner(v) is not None)]
    known = [name for name in UNDER if name in holding]
    return known[0] if known else holding[0] if len(holding) == 1 else None


def _told(value: object) -> str:
    """A value in a few words."""
    if _is_tensor(value):
        return f"a tensor of {tuple(value.shape)}"  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return f"a dictionary with {_some(map(str, value))}" if value else "an empty dictionary"
    if isinstance(value, int | float | str | None):
        return repr(value) if len(repr(value)) <= 40 else f"a {type(value).__name__}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _some(names: Iterator[str] | list[str]) -> str:
    every = [*names]
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix == ".safetensors"


def _unpickled(path: Path) -> object:
    import torch

    try:
        with torch.serialization.safe_globals([*_harmless()]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here
        if classes := [*_foreign(path)]:
            raise WeightsError(_advice(path, classes)) from None
        size = path.stat().st_size
        reason = (REASON.search(str(error)) or re.match(".*", str(error).strip()))[0]  # type: ignore[index]
        raise WeightsError(
            f"{path} is cut short, damaged or no checkpoint ({size} bytes: {reason}); copy or download it again"
        ) from None


def _advice(path: Path, classes: list[str]) -> str:
    whole = any(name.startswith("torch.nn.") for name in classes)
    what = "a whole model" if whole else "objects"
    how = "torch.save(model.state_dict(), 'weights.pth')"
    if not whole:
        how = "torch.save(checkpoint['state_dict'], 'weights.pth'), or under whatever name it has the weights"
    return (
        f"{path} holds {what} of other classes ({_some(classes)}), which is not read, since that may run code from the "
        f"file. Where it was made, and if you trust it, save the weights alone: {how}"
    )


def _harmless() -> Iterator[Any]:
    """Classes whose making runs nothing: what training scripts keep beside weights."""
    import argparse
    import codecs
    import pathlib
    import types

    import numpy as np

    scalar: Any = np.float32(0).__reduce__()[0]  # under its old name and its new one
    yield from ((scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype)
    yield from {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdSU"}
    yield from (argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath, codecs.encode)


ALLOWED = re.compile(r"torch(\._utils)?\.[_A-Za-z]*(Storage|_rebuild\w*|Tensor|Size|device|dtype)$|collections\.|"
                     r"torch\.storage\.|torch\.(float|bfloat|int|uint|bool|half|double)\w*$")  # fmt: skip


def _foreign(path: Path) -> Iterator[str]:
    """Classes and functions that a pickle asks for, besides those that are read; the file is only looked at."""
    harmless = {
        entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__name__}" for entry in _harmless()
    }
    seen = set[str]()
    for name in _asked_for(path):
        if name not in seen | harmless and not ALLOWED.match(name):
            seen.add(name)
            yield name


def _asked_for(path: Path) -> Iterator[str]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                inside = [name for name in archive.namelist() if name.endswith("data.pkl")]
                data = archive.read(inside[0]) if inside else b""
        else:
            data = path.read_bytes()
        file, texts = BytesIO(data), list[str]()
        while file.tell() < len(data):  # several pickles in old files
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    yield str(argument).replace(" ", ".")
                elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                    yield ".".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
    except (ValueError, OSError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
        return  # damaged: what is wrong with it is said elsewhere
