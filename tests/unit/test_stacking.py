"""Stacked defenses: a clip meets the first one first, bytes nest in that order, and all of them count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec import load
from robustcodec.defenses._moves import View
from robustcodec.defenses.resize import SIZE
from robustcodec.errors import BadParameter, RobustCodecError, UnknownName
from robustcodec.interfaces import Codec
from robustcodec.registry import Registry, codecs, defenses
from robustcodec.spec import Spec
from robustcodec.studies.check import check

CODEC = "bmshj2018-factorized.tiny-q1"
HALF = "resize:low=0.5,high=0.5"


@cache
def inner() -> Codec:
    codec: Codec = codecs.build(CODEC)
    return codec.requires_grad_(False).eval()


def behind(text: str) -> Codec:
    wrapped: Codec = defenses.build(text).wrap(inner())
    return wrapped


def clips(n: int = 3, t: int = 1, height: int = 33, width: int = 47) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(n * t, 3, height // 6 + 2, width // 6 + 2, generator=rng)
    frames = torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)
    return frames.view(n, t, 3, height, width)


def test_the_first_named_is_the_outermost() -> None:
    x = clips()
    nested = defenses.build("flip:vertical").wrap(defenses.build("roll:down=3,right=5").wrap(inner()))
    stacked = behind("flip:vertical+roll:down=3,right=5")
    streams = stacked.compress(x)
    assert streams == nested.compress(x)
    outer: Any = stacked
    moved = [outer.inner.taken_apart(outer.taken_apart(s)[1])[1] for s in streams]
    assert moved == inner().compress(x.flip(-2).roll((3, 5), (-2, -1)))
    assert streams != behind("roll:down=3,right=5+flip:vertical").compress(x)
    assert torch.equal(stacked.decompress(streams), nested.decompress(streams))
    torch.testing.assert_close(stacked(x).bits, inner()(x.flip(-2).roll((3, 5), (-2, -1))).bits + 8 * 5)
    assert [p.name for p in stacked.anatomy(streams[0])][:2] == ["move", "move"]


def test_self_ensemble_chooses_among_views_that_were_scaled() -> None:
    x = clips()
    scaled = defenses.build(HALF).wrap(inner())
    errors = []
    for k in range(8):
        v = View(k).apply(x)
        errors.append(
            torch.stack(
                [(scaled.decompress([s]) - c).square().mean() for s, c in zip(scaled.compress(v), v, strict=True)]
            )
        )
    best = torch.stack(errors).argmin(0).tolist()
    codec: Any = behind(f"self-ensemble+{HALF}")
    for i, (k, stream) in enumerate(zip(best, codec.compress(x), strict=True)):
        assert codec.taken_apart(stream)[:2] == (bytes([k]), scaled.compress(View(k).apply(x[i : i + 1]))[0])


def test_a_random_layer_draws_for_forward_as_for_bytes() -> None:
    """Around a random codec samples are coded one by one, and what is sent is what was judged."""
    x = clips(4)
    for text in ("self-ensemble:views=4+resize", "two-way+roll", "flip+rotate+resize"):
        codec = behind(text)
        assert codec.randomised
        torch.manual_seed(2)
        streams = codec.compress(x)
        torch.manual_seed(2)
        out = codec(x)
        decoded = torch.cat([codec.decompress([s]) for s in streams])
        torch.testing.assert_close(out.x_hat, decoded, rtol=0, atol=1e-4)
    codec = behind("self-ensemble:views=4+roll")
    for seed in range(3):
        torch.manual_seed(seed)
        (stream,) = codec.compress(x[:1])
        shift = stream[1:5]
        judged = []
        for k in range(4):
            torch.manual_seed(seed)
            v = View(k).apply(x[:1])
            (alone,) = behind("roll").compress(v)
            assert alone[:4] == shift
            judged.append(float((behind("roll").decompress([alone]) - v).square().mean()))
        assert stream[0] == judged.index(min(judged))


def test_stacks_keep_a_codecs_promises() -> None:
    photos = clips(2, 1, 40, 56)
    for text in ("self-ensemble:views=2+roll", f"rotate:90+{HALF}"):
        checks = check(behind(text), [photos[:1], photos[1:]], lambda text=text: behind(text))  # type: ignore[misc]
        assert not [c for c in checks if not c.passed], text


def test_gradients_pass_all_layers() -> None:
    leaf = clips(1).requires_grad_()
    (grad,) = torch.autograd.grad(behind(f"self-ensemble:views=2+{HALF}+flip:both")(leaf).x_hat.square().sum(), leaf)
    assert grad.isfinite().all() and grad.flatten(1).any(1).all()


def test_it_works_wherever_a_defense_is_named() -> None:
    codec = load(CODEC, f"flip:both+{HALF}")
    assert codec.card.name == f"{inner().card.name}+flip+resize"
    assert not codec.training
    (stream,) = codec.compress(clips(1))
    assert len(stream) > 1 + SIZE.size and load(CODEC, f"flip:both+{HALF}").decompress([stream]).shape == (
        1,
        1,
        3,
        33,
        47,
    )


def test_layers_are_specs_in_order() -> None:
    assert defenses.layers("flip") == [Spec.parse("flip")]
    assert [str(s) for s in defenses.layers("a-b:x=1+c.t:2,y=z+d")] == ["a-b:x=1", "c.t:2,y=z", "d"]
    assert [s.params for s in defenses.layers("two-way:lmbda=1e+2+flip")] == [(("lmbda", "1e+2"),), ()]


def test_a_stack_is_equal_to_one_of_the_same_layers() -> None:
    assert defenses.build("flip+roll:2") == defenses.build("flip:random+roll:down=2,right=random")
    assert defenses.build("flip+roll:2") != defenses.build("roll:2+flip")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("flip+rol", UnknownName, "no defense is named 'rol'; did you mean roll"),
        ("flip+", BadParameter, "'flip\\+' is not a name"),
        ("+flip", BadParameter, "'' is not a name"),
        ("flip+none", BadParameter, "none does nothing in a stack; drop it"),
        ("flip+rotate:45", BadParameter, "defense 'rotate:45': angle=45"),
        ("flip+roll:left=3", BadParameter, "no parameter 'left'"),
    ],
)
def test_mistakes_name_the_layer(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        defenses.build(text)


@pytest.mark.parametrize("name", ["a+b", "a b", "", "3d", "a:b"])
def test_names_that_no_spec_can_hold_are_refused(name: str) -> None:
    @dataclass(frozen=True)
    class Nothing: ...

    with pytest.raises(RobustCodecError, match="cannot be a name"):
        Registry[Nothing]("thing", "robustcodec.errors", "robustcodec.none").register(name)(Nothing)
