"""Pictures, pixel by pixel where a pixel means something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from robustcodec.errors import BadData, StoreError
from robustcodec.reporting._drawing import GAP, font_of
from robustcodec.reporting.pictures import (
    Captions,
    drift_plot,
    panel,
    rate_distortion_plot,
    vulnerability_heatmap,
)

CAPTIONS = Captions("hyperprior.q2", "jpeg:quality=30", "pgd:steps=50", "linf:8/255", 30.125, 0.5, 21.5, 0.625)


def clips(height: int, width: int, frames: int = 1) -> list[Tensor]:
    """Original, attacked and the two reconstructions; the perturbation stays within 8 grey levels."""
    rng = torch.Generator().manual_seed(0)
    original, clean, broken = (
        torch.randint(0, 256, (frames, 3, height, width), generator=rng).to(torch.uint8) for _ in range(3)
    )
    delta = torch.randint(-8, 9, original.shape, generator=rng)
    return [original, (original + delta).clamp(0, 255).to(torch.uint8), clean, broken]


def read(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def first(clip: Tensor) -> NDArray[np.int64]:
    return clip[0].permute(1, 2, 0).numpy().astype(np.int64)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def region(sheet: NDArray[np.int64], column: int, height: int, width: int) -> NDArray[np.int64]:
    """The pixels of one panel, found by its place from the left; its top is where the first panel's pixels start."""
    left = GAP + column * (width + GAP)
    top = next(y for y in range(len(sheet)) if (sheet[y, GAP : GAP + width] < 250).any(1).mean() > 0.9)
    return sheet[top : top + height, left : left + width]


@pytest.mark.parametrize(("height", "width", "factor"), [(40, 60, 5), (30, 256, 1), (33, 255, 2), (20, 300, 1)])
def test_panels_hold_the_pixels(tmp_path: Path, height: int, width: int, factor: int) -> None:
    original, adversarial, clean, broken = clips(height, width)
    sheet = read(panel(original, adversarial, clean, broken, CAPTIONS, tmp_path / "a.png"))
    assert sheet.shape[1] == 4 * factor * width + 5 * GAP
    noise = np.clip(128 + 10 * (first(adversarial) - first(original)), 0, 255)
    for column, expected in enumerate([first(original), noise, first(clean), first(broken)]):
        seen = region(sheet, column, factor * height, factor * width)
        np.testing.assert_array_equal(seen, expected.repeat(factor, 0).repeat(factor, 1))


def test_the_first_frame_is_shown(tmp_path: Path) -> None:
    clip = clips(32, 64, frames=3)
    image = [c[:1] for c in clip]
    one = panel(clip[0], clip[1], clip[2], clip[3], CAPTIONS, tmp_path / "clip.png")
    two = panel(image[0], image[1], image[2], image[3], CAPTIONS, tmp_path / "image.png")
    assert one.read_bytes() == two.read_bytes()


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, ...]]]:
    """Lines of text with the boxes their glyphs fill, noted while the real drawing goes on."""
    noted: list[tuple[str, tuple[float, ...]]] = []
    real = ImageDraw.ImageDraw.text

    def text(self: Any, xy: tuple[float, float], line: str, fill: str, font: Any) -> None:
        noted.append((line, self.textbbox(xy, line, font)))
        real(self, xy, line, fill, font)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return noted


LONG = Captions(
    "a-very-long-family-name-of-a-codec.with-a-tag-that-never-ends", "chain:" + "jpeg+flip+" * 12,
    "pgd:" + "steps=50,step_size=0.2,restarts=10,momentum=0.9," * 3, "linf:8/255", 30.0, 123456.789, -100.25, 654321.0,
)  # fmt: skip


@pytest.mark.parametrize("captions", [CAPTIONS, LONG])
@pytest.mark.parametrize("width", [40, 256, 700])
def test_text_is_whole_and_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, captions: Captions, width: int
) -> None:
    noted = drawn(monkeypatch)
    original, adversarial, clean, broken = clips(24, width)
    total, height = size(panel(original, adversarial, clean, broken, captions, tmp_path / "a.png"))
    panel_width = (total - 5 * GAP) // 4
    words = "".join(line for line, _ in noted).replace(" ", "")
    assert words.startswith(captions.title.replace(" ", ""))
    assert f"{captions.psnr:.2f}dB,{captions.bpp:.3f}bpp" in words
    assert f"{captions.adv_psnr:.2f}dB,{captions.adv_bpp:.3f}bpp" in words
    title_lines = next(i for i, (line, _) in enumerate(noted) if line == "original")
    for i, (line, (left, top, right, bottom)) in enumerate(noted):
        assert 0 <= left and 0 <= top and right <= total and bottom <= height, line
        assert i < title_lines or right - left <= panel_width, line
        for other, (left2, top2, right2, bottom2) in noted[i + 1 :]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, (line, other)


