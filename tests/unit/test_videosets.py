"""Official layouts: small trees of real files as they are unpacked, and what is said when something is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robustcodec.data import _video as video
from robustcodec.data import videosets
from robustcodec.data._images import write_image
from robustcodec.errors import BadData, BadParameter
from robustcodec.registry import data


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """12 different frames of 64x96, uint8."""
    photo: Tensor = data.build("photos").samples()[0].load()
    return torch.stack([photo[0, :, 60 + t : 124 + t, 80 + 2 * t : 176 + 2 * t] for t in range(12)])


def write_sequence(clip: Tensor, folder: Path) -> None:
    folder.mkdir(parents=True)
    for i in range(len(clip)):
        write_image(clip[i : i + 1], folder / f"im{i + 1}.png")


def test_sequences_are_folders_of_images(clip: Tensor, tmp_path: Path) -> None:
    write_sequence(clip, tmp_path / "b" / "long")
    write_sequence(clip[:3], tmp_path / "a")
    (tmp_path / "none").mkdir()
    whole = {s.id: s.load() for s in data.build(f"sequences:{tmp_path}").samples()}
    assert list(whole) == ["a", "b/long"]
    assert torch.equal(whole["a"], clip[:3]) and torch.equal(whole["b/long"], clip)  # im2 before im10
    (cut,) = data.build(f"sequences:{tmp_path},frames=5,downscale=2,crop=20").samples()
    halved = F.avg_pool2d(clip[:5].double(), 2).round().to(torch.uint8)
    assert cut.id == "b/long" and torch.equal(cut.load(), halved[..., 6:26, 14:34])
    (alone,) = data.build(f"sequences:{tmp_path / 'a'}").samples()
    assert alone.id == "a" and torch.equal(alone.load(), clip[:3])
    with pytest.raises(BadData, match="holds 13 images or more"):
        data.build(f"sequences:{tmp_path},frames=13").samples()
    with pytest.raises(BadData, match="is not a folder"):
        data.build(f"sequences:{tmp_path / 'nowhere'}").samples()
    with pytest.raises(BadParameter, match="frames=-1"):
        data.build(f"sequences:{tmp_path},frames=-1")


@pytest.mark.parametrize("name", ["kinetics", "vimeo90k", "uvg"])
def test_sets_that_are_not_there_say_where_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"ROBUSTCODEC_{name.upper()}"
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        BadData, match=rf"{name} needs a folder\. .* not downloaded automatically .* http.*PATH/"
    ) as error:
        data.build(name).samples()
    assert f"set ${variable} or give {name}:PATH" in str(error.value)
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(BadData, match=r"nowhere is not a folder\. .* http"):
        data.build(name).samples()
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(BadData, match="http"):
        data.build(name).samples()


def test_kinetics(clip: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, frames in (
        ("archery/b.mp4", clip),
        ("abseiling/a.mp4", clip[..., :32, :32]),
        ("archery/short.mp4", clip[:3]),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        video.write_mp4(frames, tmp_path / name)
    monkeypatch.setenv("ROBUSTCODEC_KINETICS", str(tmp_path))
    samples = {s.id: s for s in data.build("kinetics:frames=4,side=20").samples()}
    assert list(samples) == ["abseiling/a", "archery/b"]  # sides of 32 and 64: factors 2 and 3
    assert samples["abseiling/a"].load().shape == (4, 3, 16, 16)
    assert torch.equal(samples["archery/b"].load(), video.read_video(tmp_path / "archery" / "b.mp4", 4, downscale=3))
    (large,) = data.build("kinetics:frames=4,side=0,at_least=64,crop=30").samples()
    assert large.id == "archery/b" and large.load().shape == (4, 3, 30, 30)
    assert [s.id for s in data.build("kinetics:frames=2,limit=2").samples()] == ["abseiling/a", "archery/b"]
    assert [tuple(s.load().shape) for s in data.build("kinetics:frames=3").samples()][2] == (3, 3, 64, 96)
    with pytest.raises(BadData, match=r"no clip PATH/class/\*.mp4 in .* has 13 frames"):
        data.build("kinetics:frames=13").samples()


def test_vimeo90k(clip: Tensor, tmp_path: Path) -> None:
    for name, first in (("00001/0001", 0), ("00001/0002", 2), ("00042/0007", 5)):
        write_sequence(clip[first : first + 7], tmp_path / "sequences" / name)
    (tmp_path / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n")
    (tmp_path / "sep_testlist.txt").write_text("00042/0007\r\n\r\n")
    (test,) = data.build(f"vimeo90k:{tmp_path}").samples()
    assert test.id == "00042/0007" and torch.equal(test.load(), clip[5:])
    train = data.build(f"vimeo90k:{tmp_path},split=train,frames=3,crop=32").samples()
    assert [s.id for s in train] == ["00001/0001", "00001/0002"]
    assert torch.equal(train[1].load(), clip[2:5, :, 16:48, 32:64])
    with pytest.raises(BadParameter, match="split='val'"):
        data.build(f"vimeo90k:{tmp_path},split=val")
    with pytest.raises(BadParameter, match="frames=8; expected 1 to 7"):
        data.build(f"vimeo90k:{tmp_path},frames=8")
    (tmp_path / "sequences" / "00042" / "0007" / "im7.png").unlink()
    with pytest.raises(BadData, match="has 6 images from number 0 on"):
        test.load()
    (tmp_path / "sep_testlist.txt").unlink()
    with pytest.raises(BadData, match="no sep_testlist.txt in"):
        data.build(f"vimeo90k:{tmp_path}").samples()


def test_uvg(tmp_path: Path) -> None:
    planes = bytes([81]) * (1920 * 1080) + bytes([90]) * (960 * 540) + bytes([240]) * (960 * 540)  # pure red
    for name in ("Bosphorus", "HoneyBee", "Jockey", "ReadySetGo", "ShakeNDry", "YachtRide"):
        (tmp_path / f"{name}_1920x1080_120fps_420_8bit_YUV.yuv").write_bytes(planes)
    with pytest.raises(BadData, match="^Beauty of the UVG sequences are not in"):
        data.build(f"uvg:{tmp_path}").samples()
    video.write_mp4(torch.full((2, 3, 1080, 1920), 60, dtype=torch.uint8), tmp_path / "beauty.mp4", fps=120)
    samples = {s.id: s for s in data.build(f"uvg:{tmp_path},frames=1,downscale=4,crop=128").samples()}
    assert tuple(samples) == videosets.UVG.NAMES
    red = samples["ReadySteadyGo"].load()
    assert red.shape == (1, 3, 128, 128)
    assert (red.float().mean((0, 2, 3)) - torch.tensor([254.0, 0.0, 0.0])).abs().max() <= 1  # BT.601 of 81, 90, 240
    assert samples["Beauty"].load().float().sub(60).abs().max() <= 2
    with pytest.raises(BadData, match="has 1 frames; expected 16 frames"):
        {s.id: s for s in data.build(f"uvg:{tmp_path}").samples()}["Jockey"].load()
    (tmp_path / "Jockey_3840x2160.yuv").write_bytes(planes)
    with pytest.raises(BadData, match="Jockey is in .* more than once"):
        data.build(f"uvg:{tmp_path}").samples()
    (tmp_path / "Jockey_3840x2160.yuv").unlink()
    video.write_mp4(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), tmp_path / "beauty.mp4")
    with pytest.raises(BadData, match="beauty.mp4 has 64x64 pixels; expected 1920x1080"):
        data.build(f"uvg:{tmp_path}").samples()
