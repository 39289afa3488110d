"""`robustcodec leaderboard`, on a small board with real runs: what it takes, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from measured_board import CLASSICAL, LEARNED, TABLE, other_digit, results, spoil
from terminal import Type

from robustcodec.boards import merging, publication, submission
from robustcodec.boards.board import RESULTS, Board
from robustcodec.boards.entry import Dispute, Entry
from robustcodec.boards.signed import digest
from robustcodec.errors import BoardError
from robustcodec.execution.runner import Runner
from robustcodec.running.store import Store
from robustcodec.sealed import seal_json, unseal_json


def test_entries_hold_what_the_run_says(made: Path) -> None:
    store, board = Store(made / "run"), Board.read(made / "boards" / "small")
    rows = store.frame(store.grid().cells()).set_index(["cell", "sample"])
    for path in results(made).values():
        back = Entry.read(path).frame(board.data).set_index(["cell", "sample"])
        of = rows.loc[back.index]
        for column in map(str, set(of) & set(back) - {"warnings"}):
            if pd.api.types.is_numeric_dtype(of[column]):
                pd.testing.assert_series_equal(
                    back[column].astype(float), of[column].astype(float), rtol=2e-5, atol=1e-4, obj=column
                )
            else:
                assert back[column].tolist() == of[column].tolist(), column
    assert sorted(results(made)) == [LEARNED, f"{LEARNED} + flip", CLASSICAL]


def test_what_was_published_checks_and_is_the_same_when_made_again(made: Path, robust: Type) -> None:
    for boards in (made / "boards", made / "boards" / "small"):
        done = robust("leaderboard", "check", boards)
        assert done.code == 0, done.out
    assert publication.build(made / "boards" / "small") == ([], [])  # its page is that of the boards beside it
    assert publication.build(made / "boards") == ([], [])
    text = (made / "boards" / "small" / "README.md").read_text()
    assert "Small \\| \\<b>board\\</b>" in text or "Small \\| \\<b>board" in text
    for name in results(made):
        assert name in text


def test_what_met_queries_alone_stands_apart(made: Path) -> None:
    text = (made / "boards" / "small" / "README.md").read_text().split("## psnr:30")[1].split("##")[0]
    ranked, bounds = text.split("Lower bounds of damage")
    assert f"| 1 | {LEARNED} |" in ranked and CLASSICAL not in ranked
    assert f"| {CLASSICAL} | ≥ " in bounds and "(too few samples)" in bounds
    page = (made / "boards" / "index.html").read_text()
    assert ">≥ " in page and ">lower bound</td>" in page
    ours = pd.read_csv(made / "boards" / "small" / "pairs.csv")
    assert ours[["threat", "samples"]].to_numpy().tolist() == [["psnr:36", 3]] and ours["p"].isna().all()


def test_a_metric_that_was_asked_for_is_on_the_board(copy: Path, robust: Type) -> None:
    """Of the entry that was measured with it; the others have no number there."""
    store, board = Store(copy / "run"), Board.read(copy / "boards" / "small")
    Runner(store, metrics=["mse"]).run(board.grid([(CLASSICAL, "none")]).cells())
    entry = submission.entry(store, board, CLASSICAL, "none", "A. Person", "2026-01-02")
    assert isinstance(entry, Entry), entry
    entry.write(board.folder / RESULTS)
    publication.build(copy / "boards")
    table = pd.read_csv(board.folder / "table.csv")
    assert list(table.columns[-2:]) == ["mse", "adv_mse"]
    assert (table["mse"].notna() == (table["entry"] == CLASSICAL)).all()
    assert (table["adv_mse"] > 0).sum() == (table["entry"] == CLASSICAL).sum()
    assert "* `adv_mse`: MSE of the attacked reconstruction" in (board.folder / "README.md").read_text()
    assert ">attacked MSE</th>" in (copy / "boards" / "index.html").read_text()
    done = robust("leaderboard", "check", copy / "boards")
    assert done.code == 0, done.out


def write(run: Path, table: dict[str, Any]) -> None:
    """A cell of a run folder, with a checksum that is right."""
    (run / "cells" / f"{table['id']}.json").write_bytes(seal_json(table["id"], table))


def test_what_does_not_match_the_board_is_refused_with_all_reasons(copy: Path, robust: Type) -> None:
    board, run = copy / "boards" / "small", copy / "run"
    cells = [unseal_json(p.stem, p.read_bytes()) for p in (run / "cells").glob("*.json")]
    gone = next(c for c in cells if c["cell"]["codec"] == CLASSICAL)
    (run / "cells" / f"{gone['id']}.json").unlink()
    failed = next(c for c in cells if c["cell"]["defense"] == "flip")
    write(run, failed | {"status": "error", "error": "it broke"})
    guessed = next(c for c in cells if c["cell"]["codec"] == LEARNED and c["cell"]["defense"] == "none")
    guessed["rows"][0]["adv_bpp"] += 0.5 / 48**2
    write(run, guessed)
    done = robust("leaderboard", "add", run, board, "--by", "A. Person")
    assert done.code == 1 and done.out.count("refused") == 3
    for reason in ("1 of 4 cells of the board are missing", "it broke", "not whole", "a board takes real bytes"):
        assert reason in " ".join(done.out.split())


def test_other_data_are_refused(copy: Path, robust: Type) -> None:
    path = copy / "boards" / "small" / "board.toml"
    path.write_text(re.sub(r'(chelsea = ")(\w)', other_digit, path.read_text()))
    done = robust("leaderboard", "add", copy / "run", path.parent, "--by", "A. Person")
    assert done.code == 2 and "other bytes: chelsea" in done.err


def test_a_codec_that_breaks_its_promises_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustcodec.studies.check import Check

    bad = Check("forward = decoded bytes", False, "0.5", "≤ 0.0001")
    monkeypatch.setattr("robustcodec.boards.submission.check", lambda codec, rebuild: [bad])
    refused = submission.entry(
        Store(made / "run"), Board.read(made / "boards" / "small"), LEARNED, "none", "A", "2026-01-02"
    )
    assert isinstance(refused, submission.Refusal) and "forward = decoded bytes: 0.5" in refused.reasons[0]


def cheaper(path: Path) -> tuple[str, tuple[float | None, ...]]:
    """Takes a decibel from the first sample of an entry's first cell; the sample, and its row as it is now."""
    table = Entry.read(path).cells[0].table
    sample, column = next(iter(table.rows)), table.columns.index("adv_psnr")
    spoil(path, f"cells/0/table/rows/{sample}/{column}", (table.rows[sample][column] or 0) - 1)
    return sample, Entry.read(path).cells[0].table.rows[sample]