def test_the_font_has_every_letter_of_the_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = drawn(monkeypatch)
    original, adversarial, clean, _ = clips(24, 300)
    panel(original, adversarial, clean, None, CAPTIONS, tmp_path / "a.png")
    font = font_of(20)
    missing = bytes(font.getmask("\uffff"))
    for letter in sorted(set("".join(line for line, _ in noted)) - {" "}):
        assert bytes(font.getmask(letter)) != missing, letter


def test_a_failed_decode_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = drawn(monkeypatch)
    original, adversarial, clean, _ = clips(24, 300)
    sheet = read(panel(original, adversarial, clean, None, CAPTIONS, tmp_path / "a.png"))
    assert (region(sheet, 3, 24, 300) == 128).all()
    assert "could not be decoded, 0.625 bpp" in [line for line, _ in noted]


def test_panel_refuses_other_clips(tmp_path: Path) -> None:
    original, adversarial, clean, broken = clips(24, 30)
    for wrong in (broken.float(), broken[..., :-1], broken[None], broken[:, :1]):
        with pytest.raises(BadData, match="uint8"):
            panel(original, adversarial, clean, wrong, CAPTIONS, tmp_path / "a.png")
    with pytest.raises(StoreError, match="cannot write"):
        panel(original, adversarial, clean, broken, CAPTIONS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two codecs, one of them also defended; ``noise`` was not run on the second."""
    lines = []
    for codec, defense, access in (("a$x$", "none", "oblivious"), ("a$x$", "jpeg", "adaptive"), ("b", "none", "x")):
        for attack, vi in (("noise", 1.0), ("pgd", 12.0)):
            for sample in "12":
                lines.append(
                    dict.fromkeys(["ms_ssim", "delta_psnr", "delta_own_psnr", "rate_ratio", "decode_failed"], 0.0)
                    | {"damage": 0.01, "broken": 1.0, "break_db": 36.0, "queries": 9}
                    | {"input_psnr": 36.0, "input_linf": 8.0, "objective": "distortion", "data": "photos", "seed": 0}
                    | {"cell": f"{codec}{defense}{attack}", "codec": codec, "defense": defense, "access": access}
                    | {"attack": attack, "sample": sample, "threat": "linf:8/255", "warnings": "", "vi_db": vi}
                    | {"bpp": 0.5, "psnr": 30.0, "adv_bpp": 0.5 + vi / 100, "adv_psnr": 30 - vi}
                )
    frame = pd.DataFrame(lines)
    return frame[(frame["codec"] != "b") | (frame["attack"] != "noise")]


@pytest.mark.parametrize("draw", [rate_distortion_plot, vulnerability_heatmap])
def test_plots_are_the_same_bytes_again(rows: pd.DataFrame, tmp_path: Path, draw: Any) -> None:
    one, two = draw(rows, tmp_path / "1.png"), draw(rows[::-1], tmp_path / "2.png")
    assert one.read_bytes() == two.read_bytes()
    assert size(one)[0] >= 400
    changed = rows.assign(vi_db=rows["vi_db"] * rows["bpp"].mul(3), adv_psnr=rows["adv_psnr"] - 3)
    changed.loc[changed.index[0], ["vi_db", "adv_psnr"]] = [30.0, 5.0]
    assert draw(changed, tmp_path / "3.png").read_bytes() != one.read_bytes()


@pytest.mark.parametrize("draw", [rate_distortion_plot, vulnerability_heatmap])
def test_no_rows_is_a_picture(tmp_path: Path, draw: Any) -> None:
    assert size(draw(pd.DataFrame(), tmp_path / "none.png")) == (480, 180)


def test_plot_ignores_the_users_style(rows: pd.DataFrame, tmp_path: Path) -> None:
    import matplotlib

    usual = rate_distortion_plot(rows, tmp_path / "1.png").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert rate_distortion_plot(rows, tmp_path / "2.png").read_bytes() == usual
        assert matplotlib.rcParams["font.size"] == 30


def figure_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures as they are made."""
    from matplotlib import figure

    made: list[Any] = []
    real = figure.Figure.savefig

    def savefig(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        real(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    return made


def test_heatmap_cells(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = figure_of(monkeypatch)
    vulnerability_heatmap(rows, tmp_path / "a.png")
    axis = made[0].axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["a$x$", "a$x$ + jpeg (adaptive)", "b"]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["noise, linf:8/255", "pgd, linf:8/255"]
    cells = {t.get_position(): (t.get_text(), t.get_color()) for t in axis.texts}
    assert cells[(0, 0)] == ("1.0", "white") and cells[(0, 1)] == ("12.0", "black") and cells[(2, 0)] == ("–", "black")


def test_arrows_go_from_clean_to_attacked(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = figure_of(monkeypatch)
    rate_distortion_plot(rows, tmp_path / "a.png")
    (axis,) = made[0].axes
    arrows = [t for t in axis.texts if not t.get_text()]
    assert {t.xyann for t in arrows} == {(0.5, 30.0)}
    assert [t.xy for t in arrows] == [(0.62, 18.0)] * 3  # the worst of each victim
    faint = [line.get_xydata()[:-1].tolist() for line in axis.lines if line.get_alpha() and len(line.get_xdata())]
    assert faint == [[[0.5, 30.0], [0.51, 29.0]]] * 2  # to what another attack alone does to the first codec
    legend = [t.get_text() for t in made[0].legends[0].get_texts()]
    assert legend == ["1  a$x$", "2  b", "no defense", "jpeg, adaptive", "full: clean", "hollow: attacked"]
    numbers = [t.get_text() for t in axis.texts if t.get_text()]
    assert numbers == ["1", "1", "2"]


@pytest.fixture
def curves() -> pd.DataFrame:
    """Two codecs; ``pgd`` on the first loses 6, 4 and 2 dB on one clip and 4, 2 dB on a shorter one."""
    lines = []
    for codec, attack, sample, losses in (
        ("a$x$", "pgd", "1", [6.0, 4.0, 2.0]),
        ("a$x$", "pgd", "2", [4.0, 2.0]),
        ("a$x$", "noise", "1", [1.0, 0.5, 0.0]),
        ("b", "pgd", "1", [3.0, 3.0, float("nan")]),
    ):
        for frame, loss in enumerate(losses):
            lines.append(
                {"codec": codec, "defense": "none", "access": "oblivious", "attack": attack, "threat": "psnr:40"}
                | {"objective": "distortion", "data": "clips", "seed": 0, "sample": sample, "frame": frame}
                | {"psnr": 30.0 + frame, "adv_psnr": 30.0 + frame - loss}
            )
    return pd.DataFrame(lines)


def test_drift_lines_are_means_over_clips(
    curves: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = figure_of(monkeypatch)
    drift_plot(curves, tmp_path / "a.png")
    assert [axis.get_title() for axis in made[0].axes] == ["a$x$", "b"]
    shown = [
        [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines if line.get_marker() != "None"]
        for axis in made[0].axes
    ]
    assert shown == [[([0, 1, 2], [1.0, 0.5, 0.0]), ([0, 1, 2], [5.0, 3.0, 2.0])], [([0, 1], [3.0, 3.0])]]
    assert [t.get_text() for t in made[0].legends[0].get_texts()] == ["noise", "pgd"]
    colours = [[line.get_color() for line in axis.lines if line.get_marker() != "None"] for axis in made[0].axes]
    assert colours[0][1] == colours[1][0] != colours[0][0]


def test_drift_under_several_threats_is_not_averaged(
    curves: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = figure_of(monkeypatch)
    drift_plot(pd.concat([curves, curves.assign(threat="psnr:30", adv_psnr=0.0)]), tmp_path / "a.png")
    legend = [t.get_text() for t in made[0].legends[0].get_texts()]
    assert legend == ["noise, psnr:30", "noise, psnr:40", "pgd, psnr:30", "pgd, psnr:40"]


def test_drift_is_the_same_bytes_again(curves: pd.DataFrame, tmp_path: Path) -> None:
    one, two = drift_plot(curves, tmp_path / "1.png"), drift_plot(curves[::-1], tmp_path / "2.png")
    assert one.read_bytes() == two.read_bytes()
    many = pd.concat([curves.assign(codec=f"codec{i}") for i in range(5)])
    assert size(drift_plot(many, tmp_path / "3.png"))[0] > size(one)[0]
    assert size(drift_plot(pd.DataFrame(), tmp_path / "none.png")) == (480, 180)
