"""A board: what must be measured, on which data, and what ranks. The file ``board.toml`` in a folder of its own::

    title = "…"
    about = "…"

    [data]
    name = "kodak:crop=64"            # as in a grid
    limit = 0                         # of its samples; 0: all
    pictures = false                  # may its pictures be published?

    [ranking]
    threat = "psnr:40"                # the input PSNR at which entries are ranked
    anchor = ["jpeg:quality={10,50,90}"]
    main = true                       # the page of several boards opens on it; one at most says so

    [[protocol]]                      # a block of a grid without codec and defense
    of = "bare"                       # or "defended", "transform", "no-gradient": which codecs it is for
    suite = ["robustcodec-standard.v1"]
    threat = ["psnr:40"]

    [[contenders]]                    # what `leaderboard measure` measures; braces sweep
    codec = ["jpeg:quality={20,50}"]
    defense = ["none"]                # that is, bare; as where none is given

    [samples]                         # written by `leaderboard init`: sha256 of each sample
    kodim01 = "…"

``anchor.csv`` beside it holds the anchor's clean points, ``results/`` the entries, ``breaks/`` what others found of
them. ``reach.csv``, if it is there, tells how strong the board's attacks are: ``robustcodec audit`` wrote it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from robustcodec.boards import untrusted
from robustcodec.boards.score import Anchor
from robustcodec.coding import defended
from robustcodec.errors import BadData, BoardError
from robustcodec.files import dump_toml
from robustcodec.interfaces import Access
from robustcodec.running.grid import Cell, Grid
from robustcodec.sealed import shapes
from robustcodec.spec import expand

Kind = Literal["bare", "defended", "transform", "no-gradient"]
FILE, ANCHOR, REACH, RESULTS, BREAKS = "board.toml", "anchor.csv", "reach.csv", "results", "breaks"
_SHAPE = {
    "title": str,
    "about": str,
    "data": {"name": str, "limit?": int, "pictures": bool},
    "ranking": {"threat": str, "anchor": [str], "main?": bool},
    "protocol": [{"of": re.compile("|".join(get_args(Kind))), str: object}],
    "contenders?": [{"codec": [str], "defense?": [str]}],
    "samples?": {str: re.compile("[0-9a-f]{64}")},
}


@dataclass(frozen=True)
class Board:
    """What ``folder/board.toml`` says. ``protocol``: blocks of a grid by the kind of codec; ``contenders``:
    codecs and defenses that whoever keeps it has measured; ``samples``: sha256.
    """

    folder: Path
    title: str
    about: str
    data: str
    limit: int
    pictures: bool
    threat: str
    anchor: tuple[str, ...]
    protocol: Mapping[Kind, tuple[dict[str, Any], ...]]
    contenders: tuple[dict[str, list[str]], ...]
    samples: Mapping[str, str]
    main: bool = False

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.resolve().name

    @property
    def objectives(self) -> set[str]:
        """What its attacks on bare codecs aim at, or on others if it takes no bare ones."""
        kind = next(kind for kind in get_args(Kind) if self.protocol[kind])
        return {cell.objective for cell in self.cells("codec", "none", kind) if cell.threat == self.threat}

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Raises :class:`BoardError` for a folder without a board, or a board that is none."""
        return cls.parse(read_table(folder), folder)

    @classmethod
    def parse(cls, table: dict[str, Any], folder: Path) -> Board:
        """A board from a parsed ``board.toml``; raises :class:`BoardError`."""
        where = folder / FILE
        try:
            untrusted.plain(table)
            shapes.check(table, _SHAPE)
        except ValueError as error:
            raise BoardError(f"{where} is not a leaderboard: {error}; mend it there") from None
        data, ranking = table["data"], table["ranking"]
        if (limit := data.get("limit", 0)) < 0:
            raise BoardError(f"{where}: data.limit is {limit}, expected a number of samples, or 0 for all")
        blocks: dict[Kind, list[dict[str, Any]]] = {kind: [] for kind in get_args(Kind)}
        for block in table["protocol"]:
            rest = {k: v for k, v in block.items() if k != "of"}
            if unknown := set(rest) & {"codec", "defense", "data", "limit"}:
                named = " or ".join(sorted(unknown))
                raise BoardError(f"{where}: a protocol names no {named}; entries and [data] bring those")
            blocks[block["of"]].append(rest)
        board = cls(
            folder, table["title"], table["about"].strip(), data["name"], limit, data["pictures"],
            ranking["threat"], tuple(ranking["anchor"]),
            {kind: tuple(protocol) for kind, protocol in blocks.items()}, tuple(table.get("contenders", ())),
            table.get("samples", {}), ranking.get("main", False),
        )  # fmt: skip
        for kind, protocol in blocks.items():
            if protocol and board.threat not in {c.threat for c in board.cells("codec", "none", kind)}:
                raise BoardError(f"{where}: the protocol of {kind} never attacks at {board.threat}, which ranks")
        return board

    def to_toml(self) -> str:
        """As a file that :meth:`read` reads back."""
        head = dump_toml({"title": self.title, "about": self.about})
        data = {"name": self.data, "limit": self.limit, "pictures": self.pictures}
        ranking = {"threat": self.threat, "anchor": list(self.anchor), "main": self.main or None}
        blocks = [("protocol", {"of": kind, **block}) for kind, of in self.protocol.items() for block in of]
        blocks += [("contenders", block) for block in self.contenders]
        parts = [f"\n[data]\n{dump_toml(data)}", f"\n[ranking]\n{dump_toml(ranking)}"]
        parts += [f"\n[[{name}]]\n{dump_toml(block)}" for name, block in blocks]
        return head + "".join(parts) + f"\n[samples]\n{dump_toml(dict(self.samples))}"

    def cells(self, codec: str, defense: str, kind: Kind) -> list[Cell]:
        """What an entry of this codec and defense has to have measured, in a fixed order.

        Raises :class:`BoardError` for a kind of codec that the board has no protocol for.
        """
        return self._grid([(codec, defense, kind)]).cells()

    def named(self) -> list[tuple[str, str]]:
        """The codecs and defenses of its :attr:`contenders`."""
        return [
            (codec, defense)
            for block in self.contenders
            for codec in chain.from_iterable(map(expand, block["codec"]))
            for defense in chain.from_iterable(map(expand, block.get("defense", ["none"])))
        ]

    def kind_of(self, codec: str, defense: str) -> Kind:
        """Which protocol a codec behind a defense has to meet; raises :class:`UserError` if either cannot be built."""
        return self.kind_by(access_to(codec, defense), defense)

    def kind_by(self, access: Access, defense: str) -> Kind:
        """Which protocol is for what lets an attacker see so much: where there is none for codecs that state their
        transform, they are of those without a gradient.
        """
        if access == "white":
            return "bare" if defense == "none" else "defended"
        return "transform" if access == "transform" and self.protocol["transform"] else "no-gradient"

    def grid(self, candidates: Iterable[tuple[str, str]]) -> Grid:
        """What to run for these codecs and defenses.

        Raises :class:`BoardError` as :meth:`cells`, :class:`UserError` for a codec or defense that cannot be built.
        """
        return self._grid([(codec, defense, self.kind_of(codec, defense)) for codec, defense in candidates])

    def _grid(self, candidates: Iterable[tuple[str, str, Kind]]) -> Grid:
        blocks = []
        for codec, defense, kind in candidates:
            if not self.protocol[kind]:
                taken = " and ".join(k for k, blocks in self.protocol.items() if blocks)
                raise BoardError(f"{self.name} has no protocol for {kind} codecs such as {codec}; it takes {taken}")
            fixed = {"codec": [codec], "defense": [defense], "data": [self.data], "limit": self.limit}
            blocks += [{**block, **fixed} for block in self.protocol[kind]]
        return Grid.parse({"name": self.name, "block": blocks}, self.name, str(self.folder / FILE))

    @cached_property
    def points(self) -> pd.DataFrame:
        """The anchor's clean points: ``codec``, ``sample``, ``bpp``, ``psnr``; raises :class:`BoardError` for none."""
        path = self.folder / ANCHOR
        try:
            points = pd.read_csv(StringIO(path.read_text(encoding="utf-8")), dtype={"codec": str, "sample": str})
            points = points.astype({"bpp": float, "psnr": float})[["codec", "sample", "bpp", "psnr"]]
            if (
                points.isna().any(axis=None)
                or not (np.isfinite(points["psnr"]) & points["bpp"].between(0, 1e6, "neither")).all()
            ):
                raise ValueError("a point has no name, no finite PSNR or no positive rate")
            if points.duplicated(["codec", "sample"]).any():
                raise ValueError("a sample of a codec is there twice")
            Anchor.on(points, list(self.samples))
            return points
        except (OSError, ValueError, KeyError, BadData) as error:
            raise BoardError(
                f"{path} does not hold the anchor's points ({error}); make it again: "
                f"robustcodec leaderboard init {self.folder}"
            ) from None

    @cached_property
    def reach(self) -> pd.DataFrame | None:
        """What :func:`robustcodec.studies.audit_reach.reach` found of the board's attacks, if it was measured; raises
        :class:`BoardError` for a file that does not hold it.
        """
        path = self.folder / REACH
        if not path.is_file():
            return None
        try:
            table = pd.read_csv(path, dtype=dict.fromkeys(("threat", "codec", "defense"), str))
            table = table.astype({"samples": int, "loss": float, "ratio": float})
            if table.empty or not (
                np.isfinite(table[["loss", "ratio"]]).all(axis=None) and (table["ratio"] >= 1).all()
            ):
                raise ValueError("a loss or a ratio is no number, or a ratio is below 1")
            return table
        except (OSError, ValueError, KeyError) as error:
            raise BoardError(
                f"{path} does not say how strong the attacks are ({error}); copy it again from RUN/audit/{REACH}"
            ) from None

    def entries(self) -> list[Path]:
        """The files of its entries, by name."""
        return sorted((self.folder / RESULTS).glob("*.json"))

    @property
    def files(self) -> list[Path]:
        """Both: what can be measured again."""
        return [*self.entries(), *self.breaks()]

    def breaks(self) -> list[Path]:
        """The files of what was found of its entries, by name."""
        return sorted((self.folder / BREAKS).glob("*.json"))


