"""The one scheduler: it decides what is done next and by whom, and is the only one that writes results.

An executor has slots, each of which does one task at a time. Evaluation comes first, since it finishes cells; then a
slot goes on with the codecs that it has in hand; then comes what :meth:`Scheduler._in_order` puts first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from robustcodec.execution.claims import Claims
from robustcodec.execution.costs import Costs
from robustcodec.execution.jobs import Batch, Crafts, Evaluations, Job
from robustcodec.execution.pace import Notice, PaceCounter
from robustcodec.execution.queue import Queue
from robustcodec.execution.tasks import Answer, Failure, Task
from robustcodec.execution.watching import Watcher
from robustcodec.running.crafting import Made
from robustcodec.running.evaluating import Part
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

LENGTH = 1.0  # seconds that a task should take: much more than what it costs to move it, and little to lose
ATTEMPTS = 3  # a task whose worker is lost is given to others, so many times in all
LOOKED = 2.0  # seconds from one look at what other runs do to the next
ESTIMATED = 5.0  # seconds from one estimate of the end to the next
WATCHED = 1.0  # seconds after which a limit of time is looked at again


@dataclass(frozen=True)
class Lost:
    """A worker that ended in the middle of a task; ``how``: such as "was ended by SIGKILL"."""

    how: str


class Executor(Protocol):
    """Workers in slots, numbered from 0; their number may change."""

    @property
    def slots(self) -> int: ...
    def idle(self) -> Sequence[int]:
        """Slots that wait for a task."""
        ...

    def start(self, slot: int, task: Task) -> None:
        """Give a task to a slot that is idle."""
        ...

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        """What has come of tasks, after so many seconds at most; ``queried`` learns the damage in each slot."""
        ...

    def give_up(self, slot: int) -> None:
        """End what a slot does; nothing comes of it."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


Queried = Callable[[int, float], None]


@dataclass
class _UnderWay:
    job: Job
    task: Task
    attempt: int
    started: float = field(default_factory=time.monotonic)


