"""Making a board: checksums of its data, and the anchor's clean points from real bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from robustcodec import registry
from robustcodec.boards.board import ANCHOR, FILE, Board, Kind
from robustcodec.boards.entry import rounded
from robustcodec.clips import as_batch, fingerprint
from robustcodec.coding import code, judged
from robustcodec.errors import BoardError
from robustcodec.files import write_whole
from robustcodec.interfaces import Sample
from robustcodec.scores import rate
from robustcodec.spec import expand


def protocol(
    suites: Iterable[str],
    transform: Iterable[str],
    queries: Iterable[str],
    threats: Iterable[str],
    surrogate: str,
    precision: str,
) -> list[dict[str, Any]]:
    """The usual one: ``suites`` on bare codecs; on defended ones also through the defense; ``transform`` on codecs
    that state theirs; and on others without a gradient ``queries`` and what the suites craft on ``surrogate``.
    """
    common = {"threat": list(threats), "precision": [precision]}
    return [
        {"of": "bare", "suite": list(suites), **common},
        {"of": "defended", "suite": list(suites), "access": ["oblivious", "adaptive"], **common},
        {"of": "transform", "suite": list(transform), **common},
        {"of": "no-gradient", "suite": list(queries), **common},
        {"of": "no-gradient", "suite": list(suites), "access": [f"transfer:{surrogate}"], **common},
    ]


def samples_of(data: str, limit: int) -> list[Sample]:
    """The first ``limit`` samples of a data set, 0 for all."""
    samples = registry.data.build(data).samples()
    return samples[:limit] if limit else samples


def found(table: dict[str, Any], folder: Path, watch: Callable[[str], None] = lambda note: None) -> Board:
    """Write ``folder/board.toml`` from a parsed one, with the checksums of its samples, and the anchor's points.

    Raises :class:`BoardError` for a table that is no board, or other samples than a board with entries had.
    """
    draft = Board.parse(table, folder)
    samples = samples_of(draft.data, draft.limit)
    checksums = {sample.id: fingerprint(sample) for sample in samples}
    if (folder / FILE).is_file() and (old := Board.read(folder)).entries() and dict(old.samples) != checksums:
        raise BoardError(f"{folder} has entries on other samples than {draft.data} has now; make a new board for these")
    for kind, blocks in draft.protocol.items():
        if blocks:
            _buildable(draft, kind)
    points = _points(draft, samples, watch)
    board = Board.parse({**table, "samples": checksums}, folder)
    write_whole(folder / ANCHOR, points.to_csv(index=False, lineterminator="\n").encode())
    write_whole(folder / FILE, board.to_toml().encode())
    return board


def _buildable(board: Board, kind: Kind) -> None:
    """Raises :class:`UserError` for an attack, objective or threat that is not known."""
    for cell in board.cells("codec", "none", kind):
        registry.attacks.build(cell.attack)
        registry.objectives.build(cell.objective)
        registry.threats.build(cell.threat)


def _points(board: Board, samples: list[Sample], watch: Callable[[str], None]) -> pd.DataFrame:
    """The anchor on every sample, from real bytes: ``codec``, ``sample``, ``bpp``, ``psnr``."""
    psnr = registry.metrics.build("psnr").fn
    lines = []
    for codec in (each for name in board.anchor for each in expand(name)):
        built = judged(codec)
        for sample in samples:
            watch(f"{codec}, {sample.id}")
            clip = sample.load()
            coded = code(built, clip)
            quality = psnr(as_batch(clip), as_batch(coded.decoded())).item()
            lines.append((codec, sample.id, rounded(rate.bpp(coded.bits, clip.shape)), rounded(quality)))
    return pd.DataFrame(lines, columns=["codec", "sample", "bpp", "psnr"])
