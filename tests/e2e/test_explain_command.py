"""``robustcodec explain`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import Type
from torch import Tensor

from robustcodec.data._images import write_image


@pytest.fixture
def image(tmp_path: Path, photo: Tensor) -> Path:
    path = tmp_path / "photo.png"
    write_image(photo[..., :64, :64], path)
    return path


def test_tables_json_and_figure(image: Path, tmp_path: Path, robust: Type) -> None:
    words = ["explain", "mbt2018-mean.tiny-q1", str(image), "--attack", "pgd:steps=2", "--out", str(tmp_path / "out")]
    shown = robust(*words)
    assert shown.code == 0 and "explanation.png" in shown.out and (tmp_path / "out" / "explanation.png").is_file()
    for text in ("g_s.5", "IGDN", "side information", "error left %"):
        assert text in shown.out
    table = json.loads(robust(*words, "--json").out)
    assert table["attack"] == "pgd:steps=2" and table["layers"][0]["name"] == "input"
    parts = {row["part"]: row for row in table["replaced"]}
    assert parts["nothing"]["error_left"] == 1 and parts["latents"]["error"] == 0


def test_a_codec_without_layers_is_a_mistake_of_the_user(image: Path, tmp_path: Path, robust: Type) -> None:
    done = robust("explain", "jpeg:quality=30", str(image), "--out", str(tmp_path / "out"))
    assert done.code == 2 and "has no layers to look into" in done.err and not (tmp_path / "out").exists()
