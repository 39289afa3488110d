"""Whether a run has reached the worst case: on a share of its samples, what else might do more damage is tried.

Three things are held against the worst case of a codec, defense, access, threat and objective, sample by sample: the
same attacks with another surrogate of the rounding, the same attacks with a longer schedule, and the clips that other
cells of the run have crafted of the same sample within the same threat. All are crafted and judged as the run was. What
is clearly worse than the worst case is a finding: the run's number was a lower bound of the damage.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robustcodec.errors import BadParameter, StoreError, UserError
from robustcodec.execution.runner import Runner, Tally
from robustcodec.execution.watching import Watcher
from robustcodec.running.evaluating import Crafted
from robustcodec.running.findings import Finding, clearly_above, summarise
from robustcodec.running.grid import Cell, Drawn
from robustcodec.running.resolved import Part
from robustcodec.running.store import Row, Store
from robustcodec.spec import Spec

SURROGATES = ("soft", "none", "noise")  # of those an attack may choose, all but the one known to miss
SCHEDULES = ("steps", "queries")  # what a schedule is counted in
Group = tuple[Any, ...]
Worst = dict[tuple[Group, str], float]  # of a group and a sample


@dataclass(frozen=True)
class Challenge:
    """A cell's attack, changed as ``title`` says, on some of its samples."""

    audited: Cell
    title: str
    cell: Drawn


@dataclass(frozen=True)
class Plan:
    """``samples``: what is audited of each cell, by id. ``challenges``: what is to be crafted."""

    samples: dict[Cell, tuple[str, ...]]
    challenges: tuple[Challenge, ...]


@dataclass(frozen=True)
class _Blow:
    """What one challenger did to one sample, and the worst case of the run there."""

    sample: str
    title: str
    damage: float
    worst: float

    @property
    def gain(self) -> str:
        if not math.isfinite(self.damage):
            return "damage without bounds, unlike"
        if self.worst == 0:
            return f"{self.damage:.2g} instead of 0,"
        return f"{(self.damage - self.worst) / abs(self.worst):.0%} more damage than"


def plan(store: Store, share: float, longer: int, seed: int) -> Plan:
    """How to audit the cells that a run has finished. ``share``: of the samples of each cell, at least one, drawn by
    ``seed``; ``longer``: times the schedule.

    Raises :class:`BadParameter` for a share or factor that cannot be, :class:`UserError` for a run without results,
    :class:`StoreError` for one that holds a damaged one.
    """
    if not 0 < share <= 1 or longer < 2:
        raise BadParameter(
            f"share={share}, longer={longer}; expected a share above 0 and at most 1, and a factor of 2 or more"
        )
    cells = [cell for cell in store.grid().cells() if store.done(cell.id)]
    if store.damages:
        raise StoreError(store.damages[0])
    if not cells:
        raise UserError(f"no cell of {store.root} has finished; let robustcodec run finish one before it is audited")
    samples = {cell: drawn(cell, share, seed) for cell in cells}
    challenges = [
        Challenge(cell, title, Drawn.of(replace(cell, attack=attack), samples[cell]))
        for cell in cells
        for title, attack in _variants(cell.resolved.parts["attack"], longer)
    ]
    return Plan(samples, tuple(challenges))


def drawn(cell: Cell, share: float, seed: int) -> tuple[str, ...]:
    """A random share of a cell's samples; cells of one data set draw the same."""
    names = [sample.id for sample in cell.samples()]
    lots = {name: hashlib.sha256(f"{seed} {name}".encode()).digest() for name in names}
    return tuple(sorted(sorted(names, key=lots.__getitem__)[: math.ceil(share * len(names))]))


def _variants(attack: Part, longer: int) -> Iterator[tuple[str, str]]:
    """What is changed of an attack, and the attack so changed; what it refuses is left out."""
    changes = {}
    if "surrogate" in attack.params:
        own = attack.params["surrogate"]
        changes = {f"surrogate={other}": ("surrogate", other) for other in SURROGATES if other != own}
    for name in SCHEDULES:
        if name in attack.built.effort and isinstance(count := attack.params.get(name), int):
            changes[f"a schedule {longer} times as long"] = (name, str(longer * count))
            break
    first = next(iter(attack.params), "")
    given = {key or first: value for key, value in attack.spec.params}
    for title, (key, value) in changes.items():
        text = str(Spec(attack.spec.name, attack.spec.tag, tuple((given | {key: value}).items())))
        try:
            _ = Part("attack", text).built
        except UserError:  # a preset that sets it, a value that it does not know
            continue
        yield title, text


