"""How the documentation is built: ``python -m sphinx -W docs docs/_build/html``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]

from robustcodec import __version__  # noqa: E402

project = "robustcodec"
author = "The robustcodec authors"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "filled",
]
exclude_patterns = ["_build", "_ext", "**.jinja"]
smartquotes = False  # two hyphens begin an option

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 3

# Notebooks run while the documentation is built; one that fails breaks the build.
nb_execution_mode = "auto"
nb_execution_in_temp = True  # what they write is gone afterwards
nb_execution_timeout = 900  # seconds for a cell: of other work on the machine, too
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = f"robustcodec {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "friendly",
    "pygments_dark_style": "monokai",
}

# pages without others beside them have no use for that side bar
html_sidebars = {page: [] for page in ("index", "tutorial", "comparison", "notebooks/*")}
