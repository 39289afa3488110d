"""Plugins in files of one's own: ``./my_codec.py:Class:width=64`` stands wherever a name may stand."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from robustcodec.brought.kinds import as_codec, base_of, lacking
from robustcodec.errors import BadParameter, BrokenPlugin, UserError, blamed
from robustcodec.weights import sha256

NAME = re.compile(r"(?P<file>.+\.py):(?P<attribute>[A-Za-z_]\w*)")


def is_in_file(name: str) -> bool:
    """Whether a name is of a plugin in a file."""
    return NAME.fullmatch(name) is not None


def builder(kind: str, name: str) -> Callable[..., Any]:
    """The class or function ``name`` of a ``kind`` of plugin; of a network that is no codec yet, one that makes one.

    Raises :class:`UserError` for a file that is not there, and for what is not of this kind: it says which file and
    line, and what is missing. Raises :class:`BrokenPlugin` for a file that cannot be run.
    """
    path, attribute = _split(name)
    module = _loaded(path, source(name))
    found = vars(module).get(attribute)
    if not callable(found):
        defined = [key for key, value in vars(module).items() if callable(value) and _defined_in(value, module)]
        has = ", ".join(defined) or "no class"
        raise UserError(f"{kind} {name!r}: {path} has no class {attribute}; it has {has}")
    base = base_of(kind)
    if not isinstance(found, type):  # a function that makes one, of which :meth:`Registry.build` sees what comes out
        return _adapting(found, name) if kind == "codec" else cast(Callable[..., Any], found)
    if issubclass(found, base):
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise UserError(f"{kind} {name!r}: {_where(found)} has no {missing}, which every {base.__name__} needs")
        return found
    if why := lacking(kind, found):
        raise UserError(f"{kind} {name!r}: {_where(found)} is no {base.__name__}: {why}")
    return _adapting(found, name)


def source(name: str) -> str:
    """Checksums of the file of a plugin, and of the files beside it that it imports, with their names."""
    path, _ = _split(name)
    return ", ".join(f"{each.name} {sha256(each)[:16]}" for each in sorted({path, *_imported(path, {path})}))


def short(name: str) -> str:
    """The name without the folder of its file: where that lies changes no number."""
    path, attribute = _split(name)
    return f"{path.name}:{attribute}"


def by_content(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters``, with checksums in the place of files."""
    return {
        key: f"sha256 {sha256(Path(value))}" if isinstance(value, str) and Path(value).is_file() else value
        for key, value in parameters.items()
    }


def _adapting(maker: Callable[..., Any], name: str) -> Callable[..., Any]:
    def build(**parameters: Any) -> Any:
        made = maker(**parameters)
        return as_codec(made, short(name)) if isinstance(made, base_of("network")) else made

    build.__signature__ = inspect.signature(maker)  # type: ignore[attr-defined]
    build.__doc__, build.__module__ = maker.__doc__, maker.__module__
    build.fingerprint = lambda **_: ""  # type: ignore[attr-defined]  # the file says all
    return build


def _split(name: str) -> tuple[Path, str]:
    match = NAME.fullmatch(name)
    if match is None:
        raise BadParameter(f"{name!r} is not FILE.py:Class; expected a file and, after a colon, a class in it")
    path = Path(match["file"]).expanduser()
    if not path.is_file():
        raise UserError(f"{name!r}: there is no file {path}; names of files are relative to {Path.cwd()}")
    return path.resolve(), match["attribute"]


@cache
def _loaded(path: Path, contents: str) -> ModuleType:
    """The file as a module of its own, run again when its ``contents``, neighbours among them, have changed."""
    digest = hashlib.sha256(f"{path} {contents}".encode()).hexdigest()
    spec = importlib.util.spec_from_file_location(f"_brought_{path.stem}_{digest[:8]}", path)
    assert spec is not None and spec.loader is not None, "it ends with .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    neighbours = {each.relative_to(path.parent).parts[0].removesuffix(".py") for each in _imported(path, {path})}
    for name in [name for name in sys.modules if name.partition(".")[0] in neighbours]:
        del sys.modules[name]  # as they were before, or of another folder
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[spec.name]
        raise blamed(f"{path} cannot be run", error, BrokenPlugin) from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # stays, since it may import its neighbours later
    return module


def _defined_in(value: Any, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def _where(cls: type) -> str:
    """Where a class is defined, for people."""
    return f"{cls.__name__} ({inspect.getsourcefile(cls)}, line {inspect.getsourcelines(cls)[1]})"


def _imported(path: Path, known: set[Path]) -> Iterator[Path]:
    """Files beside ``path`` that it imports, and that those import; a checkout of this package is none of them."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # which is said when it is run
        return
    for node in ast.walk(tree):
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        named += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for top in {name.partition(".")[0] for name in named} - {"robustcodec"}:
            stem = path.parent / top
            near = stem.with_suffix(".py"), *(sorted(stem.rglob("*.py")) if stem.is_dir() else ())
            for found in near:
                if found.is_file() and found not in known:
                    known.add(found)
                    yield found
                    yield from _imported(found, known)
