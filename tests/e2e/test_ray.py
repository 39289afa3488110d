"""A grid on a Ray cluster: machines come and go, and the bytes are those of one process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustcodec.cli import app
from robustcodec.errors import BoardError, MissingDependency
from robustcodec.execution import executors
from robustcodec.execution.cluster import Cluster
from robustcodec.execution.here import Here
from robustcodec.execution.runner import Runner
from robustcodec.execution.worker import Setting
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

SETTING = Setting(threads=1)
PATIENCE = 120.0  # seconds
CODEC = "bmshj2018-factorized.tiny-q1"


def files(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != "log.jsonl"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_a_machine_that_is_killed_and_one_that_joins_late_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    utils = pytest.importorskip("ray.cluster_utils")
    machines = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    first = machines.add_node(num_cpus=1)
    cells = [Cell(CODEC, f"pgd:steps={steps}", data="photos:size=48", limit=3) for steps in (3, 4, 5)]
    cluster = Cluster(SETTING, machines.address)
    errors: list[dict[str, str]] = []
    run = threading.Thread(
        target=lambda: errors.append(Runner(Store(tmp_path / "ray"), executor=cluster).run(cells).errors), daemon=True
    )
    try:
        run.start()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not list(tmp_path.glob("ray/crafted/*/*.safetensors")):
            time.sleep(0.05)
        machines.add_node(num_cpus=1)
        machines.remove_node(first, allow_graceful=False)
        run.join(PATIENCE)
    finally:
        cluster.close()
        machines.shutdown()
    assert errors == [{}]
    assert not Runner(Store(tmp_path / "one"), executor=Here(SETTING)).run(cells).errors
    left, right = files(tmp_path / "ray"), files(tmp_path / "one")
    assert left.keys() == right.keys() and [name for name in right if left[name] != right[name]] == []


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"robustcodec\[ray\]"):
        Cluster(SETTING, "local")


@pytest.mark.parametrize(
    ("words", "address"),
    [(["--ray"], "local"), (["--ray", "--limit", "1"], "local"), (["--ray", "head:6379"], "head:6379"), ([], None)],
)
def test_without_an_address_ray_is_started_here(
    words: list[str], address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def workforce(*given: object) -> None:
        asked.append(given)
        raise BoardError("seven")

    monkeypatch.setattr(executors, "Workforce", workforce)
    done = CliRunner().invoke(app, ["run", "--codec", "jpeg", "--attack", "noise", "--out", str(tmp_path), *words])
    assert str(done.exception) == "seven" and asked[0][3] == address
