"""The ranking on the page: what is shown at first, intervals beside numbers, lower bounds, and where it opens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import boards
import pytest

from robustcodec.boards import publication
from robustcodec.boards.board import Board, main_first
from robustcodec.boards.ranking import COLUMNS, FOUND, ranking
from robustcodec.boards.tables import scored
from robustcodec.errors import BoardError
from robustcodec.page import View, of_run
from robustcodec.page.links import links
from robustcodec.page.ranking import INTERVALS, columns_of, lines_of
from robustcodec.page.run import RANKING
from robustcodec.page.styles import styles_of
from robustcodec.page.tables import head
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def view(tmp_path: Path) -> View:
    board = boards.board(tmp_path / "small")
    entries = [boards.entry(board)]
    return publication.view(board, entries, ranking(board, entries))


def test_a_table_opens_with_few_columns_and_keeps_the_others(view: View) -> None:
    columns = columns_of(view)
    first = [column["name"] for column in columns if not column["more"]]
    assert first == ["data", "threat", "rank", "entry", "score", "psnr", "adv_psnr", "bpp"]
    units = [column["head"] for column in columns if not column["more"]][4:]
    assert units == ["score (%)", "clean (dB)", "attacked (dB)", "bpp"]
    beside = {end for ends in INTERVALS.values() for end in ends}
    assert {column["name"] for column in columns} == set(view.ranking.columns) - beside


def test_heads_are_short() -> None:
    beside = {end for ends in INTERVALS.values() for end in ends}
    heads = {head(name) for name in (*COLUMNS, *FOUND, *RANKING) if name not in beside}
    assert [each for each in heads if len(each) > 14] == []


def test_an_interval_stands_beside_its_number(view: View) -> None:
    numbers: dict[str, Any] = {
        "score": -7.4,
        "score_low": -19.4,
        "score_high": 261.7,
        "rank": 4,
        "rank_low": 2,
        "rank_high": 9,
    }
    numbers |= {"robust_psnr": 26.069, "robust_low": 23.92, "robust_high": 28.93, "bound": ""}
    cells = {cell["column"]: cell for cell in _line(view, numbers)["cells"]}
    shown = {name: (cells[name]["text"], cells[name]["interval"]) for name in ("rank", "score", "robust_psnr")}
    assert shown == {
        "rank": ("4", "(2–9)"),
        "score": ("−7 %", "(−19 … 262)"),
        "robust_psnr": ("26.07", "(23.9 … 28.9)"),
    }
    assert cells["score"]["order"] == "-7.4"
    few = {
        cell["column"]: cell for cell in _line(view, {**numbers, "score_low": float("nan"), "rank_high": 2})["cells"]
    }
    assert few["score"]["interval"] == few["rank"]["interval"] == ""


def test_a_lower_bound_is_marked_and_says_why(view: View) -> None:
    line = _line(view, {"score": 11.4, "robust_psnr": 26.069, "bound": "lower bound"})
    cells = {cell["column"]: cell for cell in line["cells"]}
    assert line["bound"] and cells["score"]["text"] == "≥ +11 %" and cells["robust_psnr"]["text"] == "≤ 26.07"
    assert "lower bound" in cells["score"]["why"] and cells["psnr"]["why"] == ""
    assert not any(cell["why"] for cell in _line(view, {"score": 11.4, "bound": ""})["cells"])


def _line(view: View, numbers: dict[str, Any]) -> dict[str, Any]:
    view = View(**{**vars(view), "ranking": view.ranking.astype(object).assign(**numbers)})
    (line,) = lines_of(view, styles_of([view])[0])
    return line


def test_a_board_says_what_its_score_is_and_why_it_has_no_pictures(tmp_path: Path) -> None:
    board = boards.board(tmp_path / "small")
    assert re.search(r"^Score \(%\): .* more bits than webp.*Attacks aim at distortion\.$", scored(board))
    file = board.folder / "board.toml"
    file.write_text(file.read_text().replace("pictures = true", "pictures = false"))
    hidden = publication.view(Board.read(board.folder), [], ranking(board, []))
    assert "may not be published" in hidden.unpictured
    assert "robustcodec run --board leaderboards/small --codec CODEC" in hidden.unpictured


def test_a_board_of_attacks_on_the_rate_shows_attacked_bits(tmp_path: Path) -> None:
    board = boards.board(tmp_path / "small")
    file = board.folder / "board.toml"
    file.write_text(file.read_text().replace('attack = ["noise"]', 'attack = ["noise"]\nobjective = ["rate"]'))
    main = publication.view(Board.read(board.folder), [], ranking(board, [])).main
    assert "adv_bpp" in main and "adv_psnr" not in main


def test_the_page_opens_on_the_board_that_says_so_else_on_the_one_with_most_entries(tmp_path: Path) -> None:
    a, b, c = (boards.board(tmp_path / name) for name in "abc")
    boards.entry(c).write(c.folder / "results")
    assert [board.name for board in main_first([a, b, c])] == ["c", "a", "b"]
    _say_main(b)
    named = [Board.read(each.folder) for each in (a, b, c)]
    assert [board.name for board in main_first(named)] == ["b", "a", "c"]
    assert Board.parse(tomllib.loads(named[1].to_toml()), b.folder).main
    _say_main(a)
    with pytest.raises(BoardError, match=r"a/board\.toml and .*b/board\.toml each say main = true; expected it of one"):
        main_first([Board.read(each.folder) for each in (a, b, c)])


def _say_main(board: Board) -> None:
    file = board.folder / "board.toml"
    file.write_text(file.read_text().replace("[ranking]", "[ranking]\nmain = true"))


def _run(folder: Path, contenders: dict[str, list[str]]) -> View:
    """Of a run with these codecs by data set, whose clips have a curve."""
    store = Store(folder)
    cells = [Cell(codec, "noise", data=data, limit=1) for data, codecs in contenders.items() for codec in codecs]
    row = {"bpp": 0.5, "bpp_est": 0.5, "psnr": 30.0, "ms_ssim": 0.9, "adv_bpp": 0.6, "adv_psnr": 28.0}
    row |= {"adv_ms_ssim": 0.8, "vi_db": 6.0, "delta_psnr": 2.0, "delta_own_psnr": 2.0, "rate_ratio": 1.2}
    row |= {"input_psnr": 40.0, "input_linf": 8.0, "queries": 1, "damage": 0.1, "broken": 0.0, "decode_failed": 0.0}
    for cell in cells:
        moving = cell.data.startswith("clips")
        sample = "astronaut-in-motion" if moving else "astronaut"
        rows = (row | {"sample": sample, "break_db": None},)
        curves = {sample: {"psnr": [30.0], "adv_psnr": [28.0]}} if moving else None
        store.put(Result(cell.id, cell, "ok", rows, (), {}, None, cell.resolved.identity, curves))
    return of_run(store, cells)


@pytest.mark.parametrize(("clips", "first"), [(1, "photos:size=64"), (2, "clips:size=64")])
def test_a_run_opens_on_the_data_of_most_contenders_images_before_clips(tmp_path: Path, clips: int, first: str) -> None:
    codecs = ["jpeg:quality=20", "jpeg:quality=30"]
    view = _run(tmp_path, {"clips:size=64": codecs[:clips], "photos:size=64": codecs[:1]})
    assert view.ranking["data"].iloc[0] == first and set(view.main) <= set(view.ranking.columns)


def test_an_entry_says_where_its_papers_and_weights_are() -> None:
    found = {link.what: link for link in links("bmshj2018-hyperprior.tiny-q2", "self-ensemble")}
    assert found["paper of the codec"].address == "https://arxiv.org/abs/1802.01436"
    assert found["paper of the defense"].address.startswith("https://arxiv.org/abs/")
    for what in ("weights", "card of the weights"):
        assert (ROOT / found[what].name).is_file() and found[what].address.endswith(f"/blob/main/{found[what].name}")
    (standard,) = links("jpeg:quality=20", "none")
    assert standard.name.startswith("ITU-T T.81") and standard.address == ""


def test_a_name_that_runs_code_or_is_none_has_no_links(tmp_path: Path) -> None:
    file, ran = tmp_path / "mine.py", tmp_path / "ran"
    file.write_text(f"open({str(ran)!r}, 'w')\nclass Mine: pass\n")
    for codec in (f"{file}:Mine", "no-such-codec.q1", "<b>"):
        assert links(codec, "none") == ()
    assert not ran.exists()
