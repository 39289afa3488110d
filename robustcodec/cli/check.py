"""``robustcodec check``: does a codec, a defense or an attack keep the promises that published numbers rely on?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli._document import say
from robustcodec.errors import counted

if TYPE_CHECKING:
    from rich.table import Table

    from robustcodec.studies.check import Check


def command(
    codec: Annotated[Optional[list[str]], typer.Argument(help="Codecs, such as jpeg or mbt2018-mean.tiny-q2.")] = None,  # noqa: UP045
    all_bundled: Annotated[bool, typer.Option("--all-bundled", help="Every codec whose weights ship.")] = False,
    defense: Annotated[str, typer.Option(help="Check the codecs behind this defense.")] = "none",
    attack: Annotated[Optional[list[str]], typer.Option(help="Check an attack, on a small codec of its own.")] = None,  # noqa: UP045
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON, and nothing else.")] = False,
) -> None:
    """Check that codecs and attacks do what they promise; exit code 1 if one does not.

    Of a codec, behind a defense or not, forward agrees with the decoded bytes, the estimated size with the real one,
    the gradient with finite differences; bytes do not depend on batches or threads; damaged bytes raise an error.

    Of an attack, what it returns is inside every kind of budget, and depends on the sample and its seed alone; and it
    finds weaknesses planted in small codecs: at rounding boundaries, in the rate, behind a defense, without gradient.

    Examples:

        robustcodec check bmshj2018-hyperprior.tiny-q2

        robustcodec check jpeg:quality=30 mbt2018-mean:weights=mine.safetensors --defense self-ensemble

        robustcodec check --attack pgd:steps=5

        robustcodec check --all-bundled --json
    """
    from robustcodec.errors import UserError
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.cli._console import Console

    console = Console(stderr=json)
    with console.status("loading codecs …"):
        from robustcodec import registry
        from robustcodec.cli._display import choose_device
        from robustcodec.coding import defended
        from robustcodec.studies import check as check_codec
        from robustcodec.studies import check_attack, planted

        specs = [*(codec or ()), *(_bundled() if all_bundled else ())]
        where = choose_device(device)
    if not specs and not attack:
        raise UserError("no codec to check; name one, or an attack by --attack (robustcodec list shows them)")
    results: dict[str, list[Check]] = {}

    def examine(spec: str, run: Callable[[], tuple[str, list[Check]]]) -> None:
        with console.status(f"checking {spec} …"):
            title, results[spec] = run()
        if not json:
            console.print(_table(title, results[spec]))

    def of_codec(spec: str) -> tuple[str, list[Check]]:
        built = defended(spec, defense).to(where)
        return built.card.name, check_codec.check(built, rebuild=lambda: defended(spec, defense))

    def of_attack(spec: str) -> tuple[str, list[Check]]:
        attack = registry.attacks.build(spec)
        return spec, [*check_attack.check(attack), *planted.check(attack)]

    for spec in specs:
        examine(spec, partial(of_codec, spec))
    for spec in attack or ():
        examine(spec, partial(of_attack, spec))
    failed = sum(not check.passed for checks in results.values() for check in checks)
    if json:
        from dataclasses import asdict

        say({spec: [asdict(check) for check in checks] for spec, checks in results.items()})
    if failed:
        console.print(f"{counted(failed, 'check')} failed", style="bold")
        raise typer.Exit(1)


def _bundled() -> list[str]:
    from robustcodec import registry, weights
    from robustcodec.errors import WeightsError

    specs = [f"{name}.{tag}" for name in registry.codecs.names() for tag in weights.bundled_tags(name)]
    if not specs:
        raise WeightsError("no weights ship with this copy of robustcodec; name the codecs to check instead")
    return specs


def _table(title: str, checks: Sequence[Check]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for column in ("", "check", "measured", "expected"):
        table.add_column(column, overflow="fold")
    for check in checks:
        mark = Text("ok", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(mark, *(Text(cell) for cell in (check.name, check.measured, check.expected)))
    return table
