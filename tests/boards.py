"""A leaderboard made by hand, in a moment: two samples that nobody has, one entry of one cell, which is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from robustcodec.boards.board import Board
from robustcodec.boards.breaks import Break, Breaks
from robustcodec.boards.change import packed
from robustcodec.boards.entry import Entry, Measured, Table
from robustcodec.boards.signed import digest
from robustcodec.clips import checksum
from robustcodec.running.resolved import CELL_VERSION, identity_of

NAMES = {"codec": "jpeg:quality=20", "defense": "none", "data": "photos:size=48"}
AXES = {
    "attack": "noise",
    "objective": "distortion",
    "threat": "psnr:36",
    "access": "oblivious",
    "precision": "float32",
}
BOARD = """title = "Small"
about = "For tests."
[data]
name = "photos:size=48"
limit = 2
pictures = true
[ranking]
threat = "psnr:36"
anchor = ["webp:quality={0,60}"]
[[protocol]]
of = "no-gradient"
attack = ["noise"]
threat = ["psnr:36"]
[[protocol]]
of = "bare"
attack = ["noise"]
threat = ["psnr:36"]
[samples]
"""
CLEAN = {"bpp": 1.5, "bpp_est": 1.5, "psnr": 30.0, "ms_ssim": 0.9}
ATTACKED = {"adv_bpp": 1.75, "adv_bpp_est": 1.75, "adv_psnr": 28.0, "input_psnr": 36.25, "input_linf": 0.1}
COUNTED = {"decode_failed": 0.0, "broken": 0.0, "queries": 1.0, "vi_db": 1.0, "damage": 0.01}


def board(folder: Path) -> Board:
    """A board in ``folder`` (data and anchor are made up), with nothing on it."""
    folder.mkdir(parents=True)
    samples = {"one": "1" * 64, "two": "2" * 64}
    (folder / "board.toml").write_text(BOARD + "".join(f'{k} = "{v}"\n' for k, v in samples.items()))
    points = [(codec, s, *at) for codec, at in (("0", (0.5, 25.0)), ("60", (2.0, 35.0))) for s in samples]
    lines = [f"webp:quality={codec},{s},{bpp},{psnr}\n" for codec, s, bpp, psnr in points]
    (folder / "anchor.csv").write_text("codec,sample,bpp,psnr\n" + "".join(lines))
    return Board.read(folder)


def entry(on: Board) -> Entry:
    """Of :data:`NAMES`, with every kind of thing that an entry can hold."""
    shared = {"version": CELL_VERSION, "seed": 0, **{kind: identity_of(kind, text) for kind, text in NAMES.items()}}
    own = {kind: identity_of(kind, AXES[kind]) for kind in ("attack", "objective", "threat")} | {"access": "oblivious"}
    samples = [list(sample) for sample in on.samples.items()]
    table = Table(tuple(ATTACKED), COUNTED, {name: (*ATTACKED.values(),) for name in on.samples})
    clean = Table(tuple(CLEAN), {}, {name: (*CLEAN.values(),) for name in on.samples})
    curves: dict[str, dict[str, list[float | None]]] = {"one": {"psnr": [30.0, 30.0], "adv_psnr": [28.0, None]}}
    picture = {"attack": "noise, distortion", "original": ["data:image/webp;base64,AAAA"]}
    cell = Measured(digest({**shared, **own, "samples": samples})[:16], AXES, own, ("weak",), 1.0, table, curves)
    return Entry(
        on.name, NAMES["codec"], NAMES["defense"], "no-gradient", "A. Person", "2026-01-02", "robustcodec run", 0,
        {"torch": "2"}, ({"name": "a", "passed": True, "measured": "0", "expected": "0"},), shared, clean, (cell,),
        pictures={"one": picture},
    )  # fmt: skip


def found(on: Board) -> Breaks:
    """What somebody found of :func:`entry`: one clip that leaves 3 dB less of the first sample."""
    original = torch.full((1, 3, 48, 48), 100, dtype=torch.uint8)
    adversarial = original + (torch.arange(original.numel()) % 4).reshape(original.shape).to(torch.uint8)  # by 0 … 3
    scores = {**ATTACKED, "input_psnr": 42.6901, "input_linf": 3.0, "adv_psnr": 25.0, "decode_failed": 0.0}  # MSE 3.5
    clip = Break(
        "one", AXES["threat"], "B. Person", "2026-03-04", "by hand", checksum(adversarial), (1, 3, 48, 48),
        packed(adversarial, original), scores,
    )  # fmt: skip
    return Breaks.none(entry(on)).holding((clip,))


def signed(table: dict[str, Any]) -> str:
    """A file of an entry with the checksum that fits its content: what a careful cheat would write."""
    rest = {key: value for key, value in table.items() if key != "sha256"}
    return json.dumps({**rest, "sha256": digest(rest)})


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value in parsed JSON, in lists to the first one alone."""
    if at:
        yield at
    inside = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else []
    )
    for key, each in inside:
        yield from places(each, (*at, key))


def changed(table: Any, at: tuple[str | int, ...], value: Any) -> Any:
    """A copy of parsed JSON with another value in one place; Ellipsis: without it."""
    copy = json.loads(json.dumps(table))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return copy
