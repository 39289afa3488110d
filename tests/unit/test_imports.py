"""Who may import whom, what installs, and how light the command line is."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import robustcodec
from robustcodec.registry import KINDS

ROOT = Path(__file__).parents[2]
CORE = ROOT / "robustcodec"
PLUGINS = ("attacks", "defenses", "zoo")  # folders beside the core, which links show inside it
ROOMS = {p.parent.name for p in CORE.glob("*/__init__.py")} - {*PLUGINS}
# lowest first: a room, or a module of the root, imports its own row and what is below it. ``robustcodec`` itself, what
# users import, is the last but one
LAYERS = [
    {"answers", "errors", "files", "memory", "sealed", "spec", "rounding", "probing", "stream"},
    {"brought", "interfaces", "oracle", "registry", "stack", "weights", "threats", "clips", "coding"},
    {"data", "scores"},
    {"objectives"},
    {"running", "training"},
    {"execution"},
    {"reporting"},
    {"studies"},
    {"page", "boards"},
    {"public"},
    {"robustcodec"},
    {"cli"},
]
PLUGIN_MAY = {
    "clips",
    "errors",
    "spec",
    "stream",
    "rounding",
    "probing",
    "memory",
    "interfaces",
    "oracle",
    "registry",
    "weights",
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names below ``robustcodec`` that a file imports at module level or inside functions (not for typing only);
    ``robustcodec`` for what its own ``__init__`` defines."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            named = [f"{node.module}.{name}" for name in named]
        for name in named:
            if name.split(".")[0] == "robustcodec":
                yield _module(name)


def _module(name: str) -> str:
    """The module that holds ``robustcodec.a.b.name``, without ``robustcodec.``."""
    parts = name.split(".")[1:]
    while parts and not _file(parts):
        parts.pop()
    return ".".join(parts) or "robustcodec"


def _file(parts: list[str]) -> Path | None:
    path = (ROOT if parts[0] in PLUGINS else CORE).joinpath(*parts)  # links are in a checkout, not in an sdist
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _core() -> dict[str, Path]:
    """Every module of the core by its dotted name below ``robustcodec``."""
    paths = [p for p in CORE.rglob("*.py") if p.relative_to(CORE).parts[0] not in PLUGINS]
    dotted = {".".join(p.relative_to(CORE).with_suffix("").parts): p for p in paths}
    return {name.removesuffix(".__init__").replace("__init__", "robustcodec"): p for name, p in dotted.items()}


MODULES = _core()


def _room(module: str) -> str:
    return module.split(".")[0]


def test_every_room_has_a_layer() -> None:
    assert set().union(*LAYERS) == {_room(m) for m in MODULES} - {"__main__"}


@pytest.mark.parametrize("module", sorted({*MODULES} - {"__main__"}))
def test_imports_point_down(module: str) -> None:
    level = next(i for i, layer in enumerate(LAYERS) if _room(module) in layer)
    below = set().union(*LAYERS[: level + 1])
    used = {_room(name) for name in imports(MODULES[module])}
    assert used <= below, f"{module} reaches up or into plugins"


def test_no_import_goes_in_a_circle() -> None:
    TopologicalSorter({name: {*imports(path)} - {name} for name, path in MODULES.items()}).prepare()


def test_the_root_holds_what_everyone_imports() -> None:
    assert len([*CORE.glob("*.py")]) <= 16


def test_files_stay_short() -> None:
    kept = [
        p for folder in ("robustcodec", *PLUGINS) for p in (ROOT / folder).rglob("*.py") if ROOT / folder in p.parents
    ]
    lengths = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in {p.resolve() for p in kept})
    assert lengths[-1] <= 400 and lengths[len(lengths) // 2] <= 140


def _registers(path: Path) -> bool:
    """Whether a module names plugins: others of its folder may import a base of it, but no plugin."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    named = [node.value for node in tree if isinstance(node, ast.Attribute) and node.attr == "register"]
    return any(isinstance(value, ast.Name) and value.id in KINDS for value in named)


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugins_know_the_interfaces_and_the_bases_of_their_own_folder(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        for name in imports(path):
            first, *rest = name.split(".")
            shared = first == folder and not (rest and _registers(ROOT / folder / f"{rest[0]}.py"))
            assert first in PLUGIN_MAY or shared, f"{path.name} imports robustcodec.{name}"


def test_every_folder_is_packaged() -> None:
    """A subfolder that is not listed would be missing from the wheel, and only there."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = [init for init in CORE.rglob("__init__.py") if init.relative_to(CORE).parts[0] not in PLUGINS]
    found = {".".join(init.parent.relative_to(ROOT).parts) for init in rooms}
    for kind in PLUGINS:
        for init in (ROOT / kind).rglob("__init__.py"):
            found.add(".".join(("robustcodec", *init.parent.relative_to(ROOT).parts)))
    assert set(listed) == found


def test_package_and_help_import_nothing_heavy() -> None:
    script = (
        "import sys, robustcodec, robustcodec.cli\n"
        "heavy = {'torch', 'compressai', 'pandas', 'scipy', 'matplotlib', 'torchvision', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_package_shows_is_public() -> None:
    shown = {name: getattr(robustcodec, name) for name in dir(robustcodec) if not name.startswith("__")}
    modules = {name for name, value in shown.items() if isinstance(value, ModuleType)}
    assert {shown[name].__name__ for name in modules} == {f"robustcodec.{name}" for name in modules}
    assert {*shown} - modules == {*robustcodec.__all__}
    assert not hasattr(robustcodec, "Path") and not hasattr(robustcodec, "annotations")


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {robustcodec.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
