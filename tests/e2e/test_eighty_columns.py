"""What lists things is readable in a terminal of 80 columns: no word is broken, none is cut."""

from __future__ import annotations

import json
import re

import pytest
from rich.cells import cell_len
from terminal import Type

from robustcodec.cli.list import KINDS

SIGNS = re.compile("[=,:]")
LISTS = [*(f"list {kind}" for kind in KINDS), "doctor", "show pgd"]


def words_of(value: object) -> set[str]:
    """All words in parsed JSON that a line of 70 has room for."""
    if isinstance(value, dict):
        return {word for key, each in value.items() for part in (key, each) for word in words_of(part)}
    if isinstance(value, list):
        return {word for each in value for word in words_of(each)}
    return {word for word in str(value).split() if len(word) <= 70} if isinstance(value, str) else set()


@pytest.mark.parametrize("words", LISTS)
def test_every_word_is_whole(words: str, robust: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = robust(*words.split()).out
    assert max(map(cell_len, text.splitlines())) <= 80
    said = set(SIGNS.sub(" ", text).split())
    held = json.loads(robust(*words.split(), "--json").out)
    if words.startswith("list"):
        (entries,) = held.values()
        held = [[entry["name"], entry["summary"], entry["tags"], entry["members"]] for entry in entries]
    elif words == "doctor":
        held = [[entry["found"], entry["remedy"]] for entry in held]
    wanted = {part for word in words_of(held) for part in SIGNS.sub(" ", word).split()}
    assert wanted - said <= {"null", "true", "false"} and "…" not in text.replace("=…", "").replace(" …", "")
