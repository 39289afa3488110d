"""What a bad plugin gives back is a finding of its own cell: the cell says who gave what, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec.execution.runner import Runner
from robustcodec.interfaces import (
    Attack,
    Card,
    Codec,
    DataSet,
    Defense,
    Draws,
    Metric,
    Objective,
    Output,
    Sample,
    Threat,
)
from robustcodec.oracle import Oracle
from robustcodec.registry import KINDS, threats
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

SIZE = 16
NAN, INF = float("nan"), float("inf")
Break = Callable[[Any], Any]


def same(given: Any) -> Any:
    return given


class Plain(Codec):
    """Its stream is its picture; whatever it gives back goes through what breaks it."""

    def __init__(self, broken: dict[str, Break]) -> None:
        super().__init__()
        self.card, self.broken = Card("toy", "toy"), broken

    def forward(self, x: Tensor) -> Output:
        broken = self.broken.get
        out = Output(
            lambda: broken("x_hat", same)((x * 15).round() / 15 + (x - x.detach())),
            lambda: broken("bits", same)(torch.full((len(x),), 8.0 * x[0].numel())),
        )
        return broken("forward", same)(out)  # type: ignore[no-any-return]

    def compress(self, x: Tensor) -> list[bytes]:
        streams = [(clip * 255).round().to(torch.uint8).numpy().tobytes() for clip in x]
        return self.broken.get("compress", same)(streams)  # type: ignore[no-any-return]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        pixels = [torch.frombuffer(bytearray(s), dtype=torch.uint8).view(-1, 3, SIZE, SIZE) for s in streams]
        return self.broken.get("decompress", same)(torch.stack(pixels) / 255)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Push(Attack):
    """Moves every value up, and asks once for a gradient."""

    broken: Break = same

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        oracle.gradient(x)
        return self.broken(threat.project(x + threat.steepest(torch.ones_like(x), x), x))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Bare(Defense):
    broken: Break = same

    def wrap(self, codec: Codec) -> Codec:
        return self.broken(codec)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Brightness(Objective):
    broken: Break = same
    scored: Any = None

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return self.broken(attacked.x_hat.flatten(1).mean(1) + 0 * attacked.bits)  # type: ignore[no-any-return]

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        return self.scored or {}


class Ball:
    """L∞ of our own, of which one method gives something else."""

    def __new__(cls, method: str, broken: Break) -> Any:
        threat = threats.build("linf:8/255")
        own = getattr(threat, method)
        return type("Ball", (type(threat),), {method: lambda self, *args: broken(own(*args))})(**vars(threat))


@dataclass(frozen=True)
class Greys(DataSet):
    broken: Break = same
    named: Any = field(default="grey")

    def samples(self) -> list[Sample]:
        ramp = torch.linspace(40, 200, SIZE).round().to(torch.uint8).expand(1, 3, SIZE, SIZE).contiguous()
        return [Sample(self.named, lambda: self.broken(ramp), checksum="given")]


@pytest.fixture
def lend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts plugins behind names."""

    def put(**plugins: Callable[[], Any]) -> None:
        for kind, build in plugins.items():
            build.fingerprint = lambda **_: ""  # type: ignore[attr-defined]
            monkeypatch.setitem(KINDS[kind]._builders, "toy", build)

    return put


@pytest.fixture
def said(tmp_path: Path, lend: Callable[..., None]) -> Callable[..., str]:
    """What the one cell of some plugins says: its error in one line, or its warnings; empty: nothing."""

    def run(metric: Callable[[], Metric] | None = None, **plugins: Callable[[], Any]) -> str:
        usual: dict[str, Callable[[], Any]] = {
            "codecs": lambda: Plain({}), "attacks": lambda: Push(), "defenses": lambda: Bare(),
            "objectives": lambda: Brightness(), "data": lambda: Greys(),
        }  # fmt: skip
        lend(**{**usual, **plugins, **({"metrics": metric} if metric else {})})
        threat = "toy" if "threats" in plugins else "linf:8/255"
        cell = Cell("toy", "toy", "toy", threat, "toy", data="toy")
        runner = Runner(Store(tmp_path), metrics=["toy"] if metric else [])
        tally = runner.run([cell])
        result = runner.store.result(cell.id)
        assert result is not None
        if result.error is not None:
            assert tally.failed == 1 and "\n" not in result.error.strip(), result.error
            return result.error
        return "; ".join(result.warnings)

    return run


def test_plugins_that_keep_their_promises_meet_no_word(said: Callable[..., str]) -> None:
    assert said(metric=lambda: Metric("toy", "", True, lambda a, b: (a - b).abs().flatten(1).amax(1))) == ""


