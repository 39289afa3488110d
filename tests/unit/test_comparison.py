"""Rate–distortion comparisons: numbers by hand, ladders, BD-rates, what a failure costs, and the same bytes again."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer import Typer
from typer.testing import CliRunner

from robustcodec import coding, registry
from robustcodec.errors import BadParameter, StoreError, UnknownName
from robustcodec.interfaces import Codec, Metric, Sample
from robustcodec.scores import rate
from robustcodec.scores.metrics import of_every_run
from robustcodec.spec import expand
from robustcodec.studies import compare_report as curves
from robustcodec.studies.compare import Failure, compare
from robustcodec.studies.compare_report import bd_rates, means
from robustcodec.studies.ladders import Ladder, ladders

METRICS = of_every_run()
SWEEP = expand("jpeg:quality={10,40,80}")


def clip(seed: int, frames: int = 2, side: int = 48) -> Tensor:
    """A smooth picture with some grain, which all codecs can do something with."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(frames, 3, 6, 6, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    grain = 0.05 * torch.randn(frames, 3, side, side, generator=rng)
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8)


def samples(count: int = 2, frames: int = 1) -> list[Sample]:
    return [Sample(f"clip{i}", lambda i=i: clip(i, frames)) for i in range(count)]  # type: ignore[misc]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpeg", ["jpeg"]),
        ("h264:crf={27,33}", ["h264:crf=27", "h264:crf=33"]),
        ("a{1,2}b{x, y}", ["a1bx", "a1by", "a2bx", "a2by"]),
        ("{a,b}", ["a", "b"]),
        ("rdae.tiny{,-gan}-q1", ["rdae.tiny-q1", "rdae.tiny-gan-q1"]),
        ("jpeg:quality={5,5}", ["jpeg:quality=5"]),
    ],
)
def test_braces(text: str, expected: list[str]) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize("text", ["a{1,2", "a1,2}", "a{1,{2,3}}", "a{}", "a{,}", "}a{"])
def test_braces_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BadParameter, match="braces"):
        expand(text)


def test_ladders_differ_in_rate_alone() -> None:
    codecs = [
        "jpeg:quality=10", "mbt2018-mean.tiny-q1", "jpeg:40", "bmshj2018-hyperprior.tiny-msssim-q1",
        "mbt2018-mean.tiny-q2", "webp:quality=10", "jpeg:quality=40,subsampling=4:4:4", "jpeg:subsampling=4:2:0",
        "bmshj2018-hyperprior.tiny-q1", "jpeg:quality=10", "mbt2018:quality=3,weights=random",
        "bmshj2018-hyperprior.tiny-q1-at", "bmshj2018-hyperprior.tiny-q2-at",
        "mbt2018:quality=5,weights=random", "rdae:weights=a/x-q1.safetensors", "rdae:weights=a/x-q2.safetensors",
    ]  # fmt: skip
    assert ladders(codecs) == [
        Ladder("jpeg", ("jpeg:quality=10", "jpeg:40", "jpeg:subsampling=4:2:0")),
        Ladder("mbt2018-mean.tiny", ("mbt2018-mean.tiny-q1", "mbt2018-mean.tiny-q2")),
        Ladder("bmshj2018-hyperprior.tiny-msssim", ("bmshj2018-hyperprior.tiny-msssim-q1",)),
        Ladder("webp", ("webp:quality=10",)),
        Ladder("jpeg subsampling=4:4:4", ("jpeg:quality=40,subsampling=4:4:4",)),
        Ladder("bmshj2018-hyperprior.tiny", ("bmshj2018-hyperprior.tiny-q1",)),
        Ladder("mbt2018 weights=random", ("mbt2018:quality=3,weights=random", "mbt2018:quality=5,weights=random")),
        Ladder("bmshj2018-hyperprior.tiny-at", ("bmshj2018-hyperprior.tiny-q1-at", "bmshj2018-hyperprior.tiny-q2-at")),
        Ladder(
            "rdae weights=a/x.safetensors",
            ("rdae:weights=a/x-q1.safetensors", "rdae:weights=a/x-q2.safetensors"),
        ),
    ]


