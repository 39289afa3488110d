"""What others found about an entry: clips that hurt it more than the suite does. One JSON file in ``breaks/``, beside
the entry's own, which no submission changes.

A :class:`Break` is one clip of one sample under one threat. Its numbers were measured by whoever took it onto the
board, from real bytes; its submitter is believed in nothing but a name and a word on how it was found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from robustcodec.boards import untrusted
from robustcodec.boards.entry import Entry, file_of, name_of
from robustcodec.boards.signed import table_of, text_of
from robustcodec.errors import BoardError
from robustcodec.files import write_whole
from robustcodec.sealed import shapes

FORMAT = 1
NEEDED = ("adv_bpp", "input_psnr", "input_linf", "decode_failed")  # a number of every clip
LONGEST = 500  # signs of how it was found
_HASH, _DATE = re.compile("[0-9a-f]{64}"), re.compile(r"\d{4}-\d\d-\d\d")
_SHAPE = {
    "format": int,
    "board": str,
    "codec": str,
    "defense": str,
    "identity": {"codec": {"name": str, str: object}, "defense": {"name": str, str: object}},
    "breaks": [
        {
            "sample": str, "threat": str, "by": str, "date": _DATE, "how": str, "adversarial": _HASH, "shape": [int],
            "change": re.compile("[A-Za-z0-9+/]+=*"), "scores": {str: (float, None)},
        }
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Break:
    """``adversarial``: :func:`robustcodec.clips.checksum` of the clip; ``shape``: T, 3, H, W; ``change``: of the
    sample, as :mod:`robustcodec.boards.change` has it; ``scores``: as an entry has them of an attacked sample.
    """

    sample: str
    threat: str
    by: str
    date: str
    how: str
    adversarial: str
    shape: tuple[int, ...]
    change: str
    scores: Mapping[str, float | None]

    @property
    def place(self) -> tuple[str, str]:
        """Threat and sample, of which a file has one clip each."""
        return self.threat, self.sample


@dataclass(frozen=True)
class Breaks:
    """Of one entry of a board. ``identity``: of the codec and the defense that they were measured on."""

    board: str
    codec: str
    defense: str
    identity: Mapping[str, Any]
    breaks: tuple[Break, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """That of the entry."""
        return name_of(self.codec, self.defense)

    @property
    def file(self) -> str:
        """The name of its file, which is the entry's too."""
        return file_of(self.codec, self.defense)

    @classmethod
    def none(cls, entry: Entry) -> Breaks:
        """Of an entry about which nobody found anything yet."""
        return cls(entry.board, entry.codec, entry.defense, {k: entry.identity[k] for k in ("codec", "defense")})

    @classmethod
    def read(cls, path: Path) -> Breaks:
        """Raises :class:`BoardError`, which names the file, for one that is no such file, or was changed by hand."""
        try:
            table = table_of(path, (FORMAT,), "take it from where it was made, or submit its clips again")
            shapes.check(table, _SHAPE)
            breaks = tuple(Break(**{**each, "shape": tuple(each["shape"])}) for each in table["breaks"])
            for each in breaks:
                _check(each)
            if not breaks:
                raise ValueError("it holds no clip")
            if len({each.place for each in breaks}) < len(breaks):
                raise ValueError("two of its clips are of the same sample and threat")
        except ValueError as error:
            raise BoardError(f"{path} is no file of leaderboard break: {error}; leaderboard break makes them") from None
        return cls(**{**{key: value for key, value in table.items() if key != "format"}, "breaks": breaks})

    def write(self, folder: Path) -> Path:
        """Into ``folder``; without a clip there is no file."""
        path = folder / self.file
        if self.breaks:
            write_whole(path, text_of({"format": FORMAT, **asdict(self)}).encode())
        else:
            path.unlink(missing_ok=True)
        return path

    def holding(self, breaks: tuple[Break, ...]) -> Breaks:
        """The same with other clips, by threat and sample."""
        return replace(self, breaks=tuple(sorted(breaks, key=lambda each: each.place)))


def signature(by: str, how: str) -> None:
    """Raises :class:`BoardError` for a name, or a word on how, that a board cannot show."""
    for what, text in (("--by", by), ("--how", how)):
        try:
            untrusted.plain(text)
        except ValueError as error:
            raise BoardError(f"{what}: {error}; expected plain text") from None
        if not text.strip() or len(text) > LONGEST:
            raise BoardError(f"{what} has {len(text)} signs; expected a text of 1 to {LONGEST}")


def _check(each: Break) -> None:
    scores, where = each.scores, f"{each.sample!r} at {each.threat}"
    if empty := [name for name in NEEDED if scores.get(name) is None]:
        raise ValueError(f"{where} has no {', '.join(empty)}")
    if scores["decode_failed"] not in (0, 1):
        raise ValueError(f"{where} has a decode_failed of {scores['decode_failed']}, expected 0 or 1")
    shown = scores.get("adv_psnr")
    if shown is None and scores["decode_failed"] != 1:
        raise ValueError(f"{where} was decoded and has no adv_psnr")
    if (scores["adv_bpp"] or 0) <= 0 or (shown or 0) < 0:
        raise ValueError(f"{where} has a PSNR below 0 dB or a rate of nothing")
