"""A device ``cuda`` without a GPU, for tests: tensors on it have shapes and no values, and nobody may ask for any.

Made of torch's fake tensors. On the device ``cuda`` itself the autograd engine asks a driver for streams even for those,
so to the library they are of the device ``meta``, which has none, and only Python sees ``cuda``. What is computed on the
CPU alone is really computed: seeds, tables, positions.

Not covered: the kernels of CUDA and what they compute (values, NaN, precision, determinism), autocast to bfloat16, which
torch turns off where CUDA is not available, memory, and states of the device's random generator.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA, META = torch.device("cuda:0"), torch.device("meta")
aten = torch.ops.aten
FETCHES = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.unique_consecutive, aten._unique2}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Mixed(AssertionError):
    """Tensors of two devices met."""


class Fetched(AssertionError):
    """A value was asked for on the host, or the length of what a mask selects."""


class Rehearsal(TorchDispatchMode):
    """Inside, the device ``cuda`` exists.

    Raises :class:`Mixed` and :class:`Fetched`; a fetch makes the host wait until the GPU has done everything. So does
    an upload of values from ordinary memory: they are counted in ``uploads``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads = 0
        self._fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self._around = ExitStack()
        self._within = False  # an operation, to which the device is what the library is told

    def __enter__(self) -> Rehearsal:
        for context in (
            _quiet(),
            patch.object(FakeTensor, "device", property(self._device)),
            patch.object(FakeTensor, "is_cuda", property(lambda tensor: self._device(tensor) == CUDA)),
            patch("torch.utils.swap_tensors", _take_over),  # of a parameter that changes its device or precision
            patch("torch.cuda.get_rng_state", lambda device: torch.zeros(1, dtype=torch.uint8)),
            patch("torch.cuda.set_rng_state", lambda state, device: None),
            _new_parameters(),
            self._fakes,
        ):
            self._around.enter_context(context)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._around.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (args, kwargs or {})
        leaves = tree_leaves(given)
        if not any(isinstance(leaf, FakeTensor) or _is_cuda(leaf) for leaf in leaves):
            with unset_fake_temporarily():
                return func(*given[0], **given[1])
        self._judge(func, args, leaves)
        args, kwargs = tree_map(lambda leaf: META if _is_cuda(leaf) else leaf, given)
        outer, self._within = self._within, True
        try:
            return func(*args, **kwargs)
        finally:
            self._within = outer

    def _judge(self, func: Any, args: Any, leaves: list[Any]) -> None:
        """Raise for what would make the host wait, or would not run; count what is uploaded."""
        op = func.overloadpacket
        on_host = [t for t in leaves if isinstance(t, Tensor) and not isinstance(t, FakeTensor) and t.ndim]
        if op in FETCHES:
            raise Fetched(f"{op} of {args[0]}")
        if op is aten._to_copy:
            if isinstance(args[0], FakeTensor) and any(isinstance(v, torch.device) and v.type == "cpu" for v in leaves):
                raise Fetched(f"a copy to the CPU of {args[0]}")
            self.uploads += not isinstance(args[0], FakeTensor)
        elif op is aten.copy_:
            if not isinstance(args[0], FakeTensor):
                raise Fetched(f"a copy to the CPU of {args[1]}")
            self.uploads += not isinstance(args[1], FakeTensor)
        elif op in INDEXED and isinstance(args[0], FakeTensor):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            if masks and (op is aten.index or args[2].numel() > 1):
                raise Fetched(f"how many values a mask selects of {args[0]}")
            self.uploads += any(t is i for t in on_host for i in args[1])
            if op is not aten.index and any(t is args[2] for t in on_host):
                raise Mixed(f"{func}: {args}")
        elif on_host:
            raise Mixed(f"{func}: {[(tuple(t.shape), str(t.device)) for t in leaves if isinstance(t, Tensor)]}")

    def _device(self, tensor: FakeTensor) -> torch.device:
        within = self._within or self._fakes.in_kernel_invocation
        return META if within else CUDA


def _is_cuda(leaf: object) -> bool:
    return isinstance(leaf, torch.device) and leaf.type == "cuda"


def _take_over(parameter: Tensor, applied: Tensor) -> None:
    parameter.data = applied.data


@contextmanager
def _new_parameters() -> Iterator[None]:
    """``module.to("cuda")`` gives a module other parameters: no real one can become a fake one."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Fake tensors log what they raise."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
