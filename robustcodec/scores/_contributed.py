"""The columns of results that metrics and objectives bring themselves (:attr:`Metric.columns`,
:attr:`Objective.columns`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any, Literal, get_args, get_origin

from robustcodec import registry
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Column
from robustcodec.spec import parameters


def of_plugins() -> dict[str, Column]:
    """By name, of the metrics and objectives that are installed."""
    return _named(tuple(registry.metrics.names()), tuple(registry.objectives.names()))


@cache
def _named(metric_names: tuple[str, ...], objective_names: tuple[str, ...]) -> dict[str, Column]:
    columns: list[Column] = []
    for name in metric_names:
        builder = registry.metrics.get(name)
        for choice in _choices(builder):
            try:
                columns += builder(**choice).columns
            except (TypeError, ValueError, RobustCodecError):  # it needs more than it says: shown by its name
                continue
    for name in objective_names:
        columns += getattr(registry.objectives.get(name), "columns", ())
    return {column.name: column for column in columns}


def _choices(builder: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the parameters of which the annotation lists the values; the others at their defaults."""
    listed = {
        name: get_args(parameter.annotation)
        for name, parameter in parameters(builder).items()
        if get_origin(parameter.annotation) is Literal
    }
    for values in product(*listed.values()):
        yield dict(zip(listed, values, strict=True))
