"""Runs that are killed, that meet a full disk, or that share a folder end with the bytes of an undisturbed one.

    python benchmarks/kill.py [--kills 25] [--pairs 3] [--seed 0]

``kill -9`` comes at moments drawn by the seed from the length of the undisturbed run: while it loads, crafts, evaluates
or draws. What was killed is resumed and may be killed again; a folder that is done is compared, and a new one begun.
A full disk is a small file system in memory, made larger each time the run has said that it is full; it takes the right
to mount one, and is left out without. Two runs of one folder begin at the same time.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

GRID = """
[[block]]
codec = ["bmshj2018-factorized:weights=random", "jpeg:quality=30"]
attack = ["square:queries=40", "noise"]
data = ["photos:size=64", "clips:frames=2,size=48"]
limit = 2
"""
SMALLEST, LARGER = 64, 1.5  # kB of a disk, and by how much it grows


def started(grid: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "robustcodec", "run", str(grid), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(grid: Path, out: Path) -> str:
    """Runs to the end; gives what it said."""
    with started(grid, out) as process:
        said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


def contents(out: Path) -> dict[str, bytes]:
    """All of a run folder but the log, which holds times, and what saves time, which holds times of files."""
    paths = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.startswith(("log.jsonl", "cache/"))}


def differing(out: Path, whole: dict[str, bytes]) -> list[str]:
    """Files that are not those of the undisturbed run, or that only one of the two has."""
    found = contents(out)
    return sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))


def stage(out: Path) -> str:
    """How far a run had come."""
    if not list(out.glob("crafted/*/*.safetensors")):
        return "before the first clip"
    cells = len(list(out.glob("cells/*.json")))
    return "before the first cell" if not cells else "between cells" if cells < 8 else "after the last cell"


def kill(grid: Path, folder: Path, whole: dict[str, bytes], seconds: float, kills: int, seed: int) -> bool:
    moments, stages, number, wrong = random.Random(seed), Counter[str](), 0, list[str]()
    done = 0
    while done < kills:
        out = folder / f"killed-{number}"
        with started(grid, out) as process:
            try:
                process.communicate(timeout=moments.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                stages[stage(out)] += 1
                done += 1
                continue
        wrong += differing(out, whole)
        number += 1
    finished(grid, folder / f"killed-{number}")
    wrong += differing(folder / f"killed-{number}", whole)
    moments_said = ", ".join(f"{count} {when}" for when, count in sorted(stages.items()))
    print(f"{kills} kills ({moments_said}), {number + 1} folders: {len(wrong)} files differ {wrong[:3]}", flush=True)
    return not wrong


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A file system of :data:`SMALLEST` kB. Raises :class:`subprocess.CalledProcessError` where none may be mounted."""
    folder.mkdir()
    size = ["-o", f"size={SMALLEST}k"]
    subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(grid: Path, folder: Path, whole: dict[str, bytes]) -> bool:
    kilobytes, full, silent = float(SMALLEST), 0, 0
    try:
        with disk(folder / "disk") as small:
            while True:
                with started(grid, small / "run") as process:
                    said = process.communicate()[0]
                if process.returncode == 0:
                    break
                full += 1
                silent += "the disk is full" not in said or "Traceback" in said
                kilobytes *= LARGER
                size = f"remount,size={kilobytes:.0f}k"
                subprocess.run(["mount", "-o", size, str(small)], check=True)
            wrong = differing(small / "run", whole)
    except (FileNotFoundError, subprocess.CalledProcessError):
        print("full disk: left out, no file system may be mounted here", flush=True)
        return True
    print(
        f"full disk: {full} times, {silent} of them without one clear line; it ended at {kilobytes:.0f} kB: "
        f"{len(wrong)} files differ {wrong[:3]}",
        flush=True,
    )
    return not wrong and not silent


def share(grid: Path, folder: Path, whole: dict[str, bytes], pairs: int) -> bool:
    wrong, failed = list[str](), 0
    for number in range(pairs):
        out = folder / f"shared-{number}"
        with started(grid, out) as one, started(grid, out) as other:
            for process in (one, other):
                process.communicate()
                failed += process.returncode != 0
        wrong += differing(out, whole)
    print(f"{pairs} pairs of runs on one folder: {failed} failed, {len(wrong)} files differ {wrong[:3]}", flush=True)
    return not wrong and not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        grid = folder / "grid.toml"
        grid.write_text(GRID)
        begun = time.monotonic()
        finished(grid, folder / "whole")
        seconds = time.monotonic() - begun
        whole = contents(folder / "whole")
        print(f"undisturbed: {seconds:.1f} s, {len(whole)} files", flush=True)
        held = [
            kill(grid, folder, whole, seconds, options.kills, options.seed),
            fill(grid, folder, whole),
            share(grid, folder, whole, options.pairs),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
