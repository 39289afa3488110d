"""Recompression: chains by hand with numpy and Pillow, fixed points, shifts undone, the grid's attacks, resuming."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustcodec.data._images import write_image
from robustcodec.errors import BadData, BadParameter, StoreError, StreamError, UnknownName
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Card, Codec, Output, Sample
from robustcodec.registry import codecs, data
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store
from robustcodec.scores.metrics import of_every_run
from robustcodec.studies import recompress as recompression
from robustcodec.studies import recompress_report as generations
from robustcodec.studies.compare import Failure, compare
from robustcodec.studies.ladders import Ladder
from robustcodec.studies.recompress import Between, Line, lines, recompress, study

METRICS = of_every_run()
TRAINED = "bmshj2018-factorized.tiny-q1"


def clip(seed: int = 0, height: int = 40, width: int = 56) -> Tensor:
    """A smooth picture with some grain, uint8 (1, 3, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return ((smooth + 0.05 * torch.randn(smooth.shape, generator=rng)).clamp(0, 1) * 255).round().to(torch.uint8)


class Toy(Codec):
    """What :meth:`change` makes of 8-bit values, coded as they are."""

    card = Card("toy", "toy")

    def change(self, values: Tensor) -> Tensor:
        return values

    def forward(self, x: Tensor) -> Output:
        return Output(lambda: self.decompress(self.compress(x)), lambda: torch.full((len(x),), 8.0 * x[0].numel()))

    def compress(self, x: Tensor) -> list[bytes]:
        self.shape = x.shape[1:]
        return [self.change((c * 255).round()).to(torch.uint8).numpy().tobytes() for c in x]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack([torch.frombuffer(bytearray(s), dtype=torch.uint8).view(self.shape) / 255 for s in streams])


class Steps(Toy):
    """Rounds to multiples of 15: coding what it has coded changes nothing."""

    def change(self, values: Tensor) -> Tensor:
        return (values / 15).round() * 15


class Pairs(Toy):
    """The left of every two neighbours counts for both: aligned to even columns."""

    def change(self, values: Tensor) -> Tensor:
        return values[..., ::2].repeat_interleave(2, -1)


class Brighter(Toy):
    """A level brighter each time, until the decoder fails; by ``randomised`` levels that it draws, if it is that."""

    def __init__(self, highest: int, randomised: bool = False) -> None:
        super().__init__()
        self.highest, self.randomised = highest, randomised

    def change(self, values: Tensor) -> Tensor:
        return values + (torch.randint(1, 9, (1,)) if self.randomised else 1)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        out = super().decompress(streams)
        if out.max() * 255 > self.highest + 0.5:
            raise StreamError("too bright")
        return out


def array(picture: Tensor) -> NDArray[np.float64]:
    """As (H, W, 3)."""
    return picture[0].permute(1, 2, 0).numpy().astype(float)


def psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    mse = np.square(one - other).mean() / 255**2
    return 100.0 if mse == 0 else float(-10 * np.log10(mse))


def jpeg(pixels: NDArray[np.float64], quality: int) -> tuple[int, NDArray[np.float64]]:
    """Pillow alone: the size of the file with a comment of 14 letters, and what it decodes to."""
    buffer = io.BytesIO()
    options = {"quality": quality, "subsampling": "4:2:0", "optimize": True, "comment": 14 * "x"}
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", **options)
    return len(buffer.getvalue()), np.asarray(Image.open(buffer)).astype(float)


# -- one chain ---------------------------------------------------------------------------------------------------------


def test_a_fixed_point_after_one_generation() -> None:
    x = clip()
    once = np.round(array(x) / 15) * 15
    chain = recompress(Steps(), x, 4)
    assert len(chain) == 4
    for number, generation in enumerate(chain):
        assert generation.x_hat is not None and np.array_equal(array(generation.x_hat), once)
        assert generation.scores["psnr"] == pytest.approx(psnr(array(x), once), abs=1e-4)
        assert generation.previous_psnr == pytest.approx(100 if number else psnr(array(x), once), abs=1e-4)
        assert generation.bytes == x.numel() and generation.bpp == pytest.approx(24)


def test_jpeg_over_three_generations_by_pillow() -> None:
    source = previous = now = array(clip(1))
    for generation in recompress(codecs.build("jpeg:quality=20"), clip(1), 3):
        size, now = jpeg(now, 20)
        assert generation.bytes == size and generation.bpp == pytest.approx(8 * size / (40 * 56))
        assert generation.x_hat is not None and np.array_equal(array(generation.x_hat), now)
        assert generation.scores["psnr"] == pytest.approx(psnr(source, now), abs=1e-4)
        assert generation.previous_psnr == pytest.approx(psnr(previous, now), abs=1e-3)
        previous = now


def test_shift_and_format_between_generations_by_pillow() -> None:
    source = now = array(clip(2))
    for number, generation in enumerate(recompress(codecs.build("jpeg:quality=30"), clip(2), 3, "shift:-5,3")):
        size, now = jpeg(np.roll(now, (3, -5), (0, 1)) if number else now, 30)
        back = np.roll(now, (-3 * number, 5 * number), (0, 1))
        assert generation.bytes == size
        assert generation.scores["psnr"] == pytest.approx(psnr(source, back), abs=1e-4)
    now = source
    for number, generation in enumerate(recompress(codecs.build("jpeg:quality=30"), clip(2), 3, "jpeg:80")):
        size, now = jpeg(jpeg(now, 80)[1] if number else now, 30)
        assert generation.bytes == size
        assert generation.scores["psnr"] == pytest.approx(psnr(source, now), abs=1e-4)


def test_a_shift_is_undone_exactly_and_changes_the_alignment() -> None:
    x = clip()
    for generation in recompress(Toy(), x, 4, "shift:7,-30"):
        assert generation.x_hat is not None and torch.equal(generation.x_hat, x)
        assert generation.scores["psnr"] == generation.previous_psnr == 100
    aligned, moved = (recompress(Pairs(), x, 2, between) for between in ("shift:2,1", "shift:1,0"))
    assert [g.previous_psnr for g in aligned][1] == 100 > moved[1].previous_psnr
    pairs = np.repeat(array(x)[:, ::2], 2, 1)
    odd = np.roll(np.repeat(np.roll(pairs, 1, 1)[:, ::2], 2, 1), -1, 1)
    assert moved[1].x_hat is not None and np.array_equal(array(moved[1].x_hat), odd)


def test_scores_are_against_the_source() -> None:
    other = clip(5)
    (generation,) = recompress(Toy(), other, 1, source=clip())
    assert generation.scores["psnr"] == pytest.approx(psnr(array(other), array(clip())), abs=1e-4)
    assert generation.previous_psnr == 100


def test_a_decoder_that_fails_ends_the_chain() -> None:
    x = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    chain = recompress(Brighter(102), x, 5)
    assert [g.failure for g in chain] == [None, None, "StreamError: too bright"]
    assert chain[2].x_hat is None and math.isnan(chain[2].scores["psnr"]) and chain[2].bytes == x.numel()


def test_every_generation_has_a_draw_of_its_own() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    found = [recompress(Brighter(255, randomised=True), x, 6, seed=seed) for seed in (3, 3, 4)]
    levels = [[int(g.x_hat.max()) for g in chain if g.x_hat is not None] for chain in found]
    assert levels[0] == levels[1] and len(set(np.diff([0, *levels[0]]))) > 1
    assert np.diff(levels[0]).tolist()[:4] == np.diff([0, *levels[2]]).tolist()[:4]  # seed + 1 is one generation later


@pytest.mark.parametrize(
    ("between", "error", "message"),
    [
        ("shift:3", BadParameter, "shift:DX,DY"),
        ("shift:a,b", BadParameter, "shift:3,5"),
        ("jpg:90", UnknownName, "jpeg"),
        ("jpeg:0", BadParameter, "quality"),
    ],
)
def test_between_that_cannot_be(between: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Between.parse(between)


def test_mistakes() -> None:
    with pytest.raises(BadParameter, match="at least 1"):
        recompress(Toy(), clip(), 0)
    with pytest.raises(BadData, match="uint8"):
        recompress(Toy(), clip() / 255)
    with pytest.raises(BadData, match="source"):
        recompress(Toy(), clip(), source=clip(0, 40, 40))


# -- a study -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A data set of two pictures."""
    (tmp_path / "in").mkdir()
    for i in range(2):
        write_image(clip(i), tmp_path / "in" / f"clip{i}.png")
    return f"folder:{tmp_path / 'in'}"


def samples(source: str) -> list[Sample]:
    found: list[Sample] = data.build(source).samples()
    return found


def run(
    out: Path, source: str, of: Sequence[Line], count: int = 3, between: Sequence[str] = ("none",), **options: Any
) -> tuple[pd.DataFrame, list[Failure]]:
    metrics = options.get("metrics", METRICS)
    return study(of, between, samples(source), count, metrics, out, Runner(Store(out / "run")))


def test_the_first_generation_is_that_of_compare(tmp_path: Path, folder: str) -> None:
    names = ("jpeg:quality=30", TRAINED)
    rows, failures = run(tmp_path / "a", folder, lines(names, ["none"]), 2)
    expected, _ = compare([Ladder("all", names)], samples(folder), METRICS, tmp_path / "b")
    first = rows[rows["generation"] == 1]
    assert not failures and len(rows) == 8
    assert first[["codec", "sample"]].to_numpy().tolist() == expected[["codec", "clip"]].to_numpy().tolist()
    for score in ("bytes", "bpp", "psnr", "ms_ssim"):
        assert np.array_equal(first[score], expected[score], equal_nan=True), score
    assert (rows["input_psnr"] == 100).all()


def test_the_first_generation_is_that_of_the_grid(tmp_path: Path, folder: str) -> None:
    """Clean and attacked, through a defense that draws."""
    cell = Cell(TRAINED, "pgd:steps=2", defense="resize", access="adaptive:draws=1", data=folder)
    store = Store(tmp_path / "grid")
    Runner(store).run([cell])
    grid = store.frame([cell])
    rows, failures = run(tmp_path / "a", folder, lines([TRAINED], ["resize"], [cell]), 2)
    assert not failures and rows["first"].unique().tolist() == [
        "clean", "pgd:steps=2, distortion @ psnr:40, adaptive:draws=1",
    ]  # fmt: skip
    first = rows[rows["generation"] == 1]
    clean, attacked = first[first["first"] == "clean"], first[first["first"] != "clean"]
    for score in ("bpp", "psnr"):
        assert clean[score].tolist() == grid[score].tolist()
        assert attacked[score].tolist() == grid[f"adv_{score}"].tolist()
    assert attacked["input_psnr"].tolist() == grid["input_psnr"].tolist()
    assert (rows[rows["generation"] == 2]["previous_psnr"] < 60).all()  # another draw, another size
    again = Runner(store)
    rows, _ = study([Line(TRAINED, "resize", cell)], ["none"], samples(folder), 2, METRICS, tmp_path / "b", again)
    assert again.clips == 0 and rows[rows["generation"] == 1]["psnr"].tolist() == grid["adv_psnr"].tolist()


def test_interrupted_extended_and_repeated(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = recompression.recompress

    def counted(codec: Codec, given: Tensor, wanted: int, *rest: Any) -> list[recompression.Generation]:
        if len(asked) == 1 and not resumed:
            raise KeyboardInterrupt
        asked.append(wanted)
        return real(codec, given, wanted, *rest)

    monkeypatch.setattr(recompression, "recompress", counted)
    resumed: list[int] = []
    of, between = lines([f"jpeg:{q}" for q in (20, 60)], ["none"]), ("none", "shift:1,0")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "one", folder, of, 3, between)
    assert len(list((tmp_path / "one" / "points").iterdir())) == 1
    resumed.append(1)
    for name in ("one", "two", "one"):
        rows, failures = run(tmp_path / name, folder, of, 3, between)
        paths = generations.write(rows, failures, METRICS, folder, tmp_path / name)
    assert asked == [3] * 16 and [p.name for p in paths] == [
        "recompression.csv", "recompression.md", "recompression.png",
    ]  # fmt: skip
    for path in paths:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    longer, _ = run(tmp_path / "one", folder, of, 5, between)
    assert asked[16:] == [5] * 8
    pd.testing.assert_frame_equal(longer[longer["generation"] <= 3].reset_index(drop=True), rows)
    more = of_every_run(["linf"])
    scored, _ = run(tmp_path / "one", folder, of, 2, between, metrics=more)
    assert asked[24:] == [5] * 8 and scored["linf"].gt(0).all()
    assert run(tmp_path / "one", folder, of, 5, between)[0].equals(longer) and len(asked) == 32
    next((tmp_path / "one" / "points").iterdir()).write_text("{")
    with pytest.raises(StoreError, match="remove it and run again"):
        run(tmp_path / "one", folder, of, 3, between)


def test_one_failure_costs_nothing_else(tmp_path: Path, folder: str) -> None:
    cell = Cell("jpeg:quality=40", "pgd", data=folder)
    (tmp_path / "in" / "clip1.png").write_bytes(b"no picture")
    names = ["jpeg:quality=101", "jpeg:quality=40"]
    rows, failures = run(tmp_path / "a", folder, lines(names, ["none"], [cell]))
    assert [(f.codec, f.clip) for f in failures] == [
        ("jpeg:quality=101, clean", "all"),
        ("jpeg:quality=40, clean", "clip1"),
        ("jpeg:quality=40, pgd, distortion @ psnr:40, oblivious", "all"),
    ]
    assert "clip1.png is not an image" in failures[2].reason  # a cell needs all of its samples
    assert rows["sample"].tolist() == ["clip0"] * 3
    with pytest.raises(UnknownName):
        run(tmp_path / "b", folder, lines(["jpg"], ["none"]))
    with pytest.raises(UnknownName):
        run(tmp_path / "b", folder, lines(["jpeg"], ["nine"]))


# -- tables ------------------------------------------------------------------------------------------------------------


def table(**scores: list[float]) -> pd.DataFrame:
    """Two samples, two generations, of one line; b has none of the second picture."""
    shared = {"codec": "c|d", "defense": "none", "first": "clean", "between": "none"}
    frame = pd.DataFrame({"sample": ["a", "a", "b", "b"], "generation": [1, 2, 1, 2], "bytes": 9, **scores})
    return frame.assign(**shared)[[*shared, *frame.columns]]


def test_means_are_of_all_samples_or_of_none() -> None:
    nan = float("nan")
    scores = {"bpp": [1.0, 2.0, 3.0, 6.0], "psnr": [30.0, 29.0, 20.0, nan], "ms_ssim": [nan] * 4}
    rows = table(**scores, previous_psnr=[30.0, 40.0, 20.0, nan], input_psnr=[100.0] * 4)
    points = generations.means(rows)
    assert points["bpp"].tolist() == [2, 4] and points["psnr"].tolist()[0] == 25 and math.isnan(points["psnr"][1])
    text = generations.markdown(rows, [Failure("c|d, clean", "b", "why")], METRICS, "photos")
    assert r"| c\|d, clean | 25.00 | – |" in text and r"| c\|d, clean | 2.0000 | 4.0000 |" in text
    assert r"| c\|d, clean | b | why |" in text
    assert generations.means(rows[rows.index != 3])["generation"].tolist() == [1]


def test_tables_show_some_generations() -> None:
    assert generations.shown(1) == [1] and generations.shown(4) == [1, 2, 3, 4]
    assert generations.shown(10) == [1, 2, 3, 5, 10] and generations.shown(60) == [1, 2, 3, 5, 10, 20, 50, 60]


def test_the_plot_has_a_line_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import figure

    made: list[Any] = []
    real = figure.Figure.savefig

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    nan = float("nan")
    scores = {"bpp": [1.0, 2.0, 3.0, 6.0], "psnr": [30.0, 29.0, 20.0, 19.0], "ms_ssim": [nan] * 4}
    rows = table(**scores, previous_psnr=[30.0] * 4, input_psnr=[100.0] * 4)
    rows = pd.concat([rows, rows.assign(first="pgd"), rows.assign(between="jpeg:90")])
    generations.plot(generations.means(rows), METRICS, "photos", tmp_path / "a.png")
    axes = made[0].axes
    assert [axis.get_ylabel() for axis in axes] == ["PSNR (dB)", "", "bits per pixel (real bytes)", ""]
    assert [len(axis.lines) for axis in axes] == [2, 1, 2, 1]
    assert list(axes[0].lines[0].get_xdata()) == [1, 2] and list(axes[0].lines[0].get_ydata()) == [25, 24]
    assert [line.get_linestyle() for line in axes[2].lines] == ["-", "--"]


def test_nothing_measured(tmp_path: Path) -> None:
    rows, failures = run(tmp_path, "photos", [])
    paths = generations.write(rows, [Failure("a", "all", "why")], METRICS, "photos", tmp_path)
    assert rows.empty and not failures and [p.name for p in paths] == ["recompression.csv", "recompression.md"]
    assert "| a | all | why |" in paths[1].read_text()
