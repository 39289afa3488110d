"""Torch as a fresh process has it, for work whose numbers must not depend on who calls it or on what ran before it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated(threads: int | None = None) -> Iterator[None]:
    """Inside, gradients are on, autocast and inference mode are off, and new tensors are float32, with so many
    ``threads``. Afterwards the state of torch and the CPU's random states are as they were, whatever was done inside.
    """
    dtype, had = torch.get_default_dtype(), torch.get_num_threads()
    strict = _determinism()
    drawn = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads or had)
    cpu, cuda = (torch.autocast(device, enabled=False) for device in ("cpu", "cuda"))
    try:
        with torch.inference_mode(False), torch.enable_grad(), cpu, cuda:
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(had)
        if strict != _determinism():  # to set it costs an import of PyTorch's compiler
            torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        torch.random.set_rng_state(drawn[0])
        np.random.set_state(drawn[1])
        random.setstate(drawn[2])


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
