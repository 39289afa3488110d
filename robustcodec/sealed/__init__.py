"""Files that say what was written into them: a checksum of all they hold, and of what they were written as.

Whatever was cut short, emptied, exchanged for another file or has one bit turned is not what its checksum says. It
guards against disks and copies, not against forgers. JSON and safetensors stay what any reader of them opens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustcodec.sealed.shapes import read_json

if TYPE_CHECKING:
    from torch import Tensor

SEAL = "sha256"
FACTS = "robustcodec"  # the only entry of a file's metadata: the format does not keep the order of several


def seal_json(name: str, table: Mapping[str, Any]) -> bytes:
    """``table`` as the text of a file that is known as ``name``. Raises :class:`ValueError` for NaN and infinity."""
    sealed = {**table, SEAL: _json_seal(name, table)}
    text = json.dumps(sealed, indent=1, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # half a pair of UTF-16, which JSON writes so too


def unseal_json(name: str, data: bytes) -> dict[str, Any]:
    """What was given to :func:`seal_json`. A file without a checksum is of an earlier release, and taken as it is.

    Raises :class:`ValueError` for what was not written so.
    """
    table = read_json(data)
    if not isinstance(table, dict):
        raise ValueError("it is no table")
    if SEAL in table and table.pop(SEAL) != _json_seal(name, table):
        raise ValueError("its checksum is another one")
    return table


def _json_seal(name: str, table: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, table], sort_keys=True, allow_nan=False).encode()).hexdigest()


def seal_tensors(name: str, tensors: Mapping[str, Tensor], facts: Any) -> bytes:
    """``tensors`` and ``facts``, which JSON can say, as a safetensors file that is known as ``name``."""
    from safetensors.torch import save

    whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
    text = json.dumps({"facts": facts, SEAL: _tensor_seal(name, whole, facts)}, sort_keys=True)
    return save(whole, {FACTS: text})


def unseal_tensors(name: str, path: Path, before: str = FACTS) -> tuple[dict[str, Tensor], Any]:
    """What was given to :func:`seal_tensors`. ``before``: where releases that wrote no checksum kept the facts, if
    their files are to be taken as they are.

    Raises :class:`ValueError` for what was not written so, :class:`OSError` as the system does.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = path.read_bytes()  # mapped memory would change with the file, after it was verified
    try:
        tensors = load(data)
        said = read_json(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        if FACTS not in said and before in said:
            return tensors, read_json(said[before])
        sealed = read_json(said[FACTS])
        facts, seal = sealed["facts"], sealed[SEAL]
    except SafetensorError as error:
        raise ValueError(f"it is no whole safetensors file: {' '.join(str(error).split())}") from None
    except (KeyError, TypeError):
        raise ValueError("it has no checksum") from None
    if seal != _tensor_seal(name, tensors, facts):
        raise ValueError("its checksum is another one")
    return tensors, facts


def is_whole(path: Path) -> bool:
    """Whether a file of tensors has the length that it says, and a readable beginning: quick, and not all there is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _tensor_seal(name: str, tensors: Mapping[str, Tensor], facts: Any) -> str:
    digest = hashlib.sha256(json.dumps([name, facts], sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
