"""What a hurried user types to ``run`` and its kin, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from terminal import Type

from robustcodec.execution.runner import Runner

JPEG = ("run", "--codec", "jpeg", "--attack", "noise", "--data", "file:good.png")
PLUGIN = """
from robustcodec.interfaces import Card, Codec

class Talks(Codec):
    differentiable = False

    def __init__(self):
        super().__init__()
        self.card = Card("talks", "talks")

    def forward(self, x):
        raise RuntimeError("blah " * 4000)

    compress = decompress = forward

class Refuses(Talks):
    def __init__(self):
        self.forward(None)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commands run: a picture, a folder of which one file is of no use, and a codec that says too much."""
    monkeypatch.chdir(tmp_path)
    picture = Image.effect_noise((32, 32), 50).convert("RGB")
    picture.save("good.png")
    Path("two").mkdir()
    picture.save("two/a.jpg")
    picture.convert("CMYK").save("two/b.jpg")
    Path("plugin.py").write_text(PLUGIN)


def test_cells_that_differ_in_their_data_alone_are_said_apart(robust: Type) -> None:
    done = robust(*JPEG[:5], "--data", "folder:two", "--data", "folder:two,convert=true")
    lines = [line for line in done.out.splitlines() if line.startswith("failed: ")]
    assert "2 failed" in done.out and len(lines) == 2, done
    assert "data folder:two)" in lines[0] and "data folder:two,convert=true)" in lines[1]


def test_cells_that_differ_in_their_seeds_alone_are_said_apart(robust: Type) -> None:
    done = robust(*JPEG[:5], "--data", "folder:two", "--seed", "1", "--seed", "2")
    lines = [line for line in done.out.splitlines() if line.startswith("failed: ")]
    assert [line.count("seed 1") + 2 * line.count("seed 2") for line in lines] == [1, 2], done


@pytest.mark.parametrize("command", ["attack", "compare", "explain", "finetune", "merge", "recompress", "run", "train"])
@pytest.mark.parametrize("option", ["--out", "--output", "-o"])
def test_every_command_that_writes_takes_each_spelling(robust: Type, command: str, option: str) -> None:
    done = robust(command, option, "there", "--help")
    assert done.code == 0 and option in done.out
    done = robust(command, option)  # the word is known, its value is missing
    assert done.code == 2 and "requires an argument" in done.err, done


@pytest.mark.parametrize(
    ("threat", "meant"),
    [("40dB", "psnr:40"), ("36.5 db", "psnr:36.5"), ("psnr=40", "psnr:40"), ("8/255", "linf:8/255")],
)
def test_a_budget_as_attack_takes_it_is_answered_by_the_threat(robust: Type, threat: str, meant: str) -> None:
    done = robust(*JPEG, "--threat", threat)
    assert done.code == 2 and f"did you mean {meant}?" in done.err and done.err.count("\n") == 1, done


@pytest.mark.parametrize("words", [[*JPEG, "--metric", "lpip"], [*JPEG, "--device", "tpu"]])
def test_what_is_unknown_is_said_before_a_run_folder_is_made(robust: Type, words: list[str]) -> None:
    done = robust(*words)
    assert done.code == 2 and not Path("runs").exists() and "run folder" not in done.out, done


def test_an_attack_with_an_unknown_metric_makes_no_folder(robust: Type) -> None:
    done = robust("attack", "good.png", "--codec", "jpeg", "--attack", "noise", "--metric", "lpip")
    assert done.code == 2 and not Path("attacked").exists(), done


@pytest.mark.parametrize("words", [["list", "zzz"], [*JPEG[:3], "--suite", "zzz"]])
def test_two_sentences_have_a_stop_between_them(robust: Type, words: list[str]) -> None:
    assert "'zzz'. Expected one of" in robust(*words).err


def test_one_cell_is_one_in_words(robust: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runner, "run", interrupted)
        assert "interrupted: 0 of 1 cell done; the same" in robust(*JPEG).out
    monkeypatch.setattr("robustcodec.cli.report.publish", lambda *given, **more: None)
    assert "1 cell ran, 0 were done before" in robust(*JPEG).out
    assert "0 cells ran, 1 was done before" in robust(*JPEG).out


@pytest.mark.parametrize(
    ("words", "codec", "code"),
    [
        (["run", "--attack", "noise", "--data", "file:good.png"], "Talks", 1),
        (["attack", "good.png", "--attack", "noise"], "Talks", 1),
        (["compress", "good.png", "-o", "x"], "Refuses", 2),
    ],
)
def test_a_long_message_of_a_plugin_is_cut(robust: Type, words: list[str], codec: str, code: int) -> None:
    done = robust(*words, "--codec", f"plugin.py:{codec}")
    said = [line for line in (done.out + done.err).splitlines() if "blah" in line]
    assert done.code == code and said and max(map(len, said)) < 1000, done
