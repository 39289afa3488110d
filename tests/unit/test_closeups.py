"""Close-ups, pixel by pixel where a pixel means something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustcodec.coding import code, judged
from robustcodec.errors import BadData
from robustcodec.interfaces import Sample
from robustcodec.scores.metrics import of_every_run
from robustcodec.spec import expand
from robustcodec.studies.compare import compare
from robustcodec.studies.compare_closeups import BOX_COLOUR, Box, Picture, closeup, hardest, nearest, of_clip
from robustcodec.studies.ladders import ladders


def noise(seed: int, height: int = 60, width: int = 90) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=rng).to(torch.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def places(sheet: NDArray[np.uint8], block: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Where ``block`` is in ``sheet``, pixel for pixel."""
    height, width = block.shape[:2]
    starts = np.argwhere((sheet[: 1 - height or None, : 1 - width or None] == block[0, 0]).all(2))
    return [(int(y), int(x)) for y, x in starts if np.array_equal(sheet[y : y + height, x : x + width], block)]


@pytest.mark.parametrize("codecs", [1, 2, 5])
def test_crops_are_the_very_pixels(tmp_path: Path, codecs: int) -> None:
    box = Box(10, 20, 40, 16)
    frames = [noise(i) for i in range(codecs + 1)]
    pictures = [Picture(frame, [f"codec {i}", "0.1 bpp"]) for i, frame in enumerate(frames)]
    sheet = read(closeup(pictures[0], pictures[1:], "a title", tmp_path / "a.png", box))
    found = []
    for frame in frames:
        crop = frame[:, 20:36, 10:50].permute(1, 2, 0).numpy()
        (place,) = places(sheet, crop.repeat(8, 0).repeat(8, 1))
        found.append(place)
    assert found == sorted(found) and len({y for y, _ in found}) == (1 if codecs < 4 else 2)


def test_the_box_is_drawn_around_the_region(tmp_path: Path) -> None:
    frame = torch.zeros(3, 200, 200, dtype=torch.uint8)
    sheet = read(closeup(Picture(frame, []), [Picture(frame, [])], "", tmp_path / "a.png", Box(50, 100, 40, 40)))
    colour = [int(BOX_COLOUR[i : i + 2], 16) for i in (1, 3, 5)]
    ys, xs = np.nonzero((sheet == colour).all(2))
    scale = 320 / 200  # one row of crops of 40 x 8 pixels
    left, top = np.argwhere((sheet == 0).all(2))[0][::-1]
    assert (xs.min() - left, xs.max() - left) == (50 * scale - 3, 90 * scale + 2)
    assert (ys.min() - top, ys.max() - top) == (100 * scale - 3, 140 * scale + 2)


def test_the_hardest_region_by_brute_force() -> None:
    original = noise(0, 64, 96)
    rng = torch.Generator().manual_seed(1)
    decoded = []
    for scale in (2, 40):  # the second codec is far worse, and errs elsewhere
        change = torch.randint(-scale, scale + 1, original.shape, generator=rng)
        change[:, 30:50, 40:70] *= 2
        decoded.append((original.int() + change).clamp(0, 255).to(torch.uint8))
    box = hardest(original, decoded)
    errors = [(d.double() - original).square().mean(0).numpy() for d in decoded]
    share = sum(e / e.mean() for e in errors)
    windows = np.lib.stride_tricks.sliding_window_view(share, (16, 24)).mean((2, 3))
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    assert box == Box(int(left), int(top), 24, 16)


def test_hardest_of_small_and_equal_frames() -> None:
    assert hardest(noise(0, 10, 100), [noise(0, 10, 100)]) == Box(0, 0, 25, 10)


def test_nearest_is_by_ratio() -> None:
    rows = pd.DataFrame({"ladder": list("bbaa"), "bpp": [0.02, 0.3, 0.5, 0.05], "codec": list("1234")})
    assert nearest(rows, 0.1)["codec"].tolist() == ["2", "4"]
    assert nearest(rows, 0.07)["codec"].tolist() == ["1", "4"]


def test_mistakes(tmp_path: Path) -> None:
    for text in ("1,2,3", "a,b,c,d", "-1,0,5,5", "1.5,0,5,5"):
        with pytest.raises(BadData, match="LEFT,TOP"):
            Box.parse(text)
    assert Box.parse("1, 2,3,4") == Box(1, 2, 3, 4)
    one = Picture(noise(0), [])
    for box in (Box(80, 0, 11, 5), Box(0, 0, 0, 5), Box(0, 56, 5, 5)):
        with pytest.raises(BadData, match="90x60"):
            closeup(one, [one], "", tmp_path / "a.png", box)
    for wrong in (noise(0, 60, 91), noise(0).float(), noise(0)[None]):
        with pytest.raises(BadData, match="uint8"):
            closeup(one, [Picture(wrong, [])], "", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_of_a_measured_clip(tmp_path: Path) -> None:
    """The codec nearest in rate is decoded again, and the frame asked for is shown."""
    clip = torch.stack([noise(i) for i in range(3)])
    sample = Sample("a/clip", lambda: clip)
    metrics = of_every_run()
    rows, _ = compare(ladders(expand("jpeg:quality={5,90}")), [sample], metrics, tmp_path)
    low, high = rows["bpp"]
    assert low < high
    box = Box(0, 0, 40, 20)
    path = of_clip(rows, sample, 2, 1.05 * high, metrics, tmp_path, box)
    assert path.name == "closeup-a_clip-2.png"
    shown = code(judged("jpeg:quality=90"), clip).decoded()[2]
    for frame in (clip[2], shown):
        crop = frame[:, :20, :40].permute(1, 2, 0).numpy()
        assert len(places(read(path), crop.repeat(8, 0).repeat(8, 1))) == 1
    again = of_clip(rows, sample, 2, 1.05 * high, metrics, tmp_path / "again", box)
    assert again.read_bytes() == path.read_bytes()
    assert of_clip(rows, sample, None, high, metrics, tmp_path).name == "closeup-a_clip-1.png"
    with pytest.raises(BadData, match="0 to 2"):
        of_clip(rows, sample, 3, high, metrics, tmp_path)
    with pytest.raises(BadData, match="nothing could be measured"):
        of_clip(rows[:0], sample, 0, high, metrics, tmp_path)