def test_ladders_of_ones_own() -> None:
    assert ladders([], {"mine": ["jpeg:10", "webp:20"]}) == [Ladder("mine", ("jpeg:10", "webp:20"))]
    with pytest.raises(BadParameter, match="two ladders would be called 'jpeg'"):
        ladders(["jpeg:10"], {"jpeg": ["webp:20"]})
    with pytest.raises(UnknownName):
        ladders([], {"mine": ["jpg:10"]})
    with pytest.raises(BadParameter, match="no codec"):
        ladders([])


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_bytes(tmp_path: Path) -> None:
    """Against Pillow itself: the stream of an image is its JPEG file."""
    rows, failures = compare(ladders(SWEEP), samples(), METRICS, tmp_path)
    assert not failures and len(rows) == 6 and set(rows["ladder"]) == {"jpeg"}
    for row in rows.to_dict("records"):
        pixels = clip(int(row["clip"][-1]), 1)[0].permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        quality = int(row["codec"].rpartition("=")[2])
        options = {"quality": quality, "subsampling": "4:2:0", "optimize": True, "comment": 14 * "x"}  # a checksum
        Image.fromarray(pixels).save(buffer, "JPEG", **options)
        decoded = np.asarray(Image.open(buffer)).astype(float)
        assert row["bytes"] == len(buffer.getvalue())
        assert row["bpp"] == pytest.approx(8 * len(buffer.getvalue()) / 48**2)
        mse = np.square(decoded - pixels).mean()
        assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-4)
        assert row["encode_s"] > 0 and row["decode_s"] > 0


def test_a_clip_of_a_video_codec(tmp_path: Path) -> None:
    rows, failures = compare(ladders(["h264:crf=30,preset=ultrafast"]), samples(1, frames=3), METRICS, tmp_path)
    codec: Codec = registry.codecs.build("h264:crf=30,preset=ultrafast")
    x = clip(0, 3).float()[None] / 255
    stream = codec.compress(x)
    x_hat = codec.decompress(stream).mul(255).round().div(255)
    (row,) = rows.to_dict("records")
    assert not failures and (row["frames"], row["width"], row["height"]) == (3, 48, 48)
    assert row["bpp"] == rate.bpp(8 * len(stream[0]), x.shape)
    assert row["psnr"] == pytest.approx(-10 * math.log10(float((x - x_hat).double().square().mean())), abs=1e-4)


def test_means_weigh_clips_alike_and_leave_out_what_lacks_one() -> None:
    rows = pd.DataFrame(
        [
            ("b", "b1", "x", 0.4, 30.0), ("b", "b1", "y", 0.2, 40.0), ("b", "b2", "x", 0.2, 20.0),
            ("b", "b2", "y", 0.2, 20.0), ("a", "a1", "x", 0.1, 10.0),
        ],
        columns=["ladder", "codec", "clip", "bpp", "psnr"],
    )  # fmt: skip
    found = means(rows)
    assert found[["ladder", "codec", "clips"]].to_numpy().tolist() == [["b", "b2", 2], ["b", "b1", 2]]
    assert found["bpp"].tolist() == pytest.approx([0.2, 0.3]) and found["psnr"].tolist() == [20.0, 35.0]


def points(ladder: str, bpp: list[float], psnr: list[float], lpips: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"ladder": ladder, "codec": ladder, "bpp": bpp, "psnr": psnr, "lpips": lpips, "clips": 1})


LPIPS: Metric = registry.metrics.build("lpips")
PSNR: Metric = registry.metrics.build("psnr")


