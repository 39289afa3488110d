"""A console that shows the text of users and files as it is: square brackets are no markup, and ESC moves no cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
import typer
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from robustcodec.reporting.printing import printable


class Console(rich.console.Console):
    """As rich's, without markup; what a style or a table adds is its own."""

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """Who reads has seen enough (``| head``)."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise typer.Exit(1) from None

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Text and its updates are read as rich's markup there, whatever the console does."""
        return _Plain(Text(str(status)), console=self, **options)


class _Plain(Status):
    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        super().update(status if status is None else Text(str(status)), **options)
