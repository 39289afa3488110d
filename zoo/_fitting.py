"""Which tensors a network of CompressAI has, and those of a checkpoint put into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneckVbr
from torch import Tensor, nn

from robustcodec.errors import WeightsError

TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")  # of entropy coders; computed again where absent
OLD = re.compile(r"\._?(bias|biases|matrix|matrices|factor|factors)\.?(\d)$")  # of entropy bottlenecks
NEW = {"b": "biases", "m": "matrices", "f": "factors"}
GONE = "QuantOffset"  # of the first variable-rate networks
NAMED = 3  # tensors named in a message

WidthsFrom = Mapping[str, tuple[str, int]]  # of each width, the tensor and its dimension that is so wide


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that CompressAI has for them now."""
    return {_renamed(name): tensor for name, tensor in state.items() if name != GONE}


def _renamed(name: str) -> str:
    name = name.replace(".downsample.", ".skip.")
    return OLD.sub(lambda m: f".{NEW[m[1][0]]}.{m[2]}", name) if "entropy_bottleneck" in name else name


def widths_in(state: Mapping[str, Tensor], widths_from: WidthsFrom) -> dict[str, int] | None:
    """The widths of the network that ``state`` is of; None if it is of no such network."""
    found = {}
    for width, (name, dimension) in widths_from.items():
        if name not in state or state[name].ndim <= dimension:
            return None
        found[width] = state[name].shape[dimension]
    return found


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    """What a checkpoint of ``net`` has to hold: its parameters."""
    return {name: parameter.shape for name, parameter in net.named_parameters()}


def load_into(net: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put a checkpoint's tensors, named as CompressAI names them now, into ``net``; :class:`WeightsError` says what
    does not fit.
    """
    own, wanted = net.state_dict(), shapes(net)
    # tables of a variable-rate bottleneck depend on the gain, so they are built when it is known
    variable = [name for name, m in net.named_modules() if isinstance(m, EntropyBottleneckVbr)]
    drop = {f"{name}.{table}" for name in variable for table in TABLES}
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in own and "gaussian_conditional" not in name]
    other = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    if missing or unexpected or other:
        kinds = {"missing": missing, "unexpected": unexpected, "of another size": other}
        said = "; ".join(f"{len(v)} {kind}, such as {', '.join(v[:NAMED])}" for kind, v in kinds.items() if v)
        raise WeightsError(
            f"{where} does not fit {type(net).__name__}: {said} (robustcodec show FILE says which codec a file fits)"
        )
    absent: dict[str, Any] = {k: v for k, v in own.items() if k.endswith(TABLES) and k not in state}
    try:
        net.load_state_dict({**absent, **{k: v for k, v in state.items() if k not in drop}}, strict=False)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{where} does not fit {type(net).__name__}: {reason}") from None
