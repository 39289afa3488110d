"""Which executor a command line asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from robustcodec.execution.cluster import Cluster
from robustcodec.execution.cores import cores
from robustcodec.execution.here import Here
from robustcodec.execution.processes import Processes
from robustcodec.execution.scheduler import Executor
from robustcodec.execution.worker import Setting


@dataclass(frozen=True)
class Workforce:
    """Who is asked for. ``devices``: of this machine, with ``workers`` processes on each; None: as many as there are
    cores for, or one on each GPU; 0: none but this one, which a task may end. ``apart``: one even then, so that it can
    be ended. ``ray``: the address of a cluster instead, with ``gpus`` of a GPU for each worker.
    """

    devices: tuple[str, ...] = ("cpu",)
    workers: int | None = None
    apart: bool = False
    ray: str | None = None
    gpus: float = 0.0

    @contextmanager
    def hired(self, setting: Setting) -> Iterator[Executor]:
        """An executor, whose workers end with the block."""
        executor = self._executor(setting)
        try:
            yield executor
        finally:
            executor.close()

    def _executor(self, setting: Setting) -> Executor:
        if self.ray is not None:
            return Cluster(setting, self.ray, self.gpus)
        if self.workers == 0 and not self.apart:
            return Here(setting, self.devices[0])
        on_cpu = max(1, cores() // (setting.threads or 1)) if self.workers is None else 1
        slots = [each for each in self.devices for _ in range(self.workers or (on_cpu if each == "cpu" else 1))]
        return Processes(setting, slots)
