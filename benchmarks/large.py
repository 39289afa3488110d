"""What a large picture costs: peak memory and seconds of writing and reading it, each phase in a process of its own.

    python benchmarks/large.py
    python benchmarks/large.py --codec mbt2018-mean:weights=mine.safetensors --size 2000x1500 --threads 1

The picture is made here and looks like a photo to a codec: edges of all sizes, gradients and noise. ``base`` is a
process that has everything loaded and coded nothing; memory is the largest resident set that the system saw.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PHASES = ("base", "compress", "decompress", "cli compress", "cli decompress")

PHASE = """
import resource, sys, time
from pathlib import Path
import torch
phase, spec, picture, stream, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
from robustcodec import load
from robustcodec.clips import as_batch, to_uint8
from robustcodec.data._images import read_image
codec = load(spec)
started, before = time.perf_counter(), time.process_time()
with torch.no_grad():
    if phase == "compress":
        Path(stream).write_bytes(codec.compress(as_batch(read_image(Path(picture))))[0])
    if phase == "decompress":
        to_uint8(codec.decompress([Path(stream).read_bytes()]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - started, time.process_time() - before, peak)
"""


def picture(width: int, height: int, path: Path) -> None:
    """Write discs of all sizes over a gradient, with some noise: sharp edges and flat areas at every scale."""
    import numpy as np
    from PIL import Image, ImageDraw

    draws = np.random.default_rng(0)
    image = Image.new("RGB", (width, height), (120, 140, 160))
    pen = ImageDraw.Draw(image)
    for k in range(4000):
        radius = max(3.0, width / 4 / (1 + k) ** 0.5)
        x, y = draws.uniform(0, width), draws.uniform(0, height)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(draws.integers(20, 236, 3).tolist()))
    shade = np.linspace(-20, 20, width)[None, :, None] + np.linspace(-15, 15, height)[:, None, None]
    grain = draws.normal(0, 4, (height, width, 1))
    pixels = np.clip(np.asarray(image) + shade + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)


def measured(phase: str, spec: str, folder: Path, threads: int) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of all processors, and peak MiB of a phase."""
    png, stream = folder / "picture.png", folder / "picture.rc"
    if not phase.startswith("cli"):
        command = [sys.executable, "-c", PHASE, phase, spec, str(png), str(stream), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{phase} of {spec} failed:\n{done.stderr}")
        seconds, work, memory = map(float, done.stdout.split()[-3:])
        return seconds, work, memory
    source, target = (
        (png, folder / "again.rc") if phase == "cli compress" else (folder / "again.rc", folder / "again.png")
    )
    command = [sys.executable, "-m", "robustcodec", phase.split()[1], str(source), "--codec", spec, "-o", str(target)]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{phase} of {spec} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """A line per phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bmshj2018-hyperprior.tiny-q2")
    parser.add_argument("--size", default="4000x3000", help="width x height in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--phases", default=",".join(PHASES))
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        picture(width, height, Path(folder) / "picture.png")
        print("| phase | seconds | CPU seconds | peak MiB |\n|---|---:|---:|---:|")
        for phase in options.phases.split(","):
            seconds, work, memory = measured(phase, options.codec, Path(folder), options.threads)
            print(f"| {phase} | {seconds:.1f} | {work:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
