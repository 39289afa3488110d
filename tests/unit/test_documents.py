"""What README, CONTRIBUTING and the documentation show: each block is run or says why not, and each command is one.

``.ci/run`` runs them (``.ci/as_written.py``); here they are read.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import blocks

from robustcodec.cli import app

ROOT = Path(__file__).parents[2]
DOCS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
HELP = [page for page in DOCS if page.parent.name == "reference" and page.with_name(f"{page.name}.jinja").exists()]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(page for page in DOCS if page not in HELP)]
CONNECTORS = {"&&", "||", "|", ";", "&", ">", "2>", ">>"}


BLOCKS = [block for page in PAGES for block in blocks(page)]


def named(block: Any) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def commands(text: str) -> list[list[str]]:
    """The ``robustcodec …`` commands of shell lines, as words."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "{}$:=,.%+/@~*"
        words = [*lexer, ";"]
        while words:
            end = next(i for i, word in enumerate(words) if word in CONNECTORS)
            if "robustcodec" in (command := words[:end]):
                found.append(command[command.index("robustcodec") + 1 :])
            words = words[end + 1 :]
    return found


def parse(words: list[str]) -> None:
    """Let the command line read them, as if they were typed; nothing runs."""
    command: Any = typer.main.get_command(app)
    path = "robustcodec"
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, path, words = command.commands[words[0]], f"{path} {words[0]}", words[1:]
    assert words or not hasattr(command, "commands"), f"{path}: no command"
    if words[:1] not in (["--help"], ["--version"]):
        command.make_context(path, list(words))


@pytest.mark.parametrize("block", BLOCKS, ids=named)
def test_each_block_runs_or_says_why_not(block: Any) -> None:
    assert block.kind in ("file", "run", "not run", "ci", "output", "sh", "python"), (
        f"```{block.language} is neither output nor run: mark it (see .ci/as_written.py)"
    )
    assert block.kind not in ("file", "run", "not run", "ci") or block.told, f"<!-- {block.mark} --> says too little"
    assert block.kind != "not run" or len(block.told) >= 10, "a reason is missing"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=named)
def test_each_command_is_one_that_exists(block: Any) -> None:
    for words in commands(block.text):
        parse(words)


def test_a_wrong_command_is_found() -> None:
    (words,) = commands("cd x && robustcodec run --codek 'jpeg:quality=3' | tee log  # what it is")
    assert words == ["run", "--codek", "jpeg:quality=3"]
    with pytest.raises(Exception, match="codek"):
        parse(words)


def test_no_page_names_this_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp)/", page.read_text(encoding="utf-8")), page
