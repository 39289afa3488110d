"""``robustcodec quickstart``: the whole story on a photo of the user's own."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli.report import Ending

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from robustcodec.page.publishing import Publication
    from robustcodec.studies.headlines import Headlines

PICTURE = "before-and-after.png"


def command(
    file: Annotated[Path, typer.Argument(help="A photo: PNG, JPEG, WebP …")],
    codec: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Codec to attack in place of the bundled ones; repeatable."),
    ] = None,
    budget: Annotated[
        str, typer.Option(help="36dB (PSNR of the attacked photo), 8/255 (largest change) or any threat.")
    ] = "36dB",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Run folder. Default: quickstart/NAME, and -CODEC with --codec."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, envvar="ROBUSTCODEC_WORKERS", help="Processes, as of robustcodec run."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the leaderboard as JSON, and nothing else.")] = False,
) -> None:
    """Attack bundled codecs on a photo of your own, and show what happens, in under a minute.

    Three learned codecs and JPEG meet one strong attack each, one of them also behind a defense. A large photo is made
    smaller first. What comes out is a run folder like that of robustcodec run: the same command resumes it.

    Examples:

        robustcodec quickstart photo.jpg

        robustcodec quickstart photo.jpg --budget 40dB

        robustcodec quickstart photo.jpg --codec ./my_codec.py:MyCodec --codec mbt2018-mean.tiny-q2 --out mine
    """
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._display import report_console

    console = report_console(stderr=json)
    with console.status("loading codecs and the photo …"):
        from robustcodec.cli._display import choose_device, plan_of
        from robustcodec.cli.run import measure
        from robustcodec.execution.executors import Workforce
        from robustcodec.execution.worker import Setting
        from robustcodec.running.naming import readable
        from robustcodec.running.store import Store
        from robustcodec.studies import own_photo
        from robustcodec.studies.attack import threat_of

        threat, where = threat_of(budget), choose_device(device)
        folder = out or Path("quickstart") / "-".join([file.stem, *([readable("-".join(codec))] if codec else [])])
        photo = own_photo.prepare(file, folder)
        grid = own_photo.grid(photo.path, codec or (), threat)
        cells = grid.check()
        store = Store(folder)
        store.put_grid(grid)
    for line in filter(None, (photo.note, plan_of(cells))):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"run folder: {folder}", style="dim", highlight=False, soft_wrap=True)
    workforce = Workforce((where,), workers)
    measure(cells, store, workforce, Setting((), 1), console, json, ending=_Story(own_photo.CLASSICAL in (codec or ())))
    own = f"robustcodec quickstart {quote(str(file))} --codec ./my_codec.py:MyCodec"
    strong = f"robustcodec run --codec {quote((codec or own_photo.CODECS)[0])} --suite robustcodec-standard"
    next_ones = {
        **({} if codec else {own: "your own model (docs/howto/your-codec.md)"}),
        f"{strong} --data folder:PHOTOS,crop=256": "every strong attack, on a folder of photos",
        "robustcodec run": "all that is bundled, ranked",
    }
    console.print("What next:")
    for typed, what in next_ones.items():
        console.print(f"  {typed}\n      {what}", highlight=False, soft_wrap=True)


class _Story(Ending):
    """A short table, and the picture of the codec that lost most, of those that were asked for, bare. ``classical``:
    whether the classical one was asked for.
    """

    def __init__(self, classical: bool) -> None:
        self.classical = classical

    def table(self, board: pd.DataFrame) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        from robustcodec.reporting.tables import kinds_of_warnings, label_of
        from robustcodec.reporting.text import bounded, shown

        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("codec + defense", overflow="fold")
        for head in ("PSNR (dB)", "attacked", "loss", "bytes ×", "amplified (dB)"):
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("!", justify="right", no_wrap=True)
        for line in bounded(board).to_dict("records"):
            scores = (shown(line[score]) for score in ("psnr", "robust_psnr", "drop", "rate_ratio", "vi_db"))
            table.add_row(
                Text(label_of(line["codec"], line["defense"], line["access"])), *scores, kinds_of_warnings(line)
            )
        table.caption, table.caption_justify = "!: kinds of warnings, see leaderboard.md", "left"
        return table

    def picture(self, publication: Publication, board: pd.DataFrame, told: Headlines) -> Path | None:
        """Drawn anew: it takes a moment. None if all that was asked for failed."""
        from robustcodec.studies import before_and_after
        from robustcodec.studies.headlines import worst_cell
        from robustcodec.studies.own_photo import CLASSICAL

        rows = publication.rows
        bare = [frame[frame["defense"] == "none"] for frame in (board, rows)]
        asked = bare if self.classical else [frame[frame["codec"] != CLASSICAL] for frame in bare]
        if (cell := worst_cell(*asked)) is None:
            return None
        (row,) = rows[rows["cell"] == cell].to_dict("records")  # one photo
        (clips,) = publication.store.decoded(cell).values()
        return before_and_after.draw(clips, row["codec"], row, publication.store.root / PICTURE)