def test_bd_rate_is_of_rate_and_right_way_up() -> None:
    bpp = [0.1, 0.2, 0.4, 0.8]
    anchor = points("anchor", bpp, [28.0, 31.0, 34.0, 36.5], [0.4, 0.3, 0.2, 0.15])
    half = points("half", [b / 2 for b in bpp], [28.0, 31.0, 34.0, 36.5], [0.4, 0.3, 0.2, 0.15])
    other = points("other", bpp, [27.0, 30.5, 33.0, 36.0], [0.41, 0.33, 0.22, 0.17])
    apart = points("apart", bpp, [8.0, 9.0, 10.0, 11.0], [0.2, 0.3, 0.4, 0.5])
    table, notes = bd_rates(pd.concat([anchor, half, other, apart]), [PSNR, LPIPS])
    assert list(table.index) == ["half", "other", "apart"]
    assert table.to_numpy()[0].tolist() == pytest.approx([-50.0, -50.0])
    assert table.loc["other", "psnr"] == rate.bd_rate(bpp, anchor["psnr"], bpp, other["psnr"])
    assert table.loc["other", "lpips"] == rate.bd_rate(bpp, -anchor["lpips"], bpp, -other["lpips"])
    assert table.loc["other"].gt(0).all() and table.loc["apart"].isna().all()
    assert len(notes) == 2 and "share no quality" in notes[0] and "does not rise" in notes[1]


# -- a run -------------------------------------------------------------------------------------------------------------


def test_one_failure_costs_nothing_else(tmp_path: Path) -> None:
    def damaged() -> Tensor:
        raise OSError("the disk is on fire")

    mixed = [*samples(), Sample("damaged", damaged)]
    codecs = [*SWEEP, "jpeg:quality=101", "bmshj2018-factorized.tiny-q1"]
    mixed += [Sample("empty", lambda: torch.zeros(1, 3, 48, 0, dtype=torch.uint8))]
    once = iter([clip(9, 1)])
    gone = Sample("gone", lambda: next(once))  # the second time there is none
    rows, failures = compare(ladders(codecs), [*mixed, gone], METRICS, tmp_path)
    assert {(f.codec, f.clip) for f in failures} == {
        ("all", "damaged"), ("all", "empty"), ("jpeg:quality=101", "all"), *((c, "gone") for c in (*SWEEP, codecs[-1])),
    }  # fmt: skip
    assert len(rows) == 8 and len(means(rows)) == 4
    curves.write(rows, failures, METRICS, "folder:/home/me/clips,crop=9", tmp_path)
    text = (tmp_path / "rd.md").read_text()
    assert "OSError: the disk is on fire" in text and "# Rate and distortion: folder:clips,crop=9" in text


def test_resumed_and_repeated_runs_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    real = coding.code

    def counted(codec: Codec, given: Tensor, *rest: Any) -> coding.Coded:
        if len(measured) == 2 and not (tmp_path / "one" / "rd.csv").exists() and not resumed:
            raise KeyboardInterrupt
        measured.append(1)
        return real(codec, given, *rest)

    monkeypatch.setattr("robustcodec.studies.compare.code", counted)
    resumed: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        compare(ladders(SWEEP), samples(), METRICS, tmp_path / "one")
    resumed.append(1)
    assert len(list((tmp_path / "one" / "points").iterdir())) == 2
    compare(ladders(SWEEP), samples(), METRICS, tmp_path / "one")
    for folder in ("one", "two"):
        rows, failures = compare(ladders(SWEEP), samples(), METRICS, tmp_path / folder)
        paths = curves.write(rows, failures, METRICS, "photos", tmp_path / folder)
    assert len(measured) == 6 + 6
    assert {p.name for p in paths} == {
        "rd.csv", "times.csv", "rd.md", "rd-psnr.png", "rd-psnr.pdf", "rd-ms_ssim.png", "rd-ms_ssim.pdf",
    }  # fmt: skip
    for path in paths:
        if path.name != "times.csv":
            assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), path.name
    compare(ladders(SWEEP), samples(), [*METRICS, registry.metrics.build("linf")], tmp_path / "one")
    assert len(measured) == 18  # a metric that no point has yet


