"""Which tensors a network of CompressAI has, and those of a checkpoint put into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from compressai.entropy_models import EntropyBottleneckVbr
from torch import Tensor, nn

from robustcodec.errors import WeightsError
from robustcodec.weights.statedict import Fit

TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")  # of entropy coders; computed again where absent
NUMBERED = re.compile(r"\._?([bmf])(?:ias|iases|atrix|atrices|actor|actors)\.?(\d)$")  # of entropy bottlenecks
GONE = "QuantOffset"  # of the first variable-rate networks

WidthsFrom = Mapping[str, tuple[str, int]]  # of each width, the tensor and its dimension that is so wide


def named_for(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that ``net`` has for them: CompressAI has renamed some, not in all its networks."""
    own = {_regardless_of_age(name): name for name in net.state_dict()}
    return {own.get(_regardless_of_age(name), name): tensor for name, tensor in state.items() if name != GONE}


def _regardless_of_age(name: str) -> str:
    return NUMBERED.sub(r".\1\2", name.replace(".downsample.", ".skip."))


def widths_in(state: Mapping[str, Tensor], widths_from: WidthsFrom) -> dict[str, int] | None:
    """The widths of the network that ``state`` is of; None if it is of no such network."""
    found = {}
    for width, (name, dimension) in widths_from.items():
        if name not in state or state[name].ndim <= dimension:
            return None
        found[width] = state[name].shape[dimension]
    return found


def fit(net: nn.Module, state: Mapping[str, Tensor], widths: Mapping[str, int] = MappingProxyType({})) -> Fit:
    """How tensors fit ``net``, which is so wide. It needs all its parameters; buffers may be absent, such as tables."""
    state = named_for(net, state)
    wanted = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    own = net.state_dict()
    there = {name: tuple(state[name].shape) for name in wanted if name in state}
    return Fit(
        dict(widths),
        missing=tuple(name for name in wanted if name not in state),
        unexpected=tuple(name for name in state if name not in own and "gaussian_conditional" not in name),
        other=tuple(f"{name} {size}, not {wanted[name]}" for name, size in there.items() if size != wanted[name]),
    )


def load_into(net: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put a checkpoint's tensors into ``net``; :class:`WeightsError` says what does not fit."""
    state = named_for(net, state)
    found = fit(net, state)
    if found.differences:
        raise WeightsError(
            f"{where} does not fit {type(net).__name__}: {found} (robustcodec show FILE says which codec a file fits)"
        )
    # tables of a variable-rate bottleneck depend on the gain, so they are built when it is known
    variable = [name for name, m in net.named_modules() if isinstance(m, EntropyBottleneckVbr)]
    drop = {f"{name}.{table}" for name in variable for table in TABLES}
    absent: dict[str, Any] = {k: v for k, v in net.state_dict().items() if k.endswith(TABLES) and k not in state}
    try:
        net.load_state_dict({**absent, **{k: v for k, v in state.items() if k not in drop}}, strict=False)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{where} does not fit {type(net).__name__}: {reason}") from None
