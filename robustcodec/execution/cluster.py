"""Workers on the machines of a Ray cluster (https://docs.ray.io), which may come and go while a run goes on.

Results return to the process that schedules, so the machines need no shared disk: clips travel as pixels, and files
that names mention by their checksums. Each needs this version of robustcodec.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robustcodec.errors import MissingDependency, RobustCodecError
from robustcodec.execution.luggage import Parcel, mentioned, unpacked
from robustcodec.execution.scheduler import Lost, Queried
from robustcodec.execution.tasks import Answer, Failure, Task
from robustcodec.execution.worker import Setting, Worker
from robustcodec.files import HOST
from robustcodec.running.provenance import commit

RECRUITED = 3.0  # seconds from one look at the size of the cluster to the next


class Cluster:
    """A worker for every ``threads`` cores of the cluster, or for every share ``gpus`` of a GPU.

    ``address``: of a cluster, ``auto`` for the one that this machine belongs to, ``local`` for one of this machine
    alone, which is started and ended with this executor. Raises :class:`MissingDependency` without Ray,
    :class:`RobustCodecError` if the cluster cannot be reached.
    """

    def __init__(self, setting: Setting, address: str, gpus: float = 0.0) -> None:
        # else Ray builds an environment anew for every worker of a program that uv has started
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import ray
        except ImportError:
            raise MissingDependency("--ray needs Ray: pip install 'robustcodec[ray]'") from None
        self._ray: Any = ray
        self._setting, self._gpus = setting, gpus
        try:
            ray.init(address, log_to_driver=False, include_dashboard=False if address == "local" else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RobustCodecError(f"no Ray cluster answers at {address}: {error}") from None
        self._actor: Any = ray.remote(RayWorker)
        self._workers: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}  # the first answer of a worker → its slot
        self._under_way: dict[Any, int] = {}
        self._parcels: dict[str, Any] = {}
        self._next, self._recruited = 0, -RECRUITED

    @property
    def slots(self) -> int:
        return max(1, len(self._workers))

    def idle(self) -> Sequence[int]:
        self._recruit()
        busy = {*self._under_way.values(), *self._starting.values()}
        return [slot for slot in self._workers if slot not in busy]

    def start(self, slot: int, task: Task) -> None:
        paths = sorted(mentioned(task.cell))
        for path in paths:
            if path not in self._parcels:
                self._parcels[path] = self._ray.put(Parcel.pack(Path(path)))
        reference = self._workers[slot].do.remote(task, paths, *(self._parcels[path] for path in paths))
        self._under_way[reference] = slot

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        waiting = [*self._under_way, *self._starting]
        if not waiting:
            time.sleep(seconds)
            return []
        news: list[tuple[int, Answer | Lost]] = []
        for reference in self._ray.wait(waiting, num_returns=1, timeout=seconds)[0]:
            begun = reference in self._under_way
            slot = (self._under_way if begun else self._starting).pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                if not begun:
                    raise RobustCodecError(f"a worker of the cluster cannot work: {error.cause}") from None
                answer = Answer(Failure.of(error.cause), 0.0)
            except self._ray.exceptions.RayError as error:
                self._workers.pop(slot, None)
                answer = Lost(f"was lost ({type(error).__name__})")
            if begun:
                news.append((slot, answer))
        return news

    def give_up(self, slot: int) -> None:
        self._ray.kill(self._workers.pop(slot))
        self._under_way = {reference: s for reference, s in self._under_way.items() if s != slot}
        self._recruited = -RECRUITED

    def close(self) -> None:
        self._ray.shutdown()

    def _recruit(self) -> None:
        """Workers for what has joined the cluster."""
        if time.monotonic() < self._recruited + RECRUITED:
            return
        self._recruited = time.monotonic()
        resources = self._ray.cluster_resources()
        threads = self._setting.threads or 1
        room = resources.get("GPU", 0) / self._gpus if self._gpus else resources.get("CPU", 0) / threads
        while len(self._workers) < int(room):
            worker = self._actor.options(num_cpus=threads, num_gpus=self._gpus).remote()
            self._workers[self._next] = worker
            ready = worker.begin.remote(self._setting, "cuda" if self._gpus else "cpu", release())
            self._starting[ready] = self._next
            self._next += 1


def release() -> str:
    """Which robustcodec this is: of two that differ results may differ."""
    return f"{version('robustcodec')} {commit()}".strip()


class RayWorker:
    """A worker in an actor of Ray."""

    def begin(self, setting: Setting, device: str, wanted: str) -> None:
        """To be called first; raises :class:`RobustCodecError` where another release is installed."""
        from robustcodec.execution.allocator import keep_memory

        if release() != wanted:
            raise RobustCodecError(f"it has robustcodec {release()}; expected {wanted}; install it there")
        keep_memory()
        self._worker = Worker(setting, device)

    def do(self, task: Task, paths: Sequence[str], *parcels: Parcel) -> Answer:
        luggage: Mapping[str, Parcel] = dict(zip(paths, parcels, strict=True))
        answer = self._worker.do(unpacked(task, luggage))
        return replace(answer, device=f"{HOST} {answer.device}")
