"""The table of defenses against sums done by hand: worst cases, pairs, costs, verdicts, and the Pareto front.

Every sample is there three times, so that there are enough of them for an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from PIL import Image

from robustcodec.errors import StoreError
from robustcodec.scores.intervals import TOO_FEW
from robustcodec.studies.defenses_report import (
    DEFENSES,
    HOLDS,
    TIMES,
    UNKNOWN,
    VANISHES,
    contenders,
    front,
    table,
    write,
)

NAN = float("nan")
COPIES = 3
SCORES = ("delta_psnr", "delta_own_psnr", "vi_db", "rate_ratio", "adv_bpp", "damage", "broken")


def met(
    adv_psnr: Mapping[str, float],
    defense: str = "none",
    access: str = "oblivious",
    attack: str = "pgd",
    codec: str = "jpeg:quality=10",
    bpp: float = 0.5,
    psnr: float = 30.0,
    failed: str = "",
) -> pd.DataFrame:
    """One attack on one contender: PSNR that it leaves of each sample; ``failed``: the sample that did not decode."""
    copies = {f"{sample}{copy}": value for sample, value in adv_psnr.items() for copy in range(COPIES)}
    lines = [
        {
            "cell": f"{codec}{defense}{access}{attack}", "sample": sample, "data": "d", "threat": "psnr:40",
            "codec": codec, "defense": defense, "access": access, "attack": attack, "objective": "distortion",
            "seed": 0, "bpp": bpp, "psnr": psnr, "adv_psnr": NAN if sample[:-1] == failed else value, "ms_ssim": 0.9,
            "input_psnr": 40.0, "input_linf": 8.0, "decode_failed": float(sample[:-1] == failed), "warnings": "",
            "queries": 1, "break_db": NAN, **dict.fromkeys(SCORES, 1.0),
        }
        for sample, value in copies.items()
    ]  # fmt: skip
    return pd.DataFrame(lines)


BARE = [met({"a": 20, "b": 25}), met({"a": 22, "b": 21}, attack="cw")]  # worst: 20, 21
OBLIVIOUS = [met({"a": 26, "b": 30}, "blur"), met({"a": 24, "b": 29}, "blur", attack="cw")]  # worst: 24, 29


def ends(*values: float) -> tuple[float, float]:
    """Of the interval of their mean, by hand: Student's t with n - 2 degrees of freedom."""
    numbers = np.repeat(values, COPIES)
    half = scipy.stats.t.ppf(0.975, len(numbers) - 2) * scipy.stats.sem(numbers)
    return numbers.mean() - half, numbers.mean() + half


def printed(*values: float, sign: str = "-") -> str:
    low, high = ends(*values)
    return f"{np.mean(values):{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def only(*parts: pd.DataFrame) -> dict[str, Any]:
    """The single line of a table without notes."""
    lines, notes = table(pd.concat(parts))
    assert len(lines) == 1 and not notes
    return {str(key): value for key, value in lines.iloc[0].to_dict().items()}


def test_gains_are_of_worst_cases_paired_by_sample() -> None:
    adaptive = [met({"a": 19, "b": 22}, "blur", "adaptive"), met({"a": 21, "b": 23}, "blur", "adaptive", "cw")]
    line = only(*BARE, *OBLIVIOUS, *adaptive)
    assert list(line) == list(DEFENSES)
    assert (line["ladder"], line["defense"], line["codecs"], line["samples"]) == ("jpeg", "blur", 1, 2 * COPIES)
    assert line["oblivious"] == (4 + 8) / 2 and line["adaptive"] == (-1 + 1) / 2
    assert (line["oblivious_low"], line["oblivious_high"]) == pytest.approx(ends(4, 8))
    assert (line["adaptive_low"], line["adaptive_high"]) == pytest.approx(ends(-1, 1))
    assert line["oblivious_attacks"] == line["adaptive_attacks"] == 2
    assert line["verdict"] == VANISHES and math.isnan(line["bd_rate"])


def test_who_knows_a_defense_may_also_ignore_it() -> None:
    masked = [met({"a": 30, "b": 22}, "blur", "adaptive"), met({"a": 29, "b": 30}, "blur", "adaptive", "cw")]
    line = only(*BARE, *OBLIVIOUS, *masked)
    assert (line["adaptive"], line["adaptive_low"], line["adaptive_high"]) == pytest.approx(((4 + 1) / 2, *ends(1, 4)))
    both = contenders(pd.concat([*BARE, *OBLIVIOUS, *masked]))
    assert both["adaptive"].tolist() == [printed(20, 21), printed(22, 24)]