DECODED = "float32 (1, 1, 3, 16, 16) in [0, 1]"
CODECS: dict[str, tuple[str, Break, str]] = {
    "nan": ("decompress", lambda x: x * NAN, "decompress gave float32 .* values that are not finite"),
    "levels": ("decompress", lambda x: x * 255, r"the decoder left \[0, 1\] \(clean\): clamped: 1 of 1"),
    "bytes": ("decompress", lambda x: (x * 255).to(torch.uint8), "decompress gave uint8 (1, 1, 3, 16, 16); expected"),
    "picture": ("decompress", lambda x: x[:, 0], "decompress gave float32 (1, 3, 16, 16); expected " + DECODED),
    "no frame": ("decompress", lambda x: x[:, :0], "decompress gave float32 (1, 0, 3, 16, 16); expected " + DECODED),
    "none": ("decompress", lambda x: None, "decompress gave None; expected " + DECODED),
    "list": ("decompress", list, "decompress gave a list of 1; expected " + DECODED),
    "elsewhere": ("decompress", lambda x: x.to("meta"), "toy cannot decode its own stream"),
    "text": ("compress", lambda s: ["text"], "compress gave a list of 1: a str of 4; expected a list of 1: bytes"),
    "nothing": ("compress", lambda s: [b""], "compress gave a list of 1: a bytes of 0; expected a list of 1: bytes"),
    "too many": ("compress", lambda s: s * 2, "compress gave a list of 2; expected a list of 1: bytes"),
    "one": ("compress", lambda s: s[0], "compress gave a bytes of 768; expected a list of 1: bytes"),
    "no output": ("forward", lambda out: out.x_hat, "toy: forward gave float32 (1, 1, 3, 16, 16); expected a robustc"),
    "flat": ("x_hat", lambda x: x[:, 0], "toy: x_hat of forward gave float32 (1, 3, 16, 16); expected " + DECODED),
    "whole": ("x_hat", lambda x: x.long(), "toy: x_hat of forward gave int64 (1, 1, 3, 16, 16); expected " + DECODED),
    "undefined": ("x_hat", lambda x: x * NAN, "the damage of toy was not finite: 1 of 1 sample"),
    "total": ("bits", lambda b: b.sum(), "toy: bits of forward gave float32 (); expected float32 (1,)"),
    "number": ("bits", lambda b: 7.0, "toy: bits of forward gave a float; expected float32 (1,)"),
    "no bits": ("bits", lambda b: b * NAN, "the estimated rate is not a finite number (clean): 1 of 1 sample"),
}


def as_pattern(text: str) -> str:
    return text if ".*" in text or "\\" in text else re.escape(text)


@pytest.mark.parametrize(("what", "broken", "expected"), CODECS.values(), ids=CODECS)
def test_a_codec(said: Callable[..., str], what: str, broken: Break, expected: str) -> None:
    assert re.search(as_pattern(expected), said(codecs=lambda: Plain({what: broken})))


def test_a_decoded_clip_that_requires_a_gradient_is_a_clip(said: Callable[..., str]) -> None:
    assert said(codecs=lambda: Plain({"decompress": lambda x: x.requires_grad_()})) == ""


ATTACKS: dict[str, tuple[Break, str]] = {
    "nan": (lambda x: x * NAN, "toy: returned values that are not finite: the clean clip was used: 1 of 1"),
    "bytes": (lambda x: (x * 255).to(torch.uint8), "toy gave uint8 (1, 1, 3, 16, 16); expected " + DECODED),
    "picture": (lambda x: x[0], "toy gave float32 (1, 3, 16, 16); expected " + DECODED),
    "none": (lambda x: None, "toy gave None; expected " + DECODED),
    "far": (lambda x: x + 0.5, "left the threat set"),
}


