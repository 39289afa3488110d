"""How much memory there is, which errors are for want of it, and what to do then."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from robustcodec.errors import OutOfMemory

OUT = "out of memory"  # how every message of ours about it begins
WAYS_OUT = (
    "give it fewer pixels (crop=N or frames=N of the data, --crop, --frames), fewer at once (--batch-size, --batch, "
    "--workers), a smaller codec, or another --device"
)
SAID = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|ALLOC_FAILED|Cannot allocate memory"
)
ASKED = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
GROUPS = Path("/sys/fs/cgroup")


def short_of_memory(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from, is for want of memory, of this machine or of a GPU."""
    if error is None:
        return False
    known = isinstance(error, MemoryError | OutOfMemory | torch.OutOfMemoryError)
    said = isinstance(error, RuntimeError | OSError) and SAID.search(str(error)) is not None
    return known or said or short_of_memory(error.__cause__)


def out_of_memory(error: BaseException) -> OutOfMemory:
    """An error for want of memory in one line, with the ways out."""
    if isinstance(error, OutOfMemory):
        return error
    asked = ASKED.search(str(error))
    where = "of the GPU" if isinstance(error, torch.OutOfMemoryError) else "of this machine"
    free = available("cuda" if where == "of the GPU" else "cpu")
    left = "" if free is None else f", {shown(free)} are free"
    wanted = f"{asked[1].rstrip('.')} more did not fit into that" if asked else "it does not fit into that"
    return OutOfMemory(f"{OUT}: {wanted} {where}{left}; {WAYS_OUT}")


def available(device: str | torch.device = "cpu") -> int | None:
    """Bytes that can still be had on a device, by what the system and the limits of this process's group say; None
    where they say nothing.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0] if torch.cuda.is_available() else None
    if torch.device(device).type != "cpu":
        return None
    left = [_of_system(), _of_group(GROUPS / "memory.max", GROUPS / "memory.current")]
    left.append(_of_group(GROUPS / "memory/memory.limit_in_bytes", GROUPS / "memory/memory.usage_in_bytes"))
    return min((bytes_ for bytes_ in left if bytes_ is not None), default=None)


def shown(size: float) -> str:
    """Bytes for people: ``9.1 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _of_system() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    if found is not None:
        return 1024 * int(found[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _of_group(limit: Path, used: Path) -> int | None:
    """What a control group may still take; None without a limit."""
    try:
        return max(0, int(limit.read_text(encoding="ascii")) - int(used.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or "max"
        return None
