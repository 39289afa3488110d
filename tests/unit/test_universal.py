"""The universal perturbation: optimal where that is known, made once, and never on the clip it attacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import Shown

from robustcodec import load, registry
from robustcodec.attacks import universal
from robustcodec.attacks.universal import Universal
from robustcodec.clips import to_float, to_uint8
from robustcodec.data._images import write_image
from robustcodec.errors import BadData, BadParameter
from robustcodec.interfaces import Card, Codec, Draws, Objective, Output, Threat
from robustcodec.objectives.damage import Distortion
from robustcodec.oracle import Oracle
from robustcodec.rounding import round_latent
from robustcodec.running.grid import Cell
from robustcodec.running.runner import Runner
from robustcodec.running.store import Store
from robustcodec.running.watching import Silent
from robustcodec.threats import Linf, Psnr


class Squares(Shown):
    """``x_hat`` is the square of the input in steps of 1/16; counts what it is asked."""

    card = Card("squares", "squares")

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, x: Tensor) -> Output:
        self.asked += 1
        return Output(lambda: round_latent(16 * x.square()) / 16, lambda: torch.full((len(x),), 8.0))


@dataclass(frozen=True)
class Along(Objective):
    """The component of a perturbation along a pattern that repeats: linear, so the best perturbation is known."""

    pattern: Tensor  # (frames, 3, 4, 4)

    def spread(self, x: Tensor) -> Tensor:
        """The pattern over a clip like ``x``, by numpy."""
        times = [-(-a // b) for a, b in zip(x.shape[1:], self.pattern.shape, strict=True)]
        whole = torch.from_numpy(np.tile(self.pattern.numpy(), times))
        return whole[: x.shape[1], :, : x.shape[3], : x.shape[4]]

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return ((x_adv - x) * self.spread(x)).flatten(1).sum(1)


@pytest.fixture
def greys(tmp_path: Path) -> str:
    """Four grey pictures of different sizes, as a data set."""
    rng = torch.Generator().manual_seed(3)
    folder = tmp_path / "greys"
    folder.mkdir()
    for i, (height, width) in enumerate([(16, 16), (8, 20), (16, 12), (10, 10)]):
        picture = torch.randint(90, 166, (1, 3, height, width), generator=rng, dtype=torch.uint8)
        write_image(picture, folder / f"{i}.png")
    return f"folder:{folder}"


def clip(frames: int, height: int = 12, width: int = 16, seed: int = 9) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(90, 166, (1, frames, 3, height, width), generator=rng) / 255


def attacked(attack: Universal, x: Tensor, threat: Threat, objective: Objective, codec: Codec | None = None) -> Tensor:
    oracle = Oracle(codec or Squares(), objective, x, "white")
    return threat.quantise(threat.project(attack.run(oracle, x.clone(), threat, Draws(range(len(x)))), x), x)


# -- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threat", [Linf(4 / 255), Psnr(36), Psnr(36, per="frame"), Psnr(36, frames="first")], ids=repr)
def test_it_finds_the_best_repeating_perturbation(threat: Threat, greys: str) -> None:
    objective = Along(torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)))
    x = clip(5)
    found = attacked(Universal(greys, steps=60, size=4), x, threat, objective)
    with torch.no_grad():
        reached, best = (
            float(objective(x, Squares()(x), Squares()(y), y))
            for y in (found, x + threat.steepest(objective.spread(x)[None], x))
        )
    assert 0.97 * best < reached < 1.01 * best


def test_it_does_not_rely_on_the_phase(tmp_path: Path) -> None:
    """What alternates from frame to frame gains nothing on average: only what all frames share is learnt."""
    rng = torch.Generator().manual_seed(1)
    shared, flips = torch.randn(1, 3, 4, 4, generator=rng), torch.randn(1, 3, 4, 4, generator=rng)
    objective = Along(torch.cat([shared + 2 * flips, shared - 2 * flips]))
    (tmp_path / "grey_16x16_25fps.yuv").write_bytes(bytes([128]) * (4 * 16 * 16 * 3 // 2))
    attack = Universal(f"folder:{tmp_path}", steps=200, size=4, period=2)
    x = clip(4)
    y = attacked(attack, x, Linf(4 / 255), objective)
    found = (y - x)[0].view(2, 2, 3, 3, 4, 4, 4).mean((0, 3, 5))  # (phase, channel, row, column)
    assert (found * shared).sum() > 0.9 * 4 / 255 * 2 * shared.abs().sum()


def test_it_beats_noise_on_photos_it_has_not_seen() -> None:
    codec, objective, threat = load("bmshj2018-factorized.tiny-q1").requires_grad_(False), Distortion(), Linf(4 / 255)
    x = to_float(registry.data.build("photos:size=64").samples()[1].load())[None]
    found = attacked(Universal("photos:64", steps=16, size=32), x, threat, objective, codec)
    noise = threat.quantise(threat.random_start(x, Draws([0])), x)
    with torch.no_grad():
        damage = [float(objective(x, codec(x), codec(y), y)) for y in (found, noise)]
    assert damage[0] > 2 * damage[1]


def test_on_a_video_codec_and_one_frame() -> None:
    codec = load("rdae:config=tiny,weights=random").requires_grad_(False)
    x = to_float(registry.data.build("clips:frames=4,size=32").samples()[0].load())[None]
    attack: Any = registry.attacks.build("universal:clips:frames=4;size=32,steps=3,size=16,period=2")
    y = attacked(attack, x, Psnr(36, frames="first"), Distortion(), codec)
    assert torch.equal(y[:, 1:], x[:, 1:]) and not torch.equal(y[:, 0], x[:, 0])


def test_a_tile_repeats_over_any_clip() -> None:
    tile = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for shape in ((1, 7, 3, 10, 9), (1, 1, 3, 4, 5), (1, 2, 3, 3, 2)):
        for phase in range(3):
            by_hand = np.tile(np.roll(tile.numpy(), -phase, axis=0), (3, 1, 3, 3))
            expected = torch.from_numpy(by_hand)[None, : shape[1], :, : shape[3], : shape[4]]
            assert torch.equal(universal._repeat(tile, phase, torch.Size(shape)), expected)


# -- what it may know -------------------------------------------------------------------------------------------------


def test_the_attacked_clip_is_left_out_of_its_training(greys: str) -> None:
    """The same as if its file had not been there."""
    folder = Path(greys.removeprefix("folder:"))
    x = to_float(registry.data.build(greys).samples()[0].load())[None]
    attack = Universal(greys, steps=8, size=8, step_size=2)
    y, other = (attacked(attack, clean, Psnr(30), Distortion()) for clean in (x, clip(1)))
    (folder / "0.png").unlink()
    assert torch.equal(attacked(attack, x, Psnr(30), Distortion()), y)
    assert not torch.equal(attacked(attack, clip(1), Psnr(30), Distortion()), other)


def test_nothing_left_to_train_on_is_an_error(greys: str) -> None:
    x = to_float(registry.data.build(greys).samples()[0].load())[None]
    with pytest.raises(BadData, match="choose a data set with other clips"):
        attacked(Universal(greys, clips=1), x, Linf(0.05), Distortion())


def test_crops_and_frames_of_the_attacked_clip_are_recognised() -> None:
    small, large, wide = (registry.data.build(f"photos:size={s}").samples() for s in (32, 64, 200))
    for i in range(3):
        known = [j for j in range(3) if universal._share_a_frame(large[i].load(), small[j].load())]
        assert known == [i] and universal._share_a_frame(small[i].load(), wide[i].load())
    film = registry.data.build("clips:frames=4,size=32").samples()[0].load()
    assert universal._share_a_frame(film[:3], film[2:]) and not universal._share_a_frame(film[:2], film[2:])


# -- made once --------------------------------------------------------------------------------------------------------


def test_made_once_and_the_same_whatever_was_made_before(greys: str) -> None:
    attack, threat = Universal(greys, steps=5, size=8, period=2, surrogate="noise"), Psnr(30)
    first, second = clip(3, seed=1), clip(2, seed=2)

    def made(x: Tensor, codec: Squares, memory: dict[str, object] | None = None) -> tuple[Tensor, int, int]:
        before = codec.asked
        oracle = Oracle(codec, Distortion(), x, "white", memory=memory)
        return attack.run(oracle, x, threat, Draws([7])), oracle.queries, codec.asked - before

    codec, memory = Squares(), dict[str, object]()
    torch.manual_seed(0)
    alone, queries, asked = made(second, codec)
    assert queries == 5 and 5 < asked <= 9  # and the clean training clips
    made(first, codec, memory)
    torch.manual_seed(1)
    after, queries, asked = made(second, codec, memory)
    assert torch.equal(after, alone) and queries == 5 and asked == 0


class Count(Silent):
    def __init__(self) -> None:
        self.queries = 0

    def queried(self, damage: Tensor) -> None:
        self.queries += 1


def run(cell: Cell, folder: Path, batch_size: int = 1) -> tuple[list[dict[str, object]], list[Tensor], int]:
    store, count = Store(folder), Count()
    tally = Runner(store, batch_size=batch_size).run([cell], count)
    result = store.result(cell.id)
    assert tally.ran == 1 and result is not None
    stored = [store.clip(cell.craft_id(s)) for s in cell.samples()]
    return list(result.rows), [s[0] for s in stored if s is not None], count.queries


def test_a_run_makes_it_once_for_all_samples_and_their_batches(tmp_path: Path) -> None:
    codec = "bmshj2018-factorized.tiny-q1"
    attack = "universal:clips:frames=2;size=32,steps=4,size=16,period=2"
    cell = Cell(codec, attack, threat="linf:4/255", data="photos:size=32", limit=2)
    rows, clips, queries = run(cell, tmp_path / "both")
    assert queries == 4 and [row["queries"] for row in rows] == [4, 4]
    one_row, one_clip, queries = run(Cell(codec, attack, threat="linf:4/255", data="photos:size=32", limit=1), tmp_path)
    assert queries == 4 and one_row == rows[:1] and torch.equal(one_clip[0], clips[0])
    batch_rows, batch_clips, queries = run(cell, tmp_path / "batch", batch_size=2)
    assert queries == 4 and [row["queries"] for row in batch_rows] == [4, 4]
    assert all(torch.equal(a, b) for a, b in zip(batch_clips, clips, strict=True))


def test_each_sample_of_its_own_training_set_has_its_own(tmp_path: Path) -> None:
    cell = Cell("bmshj2018-factorized.tiny-q1", "universal:photos:32,steps=3,size=16", data="photos:size=32", limit=2)
    rows, clips, queries = run(cell, tmp_path / "a")
    batch_rows, batch_clips, batch_queries = run(cell, tmp_path / "b", batch_size=2)
    assert queries == batch_queries == 6
    assert [row["queries"] for row in rows] == [row["queries"] for row in batch_rows] == [3, 3]
    assert all(torch.equal(a, b) for a, b in zip(batch_clips, clips, strict=True))


def test_an_oracle_counts_what_it_is_asked_about_other_clips() -> None:
    codec, x = Squares(), clip(1)
    oracle = Oracle(codec, Distortion(), x, "white")
    other = oracle.on(clip(2, 8, 8))
    oracle(x)
    damage = other(clip(2, 8, 8, seed=1))
    expected = Distortion()(x, codec(clip(2, 8, 8)), codec(clip(2, 8, 8, seed=1)), x)
    assert torch.equal(damage, expected) and oracle.queries == 2 and other.queries == 1
    assert oracle.once("key", lambda: float(oracle.on(x)(x))) == 0 and oracle.queries == 3
    assert oracle.once("key", lambda: 1.0) == 0 and oracle.queries == 3


def test_no_gradient_anywhere_is_blind(greys: str) -> None:
    for surrogate, blind in (("straight-through", True), ("none", False)):
        codec = load("bmshj2018-factorized.tiny-q1").requires_grad_(False)
        x = clip(1)
        objective = Along(torch.zeros(1, 3, 4, 4)) if blind else Distortion()
        oracle = Oracle(codec, objective, x, "white")
        Universal(greys, steps=2, size=8, surrogate=surrogate).run(oracle, x, Linf(0.01), Draws([0]))  # type: ignore[arg-type]
        assert oracle.blind == [blind]


# -- identity ---------------------------------------------------------------------------------------------------------


def test_the_training_clips_are_identity(greys: str) -> None:
    def cell(attack: str) -> Cell:
        return Cell("jpeg:30", attack, data="photos:size=16", limit=1)

    before = cell(f"universal:{greys}")
    (sample,) = before.samples()
    assert [name for name, _ in before.resolved.identity["attack"]["made_on"]] == ["0", "1", "2", "3"]
    assert "made_on" not in cell("pgd").resolved.identity["attack"]
    path = Path(greys.removeprefix("folder:")) / "3.png"
    write_image(to_uint8(clip(1, 10, 10))[0], path)
    after = cell(f"universal:{greys}")
    assert before.id != after.id and before.craft_id(sample) != after.craft_id(sample)
    assert len(cell(f"universal:{greys},clips=2").resolved.identity["attack"]["made_on"]) == 2


@pytest.mark.parametrize("spec", ["steps=0", "size=0", "period=0", "clips=0", "step_size=0", "momentum=1"])
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(BadParameter, match="expected"):
        registry.attacks.build(f"universal:{spec}")
    with pytest.raises(BadParameter, match="size=-1"):
        _ = Cell("jpeg:30", "universal:photos:-1").id
