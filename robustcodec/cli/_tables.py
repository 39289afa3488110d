"""What commands do once the files of a board have changed: its tables and the page are made again."""

from __future__ import annotations

from pathlib import Path


def build_tables(boards: Path) -> list[str]:
    """Make tables and page; prints what changed and returns what is wrong with entries."""
    from robustcodec.boards import publication
    from robustcodec.cli._console import Console

    console = Console()
    with console.status("making tables and the page …"):
        changed, faults = publication.build(boards)
    for path in changed:
        console.print(f"written: {path}", style="dim", highlight=False, soft_wrap=True)
    for fault in faults:
        console.print(fault, style="bold", highlight=False, soft_wrap=True)
    return faults
