"""Results as pictures: one attacked sample side by side, rate–distortion arrows, a vulnerability heatmap, drift.

Colours are Okabe & Ito's (2008, https://jfly.uni-koeln.de/color/), which colour-blind readers can tell apart;
numbers and marker shapes say the same without colour. The same input gives the same bytes.

The suffix of a plot's path says what is written: ``.png``, or ``.pdf`` with vectors and embedded TrueType fonts.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from robustcodec.errors import BadData
from robustcodec.files import write_whole
from robustcodec.reporting._drawing import GAIN, GAP, GREY, PANEL_WIDTH, font_of, wrap
from robustcodec.reporting.points import arrows, drift, ends, labels, vi_matrix
from robustcodec.reporting.tables import checked
from robustcodec.scores.robustness import BOARD

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported where used: a panel does not need it, and it takes a second
    from matplotlib.lines import Line2D


@dataclass(frozen=True)
class Look:
    """How large a figure is drawn.

    Attributes:
        points: Size of its text.
        dpi: Of a PNG.
        width: Inches of the whole figure, with the legend below the panels, as a page of print asks for; None: as wide
            as what it shows needs, with the legend beside them, as a screen can scroll.
    """

    points: float = 10.0
    dpi: int = 120
    width: float | None = None

    @property
    def letter(self) -> float:
        """Inches that a letter takes on average."""
        return 0.58 * self.points / 72

    def fold(self, text: str, share: float = 1.0) -> str:
        """``text`` in lines that fit into a share of the width."""
        room = math.inf if self.width is None else (share * self.width - 0.35) / self.letter
        return text if len(text) <= room else textwrap.fill(text, max(16, int(room)))

    def size(self, screen: tuple[float, float], body: float, labels: Iterable[str]) -> tuple[float, float]:
        """Inches: those for a screen, or the given width and ``body`` inches of panels above a legend of ``labels``."""
        if self.width is None:
            return screen
        folded = [self.fold(label) for label in labels]
        lines = sum(label.count("\n") + 1 for label in folded) / self._columns(folded)
        return self.width, body + 1.4 * self.points / 72 * (math.ceil(lines) + 1 if folded else 0)

    def legend(self, figure: Figure, handles: Iterable[Line2D]) -> None:
        """Beside the panels, or below them where the width is given."""
        if self.width is None:
            figure.legend(handles=list(handles), loc="outside right upper", frameon=False)
            return
        folded = list(handles)
        for handle in folded:
            handle.set_label(self.fold(str(handle.get_label())))
        columns = self._columns([str(handle.get_label()) for handle in folded])
        figure.legend(handles=folded, loc="outside lower left", ncols=columns, frameon=False, columnspacing=1.2)

    def _columns(self, labels: Sequence[str]) -> int:
        longest = max((len(line) for label in labels for line in label.split("\n")), default=1)
        return max(1, int((self.width or 0) / (longest * self.letter + 0.45)))


SCREEN = Look()
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*<>hp"
NOTHING = "no results yet"


@dataclass(frozen=True)
class Captions:
    """What is written on a :func:`panel`: names as typed, PSNR in dB against the original, real bits per pixel."""

    codec: str
    defense: str
    attack: str
    threat: str
    psnr: float
    bpp: float
    adv_psnr: float
    adv_bpp: float

    @property
    def title(self) -> str:
        return f"{self.codec} | defense {self.defense} | attack {self.attack} | threat {self.threat}"


def _frame(clip: Tensor, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """The first frame as ``(H, W, 3)``."""
    if tuple(clip.shape) != shape or clip.ndim != 4 or clip.shape[1] != 3 or str(clip.dtype) != "torch.uint8":
        raise BadData(
            f"a picture of shape {tuple(clip.shape)}, {clip.dtype} was given; expected uint8 (T, 3, H, W), all alike: "
            "round clips in [0, 1] to 8 bits and take one sample"
        )
    return clip[0].permute(1, 2, 0).cpu().numpy().astype(np.int16)


def panel(
    original: Tensor,
    adversarial: Tensor,
    clean_reconstruction: Tensor,
    attacked_reconstruction: Tensor | None,
    captions: Captions,
    path: Path,
) -> Path:
    """A PNG: the original, its perturbation ×10 about mid-grey, and both reconstructions, with their scores.

    Clips are uint8 ``(T, 3, H, W)``; the first frame is shown, enlarged by a whole factor to 256 pixels or more.
    ``attacked_reconstruction=None``: the decoder failed, which is written on a grey panel.
    Raises :class:`BadData` for other shapes, :class:`StoreError` if ``path`` cannot be written.
    """
    shape = tuple(original.shape)
    source, attacked, clean_hat = (_frame(clip, shape) for clip in (original, adversarial, clean_reconstruction))
    if attacked_reconstruction is None:
        attacked_hat, quality = np.full_like(source, GREY), "could not be decoded"
    else:
        attacked_hat, quality = _frame(attacked_reconstruction, shape), f"{captions.adv_psnr:.2f} dB"
    delta = attacked - source
    seen = np.clip(GREY + GAIN * delta, 0, 255)
    height, width = source.shape[:2]
    factor = math.ceil(PANEL_WIDTH / width)
    height, width = factor * height, factor * width
    font = font_of(max(14, width // 26))
    title_font = font_of(max(16, width // 22))
    labelled = [
        (source, ["original"]),
        (seen, [f"perturbation x {GAIN}", f"largest change {abs(delta).max()}/255"]),
        (clean_hat, ["clean reconstruction", f"{captions.psnr:.2f} dB, {captions.bpp:.3f} bpp"]),
        (attacked_hat, ["attacked reconstruction", f"{quality}, {captions.adv_bpp:.3f} bpp"]),
    ]
    texts = [[line for part in parts for line in wrap(part, font, width)] for _, parts in labelled]
    total = 4 * width + 5 * GAP
    title = wrap(captions.title, title_font, total - 2 * GAP)
    title_step, step = (math.ceil(1.1 * sum(f.getmetrics())) for f in (title_font, font))
    top = GAP + title_step * len(title) + GAP // 2
    below = top + height + GAP // 2
    sheet = Image.new("RGB", (total, below + step * max(map(len, texts)) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(title):
        draw.text((GAP, GAP + row * title_step), line, "black", title_font)
    for column, ((pixels, _), lines) in enumerate(zip(labelled, texts, strict=True)):
        left = GAP + column * (width + GAP)
        picture = Image.fromarray(pixels.astype(np.uint8))
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        for row, line in enumerate(lines):
            draw.text((left, below + row * step), line, "black", font)
    buffer = BytesIO()
    sheet.save(buffer, "PNG")
    write_whole(path, buffer.getvalue())
    return path


@contextmanager
def figure_of(width: float, height: float, path: Path, look: Look = SCREEN) -> Iterator[Figure]:
    """A figure in matplotlib's own style whatever the user's settings, written to ``path`` at the end: as a PDF if it
    ends in ``.pdf``, as a PNG otherwise, neither with a date.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False  # a name may hold a dollar sign
        matplotlib.rcParams["pdf.fonttype"] = 42  # TrueType: text that can be searched, and that publishers accept
        matplotlib.rcParams["font.size"] = look.points
        if look.width is not None:
            matplotlib.rcParams["axes.titlesize"] = "medium"
            matplotlib.rcParams["axes.linewidth"] = 0.6
        figure = Figure(figsize=(width, height), dpi=look.dpi, layout="constrained")
        yield figure
        buffer = BytesIO()
        vector = path.suffix == ".pdf"
        metadata = {"CreationDate": None} if vector else {"Software": None}
        figure.savefig(buffer, format="pdf" if vector else "png", metadata=metadata)
    write_whole(path, buffer.getvalue())


