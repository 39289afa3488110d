"""``benchmarks/gpu.py``: without a GPU it says so, and its rehearsal prints every table."""

from __future__ import annotations

import sys

import pytest
import scripts
import torch


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    scripts.load("benchmarks/gpu.py").main()


def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        run(monkeypatch)
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1) and "no CUDA device" in err


def test_a_rehearsal_prints_every_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--rehearse")
    head, *tables = capsys.readouterr().out.split("\n\n")
    assert head.startswith("cpu ")
    rates, steps, streams = ([line.strip("| ").split(" | ") for line in t.splitlines()[2:]] for t in tables)
    assert [row[0] for row in rates] == ["float32", "TF32", "bfloat16"]
    assert all(float(value) >= 0 for _, value in rates)
    assert [(row[0], row[1]) for row in steps] == [
        (name, batch) for name in ("bmshj2018-factorized.tiny-q1", "rdae.tiny-q1") for batch in ("1", "2")
    ]
    assert all(float(time) > 0 and row[-2:] == ["–", "–"] for row in steps for time in row[2:3])
    assert streams == [["bmshj2018-factorized.tiny-q2", "yes", "yes", "yes"]]


@pytest.mark.gpu
def test_a_gradient_never_waits_for_a_gpu() -> None:
    from robustcodec.coding import judged
    from robustcodec.oracle import Oracle
    from robustcodec.registry import objectives

    codec, x = judged("bmshj2018-hyperprior.tiny-q1", device="cuda"), torch.rand(2, 1, 3, 64, 64).cuda()
    oracle = Oracle(codec, objectives.build("rate-distortion"), x, "white")
    oracle.gradient(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        oracle.gradient(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
