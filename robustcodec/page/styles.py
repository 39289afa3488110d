"""How entries look, the same everywhere on the page: a family of codecs has one colour, a variant its marker.

Colours are Okabe & Ito's (:mod:`robustcodec.reporting.pictures`), which people who see fewer colours tell apart. Two
families share one only where no view holds both; a family that finds none left is grey, and its name is there on hover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustcodec.page.view import View
from robustcodec.reporting.families import related
from robustcodec.reporting.pictures import COLOURS

PALETTE = COLOURS[:-1]  # the last one is black, which a dark page does not show
GREY = "#808080"  # legible on light and on dark
MARKERS = {"bare": "circle", "finetuned": "square", "defended": "diamond", "finetuned, defended": "triangle-up"}


@dataclass(frozen=True)
class Style:
    """Of an entry. ``kind``: of :data:`MARKERS`; ``curve``: what its family's entries share that are the same but for
    the rate, and are joined by a line.
    """

    family: str
    colour: str
    kind: str
    curve: str

    @property
    def marker(self) -> str:
        """As Plotly names it."""
        return MARKERS[self.kind]

    @property
    def group(self) -> str:
        """What stands for it in a legend."""
        return self.family if self.colour != GREY else "other codecs"


Styles = Mapping[str, Style]


def styles_of(views: Sequence[View]) -> list[Styles]:
    """By entry, for each view of a page."""
    codecs = [_codecs(view) for view in views]
    colours = _colours([Counter(related(codec).family for codec in each.values()) for each in codecs])
    return [{entry: _style(entry, codec, colours) for entry, codec in each.items()} for each in codecs]


def _codecs(view: View) -> dict[str, str]:
    """The codec of each entry, in the order of the ranking."""
    known = dict(zip(view.rows["entry"], view.rows["codec"], strict=True)) if len(view.rows) else {}
    return {str(entry): str(known.get(entry, entry)) for entry in dict.fromkeys([*view.ranking["entry"], *known])}


def _colours(counts: Sequence[Counter[str]]) -> dict[str, str]:
    """A colour per family: the first view chooses first, and in it the largest family."""
    colours: dict[str, str] = {}
    for here in counts:
        for family in sorted(here, key=lambda name: (-here[name], name)):
            if family in colours:
                continue
            beside = {colours.get(other) for each in counts if family in each for other in each}
            colours[family] = next((colour for colour in PALETTE if colour not in beside), GREY)
    return colours


def _style(entry: str, codec: str, colours: Mapping[str, str]) -> Style:
    relation = related(codec)
    around = entry.removeprefix(codec)  # " + self-ensemble (adaptive)"
    kinds = [name for name, so in (("finetuned", relation.further), ("defended", around.startswith(" + "))) if so]
    curve = f"{relation.family}, {relation.further}{around}"
    return Style(relation.family, colours[relation.family], ", ".join(kinds) or "bare", curve)