def test_only_attacks_that_both_met_count() -> None:
    line = only(*BARE, *OBLIVIOUS, met({"a": 22, "b": 28}, "blur", "adaptive"))
    assert line["adaptive"] == ((22 - 20) + (28 - 25)) / 2 and line["adaptive_attacks"] == 1
    assert line["verdict"] == HOLDS


def test_attackers_who_know_the_defense() -> None:
    """Through a surrogate's gradient too, the worse of both; a transfer knows neither codec nor defense."""
    known = [met({"a": 23, "b": 22}, "blur", "bpda:diff-jpeg"), met({"a": 21, "b": 24}, "blur", "adaptive:draws=20")]
    transfer = [met({"a": 1, "b": 1}, d, "transfer:webp") for d in ("none", "blur")]
    line = only(BARE[0], *known, *transfer)
    assert line["adaptive"] == ((21 - 20) + (22 - 25)) / 2 and math.isnan(line["oblivious"])


def test_verdicts() -> None:
    assert only(*BARE, *OBLIVIOUS)["verdict"] == UNKNOWN
    assert only(*BARE, met({"a": 29}, "blur", "adaptive"))["verdict"] == TOO_FEW
    assert only(*BARE, met({"a": 15, "b": 15}, "blur", "adaptive"))["verdict"] == VANISHES


def test_samples_without_a_partner_do_not_count() -> None:
    line = only(met({"a": 20, "b": 25, "c": 40}), met({"b": 26, "c": 43, "d": 0}, "blur", "adaptive"))
    assert line["adaptive"] == 2 and line["samples"] == 2 * COPIES


def test_what_did_not_decode_is_0_db() -> None:
    line = only(met({"a": 20, "b": 20}), met({"a": 25, "b": NAN}, "blur", "adaptive", failed="b"))
    assert line["adaptive"] == (5 - 20) / 2


def ladder(defense: str, access: str, gain: float, bpp: float, psnr: float = 0) -> list[pd.DataFrame]:
    """Three rates: bits per pixel times ``bpp``, clean and attacked PSNR raised; quality 30 gains 3 dB more."""
    of = {10: (0.2, 27.0), 20: (0.3, 29.0), 30: (0.5, 32.0)}
    return [
        met(
            {"a": 20 + gain + (3 if q == 30 and gain else 0), "b": 22 + 2 * gain + (3 if q == 30 and gain else 0)},
            defense,
            access,
            codec=f"jpeg:quality={q}",
            bpp=bpp * rate,
            psnr=clean + psnr,
        )
        for q, (rate, clean) in of.items()
    ]


def test_a_ladder_has_a_bd_rate() -> None:
    line = only(*ladder("none", "oblivious", 0, 1), *ladder("blur", "adaptive", 2, 1.1))
    assert line["bd_rate"] == pytest.approx(10) and line["codecs"] == 3
    assert line["delta_bpp"] == pytest.approx(0.1 * (0.2 + 0.3 + 0.5) / 3) and line["delta_psnr"] == 0
    assert line["adaptive"] == pytest.approx((2 + 4) / 2 + 1)
    assert (line["adaptive_low"], line["adaptive_high"]) == pytest.approx(ends(2 + 1, 4 + 1))


def test_what_cannot_be_said_is_noted() -> None:
    apart = [*ladder("none", "oblivious", 0, 1), *ladder("blur", "oblivious", 2, 1, psnr=-20)]
    lines, notes = table(pd.concat([*apart, *ladder("blur", "adaptive", 2, 1, psnr=-20)[:1]]))
    assert math.isnan(lines["bd_rate"][0]) and lines["delta_psnr"][0] == -20
    assert len(notes) == 2 and "share no quality" in notes[0] and "adaptive gain is of 1 of 3 codecs" in notes[1]
    lines, notes = table(pd.concat(OBLIVIOUS))
    assert lines["verdict"].tolist() == [UNKNOWN] and "no sample was coded both" in notes[0]


