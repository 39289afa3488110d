"""The page of a real run in a real browser: what a reader does with it, and that it asks nobody for anything."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reader import Reader
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from robustcodec.execution.runner import Runner
from robustcodec.page import Detail, View, of_run, render
from robustcodec.running.grid import Grid
from robustcodec.running.store import Store

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900"),
)
EVIL = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script>&"\''
LEARNED = "bmshj2018-factorized.tiny-q1"
PHOTOS, CLIPS = "photos:size=64 · psnr:36", "clips:frames=4,size=64 · psnr:36"
GRID: dict[str, Any] = {
    "block": [
        {
            "codec": [LEARNED, "jpeg:quality=20"],
            "access": [f"transfer:{LEARNED}"],
            "attack": ["noise", "pgd:steps=2"],
            "threat": ["psnr:36", "psnr:42"],
            "data": ["photos:size=64"],
            "limit": 2,
        },
        {"codec": ["rdae.tiny-q1"], "attack": ["noise"], "threat": ["psnr:36"], "data": ["clips:frames=4,size=64"]}
        | {"limit": 1},
    ]
}


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    """Of a real run: two image codecs under two attacks and budgets, and a video codec."""
    cells = Grid.parse(GRID, "tiny", "this test").cells()
    store = Store(tmp_path_factory.mktemp("run"))
    tally = Runner(store).run(cells)
    assert tally.failed == 0, tally.errors
    return of_run(store, cells)


def hostile(view: View) -> View:
    """``view`` with markup for the name of its JPEG, of its samples, and in a warning; nobody believes its numbers."""
    named = {name: EVIL for name in view.details if name.startswith("jpeg")}
    samples = {name: f"{name} {EVIL}" for name in view.rows["sample"].unique()}
    (jpeg,) = named
    return replace(
        view,
        name="hostile",
        title=EVIL,
        about=(EVIL,),
        ranking=view.ranking.replace({"entry": named}),
        rows=view.rows.replace({"entry": named, "sample": samples}),
        details={
            **{name: detail for name, detail in view.details.items() if name != jpeg},
            EVIL: Detail({EVIL: EVIL}, EVIL, (EVIL,), (f"2026-11-02, A. Person: {EVIL}",)),
        },
        shots=tuple(replace(s, entry=named.get(s.entry, s.entry), sample=samples[s.sample]) for s in view.shots),
        originals={(data, samples[sample]): uris for (data, sample), uris in view.originals.items()},
    )


@pytest.fixture(scope="module")
def page(view: View, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render([view, hostile(view)], "Tiny"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def reader(browser: webdriver.Chrome, page: Path) -> Iterator[Reader]:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # type: ignore[no-untyped-call]  # of the test before
    reader = Reader(browser, page)
    yield reader
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []  # type: ignore[no-untyped-call]
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert urls and [url for url in urls if not re.match("file:|data:|blob:|about:", url)] == []


def test_sorting_by_a_column_and_back_by_link(reader: Reader) -> None:
    reader.open(board=PHOTOS)
    heading = reader.one("table.ranking th[data-name=psnr] .dt-column-title")
    heading.click()
    rising = [float(text) for text in reader.column("psnr")]
    assert rising == sorted(rising) and len(rising) == 2
    heading.click()
    assert [float(text) for text in reader.column("psnr")] == rising[::-1]
    reader.addressed(sort="psnr.desc")
    reader.open(board=PHOTOS, sort="psnr.desc")
    assert [float(text) for text in reader.column("psnr")] == rising[::-1]


def test_searching_and_filtering_by_column(reader: Reader) -> None:
    Select(reader.one("select.board")).select_by_value("")
    assert len(reader.rows()) == 5 and "psnr:42" in reader.column("threat")
    reader.one(".dt-search input").send_keys("jpeg")
    reader.until(lambda: len(reader.rows()) == 2)
    reader.addressed(q="jpeg", board="")
    reader.one("table.ranking th[data-name=threat] .dtcc-button").click()
    reader.one(".dtcc-dropdown input").send_keys("42")
    reader.until(lambda: reader.column("threat") == ["psnr:42"])
    reader.until(lambda: "42" in reader.address().get("filters", ""))
    chosen = reader.address()
    reader.open(**chosen | {"board": ""})
    reader.until(lambda: reader.column("threat") == ["psnr:42"])
    assert reader.one(".dt-search input").get_attribute("value") == "jpeg"


def test_more_columns_on_demand_and_by_link(reader: Reader) -> None:
    reader.open(board=PHOTOS)
    heads = "return [...document.querySelectorAll('[data-view=run] table.ranking th')].map((th) => th.innerText)"
    assert reader.run(heads) == ["rank", "entry", "robust (dB)", "clean (dB)", "loss (dB)", "bpp", "rate ×"]
    reader.one("button.more").click()
    assert len(reader.run(heads)) > 12 and "VI (dB)" in reader.run(heads) and "threat" not in reader.run(heads)
    reader.addressed(columns="all")
    reader.open(board=PHOTOS, columns="all")
    assert "VI (dB)" in reader.run(heads) and reader.one("button.more").text == "Fewer columns"


@pytest.mark.parametrize("gone", [{"view": "old"}, {"board": "old · psnr:1"}, {"entry": "old"}, {"section": "old"}])
def test_a_link_to_what_is_no_more_opens_the_page_and_says_so(reader: Reader, gone: dict[str, str]) -> None:
    reader.open(**gone, filters="cut [off")
    ((key, name),) = gone.items()
    assert f"not on this page ({key} {name}); this is Results" in reader.driver.find_element(By.ID, "notice").text
    assert reader.one("h2").text == "Results" and len(reader.rows()) == 2
    assert reader.one("select.board").get_attribute("value") == PHOTOS
    assert not reader.driver.find_elements(By.CSS_SELECTOR, "dialog[open]")
    reader.until(lambda: key not in reader.address() or reader.address()[key] != name)
    reader.open(board=PHOTOS)
    assert not reader.driver.find_element(By.ID, "notice").is_displayed()


def test_a_card_of_the_gallery_opens_its_pictures(reader: Reader, view: View) -> None:
    reader.open(board=PHOTOS)
    worst = {shot.entry: shot for shot in view.shots[::-1] if f"{shot.data} · {shot.threat}" == PHOTOS}
    cards = reader.all(".cards button")
    assert len(cards) == len(worst) == 2
    shot = max(worst.values(), key=lambda shot: shot.damage)
    assert shot.entry in cards[0].text and shot.sample in cards[0].text
    sources = [img.get_attribute("src") for img in cards[0].find_elements(By.TAG_NAME, "img")]
    assert sources == [shot.clean[-1], shot.attacked[-1]]
    cards[0].send_keys(Keys.ENTER)
    assert reader.one(".browser .below").get_attribute("src") == shot.attacked[0]
    assert reader.run("return document.activeElement.textContent") == "Pictures"
    reader.addressed(shot=shot.entry, sample=shot.sample)


def test_the_threat_chooses_lines_plots_and_pictures(reader: Reader) -> None:
    Select(reader.one("select.board")).select_by_value(CLIPS)
    assert reader.column("entry") == ["rdae.tiny-q1"]
    shown = {f.get_attribute("data-kind") for f in reader.all("figure.plot") if f.is_displayed()}
    assert shown == {"rd", "heat", "drift"}
    assert reader.one(".browser [data-key=shot]").get_attribute("value") == "rdae.tiny-q1"
    Select(reader.one("select.board")).select_by_value(PHOTOS)
    shown = {f.get_attribute("data-kind") for f in reader.all("figure.plot") if f.is_displayed()}
    assert shown == {"rd", "heat", "security"}


def test_plots_are_drawn_and_follow_their_switch(reader: Reader) -> None:
    reader.open(board=PHOTOS)
    heat = reader.one("figure.plot[data-kind=heat]:not([hidden])")
    reader.run("arguments[0].scrollIntoView()", heat)
    canvas = heat.find_element(By.CSS_SELECTOR, ".canvas")
    reader.until(lambda: "js-plotly-plot" in str(canvas.get_attribute("class")))
    visible = "return arguments[0].data.filter((t) => t.visible === true).map((t) => t.meta)"
    reader.until(lambda: reader.run(visible, canvas) == ["loss of PSNR (dB)"])
    Select(heat.find_element(By.CSS_SELECTOR, ".choice")).select_by_visible_text("rate ×")
    reader.until(lambda: reader.run(visible, canvas) == ["rate ×"])
    reader.addressed(heat="rate ×")
    for kind in ("rd", "security"):
        figure = reader.one(f"figure.plot[data-kind={kind}]:not([hidden])")
        reader.drawn(figure)


def edge(reader: Reader) -> float:
    """Where the left picture ends, in percent."""
    clip = reader.run("return getComputedStyle(arguments[0]).clipPath", reader.one(".browser .above"))
    found = re.fullmatch(
        r"inset\(0(?:px)? calc\(100% - ([\d.]+)%\) 0(?:px)? 0(?:px)?\)|inset\(0(?:px)? ([\d.]+)% .*\)", clip
    )
    assert found, clip
    return float(found[1]) if found[1] else 100 - float(found[2])


def test_the_slider_moves_by_keys_and_by_mouse(reader: Reader) -> None:
    slider = reader.one(".browser .wipe")
    reader.run("arguments[0].scrollIntoView({block: 'center'})", slider)
    assert edge(reader) == 50
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert edge(reader) == 53
    reader.addressed(at="53")
    width = slider.size["width"]
    ActionChains(reader.driver).move_to_element_with_offset(slider, int(width * 0.3), 0).click().perform()
    assert edge(reader) == pytest.approx(80, abs=3)


def test_difference_zoom_and_frames(reader: Reader, view: View) -> None:
    reader.open(board=CLIPS, shot="rdae.tiny-q1")
    reader.choose("mode", "difference")
    pair = reader.one(".browser .pair")
    above = reader.one(".browser .above")
    assert reader.run("return getComputedStyle(arguments[0]).mixBlendMode", above) == "difference"
    assert reader.run("return getComputedStyle(arguments[0]).filter", pair) == "brightness(8)"
    zoom = reader.one(".browser [data-key=zoom]")
    reader.run("arguments[0].value = 3; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))", zoom)
    assert pair.size["width"] == 3 * 64
    before = above.get_attribute("src")
    (shot,) = [s for s in view.shots if s.entry == "rdae.tiny-q1"]
    assert before == shot.clean[0]
    reader.one(".browser [data-key=frame]").send_keys(Keys.ARROW_RIGHT)
    assert above.get_attribute("src") == shot.clean[1]
    reader.addressed(frame="1", zoom="3", mode="difference")
    reader.one(".browser .play").click()
    reader.until(lambda: above.get_attribute("src") == shot.clean[3])
    reader.one(".browser .play").click()
    still = above.get_attribute("src")
    assert reader.one(".browser .play").text == "Play" and above.get_attribute("src") == still


def test_a_link_restores_every_choice(reader: Reader, view: View) -> None:
    shot = next(s for s in view.shots if s.entry.startswith("jpeg") and s.threat == "psnr:42")
    board = f"{shot.data} · {shot.threat}"
    chosen = {
        **{"view": "run", "board": PHOTOS, "q": "b", "sort": "bpp.desc", "heat": "VI dB"},
        **{"on": board, "shot": shot.entry, "sample": shot.sample, "a": "original", "b": "adversarial"},
        **{"at": "21", "zoom": "5", "entry": LEARNED + f" (transfer:{LEARNED})"},
    }
    reader.open(**chosen)
    assert reader.one("dialog[open] h2").text == chosen["entry"]
    reader.one("dialog .close").click()
    for key in ("on", "shot", "sample", "a", "b", "at"):
        assert reader.one(f".browser [data-key={key}]").get_attribute("value") == chosen[key], key
    reader.until(lambda: reader.one(".browser [data-key=zoom]").get_attribute("value") == "5")
    assert edge(reader) == 21
    assert reader.one(".browser .below").get_attribute("src") == shot.adversarial[0]
    assert reader.one(".browser .above").get_attribute("src") == view.originals[shot.data, shot.sample][0]
    assert reader.one(".dt-search input").get_attribute("value") == "b"
    assert reader.one("select.board").get_attribute("value") == PHOTOS
    heat = reader.one("figure.plot[data-kind=heat] .choice")
    assert heat.get_attribute("value") == chosen["heat"]
    reader.until(lambda: reader.address() == {k: v for k, v in chosen.items() if k != "entry"})


def test_the_detail_of_an_entry(reader: Reader, view: View) -> None:
    reader.open(board=PHOTOS)
    link = next(link for link in reader.all("table.ranking a[data-entry]") if link.text.startswith(LEARNED))
    name = link.text
    link.send_keys(Keys.ENTER)
    dialog = reader.one("dialog[open]")
    assert dialog.find_element(By.TAG_NAME, "h2").text == name
    assert dialog.find_element(By.TAG_NAME, "code").text == view.details[name].command
    for key, value in view.details[name].facts.items():
        assert key in dialog.text and value in dialog.text
    addresses = [link.get_attribute("href") for link in dialog.find_elements(By.TAG_NAME, "a")]
    assert addresses == [link.address for link in view.details[name].links] and len(addresses) == 3
    attacks, samples = dialog.find_elements(By.TAG_NAME, "table")
    mine = view.rows[view.rows["entry"] == name]
    assert len(attacks.find_elements(By.CSS_SELECTOR, "tbody tr")) == 4
    assert len(samples.find_elements(By.CSS_SELECTOR, "tbody tr")) == 4
    group = mine[(mine["attack"] == "noise") & (mine["threat"] == "psnr:36")]
    assert f"{group['adv_psnr'].mean():.2f}" in attacks.text
    reader.addressed(entry=name)
    dialog.find_element(By.XPATH, ".//button[.='Copy command']").click()
    reader.until(lambda: dialog.find_elements(By.XPATH, ".//button[.='Copied']"))
    ActionChains(reader.driver).send_keys(Keys.ESCAPE).perform()
    reader.until(lambda: not reader.driver.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    reader.until(lambda: "entry" not in reader.address())


def test_everything_is_reached_by_the_tab_key(reader: Reader) -> None:
    reader.open(board=CLIPS)
    ours = (
        "const ours = (n) => n.matches('a[href], button, select, input') && n.checkVisibility() "
        "&& !n.closest('.dt-container thead, dialog, .modebar');"
    )
    wanted = reader.run(f"{ours} return [...document.querySelectorAll('*')].filter(ours).length")
    reached: set[str] = set()
    outlines: list[str] = []
    for _ in range(wanted + 60):
        ActionChains(reader.driver).send_keys(Keys.TAB).perform()
        node = reader.run(
            f"{ours} const n = document.activeElement, style = getComputedStyle(n);"
            "if (n === document.body) return null;"
            "n.dataset.tab ??= String(Math.random());"
            "return [n.dataset.tab, ours(n), style.outlineStyle + style.boxShadow]"
        )
        if node is None or node[0] in reached:
            break
        if node[1]:
            reached.add(node[0])
        outlines.append(node[2])
    assert len(reached) == wanted
    assert not [o for o in outlines if o == "nonenone"]  # the focus is seen


def test_names_with_markup_are_shown_as_text(reader: Reader) -> None:
    reader.open(view="hostile", board="")
    assert reader.one("h2").text == EVIL
    assert reader.column("entry").count(f"{EVIL} disputed") == 2
    reader.one("table.ranking th[data-name=entry] .dtcc-button").click()
    for figure in reader.all("figure.plot"):
        reader.drawn(figure)
    heat = "return [...document.querySelectorAll('.ytick text')].map((n) => n.textContent)"
    assert EVIL in reader.run(heat)
    reader.choose("shot", EVIL)
    assert reader.one(".browser [data-key=sample] option").get_attribute("value").endswith(EVIL)  # type: ignore[union-attr]
    reader.open(view="hostile", board="", entry=EVIL)
    dialog = reader.one("dialog[open]")
    assert dialog.find_element(By.TAG_NAME, "h2").text == EVIL
    assert [li.text for li in dialog.find_elements(By.CSS_SELECTOR, "ul.warnings li")] == [EVIL]
    assert f"A. Person: {EVIL}" in dialog.text
    assert reader.run("return window.hacked ?? null") is None
    assert reader.run("return document.querySelectorAll('img[src=\"x\"]').length") == 0


def test_light_and_dark(reader: Reader) -> None:
    def paper() -> list[float]:
        colour = reader.run("return getComputedStyle(document.body).backgroundColor")
        return [float(v) for v in re.findall(r"[\d.]+", colour)][:3]

    canvas = reader.one("figure.plot[data-kind=rd]:not([hidden]) .canvas")
    reader.run("arguments[0].scrollIntoView()", canvas)
    reader.until(lambda: "js-plotly-plot" in str(canvas.get_attribute("class")))
    toggle = reader.driver.find_element(By.ID, "theme")
    if toggle.get_attribute("aria-pressed") == "true":
        toggle.click()
    assert min(paper()) > 240
    light = reader.run("return arguments[0]._fullLayout.font.color", canvas)
    toggle.click()
    assert max(paper()) < 40 and toggle.get_attribute("aria-pressed") == "true"
    reader.until(lambda: reader.run("return arguments[0]._fullLayout.font.color", canvas) != light)
    reader.open()
    assert max(paper()) < 40  # kept
    reader.driver.find_element(By.ID, "theme").click()


def test_a_phone_scrolls_down_alone(reader: Reader) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    reader.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for board in (PHOTOS, CLIPS, ""):
            reader.open(board=board)
            for figure in reader.all("figure.plot"):
                if figure.is_displayed():
                    reader.drawn(figure)
            assert reader.run("return document.documentElement.scrollWidth") == 390
            heads = reader.all("table.ranking thead th .dt-column-title")
            assert {head.size["height"] < 24 for head in heads if head.is_displayed()} == {True}  # one line each
    finally:
        reader.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_copy_without_libraries_shows_its_tables_and_says_where_the_rest_is(
    reader: Reader, view: View, tmp_path: Path
) -> None:
    kept = tmp_path / "index.html"
    kept.write_text(render([view], "Kept", libraries=False), encoding="utf-8")
    reader.driver.get(kept.as_uri())
    assert len(reader.rows()) == len(view.ranking) and all(row.is_displayed() for row in reader.rows())
    heads = reader.driver.find_elements(By.CSS_SELECTOR, "table.ranking th")
    assert len({head.size["height"] for head in heads}) == 1 and heads[0].size["height"] < 40  # one line each
    assert "leaderboard build" in reader.driver.find_element(By.CSS_SELECTOR, "p.empty").text
    assert not reader.driver.find_elements(By.CSS_SELECTOR, "figure.plot")
