"""What a file of weights holds, and how to name the codec that it is of. What ``robustcodec show FILE`` prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from robustcodec import weights
from robustcodec.registry import KINDS, codecs
from robustcodec.weights.statedict import Fit, Held, read

CLASS = "compressai:class=pkg.mod:Cls,weights={}"
SHOWN = 6  # tensors with values that are not finite, and what else is in the file


def facts(path: Path) -> dict[str, Any]:
    """What is known of a checkpoint, in the order it is shown; raises :class:`WeightsError` if it cannot be read."""
    held = read(path)
    fits = {name: fit for name, fit in _fits(held).items() if not fit.differences}
    said: dict[str, Any] = {
        "file": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "sha256": weights.sha256(path),
        "tensors": len(held.tensors),
        "parameters": sum(tensor.numel() for tensor in held.tensors.values()),
        "precision": _counted(str(tensor.dtype).removeprefix("torch.") for tensor in held.tensors.values()),
        "weights are": "; ".join(held.wrappers) or "by their names, without a wrapper",
        "beside them": [*held.beside[:SHOWN]],
        "not finite": _wrong(held),
    }
    if weights.has_card(path):
        card = weights.read_card(path)
        said["card"] = f"{card.get('name', '')} ({card['family']})"
        said["to use it"] = [f'--{_kind(card["family"])} "{card["family"]}:weights={path}"']
    elif fits:
        said["fits"] = [f"{name} ({_wide(fit)})" for name, fit in fits.items()]
        said["to use it"] = [f'--codec "{name}:weights={path}"' for name in fits]
    else:
        said |= _nearest(_fits(held), path)
    return said


def _kind(family: str) -> str:
    """What a card is of: a codec, or another plugin that is trained."""
    return next((plugins.kind for plugins in KINDS.values() if family in plugins.names()), codecs.kind)


def _fits(held: Held) -> dict[str, Fit]:
    """How it fits each family that could be so wide, by name; of two names for one family the longer."""
    families = {codecs.get(name): name for name in sorted(codecs.names(), key=len)}
    found = {name: builder.fitting(held.tensors) for builder, name in families.items() if hasattr(builder, "fitting")}
    return {name: fit for name, fit in found.items() if fit is not None}


def _nearest(fits: dict[str, Fit], path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"fits": "none of the families here"}
    if fits:
        name, fit = min(fits.items(), key=lambda item: item[1].differences)
        facts["nearest"] = f"{name} ({_wide(fit)}): {fit}"
    facts["to use it"] = [f'--codec "{CLASS.format(path)}", with the class that it was trained with']
    return facts


def _wide(fit: Fit) -> str:
    return ", ".join(f"{name}={width}" for name, width in fit.widths.items())


def _counted(words: Any) -> str:
    return ", ".join(f"{word} ({count})" for word, count in Counter(words).most_common())


def _wrong(held: Held) -> list[str]:
    wrong = held.not_finite()
    return [f"{name}: {count} of {held.tensors[name].numel()}" for name, count in [*wrong.items()][:SHOWN]]
