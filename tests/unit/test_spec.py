"""Specs: the grammar of names, and reading values by a plugin's annotations."""

from __future__ import annotations

from typing import Literal

import pytest

from robustcodec.errors import BadParameter, RobustCodecError, UnknownName
from robustcodec.registry import Registry
from robustcodec.spec import Spec, resolve


def build(*, tag: str | None = None, eps: float = 0.1, steps: int = 3, mode: Literal["a", "b"] = "a") -> None: ...


def test_parses_name_tag_and_parameters() -> None:
    spec = Spec.parse("bmshj2018-hyperprior.tiny-q2:weights=a,b.safetensors,seed=3")
    assert (spec.name, spec.tag) == ("bmshj2018-hyperprior", "tiny-q2")
    assert spec.params == (("weights", "a,b.safetensors"), ("seed", "3"))
    assert str(spec) == "bmshj2018-hyperprior.tiny-q2:weights=a,b.safetensors,seed=3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", {"tag": None, "eps": 0.1, "steps": 3, "mode": "a"}),
        ("x:8/255", {"tag": None, "eps": 8 / 255, "steps": 3, "mode": "a"}),
        ("x.t:eps=4,steps=7,mode=b", {"tag": "t", "eps": 4.0, "steps": 7, "mode": "b"}),
        ("x:eps=1e-4", {"tag": None, "eps": 1e-4, "steps": 3, "mode": "a"}),
    ],
)
def test_resolves_by_annotation(text: str, expected: dict[str, object]) -> None:
    resolved = resolve(Spec.parse(text), build, "thing")
    assert resolved == expected
    assert {k: type(v) for k, v in resolved.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x:step=3", "no parameter 'step'; it takes tag, eps, steps, mode"),
        ("x:steps=2.5", "steps='2.5' cannot be read; expected int"),
        ("x:mode=c", "mode='c' cannot be read; expected one of a, b"),
        ("x:eps=8/0", "eps='8/0' cannot be read; expected float"),
        ("x:steps=1,steps=2", "names a parameter twice"),
        ("x:8/255,eps=3", "cannot take the bare value"),
        ("", "is not a name"),
        ("a b", "is not a name"),
    ],
)
def test_mistakes_say_what_was_given_and_expected(text: str, message: str) -> None:
    with pytest.raises(BadParameter) as error:
        resolve(Spec.parse(text), build, "thing")
    assert message in str(error.value)


def test_unknown_names_suggest_the_nearest() -> None:
    reg: Registry[object] = Registry("attack", "robustcodec.errors", "robustcodec.none")
    reg.register("chen-ma")(build)
    with pytest.raises(UnknownName, match="did you mean chen-ma"):
        reg.get("chenma")


def test_same_definition_twice_is_fine_another_is_not() -> None:
    reg: Registry[object] = Registry("attack", "robustcodec.errors", "robustcodec.none")
    reg.register("x")(build)
    reg.register("x")(build)
    with pytest.raises(RobustCodecError, match="defined twice"):
        reg.register("x")(resolve)


def test_a_codec_without_init_takes_no_parameters() -> None:
    from torch import nn

    class Plain(nn.Module): ...  # nn.Module's own __init__ takes *args and **kwargs

    assert resolve(Spec.parse("plain"), Plain, "codec") == {}
    with pytest.raises(BadParameter, match="takes no parameters"):
        resolve(Spec.parse("plain:a=1"), Plain, "codec")


def test_parameters_of_any_name_are_read_as_numbers_where_they_are_some() -> None:
    def network(*, weights: str | None = None, **arguments: int | float | bool | str | None) -> None: ...

    given = resolve(Spec.parse("x:class=a.b:C,N=128,lr=1e-4,gated=true,depths=[2,2,6],weights=w.pth"), network, "codec")
    expected = {"class": "a.b:C", "N": 128, "lr": 1e-4, "gated": True, "depths": "[2,2,6]", "weights": "w.pth"}
    assert given == expected
    with pytest.raises(BadParameter, match="cannot take the bare value"):
        resolve(Spec.parse("x:128"), lambda **arguments: None, "codec")
