"""What is left to do of a run: the clips to be crafted, and of each cell the samples to be evaluated.

Clips that several cells need are crafted once, for the first of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from cachetools import LRUCache
from torch import Tensor

from robustcodec.clips import fingerprint, of_all
from robustcodec.errors import StoreError
from robustcodec.execution.tasks import Clip, Failure, Task
from robustcodec.interfaces import Sample
from robustcodec.running.evaluating import PICTURED, Part
from robustcodec.running.findings import summarise
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Store

Batch = tuple[Sample, ...]
LOADED = 2**28  # bytes of samples that are kept


@dataclass(eq=False)
class Job(ABC):
    """Work of one kind on a cell. ``pending``: batches of samples that nobody works on."""

    cell: Cell
    pending: list[Batch] = field(default_factory=list)

    @property
    @abstractmethod
    def whole(self) -> Evaluations:
        """The cell that its time is counted for."""

    @property
    @abstractmethod
    def codecs(self) -> tuple[str, ...]:
        """Those that its worker needs, with what is around them."""

    @abstractmethod
    def take(self, count: int) -> Task:
        """A task of the first ``count`` batches that are pending, which then are not any more."""

    def _task(self, count: int, clips: Sequence[Clip] | None = None) -> Task:
        taken, self.pending = self.pending[:count], self.pending[count:]
        for batch in taken:
            for sample in batch:
                sample.load()  # says now what is wrong with it
        cell = self.cell.resolved
        return Task(self.cell, tuple(taken), cell.codecs, cell.samples[0].id, None if clips is None else tuple(clips))


@dataclass(eq=False)
class Crafts(Job):
    """Clips of the cell of ``owner``. ``ids``: by sample, of those to be kept; the others only share their batches."""

    owner: Evaluations | None = None
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> Evaluations:
        assert self.owner is not None
        return self.owner

    @cached_property
    def codecs(self) -> tuple[str, ...]:
        victim = self.cell.victim
        return (*victim.codecs, victim.guide or "", victim.defense)

    @property
    def divisible(self) -> bool:
        """False if its attack makes something once for all samples, on clips of its own."""
        return not self.cell.resolved.attack.made_on()

    def take(self, count: int) -> Task:
        return self._task(count if self.divisible else len(self.pending))


@dataclass(eq=False)
class Evaluations(Job):
    """A cell to be evaluated. ``ids``: of its clips, by sample; ``waiting``: samples whose clips are not there yet.
    ``pending``: samples whose clips are. ``parts``: what is known, by the sample with which a part begins. ``seconds``:
    of work so far, of crafting for it too.
    """

    store: Store | None = None
    ids: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Sample] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    under_way: int = 0
    failure: Failure | None = None
    seconds: float = 0.0

    @property
    def whole(self) -> Evaluations:
        return self

    @cached_property
    def codecs(self) -> tuple[str, ...]:
        return (self.cell.codec, "", self.cell.defense)

    @property
    def finished(self) -> bool:
        return not (self.waiting or self.pending or self.under_way)

    def take(self, count: int) -> Task:
        assert self.store is not None
        stored = {sample.id: self.store.clip(self.ids[sample.id]) for (sample,) in self.pending[:count]}
        if lost := [name for name, clip in stored.items() if clip is None]:
            raise StoreError(f"the attacked clip of {lost[0]} is gone, or damaged since it was written; run it again")
        return self._task(count, [clip for clip in stored.values() if clip is not None])

    def crafted(self, sample: str) -> bool:
        """Note that the clip of a sample is there; True if it was waited for."""
        if (known := self.waiting.pop(sample, None)) is None:
            return False
        self.pending.append((known,))
        return True

    def result(self) -> tuple[Result, dict[str, dict[str, Tensor]]]:
        """What came of the whole cell, samples in their order, and the clips that pictures show."""
        place = {sample: i for i, sample in enumerate(self.ids)}
        parts = [self.parts[first] for first in sorted(self.parts, key=place.__getitem__)]
        rows = sorted((row for part in parts for row in part.rows), key=lambda row: place[row["sample"]])
        findings = sorted((f for part in parts for f in part.findings), key=lambda f: place[f.sample])
        frames = {name: curves for part in parts for name, curves in part.frames.items()}
        shown = {name: clips for part in parts for name, clips in part.pictured.items()}
        result = Result(
            self.cell.id, self.cell, "ok", tuple(rows), summarise(findings, len(rows)), parts[0].provenance,
            identity=self.cell.resolved.identity, frames={name: frames[name] for name in self.ids if name in frames},
        )  # fmt: skip
        return result, dict(_pictured(self.ids, shown))


def _pictured(samples: Iterable[str], shown: dict[str, dict[str, Tensor]]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The first clips that fit into :data:`PICTURED` bytes, but those of the first sample in any case."""
    size = 0
    for i, sample in enumerate(samples):
        size += sum(clip.numel() for clip in shown.get(sample, {}).values())
        if i and (size > PICTURED or sample not in shown):
            return
        yield sample, shown[sample]