@pytest.mark.parametrize(("broken", "expected"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack(said: Callable[..., str], broken: Break, expected: str) -> None:
    assert expected.removeprefix("toy: ") in said(attacks=lambda: Push(broken))


@pytest.mark.parametrize("broken", [lambda codec: None, lambda codec: torch.nn.Identity()], ids=["none", "network"])
def test_a_defense_that_makes_no_codec(said: Callable[..., str], broken: Break) -> None:
    assert re.search("toy: wrap gave (None|a Identity); expected a codec", said(defenses=lambda: Bare(broken)))


OBJECTIVES: dict[str, tuple[Any, str]] = {
    "mean": ({"broken": lambda d: d.mean()}, "Brightness gave float32 (); expected float32 (1,)"),
    "number": ({"broken": lambda d: d.detach().item()}, "Brightness gave a float; expected float32 (1,)"),
    "whole": ({"broken": lambda d: d.long()}, "Brightness gave int64 (1,); expected float32 (1,)"),
    "nan": ({"broken": lambda d: d * NAN}, "the damage is not a finite number: 1 of 1 sample"),
    "list": ({"scored": [1.0]}, "scores of toy gave a list of 1; expected a dictionary of numbers"),
    "tensor": ({"scored": {"own": torch.ones(1)}}, "scores of toy gave 'own': float32 (1,); expected a finite number"),
    "infinite": ({"scored": {"own": INF}}, "scores of toy gave 'own': inf; expected a finite number"),
    "taken": ({"scored": {"adv_psnr": 99.0}}, "scores of toy gave 'adv_psnr', which is the name of another score"),
}


@pytest.mark.parametrize(("broken", "expected"), OBJECTIVES.values(), ids=OBJECTIVES)
def test_an_objective(said: Callable[..., str], broken: dict[str, Any], expected: str) -> None:
    assert expected in said(objectives=lambda: Brightness(**broken))


THREATS: dict[str, tuple[str, Break, str]] = {
    "nan": ("radius", lambda r: r * NAN, "toy: radius gave [nan]; expected finite sizes"),
    "one": ("radius", lambda r: r.sum(), "toy: radius gave float64 (); expected float32 (1,)"),
    "outside": ("quantise", lambda x: (x + 32 / 255).clamp(0, 1), "toy: quantise gave an input of "),
    "between": ("quantise", lambda x: x - 0.3 / 255, "toy: quantise gave values that are not of 8 bits"),
    "not finite": ("quantise", lambda x: x * NAN, "toy: quantise gave float32 (1, 1, 3, 16, 16) with values that are"),
    "bytes": ("project", lambda x: x.to(torch.uint8), "random_start of Ball gave uint8 (1, 1, 3, 16, 16); expected"),
}


@pytest.mark.parametrize(("method", "broken", "expected"), THREATS.values(), ids=THREATS)
def test_a_threat(said: Callable[..., str], method: str, broken: Break, expected: str) -> None:
    assert expected in said(threats=lambda: Ball(method, broken))


SAMPLES: dict[str, tuple[dict[str, Any], str]] = {
    "floats": ({"broken": lambda x: x / 255}, "sample grey gave float32 (1, 3, 16, 16); expected a clip, uint8"),
    "nan": ({"broken": lambda x: x * NAN}, "sample grey gave float32 (1, 3, 16, 16); expected a clip, uint8"),
    "picture": ({"broken": lambda x: x[0]}, "sample grey gave uint8 (3, 16, 16); expected a clip, uint8"),
    "array": ({"broken": lambda x: x.numpy()}, "sample grey gave a ndarray; expected a clip, uint8"),
    "empty": ({"broken": lambda x: x[:0]}, "sample grey gave uint8 (0, 3, 16, 16); expected a clip, uint8"),
}


@pytest.mark.parametrize(("broken", "expected"), SAMPLES.values(), ids=SAMPLES)
def test_a_data_set(said: Callable[..., str], broken: dict[str, Any], expected: str) -> None:
    assert expected in said(data=lambda: Greys(**broken))


METRICS: dict[str, tuple[Break, str]] = {
    "nan": (lambda d: d * NAN, "toy is not a finite number (clean): 1 of 1 sample"),
    "infinite": (lambda d: d + INF, "toy is not a finite number (attacked): 1 of 1 sample"),
}


@pytest.mark.parametrize(("broken", "expected"), METRICS.values(), ids=METRICS)
def test_a_metric(said: Callable[..., str], broken: Break, expected: str) -> None:
    fn = lambda a, b: broken((a - b).abs().flatten(1).amax(1))  # noqa: E731
    assert expected in said(metric=lambda: Metric("toy", "", True, fn))


@pytest.mark.parametrize("given", ["0.5", None, torch.ones(()), torch.ones(2), 0.5])
def test_a_metric_that_gives_no_number_for_each_sample_is_refused_before_anything_runs(
    said: Callable[..., str], given: Any
) -> None:
    with pytest.raises(Exception, match=r"metric toy gave .*; expected float32 \(1,\), a number for each sample"):
        said(metric=lambda: Metric("toy", "", True, lambda a, b: given))


def test_a_frame_smaller_than_a_metric_can_score_is_no_finding(said: Callable[..., str]) -> None:
    fn = lambda a, b: torch.full((1,), NAN)  # noqa: E731
    assert said(metric=lambda: Metric("toy", "", True, fn, least=SIZE + 1)) == ""
