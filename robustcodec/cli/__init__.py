"""The command line. One file per command; heavy imports live inside the commands, so that --help is instant."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from robustcodec import __version__
from robustcodec.cli import leaderboard
from robustcodec.cli._document import apart
from robustcodec.errors import BrokenPlugin, DiskFull, ProcessError, RobustCodecError, UserError, place_of
from robustcodec.reporting.printing import printable

COMMANDS = (
    "run",
    "quickstart",
    "merge",
    "audit",
    "attack",
    "explain",
    "list",
    "show",
    "cite",
    "check",
    "compare",
    "recompress",
    "train",
    "finetune",
    "compress",
    "decompress",
    "report",
    "doctor",
)


class Guarded(TyperGroup):
    """Commands end by :class:`typer.Exit` alone: plugins that call ``sys.exit(0)`` do not end them well.

    A reader that goes, as ``head`` does, ends them without a word.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich has met it
                raise
            raise RobustCodecError(f"code that was run called sys.exit({error.code!r}){place_of(error)}") from error


app = typer.Typer(
    name="robustcodec",
    cls=Guarded,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="How much damage a small perturbation does to a learned codec, and what a defense buys at what cost.\n\n"
    "Start with `robustcodec run`: it attacks the bundled codecs on bundled photos and prints a leaderboard.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"robustcodec {__version__}")
        raise typer.Exit


NEXT = """\
How much damage does a small perturbation do to a learned codec? Three ways to begin:

  robustcodec run
      attacks the bundled codecs on bundled photos and ranks them, in minutes

  robustcodec quickstart photo.jpg
      the same story on a photo of your own, with a picture, in under a minute

  robustcodec quickstart photo.jpg --codec ./my_codec.py:MyCodec
      attacks your own model: a class in a file, or a checkpoint as FAMILY:weights=FILE

robustcodec --help lists all commands."""


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(NEXT)


app.add_typer(leaderboard.app, name="leaderboard")
for _name in COMMANDS:
    _module = importlib.import_module(f"robustcodec.cli.{_name}")
    app.command(_name, cls=getattr(_module, "Parsed", None))(apart(_module.command))


def main() -> None:
    """Run the command line. Exit code 2, with one line on stderr, for what was typed or given, plugins that cannot be
    had among it; 1 for what failed while it ran; 130 for Ctrl-C.
    """
    warnings.showwarning = _show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no sign for × shows another one
    try:
        app()
    except RobustCodecError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        given = isinstance(error, UserError | BrokenPlugin) and not isinstance(error, ProcessError | DiskFull)
        sys.exit(2 if given else 1)
    except Exception as error:
        from robustcodec.memory import out_of_memory, short_of_memory

        if not short_of_memory(error):
            raise
        typer.echo(f"error: {out_of_memory(error)}", err=True)
        sys.exit(1)


def _show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Our own warnings, in one line; those of libraries speak to who writes code."""
    if category.__module__.startswith("robustcodec."):
        typer.echo(f"warning: {printable(str(message))}", err=True)
