"""A device ``cuda`` without a GPU, for tests: tensors on it have shapes and no values, and nobody may ask for any.

They are fake: to the library they are on its device ``meta``, which computes shapes alone, and only Python sees
``cuda``. (Of torch's own fake tensors on ``cuda`` the autograd engine asks a driver for streams, which needs a GPU, and
each of their operations costs a millisecond.) What is computed on the CPU alone is really computed: seeds, tables,
positions.

Not covered: the kernels of CUDA and what they compute (values, NaN, precision, determinism), autocast to bfloat16,
which torch turns off where CUDA is not available, memory, and states of the device's random generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

CUDA, META = torch.device("cuda:0"), torch.device("meta")
aten = torch.ops.aten
FETCHES = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2}
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
        self._around = ExitStack()
        self._within = False  # an operation, to which the device is what the library is told

    def __enter__(self) -> Rehearsal:
        for context in (
            patch.object(Tensor, "device", property(self._device), create=True),
            patch.object(Tensor, "is_cuda", property(lambda tensor: self._device(tensor) == CUDA), create=True),
            patch("torch.cuda.get_rng_state", lambda device: torch.zeros(1, dtype=torch.uint8)),
            patch("torch.cuda.set_rng_state", lambda state, device: None),
            _new_parameters(),
            FakeTensorMode(),  # under it torch does not look for a driver when it reads the name of the device
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
        given = [*_leaves(args), *_leaves((kwargs or {}).values())]
        outer, self._within = self._within, True
        try:
            if any(map(_is_there, given)):
                self._judge(func.overloadpacket, args, given)
                kwargs = {k: META if isinstance(v, torch.device) else v for k, v in (kwargs or {}).items()}
            with unset_fake_temporarily():
                return func(*args, **(kwargs or {}))
        finally:
            self._within = outer

    def _judge(self, op: Any, args: Any, given: list[Any]) -> None:
        """Raise for what would make the host wait, or would not run; count what is uploaded."""
        on_host = [t for t in given if isinstance(t, Tensor) and t.ndim and not _is_there(t)]
        if op in FETCHES:
            raise Fetched(f"{op} of {_named(args[0])}")
        if op is aten._to_copy:
            if _is_there(args[0]) and any(isinstance(v, torch.device) and v.type == "cpu" for v in given):
                raise Fetched(f"a copy to the CPU of {_named(args[0])}")
            self.uploads += not _is_there(args[0])
        elif op is aten.copy_:
            if not _is_there(args[0]):
                raise Fetched(f"a copy to the CPU of {_named(args[1])}")
            self.uploads += not _is_there(args[1])
        elif op in INDEXED and _is_there(args[0]):
            if any(i is not None and i.dtype == torch.bool for i in args[1]) and not _fills(op, args):
                raise Fetched(f"how many values a mask selects of {_named(args[0])}")
            self.uploads += any(t is i for t in on_host for i in args[1])
            if op is not aten.index and args[2].ndim and not _is_there(args[2]):
                raise Mixed(f"{op}: {', '.join(map(_named, given))}")
        elif on_host:
            raise Mixed(f"{op}: {', '.join(_named(t) for t in given if isinstance(t, Tensor))}")

    def _device(self, tensor: Tensor) -> torch.device:
        own: torch.device = torch._C.TensorBase.device.__get__(tensor)
        return CUDA if own == META and not self._within else own


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _is_there(leaf: object) -> bool:
    """A tensor on the device, or the device."""
    device = torch._C.TensorBase.device.__get__(leaf) if isinstance(leaf, Tensor) else leaf
    return isinstance(device, torch.device) and device.type in ("cuda", "meta")


def _fills(op: Any, args: Any) -> bool:
    """One value for all places of a mask: no length is needed for that."""
    return op is not aten.index and args[2].numel() == 1


def _named(leaf: object) -> str:
    where = "cuda" if _is_there(leaf) else "cpu"
    return f"{tuple(leaf.shape)} on {where}" if isinstance(leaf, Tensor) else str(leaf)


@contextmanager
def _new_parameters() -> Iterator[None]:
    """``module.to("cuda")`` gives a module other parameters: no real one can become a fake one."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
