"""Pages ``NAME.md.jinja`` are templates: results, commands and plugins are filled into ``NAME.md``, which people read.

The build of the documentation fills all of them. Git keeps the filled pages, but for those of the reference, which come
from docstrings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import generated
import jinja2
import stored

if TYPE_CHECKING:  # tests fill pages without it
    from sphinx.application import Sphinx
    from sphinx.config import Config

KNOWN = [
    *(stored.table, stored.lines, stored.value, stored.number, stored.difference, stored.card, stored.measured),
    *(stored.source, generated.commands, generated.plugins, generated.columns),
]
NOTE = "<!-- filled from {name}, which is the file to change -->\n"


def filled(template: Path) -> str:
    """The page of a template; raises :class:`ValueError` that names the template."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        page = environment.from_string(template.read_text(encoding="utf-8"))
        text = page.render({function.__name__: function for function in KNOWN})
    except Exception as error:
        raise ValueError(f"{template}: {error!r}") from error
    return NOTE.format(name=template.name) + text.lstrip("\n")


def fill(app: Sphinx, config: Config) -> None:
    """Fill every page that has changed."""
    for template in sorted(Path(app.srcdir).rglob("*.md.jinja")):
        page, text = template.with_suffix(""), filled(template)
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", fill)
    return {"parallel_read_safe": True}