def read_table(folder: Path) -> dict[str, Any]:
    """``folder/board.toml``, parsed; raises :class:`BoardError` for a folder without one, or a file that is no TOML."""
    path = folder / FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise BoardError(
            f"{folder} is not a leaderboard (no {FILE}); give the folder of one, or make it: "
            f"robustcodec leaderboard init {folder} --data photos --suite robustcodec-quick --threat psnr:40"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BoardError(f"{path} is not TOML ({error}); mend it there") from None


def access_to(codec: str, defense: str) -> Access:
    """What a codec behind a defense lets an attacker see; raises :class:`UserError` if either cannot be built."""
    built = defended(codec, defense)
    if built.differentiable:
        return "white"
    return "black" if built.transform is None else "transform"


def boards_below(folder: Path) -> list[Board]:
    """The board in ``folder``, or all boards in folders of it; raises :class:`BoardError` for none."""
    if (folder / FILE).is_file():
        return [Board.read(folder)]
    boards = [Board.read(path.parent) for path in sorted(folder.glob(f"*/{FILE}"))]
    if not boards:
        raise BoardError(f"{folder} holds no leaderboard; expected {FILE} in it or in folders of it")
    return boards


def main_first(boards: Sequence[Board]) -> list[Board]:
    """``boards`` with the main one first, then by name: the one that says so, else the one with most entries.

    Raises :class:`BoardError` if several say so.
    """
    named = [board for board in boards if board.main]
    if len(named) > 1:
        files = " and ".join(str(board.folder / FILE) for board in named)
        raise BoardError(f"{files} each say main = true; expected it of one at most: drop the others")
    first = named[0] if named else max(sorted(boards, key=lambda b: b.name), key=lambda b: len(b.entries()))
    return [first, *sorted((board for board in boards if board is not first), key=lambda b: b.name)]
