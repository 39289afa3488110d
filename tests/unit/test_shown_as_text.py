"""Names and reasons that hold markup, formulas or control characters are shown letter by letter, wherever they go."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import boards
import pandas as pd
import pytest
from rich.table import Table
from terminal import Type

from robustcodec.boards import publication
from robustcodec.boards.board import RESULTS
from robustcodec.boards.entry import Dispute
from robustcodec.cli._console import Console
from robustcodec.reporting import export
from robustcodec.reporting.text import code, escape, to_csv, to_markdown

ESC = "\x1b]0;owned\x1b[2J"
HOSTILE = f"[bold]x[/nothing] {ESC} <script>alert(1)</script>"


def test_a_terminal_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line, in a table, and in what is said while something is loading."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    console = Console(width=200)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    with console.status(HOSTILE) as status:
        status.update(HOSTILE)
    console.print(HOSTILE)
    console.print(table)
    said = out.getvalue()
    assert said.count("[bold]x[/nothing]") == said.count(r"\x1b[2J") == 4 and "\x1b" not in said


def test_the_error_of_a_command_shows_it(tmp_path: Path, robust: Type) -> None:
    done = robust("leaderboard", "check", tmp_path / HOSTILE.replace("/", "_"))
    assert done.code == 2 and "\x1b" not in done.err and r"\x1b]0;owned\x1b[2J" in done.err


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a|b", r"a\|b"),
        ("*a* _b_ ~~c~~ `d`", r"\*a\* \_b\_ \~\~c\~\~ \`d\`"),
        ("step_size=0.3", "step_size=0.3"),
        ("[a](https://b)", r"\[a](https://b)"),
        ("<script>", r"\<script>"),
        ("&lt;b&gt; & c", r"\&lt;b\&gt; & c"),
        ("# a", r"\# a"),
        ("+1.5", "+1.5"),
        ("a\n- b\n> c", r"a<br>\- b<br>\> c"),
        ("\x1b[31m\u202ea", r"\\x1b\[31m\\u202ea"),
    ],
)
def test_markdown_shows_it(text: str, markdown: str) -> None:
    assert escape(text) == markdown
    assert f"| {markdown} |" in to_markdown(pd.DataFrame({"name": [text]}))


def test_markdown_shows_it_as_code() -> None:
    assert [code(text) for text in ("a", "a`b", "`", "a\n```\nb")] == ["`a`", "``a`b``", "`` ` ``", "````a ``` b````"]


def test_a_spreadsheet_shows_it() -> None:
    """And numbers stay numbers, also those that are texts."""
    texts = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@sum(1)", "\t=1", "plain", "-1.5", "–"]
    lines = to_csv(pd.DataFrame({"=name": texts, "number": [-1.5] * len(texts)})).splitlines()
    assert lines[0] == "'=name,number"
    back = pd.read_csv(io.StringIO("\n".join(lines)))
    assert list(back["'=name"]) == [f"'{text}" for text in texts[:5]] + texts[5:]
    assert back["number"].eq(-1.5).all()


def test_exported_results_show_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"codec": [HOSTILE, "=1+1"], "psnr": [-1.0, 2.0]})
    written = {suffix: export.write(frame, tmp_path / f"t.{suffix}").read_text() for suffix in ("csv", "md", "tex")}
    assert "\n'=1+1,2.0" in written["csv"]
    assert r"\[bold]x\[/nothing]" in written["md"] and r"\<script>" in written["md"]
    assert all("\x1b" not in written[suffix] for suffix in ("md", "tex"))


def test_a_board_shows_it(tmp_path: Path) -> None:
    """On its page, in its README and in its tables: who measured, who doubts and why, what the attacks warned of."""
    board = boards.board(tmp_path / "small")
    entry = replace(
        boards.entry(board), measured_by="=cmd()", command="robustcodec </script><img src=x onerror=alert(1)>"
    )
    doubts = (Dispute("[B](https://b) <b>", "2026-01-03", "*no* | <img src=x onerror=alert(2)>\n# yes"),)
    replace(entry, disputed=doubts).write(board.folder / RESULTS)
    files, faults = publication.published(board.folder, site=True)
    assert faults == []
    readme, table = (files[board.folder / name] for name in ("README.md", "table.csv"))
    line = r"* jpeg:quality=20: \*no\* \| \<img src=x onerror=alert(2)><br>\# yes (\[B](https://b) \<b>, 2026-01-03)"
    assert line in readme.splitlines()
    assert ",'=cmd()," in table
    for page in (files[board.folder / name] for name in ("index.html", "site/index.html")):
        assert "onerror=alert" in page and "<img src=x" not in page and "</script><img" not in page
