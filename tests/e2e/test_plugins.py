"""A third-party package that is really installed adds plugins of every kind, and they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

UNUSED = {"torchvision", "torch_geometric", "torch._dynamo"}  # seconds of every start, for what no codec needs
OTHERS = {"compressai", "scipy", "av", "matplotlib", "plotly", "torchattacks"}  # what other codecs and reports need


@pytest.fixture(scope="module")
def ran(plugin_site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], set[str]]:
    """The row of a cell of the package's plugins, run in a process of its own, and the modules that were loaded."""
    script = (
        "import json, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from robustcodec import registry\n"
        "from robustcodec.running.grid import Cell\n"
        "from robustcodec.execution.runner import Runner\n"
        "from robustcodec.running.store import Store\n"
        "cell = Cell('levels:levels=8', 'brighten', 'darkness', 'linf:8/255', 'halve', data='ramps:size=16')\n"
        "store = Store(Path(sys.argv[1]))\n"
        "tally = Runner(store, metrics=('psnr', 'mean_difference')).run([cell])\n"
        "assert not tally.failed, tally.errors\n"
        "row = store.result(cell.id).rows[0]\n"
        "print(json.dumps([row, [*sys.modules]]))\n"
    )
    folder = tmp_path_factory.mktemp("ran")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(plugin_site), *sys.path])}  # this checkout
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    row, modules = json.loads(done.stdout)
    return row, set(modules)


def test_installed_package_adds_every_kind_of_plugin(ran: tuple[dict[str, Any], set[str]]) -> None:
    row, _ = ran
    assert row["sample"] == "ramp"
    assert round(row["input_linf"], 4) == 8
    assert 0 < row["adv_mean_difference"] < 1 / 8


def test_a_run_loads_nothing_that_no_codec_needs(ran: tuple[dict[str, Any], set[str]]) -> None:
    _, modules = ran
    assert "robustcodec_example.plugins" in modules and not (UNUSED | OTHERS) & modules


def test_a_codec_of_compressai_leaves_the_rest_of_it_asleep(tmp_path: Path) -> None:
    script = "import robustcodec, sys; robustcodec.load('bmshj2018-factorized.tiny-q1'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    modules = set(done.stdout.split())
    assert "compressai.models" in modules and not UNUSED & modules


def test_a_name_taken_twice_names_both_definitions(plugin_site: Path) -> None:
    script = (
        "from robustcodec.registry import attacks\n"
        "import robustcodec_example.plugins\n"
        "@attacks.register('brighten')\n"
        "class Other: ...\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(plugin_site), *sys.path])}  # this checkout
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "'brighten' is defined twice: in robustcodec_example.plugins and in __main__" in done.stderr
