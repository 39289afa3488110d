"""Out of memory is one line with the ways out, wherever it happens, and an attack says before what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustcodec import cli, load, memory, registry
from robustcodec.coding import code
from robustcodec.errors import OutOfMemory
from robustcodec.execution.tasks import Failure
from robustcodec.interfaces import Draws
from robustcodec.oracle import Oracle
from robustcodec.running import rehearsal
from robustcodec.studies import compare

TOO_MUCH = 1 << 60  # bytes that no machine has


def by_torch() -> None:
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def by_python() -> None:
    bytearray(TOO_MUCH)


def by_numpy() -> None:
    import numpy as np

    np.empty(TOO_MUCH, dtype=np.uint8)


def by_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")


def by_a_library() -> None:
    try:
        by_torch()
    except RuntimeError as error:
        raise ValueError("the attack did not work") from error


WAYS = (by_torch, by_python, by_numpy, by_a_gpu, by_a_library)


def raised(by: Callable[[], None]) -> Exception:
    with pytest.raises(Exception) as caught:
        by()
    return caught.value


@pytest.mark.parametrize("by", WAYS)
def test_want_of_memory_is_one_line_with_the_ways_out(by: Callable[[], None]) -> None:
    error = raised(by)
    failure = Failure.of(error)
    assert failure.error.startswith("out of memory: ") and "\n" not in failure.error, failure.error
    assert "crop=" in failure.error and "--batch-size" in failure.error and "--device" in failure.error
    assert not failure.mistake
    assert compare.Failure.of("codec", "clip", error).reason == failure.error, "compare and recompress say the same"


def test_it_says_what_was_asked_for() -> None:
    assert "20.00 GiB more did not fit into that of the GPU" in str(memory.out_of_memory(raised(by_a_gpu)))
    assert f"{TOO_MUCH} bytes more did not fit" in str(memory.out_of_memory(raised(by_torch)))


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("shapes do not fit"), ValueError("out of memory of my youth"), KeyError("memory")):
        assert not memory.short_of_memory(error)


@pytest.mark.parametrize("by", WAYS)
def test_every_command_says_it_in_one_line(
    by: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", by)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith("error: out of memory: ") and said.count("\n") == 1


class Greedy(registry.codecs.get("jpeg")):  # type: ignore[misc]
    """JPEG, but its decoder wants more memory than there is."""

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        by_torch()
        return super().decompress(streams)  # type: ignore[no-any-return]


def test_a_decoder_without_memory_is_no_finding_about_its_codec() -> None:
    with pytest.raises(RuntimeError, match="allocate memory"):
        code(Greedy(), torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_a_limit_of_the_group_of_processes_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.available()
    assert free is None or free > 1 << 20
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    (tmp_path / "memory.current").write_text("300")
    (tmp_path / "memory.max").write_text("max")
    assert memory.available() == pytest.approx(free, rel=0.5)
    (tmp_path / "memory.max").write_text("1000")
    assert memory.available() == 700


# --- what an attack needs -----------------------------------------------------------------------------------------


def need_of(codec: str, attack: str, *sides: int) -> rehearsal.Need | None:
    victim, built = load(codec).requires_grad_(False), registry.attacks.build(attack)
    objective, threat = registry.objectives.build("distortion"), registry.threats.build("psnr:40")
    x = torch.rand(1, 1, 3, *sides, generator=torch.Generator().manual_seed(0))
    return rehearsal.need(built, threat, lambda clips: Oracle(victim, objective, clips, built.access), x)


def test_the_need_of_a_picture_is_foretold_from_small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LARGE", 0)
    foretold = need_of("bmshj2018-factorized.tiny-q1", "pgd:steps=40", 384, 448)
    victim, attack = load("bmshj2018-factorized.tiny-q1").requires_grad_(False), registry.attacks.build("pgd:steps=4")
    x = torch.rand(1, 1, 3, 384, 448)
    with rehearsal.Held() as held:
        oracle = Oracle(victim, registry.objectives.build("distortion"), x, "white")
        attack.run(oracle, x, registry.threats.build("psnr:40"), Draws([0]))
    assert foretold is not None
    assert foretold.total == pytest.approx(rehearsal.UNSEEN * held.most, rel=0.1)


def test_tiles_need_less_than_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    foretold = need_of("bmshj2018-factorized.tiny-q1", "fgsm", 4000, 4100)
    assert foretold is not None
    assert foretold.total < foretold.whole / 2
    line = foretold.line(torch.device("cpu"))
    assert line.startswith("to attack 4100x4000 pixels takes about ") and "GB of memory (in tiles" in line


def test_small_pictures_are_not_rehearsed() -> None:
    assert need_of("bmshj2018-factorized.tiny-q1", "fgsm", 64, 64) is None


def test_what_is_freed_does_not_count() -> None:
    with rehearsal.Held() as held:
        for _ in range(5):
            kept = torch.ones(1000).view(10, 100).add_(1)
        del kept
        assert held.now == 0
    assert held.most in (4000, 8000)


def test_an_attack_that_cannot_fit_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    import robustcodec

    monkeypatch.setattr(rehearsal, "LARGE", 0)
    monkeypatch.setattr(rehearsal, "available", lambda device: 1 << 20)
    picture = torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(0))
    with pytest.raises(OutOfMemory, match=r"out of memory: to attack 160x160 pixels takes about .*; 1 MB are free; "):
        robustcodec.attack(picture, "bmshj2018-factorized.tiny-q1", attack="pgd:steps=3")


def test_the_need_is_said_before_the_attack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import robustcodec
    from robustcodec.execution.watching import Watcher

    said: list[str] = []

    class Told(Watcher):
        def noted(self, text: str) -> None:
            said.append(text)

        def queried(self, slot: int, damage: float) -> None:
            said.append("queried")

    monkeypatch.setattr(rehearsal, "LARGE", 0)
    monkeypatch.setattr("robustcodec.execution.worker.SHOWN", 0)
    picture = torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(0))
    robustcodec.attack(picture, "bmshj2018-factorized.tiny-q1", attack="pgd:steps=3", watcher=Told())
    assert said[0].startswith("to attack 160x160 pixels takes about ")
    assert "queried" in said[1:]
