"""Results as one static page: tables, plots and pictures in a single HTML file that opens from disk, without a network.

What is shown is plain data (:mod:`.view`); :func:`of_run` gathers it from a run folder, :func:`render` makes the page.
"""

from robustcodec.page.render import LIMIT, render
from robustcodec.page.run import Found, of_run
from robustcodec.page.view import Detail, Shot, View

__all__ = ["LIMIT", "Detail", "Found", "Shot", "View", "of_run", "render"]
