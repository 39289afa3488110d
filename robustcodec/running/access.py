"""What an attacker knows, and so what an attack is crafted on.

=====================  ========================================================================================
``oblivious``          the bare codec: the defense, if any, is not known
``adaptive:draws=8``   the codec through its defense; damage and gradient of a random one are means over ``draws``
                       (expectation over transformation, Athalye et al., 2018, https://arxiv.org/abs/1707.07397)
``transfer:CODEC``     another codec
``transfer:A|B|C``     several codecs, of which the one that is met may be one or not: the mean of what they make of it,
                       each in its own measure, see :class:`robustcodec.oracle.Oracle` (ensembles, Liu et al., 2017,
                       https://arxiv.org/abs/1611.02770). Over the rates of one family it is the attack on an unknown
                       rate (ARDA, Wu et al., 2024, https://arxiv.org/abs/2405.07717)
``bpda:CODEC``         the codec through its defense, and gradients through another codec: forward is real, backward
                       a stated surrogate (backward-pass differentiable approximation, Athalye et al., 2018,
                       https://arxiv.org/abs/1802.00420)
=====================  ========================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from robustcodec.errors import GridError
from robustcodec.spec import split

DRAWS = 8  # of a random defense, for each query


@dataclass(frozen=True)
class Victim:
    """What an attack is crafted on: one or several codecs behind a defense, the codec whose gradient stands in for
    its own (if any), and how many draws of a random one make a query.
    """

    codecs: tuple[str, ...]
    defense: str = "none"
    guide: str | None = None
    draws: int = DRAWS


def victim(access: str, codec: str, defense: str) -> Victim:
    """What an attack on ``codec`` behind ``defense`` is crafted on; raises :class:`GridError` for another access."""
    kind, _, rest = access.partition(":")
    if access == "oblivious":
        return Victim((codec,))
    if access == "adaptive":
        return Victim((codec,), defense)
    if kind == "adaptive" and (match := re.fullmatch(r"draws=([1-9]\d*)", rest)):
        return Victim((codec,), defense, draws=int(match[1]))
    if kind == "transfer" and all(others := tuple(split(rest, r"\|"))):
        return Victim(others)
    if kind == "bpda" and rest:
        return Victim((codec,), defense, guide=rest)
    raise GridError(
        f"access {access!r}; expected oblivious, adaptive, adaptive:draws=N, transfer:CODEC, several as transfer:A|B, "
        "or bpda:CODEC"
    )
