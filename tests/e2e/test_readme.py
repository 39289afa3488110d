"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    match = re.search(rf"<!-- (?:ci: )?{name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


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
