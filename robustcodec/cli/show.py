"""``robustcodec show``: all there is to know about one name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from robustcodec.cli._document import say

if TYPE_CHECKING:
    from robustcodec.spec import Spec


def command(
    name: Annotated[str, typer.Argument(help="A name, a codec with its tag or parameters, or a file of weights.")],
    kind: Annotated[Optional[str], typer.Option(help="Where a name has several meanings: codecs, attacks …")] = None,  # noqa: UP045
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Show what a codec, attack, objective, threat, defense, data set or metric is and which parameters it takes.

    A codec with a tag or parameters also shows its card: licence, paper, weights, training, measured rate and quality.
    Of a file of weights: what it holds, which codecs it fits, and what to type to use it.

    Examples:

        robustcodec show pgd

        robustcodec show bmshj2018-hyperprior.tiny-q2

        robustcodec show psnr --kind threats

        robustcodec show checkpoint_best.pth.tar
    """
    from rich.table import Table
    from rich.text import Text

    from robustcodec.cli._console import Console
    from robustcodec.spec import Spec

    console = Console(stderr=json)
    with console.status("loading …"):
        if _is_file(name):
            from robustcodec.studies.checkpoint import facts as of_checkpoint

            facts = {k: v for k, v in of_checkpoint(Path(name)).items() if v not in ("", [])}
        else:
            spec = Spec.parse(name)
            facts = _describe(kind_of(spec.name, kind), spec)
    if json:
        say(facts)
        return
    to_type = facts.pop("to use it", [])
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, Text(_text(value)))
    console.print(table)
    for words in to_type:  # on a line of its own, however long, so that it can be copied
        console.print(Text(words), soft_wrap=True)


def _is_file(name: str) -> bool:
    """Whether it is a file of weights, be it there or not: no name of a plugin ends like one."""
    path = Path(name)
    there = path.is_file() and path.suffix not in ("", ".py")
    return there or path.suffix in (".pth", ".tar", ".pt", ".ckpt", ".safetensors") and "=" not in name


def kind_of(name: str, kind: str | None) -> str:
    """The list of plugins that a name is in; raises :class:`UnknownName` for none or, without ``kind``, several."""
    import difflib

    from robustcodec import registry
    from robustcodec.errors import UnknownName

    if kind is not None:
        if kind not in registry.KINDS:
            raise UnknownName(f"--kind {kind!r}; expected one of {', '.join(registry.KINDS)}")
        registry.KINDS[kind].get(name)  # raises with suggestions
        return kind
    homes = [k for k, plugins in registry.KINDS.items() if name in plugins.names()]
    if len(homes) > 1:
        choices = " or ".join(f"--kind {k}" for k in homes)
        raise UnknownName(f"{name!r} is the name of several things: {', '.join(homes)}; add {choices}")
    if not homes:
        known = {n: k for k, plugins in registry.KINDS.items() for n in plugins.names()}
        near = [f"{n} ({known[n]})" for n in difflib.get_close_matches(name, known, n=3, cutoff=0.5)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownName(f"nothing is named {name!r}{hint} (robustcodec list shows all names)")
    return homes[0]


def _describe(kind: str, spec: Spec) -> dict[str, Any]:
    """What is known, in the order it is shown; empty facts are left out."""
    import inspect
    from dataclasses import asdict

    from robustcodec import registry, weights
    from robustcodec.cli.list import defaults, prose, typed

    plugins = registry.KINDS[kind]
    builder = plugins.get(spec.name)
    settings = {k: "(needed)" if v is None else v for k, v in defaults(builder).items()}
    if given := bool(spec.tag or spec.params):
        settings = {k: typed(v) for k, v in plugins.resolve(spec).items()}
    init = inspect.getattr_static(builder, "__init__", None) if kind == "codecs" else None
    facts: dict[str, Any] = {
        "name": str(spec),
        "kind": plugins.kind,
        "what it is": "\n\n".join(prose(inspect.getdoc(builder))),
        "method": prose(sys.modules[builder.__module__].__doc__)[0],
        "parameters": settings,
        "on parameters": "\n\n".join(prose(getattr(init, "__doc__", None))),
    }
    if kind == "codecs":
        facts["weights that ship"] = [f"{spec.name}.{tag}" for tag in weights.bundled_tags(spec.name)]
        card = asdict(plugins.build(spec).card) if given else {}
        facts |= {key: value for key, value in card.items() if key not in ("name", "kind")}
    facts["defined in"] = builder.__module__
    return {key: value for key, value in facts.items() if value not in ("", None, {}, [])}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key} = {entry}" for key, entry in value.items())
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
