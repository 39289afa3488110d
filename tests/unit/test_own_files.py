"""Classes in files of one's own where names stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import robustcodec
from robustcodec.errors import PluginError, UserError
from robustcodec.execution.luggage import mentioned
from robustcodec.registry import KINDS, attacks, codecs, metrics, threats
from robustcodec.running.grid import Cell, Grid
from robustcodec.spec import Spec

NETWORK = """
import torch
from halves import HALF

class Dim(torch.nn.Module):
    "Pictures of half the contrast."
    def __init__(self, strength: float = HALF, name: str = "x"):
        super().__init__()
        self.strength = strength
    def forward(self, x):
        return self.strength * x

class NoCodec:
    def compress(self, x): ...

def network(strength: float = 0.5):
    return Dim(strength)
"""
OTHERS = """
import torch
from dataclasses import dataclass
from robustcodec.interfaces import Attack, Codec, Metric

@dataclass(frozen=True)
class Up(Attack):
    by: float = 0.02
    def run(self, oracle, x, threat, rng):
        return x + self.by

@dataclass(frozen=True)
class Lazy(Attack):
    by: float = 0.02

class Half(Codec):
    def forward(self, x): ...

def darkness(scale: float = 1.0) -> Metric:
    return Metric("darkness", "", False, lambda x, y: scale * (1 - y).flatten(1).mean(1))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "halves.py").write_text("HALF = 0.5\n")
    (tmp_path / "mine.py").write_text(NETWORK)
    (tmp_path / "others.py").write_text(OTHERS)
    (tmp_path / "typo.py").write_text("class A:\n    def (self): ...\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_may_be_a_class_in_a_file() -> None:
    spec = Spec.parse("../a dir/my.codec.py:Mine:width=64,path=b:c")
    assert (spec.name, spec.tag) == ("../a dir/my.codec.py:Mine", None)
    assert spec.params == (("width", "64"), ("path", "b:c"))
    assert str(spec) == "../a dir/my.codec.py:Mine:width=64,path=b:c"
    assert Spec.parse("x.py:Mine").params == () and Spec.parse("x.py:Mine:3").params == (("", "3"),)


def test_a_run_of_plugins_in_files(folder: Path) -> None:
    run = robustcodec.run(
        codec="./mine.py:Dim:strength=0.75", attack="others.py:Up:by=0.01", threat="linf:4/255", limit=1,
        data="photos:size=32", metrics=["others.py:darkness:scale=2"], out=folder / "run",
    )  # fmt: skip
    assert not run.errors
    (row,) = run.frame.to_dict("records")
    assert row["input_linf"] == pytest.approx(3, abs=1e-4) and 0.1 < row["adv_darkness"] < 2
    x = next(iter(KINDS["data"].build("photos:size=32").samples())).load()[None] / 255
    assert row["psnr"] == pytest.approx(-10 * (x / 4).square().mean().log10().item(), abs=0.02)
    assert robustcodec.read(folder / "run").frame.equals(run.frame)
    assert mentioned(Cell("./mine.py:Dim", "noise")) == {"./mine.py"}


def test_what_a_file_holds_identifies_it_and_not_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(name: str) -> str:
        return Cell(name, "noise", data="photos:size=16", limit=1).id

    first = identity("./mine.py:Dim")
    assert identity(f"{folder}/mine.py:Dim") == first and identity("mine.py:Dim:strength=0.25") != first
    (folder / "other").mkdir()
    for name in ("mine.py", "halves.py"):
        (folder / "other" / name).write_text((folder / name).read_text())
    assert identity("other/mine.py:Dim") == first
    (folder / "halves.py").write_text("HALF = 0.25\n")  # what it imports
    assert identity("mine.py:Dim") != first
    (folder / "mine.py").write_text(NETWORK.replace("self.strength * x", "self.strength * x * x"))
    assert (
        float(codecs.build("mine.py:Dim")(torch.full((1, 1, 3, 8, 8), 0.5)).x_hat.mean()) == 0.0625
    )  # both read again
    assert identity("mine.py:Dim") not in (first, identity("other/mine.py:Dim"))


def test_a_neighbour_is_read_anew_and_is_that_of_the_file_s_own_folder(folder: Path) -> None:
    def shown(name: str) -> float:
        return float(codecs.build(name)(torch.full((1, 1, 3, 8, 8), 0.5)).x_hat.mean())

    assert shown("mine.py:Dim") == 0.25
    (folder / "halves.py").write_text("HALF = 0.75\n")
    assert shown("mine.py:Dim") == 0.375
    (folder / "other").mkdir()
    (folder / "other" / "mine.py").write_text(NETWORK)
    (folder / "other" / "halves.py").write_text("HALF = 1.0\n")
    assert shown("other/mine.py:Dim") == 0.5 and shown("mine.py:Dim") == 0.375


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("codecs", "absent.py:Dim", "there is no file absent.py"),
        ("codecs", "mine.py:Din", "mine.py has no class Din; it has Dim, NoCodec, network"),
        ("codecs", "mine.py:NoCodec", r"NoCodec \(.*mine.py, line 13\) is no Codec: .*lacks decompress, forward"),
        ("codecs", "others.py:Half", r"Half \(.*others.py, line 16\) has no compress, decompress, which every Codec"),
        ("codecs", "others.py:darkness", "made a Metric, which is none"),
        ("codecs", "mine.py:Dim:strength=much", "strength='much' cannot be read; expected float"),
        ("codecs", "mine.py:Dim:depth=3", "has no parameter 'depth'; it takes strength, name"),
        ("attacks", "others.py:Lazy", r"Lazy \(.*others.py, line 1[12]\) has no run, which every Attack needs"),
        ("attacks", "mine.py:Dim", "is no subclass of robustcodec.interfaces.Attack"),
        ("attacks", "typo.py:A", r"typo.py cannot be run \(.*typo.py, line 2\): SyntaxError"),
        ("threats", "mine.py:Dim", "is no subclass of robustcodec.interfaces.Threat"),
    ],
)
def test_what_is_no_plugin_is_refused_with_what_is_missing(folder: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises((UserError, PluginError), match=words):
        KINDS[kind].build(name)
    assert attacks.build("noise") and codecs.build("jpeg") and threats.build("psnr:40") and metrics.build("psnr")


def test_a_function_may_make_a_network(folder: Path) -> None:
    assert codecs.build("mine.py:network:strength=0.5").card.name == "mine.py:network"


def test_grid_files_name_them_too(folder: Path) -> None:
    (folder / "grid.toml").write_text(
        '[[block]]\ncodec = ["mine.py:Dim:strength={0.5,0.75}"]\nattack = ["others.py:Up"]\ndata = ["photos:size=16"]\n'
    )
    cells = Grid.read(folder / "grid.toml").check()
    assert [cell.codec for cell in cells] == ["mine.py:Dim:strength=0.5", "mine.py:Dim:strength=0.75"]
    assert re.fullmatch(r"halves.py \w{16}, mine.py \w{16}", cells[0].resolved.identity["codec"]["source"])
