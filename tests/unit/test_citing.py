"""BibTeX: of what plugins state, right where it is ours, and honest where nobody knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminal import Type
from torch import Tensor

import robustcodec
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import KINDS, attacks
from robustcodec.studies.citing import GREW_FROM, addresses, itself, known, papers

ROOT = Path(__file__).parents[2]
OURS = [(kind, name) for kind, plugins in KINDS.items() for name in sorted(plugins._ours)]


@attacks.register("test-cited")
@dataclass(frozen=True)
class Cited(Attack):
    """After Somebody, 2031 (arXiv:3101.12345), and another (https://doi.org/10.1/a(b)c)."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return x


def test_every_address_that_a_plugin_of_ours_states_is_known_and_no_other() -> None:
    stated = {paper.stated for kind, name in OURS for paper in papers(kind, name)}
    found = {one.partition(" ")[0] for one in stated if one.startswith("http")}
    assert found - {*known()} == set()
    assert {*known()} - found - {*GREW_FROM} == set()


def test_entries_are_bibtex() -> None:
    entries = [*known().values(), *(paper.bibtex for paper in itself())]
    keys = [re.match(r"@(?:article|inproceedings|misc|software)\{(\w+),\n", entry) for entry in entries]
    assert all(keys) and len({key[1] for key in keys if key}) == len(known()) + 1
    for entry in entries:
        assert entry.count("{") == entry.count("}") and entry.isascii(), entry
        assert "  title = {" in entry and not re.search(r"[^\\]&", entry), entry
        number = re.search(r"eprint = \{(.*)\}", entry)
        assert number is None or f"url = {{https://arxiv.org/abs/{number[1]}}}" in entry


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("attacks", "pgd", ["Madry, Aleksander", "Towards Deep Learning Models", "{2018}"]),
        ("codecs", "bmshj2018-hyperprior", ["Scale Hyperprior"]),
        ("codecs", "mbt2018-mean", ["Joint Autoregressive"]),  # of the two that its module names, the one of its card
        ("codecs", "h264", ["title = {ITU-T H.264 | ISO/IEC 14496-10}"]),
        ("defenses", "tv", ["doi = {10.1016/0167-2789(92)90242-F}", "Chambolle", "Countering"]),
        ("metrics", "lpips", ["Unreasonable Effectiveness"]),
        ("data", "vimeo90k", ["Task-Oriented Flow"]),
        ("attacks", "test-cited", ["@misc{test-cited,", "eprint = {3101.12345}", "url = {https://doi.org/10.1/a(b)c}"]),
    ],
)
def test_what_a_plugin_states_is_what_is_cited(kind: str, name: str, words: list[str]) -> None:
    text = "\n\n".join(paper.bibtex for paper in papers(kind, name))
    assert all(word in text for word in words), text


def test_a_codec_is_cited_by_its_card_alone() -> None:
    assert len(papers("codecs", "mbt2018-mean")) == 1


def test_addresses_end_where_they_end() -> None:
    text = "as in A (https://arxiv.org/abs/2401.00001). B: arXiv: 2401.00002, https://doi.org/10.1/x(92)y-F). "
    found = [
        f"https://{one}" for one in ("arxiv.org/abs/2401.00001", "arxiv.org/abs/2401.00002", "doi.org/10.1/x(92)y-F")
    ]
    assert [*addresses(text + "https://example.org/c")] == found


def test_the_command(robust: Type) -> None:
    done = robust("cite")
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    title = re.search(r'^title: "(.*)"$', cff, re.MULTILINE)
    assert (
        title and f"  title = {{{title[1]}}},\n" in done.out and f"version = {{{robustcodec.__version__}}}" in done.out
    )
    urls = re.findall(r"^    url: (\S+)$", cff, re.MULTILINE)
    assert re.findall(r"url = \{(https://arxiv\S+)\}", done.out) == urls
    assert robust("cite", "tmla").out.startswith("% tmla (attacks) states no paper")
    assert robust("cite", "pgd:steps=3").out.startswith("@inproceedings{madry2018,")
    refused = robust("cite", "jpeg")
    assert refused.code == 2 and "--kind codecs or --kind defenses" in refused.err
