"""The plugins that the how-tos show: as short as promised, sound, and ready for a grid."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from documents import shown
from terminal import Type

from robustcodec.execution.runner import Runner
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

FILES = {  # name of the file: the page that shows it, and its most lines but for empty ones
    "block_means.py": ("add-a-codec", 30),
    "smooth_pgd.py": ("add-an-attack", 15),
    "drop_bits.py": ("add-a-defense", 15),
}


def text(name: str) -> str:
    return shown(f"docs/howto/{FILES[name][0]}.md", name)


@pytest.fixture(scope="module", autouse=True)
def examples(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in FILES:
        path = tmp_path_factory.mktemp("examples") / name
        path.write_text(text(name))
        runpy.run_path(str(path))


@pytest.mark.parametrize("name", FILES)
def test_examples_are_as_short_as_promised(name: str) -> None:
    assert len([line for line in text(name).splitlines() if line.strip()]) <= FILES[name][1]


@pytest.mark.parametrize(
    "words",
    [("block-means",), ("block-means", "--defense", "drop-bits"), ("--attack", "smooth-pgd:steps=2")],
    ids=FILES,
)
def test_robustcodec_check_finds_nothing_wrong_with_the_examples(words: tuple[str, ...], robust: Type) -> None:
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
