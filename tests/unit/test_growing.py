"""A codec grown wider shows what it showed, costs a little more, and trains on as a codec of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robustcodec.errors import UserError
from robustcodec.interfaces import Codec
from robustcodec.registry import codecs, data
from robustcodec.training.codec import Trainer
from robustcodec.training.recipe import Recipe
from robustcodec.training.recipe_file import command

FAMILIES = ["bmshj2018-hyperprior", "mbt2018-mean"]


def parameters(codec: Codec) -> list[torch.Tensor]:
    return [p.detach() for p in codec.parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_grown_codec_shows_the_same_pictures_for_a_tenth_of_a_bit_more(family: str) -> None:
    small = codecs.build(f"{family}.tiny-q3")
    wide = small.grown(0, N=128, M=192)
    assert wide.card.architecture == {"N": 128, "M": 192} and wide.model_id != small.model_id
    for sample in data.build("photos").samples()[:2]:
        x = sample.load()[None, ..., :192, :256].float() / 255
        with torch.no_grad():
            a, b = small(x), wide(x)
            torch.testing.assert_close(b.x_hat, a.x_hat, atol=1e-5, rtol=0)
            assert 0 < float(b.bits - a.bits) / (192 * 256) < 0.15
            torch.testing.assert_close(wide.decompress(wide.compress(x)), b.x_hat, atol=1e-4, rtol=0)


def test_new_weights_come_from_the_seed_alone() -> None:
    small = codecs.build("bmshj2018-hyperprior.tiny-q1")
    before = [p.clone() for p in parameters(small)]
    one, again, other = (parameters(small.grown(seed, N=56, M=72)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(small), strict=True))


def test_a_grown_codec_trains_and_its_card_says_how_it_was_made(tmp_path: Path) -> None:
    recipe = Recipe(
        "bmshj2018-hyperprior.tiny-q1", "wide", ("photos:size=96",), 0.01, steps=1, batch=1, crop=64, grow="N=56,M=72"
    )
    path = Trainer(recipe, tmp_path).run()
    card = codecs.build(f"bmshj2018-hyperprior:weights={path}").card
    assert card.architecture == {"N": 56, "M": 72}
    assert card.training["command"] == command(recipe) and "--grow N=56,M=72" in command(recipe)
    assert card.training["parents"][-1] == codecs.build(recipe.codec).card.training["command"]


@pytest.mark.parametrize(
    ("codec", "grow", "message"),
    [
        ("bmshj2018-hyperprior.tiny-q1", "N=40", r"cannot shrink: N is smaller than now \(N=48, M=64\)"),
        ("bmshj2018-hyperprior.tiny-q1", "L=40", r"has no width L; it is N=48, M=64 now"),
        ("bmshj2018-hyperprior.tiny-q1", "128", "--grow 128 cannot be read; expected widths, such as N=128,M=192"),
        ("bmshj2018-factorized.tiny-q1", "N=128", "bmshj2018-factorized cannot grow"),
        ("rdae.tiny-q1", "N=128", "rdae cannot grow"),
    ],
)
def test_what_cannot_grow_is_said(codec: str, grow: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(Recipe(codec, "wide", ("photos",), 0.01, grow=grow), tmp_path)