def test_entries_of_the_first_format_are_read(copy: Path) -> None:
    """They stated scores too, which follow from the rows."""
    path = results(copy)[LEARNED]
    new = Entry.read(path)
    table = {**json.loads(path.read_text()), "format": 1, "scores": {"psnr:36": {"score": 1.0}}}
    del table["sha256"]
    path.write_text(json.dumps({**table, "sha256": digest(table)}))
    assert Entry.read(path) == new and publication.check(copy / "boards") == []
    path.write_text(json.dumps({**table, "sha256": digest({**table, "scores": {}})}))
    with pytest.raises(BoardError, match="changed after it was made"):
        Entry.read(path)


def test_merge_unites_and_reports_conflicts(copy: Path, made: Path, robust: Type) -> None:
    board = copy / "boards" / "small"
    results(copy)[CLASSICAL].unlink()  # only the other machine has it
    ours = results(copy)[LEARNED]
    sample, row = cheaper(ours)
    theirs = made / "boards" / "small"
    done = robust("leaderboard", "merge", board, theirs)
    text = " ".join(done.out.split())
    assert done.code == 1 and f"taken: {board / RESULTS}/jpeg_quality=20.json" in text.replace(" ", "").replace(
        "taken:", "taken: "
    )
    assert f"conflict: {LEARNED} (A. Person" in text and "score at psnr:36" in text and "the rows of 1 cell" in text
    assert Entry.read(ours).cells[0].table.rows[sample] == row
    replaced = merging.merge(Board.read(board), [theirs], replacing=True)
    assert [entry.name for entry in replaced.taken] == [LEARNED]


