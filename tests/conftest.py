"""Shared fixtures: a third-party package that is really installed, real photos, and a linear codec, of which the worst
case is known in closed form."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustcodec.interfaces import Card, Codec, Output

ROOT = Path(__file__).parent.parent
TRAINED = "bmshj2018-factorized.tiny-q1"  # the smallest bundled codec
SHAPE = (1, 3, 12, 12)  # of a clip of the linear codec
VALUES = math.prod(SHAPE)


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A real photo, uint8 (1, 3, 256, 256)."""
    from robustcodec.registry import data

    sample = data.build("photos").samples()[0]
    clip: Tensor = sample.load()
    return clip


@pytest.fixture(scope="session")
def plugin_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example package has been installed (no network: its build needs nothing)."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(ROOT / "tests" / "plugin_package", source)
    subprocess.run([*command, "--target", str(site), str(source)], check=True, capture_output=True, text=True)
    return site


@pytest.fixture(scope="session")
def plugins(plugin_site: Path) -> None:
    """Registers the example plugins in this process: codec ``levels``, attack ``brighten``, data ``ramps`` …"""
    sys.path.insert(0, str(plugin_site))
    importlib.import_module("robustcodec_example.plugins")


class Linear(Codec):
    """``x_hat = A x`` without rounding or clamping, for clips of one size; coded as raw float32."""

    card = Card("linear", "linear")

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Output:
        x_hat = (x.flatten(1) @ self.matrix.T).view_as(x)
        return Output(lambda: x_hat, lambda: torch.full((len(x),), 32.0 * x[0].numel()))

    def compress(self, x: Tensor) -> list[bytes]:
        return [c.numpy().tobytes() for c in self(x).x_hat]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack([torch.frombuffer(bytearray(s), dtype=torch.float32).view(SHAPE) for s in streams])


@pytest.fixture
def linear() -> Callable[[Tensor], Codec]:
    """The codec of a matrix."""
    return Linear


@pytest.fixture
def grey() -> Tensor:
    """Two 8-bit clips ``(2, 1, 3, 12, 12)`` far from the faces of the box."""
    return torch.randint(100, 156, (2, *SHAPE), generator=torch.Generator().manual_seed(7)) / 255


@pytest.fixture
def spectrum() -> Tensor:
    """A matrix with singular values 2, 1.4, 1.4/2, 1.4/3 … in random directions."""
    rng = torch.Generator().manual_seed(5)
    u, v = (torch.linalg.qr(torch.randn(VALUES, VALUES, generator=rng)).Q for _ in range(2))
    s = 1.4 / torch.arange(VALUES).clamp(min=1)
    s[0] = 2
    matrix: Tensor = u @ torch.diag(s) @ v.T
    return matrix


@pytest.fixture
def positive() -> Tensor:
    """A matrix without negative entries: under L∞ the worst case moves every value up."""
    return torch.rand(VALUES, VALUES, generator=torch.Generator().manual_seed(6)) / VALUES
