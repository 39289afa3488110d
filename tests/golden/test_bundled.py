"""Bundled checkpoints: whole, small enough, better than JPEG by their cards, and still giving the same numbers."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from robustcodec import weights
from robustcodec.clips import centre_crop
from robustcodec.registry import codecs, data
from robustcodec.studies.ladders import ladders
from robustcodec.training.codec import measure

ROOT = Path(__file__).parents[2]
CARDS = {p.stem: tomllib.loads(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "zoo" / "cards").glob("*.toml"))}
VIDEO = {name for name, card in CARDS.items() if card["training"]["frames"] > 1}
GOLDEN = json.loads((Path(__file__).parent / "bundled.json").read_text())


def test_every_checkpoint_has_a_card_and_they_stay_small() -> None:
    folder = ROOT / "zoo" / "weights"
    files, others = sorted(folder.glob("*.safetensors")), {"diffpure.tiny"}  # no codecs: their cards are beside them
    assert {p.stem for p in folder.iterdir() if p not in files} == others
    assert {f.stem for f in files} == {*CARDS, *others}
    sizes = [f.stat().st_size for f in files]
    assert sum(sizes) < 90e6 and max(sizes) < 12e6


def test_rate_points_of_each_ladder() -> None:
    points = {ladder.name: len(ladder.codecs) for ladder in ladders(CARDS)}
    assert points == dict.fromkeys(
        [
            "bmshj2018-factorized.tiny", "bmshj2018-hyperprior.tiny", "bmshj2018-hyperprior.tiny-at",
            "bmshj2018-hyperprior.tiny-msssim", "mbt2018-mean.tiny", "rdae.tiny", "rdae-gan.tiny",
        ],
        3,
    ) | {"bmshj2018-hyperprior.base": 4, "rdae.tiny-at": 1, "rdae-gan.tiny-at": 1}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_cards_record_what_was_measured_and_how(name: str) -> None:
    card = CARDS[name]
    family, tag = name.split(".")
    assert card["sha256"] == weights.sha256(weights.find(family, tag))
    finetuned = name.endswith("-at")
    assert card["training"]["command"].startswith(
        f"robustcodec {'finetune' if finetuned else 'train'} {family}:weights="
    )
    made_by = [*card["training"].get("parents", []), card["training"]["command"]]
    for made in made_by:  # if what ships named itself, it would go in circles
        assert not re.search(r"(?:train|finetune) [\w-]+\.([\w-]+) .*--name \1(?![\w-])", made), made
    assert not finetuned or card["training"]["parent"]["sha256"]
    assert card["training"]["sources"]
    measured = card["measured"]
    if name in VIDEO:
        assert set(measured["clips_test"]) == {"bpp", "psnr", "ms_ssim", "lpips_squeeze"}
        assert len(measured["clips"]) == 5 and measured["command"].startswith("robustcodec compare ")
        assert card["training"]["parents"]
    else:
        assert set(measured["kodak"]) == {"bpp", "psnr", "ms_ssim"}
        assert measured["bd_rate_against_jpeg_percent"]["psnr"] < 0


@pytest.mark.parametrize("name", [name for name in CARDS if re.fullmatch(r"rdae-gan\.tiny-q\d", name)])
def test_stage_two_lowers_lpips_at_equal_rate(name: str) -> None:
    """Against its stage 1, interpolated in log-rate, on the test clips; by the cards."""
    first = [CARDS[n]["measured"]["clips_test"] for n in sorted(CARDS) if re.fullmatch(r"rdae\.tiny-q\d", n)]
    second = CARDS[name]["measured"]["clips_test"]
    rates, distances = ([p[key] for p in first] for key in ("bpp", "lpips_squeeze"))
    assert second["lpips_squeeze"] < 0.9 * np.interp(np.log(second["bpp"]), np.log(rates), distances)


@pytest.mark.parametrize("name", CARDS)
def test_the_numbers_are_still_the_same(name: str, photo: Tensor) -> None:
    clip = data.build("clips:frames=10,size=64").samples()[0].load() if name in VIDEO else centre_crop(photo, 192)
    scores = measure(codecs.build(name), clip)
    assert scores == pytest.approx(GOLDEN[name], rel=2e-3)
