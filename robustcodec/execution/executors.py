"""Which executor a command line asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from robustcodec.execution.here import Here
from robustcodec.execution.processes import Processes
from robustcodec.execution.scheduler import Executor
from robustcodec.execution.worker import Setting


@contextmanager
def executor(setting: Setting, devices: Sequence[str], workers: int | None, apart: bool = False) -> Iterator[Executor]:
    """``workers`` of them on each device, ended with the block; None: as many as the machine has cores for, or one on
    each GPU. ``apart``: in processes of their own even if there is one alone, so that it can be ended.
    """
    each = {
        device: workers or (1 if device != "cpu" else max(1, cores() // (setting.threads or 1))) for device in devices
    }
    slots = [device for device in devices for _ in range(each[device])]
    if len(slots) == 1 and not apart:
        yield Here(setting, slots[0])
        return
    processes = Processes(setting, slots)
    try:
        yield processes
    finally:
        processes.close()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
