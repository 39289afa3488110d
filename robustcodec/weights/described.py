"""What a card says of its network, held to the tensors of its file before anything is built: it can claim any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from robustcodec.errors import WeightsError

A = TypeVar("A")


def described(weights: Path, card: Mapping[str, Any], kind: Callable[..., A], stored: Mapping[str, object]) -> A:
    """The architecture in the card of ``weights`` as a ``kind``. ``stored``: what the file's tensors say of its fields.

    Raises :class:`WeightsError` if they say something else, or if it is of no such kind.
    """
    said = {name: tuple(v) if isinstance(v, list) else v for name, v in card["architecture"].items()}
    if differ := {name: said.get(name) for name, value in stored.items() if said.get(name) != value}:
        there = {name: stored[name] for name in differ}
        raise WeightsError(
            f"{weights} does not hold the network that its card describes: the card says {differ}, the tensors {there}"
        )
    try:
        return kind(**said)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise WeightsError(f"the card of {weights} describes no network: {error}") from None


def width(state: Mapping[str, Tensor], name: str, dimension: int = 0) -> int:
    """The size of a tensor; 0 if there is none of that name and so many dimensions."""
    return state[name].shape[dimension] if name in state and state[name].ndim > dimension else 0


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many modules of a list have tensors, by what follows ``prefix`` in their names."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})
