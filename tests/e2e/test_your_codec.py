"""docs/howto/your-codec.md: five ways in, each of a few lines. ``.ci/run`` runs them as they stand there."""

from __future__ import annotations

from pathlib import Path

from documents import blocks

PAGE = Path("docs/howto/your-codec.md")
MOST = 10  # lines of a user's own


def test_the_page_has_five_ways_of_few_lines_each() -> None:
    ways: dict[int, int] = {}  # the line of each heading, and how many lines are shown behind it
    text = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    heads = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("## ")]
    for block in blocks(PAGE):
        head = max(line for line in heads if line < block.line)
        ways[head] = ways.get(head, 0) + sum(bool(line.strip()) for line in block.text.splitlines())
    assert list(ways) == heads and len(ways) == 5
    assert max(ways.values()) <= MOST
