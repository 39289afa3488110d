"""A device ``cuda`` without a GPU, for tests: tensors on it have shapes and no values, and nobody may ask for any.

They are fake: to the library they are on its device ``meta``, which computes shapes alone, and only Python sees
``cuda``. (Of torch's own fake tensors on ``cuda`` the autograd engine asks a driver for streams, which needs a GPU, and
each of their operations costs a millisecond.) What is computed on the CPU alone is really computed: seeds, tables,
positions.

Not covered: the kernels of CUDA and what they compute (values, NaN, precision, determinism), autocast to bfloat16,
which torch turns off where CUDA is not available, memory, and states of the device's random generator.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
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
SHAPES: dict[Any, tuple[bool, list[Any]]] = {}  # of results, by the kind of what they are made of
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Mixed(AssertionError):
    """Tensors of two devices met."""


class Fetched(AssertionError):
    """A value was asked for on the host, or the length of what a mask selects."""


class Rehearsal(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, the device ``cuda`` exists.

    Raises :class:`Mixed` and :class:`Fetched`; a fetch makes the host wait until the GPU has done everything. So does
    an upload of values from ordinary memory: they are counted in ``uploads``. ``stated``: names of files that may
    fetch; they are told zero, or yes if they ask whether two tensors are equal, and counted in ``fetches``.
    """

    def __init__(self, *stated: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uploads, self.fetches = 0, 0
        self._stated = stated
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
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._around.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*_leaves(args), *_leaves((kwargs or {}).values())]
        outer, self._within = self._within, True
        try:
            if any(map(_is_there, given)):
                if what := _fetched(func.overloadpacket, args, given):
                    return self._answer(func.overloadpacket, args, what)
                self._judge(func.overloadpacket, args, given)
                kwargs = {k: META if isinstance(v, torch.device) else v for k, v in (kwargs or {}).items()}
                with unset_fake_temporarily():
                    return _shaped(func, args, kwargs)
            with unset_fake_temporarily():
                return func(*args, **(kwargs or {}))
        finally:
            self._within = outer

    def _answer(self, op: Any, args: Any, what: str) -> Any:
        """For who may fetch."""
        frame = sys._getframe()
        while "torch" in (path := Path(frame.f_code.co_filename)).parts or path.name == "rehearsal.py":
            assert frame.f_back is not None, "somebody outside torch has asked"
            frame = frame.f_back
        if path.name not in self._stated or op in (aten.nonzero, *INDEXED):
            raise Fetched(f"{path.name}:{frame.f_lineno} asks for {what}")
        self.fetches += 1
        if op is aten.equal:
            return True
        with unset_fake_temporarily():
            zeros = torch.zeros(args[0].shape, dtype=args[0].dtype)
            return zeros.item() if op is aten._local_scalar_dense else zeros

    def _judge(self, op: Any, args: Any, given: list[Any]) -> None:
        """Raise for what would not run; count what is uploaded."""
        on_host = [t for t in given if isinstance(t, Tensor) and t.ndim and not _is_there(t)]
        if op in (aten._to_copy, aten.copy_):
            self.uploads += not _is_there(args[op is aten.copy_])
        elif op in INDEXED and _is_there(args[0]):
            self.uploads += any(t is i for t in on_host for i in args[1])
            if op is not aten.index and args[2].ndim and not _is_there(args[2]):
                raise Mixed(f"{op}: {', '.join(map(_named, given))}")
        elif on_host:
            raise Mixed(f"{op}: {', '.join(_named(t) for t in given if isinstance(t, Tensor))}")

    def _device(self, tensor: Tensor) -> torch.device:
        own: torch.device = torch._C.TensorBase.device.__get__(tensor)
        return CUDA if own == META and not self._within else own


def _shaped(func: Any, args: Any, kwargs: Any) -> Any:
    """What ``func`` gives; asked once for arguments of each kind, since kernels of shapes are slow (in Python)."""
    schema = func._schema
    if schema.is_mutable or any(r.alias_info is not None or str(r.type) != "Tensor" for r in schema.returns):
        return func(*args, **kwargs)
    key = (func, _kind(args), _kind(tuple(kwargs.items())))
    if key not in SHAPES:
        made = func(*args, **kwargs)
        results = made if isinstance(made, tuple) else (made,)
        SHAPES[key] = isinstance(made, tuple), [r if r is None else (r.shape, r.stride(), r.dtype) for r in results]
        return made
    several, shapes = SHAPES[key]
    empty = [s if s is None else torch.empty_strided(s[0], s[1], dtype=s[2], device=META) for s in shapes]
    return tuple(empty) if several else empty[0]


def _kind(value: Any) -> Any:
    """What a shape may depend on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.ndim == 0 and not _is_there(value)
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return float if isinstance(value, float) else (type(value), value)


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


def _fetched(op: Any, args: Any, given: list[Any]) -> str:
    """What of the device the host has to know for an operation; empty for nothing."""
    if op in FETCHES:
        return f"{op} of {_named(args[0])}"
    to_host = any(isinstance(v, torch.device) and v.type == "cpu" for v in given)
    if (op is aten._to_copy and _is_there(args[0]) and to_host) or (op is aten.copy_ and not _is_there(args[0])):
        return f"a copy on the CPU of {_named(args[op is aten.copy_])}"
    if op in INDEXED and _is_there(args[0]):
        masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
        fills = op is not aten.index and args[2].numel() == 1  # one value for all: no length is needed
        if masks and not fills:
            return f"how many values a mask selects of {_named(args[0])}"
    return ""


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
