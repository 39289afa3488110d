"""Specs: the grammar of names, and reading values by a plugin's annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from robustcodec.errors import BadParameter, RobustCodecError, UnknownName
from robustcodec.registry import Registry, defenses
from robustcodec.spec import Spec, expand, resolve, settled, split


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


@pytest.mark.parametrize(
    "text",
    [
        "jpeg", "a.b-1:3", "x:a=1,b=2", "x:X/a,b.png", "x:X/a,b.png,c=1", "x:", "x:8/255", 'x:"X/a,crop=16",crop=32',
        'x:"lr=0.1/p.png"', 'x:weights="a,b=c.pth",seed=3', 'x:"""a"", b"', 'x:"{a}"', "f.py:C:k=v", 'x:"a+b",c="+d"',
    ],
)  # fmt: skip
def test_what_was_written_reads_back(text: str) -> None:
    spec = Spec.parse(text)
    assert str(spec) == text.rstrip(":") and Spec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ('x:"X/a,crop=16",crop=32', [("", "X/a,crop=16"), ("crop", "32")]),
        ('x:weights="a,b=c ""d"".pth",seed=3', [("weights", 'a,b=c "d".pth'), ("seed", "3")]),
        ('x:path=""', [("path", "")]),
        ('x:a="b"c', [("a", '"b"c')]),
    ],
)
def test_what_is_in_quotes_is_one_value(text: str, params: list[tuple[str, str]]) -> None:
    if text.endswith("c"):
        with pytest.raises(BadParameter, match="expected one at its end"):
            Spec.parse(text)
    else:
        assert list(Spec.parse(text).params) == params


def test_what_is_there_is_one_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a shorter name is there too; in quotes and on other machines it is the same."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a,crop=16", "lr=0.1,batch=8"):
        (tmp_path / name).mkdir()
    (tmp_path / "lr=0.1,batch=8" / "w.pth").touch()
    for text, params in {
        "folder:a,crop=16": [("", "a,crop=16")],
        "folder:a,crop=16,crop=32": [("", "a,crop=16"), ("crop", "32")],
        "folder:a,crop=32": [("", "a"), ("crop", "32")],
        'folder:"a",crop=16': [("", "a"), ("crop", "16")],
        "x:lr=0.1,batch=8/w.pth": [("", "lr=0.1,batch=8/w.pth")],
        "x:seed=1,weights=lr=0.1,batch=8/w.pth,N=3": [("seed", "1"), ("weights", "lr=0.1,batch=8/w.pth"), ("N", "3")],
        "x:seed=1,batch=8": [("seed", "1"), ("batch", "8")],
    }.items():
        spec, written = Spec.parse(text), settled(text)
        assert list(spec.params) == params, text
        assert Spec.parse(written, here=False) == spec, written
        assert written == text or '"' in written


def test_signs_in_quotes_neither_sweep_nor_join() -> None:
    assert expand('x:"{a},{b}",c={1,2}') == ['x:"{a},{b}",c=1', 'x:"{a},{b}",c=2']
    assert split('x:a="b+c"+y', r"\+") == ['x:a="b+c"', "y"]
    layers = [(spec.name, spec.params) for spec in defenses.layers('noise:sigma="0+c"+flip')]
    assert layers == [("noise", (("sigma", "0+c"),)), ("flip", ())]


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


def unannotated(path, share=0.5, count=3, weights="none.pth", fast=False, other=None):  # type: ignore[no-untyped-def]
    return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:path=a.pth,weights=q.pth", {"path": "a.pth", "weights": "q.pth"}),
        ("x:path=7,share=2,count=4,weights=5", {"path": 7, "share": 2, "count": 4, "weights": "5"}),
        ("x:path=1.5,count=0.5,fast=true,other=none", {"path": 1.5, "count": 0.5, "fast": True, "other": None}),
    ],
)
def test_parameters_without_annotations_are_read_by_their_defaults(text: str, expected: dict[str, object]) -> None:
    usual = {"share": 0.5, "count": 3, "weights": "none.pth", "fast": False, "other": None}
    assert resolve(Spec.parse(text), unannotated, "codec") == usual | expected


def test_a_default_says_what_a_parameter_without_an_annotation_takes() -> None:
    with pytest.raises(BadParameter, match="share='much' cannot be read; expected float"):
        resolve(Spec.parse("x:path=a,share=much"), unannotated, "codec")
