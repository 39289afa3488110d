"""Names to plugins. One decorator spells the name; the plugin folders are imported at the first lookup.

Third parties put ``my_name = "my_package.module"`` under the entry-point group
``robustcodec.codecs`` (``.attacks``, ``.defenses``, ``.objectives``, ``.threats``, ``.metrics``, ``.data``);
importing that module must run the decorators.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from robustcodec.errors import BadParameter, RobustCodecError, UnknownName
from robustcodec.spec import Spec, Value, resolve

if TYPE_CHECKING:  # they need torch; names do not
    from robustcodec.interfaces import Attack, Codec, DataSet, Defense, Metric, Objective, Threat

T = TypeVar("T")
B = TypeVar("B", bound=Callable[..., Any])


class Registry(Generic[T]):
    """The plugins of one kind (``kind`` in messages), found in the module or package ``home`` and by entry points."""

    def __init__(self, kind: str, home: str, group: str) -> None:
        self.kind, self.home, self.group = kind, home, group
        self._builders: dict[str, Callable[..., T]] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[B], B]:
        """Decorator: ``@attacks.register("pgd")``. A name taken by another definition, or that no spec can hold,
        raises.
        """
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            raise RobustCodecError(
                f"{self.kind} {name!r} cannot be a name; expected a letter or _, then also digits or -"
            )

        def add(builder: B) -> B:
            old = self._builders.get(name)
            if old is not None and old is not builder:
                raise RobustCodecError(
                    f"{self.kind} {name!r} is defined twice: in {old.__module__} and in {builder.__module__}"
                )
            self._builders[name] = builder
            return builder

        return add

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._scan()
        return sorted(self._builders)

    def get(self, name: str) -> Callable[..., T]:
        """The class or function registered as ``name``; raises :class:`UnknownName` with the nearest names."""
        self._scan()
        try:
            return self._builders[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._builders, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UnknownName(f"no {self.kind} is named {name!r}{hint} (robustcodec list shows all)") from None

    def layers(self, text: str) -> list[Spec]:
        """The plugins that a text names: one, or those that plus signs join, in their order.

        A ``+`` in front of a letter or ``_`` joins two, so no parameter of what can be joined holds that. Raises
        :class:`BadParameter` for what is no spec, and for ``none`` joined to others.
        """
        return [Spec.parse(text)]

    def joined(self, specs: Sequence[Spec], plugins: Sequence[T]) -> T:
        """``plugins`` as one, see :class:`JoiningRegistry`; of this kind a text names a single one."""
        (plugin,) = plugins
        return plugin

    def resolve(self, spec: Spec | str) -> dict[str, Value]:
        """All parameters of a spec, defaults filled in, without building it."""
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        return resolve(spec, self.get(spec.name), self.kind)

    def build(self, spec: Spec | str) -> T:
        """Build the plugin a spec names."""
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        builder = self.get(spec.name)
        try:
            return builder(**resolve(spec, builder, self.kind))
        except ValueError as error:  # a plugin's own check of a value
            raise BadParameter(f"{self.kind} {str(spec)!r}: {error}") from error

    def _scan(self) -> None:
        if self._scanned:
            return
        with warnings.catch_warnings():  # libraries under the plugins warn of their own future when imported
            warnings.simplefilter("ignore")
            home = importlib.import_module(self.home)
            for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self.home}.{module.name}")
            for entry in entry_points(group=self.group):
                entry.load()
        self._scanned = True  # last: a failed import is met again, and named, by the next lookup


class CodecRegistry(Registry["Codec"]):
    """Codecs, of which some can be identified without being built."""

    def fingerprint(self, name: str, **params: Any) -> str:
        """What besides its parameters can change a codec's numbers, see :meth:`Codec.fingerprint`."""
        return cast("type[Codec]", self.get(name)).fingerprint(**params)

    def immaterial(self, name: str) -> set[str]:
        """Parameters that can change none of its numbers."""
        return set(cast("type[Codec]", self.get(name)).immaterial)


class JoiningRegistry(Registry[T]):
    """Plugins of which several may be joined by plus signs into one: ``a+b:x=1``.

    ``joint``: the module whose ``join(names, plugins)`` makes it. It is imported when it is first needed: it needs
    torch, and names do not.
    """

    def __init__(self, kind: str, home: str, group: str, joint: str) -> None:
        super().__init__(kind, home, group)
        self.joint = joint

    def layers(self, text: str) -> list[Spec]:
        specs = [Spec.parse(part) for part in re.split(r"\+(?=[A-Za-z_])", text)]
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


codecs = CodecRegistry("codec", "robustcodec.zoo", "robustcodec.codecs")
attacks: Registry[Attack] = Registry("attack", "robustcodec.attacks", "robustcodec.attacks")
defenses: JoiningRegistry[Defense] = JoiningRegistry(
    "defense", "robustcodec.defenses", "robustcodec.defenses", joint="robustcodec.stack"
)
objectives: Registry[Objective] = Registry("objective", "robustcodec.objectives", "robustcodec.objectives")
metrics: Registry[Metric] = Registry("metric", "robustcodec.scores.metrics", "robustcodec.metrics")
threats: JoiningRegistry[Threat] = JoiningRegistry(
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
