"""``robustcodec list``: everything that has a name, with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._document import say

if TYPE_CHECKING:
    from rich.console import Group

KINDS = ("codecs", "attacks", "suites", "objectives", "threats", "defenses", "data", "metrics")


@dataclass(frozen=True)
class ListedPlugin:
    """One plugin. ``parameters``: name to default, as typed; None where a value must be given."""

    name: str
    summary: str
    parameters: dict[str, str | None]
    tags: list[str]  # of weights that ship
    members: list[str] = field(default_factory=list)  # attacks (objectives) of a suite


def command(
    kind: Annotated[Optional[str], typer.Argument(help=f"One of {', '.join(KINDS)}. Default: all.")] = None,  # noqa: UP045
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """List codecs, attacks, suites, objectives, threats, defenses, data sets and metrics with their parameters.

    Parameters follow the name: pgd:steps=50,step_size=0.2. Tags of trained weights follow a dot:
    bmshj2018-hyperprior.tiny-q2.

    Examples:

        robustcodec list

        robustcodec list attacks

        robustcodec list codecs --json
    """
    import difflib

    from robustcodec.cli._console import Console
    from robustcodec.errors import UserError

    if kind is not None and kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"there is no list of {kind!r}{hint} Expected one of {', '.join(KINDS)}, or nothing for all")
    console = Console(stderr=json)
    with console.status("loading …"):
        lists = {k: entries(k) for k in ([kind] if kind else KINDS)}
    if json:
        from dataclasses import asdict

        say({k: [asdict(entry) for entry in listed] for k, listed in lists.items()})
        return
    for k, listed in lists.items():
        console.print(f"{k}:", style="bold underline")
        console.print(*map(_lines, listed), sep="")
    console.print("robustcodec show NAME says more about one of them", style="dim", highlight=False)


def entries(kind: str) -> list[ListedPlugin]:
    """All plugins of a kind, by name."""
    from robustcodec import registry, weights
    from robustcodec.errors import RobustCodecError
    from robustcodec.running import suites

    if kind == "suites":
        return [ListedPlugin(str(s), s.about, {}, [], [f"{a} ({o})" for a, o in s.members]) for s in suites.bundled()]
    plugins = registry.KINDS[kind]

    def entry(name: str) -> ListedPlugin:
        try:
            builder = plugins.get(name)
        except RobustCodecError as error:  # its file; the others are fine
            return ListedPlugin(name, f"cannot be loaded: {error}", {}, [])
        typed_defaults = {key: value for key, value in defaults(builder).items() if key != "tag"}
        tags = weights.bundled_tags(name) if kind == "codecs" else []
        return ListedPlugin(name, first_sentence(builder), typed_defaults, tags)

    return list(map(entry, plugins.names()))


def prose(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each on one line, without its markup."""
    import re

    plain = re.sub(r":\w+:`~?([^`]+)`|``([^`]+)``", lambda match: match[1] or match[2], text or "")
    return [" ".join(paragraph.split()) for paragraph in plain.strip().split("\n\n")]


def first_sentence(builder: Callable[..., Any]) -> str:
    """The first sentence of what documents ``builder``."""
    import inspect
    import re

    return re.split(r"(?<=\.)\s+(?=[A-Z])", prose(inspect.getdoc(builder))[0])[0]


def defaults(builder: Callable[..., Any]) -> dict[str, str | None]:
    """Parameters and their defaults as they would be typed; None where a value must be given."""
    from inspect import Parameter

    from robustcodec.spec import parameters

    known = parameters(builder).items()
    return {key: None if p.default is Parameter.empty else typed(p.default) for key, p in known}


def typed(value: Any) -> str:
    """A parameter's value as it would be typed."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _lines(entry: ListedPlugin) -> Group:
    """Its name, and indented what it is: a terminal of 80 columns has no room for both beside each other."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    settings = [f"{key}={'…' if value is None else value}" for key, value in entry.parameters.items()]
    below = {
        "": ", ".join(settings),
        "weights that ship: ": " ".join(entry.tags),
        "attacks: ": ", ".join(entry.members),
    }
    lines = [entry.summary, *(f"{what}{said}" for what, said in below.items() if said)]
    return Group(Text(entry.name, style="bold"), Padding(Text("\n".join(lines)), (0, 0, 0, 2)))
