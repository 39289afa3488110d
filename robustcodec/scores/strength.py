"""Did anything strong attack it? Damage that only weak attacks did is a lower bound of the worst case.

Strong is an attack that asks the victim itself for what it needs: its gradient, or its known transform (``white`` or
``transform`` as :attr:`Attack.access`), on the codec through its defense, if it has one. Queries, noise, what was
crafted on another codec and, of a defended codec, what was crafted on the bare one show that damage can be done, not
how much. Neither does an attack that was blind on every sample, because each gradient that it got was zero.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from robustcodec.errors import UserError
from robustcodec.registry import attacks

if TYPE_CHECKING:  # as in robustness.py: workers start without it
    import pandas as pd

BOUND = "lower bound"  # in tables, of a contender that met no strong attack
BLIND = "zero gradient: the attack was blind"  # in warnings, with the number of samples and of how many
BOUNDED = ("score", "robust_psnr", "drop", "vi_db", "rate_ratio")  # what is a bound then


_BLIND_ON_ALL = re.compile(re.escape(BLIND) + r": (\d+) of \1 ")


def is_strong(attack: str, access: str, defense: str, warnings: str = "") -> bool:
    """Whether an attempt tells the worst case; an attack that is not installed here does not. ``warnings``: of its
    cell.
    """
    if _BLIND_ON_ALL.search(warnings):
        return False
    knows_the_victim = ("oblivious", "adaptive") if defense == "none" else ("adaptive", "bpda")
    return access.partition(":")[0] in knows_the_victim and _looks_inside(attack)


def met_strong(rows: pd.DataFrame) -> bool:
    """Whether any of ``rows``, all of one contender, is of a strong attack."""
    attempts = rows[["attack", "access", "defense", "warnings"]].fillna("").drop_duplicates()
    return any(is_strong(*map(str, attempt)) for attempt in attempts.itertuples(index=False))


@cache
def _looks_inside(attack: str) -> bool:
    try:
        return attacks.build(attack).access != "black"
    except UserError:
        return False
