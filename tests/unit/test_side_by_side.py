"""An attacked clip as a video: what each panel holds, and that the files can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from robustcodec.data._video import frame_rate, read_video, write_mp4
from robustcodec.errors import BadData, StoreError
from robustcodec.reporting._drawing import GAP
from robustcodec.reporting.side_by_side import frames, side_by_side


def clips(count: int = 3, height: int = 32, width: int = 300) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    names = ("original", "adversarial", "clean", "attacked")
    return {n: torch.randint(0, 256, (count, 3, height, width), generator=rng).to(torch.uint8) for n in names}


def panels(sheet: Tensor, height: int, width: int) -> list[Tensor]:
    """The six panels of a sheet, by their distance from its lower right corner of one gap and what is even."""
    step = (sheet.shape[-2] - 3 * GAP - 2 * height) // 2
    places = [(row, column) for row in range(2) for column in range(3)]
    tops = [GAP + row * (step + height + GAP) + step for row, _ in places]
    lefts = [GAP + column * (width + GAP) for _, column in places]
    return [sheet[..., t : t + height, x : x + width] for t, x in zip(tops, lefts, strict=True)]


def test_panels_hold_the_pixels() -> None:
    given = clips()
    sheet = frames(given)
    assert sheet.dtype == torch.uint8 and len(sheet) == 3 and not any(side % 2 for side in sheet.shape[-2:])
    changes = [
        (128 + 10 * (given[a].int() - given[b].int())).clamp(0, 255)
        for a, b in (("adversarial", "original"), ("attacked", "clean"))
    ]
    expected = [given["original"], given["adversarial"], changes[0], given["clean"], given["attacked"], changes[1]]
    for seen, wanted in zip(panels(sheet, 32, 300), expected, strict=True):
        assert torch.equal(seen.int(), wanted.int())


def test_small_frames_are_enlarged_and_large_ones_averaged() -> None:
    small = clips(1, 20, 90)
    seen = panels(frames(small), 60, 270)[0]
    assert torch.equal(seen, small["original"].repeat_interleave(3, 2).repeat_interleave(3, 3))
    large = clips(1, 20, 1290)
    wanted = large["original"][:, :, :18].double().reshape(1, 3, 6, 3, 430, 3).mean((3, 5))
    assert torch.equal(panels(frames(large), 6, 430)[0].double(), wanted.round())


def test_labels_hold_the_psnr_of_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []
    real = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: tuple[float, float], line: str, fill: str, font: object) -> None:
        noted.append(line)
        left, top, right, bottom = self.textbbox(xy, line, font)  # type: ignore[arg-type]
        assert right - left <= 300 and bottom <= xy[1] + 40
        real(self, xy, line, fill, font)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    given = clips(2)
    frames(given)
    for t, labels in enumerate((noted[:6], noted[6:])):
        for label, name in zip((labels[1], labels[3], labels[4]), ("adversarial", "clean", "attacked"), strict=True):
            mse = (given[name][t].double() - given["original"][t].double()).square().mean() / 255**2
            assert label.endswith(f"  {-10 * float(mse.log10()):.1f} dB")
    del given["attacked"]
    noted.clear()
    sheet = frames(given)
    assert noted[4] == "attacked: could not be decoded"
    assert all((panel == 128).all() for panel in panels(sheet, 32, 300)[4:])


def test_files_can_be_read_again(tmp_path: Path) -> None:
    given = clips(5, 33, 61)
    paths = side_by_side(given, tmp_path / "new", "a clip", fps=12.5)
    assert [p.name for p in paths] == ["a clip.mp4", "a clip.webp"]
    sheet, back = frames(given), read_video(paths[0])
    assert back.shape == sheet.shape and frame_rate(paths[0]) == 12.5
    error = (back.double() - sheet).square().mean() / 255**2
    assert -10 * float(error.log10()) > 18  # noise, in 4:2:0: the panels are where they were
    with Image.open(paths[1]) as preview:
        assert preview.n_frames == 5 and preview.width <= 960  # type: ignore[attr-defined]
        assert preview.width / preview.height == pytest.approx(sheet.shape[-1] / sheet.shape[-2], rel=0.01)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a clip.mp4", "a clip.webp"]


def test_other_clips_and_folders(tmp_path: Path) -> None:
    given = clips(2)
    for name, wrong in (("clean", given["clean"][:1]), ("adversarial", given["clean"].float())):
        with pytest.raises(BadData, match=f"the clip '{name}'"):
            frames(given | {name: wrong})
    with pytest.raises(BadData, match="nothing was given as the clip 'clean'"):
        frames({"original": given["original"], "adversarial": given["adversarial"]})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        side_by_side(given, tmp_path / "file", "a")


def test_a_video_is_the_same_bytes_every_time(photo: Tensor, tmp_path: Path) -> None:
    """With its AVX-512 code, x264 reads memory that nobody wrote."""
    moving = torch.cat([photo.roll(t, -1) for t in range(8)]).repeat(1, 1, 3, 4)[..., :718, :1008]
    written = set[bytes]()
    for i in range(10):
        dirt = [torch.rand(777 + 1000 * i, 1000) for _ in range(3)]
        write_mp4(moving, tmp_path / "clip.mp4")
        del dirt
        written.add((tmp_path / "clip.mp4").read_bytes())
    assert len(written) == 1
