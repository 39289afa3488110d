"""The command line. One file per command; heavy imports live inside the commands, so that --help is instant."""

from __future__ import annotations

import importlib
import sys
import warnings

import typer

from robustcodec.cli import leaderboard
from robustcodec.errors import RobustCodecError, UserError

COMMANDS = (
    "run",
    "merge",
    "audit",
    "attack",
    "explain",
    "list",
    "show",
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

app = typer.Typer(
    name="robustcodec",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="How much damage a small perturbation does to a learned codec, and what a defense buys at what cost.\n\n"
    "Start with `robustcodec run`: it attacks the bundled codecs on bundled photos and prints a leaderboard.",
)
app.add_typer(leaderboard.app, name="leaderboard")
for _name in COMMANDS:
    _module = importlib.import_module(f"robustcodec.cli.{_name}")
    app.command(_name, cls=getattr(_module, "Parsed", None))(_module.command)


def main() -> None:
    """Run the command line. User mistakes: one line on stderr, exit code 2."""
    warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except RobustCodecError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
