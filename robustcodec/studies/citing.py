"""How to cite a plugin: the papers that it states, as BibTeX.

A codec states its paper on its card. Every other plugin states its papers where it describes itself: by their addresses
(``https://arxiv.org/abs/…``, ``https://doi.org/…``, ``arXiv:…``) in its docstring or, if that has none, in that of its
module. ``references.bib`` knows those of our own; of others an entry holds the address alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import metadata
from importlib.resources import files

from robustcodec import registry

ARXIV = "https://arxiv.org/abs/"
GREW_FROM = (f"{ARXIV}2004.09508", f"{ARXIV}2112.08691")  # as CITATION.cff has them


@dataclass(frozen=True)
class Paper:
    """What to cite: where it is, or what it is called, and its entry."""

    stated: str
    bibtex: str


def papers(kind: str, name: str) -> list[Paper]:
    """What the plugin ``name`` of a ``kind`` (``codecs``, ``attacks`` …) stands on, as it states it; none: it says
    nothing. Raises :class:`robustcodec.errors.UnknownName`.
    """
    builder = registry.KINDS[kind].get(name)
    on_card = getattr(builder, "paper", "") if kind == "codecs" else ""
    module = sys.modules[builder.__module__].__doc__ or ""
    stated = [on_card] if on_card else [*addresses(builder.__doc__ or "")] or [*addresses(module)]
    key = re.sub(r"\W+", "-", name)
    return [Paper(one, known().get(one.partition(" ")[0]) or _entry(key, one)) for one in dict.fromkeys(stated)]


def itself() -> list[Paper]:
    """This software, and the two papers that it grew from."""
    about = metadata("robustcodec")
    facts = _fields(
        title="robustcodec: adversarial robustness of learned image and video codecs",
        author=f"{{{about['Author']}}}",
        version=about["Version"],
        url=home(),
    )
    first = Paper(f"robustcodec {about['Version']}", f"@software{{robustcodec,\n{facts}\n}}")
    return [first, *(Paper(address, known()[address]) for address in GREW_FROM)]


def home() -> str:
    """Where this software lives; empty if what is installed does not say."""
    links: list[str] = metadata("robustcodec").get_all("Project-URL") or []
    return dict(line.split(", ", 1) for line in links).get("Homepage", "")


def addresses(text: str) -> Iterator[str]:
    """The papers that a text names, in its order."""
    for address, number in re.findall(
        r"(https?://(?:arxiv\.org/abs|doi\.org)/[^\s,;<>`]+)|\barXiv:\s?(\d{4}\.\d{4,5})", text
    ):
        found = (address or ARXIV + number).rstrip(".:")
        while found.endswith(")") and found.count(")") > found.count("("):  # some DOIs hold parentheses
            found = found[:-1].rstrip(".:")
        yield found


@cache
def known() -> dict[str, str]:
    """Entries by address."""
    text = (files("robustcodec") / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{.*?^\}", text, re.MULTILINE | re.DOTALL)
    return {re.findall(r"url = \{(.*)\}", entry)[-1]: entry for entry in entries}


def _entry(key: str, stated: str) -> str:
    """All that is known of what nobody has looked up: its address, or the name of a standard."""
    address, title = (stated, "") if stated.startswith("http") else ("", stated)
    number = address.removeprefix(ARXIV) if address.startswith(ARXIV) else ""
    about = _fields(title=title, eprint=number, archiveprefix="arXiv" if number else "", url=address)
    return f"@misc{{{key},\n{about}\n}}"


def _fields(**values: str) -> str:
    return ",\n".join(f"  {name} = {{{value}}}" for name, value in values.items() if value)
