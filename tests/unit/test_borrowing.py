"""A context model around the transforms of a trained codec: what is borrowed, held for a while, and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustcodec.errors import UserError
from robustcodec.registry import codecs
from robustcodec.training.codec import Trainer
from robustcodec.training.loop import commands
from robustcodec.training.recipe import Recipe
from robustcodec.training.recipe_file import command

LENDER = "mbt2018-mean.tiny-q1"
CONTEXT = ("net.context_prediction.", "net.entropy_parameters.")  # what the lender lacks


def recipe(steps: int, hold: float) -> Recipe:
    return Recipe(
        "mbt2018:weights=random", "small", ("photos:size=96",), 0.01, steps=steps, batch=1, crop=64, warmup=0.0,
        schedule="constant", borrow=LENDER, hold=hold, ema=0.0,
    )  # fmt: skip


def test_transforms_are_those_of_the_lender_and_stay_as_long_as_asked(tmp_path: Path) -> None:
    lender = dict(codecs.build(LENDER).named_parameters())
    for steps, moved in ((2, False), (3, True)):  # a hold of two steps
        trainer = Trainer(recipe(steps, 2 / steps), tmp_path / str(steps))
        drawn = {name: p.detach().clone() for name, p in trainer.codec.named_parameters()}
        trainer.run()
        for name, p in trainer.codec.named_parameters():
            if name.startswith(CONTEXT):
                assert name not in lender and not torch.equal(p, drawn[name])
            elif not name.endswith(".quantiles"):  # of the auxiliary loss
                assert torch.equal(p, lender[name]) != moved, name


def test_parts_may_be_named(tmp_path: Path) -> None:
    lender = dict(codecs.build(LENDER).named_parameters())
    trainer = Trainer(replace(recipe(1, 0.0), borrow_only="g_a,g_s"), tmp_path)
    for name, p in trainer.codec.named_parameters():
        if name.endswith("weight"):
            assert (name in lender and torch.equal(p, lender[name])) == name.startswith(("net.g_a.", "net.g_s.")), name


def test_the_card_says_whence_it_came(tmp_path: Path) -> None:
    asked = recipe(1, 0.0)
    card = codecs.build(f"mbt2018:weights={Trainer(asked, tmp_path).run()}").card
    assert card.training["parents"] == commands(codecs.build(LENDER).card)
    assert f"--borrow {LENDER}" in command(asked) and "--hold" not in command(asked)
    assert any(LENDER in note and "tensors" in note for note in card.training["notes"])


def test_a_codec_of_drawn_weights_is_drawn_at_any_width(tmp_path: Path) -> None:
    wide = Recipe("mbt2018:weights=random", "wide", ("photos",), 0.01, grow="N=56,M=72", seed=3)
    narrow = (f"mbt2018:weights=random,seed={seed}" for seed in (0, 5))  # of which nothing is kept
    one, other = (Trainer(replace(wide, codec=codec), tmp_path / codec[-1]).codec for codec in narrow)
    assert one.card.architecture == {"N": 56, "M": 72}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    one.eval()
    x = torch.rand(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.decompress(one.compress(x)), one(x).x_hat, atol=1e-4, rtol=0)


def test_something_must_be_left_to_train(tmp_path: Path) -> None:
    whole = Recipe("mbt2018-mean:weights=random", "x", ("photos",), 0.01, borrow=LENDER, hold=0.1)
    with pytest.raises(UserError, match="hold=0.1 leaves nothing to train: all of mbt2018-mean is borrowed"):
        Trainer(whole, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"borrow": "rdae.tiny-q1"}, "no tensor of the name and shape of one of rdae.tiny-q1"),
        ({"borrow": "mbt2018-mean.tiny-q9"}, "no weights mbt2018-mean.tiny-q9"),
        ({"borrow": LENDER, "borrow_only": "g_b"}, "of mbt2018-mean.tiny-q1 in g_b; give .* Its parts: context_pred"),
        ({"hold": 0.5}, "nothing is; give --borrow CODEC"),
        ({"borrow_only": "g_a"}, "nothing is; give --borrow CODEC"),
        ({"borrow": LENDER, "hold": 1.5}, "hold=1.5; expected a share"),
    ],
)
def test_what_cannot_be_borrowed_is_said(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Trainer(Recipe("mbt2018:weights=random", "x", ("photos",), 0.01, **settings), tmp_path)  # type: ignore[arg-type]
