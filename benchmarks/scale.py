"""How long a grid of many finished cells takes to plan, to resume and to report, and how much memory.

    python benchmarks/scale.py [--cells 10000] [--out runs/scale]

Cells are real, and small: the central 16 × 16 pixels of two photos through classical codecs, bare and behind defenses,
under attacks of a few queries. They are made once, into ``--out`` (0.03 s each); what is missing is made first. Each
line is a process of its own: seconds beyond imports (of the clock, and of one processor, which is what counts where
others are at work), and the most memory that it held. ``report`` makes all tables, pictures and the page anew;
``resume`` is the command that made the run, after that, with nothing left to do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

CELLS = 1000  # of one seed: 10 codecs, 4 attacks, 5 defenses, 5 budgets


def block(seeds: int) -> dict[str, list[str] | list[int] | int]:
    """A block of a grid of :data:`CELLS` times ``seeds`` cells."""
    return {
        "codec": [f"{name}:quality={quality}" for name in ("jpeg", "webp") for quality in (10, 25, 40, 60, 80)],
        "attack": ["noise", "random-search:queries=2", "square:queries=2", "nes:queries=4"],
        "defense": ["none", "bitdepth:bits=6", "bitdepth:bits=5", "flip", "flip+bitdepth:bits=6"],
        "threat": [f"psnr:{db}" for db in (30, 34, 38, 42, 46)],
        "data": ["photos:size=16"],
        "seed": list(range(seeds)),
        "limit": 2,
    }


def planning(file: Path, out: Path) -> None:
    from robustcodec.running.grid import Grid

    print(len(Grid.read(file).check()), "cells")


def resuming(file: Path, out: Path) -> None:
    from robustcodec.cli import run

    run.command(**_defaults(run.command) | {"grid": file, "out": out, "device": "cpu"})


def reporting(file: Path, out: Path) -> None:
    from robustcodec.cli import report

    report.command(**_defaults(report.command) | {"run": out})


def _defaults(command: object) -> dict[str, object]:
    """The values of a command's options where none is given."""
    import inspect

    return {name: given.default for name, given in inspect.signature(command).parameters.items()}  # type: ignore[arg-type]


PHASES = {"plan": planning, "resume": resuming, "report": reporting}


def measure(phase: str, file: Path, out: Path) -> None:
    """Runs a phase in this process and prints its seconds beyond imports and its peak memory."""
    import importlib

    started = perf_counter()
    for module in ("execution.runner", "cli._display", "cli.report", "reporting.security", "studies.defenses_report"):
        importlib.import_module(f"robustcodec.{module}")
    from robustcodec.registry import KINDS

    for registry in KINDS.values():
        registry.names()
    if phase == "report":
        for module in ("robustcodec.page", "matplotlib.figure", "matplotlib.backends.backend_agg"):
            importlib.import_module(module)
    imports, started, busy, held = perf_counter() - started, perf_counter(), process_time(), _megabytes()
    with contextlib.redirect_stdout(io.StringIO()):
        PHASES[phase](file, out)
    seconds, busy = perf_counter() - started, process_time() - busy
    print(f"{phase:<8} {seconds:7.2f} s, {busy:.2f} s of one processor, beyond imports ({imports:.1f} s);", end=" ")
    print(f"at most {_megabytes():.0f} MB, of which {held:.0f} MB are imports", flush=True)


def _megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10000, help=f"rounded up to a multiple of {CELLS}")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--phase", choices=PHASES, help="this one alone, in this process")
    options = parser.parse_args()
    file = options.out.with_suffix(".toml")
    if options.phase:
        measure(options.phase, file, options.out)
        return
    from robustcodec.execution.runner import Runner
    from robustcodec.running.grid import Grid
    from robustcodec.running.store import Store

    grid = Grid(options.out.name, (block(-(-options.cells // CELLS)),))
    store = Store(options.out)
    file.write_text(grid.to_toml(), encoding="utf-8")
    store.put_grid(grid)
    cells, started = grid.check(), perf_counter()
    tally = Runner(store).run(cells)
    print(f"{tally.ran} cells made in {perf_counter() - started:.0f} s, {tally.skipped} were there", flush=True)
    shutil.rmtree(options.out / "cache", ignore_errors=True)
    for phase in ("plan", "report", "resume"):
        command = [sys.executable, __file__, "--phase", phase, "--out", str(options.out)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
