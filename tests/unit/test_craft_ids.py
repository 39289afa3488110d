"""Clips are shared by cells that attack the same thing, and by no others: whatever changes what an attack meets changes
the id of its clip, and nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from robustcodec.interfaces import Sample
from robustcodec.running.access import Victim, victim
from robustcodec.running.grid import Cell

CELL = Cell("jpeg:quality=30", "pgd", defense="bitdepth:bits=6", access="adaptive", data="photos:size=16", limit=1)
OBLIVIOUS, TRANSFER = replace(CELL, access="oblivious"), replace(CELL, access="transfer:webp:quality=50")

# By field of a victim: two cells whose victims differ in it alone.
VICTIMS: dict[str, tuple[Cell, Cell]] = {
    "codecs": (CELL, replace(CELL, codec="jpeg:quality=40")),
    "defense": (CELL, replace(CELL, defense="bitdepth:bits=5")),
    "guide": (replace(CELL, access="bpda:diff-jpeg"), replace(CELL, access="bpda:diff-jpeg:quality=30")),
    "draws": (replace(CELL, access="adaptive:draws=2"), replace(CELL, access="adaptive:draws=3")),
}
# By field of a cell: another value of it.
OTHERS: dict[str, Any] = {
    "codec": "jpeg:quality=40",
    "attack": "pgd:steps=21",
    "objective": "rate",
    "threat": "psnr:41",
    "defense": "bitdepth:bits=5",
    "access": "oblivious",
    "data": "photos:size=24",
    "seed": 1,
    "limit": 2,
    "precision": "bfloat16",
}
EVALUATED = {"limit"}  # how many samples are measured: no clip knows of the others


def crafted(cell: Cell) -> str:
    """The id of its first clip."""
    return cell.craft_id(cell.samples()[0])


def attacked(cell: Cell) -> Victim:
    return victim(cell.access, cell.codec, cell.defense)


@pytest.mark.parametrize("field", [field.name for field in fields(Victim)])
def test_every_field_of_a_victim_changes_the_clip(field: str) -> None:
    one, other = VICTIMS[field]
    ours, theirs = vars(attacked(one)), vars(attacked(other))
    assert [name for name in ours if ours[name] != theirs[name]] == [field]
    assert crafted(one) != crafted(other)


def test_a_guide_is_no_second_codec_and_no_default() -> None:
    """With one and without; and one codec guided by another is not the other guided by the one."""
    through, guided = CELL, replace(CELL, access="bpda:diff-jpeg")
    swapped = replace(CELL, codec="diff-jpeg", access=f"bpda:{CELL.codec}")
    assert len({crafted(cell) for cell in (through, guided, swapped)}) == 3


def test_stated_draws_of_the_default_number_are_the_default() -> None:
    assert crafted(replace(CELL, access="adaptive:draws=8")) == crafted(CELL)


@pytest.mark.parametrize("field", [field.name for field in fields(Cell)])
def test_every_field_of_a_cell_changes_the_clip_or_only_its_evaluation(field: str) -> None:
    other = replace(CELL, **{field: OTHERS[field]})
    assert (crafted(other) == crafted(CELL)) == (field in EVALUATED)
    assert other.id != CELL.id


@pytest.mark.parametrize(
    ("cell", "field"), [(OBLIVIOUS, "defense"), (TRANSFER, "defense"), (TRANSFER, "codec")], ids=str
)
def test_what_the_attacker_does_not_know_does_not_change_the_clip(cell: Cell, field: str) -> None:
    other = replace(cell, **{field: OTHERS[field]})
    assert crafted(other) == crafted(cell) and other.id != cell.id


def test_a_clip_is_of_one_sample() -> None:
    first, second = replace(CELL, limit=2).samples()
    renamed = Sample("another", first.load, first.source)
    repainted = Sample(first.id, second.load, second.source)
    assert len({CELL.craft_id(sample) for sample in (first, second, renamed, repainted)}) == 4
