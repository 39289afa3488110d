"""How long commands take to start: CPU time as a multiple of that of ``import torch``, alternating, the median of runs.

    python benchmarks/start_up.py [--rounds 5]

One thread each, since threads that wait for others count as work. What a command computes counts too: the picture has
256 × 256 pixels.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from robustcodec.data._images import write_image
from robustcodec.running.grid import Cell

COMMANDS = {
    "--help": ["--help"],
    "list": ["list"],
    "compress, jpeg": ["compress", "photo.png", "-o", "out", "--force", "--codec", "jpeg"],
    "compress, CompressAI's": [
        "compress",
        "photo.png",
        "-o",
        "out",
        "--force",
        "--codec",
        "bmshj2018-hyperprior.tiny-q2",
    ],
}


def seconds(words: list[str], folder: Path) -> float:
    """CPU time of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """A line per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    everything = {"import torch": ["-c", "import torch"]}
    everything |= {name: ["-m", "robustcodec", *words] for name, words in COMMANDS.items()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        (sample,) = Cell("jpeg", "noise", data="photos:size=256", limit=1).samples()
        write_image(sample.load(), folder / "photo.png")
        taken = [{name: seconds(words, folder) for name, words in everything.items()} for _ in range(rounds + 1)][1:]
    print("| | CPU (s) | of import torch |\n|---|---|---|")
    for name in everything:
        ratio = median(one[name] / one["import torch"] for one in taken)
        print(f"| {name} | {median(one[name] for one in taken):.2f} | × {ratio:.2f} |")


if __name__ == "__main__":
    main()
