"""CompressAI-like networks of other authors, by their class: ``compressai:class=pkg.mod:Cls,weights=FILE``."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from robustcodec import weights as checkpoints
from robustcodec.errors import BadParameter, UserError, WeightsError
from robustcodec.interfaces import Card
from robustcodec.registry import codecs
from robustcodec.spec import Value
from robustcodec.weights import statedict
from robustcodec.zoo._fitting import load_into
from robustcodec.zoo._pretrained import fingerprint
from robustcodec.zoo._wrapped import Wrapped

HOW = "compressai:class=pkg.mod:Cls,weights=FILE"


@codecs.register("compressai")
class Foreign(Wrapped):
    """An image network of CompressAI or of anyone else, by its class, such as
    ``compressai:class=pkg.mod:Cls,weights=FILE``.

    The class may come from CompressAI, from an installed package or from the current folder. The codec does what the
    class's own ``forward``, ``compress`` and ``decompress`` do, with the roundings that attackers choose
    (:mod:`robustcodec.rounding`) and in the container of :mod:`robustcodec.stream`.
    """

    runs_code = True

    def __init__(
        self, *, weights: str | None = None, seed: int = 0, stride: int | None = None, **arguments: Value
    ) -> None:
        """``class`` names the class as ``pkg.mod:Cls``. ``weights``: a file with its state dict, or ``random``, drawn
        by ``seed``. ``stride``: the number of pixels of which the sides of frames must be multiples; it is needed only
        if the codec cannot find it out. All other parameters go to the class (``N=128,depths=[2,2,6]``). Without any,
        the class's own ``from_state_dict`` builds the network, if there is one.

        Raises :class:`UserError` for a class that cannot be imported or built, and :class:`WeightsError` for weights
        that do not fit.
        """
        name, settings = _named(arguments)
        cls = imported(name)
        if weights is None:
            raise WeightsError(f"{name} needs weights: {HOW}, or weights=random")
        digest = "" if weights == "random" else fingerprint(Path(weights))
        net = _drawn(cls, settings, seed) if weights == "random" else _loaded(cls, settings, Path(weights))
        what = weights if weights == "random" else Path(weights).name
        card = Card(f"{cls.__name__}.{what}", f"compressai:{name}", weights=what, sha256=digest, architecture=settings)
        super().__init__(net, card, stride)

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        """Weights, and the code of the class: its package's version, or the checksum of the file that defines it."""
        kind = imported(_named(params)[0])
        weights, seeded = params.get("weights"), f"random-{params.get('seed', 0)}"
        of_weights = fingerprint(Path(weights)) if weights not in (None, "random") else seeded
        return f"{of_weights}, {_code_of(sys.modules[kind.__module__])}"


def imported(name: str) -> type[nn.Module]:
    """The class ``pkg.mod:Cls``; the current folder is looked into after the installed packages."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise BadParameter(f"class={name!r} is not pkg.mod:Cls; expected a module and, after a colon, a class in it")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # stays, since such a module may import its neighbours later
    importlib.invalidate_caches()
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise UserError(
            f"class={name}: no module {error.name!r} is installed, or in {Path(here).name}/; "
            "install the package, or run from the folder that has it"
        ) from None
    except Exception as error:  # whatever the author's module raises
        raise UserError(f"class={name}: importing {module} failed with {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise BadParameter(f"class={name}: {module} has no torch.nn.Module of the name {attribute}; {_has(module)}")
    _code_of(sys.modules[found.__module__])  # now, since what is written into the file later does not run
    return found


def _has(module: str) -> str:
    classes = [
        name
        for name, value in vars(sys.modules[module]).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module
    ]
    return f"it has {', '.join(classes[:8])}" if classes else "it has none"


def _named(arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class's name and the arguments for it; lists are written as in Python."""
    given = {k: v for k, v in arguments.items() if k not in ("class", "weights", "seed", "stride")}
    name = arguments.get("class")
    if not isinstance(name, str):
        raise BadParameter(f"codec 'compressai' needs class; write {HOW}")
    return name, {key: _literal(key, value) for key, value in given.items()}


def _literal(key: str, value: Value) -> Any:
    if not isinstance(value, str) or value[:1] not in ("[", "("):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise BadParameter(f"{key}={value} cannot be read; expected a list such as [2,2,6]") from None


def _drawn(cls: type[nn.Module], settings: dict[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _built(cls, settings)


def _loaded(cls: type[nn.Module], settings: dict[str, Any], path: Path) -> nn.Module:
    """The network with the weights of a file."""
    state = statedict.finite(path)
    maker = getattr(cls, "from_state_dict", None)
    if maker is not None and set(settings) <= set(inspect.signature(maker).parameters):
        try:
            net: nn.Module = maker(state, **settings)
        except Exception as error:  # whatever it raises for tensors of another class
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason'])[-1].strip()}"
            raise WeightsError(f"{path} does not fit {cls.__name__}, says its from_state_dict: {reason}") from None
    else:
        net = _built(cls, settings)
        load_into(net, state, str(path))
    return net


def _built(cls: type[nn.Module], settings: dict[str, Any]) -> nn.Module:
    try:
        return cls(**settings)
    except Exception as error:
        raise BadParameter(
            f"{cls.__name__} cannot be built with {settings or 'no arguments'} ({type(error).__name__}: {error}); "
            f"it is {cls.__name__}{inspect.signature(cls)}, and arguments follow weights: {HOW},N=128"
        ) from None


@cache
def _code_of(module: ModuleType) -> str:
    """The version of its package, or the checksum of its file when this is first asked for."""
    if installed := checkpoints.packages(module.__name__):
        return " ".join(installed)
    file = getattr(module, "__file__", None)
    return f"{module.__name__} {checkpoints.sha256(Path(file))[:16] if file else 'without a file'}"
