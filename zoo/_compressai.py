"""CompressAI without what its image and video codecs never use, and with a range decoder that stays inside its string.

``import compressai`` also brings data sets and transforms of point clouds, and with them torchvision, PyTorch Geometric
and PyTorch's compiler, and SciPy's statistics for one number: most of the seconds that it takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from types import ModuleType
from typing import TypeVar

from robustcodec.zoo._rans import bound

T = TypeVar("T")
_LATER = ("compressai.datasets", "compressai.transforms", "scipy.stats")
_TABLE = "compressai.registry.transforms"
_CODER = "compressai.ans"


def lighten() -> None:
    """Let ``import compressai`` leave what it rarely needs until one of its names is asked for, and bring the coder of
    :mod:`robustcodec.zoo._rans`.

    After an ``import compressai`` nothing is left out any more.
    """
    sys.meta_path.insert(0, _Finder())
    if _CODER in sys.modules:
        bound(sys.modules[_CODER])


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _TABLE:
            return spec_from_loader(fullname, _Table())
        spec = PathFinder.find_spec(fullname, path, target) if fullname in (*_LATER, _CODER) else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Coder(spec.loader) if fullname == _CODER else _Later(spec.loader)
        return spec


class _Coder(Loader):
    """Loads CompressAI's coder as it is, and exchanges its decoder."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        bound(module)


class _Later(Loader):
    """Runs a module when one of its names is first asked for. Unlike :class:`importlib.util.LazyLoader` it stays asleep
    when somebody looks through all modules for where something was defined, as ``inspect`` and test runners do.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        def wake(name: str) -> object:
            if name.startswith("__") and name != "__all__":
                raise AttributeError(name)
            del module.__dict__["__getattr__"]
            self.loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = wake


class _Table(Loader):
    """CompressAI's table of transforms by name, without torchvision's and PyTorch Geometric's in it."""

    def exec_module(self, module: ModuleType) -> None:
        named: dict[str, object] = {}

        def register_transform(name: str) -> Callable[[T], T]:
            def add(transform: T) -> T:
                named[name] = transform
                return transform

            return add

        module.__dict__.update(TRANSFORMS=named, register_transform=register_transform)
