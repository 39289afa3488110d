"""Tables and figures for papers and other programs: CSV, Parquet, LaTeX, Markdown and JSON; PDF and PNG at print sizes.

LaTeX tables need the package ``booktabs``. Figures are as wide as a column (3.5 inches) or a page (7.16 inches) of a
two-column paper. The same input gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from robustcodec.errors import StoreError, UserError
from robustcodec.files import write_whole
from robustcodec.reporting import pictures, security
from robustcodec.reporting.pictures import Look
from robustcodec.reporting.printing import printable
from robustcodec.reporting.tables import attack_table, checked, leaderboard, parquet
from robustcodec.reporting.text import shown, to_csv, to_markdown
from robustcodec.scores.columns import column, contributed
from robustcodec.scores.robustness import BOARD, CONTENDER
from robustcodec.scores.strength import BOUND

SUFFIXES = (".csv", ".parquet", ".tex", ".md", ".json")
FORMATS = ("png", "pdf")
Better = Mapping[str, Literal["high", "low"]]

COLUMN, PAGE = Look(points=8, dpi=600, width=3.5), Look(points=8, dpi=600, width=7.16)
TABLES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "leaderboard": leaderboard,
    "attacks": attack_table,
    "results": checked,
}
PRINTED = {  # what of a table fits onto a page, beside the scores that were asked for
    "leaderboard": [*BOARD, "rank", *CONTENDER, "bpp", "psnr", "robust_psnr", "drop", "vi_db", "rate_ratio"]
    + ["bound"],
    "attacks": [
        *BOARD,
        "objective",
        *CONTENDER,
        "attack",
        "precision",
        "bpp",
        "psnr",
        "adv_psnr",
        "delta_psnr",
        "delta_own_psnr",
        "vi_db",
        "rate_ratio",
    ],
    "results": [*BOARD, "objective", *CONTENDER, "attack", "sample", "psnr", "adv_psnr", "vi_db", "rate_ratio"],
}
_ABREAST = 3  # security curves of so many contenders beside each other across a page

_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}",
    "–": r"\textendash{}", "—": r"\textemdash{}", "×": r"$\times$", "→": r"$\rightarrow$", "−": "$-$",
    "…": r"\ldots{}", "∞": r"$\infty$", "λ": r"$\lambda$", "\t": " ", "\r": " ", "\n": " ",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def best_of(names: Iterable[str]) -> Better:
    """By name, whether high or low values of these columns speak for a codec; without those that it has no say in."""
    return {name: better for name in names if (better := column(name).better) is not None}


# bits and clean PSNR are one trade-off: no contender is the best in either alone
BEST = best_of(["robust_psnr", "drop", "vi_db", "rate_ratio"])


def tex(text: str) -> str:
    """``text`` as LaTeX prints it, whatever its letters mean there."""
    return re.sub("-(?=-)", "-{}", "".join(_TEX.get(letter, letter) for letter in printable(text)))


def table(rows: pd.DataFrame, name: str, suffix: str) -> pd.DataFrame:
    """A table of :data:`TABLES` of results, for a file of that suffix: whole, or what of it fits onto a page in LaTeX.

    Raises :class:`UserError` for another name, :class:`StoreError` for rows that are not results.
    """
    if name not in TABLES:
        raise UserError(f"no table {name!r}; expected {', '.join(TABLES)}")
    whole = TABLES[name](rows)
    if suffix.lower() != ".tex":
        return whole
    return whole[[c for c in (*PRINTED[name], *contributed(whole)) if c in whole]]


def check(path: Path) -> str:
    """The suffix of a file to export to, in small letters; raises :class:`UserError` for another."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"cannot export a table to {path}; expected a file that ends in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give the name of a file in it")
    return suffix


def write(frame: pd.DataFrame, path: Path, caption: str = "", label: str = "", best: Better | None = None) -> Path:
    """Write a table of numbers and text as the suffix of ``path`` says: one of :data:`SUFFIXES`.

    CSV, Parquet and JSON hold every digit, NaN as nothing or null; LaTeX and Markdown are for reading, with the digits
    of the reports. ``caption``, ``label`` and ``best`` are of LaTeX, as :func:`latex` has them. A named index becomes
    the first columns.

    Raises :class:`UserError` for another suffix, :class:`StoreError` if ``path`` cannot be written,
    :class:`MissingDependency` for Parquet without a working pyarrow.
    """
    path = Path(path)
    suffix = check(path)
    frame = _flat(frame)
    if suffix == ".csv":
        data = to_csv(frame).encode()
    elif suffix == ".parquet":
        data = parquet(frame, "export to .csv instead")
    elif suffix == ".tex":
        data = latex(frame, caption, label, best).encode()
    elif suffix == ".md":
        data = to_markdown(frame).encode()
    else:
        data = frame.to_json(orient="records", indent=1, double_precision=15, force_ascii=False).encode() + b"\n"
    write_whole(path, data)
    return path


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with a named index as its first columns, and every column named by one text."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [", ".join(str(p) for p in (c if isinstance(c, tuple) else (c,)) if p != "") for c in frame.columns]
    return frame.set_axis(names, axis="columns")


