"""The findings are filled from stored results, and what is stored says how it was made."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "findings").glob("*.md"))
FILLED = sorted(p for p in (ROOT / "docs").rglob("*.md.jinja") if p.parent.name != "reference")  # docstrings give that
CARDS = sorted(path.stem for path in (ROOT / "zoo" / "cards").glob("*.toml"))
MEASURED = tomllib.loads((ROOT / "benchmarks" / "measured.toml").read_text(encoding="utf-8"))
FOLDERS = [path for path in sorted((ROOT / "leaderboards").iterdir()) if path.is_dir() and path.name != "site"]
TABLES = [folder for folder in FOLDERS if not (folder / "board.toml").exists()]


def template(page: Path) -> Path:
    """What a page is filled from; the page itself if it shows nothing that is stored."""
    made_from = page.with_name(f"{page.name}.jinja")
    return made_from if made_from.is_file() else page


@pytest.fixture(scope="module")
def filled() -> Callable[[Path], str]:
    """The page of a template, as the build of the documentation makes it."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        return cast(Callable[[Path], str], importlib.import_module("filled").filled)
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("page", FILLED, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_each_page_shows_what_is_stored_now(page: Path, filled: Callable[[Path], str]) -> None:
    assert filled(page) == page.with_suffix("").read_text(encoding="utf-8"), "build the documentation"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_measured_number_stands_in_prose(page: Path) -> None:
    text = template(page).read_text(encoding="utf-8")
    for hidden in (r"```.*?```", r"\{\{.*?\}\}", r"\{%.*?%\}", r"`[^`]*`", r"\]\([^)]*\)", r"[Vv]ersion 0\.1"):
        text = re.sub(hidden, "", text, flags=re.DOTALL)
    assert not (found := re.findall(r".{0,20}\d+\.\d+.{0,10}", text)), f"fill from a stored result: {found}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "index"], ids=lambda page: page.stem)
def test_each_page_says_how_it_was_measured_and_what_it_leaves_open(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[-2:] == ["How it was measured", "What it does not say"]


def test_every_bundled_codec_is_shown() -> None:
    shown = "".join(
        (ROOT / "docs" / "findings" / page).read_text(encoding="utf-8") for page in ("codecs.md", "video.md")
    )
    assert CARDS and not [codec for codec in CARDS if f"| {codec} |" not in shown]


@pytest.mark.parametrize("section", MEASURED)
def test_what_is_measured_has_a_command_and_readers(section: str) -> None:
    values = MEASURED[section]
    assert values["about"] and len(values) > 2
    program = re.search(r"python (\S+)", values["command"])
    assert (ROOT / program[1]).is_file() if program else values["command"].startswith("robustcodec ")
    pages = (page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md.jinja"))
    assert any(f'measured("{section}"' in page for page in pages), "no page shows it"


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: folder.name)
def test_each_folder_of_results_says_what_is_in_it_and_what_made_it(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in folder.iterdir() if path.name != "README.md" and path.name not in text]
    assert re.search(r"robustcodec [a-z]+|python benchmarks/", text) and re.search(r"\d{4}-\d\d-\d\d", text)
    for program in re.findall(r"benchmarks/[\w-]+\.(?:py|toml)", text):
        assert (ROOT / program).is_file(), program
