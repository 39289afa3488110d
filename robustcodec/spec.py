"""A plugin by name, with what follows the name: ``jpeg:quality=30``, ``pgd:steps=50,step_size=0.2``.

Grammar: ``name[.tag][:value][,key=value]*``, where the name may be a class in a file, ``FILE.py:Class``.
The one value without a key goes to the plugin's first
parameter (``psnr:40``, ``folder:photos/``). Values are integers, decimals, fractions (``8/255``),
``true``/``false``/``none`` or text; a text may contain commas that are not followed by ``key=``.

Two rules are for values that hold the signs of this grammar. One in double quotes is what is between them, where two
stand for one: ``folder:"X/a,crop=16",crop=32``. And one that is there as a file or folder is that, as far as it goes:
``file:lr=0.1,batch=8/p.png``.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Union

from robustcodec.errors import BadParameter
from robustcodec.files import is_writable

Value = int | float | bool | str | None
_KEY = re.compile(r"[A-Za-z_]\w*=")
_NEXT = r",(?=[A-Za-z_]\w*=)"  # between two parameters
_QUOTED = re.compile(r'(?:(?<=[:=])|^)"(?:[^"]|"")*"(?=$|[,+|}])')
_SIGNS = re.compile(f"{_NEXT}|[{{}}]|\\+(?=[A-Za-z_])")  # of this grammar, of sweeps, of what is joined
_HIDDEN = "\0"  # in the place of what is in quotes
MOST = 10_000  # names that braces may stand for


@dataclass(frozen=True)
class Spec:
    """A parsed name: ``name``, the ``tag`` of trained weights if any, and parameters as typed."""

    name: str
    tag: str | None = None
    params: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, here: bool = True) -> Spec:
        """Read ``text``; raises :class:`BadParameter` if it cannot be a spec. ``here``: what is a file or folder is one
        value, whatever signs its name has.
        """
        if not is_writable(text):
            raise BadParameter(f"{text!r} is not UTF-8; rename the file or folder, and give its new name")
        if in_file := re.match(r"(.+?\.py:[A-Za-z_]\w*)(?::|$)", text.strip()):
            name, tag, rest = in_file[1], "", text.strip()[in_file.end() :]
        else:
            head, _, rest = text.strip().partition(":")
            name, _, tag = head.partition(".")
        if not in_file and not re.fullmatch(r"[\w-]+", name):
            path = Path(text.strip()).expanduser()
            data = cls("folder" if path.is_dir() else "file", None, (("", str(path)),))
            hint = f"; of data, write {data}" if path.exists() else ""
            if (assigned := re.fullmatch(r"([\w-]+)=(.+)", text.strip())) and not hint:
                raise BadParameter(f"{text!r} is not a name; did you mean {assigned[1]}:{assigned[2]}?")
            raise BadParameter(
                f"{text!r} is not a name{hint}; expected name[.tag][:key=value,…], such as jpeg:quality=30, or a class "
                "in a file, FILE.py:Class[:key=value,…]"
            )
        params = [*_parameters(split(rest, _NEXT) if rest else [], here)]
        if len({k for k, _ in params}) != len(params):
            raise BadParameter(f"{text!r} names a parameter twice; name each once")
        return cls(name, tag or None, tuple(params))

    def __str__(self) -> str:
        head = self.name + (f".{self.tag}" if self.tag else "")
        tail = ",".join(f"{k}={_quoted(v)}" if k else _quoted(v, bare=True) for k, v in self.params)
        return f"{head}:{tail}" if tail else head


def split(text: str, sign: str) -> list[str]:
    """``text`` cut at a pattern, except inside quotes."""
    kept = iter(_QUOTED.findall(text))
    return [_shown(part, kept) for part in re.split(sign, _QUOTED.sub(_HIDDEN, text))]


def _shown(text: str, kept: Iterator[str]) -> str:
    return re.sub(_HIDDEN, lambda _: next(kept), text)


def _parameters(parts: list[str], here: bool) -> Iterator[tuple[str, str]]:
    """Keys, empty for a value without one, and values, which go on over ``,key=`` as far as there is such a file."""
    while parts:
        for taken in range(len(parts), 0, -1):
            text = ",".join(parts[:taken])
            keyed = _KEY.match(text) and not (here and _exists(text))
            key, _, value = text.partition("=") if keyed else ("", "", text)
            if taken == 1 or here and _exists(value):
                break
        yield key, _unquoted(value)
        parts = parts[taken:]


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    if not re.fullmatch(r'"(?:[^"]|"")*"', value):
        raise BadParameter(f"{value} begins with a quote; expected one at its end, and two for each one in it")
    return value[1:-1].replace('""', '"')


def _quoted(value: str, bare: bool = False) -> str:
    """A value as :meth:`Spec.parse` reads it back, wherever that is."""
    if value.startswith('"') or _SIGNS.search(value) or (bare and _KEY.match(value)):
        return '"' + value.replace('"', '""') + '"'
    return value


def settled(text: str) -> str:
    """A spec that means the same on every machine: what is a file here and would be parameters elsewhere is in quotes.
    What is no spec stays as it is.
    """
    here, anywhere = _parsed(text, here=True), _parsed(text, here=False)
    return text if here in (None, anywhere) else str(here)


def _parsed(text: str, here: bool) -> Spec | None:
    try:
        return Spec.parse(text, here)
    except BadParameter:
        return None


def _read(text: str, wanted: Any) -> Value:
    """``text`` as ``wanted`` (a type or a union of types); raises ValueError."""
    options = (
        typing.get_args(wanted)
        if isinstance(wanted, types.UnionType) or (typing.get_origin(wanted) is Union)
        else (wanted,)
    )
    if types.NoneType in options and text.lower() == "none":
        return None
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if int in options and re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if float in options:
        try:
            number = float(Fraction(text)) if "/" in text else float(text)
            if math.isfinite(number):
                return number
        except (ValueError, ZeroDivisionError, OverflowError):
            pass
    literals = [v for o in options if typing.get_origin(o) is typing.Literal for v in typing.get_args(o)]
    if text in literals:
        return text
    if str in options:
        return text
    names = [f"one of {', '.join(map(str, literals))}"] if literals else []
    names += [o.__name__ for o in options if isinstance(o, type) and o is not types.NoneType]
    raise ValueError(" or ".join(names))


def parameters(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a plugin, with evaluated annotations; ``*args`` (of a codec without ``__init__``) are none.

    Fields that a dataclass has from a base are evaluated in the base's module, which alone has imported their types.
    """
    fields = typing.get_type_hints(builder) if is_dataclass(builder) else {}
    signature = inspect.signature(builder, eval_str=not fields)
    named = {k: p for k, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return {k: p.replace(annotation=fields.get(k, _annotation(p))) for k, p in named.items()}


def _annotation(parameter: inspect.Parameter) -> Any:
    """That of a parameter, or what its default lets one guess, where it is a number, a text or a truth value."""
    if parameter.annotation is not inspect.Parameter.empty:
        return parameter.annotation
    kind = type(parameter.default)
    return kind if kind in (bool, float, str) else int | float if kind is int else Value


def resolve(spec: Spec, builder: Callable[..., Any], kind: str) -> dict[str, Value]:
    """All parameters of ``builder`` by name: those of ``spec``, read by their annotations, then the defaults.

    Raises :class:`BadParameter` for a parameter that ``builder`` does not take or a value it cannot read.
    """
    known = parameters(builder)
    given = dict(spec.params)
    if spec.tag is not None:
        if "tag" not in known:
            raise BadParameter(f"{kind} {spec.name!r} has no tags, so {str(spec)!r} cannot be; drop .{spec.tag}")
        given["tag"] = spec.tag
    if "" in given:
        positional = next((k for k in known if k != "tag"), None)
        if positional is None or positional in given:
            raise BadParameter(f"{kind} {spec.name!r} cannot take the bare value {given['']!r} in {str(spec)!r}")
        given[positional] = given.pop("")
    others = {} if not takes_any(builder) else {key: given.pop(key) for key in [*given] if key and key not in known}
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "no parameters"
            raise BadParameter(f"{kind} {spec.name!r} has no parameter {key!r}; it takes {takes}")
    out: dict[str, Value] = {}
    for key, parameter in known.items():
        if key in given:
            try:
                out[key] = _read(given[key], parameter.annotation)
            except ValueError as error:
                raise BadParameter(
                    f"{kind} {spec.name!r}: {key}={given[key]!r} cannot be read; expected {error}"
                ) from None
        elif parameter.default is inspect.Parameter.empty:
            raise BadParameter(f"{kind} {spec.name!r} needs {key}; write {spec.name}:{key}=…")
        else:
            out[key] = parameter.default
    return out | {key: _read(text, Value) for key, text in others.items()}


def takes_any(builder: Callable[..., Any]) -> bool:
    """Whether a plugin takes parameters of any name, as ``**arguments`` (beside ``*args`` they are nobody's)."""
    kinds = {p.kind for p in inspect.signature(builder).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds


def expand(text: str) -> list[str]:
    """``a{1,2}b`` as ``a1b`` and ``a2b``; several braces give every combination, the last one varying fastest.

    Raises :class:`BadParameter` for braces that are not closed, nested or with nothing in them.
    """
    kept, parts = _QUOTED.findall(text), re.split(r"\{([^{}]*)\}", _QUOTED.sub(_HIDDEN, text))  # braces: odd numbers
    if any(c in part for part in parts[::2] for c in "{}") or any(not p.strip(", ") for p in parts[1::2]):
        raise BadParameter(
            f"{text!r} cannot be read; expected braces that are closed, not nested and not empty, "
            "such as h264:crf={27,33,39}"
        )
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    if (count := math.prod(map(len, choices))) > MOST:
        raise BadParameter(f"{text[:60]!r} … stands for {count} names; expected at most {MOST}: split the sweep")
    names = ("".join(p.strip() for p in choice) for choice in itertools.product(*choices))
    return list(dict.fromkeys(_shown(name, iter(kept)) for name in names))
