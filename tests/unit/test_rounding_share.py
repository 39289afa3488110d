"""``benchmarks/rounding_share.py``: a network attacked without its rounding."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import scripts
import torch

from robustcodec import registry


@pytest.fixture(scope="module")
def share() -> Any:
    return scripts.load("benchmarks/rounding_share.py")


def test_latents_reach_the_synthesis_as_they_are(share: Any) -> None:
    codec: Any = registry.codecs.build("bmshj2018-factorized.tiny-q1").eval()
    x = torch.rand(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shown = share.Unrounded(codec)(x).x_hat
        expected = codec.net.g_s(codec.net.g_a(x[:, 0]))
    assert (shown[:, 0] - expected.clamp(0, 1)).abs().max() < 1e-5
    assert not torch.equal(shown, codec(x).x_hat)


def test_what_passes_on_a_perturbation_amplifies_nothing(share: Any) -> None:
    class Copies(share.ForwardOnly):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> Any:
            return share.Output(lambda: x, lambda: x.sum((1, 2, 3, 4)), list)

    x = torch.full((1, 1, 3, 8, 8), 0.5)
    found = share.measured(Copies(), x, x + 0.01)
    assert found["amplification"] == pytest.approx(0, abs=1e-4) and found["attacked"] == pytest.approx(40, abs=1e-3)


def test_a_line_for_the_codec_and_one_for_its_network(
    share: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bmshj2018-factorized.tiny-q1", "--attack", "pgd:steps=2", "--data", "photos:size=64", "--limit", "1"]
    monkeypatch.setattr(sys, "argv", ["rounding_share.py", *words])
    share.main()
    *_, rounded, smooth = (line.split(" | ") for line in capsys.readouterr().out.strip().splitlines())
    assert rounded[1] == "as it is" and smooth[1] == "without rounding"
    assert float(rounded[2]) < float(smooth[2])  # rounding costs PSNR
    codec = registry.codecs.build(words[0])
    x = share.to_float(registry.data.build("photos:size=64").samples()[0].load())[None]
    for row, victim in ((rounded, codec), (smooth, share.Unrounded(codec))):  # each attacked on itself
        parts = registry.attacks.build("pgd:steps=2"), registry.objectives.build("source-distortion")
        x_adv = share.craft(victim, *parts, registry.threats.build("psnr:40"), x, (0, 0), "bfloat16")
        assert float(row[3]) == pytest.approx(share.measured(victim, x, x_adv)["attacked"], abs=0.006)
