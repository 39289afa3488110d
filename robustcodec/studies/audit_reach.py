"""How much of the loss that longer and changed attacks find a run had found: the quality of what attacked it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

import pandas as pd

from robustcodec.files import write_whole
from robustcodec.reporting.text import to_csv
from robustcodec.running.grid import Cell
from robustcodec.running.store import Row, Store
from robustcodec.scores.robustness import FAILED_PSNR
from robustcodec.studies.audit import Plan

FILE = "reach.csv"
Key = tuple[str, str, str, str]
COLUMNS = ["data", "threat", "codec", "defense", "samples", "loss", "audited_loss", "ratio"]


def reach(store: Store, plan: Plan) -> pd.DataFrame:
    """By data, threat, codec and defense, over the audited samples: the mean of PSNR − PSNR under each sample's worst
    attack in dB, ``loss`` for the attacks of the run and ``audited_loss`` for those and all of the audit, and the
    ``ratio`` of the second to the first. It is kept as ``audit/reach.csv``. An attack that failed is left out.
    """
    clean: dict[Key, dict[str, float]] = defaultdict(dict)
    of_run: dict[Key, dict[str, float]] = defaultdict(dict)
    for cell, wanted in plan.samples.items():
        for row in _rows(store, cell, wanted):
            clean[_key(cell)][row["sample"]] = row["psnr"]
            _keep_worst(of_run[_key(cell)], row)
    audits = Store(store.audits)
    of_both = {key: dict(worst) for key, worst in of_run.items()}
    for each in plan.challenges:
        for row in _rows(audits, each.cell, plan.samples[each.audited]):
            _keep_worst(of_both[_key(each.audited)], row)
    lines = []
    for key, psnr in clean.items():
        loss, audited = (sum(psnr[s] - worst[key][s] for s in psnr) / len(psnr) for worst in (of_run, of_both))
        lines.append((*key, len(psnr), loss, audited, audited / loss if loss > 0 else float("nan")))
    table = pd.DataFrame(lines, columns=COLUMNS)
    write_whole(store.audits / FILE, to_csv(table, "%.6g").encode())
    return table


def _key(cell: Cell) -> Key:
    return cell.data, cell.threat, cell.codec, cell.defense


def _rows(store: Store, cell: Cell, wanted: Collection[str]) -> list[Row]:
    result = store.result(cell.id)
    return [row for row in result.rows if row["sample"] in wanted] if result is not None else []


def _keep_worst(worst: dict[str, float], row: Row) -> None:
    attacked = FAILED_PSNR if row["decode_failed"] else float(row["adv_psnr"])
    worst[row["sample"]] = min(worst.get(row["sample"], float("inf")), attacked)