class Scheduler:
    """Does all ``crafts`` and ``evaluations`` into ``store``. ``finish`` is called with every cell that is finished;
    ``done`` tells whether another run in the same folder has done it meanwhile.

    ``limit``: seconds of work that a cell may take in all; None: no limit.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        watcher: Watcher,
        costs: Costs,
        done: Callable[[Cell], bool],
        finish: Callable[[Evaluations], None],
        limit: float | None = None,
    ) -> None:
        self.store, self.executor, self.watcher, self.costs = store, executor, watcher, costs
        self._done, self._finish, self._limit = done, finish, limit
        self.clips = self.queries = 0
        self._crafts, self._evaluations = Queue(), Queue()  # with something to do now
        self._wanted: dict[str, list[tuple[Evaluations, str]]] = {}  # clips: who waits, for which sample
        self._under_way: dict[int, _UnderWay] = {}
        self._again: deque[_UnderWay] = deque()
        self._claims, self._begun, self._elsewhere = Claims(store.claims), set[Job](), set[Job]()
        self._estimated = self._looked = time.monotonic()
        self._counter, self._notice = PaceCounter(), Notice(store.paces)
        self._hands: dict[int, tuple[str, ...]] = {}  # codecs of the last task of each slot
        self._soon: Cell | None = None  # whose number comes first

    def run(self, crafts: Iterable[Crafts], evaluations: Iterable[Evaluations]) -> None:
        """Until all is done or has failed."""
        self._crafts = Queue(self._in_order(list(crafts)) if self.executor.slots > 1 else crafts)
        for job in evaluations:
            if job.pending:
                self._evaluations.add(job)
            for sample in job.waiting:
                self._wanted.setdefault(job.ids[sample], []).append((job, sample))
        try:
            while self._crafts or self._evaluations or self._under_way or self._again or self._elsewhere:
                for slot in self.executor.idle():
                    self._give(slot)
                for slot, news in self.executor.wait(WATCHED, self.watcher.queried):
                    self._learn(slot, news)
                self._end_those_over_time()
                self._estimate()
                self._claims.renew()
                self._look_elsewhere()
        finally:
            self._claims.close()
            self._notice.take_down()

    def _in_order(self, crafts: Sequence[Crafts]) -> Iterable[Crafts]:
        """The least work of the first data set, so that there is a number soon; then the longest work first, since the
        others would wait for it in the end.
        """
        longest = sorted(crafts, key=self.costs.left, reverse=True)
        if not crafts:
            return longest
        soon = min((job for job in crafts if job.cell.data == crafts[0].cell.data), key=self.costs.left)
        self._soon = soon.cell
        return dict.fromkeys([soon, *longest])

    def _give(self, slot: int) -> None:
        """A task for ``slot``, if there is any."""
        if self._again:
            work = self._again.popleft()
            work = _UnderWay(work.job, work.task, work.attempt)
        elif (job := self._next(slot)) is not None:
            lot = job.pending[: (count := self._count(job))]
            try:
                work = _UnderWay(job, job.take(count), 1)
            except BaseException as error:  # a sample or a clip that cannot be read
                self._fail(job, Failure.of(error), lot)
                return
            if not job.pending:
                self._queue(job).discard(job)
        else:
            return
        if isinstance(work.job, Evaluations):
            work.job.under_way += work.attempt == 1
        if work.job.cell != self._soon:  # which many begin together; what follows is to be the longest
            self._hands[slot] = work.job.codecs
        self._under_way[slot] = work
        self.watcher.started(slot, work.task)
        self.executor.start(slot, work.task)

    def _next(self, slot: int) -> Job | None:
        for jobs in (self._evaluations, self._crafts):
            while jobs:
                job = jobs.first(self._hands.get(slot))
                if job in self._begun:
                    return job
                if self._claims.take(job.cell.id):
                    self._begun.add(job)
                    self._open(job)
                else:
                    jobs.discard(job)
                    self._elsewhere.add(job)
        return None

    def _queue(self, job: Job) -> Queue:
        return self._evaluations if isinstance(job, Evaluations) else self._crafts

    def _open(self, job: Job) -> None:
        """Give work on ``job``, but for what other runs in this folder have done since this one was planned."""
        if isinstance(job, Crafts):
            there = {sample for sample, craft_id in job.ids.items() if self.store.holds_clip(craft_id)}
            for sample in there:
                self._arrived(job.ids[sample])
            job.pending = [b for b in job.pending if any(s.id in job.ids.keys() - there for s in b)]
        elif isinstance(job, Evaluations) and self._done(job.cell):
            job.pending.clear()
            job.waiting.clear()
            self._claims.release(job.cell.id)
            self._finish(job)
        (self._queue(job).add if job.pending else self._queue(job).discard)(job)

    def _count(self, job: Job) -> int:
        """How many batches of ``job`` make a task: of :data:`LENGTH`, unless others would have nothing to do."""
        seconds = self.costs.per_sample(job) * len(job.pending[0])
        share = -(-len(job.pending) // self.executor.slots)
        return max(1, min(int(LENGTH / seconds) if seconds else share, share))

    def _learn(self, slot: int, news: Answer | Lost) -> None:
        work = self._under_way.pop(slot)
        job = work.job
        if isinstance(news, Lost):
            if work.attempt < ATTEMPTS:
                self._again.append(_UnderWay(job, work.task, work.attempt + 1))
                return
            often = f", {work.attempt} times" if work.attempt > 1 else ""
            news = Answer(Failure(f"its worker {news.how}{often}"), time.monotonic() - work.started)
        self.watcher.finished(slot, work.task, news)
        if news.device:
            self._counter.add(news.device, len(work.task.samples))
        job.whole.seconds += news.seconds
        if isinstance(job, Evaluations):
            job.under_way -= 1
        match news.outcome:
            case Failure() as failure:
                self._fail(job, failure, work.task.batches)
            case Made() as made:
                self.costs.learn(job, len(work.task.samples), news.seconds)
                self._keep(job, work.task, made)
            case Part() as part:
                self.costs.learn(job, len(work.task.samples), news.seconds)
                assert isinstance(job, Evaluations)
                job.parts[work.task.samples[0].id] = part
                self._finish_if_done(job)

    def _keep(self, job: Job, task: Task, made: Made) -> None:
        """Store the clips that were asked for, and tell whoever waits for them."""
        assert isinstance(job, Crafts)
        for sample, (clip, info) in zip(task.samples, made.clips, strict=True):
            craft_id = job.ids.get(sample.id)
            if craft_id is None:  # it was there, and only kept the others company
                continue
            self.store.put_clip(craft_id, clip, info)
            self.clips += 1
            self.queries += info["queries"]
            self._arrived(craft_id)

    def _arrived(self, craft_id: str) -> None:
        """Tell whoever waits for a clip that it is there."""
        for waiting, name in self._wanted.pop(craft_id, ()):
            if waiting.crafted(name) and waiting.failure is None and waiting not in self._elsewhere:
                self._evaluations.add(waiting)

    def _fail(self, job: Job, failure: Failure, batches: Sequence[Batch]) -> None:
        """A cell fails of its own; of clips that could not be crafted fail all that wait for any of that cell's."""
        failed = [job] if isinstance(job, Evaluations) else []
        if isinstance(job, Crafts):
            rest = {sample.id for batch in (*batches, *job.pending) for sample in batch}
            job.pending.clear()
            self._crafts.discard(job)
            failed += [w for sample in rest if sample in job.ids for w, _ in self._wanted.pop(job.ids[sample], ())]
        for evaluation in dict.fromkeys(failed):
            if evaluation.failure is None:
                evaluation.failure = failure
                evaluation.pending.clear()
                self._evaluations.discard(evaluation)
                self._finish(evaluation)
                self._claims.release(evaluation.cell.id)

    def _finish_if_done(self, job: Evaluations) -> None:
        if job.failure is None and job.finished:
            self._finish(job)
            self._claims.release(job.cell.id)

    def _look_elsewhere(self) -> None:
        """See what other runs in this folder have done, and take over what they have left."""
        if not self._elsewhere or time.monotonic() < self._looked + LOOKED:
            return
        self._looked = time.monotonic()
        left, self._elsewhere = self._elsewhere, set()
        for job in left:
            self._open(job)

    def _estimate(self) -> None:
        """Tell how long it will take, now and then: of what is not begun, and of evaluating what will be crafted."""
        if time.monotonic() < self._estimated + ESTIMATED:
            return
        self._estimated = time.monotonic()
        seconds = sum(map(self.costs.left, (*self._crafts, *self._evaluations)))
        for waiting in self._wanted.values():
            seconds += sum(self.costs.per_sample(job) for job, _ in waiting)
        pace = self._counter.pace(seconds / max(1, self.executor.slots))
        self.watcher.paced(pace)
        self._notice.put_up(pace)

    def _end_those_over_time(self) -> None:
        if self._limit is None:
            return
        for slot, work in list(self._under_way.items()):
            if work.job.whole.seconds + time.monotonic() - work.started > self._limit:
                self.executor.give_up(slot)
                what = "crafting" if work.task.crafts else "evaluating"
                failure = Failure(f"given up while {what}: it took longer than {self._limit:g} s (--cell-timeout)")
                self._learn(slot, Answer(failure, time.monotonic() - work.started))
