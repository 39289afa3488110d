"""``robustcodec leaderboard``: make boards, add entries, check and verify them, unite and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._document import apart, say
from robustcodec.cli._leaderboard_break import submit
from robustcodec.cli._leaderboard_measure import enter, measure_all
from robustcodec.cli._tables import build_tables
from robustcodec.errors import counted

if TYPE_CHECKING:
    from robustcodec.boards.verification import Verdict

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Publish results that others can check: boards are folders with a board.toml and one file per entry.\n\n"
    "Start with `robustcodec run --board leaderboards/photos-quick --codec MINE`, then `leaderboard add`.",
)
Boards = Annotated[Path, typer.Argument(help="A board, or a folder of boards.")]
Many = Optional[list[str]]  # noqa: UP045 - typer reads it at run time


@app.command()
def init(
    board: Annotated[Path, typer.Argument(help="Folder of the board.")],
    data: Annotated[Optional[str], typer.Option(help="Data set, such as kodak:crop=64.")] = None,  # noqa: UP045
    suite: Annotated[Many, typer.Option(help="Attacks with their objectives; versions are fixed.")] = None,
    threat: Annotated[Many, typer.Option(help="Budget; the first one ranks.")] = None,
    anchor: Annotated[Many, typer.Option(help="Codecs of the common anchor; braces sweep.")] = None,
    queries: Annotated[Many, typer.Option(help="Suite for codecs without a gradient.")] = None,
    surrogate: Annotated[
        str, typer.Option(help="Codec on which attacks against those are crafted.")
    ] = "bmshj2018-hyperprior.tiny-q2",
    precision: Annotated[str, typer.Option(help="Of gradients: float32 or bfloat16.")] = "float32",
    limit: Annotated[int, typer.Option(min=0, help="Samples of the data set; 0 for all.")] = 0,
    pictures: Annotated[bool, typer.Option(help="May pictures of the data be published?")] = False,
    title: Annotated[str, typer.Option(help="Title of the board.")] = "",
    about: Annotated[str, typer.Option(help="A paragraph on the board.")] = "",
) -> None:
    """Make a board: fixes data by checksums, suites by version, and measures the anchor.

    A folder that has a board.toml already is brought up to date with it: checksums and anchor are made again.

    Examples:

        robustcodec leaderboard init mine --data photos:size=96 --suite robustcodec-quick --threat psnr:40

        robustcodec leaderboard init leaderboards/kodak-rate
    """
    from robustcodec.boards import founding
    from robustcodec.boards.board import FILE, read_table
    from robustcodec.cli._console import Console
    from robustcodec.errors import BoardError
    from robustcodec.running import suites

    path = board / FILE
    if path.is_file() and data is None:
        table = read_table(board)
    elif path.is_file():
        raise BoardError(f"{path} is there already; change it by hand and run leaderboard init {board} without options")
    elif not data or not suite or not threat:
        raise BoardError(f"a new board needs --data, --suite and --threat; {path} is not there yet")
    else:
        named = (suite, ["robustcodec-transform"], queries or ["robustcodec-queries"])
        fixed, transform, asked = ([str(suites.find(s)) for s in names] for names in named)
        table = {
            "title": title or board.name,
            "about": about,
            "data": {"name": data, "limit": limit, "pictures": pictures},
            "ranking": {
                "threat": threat[0],
                "anchor": anchor or ["webp:quality={0,5,10,20,40,60,80,95}"],
            },
            "protocol": founding.protocol(fixed, transform, asked, threat, surrogate, precision),
        }
    console = Console()
    with console.status("measuring the anchor …") as status:
        new = founding.found(table, board, lambda note: status.update(f"anchor: {note}"))
    console.print(
        f"{path}: {counted(len(new.samples), 'sample')}; next: robustcodec run --board {board} --codec …",
        soft_wrap=True,
    )


@app.command()
def add(
    run: Annotated[Path, typer.Argument(help="Run folder of robustcodec run --board.")],
    board: Annotated[Path, typer.Argument(help="Folder of the board.")],
    by: Annotated[str, typer.Option(help="Who measured it: a name, with an address if you like.")],
    codec: Annotated[Many, typer.Option(help="Only these codecs of the run.")] = None,
    tables: Annotated[bool, typer.Option(help="Then make the tables and the page again.")] = True,
) -> None:
    """Make entries of a run: one file for each codec and defense. What does not match the board is refused, and why.

    The board's data must be here. Exit code 1 if something was refused.

    Example:

        robustcodec leaderboard add runs/photos-quick leaderboards/photos-quick --by "A. Person"
    """
    from robustcodec.cli._console import Console
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.boards import submission
    from robustcodec.boards.board import Board
    from robustcodec.errors import BoardError
    from robustcodec.running.store import Store

    console = Console()
    store, to = Store.existing(run), Board.read(board)
    submission.check_data(to)
    pairs = [pair for pair in submission.candidates(store, to) if not codec or pair[0] in codec]
    if not pairs:
        raise BoardError(f"{run} has no codec on {to.data}; run robustcodec run --board {board} --codec … first")
    refused = enter(store, to, pairs, by, console)
    if tables:
        build_tables(board)
    if refused:
        raise typer.Exit(1)


@app.command()
def build(boards: Boards = Path("leaderboards")) -> None:
    """Make every table and the page of boards again.

    Writes each board's README.md, index.html beside the boards (what git keeps: without plotting libraries) and
    site/index.html (the whole page, self-contained: open or upload it), and the tables between `<!-- leaderboard NAME
    -->` and `<!-- end -->` in README.md here and one folder up.

    Example:

        robustcodec leaderboard build leaderboards
    """
    if build_tables(boards):
        raise typer.Exit(1)


@app.command()
def check(boards: Boards = Path("leaderboards")) -> None:
    """Check that boards fit together: entries, scores, tables and page; exit code 1 if anything differs.

    Needs neither the data nor the codecs. Whether the numbers are true is what verify says.

    Example:

        robustcodec leaderboard check leaderboards
    """
    from robustcodec.boards import publication
    from robustcodec.cli._console import Console

    console = Console()
    with console.status("checking …"):
        faults = publication.check(boards)
    for fault in faults:
        console.print(fault, highlight=False, soft_wrap=True)
    console.print(f"{counted(len(faults), 'fault')}" if faults else f"{boards}: everything fits", style="bold")
    if faults:
        raise typer.Exit(1)


@app.command()
@apart
def verify(
    entries: Annotated[list[Path], typer.Argument(help="Files of entries, or boards.")],
    share: Annotated[float, typer.Option(help="Of each entry's samples to measure again.")] = 0.1,
    seed: Annotated[Optional[int], typer.Option(help="Draw the same samples again; default: others each time.")] = None,  # noqa: UP045
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "--output", "-o", help="Keep what is measured here, and resume from it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON, and nothing else.")] = False,
) -> None:
    """Measure a random part of entries again on this machine, every cell of it, and compare; likewise of breaks/.

    Exit code 1 if an entry does not come out as stated: other scores, other weights, other data.

    Examples:

        robustcodec leaderboard verify leaderboards/photos-quick/results/jpeg_quality=20.json

        robustcodec leaderboard verify leaderboards/photos-quick/breaks/jpeg_quality=20.json --share 1

        robustcodec leaderboard verify leaderboards/photos-quick --share 0.5 --seed 1
    """
    import tempfile
    from contextlib import ExitStack
    from dataclasses import asdict

    from robustcodec.cli._console import Console
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.boards import break_verification, verification
    from robustcodec.boards.board import BREAKS, RESULTS, Board
    from robustcodec.boards.breaks import Breaks
    from robustcodec.boards.entry import Entry

    console = Console(stderr=json)
    files = [file for path in entries for file in ([path] if path.is_file() else Board.read(path).files)]
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        root = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robustcodec-verify-")))
        for file in files:
            board, found = Board.read(file.resolve().parents[1]), file.resolve().parent.name == BREAKS
            breaks = Breaks.read(file) if found else None
            entry = Entry.read(board.folder / RESULTS / breaks.file if breaks else file)
            with console.status(f"{entry.name} …") as status:
                if breaks:
                    drawn = break_verification.draw(breaks, share, seed)
                    verdict = break_verification.verify(board, entry, breaks, drawn, status.update)
                else:
                    samples = verification.draw(entry, share, seed)
                    folder = verification.run_folder(root, entry, samples)
                    verdict = verification.verify(board, entry, samples, folder, status.update)
            verdicts.append(verdict)
            console.print(_in_words(verdict), highlight=False, soft_wrap=True)
    if json:
        say([asdict(verdict) for verdict in verdicts])
    if any(verdict.faults for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def merge(
    board: Annotated[Path, typer.Argument(help="Folder of the board.")],
    others: Annotated[list[Path], typer.Argument(help="Other copies of the board, or files of entries.")],
    replace: Annotated[bool, typer.Option("--replace", help="Where entries conflict, take the other one.")] = False,
) -> None:
    """Unite the entries of several machines on a board, and what was found of them. Conflicts are reported and stay
    out; exit code 1 then.

    Example:

        robustcodec leaderboard merge leaderboards/kodak-rate other/leaderboards/kodak-rate more/results/mine.json
    """
    from robustcodec.boards import merging
    from robustcodec.boards.audit import audit
    from robustcodec.boards.board import BREAKS, RESULTS, Board
    from robustcodec.boards.break_merging import merge_breaks
    from robustcodec.cli._console import Console

    console, to = Console(), Board.read(board)
    union = merging.merge(to, others, replace)
    for entry in union.taken:
        console.print(f"taken: {entry.write(board / RESULTS)}", highlight=False, soft_wrap=True)
    console.print(f"{counted(len(union.known), 'entry')} there already")
    breaks, refused = merge_breaks(to, audit(to)[0], others)
    for found in breaks:
        console.print(f"taken: {found.write(board / BREAKS)}", highlight=False, soft_wrap=True)
    for conflict in (*union.conflicts, *refused):
        console.print(f"conflict: {conflict}", style="bold", highlight=False, soft_wrap=True)
    build_tables(board)
    if union.conflicts or refused:
        raise typer.Exit(1)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="An entry, a board or a folder of boards.")],
    new: Annotated[Path, typer.Argument(help="Another state of it.")],
) -> None:
    """Show what changed between two states of boards: entries that came or went, scores, weights, disputes.

    Example:

        robustcodec leaderboard diff ../before/leaderboards leaderboards
    """
    from robustcodec.boards import merging
    from robustcodec.cli._console import Console

    lines = merging.diff(old, new)
    for line in lines or ["no entry differs"]:
        Console().print(line, highlight=False, soft_wrap=True)


@app.command()
def export(
    board: Annotated[Path, typer.Argument(help="Folder of the board.")],
    files: Annotated[Optional[list[Path]], typer.Argument(help="Files: .csv, .parquet, .tex, .md or .json.")] = None,  # noqa: UP045
    threat: Annotated[Optional[str], typer.Option(help="Only this budget. Default: all.")] = None,  # noqa: UP045
    figures: Annotated[Optional[Path], typer.Option(help="Write figures for print into this folder.")] = None,  # noqa: UP045
) -> None:
    """Write a board's ranking as tables and figures for papers. LaTeX (booktabs) and Markdown have the main columns.

    Example:

        robustcodec leaderboard export leaderboards/photos-quick ranking.tex ranking.csv --figures figures
    """
    import robustcodec
    from robustcodec.boards import publication
    from robustcodec.boards.board import Board
    from robustcodec.boards.ranking import main_columns, ranked
    from robustcodec.boards.tables import BEST
    from robustcodec.cli._console import Console
    from robustcodec.errors import BoardError
    from robustcodec.reporting import export as exporting

    for file in files or []:
        exporting.check(file)
    whole = robustcodec.leaderboard(board)
    if threat is not None and threat not in set(whole["threat"]):
        raise BoardError(f"{board} has no entries at {threat}; it has {', '.join(sorted(set(whole['threat'])))}")
    lines = whole if threat is None else whole[whole["threat"] == threat]
    written = []
    for file in files or []:
        shown = lines[main_columns(lines)] if file.suffix.lower() in (".tex", ".md") else lines
        written.append(
            exporting.write(shown, file, caption=Board.read(board).title, label=f"tab:{board.name}", best=BEST)
        )
    if figures is not None:
        whole_board = Board.read(board)
        entries, stands, _ = ranked(whole_board)
        view = publication.view(whole_board, entries, stands)
        written += exporting.figures(view.rows, view.curves, figures)
    for path in written:
        Console().print(f"written: {path}", highlight=False, soft_wrap=True)


@app.command()
def dispute(
    entry: Annotated[Path, typer.Argument(help="File of the entry.")],
    by: Annotated[str, typer.Option(help="Who doubts it.")],
    why: Annotated[str, typer.Option(help="What is wrong with it, so that others can look.")],
) -> None:
    """Mark an entry as disputed. It stays on the board, with the reason beside it.

    Example:

        robustcodec leaderboard dispute leaderboards/photos-quick/results/mine.json --by "A. Person" --why "…"
    """
    from datetime import date

    from robustcodec.boards.entry import Dispute, Entry
    from robustcodec.cli._console import Console

    marked = Entry.read(entry).disputed_by(Dispute(by, date.today().isoformat(), why))
    Console().print(f"disputed: {marked.write(entry.parent)}", highlight=False, soft_wrap=True)
    build_tables(entry.resolve().parents[1])


app.command("measure")(measure_all)
app.command("break")(submit)


def _in_words(verdict: Verdict) -> str:
    samples = f"{counted(len(verdict.samples), 'sample')} ({', '.join(verdict.samples)})"
    what = f"{samples} in {counted(verdict.cells, verdict.of)}"
    if verdict.faults:
        return "\n".join([f"NOT CONFIRMED {verdict.entry}: {what}", *(f"  {fault}" for fault in verdict.faults)])
    return f"confirmed {verdict.entry}: {what}, at most {verdict.apart:.4f} dB apart"
