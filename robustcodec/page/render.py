"""Views as one HTML file: everything inlined, nothing fetched, nothing run that was not put there by this module.

Text from users goes through Jinja's escaping, into JSON whose ``<`` is escaped, or (labels of plots) through
:func:`.figures.safe`. The content security policy names each script by its hash, so that no other one runs.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from robustcodec.errors import BadData
from robustcodec.page.figures import Drawing, drawings
from robustcodec.page.ranking import board_of, columns_of, lines_of
from robustcodec.page.styles import Styles, styles_of
from robustcodec.page.tables import captions, glossary, of_entries, text
from robustcodec.page.view import Shot, View

LIMIT = 15_000_000  # bytes of a page
SCRIPTS = ("page.js", "plots.js", "tables.js", "detail.js", "gallery.js", "browser.js")  # joined to one script
LIBRARIES = (
    ("plotly", "plotly/package_data/plotly.min.js"),
    ("itables", "itables/html/dt_bundle.js"),
    ("itables", "itables/html/dt_bundle.css"),
)
SPARE = 20_000  # bytes kept free for what is written after the pictures were chosen


@dataclass(frozen=True)
class _Library:
    name: str
    version: str
    text: str


@cache
def _library(package: str, path: str) -> _Library:
    installed = distribution(package)
    return _Library(package, installed.version, Path(str(installed.locate_file(path))).read_text(encoding="utf-8"))


def _own(name: str) -> str:
    return (files("robustcodec.page") / name).read_text(encoding="utf-8")


def _json(value: Any) -> Markup:
    """JSON that is safe between script tags."""
    dumped = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(dumped.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _allowed(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def render(views: Sequence[View], title: str, libraries: bool = True) -> str:
    """The page as HTML, at most :data:`LIMIT` bytes of UTF-8; the same views give the same text.

    Without ``libraries`` it is a copy for keeping: every table and text, no plot and no picture, and no code, so that
    it changes with the numbers alone.

    Where not all pictures fit, those of the most damaged samples are kept, in turns over entries. Raises
    :class:`BadData` if two views share a name, a view lacks a column or the numbers alone do not fit.
    """
    _check(views)
    plotly, tables, style = (_library(*source) if libraries else _Library("", "", "") for source in LIBRARIES)
    script = "\n".join(map(_own, SCRIPTS)) if libraries else ""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"json": _json}
    template = environment.from_string(_own("template.html"))
    shown = [
        _shown(i, view, styles, drawings(view, styles) if libraries else ())
        for i, (view, styles) in enumerate(zip(views, styles_of(views), strict=True))
    ]

    def page(pictures: _Pictures) -> str:
        return template.render(
            title=title,
            libraries=libraries,
            views=shown,
            pictures=pictures,
            plotly=plotly,
            tables=tables,
            table_style=Markup(style.text),
            page_style=Markup(_own("page.css")),
            script=Markup(script),
            allowed=_allowed(script),
        )

    bare = page(_Pictures(views, 0))
    size = len(bare.encode())
    if size > LIMIT - SPARE:
        raise BadData(
            f"the numbers of {len(views)} views make a page of {size / 1e6:.1f} MB without any picture; "
            f"expected at most {LIMIT / 1e6:.0f} MB: give fewer views, or views with fewer samples"
        )
    return page(_Pictures(views, LIMIT - SPARE - size)) if libraries else bare


def _check(views: Sequence[View]) -> None:
    names = [view.name for view in views]
    if not names or len(set(names)) < len(names):
        raise BadData(f"views named {', '.join(names) or 'nothing'} were given; expected at least one, named apart")
    for view in views:
        if missing := [c for c in ("data", "threat", "entry") if c not in view.ranking]:
            raise BadData(
                f"the ranking of {view.name} lacks {', '.join(missing)}; give each line its data, threat, entry"
            )


def _shown(index: int, view: View, styles: Styles, drawn: Sequence[Drawing]) -> dict[str, Any]:
    """What the template needs of a view."""
    columns, lines = columns_of(view), lines_of(view, styles)
    tables = of_entries(view.rows, view.worst)
    entries = list(dict.fromkeys([*view.ranking["entry"], *tables, *view.details]))
    return {
        "id": index,
        "view": view,
        "columns": columns,
        "lines": lines,
        "boards": list(dict.fromkeys(line["board"] for line in lines)),
        "figures": [_figure(d) for d in drawn],
        "glossary": glossary(view.meanings, [column["name"] for column in columns], view.rows),
        "entries": {entry: _entry(view, entry, tables) for entry in entries},
        "colours": {entry: style.colour for entry, style in styles.items()},
    }


def _figure(drawing: Drawing) -> dict[str, Any]:
    data, threat = drawing.board
    return {
        "kind": drawing.kind,
        "board": board_of(data, threat) if threat else "",
        "title": board_of(data, threat) if threat else data,
        "data": data,
        "alt": drawing.alt,
        "choices": drawing.choices,
        "rows": drawing.rows,
        "json": Markup(drawing.figure.replace("<", "\\u003c")),
    }


def _entry(view: View, entry: str, tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    detail = view.details.get(entry)
    beside = tables.get(entry, {})
    if detail is None:
        return beside
    return beside | {
        "facts": list(detail.facts.items()),
        "command": detail.command,
        "warnings": detail.warnings,
        "disputed": detail.disputed,
        "found": detail.found,
        "links": [asdict(link) for link in detail.links],
    }


def _in_turns(shots: Sequence[Shot]) -> Iterator[Shot]:
    """One of each entry after the other, the most damaged sample of each first."""
    by_entry: dict[str, list[Shot]] = defaultdict(list)
    for shot in sorted(shots, key=lambda s: (_least(s.damage), s.data, s.threat, s.sample)):
        by_entry[shot.entry].append(shot)
    for turn in itertools.zip_longest(*(by_entry[name] for name in sorted(by_entry))):
        yield from (shot for shot in turn if shot is not None)


def _least(damage: float) -> float:
    """Sorts the most damaged first; what has no number (nothing was decoded) before all."""
    return -math.inf if math.isnan(damage) else -damage


class _Pictures:
    """The pictures that fit into ``budget`` bytes, each kept once: ``images`` as data URIs, ``shots`` by view with
    their places in it, ``kept`` and ``known`` samples by view.
    """

    def __init__(self, views: Sequence[View], budget: int) -> None:
        self.images: list[str] = []
        self.shots: list[list[dict[str, Any]]] = [[] for _ in views]
        self.known = [len(view.shots) for view in views]
        self._places: dict[str, int] = {}
        numbers = [captions(view.rows) for view in views]
        queues = [_in_turns(view.shots) for view in views]
        for turn in itertools.zip_longest(*queues):
            for index, shot in enumerate(turn):
                if shot is None:
                    continue
                clips = {
                    "original": views[index].originals.get((shot.data, shot.sample), ()),
                    "adversarial": shot.adversarial,
                    "clean": shot.clean,
                    "attacked": shot.attacked,
                }
                uris = [uri for clip in clips.values() for uri in clip]
                record = self._record(shot, numbers[index]) | {"clips": {name: [] for name in clips}}
                cost = (
                    len(_json(record).encode())
                    + 8 * len(uris)
                    + sum(len(u) + 3 for u in set(uris) - self._places.keys())
                )
                if cost > budget:
                    continue
                budget -= cost
                record["clips"] = {name: [self._place(uri) for uri in clip] for name, clip in clips.items()}
                self.shots[index].append(record)
        self.kept = [len(shots) for shots in self.shots]

    def _place(self, uri: str) -> int:
        if uri not in self._places:
            self._places[uri] = len(self.images)
            self.images.append(uri)
        return self._places[uri]

    @staticmethod
    def _record(shot: Shot, numbers: dict[tuple[str, str, str, str], dict[str, str]]) -> dict[str, Any]:
        return {
            "entry": shot.entry,
            "board": board_of(shot.data, shot.threat),
            "sample": shot.sample,
            "attack": shot.attack,
            "damage": text(float(shot.damage), "loss"),
            "lost": None if math.isnan(shot.damage) else round(float(shot.damage), 4),
            "numbers": numbers.get((shot.entry, shot.threat, shot.data, shot.sample), {}),
        }
