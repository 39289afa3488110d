"""Who may import whom, what installs, and how light the command line is."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# folders that are modules of the core; links show the plugins
PARTS = {p.parent.name for p in (ROOT / "robustcodec").glob("*/__init__.py") if not p.parent.is_symlink()} - {"cli"}
CORE = ({p.stem for p in (ROOT / "robustcodec").glob("*.py")} - {"__init__", "__main__"}) | PARTS
# lowest first; a module may import its own layer's other modules and everything below
LAYERS = [
    {"errors", "allocator", "files"},
    {"spec", "stream", "rounding", "gan", "access", "suites"},
    {"interfaces", "registry", "stack", "images", "guided"},
    {"weights", "metrics", "objectives", "threats", "rate", "video"},
    {"data", "lossless", "targets", "motion", "videosets", "temporal", "perception", "features", "discriminators"},
    {"crops", "adversary", "recipe"},
    {"grid", "robustness", "checks", "conformance"},
    {"store"},
    {"runner", "report", "train", "loop", "denoising", "ladders", "drawing"},
    {"examination", "robust_terms"},
    {"finetune"},
    {"pictures", "curves", "closeups", "side_by_side", "comparison", "security"},
    {"outcome", "single", "recompression", "defended"},
    {"generations", "export"},
    {"page"},
    {"boards", "serving"},
    {"cli"},
]
PLUGIN_MAY = {"errors", "spec", "stream", "rounding", "interfaces", "registry", "weights"}


def imports(path: Path) -> set[str]:
    """Names below ``robustcodec`` that a file imports at module level or inside functions (not for typing only)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module == "robustcodec":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustcodec."):
            found.add((node.module or "").removeprefix("robustcodec."))
        elif isinstance(node, ast.Import):
            found.update(a.name.removeprefix("robustcodec.") for a in node.names if a.name.startswith("robustcodec."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_core_module_has_a_layer() -> None:
    assert set().union(*LAYERS) == CORE | {"cli"}


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_point_down(module: str) -> None:
    level = next(i for i, layer in enumerate(LAYERS) if module in layer)
    below = set().union(*LAYERS[: level + 1])
    core = ROOT / "robustcodec"
    files = (core / module).glob("*.py") if module in PARTS else [core / f"{module}.py"]
    used = {name.split(".")[0] for path in files for name in imports(path)}
    assert used - {"__version__"} <= below, f"{module} reaches up or into plugins"


@pytest.mark.parametrize("folder", ["attacks", "defenses", "zoo"])
def test_plugins_know_the_interfaces_and_their_own_folder(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        for name in imports(path):
            first, *rest = name.split(".")
            shared = first == folder and (not rest or rest[0].startswith("_"))
            assert first in PLUGIN_MAY or shared, f"{path.name} imports robustcodec.{name}"


def test_every_folder_is_packaged() -> None:
    """A subfolder that is not listed would be missing from the wheel, and only there."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"robustcodec", "robustcodec.cli", *(f"robustcodec.{part}" for part in PARTS)}
    for kind in ("attacks", "defenses", "zoo"):
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


def test_version_is_spelled_alike() -> None:
    import robustcodec

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == robustcodec.__version__
