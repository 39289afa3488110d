"""The best known score: what counts of the clips that others found, against values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import boards
import pytest

from robustcodec.boards.best_known import best_known
from robustcodec.boards.board import Board
from robustcodec.boards.breaks import Break

THREAT = boards.AXES["threat"]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return boards.board(tmp_path / "small")


def clip(board: Board, sample: str, bpp: float, psnr: float | None, by: str = "B. Person") -> Break:
    (one,) = boards.found(board).breaks
    scores = {**one.scores, "adv_bpp": bpp, "adv_psnr": psnr, "decode_failed": float(psnr is None)}
    return replace(one, sample=sample, by=by, scores=scores)


def premium(bpp: float, psnr: float) -> float:
    """Against the anchor of the board: 0.5 bpp at 25 dB, 2 bpp at 35 dB, straight in the logarithm of the rate."""
    return 100 * (bpp / math.exp(math.log(0.5) + (psnr - 25) / 10 * math.log(4)) - 1)


def test_what_leaves_less_counts_and_the_suite_stays(board: Board) -> None:
    known = best_known(boards.entry(board), [clip(board, "one", 1.75, 25.0)], board.points)[THREAT]
    assert known.suite == pytest.approx(premium(1.75, 28.0))
    assert known.score == pytest.approx(premium(1.75, 26.5)) and known.psnr == pytest.approx(26.5)
    assert (known.by, len(known.breaks), known.samples, known.refused) == ("B. Person", 1, 2, ())


def test_more_bytes_count_where_the_picture_stays(board: Board) -> None:
    known = best_known(boards.entry(board), [clip(board, "two", 2.25, 28.0)], board.points)[THREAT]
    assert known.score == pytest.approx(premium(2.0, 28.0)) and known.psnr == pytest.approx(28.0)


def test_what_does_less_is_refused_with_both_numbers(board: Board) -> None:
    """A lower PSNR, but so many fewer bytes that the score falls."""
    weak = clip(board, "one", 0.5, 27.5)
    known = best_known(boards.entry(board), [weak], board.points)[THREAT]
    assert known.breaks == () and known.score == known.suite and known.psnr == pytest.approx(28.0)
    ((refused, would),) = known.refused
    assert refused == weak and would == pytest.approx(premium(1.125, 27.75))


def test_of_equal_ones_the_first_stays(board: Board) -> None:
    entry, first = boards.entry(board), clip(board, "one", 1.75, 25.0)
    again, suite = clip(board, "one", 1.75, 25.0, "C. Person"), clip(board, "two", 1.75, 28.0)
    known = best_known(entry, [first, again, suite], board.points)[THREAT]
    assert known.breaks == (first,) and [each for each, _ in known.refused] == [again, suite]
    better = clip(board, "one", 1.75, 24.0, "C. Person")
    assert best_known(entry, [first, better], board.points)[THREAT].breaks == (better,)


def test_the_order_in_which_clips_come_does_not_matter(board: Board) -> None:
    """One that spends fewer bits and leaves less pays only once another one has spent more: of the mean over samples a
    saved bit is then a smaller share.
    """
    few, many = clip(board, "one", 1.25, 26.0), clip(board, "two", 6.0, 28.0)
    entry = boards.entry(board)
    assert best_known(entry, [few], board.points)[THREAT].breaks == ()
    for clips in ([few, many], [many, few]):
        known = best_known(entry, clips, board.points)[THREAT]
        assert known.score == pytest.approx(premium(3.625, 27.0)) and known.refused == ()


def test_a_decoder_that_fails_shows_nothing(board: Board) -> None:
    known = best_known(boards.entry(board), [clip(board, "one", 1.75, None)], board.points)[THREAT]
    assert known.psnr == pytest.approx(14.0) and known.score == pytest.approx(premium(1.75, 14.0))


def test_who_found_most_is_named_first(board: Board) -> None:
    clips = [clip(board, "one", 1.75, 25.0, "Z"), clip(board, "two", 1.75, 25.0, "A")]
    assert best_known(boards.entry(board), clips, board.points)[THREAT].by == "A, Z"