def test_diff_says_what_changed(copy: Path, made: Path, robust: Type) -> None:
    files = results(copy)
    files[CLASSICAL].unlink()
    cheaper(files[LEARNED])
    done = robust("leaderboard", "diff", made / "boards", copy / "boards")
    assert f"small: - {CLASSICAL}" in done.out and "score at psnr:36" in done.out and "→" in done.out
    assert robust("leaderboard", "diff", made / "boards", made / "boards").out.strip() == "no entry differs"


def test_a_disputed_entry_stays_and_is_marked(copy: Path, robust: Type) -> None:
    path = results(copy)[LEARNED]
    done = robust("leaderboard", "dispute", path, "--by", "B. Person", "--why", "the <b>weights</b> moved")
    assert done.code == 0
    assert [d.by for d in Entry.read(path).disputed] == ["B. Person"]
    text = (copy / "boards" / "small" / "README.md").read_text()
    assert "the \\<b>weights" in text and publication.check(copy / "boards") == []
    united = merging.merge(Board.read(copy / "boards" / "small"), [path])
    assert united.known and not united.taken


def test_doubts_are_united(copy: Path, made: Path) -> None:
    path = results(copy)[LEARNED]
    Entry.read(path).disputed_by(Dispute("B. Person", "2026-02-03", "why")).write(path.parent)
    found_there = merging.merge(Board.read(made / "boards" / "small"), [path])
    assert [d.by for entry in found_there.taken for d in entry.disputed] == ["B. Person"]


def test_readme_tables_between_markers_are_filled(copy: Path) -> None:
    readme = copy / "README.md"
    readme.write_text(
        "before\n<!-- leaderboard small -->\nold\n<!-- end -->\nafter\n<!-- leaderboard other -->\nx\n<!-- end -->\n"
    )
    assert any("README.md" in fault for fault in publication.check(copy / "boards"))
    publication.build(copy / "boards")
    text = readme.read_text()
    assert text.startswith("before\n<!-- leaderboard small -->\n| rank |") and "old" not in text and "\nx\n" in text


def test_a_board_as_a_table_for_papers_and_as_a_frame(made: Path, tmp_path: Path, robust: Type) -> None:
    import robustcodec

    board = made / "boards" / "small"
    files = [tmp_path / f"ranking.{suffix}" for suffix in ("csv", "parquet", "tex", "md", "json")]
    done = robust("leaderboard", "export", board, *files, "--threat", "psnr:30", "--figures", tmp_path / "figures")
    assert done.code == 0, done.err
    frame = robustcodec.leaderboard(board)
    at = frame[frame["threat"] == "psnr:30"].reset_index(drop=True)
    assert len(frame) == 5 and len(at) == 2 and list(at["entry"]) == [LEARNED, CLASSICAL]
    assert at["rank"].tolist() == [1, pd.NA] and at["bound"].tolist() == ["", "lower bound"]
    pd.testing.assert_frame_equal(pd.read_parquet(files[1]), at)
    assert "\\toprule" in files[2].read_text() and "jpeg:quality=20" in files[3].read_text()
    assert any(path.suffix == ".pdf" for path in (tmp_path / "figures").iterdir())
    assert "has no entries at psnr:1" in robust("leaderboard", "export", board, "--threat", "psnr:1").err


