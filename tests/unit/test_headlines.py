"""Sentences about a run against numbers set by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from robustcodec.reporting.tables import leaderboard
from robustcodec.studies import defenses_report
from robustcodec.studies.headlines import Headlines

AXES = ("codec", "defense", "access", "attack", "objective", "threat", "data", "seed")
NAN = float("nan")


def row(codec: str, sample: str = "1", attack: str = "pgd", **values: Any) -> dict[str, Any]:
    """30 dB clean and 24 dB attacked, 6 dB amplified, a fifth more bytes, unless said otherwise."""
    base: dict[str, Any] = {
        "codec": codec, "defense": "none", "access": "oblivious", "attack": attack, "objective": "distortion",
        "threat": "psnr:40", "data": "photos", "seed": 0, "sample": sample, "bpp": 0.5, "psnr": 30.0, "ms_ssim": 0.95,
        "adv_bpp": 0.6, "adv_psnr": 24.0, "adv_ms_ssim": 0.8, "vi_db": 6.0, "delta_psnr": 6.0, "delta_own_psnr": 5.0,
        "rate_ratio": 1.2, "input_psnr": 40.0, "input_linf": 8.0, "decode_failed": 0.0, "queries": 10, "warnings": "",
        "damage": 0.01, "broken": 1.0, "break_db": 36.0,
    }  # fmt: skip
    base |= values
    return base | {"cell": "/".join(str(base[axis]) for axis in AXES)}


def told(*rows: dict[str, Any]) -> Headlines:
    frame = pd.DataFrame(rows)
    return Headlines.of(leaderboard(frame), frame)


def test_the_worst_of_several_is_named_with_its_numbers_and_its_picture() -> None:
    found = told(
        row("jpeg", "1", vi_db=9.0),
        row("jpeg", "2", vi_db=11.0),  # in the mean 10 dB: ten times
        row("webp", "1", adv_psnr=22.0, vi_db=1.0, rate_ratio=1.1),
        row("webp", "2", adv_psnr=21.0, vi_db=1.0, rate_ratio=1.1),
        row("webp", "1", "chen-ma", adv_psnr=20.0, vi_db=1.0, rate_ratio=1.1),
        row("webp", "2", "chen-ma", adv_psnr=25.0, vi_db=1.0, rate_ratio=1.1),
    )
    assert found.sentences == (
        "jpeg amplifies most: its decoded picture changes by 10.0 dB more than its input did (10 times the energy).",
        "webp loses most quality: 9.50 dB PSNR, from 30.00 to 20.50 dB.",
        "jpeg pays most in bytes: 20 % more than without an attack.",
    )
    assert found.cell == "webp/none/oblivious/chen-ma/distortion/psnr:40/photos/0"
    assert found.about == "photos at psnr:40, 2 samples"


def test_one_codec_is_not_the_most_of_any() -> None:
    sentences = told(row("jpeg")).sentences
    assert len(sentences) == 3 and not any("most" in sentence for sentence in sentences)
    assert "(4.0 times the energy)" in sentences[0]


def test_a_lower_bound_says_at_least() -> None:
    found = told(row("jpeg", attack="noise", vi_db=12.0, adv_psnr=20.0, rate_ratio=1.5), row("webp"))
    assert "changes by at least 12.0 dB" in found.sentences[0]
    assert "loses most quality: at least 10.00 dB" in found.sentences[1]
    assert "in bytes: at least 50 %" in found.sentences[2]
    assert found.about.endswith("1 sample; of 1 contender of 2 only lower bounds are known")


def test_a_codec_without_bytes_says_nothing_of_them() -> None:
    found = told(row("jpeg", bpp=NAN, adv_bpp=NAN, rate_ratio=NAN))
    assert len(found.sentences) == 2 and not any("bytes" in s or "nan" in s for s in found.sentences)


def test_streams_that_cannot_be_decoded_are_counted_and_show_the_worst_picture() -> None:
    lost: dict[str, Any] = {"adv_psnr": NAN, "vi_db": NAN, "delta_psnr": NAN, "delta_own_psnr": NAN}
    found = told(row("jpeg"), row("webp", "1", decode_failed=1.0, **lost), row("webp", "2", adv_psnr=29.0, vi_db=2.0))
    assert found.sentences[1] == (
        "webp loses most quality: 15.50 dB PSNR, from 30.00 to 14.50 dB; "
        "1 stream could not be decoded, which counts as 0 dB."
    )
    nothing = told(row("webp", decode_failed=1.0, rate_ratio=NAN, **lost))
    assert [s.split(":")[0] for s in nothing.sentences] == ["webp loses quality"] and nothing.cell is not None


def test_attacks_without_effect_are_said_to_have_none() -> None:
    found = told(row("jpeg", adv_psnr=30.0, vi_db=-3.0, rate_ratio=0.99))
    assert found.sentences == (
        "No attack was amplified: the change of the decoded picture of jpeg is -3.0 dB.",
        "No attack cost quality: jpeg keeps its 30.00 dB PSNR.",
        "No attack made streams longer.",
    )


def test_the_data_set_and_threat_that_most_met_are_told_of() -> None:
    clip: dict[str, Any] = {"data": "clips", "adv_psnr": 1.0, "vi_db": 40.0}
    found = told(row("jpeg", **clip), row("jpeg"), row("webp", adv_psnr=23.0))
    assert found.about.startswith("photos at psnr:40") and found.sentences[1].startswith(
        "webp loses most quality: 7.00"
    )
    assert told(row("jpeg", **clip), row("jpeg")).about.startswith("clips")  # of equals the first in the grid


@pytest.mark.parametrize(
    ("oblivious", "adaptive", "sentence"),
    [
        (
            29.0,
            26.0,
            "5.00 dB PSNR back while attacks do not know it, and 2.00 dB once they do.",
        ),
        (
            29.0,
            24.0,
            "5.00 dB PSNR back while attacks do not know it, and nothing once they do.",
        ),
        (29.0, None, "at most 5.00 dB PSNR back: no attack knew of it."),
        (24.0, None, "nothing back, although no attack knew of it."),
        (None, 27.0, "3.00 dB of PSNR back under attacks made for it."),
    ],
)
def test_what_a_defense_keeps(oblivious: float | None, adaptive: float | None, sentence: str) -> None:
    met = {"oblivious": oblivious, "adaptive": adaptive}
    rows = [
        row("jpeg", defense="self-ensemble", access=access, adv_psnr=psnr)
        for access, psnr in met.items()
        if psnr is not None
    ]
    assert told(row("jpeg"), *rows).sentences[2] == f"self-ensemble gives jpeg {sentence}"


@pytest.mark.parametrize(
    ("codecs", "named"), [(["mbt2018.a-q2"], "mbt2018.a-q2"), (["mbt2018.a-q1", "mbt2018.a-q2"], "mbt2018.a")]
)
def test_a_defense_of_several_qualities_names_their_ladder(codecs: list[str], named: str) -> None:
    bare = [row(codec) for codec in codecs]
    defended = [row(codec, defense="flip", access="adaptive", adv_psnr=26.0) for codec in codecs]
    assert told(*bare, *defended).sentences[2].startswith(f"flip gives {named} 2.00 dB of PSNR back")


def test_a_gain_that_the_samples_do_not_tell_from_nothing_says_so() -> None:
    rows = [row("jpeg", str(i)) for i in range(5)]
    gains = (9.0, -7.0, 5.0, -4.0, 2.0)
    rows += [
        row("jpeg", str(i), defense="self-ensemble", access="adaptive", adv_psnr=24 + gain)
        for i, gain in enumerate(gains)
    ]
    sentence = told(*rows).sentences[2]
    assert sentence.endswith(
        "1.00 dB of PSNR back under attacks made for it. These samples do not tell that from nothing."
    )


def test_a_defense_without_the_bare_codec_is_left_out() -> None:
    sentences = told(row("jpeg", defense="self-ensemble", access="adaptive")).sentences
    assert (
        len(sentences) == 3 and "bytes" in sentences[2] and sentences[0].startswith("jpeg + self-ensemble (adaptive)")
    )


def test_a_run_of_transfers_alone_says_nothing_of_its_defense() -> None:
    access = "transfer:bmshj2018-factorized.tiny-q1"
    rows = [row("jpeg", defense="flip", access=access), row("jpeg", access=access)]
    assert len(told(*rows).sentences) == 3 and not any("back" in sentence for sentence in told(*rows).sentences)
    table, notes = defenses_report.table(pd.DataFrame(rows))
    assert table.empty and list(table) == list(defenses_report.DEFENSES) and not notes


def test_no_results_say_nothing() -> None:
    assert Headlines.of(leaderboard(pd.DataFrame()), pd.DataFrame()) == Headlines()
