"""The page of results without a browser: what is on it, what is escaped, how large it gets, which pictures it shows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shlex
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scripts
import torch
from PIL import Image
from torch import Tensor

from robustcodec.errors import BadData
from robustcodec.page import LIMIT, Detail, Shot, View, of_run, render
from robustcodec.page.images import data_uri, data_uris
from robustcodec.reporting.points import worst_of_samples
from robustcodec.running.grid import Cell, select
from robustcodec.running.store import Result, Store

ROOT = Path(__file__).parents[2]
EVIL = "<img src=x onerror=\"alert(1)\"></script><script>alert(2)</script> & 'q' %{x} <!--"
ATTACKS = ("noise", "pgd:steps=1")


@pytest.fixture(scope="module")
def benchmark() -> Any:
    """The script that measures the page: its numbers are those of the largest page we promise."""
    return scripts.load("benchmarks/page.py")


def scores(sample: str, psnr: float, adv_psnr: float, failed: float = 0.0) -> dict[str, Any]:
    """A row as the runner stores it."""
    nan = float("nan") if failed else None
    return {
        "sample": sample, "bpp": 0.5, "bpp_est": 0.5, "psnr": psnr, "ms_ssim": 0.95, "adv_bpp": 0.6,
        "adv_psnr": adv_psnr if nan is None else nan, "adv_ms_ssim": 0.8, "vi_db": 6.0,
        "delta_psnr": psnr - adv_psnr if nan is None else nan, "delta_own_psnr": 5.0, "rate_ratio": 1.2,
        "input_psnr": 40.0, "input_linf": 8.0, "queries": 10, "damage": 0.01, "broken": failed, "break_db": None,
        "decode_failed": failed,
    }  # fmt: skip


def grey(level: int, frames: int = 1) -> Tensor:
    return torch.full((frames, 3, 16, 16), level, dtype=torch.uint8)


def shown(uri: str) -> np.ndarray[Any, Any]:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture
def store(tmp_path: Path) -> tuple[Store, list[Cell]]:
    """Two attacks on JPEG: noise is worse for the first sample, PGD for the second, whose stream it breaks."""
    store = Store(tmp_path)
    cells = [Cell("jpeg:quality=20", attack, data="photos:size=64", limit=2) for attack in ATTACKS]
    found = {"noise": (20.0, 27.0, 0.0), "pgd:steps=1": (26.0, 0.0, 1.0)}
    made = {"device": "cpu x86_64", "commit": "abc", "robustcodec": "0.1.0", "torch": "2.0"}
    for i, cell in enumerate(cells):
        first, second, failed = found[cell.attack]
        rows = (scores("astronaut", 30.0, first), scores("chelsea", 31.0, second, failed))
        result = Result(cell.id, cell, "ok", rows, ("budget not used: 1 of 2",), made, None, cell.resolved.identity)
        store.put(result)
        pictures = {
            "original": grey(10),
            "adversarial": grey(60 + i),
            "clean": grey(120),
            "attacked": grey(200 + 20 * i),
        }
        second_pictures = {k: v.clone() for k, v in pictures.items() if not (failed and k == "attacked")}
        store.put_decoded(cell.id, {"astronaut": pictures, "chelsea": second_pictures})
    return store, cells


def test_the_worst_cell_of_each_sample_is_shown(store: tuple[Store, list[Cell]]) -> None:
    view = of_run(*store)
    assert [(s.sample, s.attack, s.damage) for s in view.shots] == [
        ("chelsea", "pgd:steps=1", 31.0),
        ("astronaut", "noise", 10.0),
    ]
    failed, one = view.shots
    assert failed.attacked == () and len(failed.clean) == len(failed.adversarial) == 1
    assert abs(int(shown(one.attacked[0]).mean()) - 200) <= 2 and abs(int(shown(one.clean[0]).mean()) - 120) <= 2
    assert abs(int(shown(view.originals["photos:size=64", "astronaut"][0]).mean()) - 10) <= 2
    (line,) = view.ranking.to_dict("records")
    assert line["entry"] == "jpeg:quality=20" and line["robust_psnr"] == (20 + 0) / 2


def test_a_detail_says_how_the_entry_was_made(store: tuple[Store, list[Cell]]) -> None:
    folder, cells = store
    missing = Cell("jpeg:quality=20", "noise", data="photos:size=64", limit=2, seed=7)
    detail = of_run(folder, [*cells, missing]).details["jpeg:quality=20"]
    assert detail.facts["device"] == "cpu x86_64" and detail.facts["libraries"] == "torch 2.0"
    assert detail.facts["coded by"].startswith("pillow") and detail.facts["cells"] == "2 of 3 measured"
    assert "budget not used: 1 of 2 ×2" in detail.warnings
    assert "1 of 3 cells have no result yet" in detail.warnings


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_commands_name_the_cells_of_an_entry_and_no_others(
    store: tuple[Store, list[Cell]], seeds: tuple[int, int]
) -> None:
    folder, cells = store
    mine = [replace(cell, seed=seed) for cell, seed in zip(cells, seeds, strict=True)]
    found: list[Cell] = []
    for line in of_run(folder, mine).details["jpeg:quality=20"].command.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["robustcodec", "run"]
        axes: dict[str, list[Any]] = defaultdict(list)
        for name, value in zip(words[2::2], words[3::2], strict=True):
            axes[name.removeprefix("--")].append(int(value) if name in ("--seed", "--limit") else value)
        (limit,) = axes.pop("limit")
        found += select(None, axes, limit).cells()
    assert sorted(found, key=str) == sorted(mine, key=str)


def test_entries_that_differ_in_access_alone_are_told_apart(store: tuple[Store, list[Cell]]) -> None:
    folder, (cell, _) = store
    other = replace(cell, access="bpda:diff-jpeg:quality=20")
    assert set(of_run(folder, [cell, other]).details) == {
        "jpeg:quality=20 (oblivious)",
        "jpeg:quality=20 (bpda:diff-jpeg:quality=20)",
    }


def test_a_run_without_results_has_a_page(tmp_path: Path) -> None:
    cells = [Cell("jpeg:quality=20", "noise", data="photos:size=64", limit=1)]
    page = render([of_run(Store(tmp_path), cells)], "Nothing yet")
    assert "No results yet." in page and "<table" not in page.partition('id="images"')[0]


@pytest.fixture
def view(benchmark: Any) -> View:
    """Three entries, one threat, four attacks."""
    rows = benchmark.numbers(3, 2)
    names = list(rows["entry"].unique())
    ranking = pd.DataFrame({"rank": [1, 2, 3], "entry": names, "data": "photos", "threat": "psnr:40", "psnr": 1.0})
    shots = tuple(
        Shot(name, "psnr:40", "photos", "photo-00", "pgd", clean, adversarial, attacked, damage=i)
        for i, name in enumerate(names)
        for clean, adversarial, attacked in [[data_uris(grey(50 * i + j)) for j in range(3)]]
    )
    details = {name: Detail({"measured by": "A. Person"}, "robustcodec run") for name in names}
    originals = {("photos", "photo-00"): data_uris(grey(99))}
    return View("v", "A view", ("About.",), ranking, {}, rows, pd.DataFrame(), details, shots, originals)


def test_the_same_views_give_the_same_page(view: View) -> None:
    again = replace(view, rows=view.rows.sample(frac=1, random_state=1))
    assert render([view], "t") == render([view], "t") == render([again], "t")
    assert render([view], "t") != render([replace(view, title="Another")], "t")


class Tags(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and what scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            attributes, before = self.scripts[-1]
            self.scripts[-1] = attributes, before + data
        else:
            self.text.append(data)


def test_a_copy_without_libraries_has_the_numbers_and_no_code_of_others(view: View) -> None:
    whole, kept = Tags(render([view], "t")), Tags(render([view], "t", libraries=False))
    held = {attributes.get("id"): content for attributes, content in kept.scripts}
    assert held["plotly"] == held["tables"] == '""' and held["images"] == "[]"
    assert [c for a, c in whole.scripts if a.get("class") == "entries"] == [
        c for a, c in kept.scripts if a.get("class") == "entries"
    ]
    assert set(view.ranking["entry"]) <= set(map(str.strip, kept.text)) and len(str(kept.text)) < 50_000


def hostile(view: View) -> View:
    """``view`` with markup wherever a user has a say."""
    first = view.ranking["entry"][0]
    named = {first: EVIL}
    swap = {"entry": named, "sample": {"photo-00": EVIL}, "attack": {"pgd": EVIL}, "data": {"photos": EVIL}}
    shots = [
        replace(s, entry=named.get(s.entry, s.entry), sample=EVIL, attack=EVIL, data=EVIL, threat=EVIL)
        for s in view.shots
    ]
    details = {EVIL: Detail({EVIL: EVIL}, EVIL, (EVIL,), (EVIL,))}
    ranking = view.ranking.replace({"entry": named}).assign(data=EVIL, threat=EVIL, note=EVIL)
    rows = view.rows.replace(swap).assign(threat=EVIL)
    originals = {(EVIL, EVIL): view.originals["photos", "photo-00"]}
    meanings = {"note": EVIL}
    return View(EVIL, EVIL, (EVIL,), ranking, meanings, rows, view.curves, details, tuple(shots), originals)


def test_nothing_that_users_name_becomes_markup(view: View) -> None:
    page = Tags(render([hostile(view), view], EVIL))
    plain = Tags(render([replace(view, name="w"), view], "t"))
    assert [tag for tag, _ in page.found if tag == "script"] == [tag for tag, _ in plain.found if tag == "script"]
    assert not [a for _, attributes in page.found for a in attributes if a.startswith("on")]
    assert not [a for tag, a in page.found if tag == "img" and a.get("src") is not None]
    assert EVIL in "".join(page.text)
    for attributes, text in page.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in text
            json.loads(text)
    drawn = [text for attributes, text in page.scripts if '"layout"' in text and '"data"' in text and len(text) < 10**5]
    assert drawn and all("onerror" not in re.sub("&lt;img[^&]*onerror", "", text) for text in drawn)


def test_the_policy_lets_one_script_run_and_nothing_load(view: View) -> None:
    page = Tags(render([view], "t"))
    (policy,) = [a["content"] for tag, a in page.found if a.get("http-equiv") == "Content-Security-Policy"]
    (script,) = [text for attributes, text in page.scripts if "type" not in attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    assert rules["script-src"].split() == [f"'sha256-{digest}'", "blob:"]
    assert rules["default-src"] == rules["connect-src"] == "'none'" and rules["img-src"] == "data: blob:"
    libraries = {str(a["data-library"]).split()[0] for _, a in page.found if "data-library" in a}
    assert libraries == {"plotly", "itables"}
    for tag, attributes in page.found:
        assert not {"src", "href", "srcset"} & attributes.keys() or str(attributes.get("href", "#"))[:5] in (
            "#",
            "data:",
        ), tag


def test_a_page_of_two_hundred_entries_stays_below_its_limit(benchmark: Any) -> None:
    rows = benchmark.numbers(200, 24)
    names = list(rows["entry"].unique())
    draw = np.random.default_rng(0)

    def picture() -> tuple[str, ...]:  # as long as the WebP of 64 × 64 pixels of a photo
        return (f"data:image/webp;base64,{base64.b64encode(draw.bytes(1800)).decode()}",)

    shots = tuple(
        Shot(name, "psnr:40", "photos", f"photo-{i:02}", "pgd", picture(), picture(), picture(), damage=i)
        for name in names
        for i in range(24)
    )
    ranking = pd.DataFrame({"entry": names, "data": "photos", "threat": "psnr:40"})
    originals = {("photos", f"photo-{i:02}"): picture() for i in range(24)}
    view = View("v", "V", (), ranking, {}, rows, pd.DataFrame(), {}, shots, originals)
    page = render([view], "t")
    assert 0.95 * LIMIT < len(page.encode()) < LIMIT
    (kept,) = [json.loads(text) for attributes, text in Tags(page).scripts if attributes.get("class") == "shots"]
    assert f"Pictures of {len(kept)} of 4800 samples" in page
    counts = pd.Series([shot["entry"] for shot in kept]).value_counts()
    assert len(counts) == 200 and counts.max() - counts.min() <= 1
    samples = {shot["sample"] for shot in kept if shot["entry"] == names[0]}
    assert samples == {f"photo-{23 - i:02}" for i in range(len(samples))}  # the most damaged


def test_numbers_that_do_not_fit_are_refused(view: View) -> None:
    with pytest.raises(BadData, match=r"page of \d\d\.\d MB without any picture.*give fewer views"):
        render([replace(view, about=("x" * LIMIT,))], "t")


def test_views_must_be_told_apart_and_say_what_they_rank(view: View) -> None:
    with pytest.raises(BadData, match="v, v.*named apart"):
        render([view, view], "t")
    with pytest.raises(BadData, match="nothing"):
        render([], "t")
    with pytest.raises(BadData, match="lacks threat"):
        render([replace(view, ranking=view.ranking.drop(columns="threat"))], "t")


def test_a_dispute_is_marked_in_the_table(view: View) -> None:
    name = view.ranking["entry"][1]
    assert 'class="tag"' not in render([view], "t")
    doubted = {**view.details, name: Detail({}, "", (), ("2026-11-02, A. Person: why",))}
    page = render([replace(view, details=doubted)], "t")
    assert page.count('<span class="tag">disputed</span>') == 1 and "<s>2</s>" in page and "<s>1</s>" not in page


def test_large_pictures_are_cut_to_their_centre_and_long_clips_short() -> None:
    frame = torch.zeros(3, 520, 600, dtype=torch.uint8)
    frame[:, 4:516, 44:556] = 255
    picture = shown(data_uri(frame))
    assert picture.shape == (512, 512, 3) and picture.min() > 250
    assert len(data_uris(grey(5, frames=20))) == 16
    with pytest.raises(BadData, match=r"expected uint8 \(3, H, W\)"):
        data_uri(torch.zeros(3, 8, 8))


def test_the_worst_row_is_by_sample_and_a_failed_decoder_is_worst() -> None:
    axes = {"entry": "e", "data": "d", "threat": "t", "objective": "o"}
    rows = pd.DataFrame(
        [
            {**axes, "attack": "a", **scores("1", 30, 25)},
            {**axes, "attack": "b", **scores("1", 30, 24)},
            {**axes, "attack": "a", **scores("2", 30, 20)},
            {**axes, "attack": "b", **scores("2", 30, 29, failed=1.0)},
            {**axes, "attack": "a", **scores("3", 30, 22)},
            {**axes, "attack": "b", **scores("3", 30, 22)},
        ]
    )
    worst = worst_of_samples(rows, ["entry"])
    assert list(worst["attack"]) == ["b", "b", "a"] and list(worst["loss"]) == [6, 30, 8]