def test_codecs_that_are_there_for_the_clean_curve_alone_gain_nothing() -> None:
    other = [met({"a": 10, "b": 10}, d, codec="jpeg:quality=40", psnr=40, bpp=1) for d in ("none", "blur")]
    lines, notes = table(pd.concat([*BARE, *OBLIVIOUS, *other]))
    assert lines["oblivious"].tolist() == [(4 + 8) / 2] and lines["codecs"].tolist() == [2]
    assert notes[-1].startswith("jpeg, d, psnr:40: the oblivious gain is of 1 of 2 codecs (blur)")
    assert set(contenders(pd.concat([*BARE, *OBLIVIOUS, *other]))["codec"]) == {"jpeg:quality=10"}


def test_contenders_side_by_side() -> None:
    found = contenders(pd.concat([*BARE, *OBLIVIOUS, met({"a": 19, "b": 22}, "blur", "adaptive", bpp=0.5)]))
    assert found["defense"].tolist() == ["none", "blur"]
    assert found["oblivious"].tolist() == [printed(20, 21), printed(24, 29)]
    assert found["adaptive"].tolist() == [printed(20, 21), printed(19, 22)]


def test_front_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [(float(c), float(g)) for c, g in rng.integers(-4, 5, (12, 2))]
        beaten = [any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points) for cost, gain in points]
        assert front(points) == sorted({p for p, b in zip(points, beaten, strict=True) if not b})


def everything() -> pd.DataFrame:
    flips = [
        met({"a": 21, "b": 26}, "flip", access, attack)
        for access in ("oblivious", "adaptive")
        for attack in ("pgd", "cw")
    ]
    blurs = [met({"a": 19, "b": 22}, "blur", "adaptive"), met({"a": 21, "b": 23}, "blur", "adaptive", "cw", psnr=30)]
    rates = [*ladder("none", "oblivious", 0, 1), *ladder("tv", "oblivious", 2, 1.1), *ladder("tv", "adaptive", 1, 1.1)]
    rates = [part.assign(data="e", cell=part["cell"] + "e") for part in rates]
    return pd.concat([*BARE, *OBLIVIOUS, *blurs, *flips, *rates])


def test_files(tmp_path: Path) -> None:
    assert write(pd.DataFrame(), tmp_path) == write(pd.concat(BARE), tmp_path) == [] == list(tmp_path.iterdir())
    rows = everything()
    paths = write(rows, tmp_path)
    assert [str(p.relative_to(tmp_path)) for p in paths] == ["defenses.md", "defenses.csv", "pictures/defenses.png"]
    text = paths[0].read_text()
    assert printed(-1, 1, sign="+") in text and VANISHES in text and HOLDS in text and "encode_factor" not in text
    assert pd.read_csv(paths[1])["adaptive"].tolist() == [0, 3, 2.5]
    with Image.open(paths[2]) as image:
        assert min(image.size) > 400
    other = write(rows.sample(frac=1, random_state=1), tmp_path / "other")
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in other]


def test_times_are_read_if_they_are_there(tmp_path: Path) -> None:
    times = tmp_path / TIMES
    times.write_text(
        "codec,defense,encode_factor,decode_factor\njpeg:quality=10,blur,2.5,1\njpeg:quality=10,tv,2,1\n"
        "jpeg:quality=20,tv,3,1\nwebp,tv,100,100\n"
    )
    text, values, _ = write(everything(), tmp_path)
    assert pd.read_csv(values)["encode_factor"].tolist()[::2] == [2.5, 2.5]
    assert pd.read_csv(values)["encode_factor"].isna().tolist() == [False, True, False]
    assert "`encode_factor`" in text.read_text()
    times.write_text("codec,seconds\n")
    with pytest.raises(StoreError, match="decode_factor, defense, encode_factor"):
        write(everything(), tmp_path)


def test_the_plot_shows_costs_gains_and_the_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import figure

    made: list[Any] = []
    real = figure.Figure.savefig

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    write(pd.concat([everything(), met({"a": 21, "b": 22}, "roll")]), tmp_path)
    single, several = made[0].axes
    assert "PSNR lost" in single.get_xlabel() and "BD-rate" in several.get_xlabel()
    drawn = [(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in several.lines]
    assert ((0.0, pytest.approx(10)), (0.0, pytest.approx(2.5))) in drawn  # the front: nothing done, and tv
    hollow = [line.get_ydata()[0] for line in single.lines if line.get_markerfacecolor() == "white"]
    assert sorted(hollow) == [-1, 3, 6]
