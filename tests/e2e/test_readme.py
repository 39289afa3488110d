"""What the README shows runs as it stands."""

from __future__ import annotations

import json
import re
import runpy
import sys
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


@pytest.mark.parametrize("table", ["codecs", "video"])
def test_the_codec_tables_are_what_the_cards_say(
    table: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = str(ROOT / "benchmarks" / "readme_tables.py")
    monkeypatch.setattr(sys, "argv", [program, table])
    runpy.run_path(program, run_name="__main__")
    assert (printed := capsys.readouterr().out.strip()) and printed in README


@pytest.mark.parametrize(
    ("number", "board", "section"),
    [
        (0, "default", 2),
        (1, "default", 0),
        (2, "attacks", 0),
        (3, "attacks", 1),
        (7, "video", None),
    ],  # fmt: skip
)
def test_result_tables_are_cut_from_the_published_ones(number: int, board: str, section: int | None) -> None:
    """Each line of the README stands in the published table with the same numbers, and none is left out."""
    shown = tables(README)[number]
    published = tables((ROOT / "leaderboards" / board / "leaderboard.md").read_text(encoding="utf-8"))
    if section is None:  # one table for each threat, after as many leaderboards
        threats = re.findall(
            r"^### .*, (psnr:\d+)$", (ROOT / "leaderboards" / board / "leaderboard.md").read_text(), re.M
        )
        half = len(published) // 2
        lines = [
            line | {"threat": t} for t, table in zip(threats[half:], published[half:], strict=True) for line in table
        ]
    else:
        lines = published[section]
    wanted = [{column: line[column] for column in shown[0]} for line in lines]
    assert sorted(map(str, shown)) == sorted(map(str, wanted))


def test_every_defense_of_the_readme_is_published_with_these_numbers() -> None:
    published = (ROOT / "leaderboards" / "defenses" / "defenses.md").read_text(encoding="utf-8")
    lines = [line for table in tables(README) if "gain holds" in table[0] for line in table]
    assert len(lines) == 38
    for line in lines:
        row = " | ".join(line[column] for column in ("defense", "bpp", "psnr", "oblivious", "adaptive"))
        assert f"| {row} |" in published


def test_the_commands_are_the_ones_ci_runs() -> None:
    assert block("run").endswith("uv run robustcodec run\n")
    assert block("tests").endswith("uv run pytest\n")
