"""What a plugin raises while a grid is planned is its own cells' failure; a command that names it says one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from terminal import Type

from robustcodec import registry
from robustcodec.errors import PluginError, UnknownName
from robustcodec.execution.runner import Runner
from robustcodec.execution.shards import Shard
from robustcodec.registry import Registry
from robustcodec.running.grid import Grid
from robustcodec.running.store import Store

PLUGINS = """
import sys
from dataclasses import dataclass
import torch
from robustcodec.interfaces import Attack, Codec, DataSet, Defense, Metric, Objective, Sample, Threat
from robustcodec.registry import data

class Leaves(BaseException):
    pass

class Quits:
    def __init__(self):
        sys.exit(0)

class Attacking(Quits, Attack):
    def run(self, oracle, x, threat, rng): ...

class Defending(Quits, Defense):
    def wrap(self, codec): ...

class Aiming(Quits, Objective):
    def __call__(self, x, clean, attacked, x_adv): ...

class Coding(Quits, Codec):
    def forward(self, x): ...
    def compress(self, x): ...
    def decompress(self, streams): ...

def leaving() -> Attack:
    raise Leaves("gone")

def measuring() -> Metric:
    sys.exit(0)

def quits():
    sys.exit(0)

class Unlisted(DataSet):
    def samples(self):
        sys.exit(0)

class Unread(DataSet):
    def samples(self):
        return [Sample("one", quits)]

class Unnamed(DataSet):
    def samples(self):
        return ["one"]
"""
ENDS = """
import sys
from robustcodec.interfaces import Card, Codec

class Ends(Codec):
    card = Card("ends", "ends")

    def forward(self, x):
        sys.exit(0)

    def compress(self, x):
        sys.exit(0)

    def decompress(self, streams): ...
