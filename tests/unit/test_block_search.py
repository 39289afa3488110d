"""The search in all blocks at once: what blocks keep, and that it beats a search that sees one number."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.attacks.block_search import BlockSearch
from robustcodec.clips import to_float
from robustcodec.errors import BadParameter
from robustcodec.interfaces import Codec, Draws, Output, Threat
from robustcodec.oracle import ForwardOnly, Oracle
from robustcodec.threats import Linf, Psnr


@cache
def photo(index: int = 0) -> Tensor:
    return to_float(registry.data.build("photos:size=64").samples()[index].load())[None]


def error_after(spec: str, codec: Codec, threat: Threat, x: Tensor) -> float:
    attack = registry.attacks.build(spec)
    oracle = Oracle(codec, registry.objectives.build("source-distortion"), x, attack.access)
    x_adv = attack.run(oracle, x, threat, Draws([0]))
    assert torch.equal(threat.quantise(threat.project(x_adv, x), x), x_adv)
    assert oracle.queries <= 120
    return float((codec(x_adv).x_hat - x).square().mean())


@pytest.mark.parametrize("codec", ["webp:quality=20", "jpeg:quality=20"])
def test_it_beats_searches_that_see_one_number(codec: str) -> None:
    victim, x = registry.codecs.build(codec), photo()
    clean = float((victim(x).x_hat - x).square().mean())
    by_blocks, by_number = (
        error_after(spec, victim, Psnr(40), x) / clean for spec in ("block-search:queries=90", "square:queries=90")
    )
    assert by_blocks - 1 > 1.1 * (by_number - 1) > 0


def test_more_queries_never_do_less() -> None:
    codec, x = registry.codecs.build("webp:quality=20"), photo(1)
    reached = [error_after(f"block-search:queries={n}", codec, Psnr(38), x) for n in (1, 10, 30, 60)]
    assert reached == sorted(reached) and reached[0] < reached[1] < reached[3]


def test_blocks_are_judged_where_they_are() -> None:
    search, x = BlockSearch(block=4), torch.zeros(1, 2, 3, 6, 9)
    shown = x.clone()
    shown[0, 1, :, 5, 8] = 1
    errors = search._errors(shown, x)
    assert errors.shape == (1, 2, 2, 3) and errors.count_nonzero() == 1 and errors[0, 1, 1, 2] > 0
    pixels = search._spread(errors > 0, x)
    assert pixels.shape == (1, 2, 1, 6, 9) and pixels.sum() == 2 and pixels[0, 1, 0, 4:, 8].all()


@pytest.mark.parametrize("threat", [Psnr(36, frames="first"), Psnr(36, per="frame"), Linf(4 / 255)], ids=repr)
def test_clips_of_odd_size_under_every_kind_of_threat(threat: Threat) -> None:
    x = torch.cat([photo()[..., :37, :41], photo(1)[..., :37, :41]], 1)
    codec = registry.codecs.build("jpeg:quality=20")
    assert error_after("block-search:queries=40", codec, threat, x) > float((codec(x).x_hat - x).square().mean())


def test_a_look_is_one_query_with_damage_and_picture() -> None:
    codec, x = registry.codecs.build("jpeg:quality=20"), photo()
    oracle = Oracle(codec, registry.objectives.build("source-distortion"), x, "black")
    damage, shown = oracle.look(x)
    assert oracle.queries == 1 and torch.equal(shown, codec(x).x_hat) and not shown.requires_grad
    assert torch.equal(damage, oracle(x))


def test_a_look_at_a_random_victim_is_a_mean() -> None:
    class Noisy(ForwardOnly):
        card, randomised = registry.codecs.build("jpeg").card, True

        def forward(self, x: Tensor) -> Output:
            shown = x + torch.randn_like(x)
            return Output(lambda: shown, lambda: shown.sum((1, 2, 3, 4)))

    x = photo()
    oracle = Oracle(Noisy(), registry.objectives.build("source-distortion"), x, "black", draws=16)
    damage, shown = oracle.look(x)
    assert oracle.queries == 16 and 0.9 < float(damage) < 1.1 and 0.2 < float((shown - x).std()) < 0.3


@pytest.mark.parametrize("spec", ["block-search:queries=0", "block-search:block=0", "block-search:share=0"])
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(BadParameter, match="expected"):
        registry.attacks.build(spec)
