"""What plugins say of themselves: every parameter is explained, and the first sentence stands alone in a list."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from robustcodec import registry
from robustcodec.cli.list import defaults, first_sentence

PLUGINS = [(kind, name) for kind, plugins in registry.KINDS.items() for name in plugins._ours]  # not those of tests


def words(builder: Callable[..., Any]) -> str:
    """The docstring of a plugin and, of a codec, that of ``__init__``, which has its parameters."""
    made = inspect.getattr_static(builder, "__init__", None)
    return f"{inspect.getdoc(builder)}\n{getattr(made, '__doc__', None)}"


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_every_parameter_is_explained(kind: str, name: str) -> None:
    builder = registry.KINDS[kind].get(name)
    said = words(builder)
    assert [key for key in defaults(builder) if not re.search(rf"``{key}(``|=)", said)] == []


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_the_first_sentence_stands_alone(kind: str, name: str) -> None:
    said = first_sentence(registry.KINDS[kind].get(name))
    assert 3 <= len(said.split()) <= 40 and said.endswith(".") and not said.startswith("The same")
    assert not re.search(r" [A-Z]\.$", said), "cut off after an initial"
