"""What a display learns of a run."""

from __future__ import annotations

from robustcodec.execution.pace import Pace
from robustcodec.execution.tasks import Answer, Task
from robustcodec.running.store import Result


class Watcher:
    """Is told of a run, and shows nothing; a display overrides what it shows. ``slot`` counts the workers from 0."""

    def noted(self, text: str) -> None:
        """Something that is no failure: what an attack will need, a file that is damaged and is made again."""

    def planned(self, cells: int, done: int) -> None: ...
    def started(self, slot: int, task: Task) -> None: ...
    def queried(self, slot: int, damage: float) -> None: ...
    def finished(self, slot: int, task: Task, answer: Answer) -> None: ...
    def paced(self, pace: Pace) -> None: ...
    def cell_finished(self, result: Result, seconds: float) -> None: ...
