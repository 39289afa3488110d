"""The executor of one slot: this process."""

from __future__ import annotations

import time
from collections.abc import Sequence

from robustcodec.execution.scheduler import Lost, Queried
from robustcodec.execution.tasks import Answer, Task
from robustcodec.execution.worker import Setting, Worker


class Here:
    """Does tasks while it is waited for."""

    slots = 1

    def __init__(self, setting: Setting, device: str = "cpu") -> None:
        self.worker = Worker(setting, device)
        self._task: Task | None = None

    def idle(self) -> Sequence[int]:
        return () if self._task else (0,)

    def start(self, slot: int, task: Task) -> None:
        self._task = task

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        task, self._task = self._task, None
        if task is None:
            time.sleep(seconds)
            return []
        return [(0, self.worker.do(task, lambda damage: queried(0, damage)))]

    def give_up(self, slot: int) -> None:
        """Forget a task that was not waited for; what this process does itself, nobody can end."""
        self._task = None

    def close(self) -> None:
        """Nothing to end."""
