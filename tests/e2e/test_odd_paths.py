"""Paths that are not UTF-8: what is made of their names is UTF-8, so they are refused, in one line that names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from terminal import Type

from robustcodec.spec import Spec

ODD = os.fsdecode(b"\xfc")  # one byte, as a name of another encoding has it


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commands run: a folder with an odd name, one with a file of an odd name, and such a file."""
    monkeypatch.chdir(tmp_path)
    picture = Image.effect_noise((32, 32), 50).convert("RGB")
    try:
        for path in (Path(f"by{ODD}te", "a.png"), Path("plain", f"{ODD}.png"), Path(f"x-{ODD}.png")):
            path.parent.mkdir(exist_ok=True)
            picture.save(path)
    except OSError:
        pytest.skip("this file system has only names in UTF-8")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--codec", "jpeg", "--attack", "noise", "--data", f"folder:by{ODD}te"],
        ["run", "--codec", "jpeg", "--attack", "noise", "--data", "folder:plain"],
        ["attack", f"x-{ODD}.png", "--codec", "jpeg", "--attack", "noise"],
        ["compare", "--codec", "jpeg", "--data", f"folder:by{ODD}te"],
        ["recompress", "--codec", "jpeg", "--data", "folder:plain"],
    ],
)
def test_a_name_that_is_not_utf_8_is_refused_and_named(robust: Type, words: list[str]) -> None:
    done = robust(*words)
    assert done.code == 2 and "\\udcfc" in done.err and "not UTF-8" in done.err, done
    assert done.err.count("\n") == 1 and not Path("runs").exists() and not Path("attacked").exists()


def test_a_grid_file_that_is_not_utf_8_by_its_name(robust: Type) -> None:
    Path(f"g{ODD}.toml").write_text('[[block]]\ncodec = ["jpeg"]\nattack = ["noise"]\ndata = ["folder:plain"]\n')
    done = robust("run", f"g{ODD}.toml")
    assert done.code == 2 and "g\\udcfc" in done.err and done.err.count("\n") == 1, done


def test_other_letters_are_names() -> None:
    assert Spec.parse("folder:größe/写真").params == (("", "größe/写真"),)
