"""A codec in a process of its own: numbers are those of the server, whatever happens to its process."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import scripts
import torch
import toys
from torch import Tensor, nn

from robustcodec.errors import BadData, BadParameter, ProcessError, StreamError
from robustcodec.interfaces import Codec, Draws, Output
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, objectives, threats
from robustcodec.rounding import rounding
from robustcodec.running.resolved import identity_of
from robustcodec.stream import overhead_bits
from robustcodec.studies.check import check
from robustcodec.zoo._child import words_of

DOCS = Path(__file__).parents[2] / "docs" / "howto"
EACH = pytest.mark.parametrize("name", ["numpy", "torch"])


def command(path: Path, *words: str) -> str:
    """The codec that this file serves."""
    return " ".join((f"process:command={sys.executable} {path}", *words))


STORE = '''
"""Stores every value as a float32; its second argument is what it does wrong."""
import json, os, signal, struct, sys, time
stdin, stdout, how = sys.stdin.buffer, sys.stdout.buffer, sys.argv[1] if len(sys.argv) > 1 else ""
about = {"name": "store", "identity": "1", "kind": "image", "forward": True, "gradient": True}
if how == "exit":
    sys.exit("no module named weights")
if how == "video":
    about.update(kind="video")
if how == "random":
    about.update(randomised=True)
if how == "print":
    print("Loading the model", flush=True)
if how == "nameless":
    del about["name"]
if how == "odd multiple":
    about["multiple"] = [0, 8]
if how == "another":
    about["identity"] = str(os.getpid())
def say(head, number, **arrays):
    listed = [{"name": k, "dtype": d, "shape": s, "bytes": len(b)} for k, (d, s, b) in arrays.items()]
    head = {"robustcodec": 2 if how == "version" else 1, "id": number + (how == "number"), "arrays": listed, **head}
    stdout.write(json.dumps(head).encode() + b"\\n" + b"".join(b for _, _, b in arrays.values()))
    stdout.flush()
for line in stdin:
    ask = json.loads(line)
    got = {e["name"]: (e["shape"], stdin.read(e["bytes"])) for e in ask["arrays"]}
    if ask["op"] == "describe":
        say(about, ask["id"])
    elif ask["op"] == "compress":
        say({}, ask["id"], stream=("uint8", [len(got["x"][1])], got["x"][1]))
    elif ask["op"] == "decompress" and how in ("stream", "data", "bug"):
        say({"error": "it is\\ndamaged", "kind": how}, ask["id"])
    elif ask["op"] == "decompress":
        say({}, ask["id"], x_hat=("float32", ask["shape"], got["stream"][1]))
    elif ask["op"] == "gradient":
        shape, raw = got["x"]
        say({}, ask["id"], grad=("float32", shape, struct.pack("<f", ask["seed"] % 1000) * (len(raw) // 4)))
    else:
        shape, raw = got["x"]
        bits = ("float32", shape[:1], struct.pack("<f", ask["seed"] % 1000 or 32.0) * shape[0])
        print("I was asked", file=sys.stderr, flush=True)
        if how == "hang":
            time.sleep(60)
        if how == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "shape":
            shape, raw = shape[:-1] + [shape[-1] - 1], raw[: len(raw) // shape[-1] * (shape[-1] - 1)]
        if how == "nan":
            raw = struct.pack("<f", float("nan")) + raw[4:]
        if how == "double":
            say({}, ask["id"], x_hat=("float64", shape, raw + raw), bits=bits)
        elif how == "unasked":
            say({}, ask["id"], bits=bits)
        elif how == "huge":
            stdout.write(b"x" * 70000)
            stdout.flush()
        elif how == "truncated":
            head = {"robustcodec": 1, "id": ask["id"], "arrays": [
                {"name": "x_hat", "dtype": "float32", "shape": shape, "bytes": len(raw)},
                {"name": "bits", "dtype": "float32", "shape": shape[:1], "bytes": 4 * shape[0]}]}
            stdout.write(json.dumps(head).encode() + b"\\n" + raw[:100])
            sys.exit(0)
        else:
            say({}, ask["id"], x_hat=("float32", shape, raw), bits=bits)
            if how == "chatty":
                print("done!", flush=True)
'''


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Codec]:
    """The codec of :data:`STORE` that does something wrong."""
    path = tmp_path / "store.py"
    path.write_text(STORE)

    def build(how: str = "", **more: float) -> Codec:
        codec: Codec = codecs.build(command(path, repr(how)) + "".join(f",{k}={v}" for k, v in more.items()))
        return codec

    return build


@pytest.fixture(scope="module")
def served() -> dict[str, Codec]:
    """Both templates, each with one process."""
    return {name: codecs.build(command(DOCS / f"serve_{name}.py")).eval() for name in ("numpy", "torch")}


@pytest.fixture(scope="module")
def toy() -> nn.Module:
    """What the template for torch serves, in this process."""
    made: nn.Module = scripts.load("docs/howto/serve_torch.py").Toy()
    return made


def pid(codec: Any) -> int:
    """Of the process that serves ``codec``."""
    found: int = codec._server._process.pid
    return found


def kill(codec: Codec) -> None:
    os.kill(pid(codec), signal.SIGKILL)


@EACH
@pytest.mark.parametrize(("n", "t", "height", "width"), [(2, 1, 24, 32), (1, 2, 17, 9), (1, 1, 1, 1)])
def test_forward_is_the_decoded_stream(
    name: str, n: int, t: int, height: int, width: int, served: dict[str, Codec]
) -> None:
    codec, x = served[name], toys.clips(n, t, height, width)
    out, streams = codec(x), codec.compress(x)
    assert torch.allclose(out.x_hat, codec.decompress(streams), atol=1e-6) and out.x_hat.shape == x.shape
    assert out.bits.tolist() == [8 * len(s) for s in streams]
    assert (out.x_hat - x).abs().mean() < 0.1
    parts = codec.anatomy(streams[0])
    sizes = [p.bits // 8 for p in parts[1:]]
    assert parts[0].bits == overhead_bits((t, height, width), sizes) and len(sizes) == t


@EACH
def test_the_templates_keep_what_codecs_promise(name: str, served: dict[str, Codec]) -> None:
    clips = [x[None] for x in toys.clips(2, 1, 80, 80)]
    found = check(served[name], clips, lambda: copy.deepcopy(served[name]))
    assert len(found) > 10 and [c for c in found if not c.passed] == []


@pytest.mark.parametrize(("what", "surrogate", "told", "sharpness"), [
    ("x_hat", "annealed", "annealed", 4.0),
    ("bits", "annealed", "annealed", 4.0),
    ("both", "soft", "soft", 4.0),
    ("both", "noise", "straight-through", 0.0),
])  # fmt: skip
def test_gradients_are_those_of_the_network(
    what: str, surrogate: Any, told: str, sharpness: float, served: dict[str, Codec], toy: nn.Module
) -> None:
    x = toys.clips(2, 1, 32, 32)
    weight = torch.linspace(-1, 1, x.numel()).view_as(x)
    damages: dict[str, Callable[[Output], Tensor]] = {
        "x_hat": lambda out: (out.x_hat * weight).sum(),
        "bits": lambda out: (out.bits * torch.tensor([1.0, 0.5])).sum(),
        "both": lambda out: (out.x_hat * weight).sum() + out.bits.sum(),
    }
    here, leaf = x[:, 0].clone().requires_grad_(True), x.clone().requires_grad_(True)
    x_hat, bits = toy(here, None, told, sharpness)
    there = Output(lambda: x_hat.clamp(0, 1)[:, None], lambda: bits)
    (expected,) = torch.autograd.grad(damages[what](there), here)
    with rounding(surrogate, progress=0.4):
        loss = damages[what](served["torch"](leaf))
    if what == "bits":
        kill(served["torch"])  # between the forward and its gradient
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert expected.abs().max() > 0 and torch.allclose(gradient[:, 0], expected, atol=1e-5)


def test_an_attack_by_gradients_beats_noise(served: dict[str, Codec]) -> None:
    codec, x, threat = served["torch"], toys.clips(1, 1, 32, 32), threats.build("psnr:36")

    def damage(name: str) -> float:
        oracle = Oracle(codec, objectives.build("distortion"), x, attacks.build(name).access)
        found = attacks.build(name).run(oracle, x, threat, Draws([0]))
        return float(oracle(threat.quantise(threat.project(found, x), x)))

    assert damage("pgd:steps=5") > 1.5 * damage("noise")


def test_a_black_box_gives_no_gradient(served: dict[str, Codec]) -> None:
    codec = served["numpy"]
    assert not codec.differentiable
    assert not codec(toys.clips(1).requires_grad_(True)).x_hat.requires_grad


def test_a_video_codec_sees_whole_clips(store: Callable[..., Codec]) -> None:
    codec, x = store("video"), toys.clips(2, 3, 8, 8)
    (first, second) = codec.compress(x)
    assert torch.equal(codec.decompress([first, second]), x) and torch.equal(codec(x).x_hat, x)
    assert [p.frames for p in codec.anatomy(first)] == [0, 3] and codec(x).bits.tolist()[0] > 32


def test_a_random_codec_draws_the_same_for_a_forward_and_its_gradient(store: Callable[..., Codec]) -> None:
    codec, x = store("random"), toys.clips(1, 1, 8, 8).requires_grad_(True)
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        out = codec(x)
        overhead = float(codec.overhead(torch.tensor([[1.0]]), x))  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(out.bits.sum(), x)
        assert gradient.flatten().tolist() == x.numel() * [round(out.bits.item() - overhead)]
        seen.append(gradient)
    assert codec.randomised and torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize(("how", "reason"), [
    ("shape", r"answered x_hat as float32 of shape \[1, 3, 8, 7\]; expected float32 of \[1, 3, 8, 8\]"),
    ("nan", "x_hat of which 1 of 192 values are not finite"),
    ("double", "x_hat as float64"),
    ("unasked", r"answered arrays \['bits'\]; expected \['x_hat', 'bits'\]"),
    ("truncated", "ended with exit code 0 while it was asked to forward; 100 of 772 announced bytes came"),
    ("chatty", "wrote 'done!.* to stdout"),
    ("huge", "wrote 'xxxxx.* to stdout; only answers belong there: print to stderr"),
    ("die", "was ended by SIGSEGV while it was asked to forward; its last lines: I was asked, and so it did before"),
])  # fmt: skip
def test_wrong_answers_are_one_clear_error(how: str, reason: str, store: Callable[..., Codec]) -> None:
    codec = store(how)
    with pytest.raises(ProcessError, match=rf"process .*store.py.* {reason}") as raised:
        _ = codec(toys.clips(1, 1, 8, 8)).x_hat, codec(toys.clips(1, 1, 8, 8)).x_hat
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("how", "reason"), [
    ("exit", "ended with exit code 1 while it was asked to describe; its last lines: no module named weights"),
    ("print", "wrote 'Loading the model' to stdout; only answers belong there"),
    ("version", "speaks version 2 of the protocol; this release version 1"),
    ("number", "answered request 2 instead of 1"),
    ("nameless", "describes no name"),
    ("odd multiple", "describes multiple=.* expected two numbers"),
])  # fmt: skip
def test_what_is_wrong_at_the_start_is_said(how: str, reason: str, store: Callable[..., Codec]) -> None:
    with pytest.raises(ProcessError, match=reason):
        store(how)


def test_a_process_that_hangs_is_ended_twice_and_named(store: Callable[..., Codec]) -> None:
    codec = store("hang", timeout=0.2)
    with pytest.raises(ProcessError, match="did not answer forward within 0.2 s; its last lines: I was asked"):
        _ = codec(toys.clips(1, 1, 8, 8)).x_hat


def test_a_command_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadParameter, match="cannot be started.*check the path"):
        codecs.build("process:command=/no/such/python serve.py")
    with pytest.raises(BadParameter, match="close each quote"):
        codecs.build("process:command=python 'serve.py")
    with pytest.raises(BadParameter, match="expected seconds above 0"):
        codecs.build("process:command=python serve.py,timeout=0")


@pytest.mark.parametrize(("how", "kind"), [("stream", StreamError), ("data", BadData), ("bug", ProcessError)])
def test_what_a_server_raises_is_raised_here_and_its_process_stays(
    how: str, kind: type[Exception], store: Callable[..., Codec]
) -> None:
    codec = store(how)
    streams, before = codec.compress(toys.clips(1, 1, 8, 8)), pid(codec)
    with pytest.raises(kind, match="cannot decompress: it is damaged"):
        codec.decompress(streams)
    assert codec.compress(toys.clips(1, 1, 8, 8)) == streams and pid(codec) == before


def test_a_command_is_read_as_a_shell_reads_it(tmp_path: Path) -> None:
    program = tmp_path / "my server"
    program.touch()
    assert words_of("python 'a b.py' --q=3") == ["python", "a b.py", "--q=3"]
    assert words_of('"python serve.py"') == ["python", "serve.py"]
    assert words_of(f"'{program}'") == [str(program)]


def test_a_restarted_process_must_be_the_same_codec(store: Callable[..., Codec]) -> None:
    codec = store("another")
    kill(codec)
    with pytest.raises(ProcessError, match="describes another codec than before it was restarted"):
        codec.compress(toys.clips(1, 1, 8, 8))


def test_files_of_the_command_are_its_identity_and_time_limits_are_not(tmp_path: Path) -> None:
    path = tmp_path / "serve.py"
    path.write_text((DOCS / "serve_numpy.py").read_text())
    spec = command(path)
    one, patient = identity_of("codec", spec), identity_of("codec", f"{spec},timeout=600")
    assert one == patient and "numpy" in one["fingerprint"]
    path.write_text(path.read_text() + "# another\n")
    other = identity_of("codec", spec)
    assert other["fingerprint"] != one["fingerprint"] and other["params"] == one["params"]
    (stream,) = codecs.build(spec).compress(toys.clips(1, 1, 8, 8))
    path.write_text(path.read_text() + "# and another\n")
    with pytest.raises(StreamError, match="was not written by"):
        codecs.build(spec).decompress([stream])


def test_copies_share_a_process_and_travel_without_it(served: dict[str, Codec]) -> None:
    codec, x = served["numpy"], toys.clips(1, 1, 8, 8)
    for other in (
        copy.deepcopy(codec),
        pickle.loads(pickle.dumps(codec)),
        codecs.build(command(DOCS / "serve_numpy.py")),
    ):
        assert other.compress(x) == codec.compress(x) and pid(other) == pid(codec)
    assert os.getsid(pid(codec)) != os.getsid(0), "Ctrl-C would reach it"


def test_a_template_ends_with_whoever_asked_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """The end of a process closes its pipes, however it ends."""
    text = (DOCS / "serve_numpy.py").read_text()
    slow = "def answer(*_):\n    sys.stderr.write('busy\\n')\n    threading.Event().wait(60)\n\n\ndef unused("
    (tmp_path / "slow.py").write_text(text.replace("def answer(", slow))
    with subprocess.Popen([sys.executable, tmp_path / "slow.py"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b'{"op": "describe", "id": 1, "arrays": []}\n')
        process.stdin.flush()
        assert process.stderr.readline() == b"busy\n"
        process.stdin.close()
        assert process.wait(5) == 0
