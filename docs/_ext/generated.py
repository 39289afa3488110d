"""Reference pages, from what commands, plugins and columns say of themselves."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import typer

from robustcodec import registry, weights
from robustcodec.cli import app
from robustcodec.cli.list import defaults
from robustcodec.scores import columns as scores


def commands() -> str:
    """Every command: its help, its arguments and options."""
    group = typer.main.get_command(app)
    return "\n".join(_commands("robustcodec", group))


def _commands(path: str, group: Any) -> list[str]:
    parts = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            parts += [f"## `{path} {name}`\n", _help(command), *_commands(f"{path} {name}", command)]
        else:
            parts.append(_command(f"{path} {name}", command))
    return parts


def _command(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    rows = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    options = "\n".join(f"`{names}`\n: {_line(help)}\n" for names, help in rows)
    return f"## `{path}`\n\n```text\n{usage}\n```\n\n{_help(command)}\n\n{options}\n"


def _help(command: Any) -> str:
    """The words of a command's help; its examples, which stand indented there, as one block."""
    words, *examples = re.split(r"^Examples?:$", inspect.cleandoc(command.help or ""), flags=re.MULTILINE)
    each = (" ".join(lines.split()) for lines in re.split(r"\n\s*\n", "".join(examples)))
    lines = "\n".join(filter(None, each))
    return words.strip() + (f"\n\n```sh\n{lines}\n```" if lines else "")


def _line(text: str) -> str:
    return " ".join(text.split()) or "–"


def plugins(kind: str) -> str:
    """Every plugin of a kind (``codecs`` …): its name, what it is, parameters with defaults, weights that ship."""
    return "\n".join(_plugin(kind, name) for name in registry.KINDS[kind].names())


def _plugin(kind: str, name: str) -> str:
    builder = registry.KINDS[kind].get(name)
    module = inspect.getmodule(builder)
    made = inspect.getattr_static(builder, "__init__", None) if kind == "codecs" else None  # of others: fields
    neighbours = [n for n in registry.KINDS[kind].names() if inspect.getmodule(registry.KINDS[kind].get(n)) is module]
    words, method = _paragraphs(inspect.getdoc(builder)), _paragraphs(getattr(module, "__doc__", None))
    words += _paragraphs(getattr(made, "__doc__", None))
    if method:
        words += ["**Method.** " + method[0], *(method[1:] if len(neighbours) == 1 else [])]
    parameters = {key: "(must be given)" if value is None else value for key, value in defaults(builder).items()}
    if parameters:
        words.append(
            "| parameter | default |\n| --- | --- |\n" + "\n".join(f"| `{k}` | `{v}` |" for k, v in parameters.items())
        )
    if kind == "codecs" and (tags := weights.bundled_tags(name)):
        words.append("Weights that ship: " + ", ".join(f"`{name}.{tag}`" for tag in tags))
    return f"## {name}\n\n" + "\n\n".join(words) + "\n"


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring as Markdown: code stays code, what is indented or a table stays as it is."""
    found = []
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", inspect.cleandoc(text or ""))):
        if paragraph.startswith((" ", "=")):
            found.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
            continue
        parts = re.split(r"(?::\w+:)?`{1,2}~?([^`]+)`{1,2}", " ".join(paragraph.split()))
        found.append("".join(f"`{part}`" if i % 2 else _escaped(part) for i, part in enumerate(parts)))
    return found


def _escaped(text: str) -> str:
    """Text that is no Markdown, as Markdown that shows it."""
    for sign in "\\`*_{}[]<>#|$":
        text = text.replace(sign, f"\\{sign}")
    return text


def columns() -> str:
    """Every column of a table of results, with what it means."""
    lines = [f"| `{c.name}` | {_escaped(c.unit) or '–'} | {_escaped(c.meaning)} |" for c in scores.ALL.values()]
    return "\n".join(["| column | unit | meaning |", "| --- | --- | --- |", *lines])
