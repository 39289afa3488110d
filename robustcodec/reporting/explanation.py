"""A figure of where the damage of an attack comes from: layers of a codec, and what is left when parts are clean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from robustcodec.reporting.pictures import COLOURS, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR = 5  # rows of a layer that a part takes at most
LONGEST = 60  # layers with a name each; of more some names are left out


def plot(layers: pd.DataFrame, replaced: pd.DataFrame, title: str, path: Path) -> Path:
    """Three panels: the perturbation behind each layer, relative to what it perturbs; how many times each layer
    multiplies it; and the damage that is left when a part is that of the clean clip.

    ``layers``: columns ``name``, ``kind``, ``perturbation``, ``amplification``, in the order of execution, drawn from
    top to bottom and coloured by the network that they belong to. ``replaced``: ``part``, ``error_left``,
    ``bits_left``, ``bpp``, from the attack as it is to the clean clip. Raises :class:`StoreError` if ``path`` cannot be
    written.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    networks = [_network(name, kind) for name, kind in zip(layers["name"], layers["kind"], strict=True)]
    palette = {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(dict.fromkeys(networks))}
    colours = [palette[network] for network in networks]
    places = range(len(layers))
    step = -(-len(layers) // LONGEST)
    height = max(4.5, 1.3 + 0.2 * min(len(layers), LONGEST))
    with figure_of(13, height, path) as figure:
        size, factor, left = figure.subplots(1, 3, width_ratios=(3, 3, 2.4))
        figure.suptitle(title)
        size.plot(layers["perturbation"], places, color="0.7", lw=1, zorder=1)
        size.scatter(layers["perturbation"], places, c=colours, s=22, zorder=2)
        size.set_xscale("log")
        size.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        size.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        size.xaxis.set_minor_locator(NullLocator())
        size.set_title("perturbation behind the layer, ‖Δh‖ / ‖h‖", fontsize="medium")
        names = [f"{name}  {kind}" for name, kind in zip(layers["name"], layers["kind"], strict=True)]
        size.set_yticks(list(places)[::step], names[::step], fontsize="small")
        factor.barh(places, layers["amplification"] - 1, left=1, color=colours, height=0.7)
        factor.axvline(1, color="0.3", lw=1)
        factor.set_title("amplification: behind the layer / before it", fontsize="medium")
        factor.set_yticks(list(places)[::step], [])
        for axis in (size, factor):
            axis.set_ylim(len(layers) - 0.4, -0.6)
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
        _draw_left(left, replaced, min(len(layers), LONGEST))
    return path


def _draw_left(axis: Axes, replaced: pd.DataFrame, rows: int) -> None:
    """Bars of what is left of the damage, beside panels of so many rows."""
    for offset, name, label, colour in (
        (-0.2, "error_left", "error of the picture", COLOURS[0]),
        (0.2, "bits_left", "bits added", COLOURS[1]),
    ):
        values = 100 * replaced[name]
        axis.barh([i + offset for i in range(len(replaced))], values, height=0.38, color=colour, label=label)
        for i, value in enumerate(values):
            text = "none" if pd.isna(value) else f"{value:.0f} %"
            axis.annotate(
                text,
                (max(0, 0 if pd.isna(value) else value), i + offset),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
    axis.set_yticks(
        range(len(replaced)), [f"{p}\n{b:.3f} bpp" for p, b in zip(replaced["part"], replaced["bpp"], strict=True)]
    )
    axis.set_ylim(max(len(replaced), rows / BAR) - 0.4, -0.6)
    axis.margins(x=0.18)
    axis.axvline(0, color="0.3", lw=1)
    axis.set_xlabel("% of what the attack did")
    axis.set_title("damage left when this is clean", fontsize="medium")
    axis.legend(frameon=False, fontsize="small", loc="lower right")


def _network(name: str, kind: str) -> str:
    """The network that a layer belongs to; what is coded is one of its own."""
    return kind if kind == "coded" else name.partition(".")[0]
