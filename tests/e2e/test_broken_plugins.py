"""Twelve kinds of broken plugins in one grid: every one is named, and all that is good is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import Type
from torch import Tensor

from robustcodec import registry
from robustcodec.data._images import write_image
from robustcodec.execution import scheduler
from robustcodec.running.store import Store

BAD = """
import ctypes, os, sys, time
from dataclasses import dataclass
import torch
from robustcodec.interfaces import Attack
from robustcodec.registry import codecs

@dataclass(frozen=True)
class Bad(Attack):
    access = "black"
    how: str = "exit"

    def run(self, oracle, x, threat, rng):
        match self.how:
            case "exit":
                sys.exit(0)
            case "os-exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "hang":
                time.sleep(600)
            case "type":
                return [x]
            case "print":
                os.write(1, b"heard\\n")
            case "state":
                torch.set_default_dtype(torch.float64)
                torch.manual_seed(1)
        return threat.project(x + threat.steepest(torch.ones_like(x), x), x)

def spoilt(spoil):
    codec = codecs.build("jpeg:quality=50")
    decompress = codec.decompress
    codec.decompress = lambda streams: spoil(decompress(streams))
    return codec

def nan():
    return spoilt(lambda x: x * float("nan"))

def shape():
    return spoilt(lambda x: x[..., 1:])
"""
ATTACK = """
from robustcodec.registry import attacks
from robustcodec.attacks.noise import Noise

@attacks.register("double")
class Double(Noise): ...
"""
PACKAGES = {"raising": "raise OSError('no weights')", "missing": None, "double": ATTACK, "twin": ATTACK}
TIMEOUT = 6
SAID = {
    "./bad.py:Bad:exit": "SystemExit: 0",
    "./bad.py:Bad:os-exit": "its worker ended with exit code 3",
    "./bad.py:Bad:segfault": "its worker was ended by SIGSEGV",
    "./bad.py:Bad:hang": f"given up while crafting: it took longer than {TIMEOUT} s (--cell-timeout)",
    "./bad.py:Bad:type": "./bad.py:Bad:type gave a list of 1; expected float32",
    "./bad.py:nan": "with values that are not finite",
    "./bad.py:shape": "decompress gave float32 (1, 1, 3, 24, 23); expected float32 (1, 1, 3, 24, 24)",
    "raising": "attack 'raising': package_raising cannot be imported (",
    "missing": "attack 'missing': package_missing cannot be imported (",
    "double": "attack 'double': package_twin cannot be imported (",
}
GOOD = ("noise", "./bad.py:Bad:print", "./bad.py:Bad:state")
CODECS = tuple(name for name in SAID if name in ("./bad.py:nan", "./bad.py:shape"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs :data:`PACKAGES`, each with an attack of its name, as far as this test."""
    site = tmp_path / "site"
    for name, text in PACKAGES.items():
        meta = site / f"{name}-1.dist-info"
        meta.mkdir(parents=True)
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (meta / "entry_points.txt").write_text(f"[{registry.attacks.group}]\n{name} = package_{name}\n")
        if text is not None:
            (site / f"package_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(site))
    registry._entry_points.cache_clear()
    monkeypatch.setattr(registry.attacks, "_entered", False)
    monkeypatch.setattr(registry.attacks, "_broken", {})
    yield
    registry._entry_points.cache_clear()
    for name in PACKAGES:
        registry.attacks._builders.pop(name, None)
        sys.modules.pop(f"package_{name}", None)


@pytest.mark.filterwarnings("default::robustcodec.registry.PluginWarning")
def test_the_grid_goes_on_and_names_each(
    packages: None, robust: Type, photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, "ATTEMPTS", 1)  # a crash is one, without the time that others take
    (tmp_path / "bad.py").write_text(BAD)
    write_image(photo[..., :24, :24], tmp_path / "photo.png")
    attacks = [*(name for name in SAID if name not in CODECS), *GOOD]
    axes: dict[str, Any] = {"data": ["file:path=photo.png"], "threat": ["linf:8/255"]}
    blocks = [{"codec": ["jpeg:quality=50"], "attack": attacks, **axes}, {"codec": CODECS, "attack": ["noise"], **axes}]
    lines = ("\n[[block]]\n" + "".join(f"{axis} = {json.dumps(v)}\n" for axis, v in block.items()) for block in blocks)
    Path("grid.toml").write_text("".join(lines))
    done = robust("run", "grid.toml", "--workers", 2, "--cell-timeout", TIMEOUT, "--out", "ran", "--json")
    assert done.code == 1, done.err
    assert len(json.loads(done.out)) == 1 and "heard" not in done.out
    failed = {line for line in done.err.splitlines() if line.startswith("failed: ")}
    for name, words in SAID.items():
        assert any(name in line and words in line for line in failed), (name, "\n".join(failed))
    assert len(failed) == len(SAID)
    results = {cell.attack: Store(Path("ran")).result(cell.id) for cell in Store(Path("ran")).grid().cells()}
    assert [name for name in GOOD if (result := results[name]) is None or result.status != "ok"] == []