def plan(cells: Iterable[Cell], store: Store, batch_size: int) -> tuple[list[Crafts], list[Evaluations]]:
    """The work on ``cells``; what the store holds of their clips is not crafted again.

    Batches are the same whatever is there already, since on a GPU numbers depend on the company. A cell that is broken
    before anything of it is done, or whose samples cannot be read, has a failure and no work.
    """
    crafts: list[Crafts] = []
    evaluations: list[Evaluations] = []
    known: dict[str, bool] = {}  # whether the clip is there; False: somebody crafts it
    loaded: LRUCache[tuple[str, str], Tensor] = LRUCache(LOADED, Tensor.numel)
    read: set[tuple[str, str]] = set()  # samples that were loaded, some time
    for cell in cells:
        try:
            if (flaw := cell.resolved.flaw) is not None:
                raise flaw
            samples = [_kept(sample, cell.data, loaded) for sample in cell.samples()]
            ids = {sample.id: cell.craft_id(sample) for sample in samples}
            found = {craft_id: store.holds_clip(craft_id) for craft_id in ids.values() if craft_id not in known}
            if not all((known | found)[craft_id] for craft_id in ids.values()):
                _read(cell, samples, read)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            evaluations.append(Evaluations(cell, store=store, failure=Failure.of(error)))
            continue
        new = {s.id: ids[s.id] for s in samples if ids[s.id] not in known}
        known |= found
        mine = {sample: craft_id for sample, craft_id in new.items() if not known[craft_id]}
        there: list[Batch] = [(s,) for s in samples if known[ids[s.id]]]
        waiting = {s.id: s for s in samples if not known[ids[s.id]]}
        evaluations.append(Evaluations(cell, there, store=store, ids=ids, waiting=waiting))
        if mine:
            batches = [b for b in _batches(samples, batch_size) if any(s.id in mine for s in b)]
            crafts.append(Crafts(cell, batches, owner=evaluations[-1], ids=mine))
    return crafts, evaluations


def _read(cell: Cell, samples: Sequence[Sample], read: set[tuple[str, str]]) -> None:
    """Load samples that are not among those that were; raises what is wrong with them."""

    def load(sample: Sample) -> None:
        if (key := (cell.data, sample.id)) not in read:
            sample.load()
            read.add(key)

    of_all(samples, load)


def _kept(sample: Sample, data: str, loaded: LRUCache[tuple[str, str], Tensor]) -> Sample:
    """``sample``, which is read again only when ``loaded`` has forgotten it: attack after attack asks for it."""

    def load() -> Tensor:
        key = data, sample.id
        if (clip := loaded.get(key)) is None:
            clip = sample.load()
            if clip.numel() <= LOADED:
                loaded[key] = clip
        return clip

    kept = replace(sample, load=load)
    return replace(kept, checksum=fingerprint(kept))


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Batch]:
    """Runs of at most ``size`` neighbours of one shape."""
    batch: list[Sample] = []
    for sample in samples:
        if batch and (len(batch) == size or sample.load().shape != batch[0].load().shape):
            yield tuple(batch)
            batch = []
        batch.append(sample)
    if batch:
        yield tuple(batch)
