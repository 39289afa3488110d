"""Numbers do not depend on who asks for them, nor on what ran before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import robustcodec
from robustcodec.errors import StoreError
from robustcodec.execution.isolation import isolated
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Store

CODEC = "bmshj2018-factorized.tiny-q1"
DATA: dict[str, Any] = {"data": "photos:size=32", "limit": 1}


@contextmanager
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CALLERS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "doubles": doubles,
}


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
def test_the_state_of_the_caller_changes_no_number(
    caller: Callable[[], AbstractContextManager[object]], photo: Tensor
) -> None:
    picture = photo[0, :, :48, :48]
    usual = robustcodec.attack(picture, CODEC, attack="pgd:steps=2")
    with caller():
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype()
        unusual = robustcodec.attack(picture.clone(), robustcodec.load(CODEC), attack="pgd:steps=2")
        assert modes == (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert isinstance(usual, robustcodec.Outcome) and isinstance(unusual, robustcodec.Outcome)
    assert unusual.scores == pytest.approx(usual.scores, nan_ok=True, abs=0, rel=0)
    assert torch.equal(unusual.adversarial, usual.adversarial)


@dataclass(frozen=True)
class Careless(Attack):
    """Changes whatever is global."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(2)
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)
        return x


class Leaves(BaseException):
    """Not an Exception."""


@dataclass(frozen=True)
class Quits(Attack):
    how: str = "exit"

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        raise {"exit": SystemExit(0), "leave": Leaves("gone"), "store": StoreError("no room")}[self.how]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attacks._builders, "careless", Careless)
    monkeypatch.setitem(attacks._builders, "quits", Quits)


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def state() -> list[object]:
    torches = torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    drawn = torch.random.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()
    return [*torches, *drawn]


@pytest.mark.usefixtures("plugins")
def test_a_careless_plugin_changes_nobody_else_s_numbers(tmp_path: Path) -> None:
    careless, after = Cell(CODEC, "careless", **DATA), Cell(CODEC, "noise", **DATA)
    before = state()
    tally = Runner(Store(tmp_path / "both")).run([careless, after])
    assert set(tally.errors) <= {str(careless)} and state() == before
    Runner(Store(tmp_path / "alone")).run([after])
    both, alone = (Store(tmp_path / name).result(after.id) for name in ("both", "alone"))
    assert both is not None and both == alone


CODECS = """
import torch
from robustcodec.registry import codecs

def change(when):
    if when == "{when}":
        torch.set_default_dtype(torch.float64)

change("imported")

def careless():
    change("made")
    codec = codecs.build("jpeg:quality=50")
    compress = codec.compress
    codec.compress = lambda x: change("coding") or compress(x)
    return codec
"""


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("when", ["imported", "made", "coding"])
def test_a_careless_codec_changes_nobody_else_s_numbers(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("careless.py").write_text(CODECS.format(when=when))
    cells = Grid(
        "two", ({"codec": ["./careless.py:careless", CODEC], "attack": ["noise"], "data": [DATA["data"]], "limit": 1},)
    ).check()
    Runner(Store(tmp_path / "both")).run(cells)
    after = next(cell for cell in cells if cell.codec == CODEC)
    torch.set_default_dtype(torch.float32)
    Runner(Store(tmp_path / "alone")).run([after])
    both, alone = (Store(tmp_path / name).result(after.id) for name in ("both", "alone"))
    assert alone is not None and alone.status == "ok" and both == alone


@pytest.mark.usefixtures("plugins")
def test_whatever_a_cell_raises_is_its_own_failure(tmp_path: Path) -> None:
    *bad, good = (Cell(CODEC, attack, **DATA) for attack in ("quits", "quits:how=leave", "quits:how=store", "noise"))
    tally = Runner(Store(tmp_path)).run([*bad, good])
    assert (tally.ran, tally.failed) == (1, 3)
    exited, left, full = (tally.errors[str(cell)] for cell in bad)
    assert exited == "SystemExit: 0" and left.endswith("Leaves: gone") and full == "no room"


def test_ctrl_c_is_nobody_s_failure() -> None:
    with pytest.raises(KeyboardInterrupt), isolated():
        raise KeyboardInterrupt
