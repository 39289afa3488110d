"""Options of ``robustcodec train`` and ``robustcodec finetune``: one for each field of a recipe."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from robustcodec.training.recipe import Recipe
from robustcodec.training.settings import Described, described

Command = Callable[..., None]
NOTHING = "none"  # what is typed for a setting without a value


def recipe_options(kind: type[Recipe]) -> Callable[[Command], Command]:
    """Decorator: a command of ``kind``. The command has a parameter ``given``, in whose place the settings stand, and
    is told there of those that were given, by name.
    """
    settings = [s for s in described(kind) if s.name not in kind.unused]

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)

        def wrapped(**values: Any) -> None:
            typed = {s.name: values.pop(s.name) for s in settings}
            command(
                given={s.name: _value(s, typed[s.name]) for s in settings if typed[s.name] not in (None, [])}, **values
            )

        options: list[inspect.Parameter] = []
        for parameter in own.parameters.values():
            mine = [_option(s) for s in settings] if parameter.name == "given" else [parameter]
            options += [p.replace(kind=p.KEYWORD_ONLY) for p in mine]
        wrapped.__signature__ = own.replace(parameters=options)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in options}
        wrapped.__doc__ = command.__doc__
        wrapped.__name__ = command.__name__
        return wrapped

    return decorate


def _option(setting: Described) -> inspect.Parameter:
    """An option, or the argument that says which codec; None if it is not given."""
    text = setting.help
    if not setting.required and setting.default is not None:
        text += f" Default: {setting.default}."
    option = (
        typer.Argument(help=text) if setting.name == "codec" else typer.Option(help=text, rich_help_panel=setting.panel)
    )
    annotation = Annotated[_typed(setting) | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _typed(setting: Described) -> Any:
    """The type of what is typed; a choice that may be empty has ``none`` among its values."""
    if get_origin(setting.type) is tuple:
        return list[get_args(setting.type)[0]]  # type: ignore[misc]
    if not _optional(setting):
        return setting.type
    (inner,) = [t for t in get_args(setting.type) if t is not types.NoneType]
    return Literal[(NOTHING, *get_args(inner))] if get_origin(inner) is Literal else inner


def _value(setting: Described, typed: Any) -> Any:
    return None if typed == NOTHING and _optional(setting) else typed


def _optional(setting: Described) -> bool:
    return types.NoneType in get_args(setting.type)
