"""How large the page of results is, and how fast it opens in a browser: 200 entries that each show 24 small pictures.

    python benchmarks/page.py [--entries 200] [--samples 24] [--size 64] [--opens 5]

Scores are drawn at random; pictures are the bundled photos with noise of an entry's own, so that none is kept twice.
Seconds are from the start of the navigation until ``document.body.dataset.ready``, in headless Chromium; needs
chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch

from robustcodec.page import Detail, Shot, View, render
from robustcodec.page.images import data_uri
from robustcodec.registry import data

ATTACKS = ("noise", "pgd", "chen-ma", "square")
READY = """new MutationObserver((_, self) => {
  if (document.body?.dataset.ready) { window.readyAt = performance.now(); self.disconnect(); }
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def numbers(entries: int, samples: int) -> pd.DataFrame:
    """Rows as a run has them: every attack on every sample of every entry."""
    draw = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product([range(entries), ATTACKS, range(samples)], names=["entry", "attack", "sample"])
    rows = keys.to_frame(index=False)
    clean, loss, ratio = (draw.uniform(low, high, len(rows)) for low, high in ((28, 40), (0, 9), (1, 1.6)))
    return rows.assign(
        entry=[f"codec-{i:03}" for i in rows["entry"]],
        codec=[f"codec-{i:03}" for i in rows["entry"]],
        sample=[f"photo-{i:02}" for i in rows["sample"]],
        cell=[f"{entry}/{attack}" for entry, attack in zip(rows["entry"], rows["attack"], strict=True)],
        **{"data": "photos", "threat": "psnr:40", "objective": "distortion", "decode_failed": 0.0, "broken": 0.0},
        **{"bpp": 0.5, "adv_bpp": 0.5 * ratio, "psnr": clean, "adv_psnr": clean - loss, "delta_psnr": loss},
        **{"vi_db": loss, "rate_ratio": ratio, "input_psnr": 40.0, "queries": 50},
    )


def view(entries: int, samples: int, side: int) -> View:
    """A leaderboard with three pictures of each sample of each entry."""
    rows = numbers(entries, samples)
    names = list(rows["entry"].unique())
    photos = [sample.load()[0] for sample in data.build(f"photos:size={side}").samples()]
    pictured = [photos[i % len(photos)].roll(i, dims=2) for i in range(samples)]
    draw = torch.Generator().manual_seed(0)
    shots = []
    for entry in names:
        for i, photo in enumerate(pictured):
            clips = [
                (data_uri((photo + torch.randn(photo.shape, generator=draw) * 3).clamp(0, 255).byte()),)
                for _ in range(3)
            ]
            shots.append(Shot(entry, "psnr:40", "photos", f"photo-{i:02}", "pgd", *clips, damage=float(i)))
    mean = rows.groupby("entry", as_index=False)[["psnr", "adv_psnr", "bpp", "rate_ratio"]].mean()
    return View(
        name="photos",
        title="Photos",
        about=("Random scores, to measure the page.",),
        ranking=mean.assign(data="photos", threat="psnr:40", rank=range(1, len(mean) + 1)),
        meanings={},
        rows=rows,
        curves=pd.DataFrame(),
        details={entry: Detail({"measured by": "nobody"}, f"robustcodec run --codec {entry}") for entry in names},
        shots=tuple(shots),
        originals={("photos", f"photo-{i:02}"): (data_uri(photo),) for i, photo in enumerate(pictured)},
    )


def seconds(path: Path, opens: int) -> list[float]:
    """Until the page is ready, each time in a browser that was just started."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    times = []
    for _ in range(opens):
        with tempfile.TemporaryDirectory() as profile:
            options = webdriver.ChromeOptions()
            options.binary_location = browser or ""
            for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
                options.add_argument(flag)
            with webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as driver:
                driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": READY})
                driver.get(path.as_uri())
                while (at := driver.execute_script("return window.readyAt")) is None:
                    pass
                times.append(at / 1000)
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--entries", type=int, default=200)
    options.add_argument("--samples", type=int, default=24, help="pictures of each entry")
    options.add_argument("--size", type=int, default=64, help="side of a picture in pixels")
    options.add_argument("--opens", type=int, default=5, help="how often the page is opened")
    given = options.parse_args()
    made = view(given.entries, given.samples, given.size)
    started = perf_counter()
    page = render([made], "How large, how fast")
    took = perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.html"
        path.write_text(page, encoding="utf-8")
        times = seconds(path, given.opens)
        print(f"{path.stat().st_size / 1e6:.2f} MB, made in {took:.1f} s")
    print(f"ready in {statistics.median(times):.2f} s (median of {given.opens}; {min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