"""
BROKEN = {
    "attack": ({"attack": "./bad.py:Attacking"}, "attack './bad.py:Attacking' cannot be made (", "SystemExit: 0"),
    "function": ({"attack": "./bad.py:leaving"}, "attack './bad.py:leaving' cannot be made (", "Leaves: gone"),
    "defense": ({"defense": "./bad.py:Defending"}, "defense './bad.py:Defending' cannot be made (", "SystemExit: 0"),
    "objective": ({"objective": "./bad.py:Aiming"}, "objective './bad.py:Aiming' cannot be made (", "SystemExit: 0"),
    "codec": ({"codec": "./bad.py:Coding"}, "codec './bad.py:Coding' cannot be made (", "SystemExit: 0"),
    "file": ({"attack": "./typo.py:Attacking"}, "", "(typo.py, line 1)"),
    "list": ({"data": "./bad.py:Unlisted"}, "./bad.py:Unlisted: samples (", "SystemExit: 0"),
    "reader": ({"data": "./bad.py:Unread"}, "sample one (", "SystemExit: 0"),
    "names": ({"data": "./bad.py:Unnamed"}, "./bad.py:Unnamed: samples gave a str of 3; expected samples", ""),
}


@pytest.fixture(autouse=True)
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(PLUGINS)
    Path("typo.py").write_text("class Attacking(")


def planned(**changed: str) -> Grid:
    good: dict[str, Any] = {"codec": ["jpeg:quality=50"], "attack": ["noise"], "data": ["photos:size=16"], "limit": 1}
    return Grid("mixed", (good, {**good, **{axis: [value] for axis, value in changed.items()}}))


@pytest.mark.parametrize(("changed", "begins", "ends"), BROKEN.values(), ids=BROKEN)
def test_it_is_the_failure_of_its_own_cell(changed: dict[str, str], begins: str, ends: str) -> None:
    grid = planned(**changed)
    tally = Runner(Store(Path("run"))).run(grid.check())
    assert (tally.ran, tally.failed, tally.mistakes) == (1, 1, 0)
    (error,) = tally.errors.values()
    assert error.startswith(begins) and error.endswith(ends)
    again = Runner(Store(Path("run"))).run(grid.check())
    assert (again.skipped, again.failed) == (1, 1)


def test_shards_share_out_broken_cells_too() -> None:
    cells = planned(data="./bad.py:Unlisted", attack="./bad.py:Attacking").check()
    parts = [Shard(number, 2).of(cells) for number in (1, 2)]
    assert sorted(map(str, cells)) == sorted(str(cell) for part in parts for cell in part)


COMMANDS: dict[str, tuple[str, ...]] = {
    "attack": ("attack", "photo.png", "--codec", "jpeg", "--attack", "./bad.py:Attacking"),
    "attack of a codec": ("attack", "photo.png", "--codec", "./bad.py:Coding", "--attack", "noise"),
    "compress": ("compress", "photo.png", "--codec", "./bad.py:Coding", "--output", "photo.rc"),
    "check": ("check", "./bad.py:Coding"),
    "run": ("run", "--codec", "jpeg", "--attack", "./bad.py:Attacking"),
    "metric": ("run", "--codec", "jpeg", "--attack", "noise", "--metric", "./bad.py:measuring"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_names_it_says_one_line(robust: Type, words: tuple[str, ...], photo: Any) -> None:
    from robustcodec.data._images import write_image

    write_image(photo[..., :16, :16], Path("photo.png"))
    done = robust(*words)
    lines = done.err.splitlines()
    assert done.code == 2 and len(lines) == 1 and lines[0].endswith("SystemExit: 0") and "./bad.py:" in lines[0]


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[object]]:
    """A registry of toys with entry points in modules of some text."""

    def found(**modules: str) -> Registry[object]:
        monkeypatch.syspath_prepend(tmp_path)
        made: Registry[object] = Registry("toy", "robustcodec.errors", "robustcodec.toys")
        monkeypatch.setattr(registry, "toys", made, raising=False)
        entries = []
        for module, text in modules.items():
            monkeypatch.delitem(sys.modules, module, raising=False)
            (tmp_path / f"{module}.py").write_text("from robustcodec.registry import toys\n" + text)
            entries.append(EntryPoint(module.removesuffix("_too"), module, "robustcodec.toys"))
        monkeypatch.setattr(registry, "_entry_points", lambda: EntryPoints(entries))
        return made

    return found


@pytest.mark.filterwarnings("ignore::robustcodec.registry.PluginWarning")
@pytest.mark.parametrize("text", ["raise OSError('no such weights')", "import nowhere", "raise BaseException('no')"])
def test_the_name_of_an_entry_point_that_cannot_be_loaded_is_known_to_be_broken(
    text: str, toys: Callable[..., Registry[object]]
) -> None:
    plugins = toys(duck=text)
    with pytest.raises(PluginError, match="toy 'duck': duck cannot be imported"):
        plugins.get("duck")
    with pytest.raises(UnknownName):
        plugins.get("swan")


@pytest.mark.filterwarnings("ignore::robustcodec.registry.PluginWarning")
def test_a_name_that_two_packages_bring_is_neither_s(toys: Callable[..., Registry[object]]) -> None:
    one = '\n@toys.register("duck")\nclass Duck: ...\n'
    plugins = toys(duck=one, duck_too=one, swan=one.replace("duck", "swan"))
    with pytest.raises(PluginError, match="toy 'duck'.*is defined twice: in duck and in duck_too"):
        plugins.get("duck")
    assert plugins.get("swan").__module__ == "swan"


def test_a_function_that_makes_codecs_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.codecs._builders, "made", lambda: registry.codecs.build("jpeg"))
    assert registry.codecs.fingerprint("made") == ""


def test_a_comparison_goes_on_without_a_codec_that_ends_its_process(robust: Type, photo: Any) -> None:
    from robustcodec.data._images import write_image

    write_image(photo[..., :16, :16], Path("photo.png"))
    Path("ends.py").write_text(ENDS)
    common = ("--codec", "jpeg:quality=50", "--data", "file:path=photo.png", "--json", "--out", "out")
    done = robust("compare", *common, "--codec", "./ends.py:Ends")
    assert [point["codec"] for point in json.loads(done.out)["means"]] == ["jpeg:quality=50"]
    assert "SystemExit: 0" in done.err
