"""What the README shows runs as it stands."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from terminal import Type

from robustcodec.execution.runner import Runner
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMITS = {"codec": 30, "attack": 15, "defense": 15}  # lines that are not empty: imports, docstring and comments count


def block(name: str) -> str:
    match = re.search(rf"<!-- (?:ci: )?{name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture(scope="module", autouse=True)
def examples(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in LIMITS:
        path = tmp_path_factory.mktemp("readme") / f"{name}.py"
        path.write_text(block(name))
        runpy.run_path(str(path))


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_examples_are_as_short_as_promised(name: str, limit: int) -> None:
    assert len([line for line in block(name).splitlines() if line.strip()]) <= limit


@pytest.mark.parametrize(
    "words",
    [("block-means",), ("block-means", "--defense", "drop-bits"), ("--attack", "smooth-pgd")],
    ids=LIMITS,
)
def test_robustcodec_check_finds_nothing_wrong_with_the_examples(words: tuple[str, ...], robust: Type) -> None:
    assert f"robustcodec check {' '.join(words)}" in " ".join(README.split())
    done = robust("check", *words, "--json")
    assert done.code == 0, done.out
    assert len(json.loads(done.out)) == 1


def test_the_examples_run_in_a_grid(tmp_path: Path) -> None:
    data = {"data": "photos:size=64", "limit": 2}
    cells = [
        Cell("block-means", "smooth-pgd:steps=2", **data),  # type: ignore[arg-type]
        Cell("block-means", "pgd:steps=2", defense="drop-bits:bits=4", access="adaptive", **data),  # type: ignore[arg-type]
    ]
    store = Store(tmp_path)
    tally = Runner(store).run(cells)
    assert not tally.errors
    frame = store.frame(cells)
    assert len(frame) == 4 and (frame["input_psnr"] >= 40).all()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every Markdown table of ``text``, as its lines by column."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[dict(zip(cells(t[0]), cells(r), strict=True)) for r in t[2:]] for t in (f.splitlines() for f in found)]


def test_lines_of_results_are_stored_ones() -> None:
    """Whatever line the README shows of a leaderboard stands in a stored one, with the same numbers."""
    stored = [
        line
        for path in (ROOT / "leaderboards").glob("*/*.md")
        for table in tables(path.read_text(encoding="utf-8"))
        for line in table
    ]
    shown = [line for table in tables(README) if "robust_psnr" in table[0] for line in table]
    assert shown, "the README shows no leaderboard: this test looks for a column robust_psnr"
    for line in shown:
        assert any(line.items() <= known.items() for known in stored), f"not in leaderboards/: {line}"


def test_the_commands_are_the_ones_ci_runs() -> None:
    assert block("run").endswith("uv run robustcodec run\n")
    assert block("tests").endswith("uv run pytest\n")
