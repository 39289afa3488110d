"""Objects in memory where names stand: each gets a name, which says what it is made of, as long as this process lives.

Names are ``CLASS-CHECKSUM``. Equal objects have equal names, so a run is resumed by giving the same ones again; one
that cannot be looked into has a new name each time.
"""

from __future__ import annotations

import copy
import json
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.brought.contents import Contents
from robustcodec.brought.kinds import CLASSES, as_codec, base_of, require_network
from robustcodec.brought.pictures import Pictures, Remembered
from robustcodec.errors import BadParameter, StoreError, UserError
from robustcodec.files import write_whole
from robustcodec.sealed import seal_json, unseal_json

FILE = "objects.json"  # in a run folder: which names are of objects, and what identifies them
_known: dict[str, dict[str, str]] = {}  # by list of plugins and name: what identifies it


class ObjectWarning(UserWarning):
    """What an object is made of is not known in full."""


def named(kind: str, thing: Any) -> str:
    """The name of ``thing`` among plugins of a ``kind`` (``codecs``, ``attacks`` …): itself if it is a name, that of
    an object otherwise, of which a copy is kept. Of data, a tensor is a picture or a batch of pictures.

    Raises :class:`BadParameter` for what cannot be a plugin of this kind.
    """
    if isinstance(thing, str):
        return thing
    if kind == "data" and isinstance(thing, Tensor):
        thing = Pictures.of(thing)
    plugins = registry.KINDS[kind]
    if kind == "codecs":
        require_network(thing)
    elif not isinstance(thing, base_of(plugins.kind)):
        raise BadParameter(
            f"{plugins.kind} is a {type(thing).__name__}; expected a name, as robustcodec list {kind} shows, or a "
            f"robustcodec.interfaces.{CLASSES[plugins.kind]}"
        )
    contents = Contents(thing)
    checksum = contents.checksum
    if contents.unknown:
        checksum = uuid.uuid4().hex
        warnings.warn(
            f"{plugins.kind} {type(thing).__name__}: nobody can tell one {', '.join(contents.unknown[:3])} from "
            "another, so this run cannot be resumed, and its results cannot be published",
            ObjectWarning,
            stacklevel=3,
        )
    name = f"{type(thing).__name__.strip('_')}-{checksum[:12]}"
    first = as_codec(_copied(thing), name) if kind == "codecs" else _copied(thing)  # says now what is wrong with it
    if isinstance(thing, Pictures):  # enough to read results without the pixels
        checksum = json.dumps([(sample.id, sample.checksum) for sample in thing.samples()])
    _lend(kind, name, checksum, lambda: _copied(first))
    return name


def _copied(thing: Any) -> Any:
    """A copy, since it is changed: put into eval mode, moved to a device; or itself, if it holds what cannot be copied,
    such as an open file.
    """
    try:
        with torch.no_grad():  # parameters of TorchScript would have a history
            return copy.deepcopy(thing)
    except Exception:  # whatever that refuses with
        return thing


def is_object(text: str) -> bool:
    """Whether the name of an axis value is that of an object."""
    return any(text == name for names in _known.values() for name in names)


def put_down(folder: Path) -> None:
    """Write into a run folder what objects there are, beside those that it knew."""
    before = _read(folder / FILE)
    known = {kind: {**before.get(kind, {}), **_known.get(kind, {})} for kind in {*before, *_known}}
    if known:
        write_whole(folder / FILE, seal_json(FILE, known))


def take_up(folder: Path) -> None:
    """Know the objects of a run folder by what identifies them: enough to report on it, and not to run it."""
    for kind, names in _read(folder / FILE).items():
        for name, checksum in names.items():
            if name not in _known.get(kind, {}):
                _lend(kind, name, checksum, _absent(kind, name))


def _lend(kind: str, name: str, checksum: str, build: Callable[[], Any]) -> None:
    _known.setdefault(kind, {})[name] = checksum

    def builder() -> Any:
        return build()

    builder.fingerprint = lambda **_: checksum  # type: ignore[attr-defined]
    registry.KINDS[kind].lend(name, builder)


def _absent(kind: str, name: str) -> Callable[[], Any]:
    def build() -> Any:
        if kind == "data":
            return Remembered([(sample, pixels) for sample, pixels in json.loads(_known[kind][name])])
        raise UserError(f"{registry.KINDS[kind].kind} {name} was an object in Python; give it to robustcodec.run again")

    return build


def _read(path: Path) -> Mapping[str, Mapping[str, str]]:
    if not path.is_file():
        return {}
    try:
        table = unseal_json(FILE, path.read_bytes())
        return {kind: dict(table[kind]) for kind in registry.KINDS.keys() & table.keys()}
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not as it was written ({error}); remove it, and give the objects again") from None
