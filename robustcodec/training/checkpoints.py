"""The checkpoint of a training: a file that is whole or not there, and that is not believed where it is damaged."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from robustcodec.errors import UserError
from robustcodec.files import whole


def write(path: Path, state: dict[str, Any]) -> None:
    """Keep what resuming needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        torch.save(state, partial)


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """What was written, on ``device``. Raises :class:`UserError` for a file that is damaged, if by one bit."""
    with believed(path):
        with zipfile.ZipFile(path) as archive:  # PyTorch does not look at its checksums
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"{broken} has another checksum")
        return dict(torch.load(path, map_location=device, weights_only=True))


@contextmanager
def believed(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside is the fault of the checkpoint, unless it is said to be something else."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zip archives and pickles fail in many ways
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{path} is damaged ({why}); remove it, and the same command begins from the first step"
        ) from None
