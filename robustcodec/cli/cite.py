"""``robustcodec cite``: BibTeX of what a name stands for."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from robustcodec.cli._document import say


def command(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A codec, attack, defense, objective, metric or data set. Without one: robustcodec."),
    ] = None,
    kind: Annotated[Optional[str], typer.Option(help="Where a name has several meanings: codecs, attacks …")] = None,  # noqa: UP045
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Print BibTeX of the papers that a codec, attack, defense, objective, metric or data set stands on.

    Without a name: of robustcodec itself, and of the two papers that it grew from. A plugin that states no paper says
    so in a comment.

    Examples:

        robustcodec cite >>references.bib

        robustcodec cite pgd

        robustcodec cite jpeg --kind defenses
    """
    from robustcodec.cli.show import kind_of
    from robustcodec.spec import Spec
    from robustcodec.studies.citing import itself, papers

    if name is None:
        where, found = "software", itself()
    else:
        name = Spec.parse(name).name
        where = kind_of(name, kind)
        found = papers(where, name)
    if json:
        say({"name": name or "robustcodec", "kind": where, "papers": [vars(paper) for paper in found]})
    elif found:
        typer.echo("\n\n".join(paper.bibtex for paper in found))
    else:
        typer.echo(f"% {name} ({where}) states no paper; robustcodec show {name} says what it is and where it is from")
