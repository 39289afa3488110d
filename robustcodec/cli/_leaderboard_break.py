"""``robustcodec leaderboard break``: what others found about an entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._tables import build_tables
from robustcodec.errors import counted

if TYPE_CHECKING:
    from robustcodec.boards.board import Board
    from robustcodec.boards.entry import Entry


def submit(
    board: Annotated[Path, typer.Argument(help="Folder of the board.")],
    clips: Annotated[list[Path], typer.Argument(help="Images or clips called as samples of the board, or folders.")],
    entry: Annotated[str, typer.Option(help="What they hurt: an entry's name, or its file.")],
    by: Annotated[str, typer.Option(help="Who found them: a name, with an address if you like.")],
    how: Annotated[str, typer.Option(help="How, in a sentence: the attack, its effort, a link.")],
    threat: Annotated[Optional[str], typer.Option(help="Budget; default: the one that ranks.")] = None,  # noqa: UP045
    tables: Annotated[bool, typer.Option(help="Then make the tables and the page again.")] = True,
) -> None:
    """Submit clips that hurt an entry more than anything that is known. Ranks stay as they are.

    Each is put inside the budget, rounded to 8 bits, coded and decoded by the entry's codec; nothing that you state is
    believed. What does more damage to the score than the worst that is known of its sample is kept in breaks/, as what
    it changes of the sample. Exit code 1 if nothing was kept.

    CLIPS are PNG or other lossless images, .npy (uint8), .y4m or .mkv (FFV1), or folders of numbered images, each
    called as its sample; what `robustcodec attack` wrote; run folders; or folders of these.

    Examples:

        robustcodec leaderboard break leaderboards/photos-quick found/ --entry mbt2018-mean.tiny-q2
        --by "A. Person" --how "PGD, 2000 steps, 5 restarts"

        robustcodec leaderboard break leaderboards/photos-quick attacked/coffee --entry jpeg:quality=20 --threat psnr:34
        --by "A. Person" --how "by hand"
    """
    from datetime import date

    from robustcodec.cli._console import Console
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.boards import breaking
    from robustcodec.boards.board import BREAKS, Board
    from robustcodec.boards.given import given

    console = Console()
    on = Board.read(board)
    target, at = _entry(on, entry), threat or on.threat
    found, unfit = given(clips, on, target, at)
    with console.status("measuring …") as status:
        done = breaking.submit(on, target, found, at, by, how, date.today().isoformat(), status.update)
    for line in (*unfit, *done.refused):
        console.print(f"not kept: {line}", highlight=False, soft_wrap=True)
    for each in done.taken:
        console.print(
            f"kept: {each.sample}, {each.scores['adv_psnr']} dB at {each.scores['adv_bpp']} bpp", highlight=False
        )
    if not done.taken:
        console.print(f"nothing kept of {counted(len(found), 'clip')}", style="bold")
        raise typer.Exit(1)
    console.print(f"written: {done.breaks.write(board / BREAKS)}", highlight=False, soft_wrap=True)
    assert done.known is not None, "what was taken is known"
    console.print(
        f"best known of {target.name} at {at}: {done.known.score:+.3f} %, found by {done.known.by} on "
        f"{len(done.known.breaks)} of {counted(done.known.samples, 'sample')}; the suite's score: "
        f"{done.known.suite:+.3f} %",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    if tables:
        build_tables(board)


def _entry(board: Board, text: str) -> Entry:
    """By its name or its file; raises :class:`BoardError`."""
    from robustcodec.boards.entry import Entry
    from robustcodec.errors import BoardError

    if Path(text).is_file():
        return Entry.read(Path(text))
    entries = {entry.name: entry for entry in map(Entry.read, board.entries())}
    if text not in entries:
        raise BoardError(f"{board.name} has no entry {text}; it has {', '.join(sorted(entries)) or 'none'}")
    return entries[text]
