"""Scores of whole sets in a comparison: the frames that streams decode to, kept, resumed, and what is said without the
network. A module that anyone can compute takes Inception's place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer import Typer
from typer.testing import CliRunner

from robustcodec import registry
from robustcodec.clips import as_batch
from robustcodec.coding import code, judged
from robustcodec.errors import MissingDependency
from robustcodec.scores import perception
from robustcodec.scores.perception import SET_SCORES, SetScore, fid, inception_score

CODECS = ["jpeg:quality=10", "jpeg:quality=80"]
pytest.importorskip("torchmetrics")


class Corners(nn.Module):
    """12 means of pixels, of the four quarters of each channel."""

    def forward(self, frames: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(frames.float() - 128, 2).flatten(1) / 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pictures = torch.rand(4, 6, 6, 3, generator=torch.Generator().manual_seed(0))
    (tmp_path / "in").mkdir()
    for i, picture in enumerate((pictures * 255).byte().numpy()):
        Image.fromarray(picture).resize((40, 32)).save(tmp_path / "in" / f"{i}.png")
    computed = {
        "fid": lambda reference, test, device: fid(reference, test, Corners()),
        "inception_score": lambda reference, test, device: inception_score(test, Corners(), splits=2).mean,
    }
    for name, fn in computed.items():
        monkeypatch.setitem(SET_SCORES, name, SetScore(SET_SCORES[name].column, fn))
    return tmp_path


def invoke(folder: Path, *words: str) -> Any:
    from robustcodec.cli.compare import command

    app = Typer()
    app.command()(command)
    options = ["--data", f"folder:{folder / 'in'}", "--codec", "jpeg:quality={10,80}", "--out", str(folder / "out")]
    return CliRunner().invoke(app, [*options, *words])


BOTH = ("--set-score", "fid", "--set-score", "inception_score")


def test_the_set_is_what_the_streams_of_all_clips_decode_to(folder: Path) -> None:
    done = invoke(folder, *BOTH, "--json")
    assert done.exit_code == 0, done.output
    means = json.loads(done.stdout)["means"]
    assert [mean["codec"] for mean in means] == CODECS
    clips = [sample.load() for sample in registry.data.build(f"folder:{folder / 'in'}").samples()]
    sources = [as_batch(clip, "cpu") for clip in clips]
    for mean in means:
        decoded = [as_batch(code(judged(mean["codec"]), clip).decoded(), "cpu") for clip in clips]
        assert mean["fid"] == pytest.approx(fid(sources, decoded, Corners()), rel=1e-6)
        assert mean["inception_score"] == pytest.approx(inception_score(decoded, Corners(), splits=2).mean, rel=1e-6)
    assert means[0]["fid"] > 1.05 * means[1]["fid"] > 0  # fewer bits are farther away
    written = {path.name for path in (folder / "out").iterdir()}
    assert {"rd-fid.png", "rd-fid.pdf", "rd-inception_score.png"} <= written
    text = (folder / "out" / "rd.md").read_text()
    assert "| codec | bpp | PSNR (dB) | MS-SSIM | FID | Inception Score |" in text and f"{means[0]['fid']:.2f}" in text


def test_it_goes_on_where_it_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(folder).exit_code == 0 and not [*(folder / "out" / "points").glob("*.rc")]
    first = invoke(folder, *BOTH, "--json")

    def never(*_: object) -> float:
        raise AssertionError("it was computed before")

    for name in SET_SCORES:
        monkeypatch.setattr(perception.SetScore, "require", lambda self: None)
        monkeypatch.setitem(SET_SCORES, name, SetScore(SET_SCORES[name].column, never))
    assert invoke(folder, *BOTH, "--json").stdout == first.stdout
    Image.new("RGB", (40, 32)).save(folder / "in" / "0.png")
    assert "it was computed before" in invoke(folder, *BOTH).output  # another set


def test_a_codec_that_lacks_a_clip_has_no_score_of_the_set(folder: Path) -> None:
    Image.new("RGB", (20000, 1)).save(folder / "in" / "wide.png")  # WebP ends at 16383 pixels
    done = invoke(folder, "--codec", "webp:quality=10", "--set-score", "fid")
    assert done.exit_code == 2 and "codec webp:quality=10, clip wide" in done.output
    assert "| webp" not in (folder / "out" / "rd.md").read_text().split("## Not measured")[0]


def test_without_the_network_nothing_is_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path_factory.mktemp("torch")))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    done = invoke(folder, "--set-score", "fid")
    assert isinstance(done.exception, MissingDependency) and perception.INCEPTION.url in str(done.exception)
    assert not (folder / "out").exists()
    assert "fid, inception_score" in str(invoke(folder, "--set-score", "is").exception)
