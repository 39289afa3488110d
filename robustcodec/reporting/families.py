"""Families of codecs: one model at several rates, trained further or wrapped in something, is one family."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robustcodec.errors import BadParameter
from robustcodec.spec import Spec

_RATE = re.compile(r"(?:(?P<training>.+?)-)?q\d+(?:-(?P<further>.+))?")  # tiny-q2, tiny-q2-at, q3


@dataclass(frozen=True)
class Relation:
    """Which ``family`` a codec is of, and what it was trained ``further`` for, empty if it was not."""

    family: str
    further: str = ""


def related(codec: str) -> Relation:
    """The family of a codec by its spec: what is before the rate in its tag, or before its parameters.

    ``mbt2018-mean.tiny-q2-at`` is of ``mbt2018-mean.tiny``, further trained for ``at``; ``jpeg:quality=20`` is of
    ``jpeg``. What is no spec, as rows of unknown origin may hold, is a family of its own.
    """
    try:
        spec = Spec.parse(codec, here=False)
    except BadParameter:
        return Relation(codec)
    if spec.tag is None:
        return Relation(spec.name)
    rate = _RATE.fullmatch(spec.tag)
    if rate is None:
        return Relation(f"{spec.name}.{spec.tag}")
    training = f".{rate['training']}" if rate["training"] else ""
    return Relation(spec.name + training, rate["further"] or "")
