"""Habits of a command line: one spelling, -h, --version, hints at what was meant, and nobody else's warnings."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from terminal import Type
from torch import Tensor

import robustcodec
from robustcodec.brought.objects import ObjectWarning
from robustcodec.cli import COMMANDS
from robustcodec.data._images import write_image
from robustcodec.running.store import Store


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS), ["leaderboard"], ["leaderboard", "check"]])
def test_help_has_two_spellings(robust: Type, words: list[str]) -> None:
    short, long = robust(*words, "-h"), robust(*words, "--help")
    assert short.code == long.code == 0 and short.out == long.out and "Usage:" in short.out


def test_version(robust: Type) -> None:
    done = robust("--version")
    assert done.code == 0 and done.out == f"robustcodec {robustcodec.__version__}\n"


@pytest.mark.parametrize("option", ["--out", "--output", "-o"])
def test_where_to_write_is_spelled_alike_everywhere(robust: Type, photo: Tensor, tmp_path: Path, option: str) -> None:
    write_image(photo[..., :16, :16], tmp_path / "photo.png")
    done = robust("compress", tmp_path / "photo.png", "--codec", "jpeg", option, tmp_path / "photo.jpg")
    assert done.code == 0, done.err
    done = robust("decompress", tmp_path / "photo.jpg", "--codec", "jpeg", option, tmp_path / "again.png")
    assert done.code == 0, done.err


def test_a_path_as_data_and_a_short_suite_are_hints(robust: Type, photo: Tensor, tmp_path: Path) -> None:
    write_image(photo[..., :16, :16], tmp_path / "photo.png")
    common = ("run", "--codec", "jpeg", "--out", tmp_path / "run")
    for path, kind in ((tmp_path, "folder"), (tmp_path / "photo.png", "file")):
        done = robust(*common, "--attack", "noise", "--data", path)
        assert done.code == 2 and f"of data, write {kind}:{path}" in " ".join(done.err.split())
    done = robust(*common, "--suite", "standard")
    assert done.code == 2 and "did you mean robustcodec-standard?" in " ".join(done.err.split())


def test_warnings_of_libraries_are_not_shown(robust: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustcodec.cli import list as listing

    def warn(kind: str) -> list[object]:
        warnings.warn("torch will change", FutureWarning, stacklevel=1)
        warnings.warn("nobody can tell", ObjectWarning, stacklevel=1)
        return []

    monkeypatch.setattr(listing, "entries", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = robust("list", "codecs", "--json")
    assert done.code == 0 and "torch will change" not in done.err
    assert done.err.strip().endswith("warning: nobody can tell")


SHOW = """
import sys
from robustcodec.cli import main

for encoding in sys.argv[1:]:
    sys.stdout.reconfigure(encoding=encoding, errors="strict")
    sys.argv = ["robustcodec", "report", "run"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    sys.stdout.write("\\f")
"""


def test_a_terminal_that_cannot_show_a_sign_shows_another(folder: Path) -> None:
    """Files are UTF-8 whatever the terminal and the locale are. One process is all terminals: its start takes long."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # files are ASCII unless said otherwise
    words = [sys.executable, "-c", SHOW, "ascii", "cp1252", "utf-8"]
    environment = {**os.environ, **plain, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    *shown, nothing = done.stdout.split(b"\f")
    assert [(b"noise" in text, b"?" in text) for text in shown] == [(True, True), (True, True), (True, False)]
    assert nothing == b"" and "≥" in (folder / "run" / "leaderboard.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a run whose result and board have signs that ASCII lacks."""
    run = robustcodec.run(codec="jpeg", attack="noise", data="photos:size=48", limit=1, out=tmp_path / "run")
    assert not run.errors
    store = Store(tmp_path / "run")
    (cell,) = store.grid().cells()
    result = store.result(cell.id)
    assert result is not None
    store.put(replace(result, warnings=("größer",)))
    return tmp_path


def test_a_reader_that_goes_is_no_error() -> None:
    """``robustcodec finetune --help | head -1``."""
    words = [sys.executable, "-m", "robustcodec", "finetune", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
