"""Synthetic motion: against scipy's interpolation, inside the photo, different per key and the same per key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from robustcodec.clips import checksum
from robustcodec.data import motion
from robustcodec.data._images import write_image
from robustcodec.errors import BadData, BadParameter
from robustcodec.registry import data


@pytest.fixture(scope="module")
def smooth() -> Tensor:
    """A picture of low frequencies, float64 (1, 90, 110) in 0–255."""
    y, x = np.mgrid[:90, :110]
    return torch.from_numpy(128 + 60 * np.sin(x / 9 + 0.5) * np.cos(y / 11) + 50 * np.cos((x - 2 * y) / 17))[None]


def spread(**values: list[float]) -> dict[str, Tensor]:
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()}


def test_sub_pixel_pan_is_scipys_shift(smooth: Tensor) -> None:
    dx, dy = [0.0, 0.3, 0.75, 1.5], [0.0, -0.6, 0.25, -2.2]
    centre = spread(x=[40.5 + d for d in dx], y=[35.5 + d for d in dy], angle=[0.0] * 4, scale=[1.0] * 4)
    views = motion.warp(smooth, **centre, size=32)
    for t in range(4):
        shifted = ndimage.shift(smooth[0].numpy(), (-dy[t], -dx[t]), order=3)[20:52, 25:57]
        assert np.abs(views[t, 0].numpy() - shifted).max() < 0.7, t  # levels of 255, between two cubic kernels
        off = ndimage.shift(smooth[0].numpy(), (-dy[t], -dx[t] - 0.25), order=3)[20:52, 25:57]
        assert np.abs(views[t, 0].numpy() - off).max() > 1.4, t
    torch.testing.assert_close(views[0, 0], smooth[0, 20:52, 25:57], rtol=0, atol=1e-9)


def test_turn_and_zoom_are_scipys_interpolation(smooth: Tensor) -> None:
    at = spread(x=[50.2, 55.0], y=[44.9, 40.3], angle=[0.35, -1.1], scale=[0.8, 1.3])
    views = motion.warp(smooth, **at, size=24)
    down, across = np.mgrid[:24, :24] - 11.5
    for t in range(2):
        x, y, angle, scale = (float(at[k][t]) for k in ("x", "y", "angle", "scale"))
        columns = x + scale * (across * np.cos(angle) - down * np.sin(angle))
        rows = y + scale * (across * np.sin(angle) + down * np.cos(angle))
        expected = ndimage.map_coordinates(smooth[0].numpy(), [rows, columns], order=3)
        assert np.abs(views[t, 0].numpy() - expected).max() < 0.7


class Spy:
    """Calls the real ``warp`` and keeps what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        real = motion.warp

        def warp(picture: Tensor, x: Tensor, y: Tensor, angle: Tensor, scale: Tensor, size: int) -> Tensor:
            self.calls.append({"shape": picture.shape[-2:], "x": x, "y": y, "angle": angle, "scale": scale})
            return real(picture, x, y, angle, scale, size)

        monkeypatch.setattr(motion, "warp", warp)


