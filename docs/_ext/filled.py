"""Pages are Jinja templates: what they show of results, commands and plugins is filled in before they are parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import generated
import jinja2
import stored
from sphinx.application import Sphinx

KNOWN = [
    *(stored.table, stored.lines, stored.value, stored.number, stored.difference, stored.card, stored.measured),
    *(stored.source, generated.commands, generated.plugins, generated.columns),
]


def render(app: Sphinx, name: str, text: list[str]) -> None:
    """Fill a page."""
    page = Path(app.env.doc2path(name))
    if page.suffix != ".md":
        return
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        text[0] = environment.from_string(text[0]).render({function.__name__: function for function in KNOWN})
    except Exception as error:
        raise ValueError(f"{page}: {error!r}") from error


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", render)
    return {"parallel_read_safe": True}
