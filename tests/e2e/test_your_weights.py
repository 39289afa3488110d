"""docs/howto/your-weights.md: what it shows runs as written."""

from __future__ import annotations

import runpy
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from terminal import Type
from torch import Tensor

from robustcodec.data._images import write_image

ROOT = Path(__file__).parents[2]


def test_checkpoints_and_classes_as_written(
    robust: Type, photo: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [
        sys.executable,
        *map(str, (ROOT / ".ci" / "as_written.py", ROOT / "docs" / "howto" / "your-weights.md", tmp_path)),
    ]
    commands = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write_image(photo[..., :64, :64], tmp_path / "photo.png")
    import_module("robustcodec.zoo")  # without which `import compressai` takes many seconds
    runpy.run_path("train.py")
    assert len(commands) == 3
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "robustcodec"
        done = robust(*words)
        assert done.code == 0, done.out + done.err
        if words[0] == "show":
            assert "bmshj2018-hyperprior (N=32, M=40)" in done.out
