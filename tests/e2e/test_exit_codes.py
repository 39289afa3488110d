"""Exit codes: 2 for what was typed or given, 1 for what failed while it ran, 130 for Ctrl-C; never a traceback."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image
from terminal import Type

from robustcodec.cli import COMMANDS
from robustcodec.cli.leaderboard import app as leaderboard
from robustcodec.errors import BrokenPlugin, DiskFull, ProcessError, StoreError

CODEC = "bmshj2018-factorized.tiny-q1"
GIVEN = {  # command → what is wrong in what is typed or given
    "run": ["nowhere.toml", "broken.toml", "--codec nosuch", "--codec jpeg:quality=x", "--codec jpeg --attack nosuch",
            "--codec jpeg --data folder:nowhere", "--codec jpeg --device nosuch", "--codec jpeg --shard 9/2",
            "--codec jpeg --limit -1", "--board nowhere --codec jpeg", "--codec jpeg --suite nosuch",
            "--codec jpeg --attack noise --data file:broken.png --out out"],
    "quickstart": ["nowhere.png", "broken.png", "empty", "good.png --codec nosuch", "good.png --budget nosuch",
                   "good.png --out broken.png/out"],
    "merge": ["nowhere --out out", "empty --out out"],
    "audit": ["nowhere", "empty"],
    "attack": ["nowhere.png --codec jpeg", "broken.png --codec jpeg", "empty --codec jpeg", "good.png --codec nosuch",
               "good.png --codec jpeg --budget nosuch", "good.png --codec jpeg --attack noise --out broken.png/out"],
    "explain": [f"{CODEC} nowhere.png", f"{CODEC} broken.png", "nosuch good.png", "jpeg good.png"],
    "list": ["nosuch"],
    "show": ["nosuch", "nowhere.pth", "broken.png"],
    "check": ["nosuch", "--attack nosuch", "jpeg --defense nosuch"],
    "compare": ["--codec nosuch --data file:good.png --out out", "--codec jpeg --data nosuch --out out",
                "--codec jpeg --data file:broken.png --out out",
                "--codec jpeg --data file:good.png --out broken.png/out"],
    "recompress": ["--codec nosuch --data file:good.png --out out", "--codec jpeg --data folder:nowhere --out out"],
    "train": ["nosuch --name x --data file:good.png --lmbda 1", f"{CODEC} --recipe nowhere.toml",
              f"{CODEC} --recipe broken.toml", f"{CODEC} --name x --data folder:nowhere --lmbda 1 --out out"],
    "finetune": ["nosuch", "jpeg", f"{CODEC} --recipe broken.toml"],
    "compress": ["nowhere.png --codec jpeg -o out.rc", "broken.png --codec jpeg -o out.rc",
                 "good.png --codec nosuch -o out.rc", "good.png --codec jpeg -o nowhere/out.rc"],
    "decompress": ["nowhere.rc -o out.png", "broken.png --codec jpeg -o out.png", "empty -o out.png"],
    "report": ["nowhere", "empty", "nowhere --export table.xyz", "nowhere --port 99999"],
    "cite": ["nosuch", "pgd --kind nosuch"],
    "doctor": ["extra"],
    "leaderboard init": ["mine", "mine --data nosuch --suite robustcodec-quick --threat psnr:40",
                         "mine --data photos --suite nosuch --threat psnr:40"],
    "leaderboard add": ["empty empty --by A"],
    "leaderboard build": ["nowhere"],
    "leaderboard check": ["nowhere"],
    "leaderboard verify": ["nowhere", "broken.png"],
    "leaderboard merge": ["nowhere nowhere"],
    "leaderboard diff": ["nowhere nowhere"],
    "leaderboard export": ["nowhere", "nowhere table.xyz"],
    "leaderboard measure": ["nowhere", "nowhere --by A", "empty --by A"],
    "leaderboard break": ["nowhere good.png --entry jpeg --by A --how B", "empty nowhere --entry jpeg --by A --how B"],
    "leaderboard dispute": ["nowhere --by A --why B", "broken.png --by A --why B"],
}  # fmt: skip
RAN = [  # what fails while it runs
    "run --codec plugin.py:Raises --attack noise --data file:good.png --out out",
    "attack good.png --codec plugin.py:Raises --attack noise --out out",
    "compare --codec plugin.py:Raises --data file:good.png --out out",
    "recompress --codec plugin.py:Raises --data file:good.png --out out",
    "compress good.png --codec plugin.py:Exits -o out.rc",
]
PLUGIN = """
from robustcodec.interfaces import Card, Codec