def test_init_writes_a_board_and_run_measures_what_it_asks(
    tmp_path: Path, robust: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--data photos:size=48 --limit 2 --suite robustcodec-quick --threat psnr:36 --anchor webp:quality={0,60}"
    assert robust("leaderboard", "init", "mine", *options.split()).code == 0
    board = Board.read(tmp_path / "mine")
    assert len(board.samples) == 2 and set(board.points["codec"]) == {"webp:quality=0", "webp:quality=60"}
    assert board.protocol["bare"][0]["suite"] == ["robustcodec-quick.v2"]
    assert board.protocol["transform"][0]["suite"] == ["robustcodec-transform.v2"]
    assert Board.parse(__import__("tomllib").loads(board.to_toml()), board.folder) == board
    assert robust("leaderboard", "init", "mine", *options.split()).code == 2
    refused = robust("run", "--board", "mine", "--codec", LEARNED, "--attack", "pgd")
    assert refused.code == 2 and "drop --attack" in refused.err
    assert "add --codec" in robust("run", "--board", "mine").err


def test_codecs_that_state_their_transform_have_a_protocol_of_their_own_where_a_board_has_one(tmp_path: Path) -> None:
    suite = {"of": "transform", "suite": ["robustcodec-transform"], "threat": ["psnr:36"]}
    board = Board.parse({**TABLE, "protocol": [*TABLE["protocol"], suite]}, tmp_path)
    cells = {codec: board.grid([(codec, "none")]).cells() for codec in (CLASSICAL, "webp", LEARNED)}
    attacks = {codec: {cell.attack.partition(":")[0] for cell in found} for codec, found in cells.items()}
    assert attacks == {CLASSICAL: {"jpeg-dct"}, "webp": {"noise", "random-search"}, LEARNED: {"noise", "pgd"}}
    assert board.kind_of(CLASSICAL, "none") == "transform" and board.kind_of("webp", "none") == "no-gradient"
    assert board.kind_of(CLASSICAL, "flip") == "no-gradient"  # whoever is behind it does not see the transform
    assert Board.parse(TABLE, tmp_path).kind_of(CLASSICAL, "none") == "no-gradient"


def test_measure_makes_the_entries_that_boards_name_and_goes_on_where_it_ended(copy: Path, robust: Type) -> None:
    """One cell and one entry are gone; a contender cannot be built; a board beside it has no data here."""
    board, run = copy / "boards" / "small", copy / "runs" / "small"
    shutil.copytree(copy / "run", run)
    before = {name: path.read_bytes() for name, path in results(copy).items()}
    results(copy)[CLASSICAL].unlink()
    (lost,) = (c for c in Store(run).grid().cells() if (c.codec, c.attack, c.threat) == (CLASSICAL, "noise", "psnr:36"))
    shutil.rmtree(run / "cells" / lost.id, ignore_errors=True)
    for path in (run / "cells").glob(f"{lost.id}*"):
        path.unlink()
    with (board / "board.toml").open("a") as file:
        file.write(f'\n[[contenders]]\ncodec = ["{CLASSICAL}", "bmshj2018-factorized.tiny-{{q1,q99}}"]\n')
    other = shutil.copytree(board, copy / "boards" / "elsewhere", ignore=shutil.ignore_patterns("results"))
    (other / "board.toml").write_text((board / "board.toml").read_text().replace("photos:size=48", "folder:nowhere"))
    assert "give --by NAME" in robust("leaderboard", "measure", copy / "boards").err
    done = robust(
        "leaderboard", "measure", copy / "boards", "--by", "A. Person", "--out", copy / "runs", "--workers", "0"
    )
    assert done.code == 1, done
    assert "small: 3 contenders" in done.out and "refused: bmshj2018-factorized.tiny-q99, defense none" in done.out
    assert "not measured: elsewhere: " in done.out and "nowhere" in done.out
    assert len(re.findall(r"^\d+/\d+ .* × noise, .*@? ?psnr:36", done.out, re.MULTILINE)) == 1, done.out
    after = {name: json.loads(path.read_text()) for name, path in results(copy).items()}
    assert sorted(after) == sorted(before)
    for name, entry in after.items():
        old = json.loads(before[name])
        assert entry["clean"] == old["clean"]
        assert [c["table"] for c in entry["cells"]] == [c["table"] for c in old["cells"]], name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": 3}, "title is 3, expected text"),
        ({"ranking": {"threat": "psnr:36"}}, "anchor"),
        ({"ranking": {"threat": "psnr:99", "anchor": []}}, "never attacks at psnr:99"),
        ({"protocol": [{"of": "everyone", "attack": ["noise"]}]}, "everyone"),
        ({"protocol": [{"of": "bare", "attack": ["noise"], "codec": ["jpeg"]}]}, "names no codec"),
    ],
)
def test_a_board_that_is_none_says_what_is_wrong(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(BoardError, match=said):
        Board.parse({**TABLE, **change}, tmp_path)
    with pytest.raises(BoardError, match="leaderboard init"):
        Board.read(tmp_path)
