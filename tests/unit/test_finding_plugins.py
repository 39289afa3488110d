"""Finding plugins: names without imports, and files and packages that are broken."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from robustcodec import registry
from robustcodec.errors import RobustCodecError
from robustcodec.registry import Registry


def build(*, steps: int = 3) -> None: ...


def test_names_are_known_before_anything_is_imported_and_a_broken_file_breaks_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "some_plugins"
    home.mkdir()
    files = {
        "__init__": "",
        "good": "from toys_registry import toys\n\n\n@toys.register('good')\nclass Good: ...\n".replace("'", '"'),
        "typo": '@toys.register("typo")\nclass Typo:\n    def (self): ...\n',
        "dies": 'import sys\n\nsys.exit(0)\n\n@toys.register("dies")\nclass Dies: ...\n',
    }
    for name, text in files.items():
        (home / f"{name}.py").write_text(text)
    (tmp_path / "toys_registry.py").write_text(
        "from robustcodec.registry import Registry\ntoys = Registry('toy', 'some_plugins', 'robustcodec.toys')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    toys = importlib.import_module("toys_registry").toys
    assert toys.names() == ["dies", "good", "typo"] and not {"some_plugins.good", "some_plugins.typo"} & {*sys.modules}
    assert toys.get("good").__module__ == "some_plugins.good" and toys.modules() == {"some_plugins.good"}
    with pytest.raises(RobustCodecError, match=r"some_plugins\.typo cannot be imported \(.*typo\.py, line 3\): Syntax"):
        toys.get("typo")
    with pytest.raises(
        RobustCodecError, match=r"some_plugins\.dies cannot be imported \(.*dies\.py, line 3\): SystemExit"
    ):
        toys.get("dies")
    with pytest.raises(RobustCodecError, match="'typo' is defined twice: in some_plugins.typo and in "):
        toys.register("typo")(build)


def test_a_package_whose_plugins_cannot_be_loaded_is_named_and_the_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises.py").write_text("raise OSError('no such weights')\n")
    (tmp_path / "leaves.py").write_text("import sys\n\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = EntryPoints(
        [
            EntryPoint(name, module, "robustcodec.toys")
            for name, module in (("bad", "raises"), ("gone", "nowhere.at_all"), ("done", "leaves"))
        ]
    )
    monkeypatch.setattr(registry, "_entry_points", lambda: found)
    toys: Registry[object] = Registry("toy", "robustcodec.errors", "robustcodec.toys")
    toys.register("mine")(build)
    with pytest.warns(registry.PluginWarning) as warned:
        assert toys.names() == ["mine"]
    said = [str(each.message) for each in warned]
    assert len(said) == 3 and "of bad (raises)" in said[0] and "raises.py, line 1): OSError: no such" in said[0]
    assert "of gone (nowhere.at_all)" in said[1] and "No module named 'nowhere'" in said[1]
    assert "of done (leaves)" in said[2] and "leaves.py, line 3): SystemExit: 0" in said[2]
    assert toys.names() == ["mine"]  # and not said again


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_name_that_a_module_registers_is_found_without_importing_it(kind: str) -> None:
    plugins = registry.KINDS[kind]
    home = importlib.import_module(plugins.home)
    modules = [m.name for m in pkgutil.iter_modules(home.__path__) if not m.name.startswith("_")]
    for name in modules:
        importlib.import_module(f"{plugins.home}.{name}")
    ours = {name: b.__module__ for name, b in plugins._builders.items() if b.__module__.startswith(plugins.home)}
    assert plugins._ours == ours
