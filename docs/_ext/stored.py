"""What pages show of stored results: tables of runs and boards, cards of codecs, what benchmarks measured.

A page that names a file, a column or a line that is not there breaks the build.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "measured.toml"
Line = dict[str, str]


@cache
def stored(file: str, number: int = 0) -> list[Line]:
    """The lines of a CSV file, or of the ``number``-th table of a Markdown file, by column."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if file.endswith(".csv"):
        return list(csv.DictReader(text.splitlines()))
    tables = re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE)
    head, _, *body = [_cells(line) for line in tables[number].splitlines()]
    return [dict(zip(head, line, strict=True)) for line in body]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def lines(file: str, number: int = 0, where: Mapping[str, str] | None = None) -> list[Line]:
    """Those of its lines whose cells are as in ``where``; an error if there are none."""
    found = [line for line in stored(file, number) if all(line[key] == str(v) for key, v in (where or {}).items())]
    if not found:
        raise ValueError(f"{file}: no line of table {number} has {where}")
    return found


def table(
    file: str,
    number: int = 0,
    columns: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    limit: int | None = None,
    formats: Mapping[str, str] | None = None,
) -> str:
    """A stored table as Markdown. ``formats``: column to format, such as ``"{:.2f}"``, of cells that are numbers."""
    found = lines(file, number, where)[:limit]
    shown = list(columns or found[0])
    heads = [(rename or {}).get(name, name) for name in shown]
    body = [[_formatted(line[name], (formats or {}).get(name)) for name in shown] for line in found]
    aligned = ["---:" if all(_is_number(row[i]) for row in body) else "---" for i in range(len(shown))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, aligned, *body])


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[–-]?|[+−-]?[\d.,]+ ?%?", text) is not None


def _formatted(text: str, format: str | None) -> str:
    try:
        return format.format(float(text)) if format else text
    except ValueError:
        return text


def value(
    file: str,
    column: str,
    number: int = 0,
    format: str | None = None,
    where: Mapping[str, str] | None = None,
    **is_: str,
) -> str:
    """The cell of the one line that fits; an error if several do."""
    found = lines(file, number, {**(where or {}), **is_})
    if len(found) > 1:
        raise ValueError(f"{file}: {len(found)} lines of table {number} have {where} {is_}; expected one")
    cell = found[0][column]
    return format.format(float(cell)) if format else cell


def number(file: str, column: str, number: int = 0, where: Mapping[str, str] | None = None, **is_: str) -> float:
    """:func:`value`, to reckon with; signs of bounds (``≥``) are dropped."""
    return float(value(file, column, number, None, where, **is_).strip("≤≥ ×%"))


def difference(a: str | float, b: str | float, format: str = "{:.2f}") -> str:
    """``a - b``."""
    return format.format(float(a) - float(b))


def _toml(path: Path, keys: Sequence[str], format: str | None) -> str:
    content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    for key in keys:
        content = content[key]
    return format.format(content) if format else str(content)


def card(codec: str, key: str, format: str | None = None) -> str:
    """A value of a bundled codec's card: ``card("mbt2018-mean.tiny-q2", "measured.kodak.psnr")``."""
    return _toml(ROOT / "zoo" / "cards" / f"{codec}.toml", key.split("."), format)


def measured(section: str, key: str, format: str | None = None) -> str:
    """A value of ``benchmarks/measured.toml``, which states the command of each."""
    return _toml(MEASURED, [section, key], format)


def source(path: str) -> str:
    """The address of a file or a folder of the repository."""
    if not (ROOT / path).exists():
        raise ValueError(f"there is no {path} in the repository")
    home = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    return f"{home}/blob/main/{path}"
