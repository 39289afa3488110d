"""Shared fixtures: a third-party package that is really installed, real photos, a linear codec, of which the worst case
is known in closed form, a small board, a finetuned codec, and the command line."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import toys
from terminal import Done, Type
from torch import Tensor

from robustcodec.cli import main
from robustcodec.interfaces import Codec

ROOT = Path(__file__).parent.parent
TRAINED = "bmshj2018-factorized.tiny-q1"  # the smallest bundled codec
SHAPE = (1, 3, 12, 12)  # of a clip of the linear codec


def pytest_configure(config: pytest.Config) -> None:
    """One thread per worker, as many workers as cores, and nothing is compiled twice: where Python may not write beside
    its sources, every command that a test starts would compile all of PyTorch again. Workers inherit what is set here.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # who waits for another thread sleeps: cores are busy
    os.environ.setdefault("ROBUSTCODEC_WORKERS", "0")  # commands run in the tests' own processes
    if sys.dont_write_bytecode:
        os.environ["PYTHONPYCACHEPREFIX"] = str(config.rootpath / ".pytest_cache" / "bytecode")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"  # of commands that tests start: as many threads, the same bytes
        torch.set_num_threads(1)
    else:
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


@pytest.fixture
def linear() -> Callable[[Tensor], Codec]:
    """The linear codec of a matrix."""
    return toys.Linear


@pytest.fixture
def grey() -> Tensor:
    return toys.grey(SHAPE)


@pytest.fixture
def spectrum() -> Tensor:
    return toys.spectrum(SHAPE)


@pytest.fixture
def positive() -> Tensor:
    return toys.positive(SHAPE)


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LPIPS on a SqueezeNet with random weights in the place of the trained ones."""
    from robustcodec.scores.metrics import lpips_model
    from robustcodec.scores.metrics.perceptual import BACKBONES

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    lpips_model.cache_clear()
    monkeypatch.setitem(BACKBONES, "squeeze", toys.random_backbone(tmp_path))
    yield
    lpips_model.cache_clear()
    shutil.rmtree(tmp_path / "hub")


@pytest.fixture
def robust(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """``robust("list", "codecs")`` runs ``robustcodec list codecs``."""

    def run(*words: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["robustcodec", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Done(int(end.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``boards/small`` (three entries, tables, page) and ``run``."""
    from measured_board import measure

    root = tmp_path_factory.mktemp("boards")
    measure(root)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, to spoil."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe of :mod:`finetuning` makes."""
    from finetuning import RECIPE

    from robustcodec.training.finetune import Finetuner

    return Finetuner(RECIPE, tmp_path_factory.mktemp("finetuned")).run(every=1)
