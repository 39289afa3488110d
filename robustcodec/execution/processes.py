"""Workers in processes of their own on this machine, which a task may crash without harm to others."""

from __future__ import annotations

from collections.abc import Sequence

from robustcodec.errors import RobustCodecError
from robustcodec.execution.children import Child, Say, listen
from robustcodec.execution.scheduler import Lost, Queried
from robustcodec.execution.tasks import Answer, Task
from robustcodec.execution.worker import Setting


class Processes:
    """A worker for each of ``devices``, which may name one several times: ``("cpu",) * 8``. They start when there is
    work, and again when one has ended.
    """

    def __init__(self, setting: Setting, devices: Sequence[str]) -> None:
        self._setting, self._devices = setting, tuple(devices)
        self._children: dict[int, Child] = {}
        self._starting, self._busy = set[int](), set[int]()

    @property
    def slots(self) -> int:
        return len(self._devices)

    def _child(self, slot: int) -> Child:
        threads = self._setting.threads
        environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        return Child(f"{__name__}:work", self._setting, self._devices[slot], environment=environment)

    def idle(self) -> Sequence[int]:
        for slot in set(range(self.slots)) - self._children.keys():
            self._children[slot] = self._child(slot)
            self._starting.add(slot)
        return [slot for slot in self._children if slot not in self._busy | self._starting]

    def start(self, slot: int, task: Task) -> None:
        self._busy.add(slot)
        self._children[slot].send(task)

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        heard = {self._children[slot]: slot for slot in self._busy | self._starting}
        news: list[tuple[int, Answer | Lost]] = []
        for child in listen(heard, seconds):
            slot = heard[child]
            try:
                final, said = child.hear()
            except EOFError:
                how = child.how_it_ended()
                if slot in self._starting:
                    raise RobustCodecError(f"a worker process {how} before it could work; it said why") from None
                self.give_up(slot)
                news.append((slot, Lost(how)))
                continue
            if not final:
                queried(slot, said)
            elif slot in self._starting:
                self._starting.discard(slot)
            else:
                self._busy.discard(slot)
                news.append((slot, said))
        return news

    def give_up(self, slot: int) -> None:
        self._children.pop(slot).end()
        self._busy.discard(slot)

    def close(self) -> None:
        for child in self._children.values():
            child.end()


def work(setting: Setting, device: str):  # type: ignore[no-untyped-def]
    """What a child answers: tasks, by a worker that it keeps."""
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    from robustcodec.execution.worker import Worker

    worker = Worker(setting, device)

    def answer(task: Task, say: Say) -> Answer:
        return worker.do(task, say)

    return answer
