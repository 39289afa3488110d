"""Published boards as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def leaderboard(folder: str | Path) -> pandas.DataFrame:
    """A board's entries, ranked: ``leaderboard("leaderboards/photos-quick")``; one line per threat and entry, columns:
    :data:`robustcodec.boards.ranking.COLUMNS`.

    Raises :class:`robustcodec.errors.BoardError` for a folder without a board, or an entry changed by hand.

    >>> import robustcodec
    >>> table = robustcodec.leaderboard("leaderboards/photos-quick")
    >>> {"entry", "score", "rank"} <= set(table.columns)
    True
    """
    from robustcodec.boards.audit import audit
    from robustcodec.boards.board import Board
    from robustcodec.boards.ranking import ranking
    from robustcodec.brought.arguments import PATH, check
    from robustcodec.errors import BoardError

    check("folder: the folder of a board", folder, PATH)
    board = Board.read(Path(folder))
    entries, faults = audit(board)
    if faults:
        raise BoardError(f"{folder}: {faults[0]}")
    return ranking(board, entries).table