class Raises(Codec):
    differentiable = False

    def __init__(self):
        super().__init__()
        self.card = Card("raises", "raises")

    def forward(self, x):
        raise RuntimeError("it broke")

    compress = decompress = forward

class Exits(Raises):
    def compress(self, x):
        raise SystemExit(0)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run: a good picture, a broken one, a broken TOML, a plugin, an empty folder."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((48, 48), 50).convert("RGB").save("good.png")
    Path("broken.png").write_bytes(b"no picture")
    Path("broken.toml").write_text("= =")
    Path("plugin.py").write_text(PLUGIN)
    Path("empty").mkdir()
    return tmp_path


def test_every_command_is_tabled() -> None:
    boards = {
        f"leaderboard {command.name or command.callback.__name__}"
        for command in leaderboard.registered_commands
        if command.callback
    }
    assert set(GIVEN) == {*COMMANDS, *boards}


@pytest.mark.parametrize("command", GIVEN)
def test_what_was_given_is_2(command: str, robust: Type) -> None:
    for words in GIVEN[command]:
        done = robust(*command.split(), *shlex.split(words))
        assert done.code == 2, (words, done)
        assert done.err.strip() or "failed" in done.out, words


@pytest.mark.parametrize("words", RAN)
def test_what_failed_while_it_ran_is_1(words: str, robust: Type) -> None:
    done = robust(*words.split())
    assert done.code == 1, done


@pytest.mark.parametrize(
    ("error", "code"),
    [(ProcessError("it ended"), 1), (DiskFull("no room"), 1), (StoreError("no folder"), 2), (BrokenPlugin("it"), 2)],
)
def test_what_is_raised_says_whose_fault_it_is(
    error: Exception, code: int, robust: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object) -> None:
        raise error

    monkeypatch.setattr("robustcodec.coding.judged", failing)
    done = robust(*"compress good.png --codec jpeg -o out.rc".split())
    assert (done.code, done.err) == (code, f"error: {error}\n")


@pytest.mark.parametrize("words", ["list", "compress good.png --codec jpeg -o out.rc", "show jpeg --kind codecs"])
def test_ctrl_c_is_130(words: str, robust: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in commands that have nothing to say of it."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robustcodec.registry.Registry.get", interrupted)
    assert robust(*words.split()).code == 130


def test_a_run_of_which_nothing_succeeded_gives_the_reasons(robust: Type) -> None:
    """And no leaderboard without lines; so does its report, and the JSON is an empty list."""
    done = robust(*RAN[0].split())
    reason = "RuntimeError: it broke"
    assert reason in done.out and "Leaderboard" not in done.out and "every cell failed" in done.out
    assert done.out.index(reason) < done.out.index("every cell failed")
    assert "0 cells ran" in done.out and "1 failed" in done.out
    report = robust("report", "out")
    assert report.code == 0 and reason in report.out and "Leaderboard" not in report.out
    assert json.loads(robust("report", "out", "--json").out) == []


def test_one_is_one(robust: Type) -> None:
    done = robust(*"run --codec jpeg --attack noise --data file:good.png --out out".split())
    assert "1 cell ran" in done.out and " to craft 1 clip" in done.out and "1 clips" not in done.out
