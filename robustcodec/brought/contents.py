"""What an object in memory is made of, as a checksum: of its class and its source, and of all that it holds."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import io
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustcodec.weights import packages, sha256

PLAIN = (bool, int, float, complex, str, bytes, type(None), PurePath, enum.Enum, torch.dtype, torch.device, torch.Size)
IGNORED = {"training"}  # codecs are judged in eval mode
PYTHONS = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not a type that is compiled in
STATELESS = {"compressai.ans"}  # modules whose objects hold nothing from one call to the next


class Contents:
    """``checksum``: sha256 in hex of everything in ``thing``; ``unknown``: what in it could not be looked into, by
    attribute, in which case the checksum says less than it should.
    """

    def __init__(self, thing: Any) -> None:
        self.unknown: list[str] = []
        self._digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._keep: list[Any] = []  # what has an id keeps it as long as it lives
        self._add(thing, type(thing).__name__)
        self.checksum = self._digest.hexdigest()

    def _say(self, *words: object) -> None:
        self._digest.update("\0".join(map(str, words)).encode("utf-8", "surrogatepass") + b"\1")

    def _add(self, value: Any, where: str) -> None:
        if isinstance(value, PLAIN):
            self._say(type(value).__qualname__, repr(value))
            return
        if id(value) in self._seen:
            self._say("again", self._seen[id(value)])
            return
        self._seen[id(value)] = len(self._seen)
        self._keep.append(value)
        self._say(type(value).__qualname__)
        match value:
            case Tensor():
                self._array(value.detach().to_dense().cpu().contiguous().view(-1).view(torch.uint8).numpy(), value)
            case np.ndarray() | np.generic():
                array = np.asarray(value)
                if array.dtype.hasobject:
                    self._add(array.tolist(), where)
                else:
                    self._array(np.ascontiguousarray(array).view(np.uint8).ravel(), array)
            case torch.jit.ScriptModule():
                self._script(value)
            case torch.Generator():
                self._add(value.get_state(), where)
            case Mapping():
                for key, entry in value.items():
                    self._add(key, f"{where}[{key!r}]")
                    self._add(entry, f"{where}[{key!r}]")
            case list() | tuple():
                for i, entry in enumerate(value):
                    self._add(entry, f"{where}[{i}]")
            case set() | frozenset():
                entries = [Contents(entry) for entry in value]
                self._say(*sorted(entry.checksum for entry in entries))
                self.unknown += [f"an entry of {where}" for entry in entries if entry.unknown]
            case type():
                self._class(value)
            case types.ModuleType():
                self._say(value.__name__, *(_package(value.__name__) or [_module_text(value)]))
            case functools.partial():
                self._add((value.func, value.args, value.keywords), where)
            case types.MethodType():
                self._add((value.__func__, value.__self__), where)
            case types.FunctionType():
                self._function(value, where)
            case types.BuiltinFunctionType() | np.ufunc():
                self._say(getattr(value, "__qualname__", value.__name__))
            case _ if type(value).__module__ in STATELESS:
                self._class(type(value))
            case _ if hasattr(value, "__dict__") and not _opaque(type(value)):
                self._class(type(value))
                self._attributes(value, where)
            case _:
                self.unknown.append(f"{where} ({type(value).__qualname__})")

    def _array(self, data: Any, array: Any) -> None:
        self._say(array.dtype, tuple(array.shape))
        self._digest.update(data.tobytes())

    def _script(self, module: torch.jit.ScriptModule) -> None:
        """Code, parameters and constants, as TorchScript writes them to a file."""
        file = io.BytesIO()
        torch.jit.save(module, file)
        with zipfile.ZipFile(file) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith((".debug_pkl", "serialization_id")):  # where the source stood
                    self._say(name)
                    self._digest.update(archive.read(name))

    def _attributes(self, value: Any, where: str) -> None:
        for name, entry in sorted(vars(value).items()):
            if name not in IGNORED:
                self._say(name)
                self._add(entry, f"{where}.{name}")
        if isinstance(value, nn.Module):
            return
        state = type(value).__dict__.get("__slots__", ())
        for name in (state,) if isinstance(state, str) else state:
            self._add(getattr(value, name, None), f"{where}.{name}")

    def _class(self, cls: type) -> None:
        for each in cls.__mro__:
            installed = _package(each.__module__)
            self._say(each.__module__, each.__qualname__, *(installed or [_source(each)]))
            if not installed:
                for name, member in sorted(vars(each).items()):
                    if isinstance(member, types.FunctionType):
                        self._globals(member, f"{each.__qualname__}.{name}")

    def _function(self, function: types.FunctionType, where: str) -> None:
        self._say(function.__qualname__, *(_package(function.__module__ or "") or [_code(function.__code__)]))
        if not _package(function.__module__ or ""):
            self._globals(function, where)
        self._add(function.__defaults__, f"{where}'s defaults")
        self._add(function.__kwdefaults__, f"{where}'s defaults")
        for cell in function.__closure__ or ():
            try:
                self._add(cell.cell_contents, f"{where}'s closure")
            except ValueError:  # nothing in it yet
                self._say("empty")

    def _globals(self, function: types.FunctionType, where: str) -> None:
        """What a function reads of its module: a notebook changes that between two calls."""
        for name in _read_by(function.__code__):
            if name in function.__globals__:
                self._say(name)
                self._add(function.__globals__[name], f"{name}, which {where} reads")


@functools.cache
def _package(module: str) -> list[str]:
    """As :func:`robustcodec.weights.packages`; what is built in, and this package, are known by their names alone."""
    top = module.partition(".")[0]
    return [top] if top in ("builtins", "robustcodec") else packages(module)


def _source(cls: type) -> str:
    """The text of a class, or of the whole file where that is a module: its functions call others there."""
    try:
        file = inspect.getsourcefile(cls)
        return sha256(Path(file)) if file and cls.__module__ != "__main__" else inspect.getsource(cls)
    except (OSError, TypeError):  # typed at a prompt, or made by a program
        members = sorted((name, value) for name, value in vars(cls).items() if isinstance(value, types.FunctionType))
        return "".join(f"{name} {_code(value.__code__)}" for name, value in members)


def _opaque(cls: type) -> bool:
    """Whether its objects may hold what Python does not see: a class of theirs is written in C."""
    return any(not each.__flags__ & PYTHONS for each in cls.__mro__ if each is not object)


def _module_text(module: types.ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return sha256(Path(file)) if file else "no file"  # built in, or a folder of modules


def _read_by(code: types.CodeType) -> list[str]:
    """Names that a function, or one inside it, may read of its module."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _read_by(constant)]
    return [*code.co_names, *inner]


def _code(code: types.CodeType) -> str:
    """What a function does, without the lines it stands in."""
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    names = (*code.co_names, *code.co_varnames, *code.co_freevars)
    return hashlib.sha256(repr((code.co_code, constants, names)).encode()).hexdigest()
