"""A board takes no codec that nobody else can build, and none that makes no bytes."""

from __future__ import annotations

from pathlib import Path

import robustcodec
from robustcodec.boards import submission
from robustcodec.boards.founding import found
from robustcodec.brought import objects
from robustcodec.execution.runner import Runner
from robustcodec.running.store import Store

TABLE = {
    "title": "Small",
    "about": "For tests.",
    "data": {"name": "photos:size=48", "limit": 1, "pictures": False},
    "ranking": {"threat": "psnr:36", "anchor": ["webp:quality={0,60}"]},
    "protocol": [{"of": "bare", "attack": ["noise"], "threat": ["psnr:36"]}],
}


def test_both_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "dim.py").write_text(
        "import torch\n\nclass Dim(torch.nn.Module):\n    def forward(self, x):\n        return 0.5 * x\n"
    )
    board = found(TABLE, tmp_path / "board")
    in_file = f"{tmp_path / 'dim.py'}:Dim"
    names = [in_file, objects.named("codecs", robustcodec.load(in_file))]
    store = Store(tmp_path / "run")
    grid = board.grid([(name, "none") for name in names])
    store.put_grid(grid)
    assert not Runner(store).run(grid.cells()).errors
    refusals = [submission.entry(store, board, name, "none", "A. Person", "2026-01-02") for name in names]
    said = [" ".join(refusal.reasons) for refusal in refusals if isinstance(refusal, submission.Refusal)]
    assert len(said) == 2 and "it makes no bytes" in said[0] and "was an object in Python" in said[1]
