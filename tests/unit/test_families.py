"""Which codecs are one family, and that a family looks the same everywhere on a page."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import pytest

from robustcodec.page import View
from robustcodec.page.figures import drawings
from robustcodec.page.styles import GREY, PALETTE, styles_of
from robustcodec.reporting.families import related


@pytest.mark.parametrize(
    ("codec", "family", "further"),
    [
        ("bmshj2018-hyperprior.tiny-q2", "bmshj2018-hyperprior.tiny", ""),
        ("bmshj2018-hyperprior.tiny-q2-at", "bmshj2018-hyperprior.tiny", "at"),
        ("bmshj2018-hyperprior.tiny-msssim-q1", "bmshj2018-hyperprior.tiny-msssim", ""),
        ("mbt2018-mean.base", "mbt2018-mean.base", ""),
        ("mbt2018.q3", "mbt2018", ""),
        ("jpeg:quality=20", "jpeg", ""),
        ("jpeg2000", "jpeg2000", ""),
        ("./mine.py:Mine:quality=3", "./mine.py:Mine", ""),
        ("<b>no spec</b>", "<b>no spec</b>", ""),
    ],
)
def test_a_family_follows_from_the_spec(codec: str, family: str, further: str) -> None:
    assert (related(codec).family, related(codec).further) == (family, further)


def row(codec: str, around: str, bpp: float) -> dict[str, object]:
    scores = {"bpp": bpp, "psnr": 30.0 + bpp, "adv_bpp": bpp + 0.1, "adv_psnr": 25.0 + bpp, "delta_psnr": 5.0}
    counts = {"vi_db": 6.0, "rate_ratio": 1.1, "input_psnr": 40.0, "decode_failed": 0.0, "broken": 0.0}
    axes = {"data": "d", "threat": "psnr:40", "attack": "noise", "objective": "distortion", "sample": "s"}
    return {**axes, **scores, **counts, "codec": codec, "entry": codec + around, "cell": codec + around}


def view(name: str, entries: Sequence[tuple[str, str]], bounds: Sequence[str] = ()) -> View:
    rows = pd.DataFrame([row(codec, around, float(len(entries) - i)) for i, (codec, around) in enumerate(entries)])
    ranking = rows[["data", "threat", "entry"]].assign(
        bound=["lower bound" if entry in bounds else "" for entry in rows["entry"]]
    )
    return View(name, name, (), ranking, {}, rows, pd.DataFrame(), {}, (), {})


MODELS = [(f"model{i}.tiny-q{q}", "") for i in range(12) for q in (1, 2)]


def test_a_family_has_one_colour_on_the_page_and_no_other_one_beside_it_has() -> None:
    images = view("images", MODELS[:10])
    others = view("others", [("rdae.tiny-q1", ""), ("model4.tiny-q1", " + flip (adaptive)"), ("h264:crf=30", "")])
    first, second = styles_of([images, others])
    assert first["model4.tiny-q1"].colour == second["model4.tiny-q1 + flip (adaptive)"].colour
    for styles in (first, second):
        colours = {style.family: style.colour for style in styles.values()}
        assert len(set(colours.values())) == len(colours) and set(colours.values()) <= set(PALETTE)


def test_variants_of_a_family_differ_in_their_marker_alone() -> None:
    (styles,) = styles_of([view("v", [("m.a-q1", ""), ("m.a-q1-at", ""), ("m.a-q1", " + f"), ("m.a-q1-at", " + f")])])
    assert len({style.colour for style in styles.values()}) == 1
    assert [s.kind for s in styles.values()] == ["bare", "finetuned", "defended", "finetuned, defended"]
    assert len({style.marker for style in styles.values()}) == 4


def test_a_legend_has_twelve_things_at_most_and_hover_the_rest() -> None:
    wide = view("v", [*MODELS, ("m.a-q1-at", ""), ("m.a-q1", " + f"), ("m.a-q1-at", " + f")], ["model0.tiny-q1"])
    (styles,) = styles_of([wide])
    assert {style.group for style in styles.values() if style.colour == GREY} == {"other codecs"}
    for drawing in drawings(wide, styles):
        traces = [t for t in json.loads(drawing.figure)["data"] if t["type"] == "scatter"]
        assert sum(trace.get("showlegend", True) for trace in traces) <= 12
    (plane,) = [json.loads(each.figure)["data"] for each in drawings(wide, styles) if each.kind == "rd"]
    assert {text for trace in plane for text in trace.get("text", [])} == set(styles)


def test_the_rates_of_a_family_are_joined_clean_and_attacked() -> None:
    shown = view(
        "v", [("m.a-q2", ""), ("m.a-q1", ""), ("m.a-q1", " + f"), ("jpeg:quality=20", "")], ["jpeg:quality=20"]
    )
    (plane,) = [json.loads(d.figure)["data"] for d in drawings(shown, styles_of([shown])[0]) if d.kind == "rd"]
    lines = {(tuple(t["text"]), t["line"]["dash"]): t for t in plane if "text" in t}
    assert set(lines) == {
        (names, dash)
        for names in (("m.a-q1", "m.a-q2"), ("m.a-q1 + f",), ("jpeg:quality=20",))
        for dash in ("solid", "dash")
    }
    rates = ("m.a-q1", "m.a-q2")  # the lower one first
    assert lines[rates, "solid"]["x"] == [3.0, 4.0] and lines[rates, "dash"]["x"] == [3.1, 4.1]
    hollow = {names for (names, _), trace in lines.items() if trace["marker"]["symbol"].endswith("-open")}
    assert hollow == {("jpeg:quality=20",)}
