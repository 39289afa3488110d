"""A short form of ``benchmarks/damaged_streams.py``: damaged streams raise, or show the right pixels."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import scripts


@pytest.fixture(scope="module")
def campaign() -> Any:
    return scripts.load("benchmarks/damaged_streams.py")


@pytest.mark.parametrize(
    "name",
    [
        "bmshj2018-hyperprior.tiny-q2",
        "mbt2018:weights=random",
        "elic2022-official:weights=random",
        "bmshj2018-hyperprior-vbr:weights=random",
        "ssf2020:weights=random",
        "rdae.tiny-q2",
        "jpeg",
        "avif",
        "h264",
        "vp9",
    ],
)
def test_no_damage_is_silent(campaign: Any, name: str) -> None:
    found = campaign.decode_all(name, 60, frames=2)
    assert {kind: found[kind] for kind in ("silent", "errors")} == {"silent": 0, "errors": 0}
    assert found["refused"] > 40 and found["MiB"] <= campaign.MEMORY


def test_it_says_what_it_found_and_fails_for_a_codec_that_shows_other_pixels(
    campaign: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["damaged_streams.py", "--mutations", "20", "--inside", "jpeg"])
    assert campaign.main() == 0 and '"refused"' in capsys.readouterr().out
    monkeypatch.setattr("robustcodec.stream.Packet.expect", lambda *_: None)
    assert campaign.decode_all("h264", 100, frames=2)["silent"] > 0
