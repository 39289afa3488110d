"""Codecs that are kept: weights are held once, and nobody finds a codec that a defense of another cell has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from toys import clips

from robustcodec.execution.runner import Runner
from robustcodec.files import dump_toml
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses
from robustcodec.running.codecs import KEPT, Codecs
from robustcodec.running.grid import Cell
from robustcodec.running.resolved import Part
from robustcodec.running.store import Store
from robustcodec.weights import find, read_card

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
def test_a_defense_that_changes_its_codec_keeps_it_and_others_meet_the_original(what: str) -> None:
    kept, x = Codecs(torch.device("cpu")), clips(1)
    coarse, change = Part("defense", "bitdepth:bits=6"), Part("defense", f"test-changes:{what}")
    expected = [kept.get(CODEC, defense).compress(x) for defense in (NONE, coarse)]
    changed = kept.get(CODEC, change)
    assert kept.get(CODEC, change) is changed
    assert [kept.get(CODEC, defense).compress(x) for defense in (NONE, coarse)] == expected
    bare = kept.get(CODEC, NONE)
    assert bare is not changed and bare.card.name == CODEC and not bare._forward_pre_hooks


def test_the_last_few_codecs_are_kept() -> None:
    kept = Codecs(torch.device("cpu"))
    first = kept.get("jpeg:quality=10", NONE)
    for quality in range(11, 10 + KEPT):
        kept.get(f"jpeg:quality={quality}", NONE)
    assert kept.get("jpeg:quality=10", NONE) is first
    kept.get("jpeg:quality=90", NONE)
    assert kept.get("jpeg:quality=10", NONE) is not first


def test_weights_that_change_while_a_run_goes_on_fail_the_cell(tmp_path: Path) -> None:
    """Its id says other weights than its numbers would be of."""
    family, path = CODEC.partition(".")[0], tmp_path / "mine.safetensors"

    def put(tag: str) -> None:
        source = find(family, tag)
        path.write_bytes(source.read_bytes())
        path.with_suffix(".toml").write_text(dump_toml(read_card(source)))

    put("tiny-q1")
    cell = Cell(f"{family}:weights={path}", "noise", data="photos:size=32", limit=1)
    same = Cell(CODEC, "noise", data="photos:size=32", limit=1, access=f"transfer:{family}:weights={path}")
    _ = cell.id, same.id
    put("tiny-q2")
    errors = Runner(Store(tmp_path / "run")).run([cell, same]).errors
    assert len(errors) == 2 and all("changed while the run went on" in error for error in errors.values())
    assert not list((tmp_path / "run").glob("crafted/*/*"))
    again = [Cell(c.codec, "noise", data=c.data, limit=1, access=c.access) for c in (cell, same)]
    assert not Runner(Store(tmp_path / "run")).run(again).errors
