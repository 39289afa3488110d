"""What ``help()`` shows of the functions that users call: examples, which run as they stand there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import robustcodec

ROOT = Path(__file__).parents[2]
FUNCTIONS = [name for name in robustcodec.__all__ if name.islower()]  # what they give has capitals


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaderboards").symlink_to(ROOT / "leaderboards")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(robustcodec, name), name, globs={})
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert result.attempted > 1 and not result.failed, "".join(said)