def _say_nothing(path: Path, look: Look) -> Path:
    with figure_of(look.width or 4, 1.5, path, look) as figure:
        figure.text(0.5, 0.5, NOTHING, ha="center", va="center")
    return path


def _way(defense: str, access: str) -> str:
    if access.startswith("transfer:") or defense != "none":
        return f"{defense}, {access}"
    return "no defense"


def rate_distortion_plot(rows: pd.DataFrame, path: Path, look: Look = SCREEN) -> Path:
    """A panel per data set and threat side by side: from each contender's clean mean an arrow to its mean under the
    attack that leaves the least PSNR of each sample, and a faint line to the mean under each attack alone.

    Colour and number are the codec, the marker the defense with its access; full is clean, hollow attacked. PSNR
    is against the clean source, bits per pixel are of the real bytes. Raises :class:`StoreError` for rows that are
    not results, or if ``path`` cannot be written.
    """
    from matplotlib.lines import Line2D

    rows = checked(rows)
    if rows.empty:
        return _say_nothing(path, look)
    rows["way"] = [_way(*key) for key in zip(rows["defense"], rows["access"], strict=True)]
    names = sorted(rows["codec"].unique())
    codecs = {name: (str(i + 1), COLOURS[i % len(COLOURS)]) for i, name in enumerate(names)}
    ways = sorted(set(rows["way"]), key=lambda way: (way != "no defense", way))
    markers = {way: MARKERS[i % len(MARKERS)] for i, way in enumerate(ways)}
    boards = list(rows.groupby(BOARD))
    handles = [
        *(Line2D([], [], color=colour, lw=3, label=f"{number}  {n}") for n, (number, colour) in codecs.items()),
        *(Line2D([], [], ls="", marker=markers[way], color="0.3", label=way) for way in ways),
        Line2D([], [], ls="", marker="o", color="0.3", markersize=8, label="full: clean"),
        Line2D([], [], ls="", marker="o", color="0.3", mfc="white", markersize=5, label="hollow: attacked"),
    ]
    screen = 5 * len(boards) + 3.5, max(4.5, 1.5 + 0.25 * (len(codecs) + len(ways)))
    size = look.size(screen, 2.7, [str(handle.get_label()) for handle in handles])
    with figure_of(*size, path, look) as figure:
        for axis, ((data, threat), board) in zip(
            figure.subplots(1, len(boards), squeeze=False)[0], boards, strict=True
        ):
            axis.set(xlabel="bits per pixel (real bytes)", ylabel="PSNR (dB)")
            axis.set_title(look.fold(f"{data}, {threat}", 1 / len(boards)))
            axis.margins(0.08)
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            single = ends(board, ["codec", "way"])
            for arrow in arrows(board, ["codec", "way"]).to_dict("records"):
                way, (number, colour) = arrow["way"], codecs[arrow["codec"]]
                clean, worst = (arrow["bpp"], arrow["psnr"]), (arrow["adv_bpp"], arrow["adv_psnr"])
                mine = single[(single["codec"] == arrow["codec"]) & (single["way"] == way)]
                alone = set(mine[["adv_bpp", "adv_psnr"]].itertuples(index=False, name=None)) - {worst}
                fan = [point for end in sorted(alone) for point in (clean, end, (math.nan, math.nan))]
                axis.plot(*zip(*fan, strict=True) if fan else ((), ()), color=colour, alpha=0.3, lw=1)
                style = {"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 2}
                axis.annotate("", worst, clean, arrowprops=style)
                hollow = {"ls": "", "marker": markers[way], "mfc": "white", "markersize": 5}
                axis.plot(*zip(*sorted(alone), worst, strict=True), color=colour, **hollow)
                axis.plot(*clean, markers[way], color=colour, markersize=8)
                axis.annotate(number, clean, (5, 5), textcoords="offset points", color=colour, weight="bold")
        look.legend(figure, handles)
    return path


def vulnerability_heatmap(rows: pd.DataFrame, path: Path, look: Look = SCREEN) -> Path:
    """:func:`~robustcodec.reporting.points.vi_matrix`: attack and threat down, codec across, mean ``vi_db`` in each.

    Raises :class:`StoreError` for rows that are not results, or if ``path`` cannot be written.
    """
    matrix = vi_matrix(rows).T
    if matrix.empty:
        return _say_nothing(path, look)
    values = matrix.to_numpy(dtype=float)
    threats = matrix.index.unique("threat")
    titled = look.width is not None and len(threats) == 1
    downs = [look.fold(attack if titled else f"{attack}, {threat}", 0.45) for attack, threat in matrix.index]
    acrosses = [look.fold(name, 0.45) for name in matrix.columns]
    longest = max(map(len, [*downs, *acrosses]))
    screen = 2 + 0.08 * longest + 0.8 * len(acrosses), 1.5 + 0.08 * longest + 0.4 * len(downs)
    tallest = max(len(line) for name in acrosses for line in name.split("\n"))
    lines = sum(max(1.8, 1.2 * name.count("\n") + 1.5) for name in downs)
    body = max(1.0, lines * look.points / 72) + 0.7 * tallest * look.letter + 0.4
    with figure_of(*look.size(screen, body, ()), path, look) as fig:
        axis = fig.subplots()
        if titled:
            axis.set_title(threats[0])
        edges = [np.arange(count + 1) - 0.5 for count in reversed(values.shape)]
        image = axis.pcolormesh(*edges, values, cmap="cividis")  # imshow takes 200 MB for a large one
        axis.invert_yaxis()
        axis.set_facecolor("0.9")
        axis.set_yticks(range(len(downs)), downs)
        axis.set_xticks(range(len(acrosses)), acrosses, rotation=40, ha="right", rotation_mode="anchor")
        for (row, column), value in np.ndenumerate(values):
            luminance = np.dot(np.power(image.to_rgba(value)[:3], 2.2), [0.2126, 0.7152, 0.0722])
            dark = np.isfinite(value) and luminance < 0.18  # above, black has the higher contrast (WCAG 2)
            text = f"{value:.1f}" if np.isfinite(value) else "–"
            inside = axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
            inside.set_in_layout(False)  # it takes no room, and to measure thousands takes long
        meaning = "vi_db: amplification of the perturbation (dB)"
        fig.colorbar(image, label=meaning if look.width is None else "vi_db (dB)")
    return path


def drift_plot(curves: pd.DataFrame, path: Path, look: Look = SCREEN) -> Path:
    """The dB that each attack costs each frame, the mean over samples: a panel per codec, a line per attack.

    ``curves``: of :meth:`Store.curves`. Threat, objective, precision and data set are named where there are several,
    which are never averaged together; frames whose attacked stream could not be decoded are left out. Raises
    :class:`StoreError` if ``path`` cannot be written.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    if curves.empty:
        return _say_nothing(path, look)
    named = ("threat", "objective", "precision", "data")
    lines = drift(curves.assign(contender=labels(curves)), ["contender"], named)
    names = sorted(lines["line"].unique())
    styles = {n: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(names)}
    panels = list(lines.groupby("contender"))
    columns = min(len(panels), 3)
    down = math.ceil(len(panels) / columns)
    screen = 4.5 * columns + 1 + 0.08 * max(map(len, names)), max(3.5 * down, 1.5 + 0.25 * len(names))
    loss = "loss of PSNR to the attack (dB)" if look.width is None else "loss of PSNR (dB)"
    with figure_of(*look.size(screen, 2.0 * down, names), path, look) as figure:
        axes = figure.subplots(down, columns, squeeze=False, sharex=True, sharey=True).flat
        for axis, (name, panel) in zip(axes, panels, strict=False):
            title = look.fold("\n".join(textwrap.wrap(str(name), 44)), 1 / columns)
            axis.set(xlabel="frame", ylabel=loss, title=title)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            axis.axhline(0, color="0.6", lw=1)
            for line, group in panel.groupby("line"):
                colour, marker = styles[line]
                axis.plot(group["frame"], group["loss"], color=colour, marker=marker, markersize=4)
        for axis in axes[len(panels) :]:
            axis.remove()
        look.legend(
            figure, [Line2D([], [], color=colour, marker=marker, label=n) for n, (colour, marker) in styles.items()]
        )
    return path
