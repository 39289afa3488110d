"""Runs that nobody named: each grid has a folder of its own, which says so and is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from terminal import Type

import robustcodec

SMALL: dict[str, Any] = {"attack": "noise", "data": "photos:size=16", "limit": 1}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folders() -> list[str]:
    return sorted(path.name for path in Path("runs").iterdir())


def test_two_grids_have_two_folders_and_the_same_one_finds_its_own() -> None:
    first = robustcodec.run(codec="jpeg:quality=20", **SMALL).folder
    second = robustcodec.run(codec="webp:quality=20", **SMALL).folder
    assert folders() == sorted([first.name, second.name]) and first != second
    assert (
        first.name.startswith("jpeg-quality-20-") and robustcodec.run(codec="jpeg:quality=20", **SMALL).folder == first
    )


def test_a_grid_file_with_other_axes_is_another_grid() -> None:
    Path("mine.toml").write_text(
        '[[block]]\ncodec = ["jpeg"]\nattack = ["noise"]\ndata = ["photos:size=16"]\nlimit = 1\n'
    )
    robustcodec.run("mine.toml")
    robustcodec.run("mine.toml", threat="psnr:30")
    own, other = folders()
    assert own == "mine" and other.startswith("mine-")


def test_the_command_says_where_and_makes_the_same_name(robust: Type) -> None:
    done = robust("run", "--codec", "jpeg:quality=20", "--attack", "noise", "--data", "photos:size=16", "--limit", "1")
    (name,) = folders()
    assert done.code == 0 and f"run folder: runs/{name}" in done.out
    assert robustcodec.run(codec="jpeg:quality=20", **SMALL).folder.name == name


def test_a_grid_without_a_name_in_python_has_a_folder_of_its_own() -> None:
    grid = {"block": [{"codec": ["jpeg"], "attack": ["noise"], "data": ["photos:size=16"], "limit": 1}]}
    folder = robustcodec.run(grid).folder
    assert robustcodec.run(grid).folder == folder
    other = robustcodec.run(codec="jpeg", attack="noise", data="photos:size=16", limit=1, threat="psnr:30").folder
    assert folder != other and {folder.name, other.name} == set(folders())
    assert all(name.startswith("jpeg-") for name in folders())
    assert robustcodec.run({"name": "mine", **grid}).folder == Path("runs/mine")
