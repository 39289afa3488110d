"""Jobs in the order in which they are begun, found at once also by the codecs that a worker has in hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from robustcodec.execution.jobs import Job


class Queue:
    """Each job at most once."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._jobs: dict[Job, None] = {}
        self._alike: defaultdict[tuple[str, ...], dict[Job, None]] = defaultdict(dict)
        for job in jobs:
            self.add(job)

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def add(self, job: Job) -> None:
        """At the end; one that is there keeps its place."""
        self._jobs[job] = self._alike[job.codecs][job] = None

    def discard(self, job: Job) -> None:
        """No more of it, if it is there."""
        self._jobs.pop(job, None)
        self._alike[job.codecs].pop(job, None)

    def first(self, codecs: tuple[str, ...] | None) -> Job:
        """The first one of these codecs, or of all where there is none."""
        return next(iter(self._alike.get(codecs or ()) or self._jobs))
