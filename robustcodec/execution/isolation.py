"""Torch as a fresh process has it, for work whose numbers must not depend on who calls it or on what ran before it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from robustcodec.execution.surroundings import kept
from robustcodec.execution.switches import fresh


@contextmanager
def isolated(threads: int | None = None) -> Iterator[None]:
    """Inside, gradients are on, autocast and inference mode are off, new tensors are float32 on the CPU, precisions are
    as in a fresh process, with so many ``threads``. Afterwards the state of torch, the CPU's random states and the
    process's surroundings (:func:`robustcodec.execution.surroundings.kept`) are as they were, whatever was done inside.
    """
    had = torch.get_num_threads()
    drawn = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    cpu, cuda = (torch.autocast(device, enabled=False) for device in ("cpu", "cuda"))
    with kept(), fresh(), np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
        torch.set_num_threads(threads or had)
        try:
            with torch.inference_mode(False), torch.enable_grad(), cpu, cuda:
                yield
        finally:
            torch.set_num_threads(had)
            torch.random.set_rng_state(drawn[0])
            np.random.set_state(drawn[1])
            random.setstate(drawn[2])
