"""Whatever is given to the functions that users call, they work or say in one line what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import robustcodec
from robustcodec.errors import UserError

PICTURE = torch.zeros(3, 32, 32, dtype=torch.uint8)
FIXED: dict[str, dict[str, Any]] = {
    "attack": dict(source=PICTURE, codec="jpeg:quality=30", attack="noise"),
    "run": dict(codec="jpeg", attack="noise", data=PICTURE, limit=1, out="run"),
    "load": dict(codec="jpeg", defense="none"),
    "read": dict(folder="run"),
    "leaderboard": dict(folder="board"),
}
COMMON = "objective threat defense access seed metrics device"
OTHERS = {"attack": f"{COMMON} frames crop out clip", "run": f"{COMMON} grid batch_size suite precision"}


def tensors() -> st.SearchStrategy[torch.Tensor]:
    """Of wrong shapes, types or ranges."""
    shapes = st.sampled_from([(2,), (3, 0, 8), (4, 8, 8), (1, 1, 3, 8, 8), (0, 3, 8, 8), (3, 8, 8)])
    types = st.sampled_from([torch.float32, torch.int16, torch.complex64, torch.bool])
    return st.builds(lambda shape, dtype: torch.full(shape, -1).to(dtype), shapes, types).filter(
        lambda t: t.ndim not in (3, 4) or t.shape[-3] != 3 or not t.is_floating_point() or t.numel() > 0
    )


WORDS = st.sampled_from(["no-such", "a:b=c", "../x"])
THINGS: list[Any] = [object(), nn, int, {}, {"a": 1}, ["jpeg", 3], np.zeros((3, 8, 8)), lambda x: x]
JUNK = st.integers(-5, -2) | st.floats() | st.binary(max_size=3) | WORDS | st.sampled_from(THINGS) | tensors()
FINE = {"out", "folder", "seed", "batch_size"}  # a word is a folder, and a number a seed


@pytest.mark.parametrize(
    ("function", "name"), [(f, n) for f, fixed in FIXED.items() for n in (*fixed, *OTHERS.get(f, "").split())]
)
def test_one_clear_error(function: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call: Callable[..., Any] = getattr(robustcodec, function)

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(JUNK)
    def ask(junk: Any) -> None:
        if isinstance(junk, int | str) and name in FINE:
            return
        with pytest.raises(UserError) as error:
            call(**{**FIXED[function], name: junk})
        said = str(error.value)
        assert said and "\n" not in said and len(said) < 600

    ask()


def test_a_folder_is_no_grid(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no grid file at"):
        robustcodec.run(tmp_path)
