"""The networks between an entropy coder's strings and its probabilities, in float64: encoder and decoder must agree on
them on any thread count (see :meth:`robustcodec.zoo._latent.LatentCodec.exactly`), in a network of somebody else's.

Those are all parts of a network but its analyses and its synthesis, which are known by their names in CompressAI.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

from robustcodec.zoo._exchanged import exchange

OUTSIDE = ("g_a", "g_s", "h_a")  # analyses of pixels and latents, synthesis


def exact(net: nn.Module) -> nn.Module:
    """``net`` with the classes of such parts exchanged for ones that compute in float64 in eval mode, on copies of
    their weights; its state dict is unchanged. A network without ``g_a`` and ``g_s`` stays as it is.
    """
    if {"g_a", "g_s"} <= {name for name, _ in net.named_children()}:
        for part in [*_parts(net)]:
            exchange(part, _Exact)
    return net


def forget(net: nn.Module) -> None:
    """The copies, which are made again of what the weights are now."""
    for part in net.modules():
        part.__dict__.pop("_twin", None)


def inexact(net: nn.Module) -> list[str]:
    """Names of the parts that turned out not to work in float64, and compute in float32 therefore."""
    return [name for name, part in net.named_modules() if part.__dict__.get("_stays_inexact")]


def _parts(net: nn.Module) -> Iterator[nn.Module]:
    """The outermost parts that hold no entropy model and no transform of pixels."""
    for name, part in net.named_children():
        if name in OUTSIDE or isinstance(part, EntropyModel | _Exact):
            continue
        inner = [*part.named_modules()]
        mixed = any(isinstance(m, EntropyModel) or n.rpartition(".")[2] in OUTSIDE for n, m in inner)
        if mixed or isinstance(part, nn.ModuleList | nn.ModuleDict):  # lists are not called
            yield from _parts(part)
        elif any(True for _ in part.parameters()):
            yield part


class _Exact(nn.Module):
    plain: type[nn.Module]  # the class of the author

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.training or self.__dict__.get("_stays_inexact"):
            return super().forward(*args, **kwargs)
        wide = {k: _cast(v, torch.float64) for k, v in kwargs.items()}
        try:
            return _cast(self._exactly()(*_cast(args, torch.float64), **wide), torch.float32)
        except (RuntimeError, TypeError):  # it makes tensors of float32 inside
            result = super().forward(*args, **kwargs)
            self.__dict__["_stays_inexact"] = True
            return result

    def _exactly(self) -> Callable[..., Any]:
        twin: nn.Module | None = self.__dict__.get("_twin")
        if twin is None or _device(twin) != _device(self):
            self.__dict__.pop("_twin", None)
            twin = copy.deepcopy(self)
            twin.__class__ = self.plain  # type: ignore[assignment]
            # beside the registered modules, so that it is no part of the state
            self.__dict__["_twin"] = twin = twin.to(torch.float64).requires_grad_(False)
        return twin


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """``value`` with its floating-point tensors, also those in lists and dictionaries, of ``dtype``."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {k: _cast(v, dtype) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_cast(v, dtype) for v in value)
    return value
