"""A cell with every name read and every plugin built, each at most once; what identifies it and its clips.

Cells that are planned together share a :class:`Planning`: what their axes are identified by, read once for all of them.
They share no plugin: each cell builds its own when it uses it, for a plugin may keep state.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from robustcodec.answers import described
from robustcodec.brought import files as brought
from robustcodec.clips import fingerprint, of_all
from robustcodec.errors import BadData, BrokenPlugin, RobustCodecError, UserError, blamed
from robustcodec.interfaces import Attack, DataSet, Objective, Plugin, Sample, Threat
from robustcodec.registry import Registry, attacks, codecs, data, defenses, objectives, threats
from robustcodec.running.access import DRAWS, Victim
from robustcodec.spec import Spec, Value

if TYPE_CHECKING:
    from robustcodec.running.grid import Cell

CELL_VERSION = 3  # raise it whenever the same cell would give other numbers than before
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

    flaw: RobustCodecError | None = None  # what its plugin raised when it was identified

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
        """Name, all parameters, and what else can change a number: weights, libraries, clips by their checksums.

        A plugin that cannot be made has a ``flaw`` and is identified by its text. Raises :class:`UserError` for a
        mistake in that.
        """
        if len(self.layers) > 1:
            name = "+".join(layer.spec.name for layer in self.layers)
            facts = {"name": name, "layers": [layer.identity for layer in self.layers]}
            self.flaw = next((layer.flaw for layer in self.layers if layer.flaw is not None), None)
            return facts
        try:
            return self._facts()
        except UserError:
            raise
        except RobustCodecError as error:
            self.flaw = error
        except BaseException as error:
            self.flaw = blamed(f"{REGISTRIES[self.kind].kind} {self.text!r}", error, BrokenPlugin)
        return {"name": self.text, "broken": True}

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": self.spec.name}
        if brought.is_in_file(self.spec.name):
            facts = {"name": brought.short(self.spec.name), "source": brought.source(self.spec.name)}
        params, left_out = self.params, set[str]()  # left out: what is said in another way, or changes nothing
        if "source" in facts:
            params = brought.by_content(params)
        if self.kind == "codec":
            facts["fingerprint"] = codecs.fingerprint(self.spec.name, **self.params)
            left_out |= {"weights"} if facts["fingerprint"] else set()  # it says all that a path can say
            left_out |= codecs.immaterial(self.spec.name)
        elif self.kind == "data":
            left_out |= {"path"} | data.immaterial(self.spec.name)  # samples are identified by their bytes
        else:
            plugin: Plugin = self.built
            if "source" not in facts:
                params = {k: getattr(plugin, k, v) for k, v in params.items()}  # 16 levels are 16/255 to it
            left_out |= {k for k, v in params.items() if (k, v) in plugin.neutral.items()}
            if clips := plugin.made_on():
                facts["made_on"] = [[clip.id, fingerprint(clip)] for clip in clips]
                left_out.add("path")
            if prints := plugin.fingerprint():
                facts["fingerprint"] = prints
                left_out.add("weights")
        return facts | {"params": {k: v for k, v in params.items() if k not in left_out}}


class Planning:
    """What identifies the axes of cells that are planned together, as the files behind them were when it was first
    asked for: parts, the samples of data sets, and their checksums.
    """

    def __init__(self) -> None:
        self._identities: dict[tuple[str, str], dict[str, Any]] = {}
        self._samples: dict[str, list[Sample]] = {}
        self._fingerprints: dict[Sample, str] = {}
        self._flaws: dict[tuple[str, str] | Sample, RobustCodecError] = {}

    def flaw(self, parts: Iterable[Part], samples: Iterable[Sample]) -> RobustCodecError | None:
        """What the first of some parts and samples raised when it was identified, if one did."""
        asked: list[tuple[str, str] | Sample] = [*((part.kind, part.text) for part in parts), *samples]
        return next((self._flaws[each] for each in asked if each in self._flaws), None)

    def identity(self, part: Part) -> dict[str, Any]:
        """:attr:`Part.identity`, of the first part with that text."""
        key = part.kind, part.text
        if key not in self._identities:
            self._identities[key] = part.identity
            if part.flaw is not None:
                self._flaws[key] = part.flaw
        return self._identities[key]

    def samples(self, data: Part) -> list[Sample]:
        """All samples of a data set; of one that is broken, none."""
        if data.text not in self._samples:
            try:
                samples = list(cast(DataSet, data.built).samples())
                if odd := [each for each in samples if not (isinstance(each, Sample) and isinstance(each.id, str))]:
                    raise BrokenPlugin(f"{data.text}: samples gave {described(odd[0])}; expected samples with a name")
            except UserError:
                raise
            except BaseException as error:
                broken = _flaw(f"{data.text}: samples", error)
                self._flaws["data", data.text], samples = broken, []
            if twice := [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]:
                files = [str(sample.source or sample.id) for sample in samples if sample.id == twice[0]]
                raise BadData(f"{data.text}: {' and '.join(files)} have one name, {twice[0]!r}; rename one of them")
            self._samples[data.text] = samples
        return self._samples[data.text]

    def fingerprint(self, sample: Sample) -> str:
        """:func:`robustcodec.clips.fingerprint`; empty of one that cannot be read."""
        if sample not in self._fingerprints:
            try:
                self._fingerprints[sample] = fingerprint(sample)
            except UserError:
                raise
            except BaseException as error:
                broken = _flaw(f"sample {sample.id}", error)
                self._flaws[sample], self._fingerprints[sample] = broken, ""
        return self._fingerprints[sample]


def _flaw(who: str, error: BaseException) -> RobustCodecError:
    return error if isinstance(error, RobustCodecError) else blamed(who, error, BrokenPlugin)


class Resolved:
    """All that ``cell`` names. Codecs are not among it: who codes with them builds them, on a device."""

    def __init__(self, cell: Cell, planning: Planning | None = None) -> None:
        self.cell, self.planning = cell, planning or Planning()
        self.parts = {kind: Part(kind, getattr(cell, kind)) for kind in REGISTRIES}

    @cached_property
    def victim(self) -> Victim:
        """What the attack is crafted on."""
        return self.cell.victim

    @property
    def attack(self) -> Attack:
        return cast(Attack, self._used("attack").built)

    @property
    def objective(self) -> Objective:
        return cast(Objective, self._used("objective").built)

    @property
    def threat(self) -> Threat:
        return cast(Threat, self._used("threat").built)

    @property
    def defense(self) -> Part:
        return self._used("defense")

    def _used(self, kind: str) -> Part:
        """A part of this cell's own; raises :class:`RobustCodecError` if it is not what the cell was planned with."""
        part = self.parts[kind]
        if part.identity != self.planning.identity(part):
            raise RobustCodecError(f"what {part.text} is made of changed while the run went on; run it again")
        return part

    @cached_property
    def victim_defense(self) -> Part:
        """What the victim is behind: the cell's own defense, if the attacker knows it, or none."""
        own = self.parts["defense"]
        return own if self.victim.defense == own.text else Part("defense", self.victim.defense)

    @cached_property
    def samples(self) -> list[Sample]:
        """The first ones of the data set, as many as the cell's limit says."""
        samples = self.planning.samples(self.parts["data"])
        return samples[: self.cell.limit] if self.cell.limit else samples

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Every axis with its defaults filled in, weights and data by their checksums."""
        kind = self.cell.access.partition(":")[0]
        borrowed = {"transfer": self.victim.codecs, "bpda": (self.victim.guide or "",)}.get(kind)
        access = self.cell.access
        if borrowed:
            access = f"{kind}:{'|'.join(_canonical(self.codecs[codec]) for codec in borrowed)}"
        samples = of_all(self.cell.samples(), lambda sample: [sample.id, self.planning.fingerprint(sample)])
        named = {kind: self.planning.identity(part) for kind, part in self.parts.items()}
        return self._common | named | {"access": access, "samples": samples}

    @property
    def flaw(self) -> RobustCodecError | None:
        """What a plugin of this cell raised while the cell was planned: it can be identified, and not be run."""
        _ = self.identity, self.codecs, self.planning.identity(self.victim_defense)
        codecs_of = [Part("codec", name) for name in self.codecs]
        return self.planning.flaw([*self.parts.values(), self.victim_defense, *codecs_of], self.cell.samples())

    @cached_property
    def id(self) -> str:
        """16 hex digits of the sha256 of :attr:`identity`."""
        return digest_of(self.identity)

    def craft_id(self, sample: Sample) -> str:
        """Identity of one adversarial clip: what it was crafted with, on and from."""
        identity = self.planning.identity
        named = {kind: identity(self.parts[kind]) for kind in ("attack", "objective", "threat")}
        clip = [sample.id, self.planning.fingerprint(sample), identity(self.parts["data"])]
        return digest_of(self._common | named | {"victim": self._victim_identity, "clip": clip})

    @cached_property
    def _victim_identity(self) -> list[dict[str, Any]]:
        behind = self.planning.identity(self.victim_defense)
        facts = [*(self.codecs[codec] for codec in self.victim.codecs), behind]
        if self.victim.guide is not None:
            facts.append(self.codecs[self.victim.guide])
        return facts if self.victim.draws == DRAWS else [*facts, {"draws": self.victim.draws}]

    @cached_property
    def codecs(self) -> dict[str, dict[str, Any]]:
        """Identities of what the cell measures, crafts on and borrows gradients from, by name."""
        names = {*self.victim.codecs, self.victim.guide, self.cell.codec} - {None}
        return {name: self.planning.identity(Part("codec", name)) for name in names if name is not None}

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


def identity_of(kind: str, text: str) -> dict[str, Any]:
    """:attr:`Part.identity` of an axis value, as the files behind it are now."""
    return Part(kind, text).identity


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """16 hex digits of the sha256 of what identifies a cell or a clip."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]
