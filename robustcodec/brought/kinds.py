"""What a thing must be to serve as a plugin of some kind, and how a network becomes a codec."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from robustcodec.errors import BadParameter

if TYPE_CHECKING:  # it needs torch; names do not
    from robustcodec.interfaces import Codec

CLASSES = {
    "codec": "Codec",
    "attack": "Attack",
    "defense": "Defense",
    "objective": "Objective",
    "threat": "Threat",
    "metric": "Metric",
    "data set": "DataSet",
}


def base_of(kind: str) -> type:
    """The class that plugins of a kind are instances of; of a ``network``, torch's."""
    if kind == "network":
        return cast(type, importlib.import_module("torch.nn").Module)
    return cast(type, getattr(importlib.import_module("robustcodec.interfaces"), CLASSES[kind]))


def lacking(kind: str, cls: type) -> str:
    """What a class lacks to serve as this kind, in words; empty: nothing."""
    if kind == "codec":
        from torch import nn

        if issubclass(cls, nn.Module):
            return ""
        hint = "nor a torch.nn.Module with a forward from picture to picture"
    else:
        hint = "and nothing else will do"
    needed = sorted(getattr(base_of(kind), "__abstractmethods__", ()))
    missing = [name for name in needed if not callable(getattr(cls, name, None))]
    methods = f"; it lacks {', '.join(missing)}" if missing else ""
    return f"it is no subclass of robustcodec.interfaces.{CLASSES[kind]}, {hint}{methods}"


def as_codec(thing: Any, name: str) -> Codec:
    """A codec of one's own, a network like CompressAI's, or any network from picture to picture, as a codec called
    ``name``, which may change it. Raises :class:`BadParameter` for anything else.
    """
    require_network(thing)
    return cast("Codec", importlib.import_module("robustcodec.zoo._adapted").adapted(thing, name))


def require_network(thing: Any) -> None:
    """Raise :class:`BadParameter` for what can be made no codec of."""
    if not isinstance(thing, base_of("network")):
        raise BadParameter(
            f"codec is a {type(thing).__name__}; expected a name such as bmshj2018-hyperprior.tiny-q2, a "
            "robustcodec.interfaces.Codec, a network like CompressAI's, or any torch.nn.Module from picture to picture"
        )
