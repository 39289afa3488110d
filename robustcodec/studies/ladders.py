"""Codecs that differ in rate alone, as one line of a plot: which specs belong together, and sweeps in short."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustcodec import registry
from robustcodec.errors import BadParameter
from robustcodec.spec import Spec

RATE = ("quality", "crf", "ratio", "gain", "qp", "lmbda", "bitrate")  # parameters that move a codec along its ladder


@dataclass(frozen=True)
class Ladder:
    """A codec at several rates. ``codecs``: specs, in the order given."""

    name: str
    codecs: tuple[str, ...]


def ladders(codecs: Iterable[str], named: Mapping[str, Iterable[str]] | None = None) -> list[Ladder]:
    """Codecs by ladder: one family with the same parameters, defaults included, but for those of :data:`RATE`; of tags
    and paths a part ``-q<number>`` does not count. ``named``: ladders of one's own, as they are, after the others.

    Raises :class:`UserError` for a codec that cannot be, for two ladders of one name, and for none at all.
    """
    by_key: dict[str, Ladder] = {}
    for codec in dict.fromkeys(codecs):
        key, name = _key_and_name(codec)
        old = by_key.get(key, Ladder(name, ()))
        by_key[key] = Ladder(old.name, (*old.codecs, codec))
    out = [*by_key.values(), *(Ladder(name, tuple(dict.fromkeys(members))) for name, members in (named or {}).items())]
    for codec in {codec for ladder in out for codec in ladder.codecs}:
        registry.codecs.resolve(codec)
    names = [ladder.name for ladder in out]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadParameter(f"two ladders would be called {twice[0]!r}; give one of them a name of its own")
    if not out:
        raise BadParameter("no codec to compare; name some, such as h264:crf={27,33,39}")
    return out


def _key_and_name(codec: str) -> tuple[str, str]:
    """What the codecs of one ladder have in common, and what to call it."""
    spec = Spec.parse(codec)
    params = registry.codecs.resolve(spec)
    fixed = {k: _stem(v) if isinstance(v, str) else v for k, v in params.items() if k not in RATE}
    stem = _stem(spec.tag or "")
    positional = next((k for k in params if k != "tag"), "")  # what a value without a key is for
    typed = [f"{k}={_stem(v)}" for k, v in ((k or positional, v) for k, v in spec.params) if k not in RATE]
    return json.dumps([spec.name, fixed], sort_keys=True), " ".join([spec.name + (f".{stem}" if stem else ""), *typed])


def _stem(text: str) -> str:
    """A tag or a path without its point on the ladder: ``tiny-q2-at`` → ``tiny-at``, ``a-q1.safetensors`` → ``a…``."""
    return re.sub(r"(^|[-_]|(?<=/))q\d+(?=$|[-_/]|\.\w+$)", "", text)
