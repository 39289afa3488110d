"""What the scheduler gives to whom, and what becomes of what is lost or fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from robustcodec.data._images import write_image
from robustcodec.errors import BadParameter
from robustcodec.execution import scheduler
from robustcodec.execution.costs import Costs
from robustcodec.execution.jobs import plan
from robustcodec.execution.pace import Pace, lately
from robustcodec.execution.runner import Runner
from robustcodec.execution.scheduler import ATTEMPTS, Lost, Queried
from robustcodec.execution.tasks import Answer, Failure, Task
from robustcodec.execution.watching import Watcher
from robustcodec.running.crafting import Made
from robustcodec.running.evaluating import Part
from robustcodec.running.grid import Cell, Drawn
from robustcodec.running.store import Result, Store

DATA = "photos:size=16"
Say = Callable[[Task], Answer | Lost]


def cell(codec: str = "jpeg:quality=50", attack: str = "noise", limit: int = 3, **axes: str) -> Cell:
    return Cell(codec, attack, data=DATA, limit=limit, **axes)  # type: ignore[arg-type]


def done(task: Task) -> Answer:
    """A task as if it had been done: clips are as the samples, scores are none."""
    if task.crafts:
        info = {"queries": 1, "findings": [], "blind": False, "budget": 1.0}
        return Answer(Made(tuple((s.load(), dict(info)) for s in task.samples)), 1.0)
    rows = tuple({"sample": s.id, "psnr": 30.0, "ms_ssim": 1.0} for s in task.samples)
    return Answer(Part(rows, (), {}, {s.id: {"original": s.load()} for s in task.samples}, {}), 1.0)


class Script:
    """An executor that answers as it is told; keeps what it was given, and by which slot."""

    def __init__(self, slots: int, say: Say = done) -> None:
        self.slots, self.say = slots, say
        self.given: list[tuple[int, Task]] = []
        self._busy: dict[int, Task] = {}

    def idle(self) -> Sequence[int]:
        return [slot for slot in range(self.slots) if slot not in self._busy]

    def start(self, slot: int, task: Task) -> None:
        assert slot not in self._busy
        self._busy[slot] = task
        self.given.append((slot, task))

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        busy, self._busy = self._busy, {}
        return [(slot, self.say(task)) for slot, task in busy.items()]

    def give_up(self, slot: int) -> None:
        del self._busy[slot]

    def close(self) -> None: ...

    def crafted(self) -> list[str]:
        return [sample.id for _, task in self.given if task.crafts for sample in task.samples]


def run(executor: Script, cells: Sequence[Cell], folder: Path) -> tuple[Store, dict[str, str]]:
    store = Store(folder)
    tally = Runner(store, executor=executor).run(cells)
    assert tally.ran + tally.failed == len(cells)
    return store, tally.errors


def test_what_cells_share_is_crafted_once_and_each_sample_is_evaluated_once(tmp_path: Path) -> None:
    cells = [cell(limit=2), cell(), cell(defense="blur"), cell("jpeg:quality=60", access="transfer:jpeg:quality=50")]
    executor = Script(3)
    store, errors = run(executor, cells, tmp_path)
    assert not errors and sorted(executor.crafted()) == sorted(s.id for s in cell().samples())
    evaluated = [(task.cell, s.id) for _, task in executor.given if not task.crafts for s in task.samples]
    assert len(evaluated) == len(set(evaluated)) == 2 + 3 * 3
    result = store.result(cells[1].id)
    assert result is not None and [row["sample"] for row in result.rows] == [s.id for s in cells[1].samples()]


def test_an_attack_that_makes_something_for_all_samples_is_not_split(tmp_path: Path) -> None:
    executor = Script(3)
    run(executor, [cell(attack="universal:photos:16,clips=4"), cell()], tmp_path)
    tasks = [task for _, task in executor.given if task.crafts]
    assert sorted(len(task.samples) for task in tasks if task.cell.attack.startswith("universal")) == [3]
    assert len([task for task in tasks if task.cell.attack == "noise"]) > 1


def test_the_longest_work_begins_first(tmp_path: Path) -> None:
    tiny = "bmshj2018-factorized.tiny-q1"
    cells = [
        cell(attack="pgd:steps=2", codec=tiny),
        cell(attack="square:queries=9999"),
        cell(attack="pgd:steps=9", codec=tiny),
    ]
    executor = Script(2)
    run(executor, cells, tmp_path)
    begun = dict.fromkeys(task.cell.attack for _, task in executor.given if task.crafts)
    assert list(begun) == ["pgd:steps=2", "square:queries=9999", "pgd:steps=9"]  # after the first number


def test_a_cheap_cell_of_the_first_data_set_ends_before_anything_long_begins(tmp_path: Path) -> None:
    long, cheap = cell(attack="square:queries=9999"), cell(attack="square:queries=3")
    cheaper_but_later = replace(cell(attack="square:queries=2"), data="photos:size=17")
    finished: list[Cell] = []

    class Seen(Watcher):
        def cell_finished(self, result: Result, seconds: float) -> None:
            finished.append(result.cell)

    executor = Script(2)
    Runner(Store(tmp_path), executor=executor).run([long, cheap, cheaper_but_later], Seen())
    assert {task.cell for _, task in executor.given[:2]} == {cheap}
    assert finished == [cheap, long, cheaper_but_later]


def test_a_slot_keeps_to_the_codec_that_it_has_in_hand(tmp_path: Path) -> None:
    attacks = [f"square:queries={n}" for n in (200, 300, 400, 500)]
    executor = Script(2)
    run(executor, [cell(f"jpeg:quality={q}", attack) for q in (40, 50) for attack in attacks], tmp_path)
    for slot in range(2):
        codecs = [task.cell.codec for s, task in executor.given if s == slot and task.crafts]
        assert sum(a != b for a, b in zip(codecs, codecs[1:], strict=False)) <= 1


def test_a_lost_worker_costs_nothing_and_a_task_that_loses_them_all_fails(tmp_path: Path) -> None:
    lost: list[Task] = []

    def unlucky(task: Task) -> Answer | Lost:
        if task.crafts and task.cell.attack == "noise" and len(lost) < ATTEMPTS - 1:
            lost.append(task)
            return Lost("was ended by SIGKILL")
        return done(task)

    _, errors = run(Script(2, unlucky), [cell(), cell(attack="square:queries=2")], tmp_path / "a")
    assert len(lost) == ATTEMPTS - 1 and not errors

    def deadly(task: Task) -> Answer | Lost:
        return Lost("ended with exit code 3") if task.crafts and task.cell.attack == "noise" else done(task)

    store, errors = run(
        Script(2, deadly), [cell(), cell(defense="blur"), cell(attack="square:queries=2")], tmp_path / "b"
    )
    assert set(errors.values()) == {f"its worker ended with exit code 3, {ATTEMPTS} times"} and len(errors) == 2
    assert store.done(cell(attack="square:queries=2").id)


def test_who_fails_alone_fails_alone(tmp_path: Path) -> None:
    def say(task: Task) -> Answer:
        return Answer(Failure("no", True), 0.1) if task.cell.defense == "blur" and not task.crafts else done(task)

    store, errors = run(Script(2, say), [cell(), cell(defense="blur")], tmp_path)
    assert list(errors.values()) == ["no"] and store.done(cell().id) and not store.done(cell(defense="blur").id)


def test_a_picture_that_cannot_be_read_fails_its_cell_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    write_image(cell().samples()[0].load(), folder / "good.png")
    (folder / "odd.png").write_text("no picture")
    odd = Cell("jpeg:quality=50", "noise", data=f"folder:{folder}")
    store, errors = run(Script(2), [odd, cell()], tmp_path / "run")
    ((name, reason),) = errors.items()
    assert name.startswith(f"{odd} (data {odd.data}") and "odd.png" in reason and store.done(cell().id)
    jobs, (evaluation,) = plan([odd], store, batch_size=2)
    assert not jobs and evaluation.failure is not None


def test_a_limit_needs_somebody_who_can_be_ended(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="cannot end what it does itself"):
        Runner(Store(tmp_path), limit=1)


def test_batches_are_the_same_whatever_is_there(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), cell(limit=5)
    (job,), _ = plan([whole], store, batch_size=2)
    batches = [[s.id for s in batch] for batch in job.pending]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    third = whole.samples()[2]
    store.put_clip(whole.craft_id(third), third.load(), {})
    (job,), (evaluation,) = plan([whole], store, batch_size=2)
    assert [[s.id for s in batch] for batch in job.pending] == batches and third.id not in job.ids
    assert [s.id for (s,) in evaluation.pending] == [third.id] and third.id not in evaluation.waiting


def test_the_first_sample_is_the_one_probed_whoever_crafts_it() -> None:
    whole = cell(limit=3)
    samples = whole.samples()
    drawn = Drawn.of(whole, [samples[2].id])
    assert drawn.resolved.samples[0].id == samples[0].id


def test_how_fast_it_goes_is_told_and_said_in_the_folder_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "ESTIMATED", 0.0)
    store, told = Store(tmp_path), list[tuple[Pace, Pace | None]]()

    class Watch(Watcher):
        def paced(self, pace: Pace) -> None:
            told.append((pace, lately(store.paces)))

    executor = Script(2, lambda task: replace(done(task), device="cuda:1"))
    Runner(store, executor=executor).run([cell(attack="noise"), cell(attack="fgsm")], Watch())
    assert told[-1][0].units == len(executor.given) and set(told[-1][0].rates) == {"cuda:1"}
    assert [said for _, said in told[1:]] == [pace for pace, _ in told[:-1]]  # what was told before is in the folder
    assert lately(store.paces) is None


def test_costs_are_learned_and_grow_with_effort(tmp_path: Path) -> None:
    (short, long, other), _ = plan(
        [
            cell(attack="square:queries=10"),
            cell(attack="square:queries=40"),
            cell("jpeg:quality=9", "square:queries=10"),
        ],
        Store(tmp_path),
        1,
    )
    costs = Costs()
    costs.learn(short, samples=2, seconds=8.0)
    assert costs.per_sample(short) == pytest.approx(4) and costs.per_sample(long) == pytest.approx(16)
    assert costs.per_sample(other) == pytest.approx(4)  # as the same attack elsewhere
    again = Costs(costs.known())
    assert again.per_sample(long) == pytest.approx(16)
    assert again.left(short) == pytest.approx(12)
