"""What documents show, as it stands there: as_written.py PAGE… runs every block of each page, in a folder of its own.

A comment right before a block says what becomes of it:

``<!-- file a/b.py -->``         it is written to that file
``<!-- run: name.py -->``        it is written to that file, which Python runs
``<!-- not run: reason -->``     it is shown only
``<!-- ci: name -->``            a step of .ci/run of its own runs it

Without one, ``sh`` is run by bash and ``python`` by Python, from the top of a page to its end; what needs a file
(``toml``) must be one; ``text``, ``console``, ``json``, ``bibtex`` are output. A folder holds what belongings.py makes.
Without a block, ``<!-- file a/b.py: codec of docs/page.md -->`` takes the one that is marked ``<!-- codec -->``, or is
that file, on another page.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ("text", "console", "json", "bibtex", "")
RUN = {"sh": ["bash", "-e"], "python": ["python"]}
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$", re.M | re.S)
BORROWED = re.compile(r"^<!-- file (\S+): (\S+) of\s+(\S+) -->$", re.M)


@dataclass(frozen=True)
class Block:
    """What a page shows. ``mark``: the comment before it, without its sign; ``line``: where it begins."""

    page: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def kind(self) -> str:
        """``file``, ``run``, ``not run``, ``ci``; without such a mark the language, or ``output``."""
        head = re.match(r"(file|run|not run|ci)\b", self.mark)
        return head[1] if head else "output" if self.language in OUTPUT or self.language[0] == "{" else self.language

    @property
    def told(self) -> str:
        """What the mark says behind its kind: a file, a reason."""
        return self.mark.removeprefix(self.kind).removeprefix(":").strip()


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, from its top."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, m.start()) + 1, m["mark"] or "", m["language"].strip(), m["text"])
        for m in BLOCK.finditer(text)
    ]
    for m in BORROWED.finditer(text):
        lender = ROOT / m[3]
        (lent,) = [b for b in blocks(lender) if b.mark == m[2] or b.kind == "file" and b.told == m[2]]
        found.append(Block(page, text.count("\n", 0, m.start()) + 1, f"file {m[1]}", lent.language, lent.text))
    return sorted(found, key=lambda block: block.line)


def run(page: Path, folder: Path) -> Iterator[tuple[Block, subprocess.CompletedProcess[str]]]:
    """Do what a page shows, from its top, in ``folder``; ends behind what fails."""
    for number, block in enumerate(blocks(page)):
        if block.kind in ("file", "run"):
            path = folder / block.told
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.kind == "run" or block.kind in RUN:
            script = folder / (block.told if block.kind == "run" else f".block-{number}")
            script.write_text(block.text, encoding="utf-8")
            command = [*RUN["python" if block.kind == "run" else block.kind], script.name]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            yield block, done
            if done.returncode:
                return


def tried(page: Path, belongings: Path) -> bool:
    """Run a page in a copy of what readers have, and say how it went."""
    started = time.monotonic()
    count, failed = 0, None
    with tempfile.TemporaryDirectory() as name:
        folder = shutil.copytree(belongings, Path(name) / "reader", symlinks=True)
        for block, done in run(page, folder):
            count += 1
            if done.returncode:
                failed = f"{page}:{block.line} ended with {done.returncode}\n{block.text}\n{done.stdout}{done.stderr}"
    sys.stdout.write(f"{failed or f'{page}: {count} blocks, {time.monotonic() - started:.0f} s'}\n")
    return failed is None


def main() -> None:
    """Run pages, two at a time; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="+")
    pages = parser.parse_args().pages
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as belongings, ThreadPoolExecutor(2) as pool:
        shutil.copytree(ROOT / "leaderboards", Path(belongings, "leaderboards"), ignore=shutil.ignore_patterns("site"))
        Path(belongings, "docs").symlink_to(ROOT / "docs")
        subprocess.run(["python", str(ROOT / ".ci" / "belongings.py"), belongings], check=True)
        went_well = list(pool.map(partial(tried, belongings=Path(belongings)), pages))
    sys.exit(0 if all(went_well) else 1)


if __name__ == "__main__":
    main()
