"""A cell with every name read and every plugin built, each at most once; what identifies it and its clips."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from robustcodec.clips import fingerprint
from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Attack, DataSet, Objective, Plugin, Sample, Threat
from robustcodec.registry import Registry, attacks, codecs, data, defenses, objectives, threats
from robustcodec.running.access import DRAWS
from robustcodec.spec import Spec, Value

if TYPE_CHECKING:
    from robustcodec.running.grid import Cell

CELL_VERSION = 2  # raise it whenever the same cell would give other numbers than before
REGISTRIES: dict[str, Registry[Any]] = {
    "codec": codecs,
    "attack": attacks,
    "objective": objectives,
    "threat": threats,
    "defense": defenses,
    "data": data,
}


class Part:
    """A plugin as an axis of a cell names it. It belongs to one cell: a plugin may keep state, and the files behind it
    may change until the next.
    """

    def __init__(self, kind: str, text: str) -> None:
        self.kind, self.text = kind, text

    @cached_property
    def layers(self) -> list[Part]:
        """What plus signs join, in the order typed (defenses from the outermost); of anything else, itself."""
        specs = REGISTRIES[self.kind].layers(self.text)
        return [Part(self.kind, str(spec)) for spec in specs] if len(specs) > 1 else [self]

    @cached_property
    def spec(self) -> Spec:
        return Spec.parse(self.text)

    @cached_property
    def params(self) -> dict[str, Value]:
        """All parameters, defaults filled in."""
        return REGISTRIES[self.kind].resolve(self.spec)

    @cached_property
    def built(self) -> Any:
        """The plugin, which checks its values by itself; raises :class:`UserError`."""
        if len(self.layers) > 1:
            specs, plugins = [layer.spec for layer in self.layers], [layer.built for layer in self.layers]
            return REGISTRIES[self.kind].joined(specs, plugins)
        return REGISTRIES[self.kind].build(self.spec)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Name, all parameters, and what else can change a number: weights, libraries, clips by their checksums."""
        if len(self.layers) > 1:
            name = "+".join(layer.spec.name for layer in self.layers)
            return {"name": name, "layers": [layer.identity for layer in self.layers]}
        facts: dict[str, Any] = {"name": self.spec.name}
        params, left_out = self.params, set[str]()  # left out: what is said in another way, or changes nothing
        if self.kind == "codec":
            facts["fingerprint"] = codecs.fingerprint(self.spec.name, **self.params)
            left_out |= {"weights"} if facts["fingerprint"] else set()  # it says all that a path can say
        elif self.kind == "data":
            left_out.add("path")  # samples are identified by their bytes
        else:
            plugin: Plugin = self.built
            params = {k: getattr(plugin, k, v) for k, v in params.items()}  # 16 levels are 16/255 to it
            left_out |= {k for k, v in params.items() if (k, v) in plugin.neutral.items()}
            if clips := plugin.made_on():
                facts["made_on"] = [[clip.id, fingerprint(clip)] for clip in clips]
                left_out.add("path")
            if prints := plugin.fingerprint():
                facts["fingerprint"] = prints
                left_out.add("weights")
        return facts | {"params": {k: v for k, v in params.items() if k not in left_out}}


class Resolved:
    """All that ``cell`` names. Codecs are not among it: who codes with them builds them, on a device."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.victim = cell, cell.victim
        self.parts = {kind: Part(kind, getattr(cell, kind)) for kind in REGISTRIES}
        self._fingerprints: dict[Sample, str] = {}

    @property
    def attack(self) -> Attack:
        return cast(Attack, self.parts["attack"].built)

    @property
    def objective(self) -> Objective:
        return cast(Objective, self.parts["objective"].built)

    @property
    def threat(self) -> Threat:
        return cast(Threat, self.parts["threat"].built)

    @property
    def defense(self) -> Part:
        return self.parts["defense"]

    @cached_property
    def victim_defense(self) -> Part:
        """What the victim is behind: the cell's own defense, if the attacker knows it, or none."""
        return self.defense if self.victim.defense == self.cell.defense else Part("defense", self.victim.defense)

    @cached_property
    def samples(self) -> list[Sample]:
        """The first ones of the data set, as many as the cell's limit says."""
        samples = list(cast(DataSet, self.parts["data"].built).samples())
        return samples[: self.cell.limit] if self.cell.limit else samples

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Every axis with its defaults filled in, weights and data by their checksums."""
        kind = self.cell.access.partition(":")[0]
        borrowed = {"transfer": self.victim.codecs, "bpda": (self.victim.guide or "",)}.get(kind)
        access = self.cell.access
        if borrowed:
            access = f"{kind}:{'|'.join(_canonical(self.codecs[codec]) for codec in borrowed)}"
        samples = [[sample.id, self._fingerprint(sample)] for sample in self.cell.samples()]
        named = {kind: part.identity for kind, part in self.parts.items()}
        return self._common | named | {"access": access, "samples": samples}

    @cached_property
    def id(self) -> str:
        """16 hex digits of the sha256 of :attr:`identity`."""
        return _digest(self.identity)

    def craft_id(self, sample: Sample) -> str:
        """Identity of one adversarial clip: what it was crafted with, on and from."""
        named = {kind: self.parts[kind].identity for kind in ("attack", "objective", "threat")}
        clip = [sample.id, self._fingerprint(sample), self.parts["data"].identity]
        return _digest(self._common | named | {"victim": self._victim_identity, "clip": clip})

    @cached_property
    def _victim_identity(self) -> list[dict[str, Any]]:
        facts = [*(self.codecs[codec] for codec in self.victim.codecs), self.victim_defense.identity]
        if self.victim.guide is not None:
            facts.append(self.codecs[self.victim.guide])
        return facts if self.victim.draws == DRAWS else [*facts, {"draws": self.victim.draws}]

    @cached_property
    def codecs(self) -> dict[str, dict[str, Any]]:
        """Identities of what the cell measures, crafts on and borrows gradients from, by name."""
        others = {*self.victim.codecs, self.victim.guide} - {self.cell.codec, None}
        named = {name: Part("codec", name).identity for name in others if name is not None}
        return named | {self.cell.codec: self.parts["codec"].identity}

    def check_codecs(self) -> None:
        """Raises :class:`RobustCodecError` if weights are not what they were when the cell was identified."""
        for name, identity in self.codecs.items():
            if identity_of("codec", name) != identity:
                raise RobustCodecError(f"the weights of {name} changed while the run went on; run it again")

    @property
    def _common(self) -> dict[str, Any]:
        """What cells and clips are both identified by; float32 is younger than the first results and is not said."""
        precision = {} if self.cell.precision == "float32" else {"precision": self.cell.precision}
        return {"version": CELL_VERSION, "seed": self.cell.seed, **precision}

    def _fingerprint(self, sample: Sample) -> str:
        if sample not in self._fingerprints:
            self._fingerprints[sample] = fingerprint(sample)
        return self._fingerprints[sample]


def identity_of(kind: str, text: str) -> dict[str, Any]:
    """:attr:`Part.identity` of an axis value, as the files behind it are now."""
    return Part(kind, text).identity


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]
