"""What plugins print does not break ``--json``: stdout is one document, and nothing that was printed is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from robustcodec.cli import main
from robustcodec.cli._document import apart, say
from robustcodec.data._images import write_image

LOUD = """
import ctypes, os, subprocess, sys
import torch
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.registry import codecs

def shout(where):
    print("print", where)
    sys.stdout.write(f"write {where}\\n")
    os.write(1, f"descriptor {where}\\n".encode())
    ctypes.CDLL(None).printf(f"library {where}\\n".encode())
    sys.stderr.write(f"50% of {where}\\r")

shout("import")
subprocess.run(["echo", "child import"])

class Loud(Codec):
    differentiable = False

    def __init__(self, *, step: int = 16) -> None:
        super().__init__()
        shout("constructor")
        self.step, self.card = step, Card("loud", "loud")

    def forward(self, x):
        shout("forward")
        bits = torch.tensor([8.0 * len(stream) for stream in self.compress(x)])
        return Output(lambda: self.decompress(self.compress(x)), lambda: bits)

    def compress(self, x):
        shout("encoder")
        return [bytes(clip.shape) + (clip * 255 / self.step).round().byte().numpy().tobytes() for clip in x]

    def decompress(self, streams):
        shout("decoder")
        clips = [torch.frombuffer(bytearray(s[4:]), dtype=torch.uint8).view(*s[:4]) for s in streams]
        return (torch.stack(clips) * self.step / 255).clamp(0, 1)
"""
WAYS = ("print", "write", "descriptor", "library", "child")
COMMANDS = {
    "run": "run --codec {codec} --attack noise --data file:path={picture} --out ran",
    "attack": "attack {picture} --codec {codec} --attack noise --out attacked",
    "compress": "compress {picture} --codec {codec} --output picture.rc",
    "check": "check {codec}",
    "compare": "compare --codec {codec} --data file:path={picture} --out compared",
    "recompress": "recompress --codec {codec} --data file:path={picture} --generations 2 --out again",
}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """What a command writes to the descriptors of stdout and stderr."""

    def run(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["robustcodec", *words])
        with pytest.raises(SystemExit):
            main()
        return capfd.readouterr()

    return run


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_stdout_of_json_is_one_document(
    command: str, typed: Callable[..., tuple[str, str]], photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(LOUD)
    write_image(photo[..., :32, :32], Path("photo.png"))
    out, err = typed(*command.format(codec="./loud.py:Loud", picture="photo.png").split(), "--json")
    assert json.loads(out), err
    assert [way for way in WAYS if f"{way} import" not in err] == []


def test_without_json_what_plugins_print_stays_where_it_was(
    typed: Callable[..., tuple[str, str]], photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(LOUD)
    write_image(photo[..., :32, :32], Path("photo.png"))
    out, _ = typed("compress", "photo.png", "--codec", "./loud.py:Loud", "--output", "photo.rc")
    assert "print import" in out


def test_numbers_that_json_has_not_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    def command(json: bool) -> None:
        say({"odd": [float("nan"), float("inf")], "even": 2.0})

    apart(command)(json=True)
    assert json.loads(capsys.readouterr().out) == {"odd": [None, None], "even": 2.0}
