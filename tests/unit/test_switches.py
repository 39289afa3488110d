"""What torch keeps for the whole process is a fresh process's in a task, and the caller's after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch.backends import cuda, cudnn, mha, mkldnn
from torch.overrides import _get_current_function_mode_stack

from robustcodec.execution import switches
from robustcodec.execution.isolation import isolated


class Global(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    fresh: Any
    other: Any


def flag(module: Any, name: str, fresh: object) -> Global:
    return Global(lambda: getattr(module, name), lambda value: setattr(module, name, value), fresh, not fresh)


def smallest() -> float:
    """Zero if numbers this small are taken for it."""
    return (torch.full((8,), 2.0**-126, device="cpu", dtype=torch.float32) / 2)[0].item()


GLOBALS = {
    "dtype": Global(torch.get_default_dtype, torch.set_default_dtype, torch.float32, torch.float64),
    "device": Global(torch.get_default_device, torch.set_default_device, torch.device("cpu"), torch.device("meta")),
    "products": Global(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest", "medium"),
    "TF32 of products": flag(cuda.matmul, "allow_tf32", False),
    "TF32 of cuDNN": flag(cudnn, "allow_tf32", True),
    "oneDNN": flag(mkldnn, "enabled", True),
    "cuDNN": flag(cudnn, "enabled", True),
    "cuDNN's choice": flag(cudnn, "benchmark", False),
    "cuDNN's order": flag(cudnn, "deterministic", False),
    "sums of halves": flag(cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
    "sums of bfloat16": flag(cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
    "attention": Global(cuda.flash_sdp_enabled, cuda.enable_flash_sdp, True, False),
    "attention as written": Global(cuda.math_sdp_enabled, cuda.enable_math_sdp, True, False),
    "attention in little memory": Global(cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, True, False),
    "fast path": Global(mha.get_fastpath_enabled, mha.set_fastpath_enabled, True, False),
    "anomalies": Global(torch.is_anomaly_enabled, torch.set_anomaly_enabled, False, True),
    "denormals": Global(lambda: smallest() == 0, torch.set_flush_denormal, False, True),
}


@pytest.fixture(autouse=True)
def found_again() -> Iterator[None]:
    """One of old, written as it was, leaves those of the backends that follow it at other words than before."""
    with switches.fresh():
        yield


@pytest.fixture(params=GLOBALS.values(), ids=list(GLOBALS))
def switch(request: pytest.FixtureRequest) -> Iterator[Global]:
    one: Global = request.param
    yield one
    one.write(one.fresh)


def test_what_a_caller_has_set_is_not_met_and_is_his_again(switch: Global) -> None:
    switch.write(switch.other)
    with isolated():
        met = switch.read()
    assert (met, switch.read()) == (switch.fresh, switch.other)


def test_what_a_task_sets_is_nobody_else_s(switch: Global) -> None:
    with isolated():
        switch.write(switch.other)
    assert switch.read() == switch.fresh


@pytest.mark.parametrize("caller", [False, True])
def test_all_of_them_at_once(caller: bool) -> None:
    """But TF32 of products: set beside the precision of products, torch can tell neither."""
    switches = [switch for name, switch in GLOBALS.items() if name != "TF32 of products"]
    fresh, other = [switch.fresh for switch in switches], [switch.other for switch in switches]

    def write(values: list[Any]) -> None:
        for switch, value in zip(switches, values, strict=True):
            switch.write(value)

    def read() -> list[Any]:
        return [switch.read() for switch in switches]

    try:
        write(other if caller else fresh)
        with isolated():
            met = read()
            write(fresh if caller else other)
        left = read()
    finally:
        write(fresh)
    assert met == fresh and left == (other if caller else fresh)


of_each = pytest.mark.skipif(not hasattr(mkldnn, "matmul"), reason="precisions of each backend: since PyTorch 2.9")


@of_each
def test_precisions_of_one_backend_are_restored_though_torch_cannot_name_them_all() -> None:
    backend: Any = mkldnn
    products = backend.matmul
    fresh = products.fp32_precision
    with isolated():
        products.fp32_precision = "bf16"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
    left = products.fp32_precision
    products.fp32_precision = fresh
    assert left == fresh


@of_each
def test_a_precision_that_a_caller_set_for_one_backend_is_not_met_and_is_his_again() -> None:
    """Torch then cannot tell the precision of all of them, which is left as it is."""
    backend: Any = mkldnn
    products = backend.matmul
    fresh = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        with isolated():
            met = products.fp32_precision
        left = products.fp32_precision
    finally:
        products.fp32_precision = fresh
    assert (met, left) == (fresh, "bf16")


def test_a_default_device_that_is_not_here_ends_nothing() -> None:
    missing = "xpu" if not torch.xpu.is_available() else "mps"
    try:
        with isolated():
            torch.set_default_device(missing)
        assert torch.zeros(()).device.type == "cpu"
    finally:
        torch.set_default_device(None)


def test_no_mode_of_torch_is_left_of_a_device_that_a_task_set() -> None:
    """It would be asked at every call of torch from then on."""
    modes: Callable[[], list[Any]] = _get_current_function_mode_stack
    before = modes()
    with isolated():
        torch.set_default_device("meta")
    assert modes() == before


def test_a_caller_s_with_of_a_device_is_not_met_either() -> None:
    with torch.device("meta"):
        with isolated():
            met = torch.zeros(()).device.type
        assert (met, torch.zeros(()).device.type) == ("cpu", "meta")
    assert torch.zeros(()).device.type == "cpu"


def test_a_task_that_changes_nothing_is_spared_pytorch_s_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the first call of this one imports."""
    called: list[object] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *args, **options: called.append(args))
    monkeypatch.setattr(switches, "SWITCHES", [switch._replace(write=called.append) for switch in switches.SWITCHES])
    with isolated():
        pass
    assert not called
