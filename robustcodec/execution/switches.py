"""What torch keeps for the whole process and what numbers depend on, as switches: fresh inside, as they were after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import torch

CPU = torch.device("cpu")
MODULES = {"mkldnn": ("all", "matmul", "conv", "rnn"), "cuda": ("all", "matmul", "conv", "rnn"), "generic": ("all",)}


class Switch(NamedTuple):
    """``fresh``: what ``read`` gives in a fresh process."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    fresh: Any

    def now(self) -> Any:
        """Its value; None if torch cannot tell: its old and its new settings of a precision disagree."""
        try:
            return self.read()
        except RuntimeError:
            return None

    def turn(self, wanted: Any) -> None:
        """To write is left out where nothing changes: for some it costs an import of PyTorch's compiler."""
        if wanted is not None and self.now() != wanted:
            self.write(wanted)


def _flag(path: str, fresh: object) -> Switch:
    owner, _, name = path.rpartition(".")
    module = attrgetter(owner)(torch.backends)
    return Switch(partial(getattr, module, name), partial(setattr, module, name), fresh)


def _precisions() -> Iterator[Switch]:
    """From the general to the special, since the special ones follow: those of old first, then each backend's."""
    yield Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
    yield _flag("cudnn.allow_tf32", True)
    read = getattr(torch._C, "_get_fp32_precision_getter", None)  # since PyTorch 2.9
    if read is None:
        return
    for backend in reversed(MODULES):
        for operation in MODULES[backend]:
            fresh = "tf32" if backend == "cuda" and operation in ("conv", "rnn") else "none"
            write = partial(torch._C._set_fp32_precision_setter, backend, operation)
            yield Switch(partial(read, backend, operation), write, fresh)


def _flushes_denormals() -> bool:
    half = sys.float_info.min
    half /= 2
    return half == 0


SWITCHES = (
    Switch(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    *_precisions(),
    _flag("mkldnn.enabled", True),
    *(_flag(f"cudnn.{name}", fresh) for name, fresh in [("enabled", True), ("benchmark", False)]),
    _flag("cudnn.deterministic", False),
    _flag("cuda.matmul.allow_fp16_reduced_precision_reduction", True),
    _flag("cuda.matmul.allow_bf16_reduced_precision_reduction", True),
    Switch(torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp, True),
    Switch(torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp, True),
    Switch(torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp, True),
    Switch(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    Switch(torch.is_anomaly_enabled, torch.set_anomaly_enabled, False),
    Switch(_flushes_denormals, torch.set_flush_denormal, False),
)


@contextmanager
def fresh() -> Iterator[None]:
    """Inside, switches and the default device are a fresh process's; what was strict about determinism stays."""
    had, strict, device = [switch.now() for switch in SWITCHES], _determinism(), _default_device()
    for switch in SWITCHES:
        switch.turn(switch.fresh)
    _put_default_device(CPU)
    try:
        yield
    finally:
        for switch, value in zip(SWITCHES, had, strict=True):
            switch.turn(value)
        if strict != _determinism():  # to set it costs an import of PyTorch's compiler
            torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        _put_default_device(device)


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _default_device() -> torch.device | None:
    """None: one that is not here, which torch finds out as it asks for its number."""
    try:
        return torch.get_default_device()
    except Exception:  # an AssertionError, a RuntimeError: it depends on how torch was built
        return None


def _put_default_device(wanted: torch.device | None) -> None:
    if wanted == _default_device():
        return
    torch.set_default_device(None)
    if wanted != _default_device():  # a caller's ``with torch.device(...)`` has the say, or had before there was one
        torch.set_default_device(wanted)
