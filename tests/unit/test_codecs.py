"""Codecs that are kept: weights are held once, and nobody finds a codec that a defense of another cell has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from toys import clips

from robustcodec.errors import RobustCodecError
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses
from robustcodec.running.codecs import KEPT, Codecs
from robustcodec.running.resolved import Part

CODEC = "bmshj2018-factorized.tiny-q1"
NONE = Part("defense", "none")


def hook(codec: Codec) -> None:
    codec.register_forward_pre_hook(lambda _, args: (args[0].clamp(0.1, 0.9),))


def hook_inside(codec: Codec) -> None:
    next(codec.children()).register_forward_hook(lambda _, args, out: None)


def method(codec: Codec) -> None:
    compress = codec.compress
    codec.compress = lambda x: compress(x.clamp(0.1, 0.9))  # type: ignore[method-assign]


def weights(codec: Codec) -> None:
    next(codec.parameters()).data.mul_(1.001)


def card(codec: Codec) -> None:
    codec.card = replace(codec.card, name="mine")


CHANGES: dict[str, Callable[[Codec], None]] = {f.__name__: f for f in (hook, hook_inside, method, weights, card)}


@defenses.register("test-changes")
@dataclass(frozen=True)
class Changes(Defense):
    """Changes the codec in the place of wrapping it."""

    what: str

    def wrap(self, codec: Codec) -> Codec:
        CHANGES[self.what](codec)
        return codec


def test_what_is_wrapped_around_a_codec_shares_it() -> None:
    kept = Codecs(torch.device("cpu"))
    bare, flipped = kept.get(CODEC, NONE), kept.get(CODEC, Part("defense", "flip"))
    assert flipped is kept.get(CODEC, Part("defense", "flip")) and flipped.inner is bare
    assert kept.get(CODEC, NONE) is bare and not bare.training and not any(p.requires_grad for p in bare.parameters())


@pytest.mark.parametrize("what", CHANGES)
def test_a_defense_that_changes_its_codec_is_refused_and_the_next_one_meets_the_original(what: str) -> None:
    kept, x = Codecs(torch.device("cpu")), clips(1)
    expected = kept.get(CODEC, NONE).compress(x)
    with pytest.raises(RobustCodecError, match=f"test-changes:{what} changed the codec"):
        kept.get(CODEC, Part("defense", f"test-changes:{what}"))
    codec = kept.get(CODEC, NONE)
    assert codec.compress(x) == expected and codec.card.name == CODEC and not codec._forward_pre_hooks


def test_the_last_few_codecs_are_kept() -> None:
    kept = Codecs(torch.device("cpu"))
    first = kept.get("jpeg:quality=10", NONE)
    for quality in range(11, 10 + KEPT):
        kept.get(f"jpeg:quality={quality}", NONE)
    assert kept.get("jpeg:quality=10", NONE) is first
    kept.get("jpeg:quality=90", NONE)
    assert kept.get("jpeg:quality=10", NONE) is not first
