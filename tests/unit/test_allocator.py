"""What glibc is told about memory, in processes of their own, since it can be told only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
USED = """
from robustcodec.execution.allocator import keep_memory
import resource
{limit}
assert keep_memory()
import torch
big = torch.ones(2**24)
print(*(line.split()[1] for line in open("/proc/self/smaps_rollup") if line.startswith("AnonHugePages")))
"""


def huge(limit: str = "") -> int:
    """KiB of huge pages that a process uses which has made a tensor of 64 MiB."""
    done = subprocess.run([sys.executable, "-c", USED.format(limit=limit)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(
    not POLICY.exists() or "[never]" in POLICY.read_text(), reason="needs a system that gives huge pages"
)
def test_large_tensors_lie_in_huge_pages() -> None:
    assert huge() >= 32 * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_a_limit_of_addresses_is_no_error() -> None:
    huge("resource.setrlimit(resource.RLIMIT_DATA, (2**32, 2**32))")
