"""Entries ranked: one line per entry and threat, and all pairs of them on the same samples.

Entries that met no strong attack have a lower bound of damage. They have no rank, come after all that have one, and are
in no pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd

from robustcodec.boards.audit import audit
from robustcodec.boards.best_known import Known, best_known
from robustcodec.boards.board import Board
from robustcodec.boards.break_audit import audit_breaks
from robustcodec.boards.breaks import Breaks
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import Standing, percent, standing
from robustcodec.scores import ranks
from robustcodec.scores.columns import ENTRIES, PAIRED, contributed, select
from robustcodec.scores.columns import pairs as pairs_of_metrics
from robustcodec.scores.strength import BOUND

COLUMNS = select(
    ENTRIES,
    [*ranks.RANKS, "entry", "score", "score_low", "score_high", "bound", "clean_score", "bpp", "psnr", "ms_ssim"]
    + ["adv_bpp", "adv_psnr", "robust_psnr", "robust_low", "robust_high", "drop", "delta_own_psnr", "vi_db"]
    + ["rate_ratio", "break_db", "unbroken", "input_linf", "worst_attack", "attacks", "samples", "decode_failures"]
    + ["beyond", "kind", "measured_by", "disputed", "warnings"],
)
SHORT = ["rank", "entry", "score", "clean_score", "bpp", "psnr", "adv_bpp", "adv_psnr", "robust_psnr", "vi_db"]
SHORT += ["input_linf", "worst_attack"]
FOUND = select(ENTRIES, ["best_known", "best_known_psnr", "found_by", "found_on"])  # where anybody found something
PAIRS = select(PAIRED, ["threat", *ranks.PAIRS])


@dataclass(frozen=True)
class Ranking:
    """``table``: columns ``data``, ``threat``, :data:`COLUMNS`, :data:`FOUND` if anything was, and scores of metrics
    that any entry was measured with, the threat that ranks first; ``pairs``: columns :data:`PAIRS`, the better one of
    each pair first; ``known``: what others found, by entry and threat.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    known: Mapping[str, Mapping[str, Known]] = field(default_factory=dict)

    def at(self, threat: str, bounds: bool) -> pd.DataFrame:
        """The lines of one threat: of lower bounds, or of ranked entries."""
        lines = self.table[self.table["threat"] == threat]
        return lines[(lines["bound"] == BOUND) == bounds]


def ranked(board: Board) -> tuple[list[Entry], Ranking, list[str]]:
    """The entries of a board that have no fault, where they stand, and everything that is wrong with others and with
    what was found, each naming its file.
    """
    entries, faults = audit(board)
    breaks, wrong = audit_breaks(board, entries)
    return entries, ranking(board, entries, breaks), faults + wrong


def ranking(board: Board, entries: Sequence[Entry], breaks: Mapping[str, Breaks] = MappingProxyType({})) -> Ranking:
    """Of ``entries`` whose rows are whole, as :func:`robustcodec.boards.audit.audit` gives them, and of what others
    found about them, as :func:`robustcodec.boards.break_audit.audit_breaks` does.
    """
    known = {e.name: best_known(e, breaks[e.name].breaks, board.points) for e in entries if e.name in breaks}
    rows = {entry.name: entry.frame(board.data) for entry in entries}
    met = {str(threat) for frame in rows.values() for threat in frame["threat"]}
    lines, pairs = [_empty(COLUMNS)], [_empty(PAIRS)]
    for threat in sorted(met, key=lambda threat: (threat != board.threat, threat)):
        stands = {
            entry.name: standing(attacked, board.points)
            for entry in entries
            if len(attacked := rows[entry.name][rows[entry.name]["threat"] == threat])
        }
        ranked = sorted((n for n in stands if not stands[n].bound), key=lambda n: (stands[n].premium.value, n))
        tested = ranks.pairs(ranked, _difference(stands))
        places = ranks.ranks({name: stands[name].premium.value for name in ranked}, tested, "low")
        lines.append(_lines(board, threat, [e for e in entries if e.name in stands], stands, places, known))
        ends = {end: tested[end].map(percent) for end in ("difference", "low", "high")}
        pairs.append(tested.assign(threat=threat, **ends)[list(PAIRS)])
    table = pd.concat([each for each in lines if len(each)] or lines, ignore_index=True)
    extra = [name for name in pairs_of_metrics(list(map(str, table))) if name not in COLUMNS]
    found = [name for name in FOUND if name in table]
    return Ranking(
        table.reindex(columns=["data", "threat", *COLUMNS, *found, *extra]),  # what no entry has is empty
        pd.concat([each for each in pairs if len(each)] or pairs, ignore_index=True),
        known,
    )


def main_columns(lines: pd.DataFrame) -> list[str]:
    """What of a table fits onto a page: its main columns, and the scores of metrics that were asked for."""
    return ["data", "threat", *short_columns(lines), "bound", *contributed(lines)]


def short_columns(lines: pd.DataFrame) -> list[str]:
    """:data:`SHORT`, and behind the score the best known one where any line has it."""
    if "best_known" not in lines or lines["best_known"].isna().all():
        return SHORT
    after = SHORT.index("score") + 1
    return [*SHORT[:after], "best_known", "found_by", *SHORT[after:]]


def _difference(stands: Mapping[str, Standing]) -> ranks.Difference:
    return lambda one, other: stands[one].premium - stands[other].premium


def _empty(columns: Iterable[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=["data", *dict.fromkeys(["threat", *columns])])


def _lines(
    board: Board,
    threat: str,
    entries: Iterable[Entry],
    stands: Mapping[str, Standing],
    places: pd.DataFrame,
    known: Mapping[str, Mapping[str, Known]],
) -> pd.DataFrame:
    """Of one threat: the ranked entries by rank, then lower bounds by score."""
    lines = [
        {
            "data": board.data,
            "threat": threat,
            "entry": entry.name,
            **stands[entry.name].line,
            "kind": entry.kind,
            "measured_by": entry.measured_by,
            "disputed": len(entry.disputed),
            "warnings": sum(bool(cell.warnings) for cell in entry.cells),
            **(found.line if (found := known.get(entry.name, {}).get(threat)) and found.breaks else {}),
        }
        for entry in entries
    ]
    table = pd.DataFrame(lines).join(places.astype("Int64"), on="entry")
    return table.sort_values(["bound", "score", "entry"], ignore_index=True)
