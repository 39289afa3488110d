"""Names to plugins. One decorator spells the name; its module is imported when that name is first looked up.

Other packages put ``my_name = "my_package.module"`` under the entry-point group ``robustcodec.codecs`` (``.attacks``,
``.defenses``, ``.objectives``, ``.threats``, ``.metrics``, ``.data``); importing that module must run the decorators.
It is imported when all names are asked for, or a name that is none of ours.
"""

from __future__ import annotations

import difflib
import importlib
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from robustcodec.brought import files as brought
from robustcodec.brought.kinds import base_of
from robustcodec.errors import BadParameter, BrokenPlugin, RobustCodecError, UnknownName, blamed
from robustcodec.spec import Spec, Value, resolve, split

if TYPE_CHECKING:  # they need torch; names do not
    from robustcodec.interfaces import Attack, Codec, DataSet, Defense, Metric, Objective, Threat

T = TypeVar("T")
B = TypeVar("B", bound=Callable[..., Any])


class Registry(Generic[T]):
    """The plugins of one kind, found in the module or package ``home`` and by entry points of the group ``group``.

    ``kind`` is the word for them in messages.
    """

    def __init__(self, kind: str, home: str, group: str) -> None:
        self.kind, self.home, self.group = kind, home, group
        self._builders: dict[str, Callable[..., T]] = {}
        self._entered = False  # whether entry points have been loaded
        self._broken: dict[str, str] = {}  # names of entry points that cannot be loaded, and of two that differ: why

    def register(self, name: str) -> Callable[[B], B]:
        """A decorator that gives a class or function a name: ``@attacks.register("pgd")``.

        Raises :class:`RobustCodecError` for a name that has another definition already, and for one that cannot be
        typed.
        """
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            raise RobustCodecError(
                f"{self.kind} {name!r} cannot be a name; expected a letter or _, then also digits or -"
            )

        def add(builder: B) -> B:
            old = self._builders.get(name)
            where = old.__module__ if old is not None else self._ours.get(name, builder.__module__)
            if where != builder.__module__ or old not in (None, builder):
                raise Twice(f"{self.kind} {name!r} is defined twice: in {where} and in {builder.__module__}", name)
            self._builders[name] = builder
            return builder

        return add

    def lend(self, name: str, builder: Callable[..., T]) -> None:
        """Let ``builder`` have a name that nobody can type, and replace what had it before."""
        self._builders[name] = builder

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._enter()
        return sorted({*self._ours, *self._builders})

    def get(self, name: str) -> Callable[..., T]:
        """The class or function registered as ``name``; raises :class:`UnknownName` with the nearest names, and
        :class:`BrokenPlugin` if another package brings it and is broken.
        """
        if brought.is_in_file(name):
            return brought.builder(self.kind, name)
        if name not in self._builders:
            if name in self._ours:
                _imported(self._ours[name])
            else:
                self._enter()
        if name in self._broken:
            raise BrokenPlugin(f"{self.kind} {name!r}: {self._broken[name]}")
        try:
            return self._builders[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UnknownName(f"no {self.kind} is named {name!r}{hint} (robustcodec list shows all)") from None

    def layers(self, text: str) -> list[Spec]:
        """The plugins that a text names: a single one, or those that plus signs join, in their order.

        A ``+`` in front of a letter or ``_`` joins two plugins, so no parameter of plugins that can be joined holds
        that. Raises :class:`BadParameter` for a text that cannot be read, and for ``none`` joined to others.
        """
        return [Spec.parse(text)]

    def joined(self, specs: Sequence[Spec], plugins: Sequence[T]) -> T:
        """``plugins`` as one, see :class:`JoiningRegistry`; for other kinds a text names a single plugin."""
        (plugin,) = plugins
        return plugin

    def resolve(self, spec: Spec | str) -> dict[str, Value]:
        """All parameters of a spec, defaults filled in, without building it."""
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        return resolve(spec, self.get(spec.name), self.kind)

    def build(self, spec: Spec | str) -> T:
        """Build the plugin that a spec names.

        Raises :class:`UnknownName` for its name, :class:`BadParameter` for its values, and :class:`BrokenPlugin` if its
        code fails.
        """
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        builder = self.get(spec.name)
        params = resolve(spec, builder, self.kind)
        try:
            built = builder(**params)
        except ValueError as error:  # a plugin's own check of a value
            raise BadParameter(f"{self.kind} {str(spec)!r}: {error}") from error
        except RobustCodecError:
            raise
        except BaseException as error:  # it may be anyone's code
            raise blamed(f"{self.kind} {str(spec)!r} cannot be made", error, BrokenPlugin) from error
        if not isinstance(built, base_of(self.kind)):
            refusal = BadParameter if brought.is_in_file(spec.name) else BrokenPlugin  # who named a file can mend it
            raise refusal(f"{self.kind} {str(spec)!r} made a {type(built).__name__}, which is none")
        return built

    def immaterial(self, name: str) -> set[str]:
        """The parameters of a plugin that can change none of its numbers."""
        return set(getattr(self.get(name), "immaterial", ()))  # of an object, none

    def runs_code(self, name: str) -> bool:
        """Whether asking about it runs what its name or its parameters point to, so that who typed them is trusted."""
        return brought.is_in_file(name) or bool(getattr(self.get(name), "runs_code", False))

    def modules(self) -> set[str]:
        """The modules of the plugins that have been used so far."""
        return {builder.__module__ for builder in self._builders.values()}

    @cached_property
    def _ours(self) -> dict[str, str]:
        """Names to modules, of what is below ``home``: read from the decorators, since an import takes seconds."""
        spelled = re.compile(rf'^@(?:\w+\.)*{self.group.rpartition(".")[2]}\.register\("([^"]+)"\)', re.MULTILINE)
        found: dict[str, str] = {}
        for folder in map(Path, getattr(importlib.import_module(self.home), "__path__", ())):
            for path in sorted(folder.rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                if any(part.startswith("_") for part in parts):
                    continue
                module = ".".join((self.home, *parts))
                for name in spelled.findall(path.read_text(encoding="utf-8")):
                    if name in found:
                        raise RobustCodecError(
                            f"{self.kind} {name!r} is defined twice: in {found[name]} and in {module}"
                        )
                    found[name] = module
        return found

    def _enter(self) -> None:
        """Load what other packages bring; one that cannot be loaded is warned of, and left out."""
        if self._entered:
            return
        self._entered = True
        for entry in _entry_points().select(group=self.group):
            try:
                _imported(entry.module)
            except RobustCodecError as error:
                name = error.__cause__.name if isinstance(error.__cause__, Twice) else entry.name
                if name not in self._ours:
                    self._broken[name] = str(error)
                warnings.warn(f"{self.group} of {entry.name} ({entry.value}): {error}", PluginWarning, stacklevel=2)


@cache
def _entry_points() -> EntryPoints:
    return cast(EntryPoints, entry_points())  # which reads a file of every installed package


class Twice(RobustCodecError):
    """A ``name`` has two meanings."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class PluginWarning(UserWarning):
    """A package brings plugins that cannot be loaded."""


def _imported(module: str) -> None:
    """Import it; raises :class:`RobustCodecError` that says where it fails, if it does."""
    try:
        with warnings.catch_warnings():  # libraries under the plugins warn of their own future when imported
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except BaseException as error:
        raise blamed(f"{module} cannot be imported", error) from error


class CodecRegistry(Registry["Codec"]):
    """Codecs, some of which can be identified without being built."""

    def fingerprint(self, name: str, /, **params: Any) -> str:
        """What besides its parameters can change a codec's numbers, see :meth:`Codec.fingerprint`."""
        builder = cast("type[Codec]", self.get(name))
        return builder.fingerprint(**params) if hasattr(builder, "fingerprint") else ""  # a function has none


class JoiningRegistry(Registry[T]):
    """Plugins of which several may be joined by plus signs into one: ``a+b:x=1``.

    ``joint``: the module whose ``join(names, plugins)`` makes it. It is imported when it is first needed: it needs
    torch, and names do not.
    """

    def __init__(self, kind: str, home: str, group: str, joint: str) -> None:
        super().__init__(kind, home, group)
        self.joint = joint

    def layers(self, text: str) -> list[Spec]:
        specs = [Spec.parse(part) for part in split(text, r"\+(?=[A-Za-z_])")]
        if len(specs) > 1 and any(spec.name == "none" for spec in specs):
            raise BadParameter(f"{self.kind} {text!r}: none does nothing in a stack; drop it")
        return specs

    def build(self, spec: Spec | str) -> T:
        """Build the plugin, or the joint one, that a text names."""
        specs = self.layers(spec) if isinstance(spec, str) else [spec]
        return self.joined(specs, [super(JoiningRegistry, self).build(s) for s in specs])

    def joined(self, specs: Sequence[Spec], plugins: Sequence[T]) -> T:
        """``plugins`` as one, in the order in which ``specs`` name them; a single one as it is."""
        if len(plugins) == 1:
            return plugins[0]
        join = importlib.import_module(self.joint).join
        return cast(T, join(tuple(spec.name for spec in specs), tuple(plugins)))


def spelled_out(budget: str) -> str:
    """The threat that a budget in short stands for: ``psnr:36`` for ``36dB``, ``linf:8/255`` for ``8/255``. All else
    stays as it is.
    """
    text = budget.strip()
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*dB", text, re.IGNORECASE):
        return f"psnr:{match[1]}"
    return f"linf:{text}" if re.fullmatch(r"\d+(?:\.\d+)?/\d+", text) else text


class ThreatRegistry(JoiningRegistry["Threat"]):
    """Threats; a budget in short, such as ``36dB``, is refused with the threat that it stands for."""

    def layers(self, text: str) -> list[Spec]:
        if (meant := spelled_out(text)) != text.strip():
            raise BadParameter(f"{text!r} is no threat; did you mean {meant}? robustcodec list threats shows all")
        return super().layers(text)


codecs = CodecRegistry("codec", "robustcodec.zoo", "robustcodec.codecs")
attacks: Registry[Attack] = Registry("attack", "robustcodec.attacks", "robustcodec.attacks")
defenses: JoiningRegistry[Defense] = JoiningRegistry(
    "defense", "robustcodec.defenses", "robustcodec.defenses", joint="robustcodec.stack"
)
objectives: Registry[Objective] = Registry("objective", "robustcodec.objectives", "robustcodec.objectives")
metrics: Registry[Metric] = Registry("metric", "robustcodec.scores.metrics", "robustcodec.metrics")
threats: JoiningRegistry[Threat] = ThreatRegistry(
    "threat", "robustcodec.threats", "robustcodec.threats", joint="robustcodec.threats.intersection"
)
data: Registry[DataSet] = Registry("data set", "robustcodec.data", "robustcodec.data")

KINDS: dict[str, Registry[Any]] = {
    "codecs": codecs,
    "attacks": attacks,
    "objectives": objectives,
    "threats": threats,
    "defenses": defenses,
    "data": data,
    "metrics": metrics,
}