def audit(
    store: Store, runner: Runner, plan: Plan, watcher: Watcher, note: Callable[[str], None] = lambda text: None
) -> tuple[dict[str, tuple[str, ...]], Tally]:
    """Craft what ``plan`` says and try the clips of neighbours: the findings of each cell that has any, which ``store``
    keeps too.

    ``runner``: into the folder ``store.audits``; what that holds is not crafted again.
    """
    tally = runner.run([challenge.cell for challenge in plan.challenges], watcher)
    worst, strongest = _worst(store, plan.samples)
    blows: dict[Cell, list[_Blow]] = defaultdict(list)
    for challenge in plan.challenges:
        result = runner.store.result(challenge.cell.id)
        for row in result.rows if result is not None else ():
            known = worst[_group(challenge.audited), row["sample"]]
            blows[challenge.audited].append(_Blow(row["sample"], challenge.title, _damage(row), known))
    for group, cell in strongest.items():
        note(f"clips of other cells on {cell}")
        for sample, (damage, neighbour) in _transferred(store, runner, cell, plan).items():
            title = f"the clip of {neighbour.attack} on {neighbour.codec}"
            blows[cell].append(_Blow(sample, title, damage, worst[group, sample]))
    found = {cell.id: lines for cell, several in blows.items() if (lines := _lines(several, len(plan.samples[cell])))}
    store.put_audit(found)
    return found, tally


def _group(cell: Cell) -> Group:
    """Cells whose damage is of one kind: attempts on the same thing."""
    return cell.data, cell.threat, cell.codec, cell.defense, cell.access, cell.objective


def _damage(row: Row) -> float:
    """On real bytes; no picture is the most that there is."""
    damage = row["damage"]
    return math.inf if damage is None or math.isnan(damage) else float(damage)


def _worst(store: Store, cells: Iterable[Cell]) -> tuple[Worst, dict[Group, Cell]]:
    """The worst case of each group and sample, and of each group the cell that does most damage in the mean."""
    worst: Worst = {}
    means: dict[Group, dict[Cell, float]] = defaultdict(dict)
    for cell in cells:
        result = store.result(cell.id)
        damages = {row["sample"]: _damage(row) for row in (result.rows if result is not None else ())}
        for sample, damage in damages.items():
            key = _group(cell), sample
            worst[key] = max(worst.get(key, -math.inf), damage)
        means[_group(cell)][cell] = sum(damages.values()) / len(damages)
    return worst, {group: max(mean, key=mean.__getitem__) for group, mean in means.items()}


def _transferred(store: Store, runner: Runner, cell: Cell, plan: Plan) -> dict[str, tuple[float, Cell]]:
    """By sample of ``cell`` the most damage that a clip of another cell does, and that cell."""
    attempts = [
        (neighbour, Crafted(sample, *stored))
        for sample in cell.samples()
        if sample.id in plan.samples[cell]
        for neighbour in plan.samples
        if _lends(neighbour, cell) and (stored := store.clip(neighbour.craft_id(sample))) is not None
    ]
    most: dict[str, tuple[float, Cell]] = {}
    rows = runner.worker.evaluation.run(cell.resolved, [crafted for _, crafted in attempts]).rows if attempts else ()
    for (neighbour, _), row in zip(attempts, rows, strict=True):
        most[row["sample"]] = max(most.get(row["sample"], (-math.inf, cell)), (_damage(row), neighbour), key=_first)
    return most


def _first(pair: tuple[float, Cell]) -> float:
    return pair[0]


def _lends(neighbour: Cell, cell: Cell) -> bool:
    """Whether a clip of ``neighbour`` is a fair attempt on ``cell``: within the same threat, of another kind, and not
    by an attacker who knows more of the same codec.
    """
    if (neighbour.data, neighbour.threat) != (cell.data, cell.threat) or _group(neighbour) == _group(cell):
        return False
    knows_all = cell.access.startswith(("adaptive", "bpda")) or (cell.defense == "none" and cell.access == "oblivious")
    return knows_all or neighbour.access == cell.access or neighbour.codec != cell.codec


def _lines(blows: Sequence[_Blow], samples: int) -> tuple[str, ...]:
    """A line for each challenger that beat the worst case on some of ``samples`` samples."""
    beaten: dict[str, list[_Blow]] = defaultdict(list)
    for blow in blows:
        if blow.damage > clearly_above(blow.worst):
            beaten[blow.title].append(blow)
    most = {title: max(several, key=lambda blow: blow.damage - blow.worst) for title, several in beaten.items()}
    return summarise(
        [
            Finding(blow.sample, f"audit: {title} does up to {most[title].gain} the worst case of the run")
            for title, several in beaten.items()
            for blow in several
        ],
        samples,
    )