@pytest.mark.parametrize(("height", "width"), [(33, 32), (40, 90), (120, 60), (200, 210)])
def test_no_border_enters_the_picture(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pixel of every view is interpolated from pixels that the photo has."""
    spy = Spy(monkeypatch)
    photo = torch.zeros(3, height, width, dtype=torch.uint8)
    for i in range(25):
        motion.in_motion(photo, photo, 8, 32, str(i))
    ticks = np.array([-15.5, 15.5])
    for call in spy.calls[::2]:  # the camera's; the foreground is transparent outside its ellipse
        for x, y, angle, scale in zip(*(call[k].tolist() for k in ("x", "y", "angle", "scale")), strict=True):
            columns = x + scale * (ticks[None] * np.cos(angle) - ticks[:, None] * np.sin(angle))
            rows = y + scale * (ticks[None] * np.sin(angle) + ticks[:, None] * np.cos(angle))
            assert columns.min() >= 2 - 1e-9 and columns.max() <= call["shape"][1] - 3 + 1e-9
            assert rows.min() >= 2 - 1e-9 and rows.max() <= call["shape"][0] - 3 + 1e-9
            assert 0.7 < scale <= 1 + 1e-9  # enlarged a little at most, never shrunk without the low-pass filter


def test_cameras_stand_still_or_move_up_to_six_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    photo = torch.zeros(3, 300, 300, dtype=torch.uint8)
    for i in range(120):
        motion.in_motion(photo, photo, 8, 32, str(i))
    speeds = []
    for call in spy.calls[::2]:
        moved = torch.hypot(call["x"].diff(), call["y"].diff()) / call["scale"][1:]
        speeds.append(float(moved.mean()))
        assert moved.max() <= motion.MAX_SPEED * 1.3
    still = sum(s < 1e-9 for s in speeds)
    assert 0.15 < still / len(speeds) < 0.35
    assert max(speeds) > 5 and sum(0 < s < 2 for s in speeds) > 10
    foregrounds = [torch.hypot(c["x"].diff(), c["y"].diff()).mean() for c in spy.calls[1::2]]
    assert min(foregrounds) > 0.5


def test_only_the_foreground_moves_before_a_still_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hides a part of the photo, another one in each frame, and leaves all else as it is."""
    monkeypatch.setattr(motion, "STILL", 1.0)
    photo, dark = torch.full((3, 64, 64), 200, dtype=torch.uint8), torch.full((3, 64, 64), 10, dtype=torch.uint8)
    clip = motion.in_motion(photo, dark, 12, 64, "any").double().mean(1)
    hidden = (200 - clip) / 190
    assert ((hidden > 0.99).flatten(1).sum(1) > 30).all() and (hidden == 0).double().mean() > 0.5
    ticks = torch.arange(64.0, dtype=torch.float64)
    mass = hidden.sum((1, 2))
    x, y = (hidden.sum(1) * ticks).sum(1) / mass, (hidden.sum(2) * ticks).sum(1) / mass
    moved = torch.hypot(x.diff(), y.diff())
    assert (moved > 0.3).all() and (moved < 8).all()
    assert ((hidden > 0.05) & (hidden < 0.95)).flatten(1).sum(1).min() > 10  # a soft edge


def test_fine_patterns_vanish_instead_of_aliasing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chequerboard of single pixels, shown twice as small or smaller, is grey."""
    board = ((torch.arange(400)[:, None] + torch.arange(400)) % 2 * 255).to(torch.uint8).expand(3, -1, -1)
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    spy, shrunk = Spy(monkeypatch), 0
    for i in range(12):
        clip = motion.in_motion(board, grey, 4, 32, str(i))
        if max(spy.calls[2 * i]["shape"]) <= 200:
            shrunk += 1
            assert (clip.double() - 127.5).abs().max() < 12
    assert shrunk > 4


def test_one_key_is_one_clip(photo: Tensor) -> None:
    first, other = photo[0], photo[0].flip(-1)
    clip = motion.in_motion(first, other, 4, 64, "a")
    assert clip.shape == (4, 3, 64, 64) and clip.dtype == torch.uint8
    assert torch.equal(clip, motion.in_motion(first, other, 4, 64, "a"))
    assert not torch.equal(clip, motion.in_motion(first, other, 4, 64, "b"))
    assert not torch.equal(clip, motion.in_motion(first, first, 4, 64, "a"))
    assert motion.in_motion(first, other, 1, 64, "a").shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match="a photo of 256x256 pixels; expected sides of 300"):
        motion.in_motion(first, other, 4, 300, "a")


def test_clips_are_bundled() -> None:
    samples = data.build("clips:frames=3,size=64").samples()
    assert [s.id for s in samples][:2] == ["astronaut-in-motion", "chelsea-in-motion"] and len(samples) == 6
    clips = [s.load() for s in samples]
    assert all(c.shape == (3, 3, 64, 64) and c.dtype == torch.uint8 for c in clips)
    assert all((c[1:] != c[:-1]).flatten(1).any(1).all() for c in clips)
    again = data.build("clips:frames=3,size=64").samples()
    assert [checksum(s.load()) for s in again] == [checksum(c) for c in clips]
    assert all(s.source is None for s in samples)  # the pixels are the identity
    with pytest.raises(BadParameter, match="size=301; expected at most 300"):
        data.build("clips:size=301")


def test_motion_over_a_folder(photo: Tensor, tmp_path: Path) -> None:
    write_image(photo, tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    write_image(photo.flip(-1), tmp_path / "sub" / "b.png")
    write_image(photo[..., :60, :], tmp_path / "small.png")
    spec = f"motion:{tmp_path},frames=3,size=64,per_photo=2"
    samples = {s.id: s.load() for s in data.build(spec).samples()}
    assert list(samples) == [f"{n}-in-motion-{i}" for n in ("a", "sub/b") for i in (0, 1)]
    assert len({checksum(c) for c in samples.values()}) == 4
    reseeded = {s.id: s.load() for s in data.build(f"{spec},seed=1").samples()}
    assert all(not torch.equal(reseeded[n], c) for n, c in samples.items())
    halved = data.build(f"motion:{tmp_path},frames=3,size=128,downscale=2").samples()
    assert [s.id for s in halved] == ["a-in-motion", "sub/b-in-motion"] and halved[0].load().shape == (3, 3, 128, 128)


def test_a_single_photo_is_its_own_foreground(photo: Tensor, tmp_path: Path) -> None:
    write_image(photo, tmp_path / "a.png")
    (sample,) = data.build(f"motion:{tmp_path},frames=2,size=32").samples()
    assert sample.load().shape == (2, 3, 32, 32)
    with pytest.raises(BadData, match=r"none of 1 images in .* has sides of 512 pixels"):
        data.build(f"motion:{tmp_path},size=256,downscale=2").samples()
    with pytest.raises(BadParameter, match="per_photo=0"):
        data.build(f"motion:{tmp_path},per_photo=0")
