"""Which of the files that a submitter gives are clips of which sample, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boards
import numpy as np
import pytest
import torch
from torch import Tensor

from robustcodec.boards.board import Board
from robustcodec.boards.given import given
from robustcodec.data._images import write_image
from robustcodec.data._lossless import write_lossless
from robustcodec.errors import BadData, BoardError

DRAWS = torch.Generator().manual_seed(0)
PICTURE = torch.randint(0, 256, (1, 3, 8, 10), generator=DRAWS, dtype=torch.uint8)
CLIP = torch.randint(0, 256, (3, 3, 8, 10), generator=DRAWS, dtype=torch.uint8)


def found(board: Board, *paths: Path) -> tuple[dict[str, Tensor], list[str]]:
    clips, faults = given(paths, board, boards.entry(board), "psnr:36")
    return {clip.sample: clip.load() for clip in clips}, faults


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return boards.board(tmp_path / "small")


def array(clip: Tensor, path: Path) -> None:
    np.save(path.with_suffix(".npy"), clip.numpy())


def frames(clip: Tensor, stem: Path) -> None:
    stem.mkdir()
    for i, frame in enumerate(clip):
        write_image(frame[None], stem / f"im{i}.png")


def attacked(clip: Tensor, stem: Path) -> None:
    """As `robustcodec attack` leaves it."""
    stem.mkdir()
    write_lossless(clip, stem / "adversarial")
    write_lossless(clip.flip(0), stem / "original")
    (stem / "scores.json").write_text("{}")
    (stem / "run").mkdir()
    (stem / "run" / "grid.toml").write_text('name = "attack"\n')


@pytest.mark.parametrize("clip", [PICTURE, CLIP], ids=["picture", "clip"])
@pytest.mark.parametrize("write", [write_lossless, array, frames, attacked])
def test_a_clip_is_called_as_its_sample(
    board: Board, tmp_path: Path, write: Callable[[Tensor, Path], object], clip: Tensor
) -> None:
    """By itself, and in a folder beside what is none."""
    (tmp_path / "given" / "deep").mkdir(parents=True)
    write(clip, tmp_path / "given" / "deep" / "two")
    (tmp_path / "given" / "notes.txt").write_text("how it was made")
    clips, faults = found(board, tmp_path / "given")
    assert list(clips) == ["two"] and torch.equal(clips["two"], clip) and faults == []
    (own,) = [path for path in (tmp_path / "given" / "deep").iterdir() if path.stem == "two"]
    alone, faults = found(board, own)
    assert torch.equal(alone["two"], clip) and faults == []


def test_a_file_of_an_attack_is_called_as_its_folder(board: Board, tmp_path: Path) -> None:
    attacked(PICTURE, tmp_path / "one")
    assert list(found(board, tmp_path / "one" / "adversarial.png")[0]) == ["one"]


def test_a_picture_may_be_an_array_as_libraries_have_it(board: Board, tmp_path: Path) -> None:
    array(PICTURE[0].permute(1, 2, 0), tmp_path / "one")
    assert torch.equal(found(board, tmp_path / "one.npy")[0]["one"], PICTURE)


def test_what_can_be_no_clip_is_said_and_the_others_count(board: Board, tmp_path: Path) -> None:
    for name in ("one.png", "three.png", "two.jpg", "two.txt"):
        write_image(PICTURE, tmp_path / name)
    clips, faults = found(board, *(tmp_path / name for name in ("three.png", "two.jpg", "two.txt", "one.png")))
    assert list(clips) == ["one"]
    for fault, said in zip(
        faults, ("is called as no sample of the board", "may lose pixels", "is no image and no clip"), strict=True
    ):
        assert said in fault and "\n" not in fault
    with pytest.raises(BoardError, match="is not there"):
        found(board, tmp_path / "four.png")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((1, 3, 8, 8), np.nan, np.float32), "holds float32; expected uint8"),
        (np.zeros((8, 8), np.uint8), r"has the shape \(8, 8\)"),
        (np.zeros((1, 4, 8, 8), np.uint8), "has the shape"),
        (np.array([{}], object), "is no array of numbers"),
    ],
)
def test_an_array_of_another_kind_is_refused(board: Board, tmp_path: Path, array: np.ndarray, said: str) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "one.npy", array, allow_pickle=True)
    with pytest.raises(BadData, match=said):
        found(board, tmp_path / "one.npy")


def test_links_in_a_circle_end(board: Board, tmp_path: Path) -> None:
    write_image(PICTURE, tmp_path / "one.png")
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "small").rename(tmp_path.parent / f"{tmp_path.name}-board")
    assert list(found(board, tmp_path)[0]) == ["one"]