def latex(frame: pd.DataFrame, caption: str = "", label: str = "", best: Better | None = None) -> str:
    """``frame`` as LaTeX with rules of ``booktabs``: a ``table*`` for each data set and threat, where it has those
    columns; text to the left, numbers to the right, NaN as a dash.

    Columns of text that say the same in every line of a table are said in its caption instead. ``best``: columns of
    which the highest or lowest value, as printed, is bold; ties share it, lower bounds of damage have no part in it.
    """
    frame = _flat(frame)
    boards = frame.groupby(BOARD) if set(BOARD) <= set(frame.columns) else [((), frame)]
    tables = [(key, group.reset_index(drop=True)) for key, group in boards] or [((), frame)]
    parts = [
        _tabular(
            group,
            caption,
            f"{label}-{slug(', '.join(map(str, key)))}" if label and len(tables) > 1 else label,
            best or {},
        )
        for key, group in tables
    ]
    return "\n".join(["% \\usepackage{booktabs}", *parts])


def _tabular(frame: pd.DataFrame, caption: str, label: str, best: Better) -> str:
    bounds = frame["bound"] == BOUND if "bound" in frame else pd.Series(False, index=frame.index)
    frame = frame if bounds.any() else frame.drop(columns="bound", errors="ignore")
    texts = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    same = [c for c in texts if len(frame) and (c in BOARD or len(frame) > 1 and frame[c].astype(str).nunique() == 1)]
    parts = [caption.rstrip("."), "; ".join(f"{name}: {frame[name].iloc[0]}" for name in same)]
    body = frame.drop(columns=same)
    style = body.style.hide(axis="index").format_index(lambda name: tex(str(name)), axis="columns")
    style = style.format({c: partial(_printed, digits=column(str(c)).digits) for c in body})
    for name, which in best.items():
        if name in body:
            style = style.apply(_bold, subset=[name], which=which, bounds=bounds)
    text: str = style.to_latex(
        hrules=True,
        environment="table*",
        position="tb",
        position_float="centering",
        column_format="".join("l" if c in texts else "r" for c in body),
        caption=tex(". ".join(filter(None, parts))) or None,
        label=re.sub(r"[^A-Za-z0-9:.-]+", "-", label) or None,
    )
    return text.replace("\\centering", "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}", 1)


def _printed(value: object, digits: int) -> str:
    text = tex(shown(value, digits))
    return f"$-${text[1:]}" if text.startswith("-") and not isinstance(value, str) else text


def _bold(values: pd.Series[float], which: Literal["high", "low"], bounds: pd.Series[bool]) -> list[str]:
    """The command of each value that is the best as printed."""
    printed = values.astype(float).round(column(str(values.name)).digits).mask(bounds)
    first = printed.max() if which == "high" else printed.min()
    return ["textbf:--rwrap;" if value == first else "" for value in printed]


def figures(rows: pd.DataFrame, curves: pd.DataFrame, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figures of results into ``folder`` at the sizes of print, each in every one of ``formats``.

    ``rate-distortion-DATA-THREAT`` and ``vulnerability-DATA-THREAT`` (attack × codec), ``security-DATA`` where there
    are several budgets, ``drift-DATA`` of clips. ``rows``: of :meth:`Store.frame`; ``curves``: of
    :meth:`Store.curves`, empty for images. PDFs have vectors, embedded TrueType fonts and no date; PNGs 600 dpi.

    Raises :class:`UserError` for another format, :class:`StoreError` for rows that are not results or if the folder
    cannot be written.
    """
    if unknown := [f for f in formats if f not in FORMATS]:
        raise UserError(f"no figures in format {', '.join(unknown)}; expected {' or '.join(FORMATS)}")
    rows = checked(rows)
    paths = [
        path
        for suffix in formats
        for path in (*_boards(rows, folder, suffix), *_security(rows, folder, suffix), *_drift(curves, folder, suffix))
    ]
    return sorted(paths)


def _boards(rows: pd.DataFrame, folder: Path, suffix: str) -> Iterable[Path]:
    for (data, threat), board in rows.groupby(BOARD):
        name = slug(f"{data}, {threat}")
        contenders = board[CONTENDER].drop_duplicates()
        yield pictures.rate_distortion_plot(board, folder / f"rate-distortion-{name}.{suffix}", COLUMN)
        longest = max(map(len, board["attack"] + board["objective"]))
        narrow = len(contenders) <= 3 and longest <= 32
        yield pictures.vulnerability_heatmap(
            board, folder / f"vulnerability-{name}.{suffix}", COLUMN if narrow else PAGE
        )


def _security(rows: pd.DataFrame, folder: Path, suffix: str) -> Iterable[Path]:
    for name, points in security.points_by_figure(rows):
        contenders = sorted(points["contender"].unique())
        for first in range(0, len(contenders), _ABREAST):
            some = contenders[first : first + _ABREAST]
            part = f"-{first // _ABREAST + 1}" if len(contenders) > _ABREAST else ""
            shown = points[points["contender"].isin(some)]
            yield security.plot(shown, folder / f"{name}{part}.{suffix}", PAGE if len(some) > 1 else COLUMN)


def _drift(curves: pd.DataFrame, folder: Path, suffix: str) -> Iterable[Path]:
    if curves.empty:
        return
    for data, group in curves.groupby("data"):
        look = PAGE if len(group[CONTENDER].drop_duplicates()) > 1 else COLUMN
        yield pictures.drift_plot(group, folder / f"drift-{slug(str(data))}.{suffix}", look)


def slug(text: str) -> str:
    """``text`` as part of a file's name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "all"
