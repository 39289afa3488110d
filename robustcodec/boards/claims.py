"""Do the names in an entry fit with what its cells are identified by?

An id is the hash of an identity alone. So an entry that calls itself by another codec, attack or threat than its
identities say has the right ids, and is still about something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from robustcodec.boards.board import Board, access_to
from robustcodec.boards.entry import Entry, Measured
from robustcodec.brought.files import is_in_file
from robustcodec.errors import RobustCodecError, UserError
from robustcodec.interfaces import Access
from robustcodec.running.grid import Cell
from robustcodec.running.resolved import REGISTRIES, Part


def contradictions(entry: Entry, board: Board) -> Iterator[str]:
    """What an entry of ``board`` says of itself and its identities do not.

    What is not installed here is compared by its name alone.
    """
    faults = [_differs(kind, getattr(entry, kind), entry.identity[kind]) for kind in ("codec", "defense")]
    faults += [_differs("data", board.data, entry.identity["data"]), _other_kind(entry, board)]
    if entry.identity["seed"] != entry.seed:
        faults.append(f"its seed is {entry.seed}, in its identity {entry.identity['seed']}")
    yield from filter(None, faults)
    for cell in entry.cells:
        yield from (f"the cell {cell.id}: {fault}" for fault in _of_cell(cell, entry.identity))


def _of_cell(cell: Measured, shared: Mapping[str, Any]) -> Iterator[str]:
    identity = {**shared, **cell.identity}
    for kind in ("attack", "objective", "threat"):
        if fault := _differs(kind, cell.axes[kind], identity.get(kind)):
            yield fault
    if (precision := identity.get("precision", Cell.precision)) != cell.axes["precision"]:
        yield f"its precision is {cell.axes['precision']}, in its identity {precision}"
    if fault := _other_access(cell.axes["access"], identity.get("access")):
        yield fault


def _other_access(text: str, identity: object) -> str | None:
    """An access that borrows names codecs, which stand in its identity as theirs do."""
    kind, _, names = text.partition(":")
    if kind not in ("transfer", "bpda"):
        return None if identity == text else f"its access is {text}, in its identity {identity}"
    start, _, rest = str(identity).partition(":")
    try:
        borrowed = json.loads(f"[{rest.replace('}|{', '},{')}]")
    except ValueError:
        borrowed = []
    codecs = names.split("|")
    if start != kind or len(borrowed) != len(codecs):
        return f"its access is {text}, in its identity {start}"
    return next(filter(None, (_differs("codec", *pair) for pair in zip(codecs, borrowed, strict=True))), None)


def _differs(kind: str, text: str, identity: Any) -> str | None:
    return _difference(kind, text, json.dumps(identity, sort_keys=True))


@cache
def _difference(kind: str, text: str, identity: str) -> str | None:
    """How what ``text`` names differs from an identity, as JSON; None if it does not."""
    known = json.loads(identity)
    try:
        layers = Part(kind, text).layers
        names = [_short(layer.spec.name) for layer in layers]
    except UserError as error:
        return str(error)
    other = f"its {kind} is {text}, in its identity"
    if not isinstance(known, dict) or known.get("name") != "+".join(names):
        return f"{other} {known.get('name') if isinstance(known, dict) else known}"
    parts = known.get("layers", [known]) if len(layers) > 1 else [known]
    if not isinstance(parts, list) or len(parts) != len(layers):
        return f"{other} of {len(parts)} layers" if isinstance(parts, list) else f"{other} without layers"
    for layer, part in zip(layers, parts, strict=True):
        stated = part.get("params") if isinstance(part, dict) else None
        if not isinstance(stated, dict):
            return f"{other} without parameters"
        typed = {key for key, _ in layer.spec.params}
        for key, value in _parameters(layer).items():
            if key in stated.keys() | typed and stated.get(key) != value:
                return f"{other} with {key}={stated.get(key)}"
    return None


def _runs_code(layer: Part) -> bool:
    """Whether code would run that the entry names: anybody may have written it."""
    return REGISTRIES[layer.kind].runs_code(layer.spec.name)


def _short(name: str) -> str:
    return name.rpartition("/")[2] if is_in_file(name) else name


def _parameters(layer: Part) -> dict[str, Any]:
    """Parameters as an identity has them; none of what would have to be run, nor where the plugin is not to be had."""
    try:
        if _runs_code(layer):
            return {}
        return dict(json.loads(json.dumps(layer.identity["params"])))
    except RobustCodecError:
        return {}


def _other_kind(entry: Entry, board: Board) -> str | None:
    asked = "bare" if entry.defense == "none" else "defended"
    if entry.kind not in (asked, "transform", "no-gradient"):
        return f"its kind is {entry.kind}, with the defense {entry.defense}"
    if (access := _access(entry.codec, entry.defense)) is None:
        return None
    here = board.kind_by(access, entry.defense)
    return f"its kind is {entry.kind}, and {entry.name} is {here}" if here != entry.kind else None


@cache
def _access(codec: str, defense: str) -> Access | None:
    """None if they are not to be had here, or would have to be run."""
    try:
        if any(_runs_code(layer) for part in (Part("codec", codec), Part("defense", defense)) for layer in part.layers):
            return None
        return access_to(codec, defense)
    except RobustCodecError:
        return None
