"""What a plugin does to the process it runs in harms no cell after it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from torch import Tensor

from robustcodec.execution.isolation import isolated
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

CODEC = "bmshj2018-factorized.tiny-q1"
DATA: dict[str, Any] = {"data": "photos:size=32", "limit": 1}


def swap() -> None:
    sys.stdout = sys.stderr = None


def shut() -> None:
    sys.stdout.close()
    sys.stderr.close()


HARM: dict[str, Callable[[], object]] = {
    "variable": lambda: os.environ.update(ROBUSTCODEC_MAX_PIXELS="x"),
    "folder": lambda: os.chdir("/"),
    "swapped": swap,
    "shut": shut,
}


@dataclass(frozen=True)
class Harmful(Attack):
    how: str

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        HARM[self.how]()
        return x


@contextmanager
def files() -> Iterator[tuple[TextIO, TextIO]]:
    """Standard output and error are these files of this folder."""
    had = sys.stdout, sys.stderr
    out, err = open("out", "w"), open("err", "w")
    try:
        sys.stdout, sys.stderr = out, err
        yield out, err
    finally:
        sys.stdout, sys.stderr = had
        out.close()
        err.close()


@pytest.mark.parametrize("how", HARM)
def test_the_cell_after_a_harmful_plugin_is_as_it_is_alone(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTCODEC_MAX_PIXELS", "")
    monkeypatch.setitem(attacks._builders, "harmful", Harmful)
    after = Cell(CODEC, "noise", **DATA)
    with files() as streams:
        Runner(Store(tmp_path / "both")).run([Cell(CODEC, f"harmful:how={how}", **DATA), after])
        left = (sys.stdout, sys.stderr), [stream.closed for stream in streams]
        folder, variable = Path.cwd(), os.environ["ROBUSTCODEC_MAX_PIXELS"]
    assert left == (streams, [False, False])
    assert folder == tmp_path and variable == ""
    Runner(Store(tmp_path / "alone")).run([after])
    both, alone = (Store(tmp_path / name).result(after.id) for name in ("both", "alone"))
    assert alone is not None and alone.status == "ok" and both == alone


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("how", ["closed", "elsewhere"])
def test_a_descriptor_leads_where_it_led(number: int, how: str) -> None:
    own, led = os.dup(number), os.fstat(number)
    try:
        with isolated():
            os.close(number)
            if how == "elsewhere":
                assert os.open(os.devnull, os.O_WRONLY) == number
        left = _led(number)
    finally:
        os.dup2(own, number)
        os.close(own)
    assert left is not None and os.path.samestat(left, led)


def _led(number: int) -> os.stat_result | None:
    try:
        return os.fstat(number)
    except OSError:
        return None


def test_variables_that_are_taken_away_come_back_and_new_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    had = os.environ.copy()
    try:
        with isolated():
            os.environ.clear()
            os.environ["ROBUSTCODEC_NEW"] = "1"
        left = os.environ.copy()
    finally:
        os.environ.pop("ROBUSTCODEC_NEW", None)
        os.environ.update(had)
    assert left == had


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with isolated():
        os.chdir("..")
        os.rmdir("gone")
    assert Path.cwd() == tmp_path


def test_neither_warnings_nor_numpy_nor_recursion_are_stricter_after_a_task() -> None:
    def manners() -> tuple[object, ...]:
        return list(warnings.filters), np.geterr(), sys.getrecursionlimit()

    with warnings.catch_warnings(), np.errstate():
        had = manners()
        with isolated():
            warnings.simplefilter("error")
            np.seterr(all="raise")
            sys.setrecursionlimit(had[2] + 1)  # type: ignore[operator]
        left = manners()
        sys.setrecursionlimit(had[2])  # type: ignore[arg-type]
    assert left == had
