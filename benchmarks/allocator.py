"""What keeping freed memory is worth: seconds of one attack step with glibc's defaults and with ours, interleaved.

    python benchmarks/allocator.py --rounds 5

Each measurement is a process of its own, because the allocator can only be told once. Prints the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

STEP = """
import time, torch
from robustcodec.execution.allocator import keep_memory
keep_memory()
from robustcodec import load
from robustcodec.oracle import Oracle
from robustcodec.registry import objectives
codec = load("bmshj2018-hyperprior.tiny-q2").requires_grad_(False)
x = torch.rand(1, 1, 3, 512, 768)
oracle = Oracle(codec, objectives.build("distortion"), x, "white")
oracle.gradient(x)
started = time.perf_counter()
for _ in range(5):
    oracle.gradient(x)
print((time.perf_counter() - started) / 5)
"""


def seconds(keep: bool) -> float:
    """Seconds of one forward and backward at 512x768 in a fresh process."""
    environment = os.environ | {"ROBUSTCODEC_KEEP_MEMORY": "1" if keep else "0"}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    pairs = [(seconds(False), seconds(True)) for _ in range(rounds)]
    default, kept = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    print(f"default {default:.3f} s, kept {kept:.3f} s a step: {default / kept:.2f} times as fast")


if __name__ == "__main__":
    main()