def test_other_pixels_are_another_point(tmp_path: Path) -> None:
    before, _ = compare(ladders(SWEEP), samples(1), METRICS, tmp_path)
    changed = [dataclasses.replace(samples(1)[0], load=lambda: clip(7, 1))]
    after, _ = compare(ladders(SWEEP), changed, METRICS, tmp_path)
    assert (before["psnr"] != after["psnr"]).all()
    for path in (tmp_path / "points").iterdir():
        path.write_text("{")
    with pytest.raises(StoreError, match="remove it and run again"):
        compare(ladders(SWEEP), changed, METRICS, tmp_path)


def test_plots_show_the_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import figure

    made: list[Any] = []
    real = figure.Figure.savefig

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    first = points("x$1$", [0.1, 0.4], [30.0, 33.0], [0.3, 0.2])
    second = points("y", [0.2], [31.0], [0.25])
    paths = curves.plot(pd.concat([first, second]), LPIPS, "photos", tmp_path / "a.png")
    axis = made[0].axes[0]
    assert [p.suffix for p in paths] == [".png", ".pdf"] and paths[1].read_bytes().startswith(b"%PDF")
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "LPIPS, lower is better"
    assert [(line.get_label(), *line.get_xdata(), *line.get_ydata()) for line in axis.lines] == [
        ("x$1$", 0.1, 0.4, 0.3, 0.2), ("y", 0.2, 0.25),
    ]  # fmt: skip


# -- the command -------------------------------------------------------------------------------------------------------


def invoke(*words: str) -> Any:
    from robustcodec.cli.compare import command

    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(2):
        Image.fromarray(clip(i, 1)[0].permute(1, 2, 0).numpy()).save(tmp_path / "in" / f"clip{i}.png")
    return tmp_path


def test_command(folder: Path) -> None:
    common = ["--data", f"folder:{folder / 'in'}", "--codec", "jpeg:quality={10,40,80}", "--out", str(folder / "out")]
    done = invoke(*common, "--ladder", "modern=webp:{10,40,80}", "--json", "--closeup", "clip1", "--at-bpp", "1")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [p["ladder"] for p in found["means"]] == ["jpeg"] * 3 + ["modern"] * 3
    rows = pd.read_csv(folder / "out" / "rd.csv")
    assert rows[rows["codec"] == "webp:10"]["bpp"].mean() == pytest.approx(found["means"][3]["bpp"], rel=1e-5)
    assert found["bd_rate"][0]["ladder"] == "modern" and (folder / "out" / "closeup-clip1-0.png").is_file()
    failed = invoke(*common, "--codec", "webp:quality=999", "--limit", "1")
    assert failed.exit_code == 2 and "failed: codec webp:quality=999" in failed.output
    assert "jpeg:quality=40" in failed.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--codec", "jpeg:10", "--closeup", "clip0"], "--at-bpp"),
        (["--codec", "jpeg:10", "--closeup", "clip9", "--at-bpp", "1"], "clip0, clip1"),
        (["--codec", "jpeg:10", "--frames", "2", "--ladder", "jpeg:10"], "NAME=CODEC"),
        ([], "no codec"),
    ],
)
def test_command_mistakes(folder: Path, words: list[str], message: str) -> None:
    done = invoke("--data", f"folder:{folder / 'in'}", "--out", str(folder / "out"), *words)
    assert isinstance(done.exception, BadParameter) and message in str(done.exception)


def test_failures_alone_are_a_table() -> None:
    rows, _ = compare(ladders(SWEEP), [], METRICS, Path())
    text = curves.markdown(means(rows), [Failure("a|b", "all", "why")], METRICS, "photos")
    assert r"| a\|b | all | why |" in text
