"""Clips in files: pixel-exact reading, seeking, raw YUV by the formula, round trips, and whatever cannot be read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from robustcodec.data import _images as images
from robustcodec.data import _video as video
from robustcodec.data._images import write_image
from robustcodec.errors import BadData, BadParameter
from robustcodec.registry import data


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """30 different frames of 32x48, uint8: a photo that moves by a pixel per frame."""
    photo: Tensor = data.build("photos").samples()[0].load()
    return torch.stack([photo[0, :, 60 + t : 92 + t, 80 + 2 * t : 128 + 2 * t] for t in range(30)])


LOSSLESS = {"libx264rgb": "rgb24", "libx265": "gbrp", "ffv1": "bgr0"}  # and their pixels


def write_lossless(clip: Tensor, path: Path, codec: str = "libx264rgb", gop: int = 8) -> Path:
    """A clip in RGB without loss, a key frame every ``gop`` frames; H.265 codes it out of order, in open groups."""
    order = f"bframes=3:b-adapt=0:open-gop=1:keyint={gop}:min-keyint={gop}:scenecut=0"
    options = {"libx264rgb": {"qp": "0"}, "libx265": {"x265-params": f"lossless=1:log-level=none:{order}"}}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options.get(codec, {}))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = clip.shape[-2:]
        stream.pix_fmt, stream.codec_context.gop_size = LOSSLESS[codec], gop
        for pixels in clip:
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["libx264rgb", "ffv1"])
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_lossless_videos_are_read_exactly(codec: str, suffix: str, clip: Tensor, tmp_path: Path) -> None:
    path = write_lossless(clip, tmp_path / f"x{suffix}", codec)
    assert torch.equal(video.read_video(path), clip)
    assert torch.equal(video.read_video(path, frames=5), clip[:5])
    assert torch.equal(video.read_video(path, frames=7, start=11), clip[11:18])
    assert torch.equal(video.read_video(path, start=28), clip[28:])
    assert video.count_frames(path) == 30 and video.count_frames(path, at_most=4) == 4
    assert video.frame_rate(path) == 25 and video.picture_size(path) == (48, 32)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".hevc"])
@pytest.mark.parametrize("gop", [4, 10, 300])
def test_seeking_gives_the_frames_of_a_full_decode(suffix: str, gop: int, clip: Tensor, tmp_path: Path) -> None:
    """With frames coded out of order, times counted from somewhere, or no times at all (raw H.265)."""
    path = write_lossless(clip, tmp_path / f"x{suffix}", "libx265", gop)
    for start in range(0, 30, 3):
        assert torch.equal(video.read_video(path, 1, start)[0], clip[start]), start


def test_seeking_starts_at_the_key_frame_before(clip: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoding from the beginning is not needed: it is taken away."""
    path = write_lossless(clip, tmp_path / "x.mp4", "libx265", gop=5)
    monkeypatch.delattr(video, "_decode_all")
    assert torch.equal(video.read_video(path, 8, 17), clip[17:25])


def test_a_video_cut_out_of_a_longer_one_starts_with_its_first_whole_frame(clip: Tensor, tmp_path: Path) -> None:
    """Cut at a key frame with open groups: the frames shown before it were coded from the group that is gone."""
    whole, path = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    write_lossless(clip, whole, "libx265")
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        cut = [i for i, p in enumerate(packets) if p.is_keyframe][1]
        for packet in packets[cut:]:
            packet.stream = stream
            out.mux(packet)
        assert min(p.pts or 0 for p in packets[cut:]) < (packets[cut].pts or 0)
    shown = clip[8:]
    assert torch.equal(video.read_video(path), shown)
    assert video.count_frames(path) == len(shown) and video.count_frames(path, at_most=6) == 6
    assert video.count_frames(path, at_most=len(shown) + 1) == len(shown)
    for start in (1, 8, 15, 21):
        assert torch.equal(video.read_video(path, 1, start)[0], shown[start]), start


def test_downscale_averages_boxes(clip: Tensor, tmp_path: Path) -> None:
    path = write_lossless(clip[:2], tmp_path / "x.mkv")
    by_hand = clip[:2, :, :30, :48].double().reshape(2, 3, 10, 3, 16, 3).mean((3, 5)).round().to(torch.uint8)
    assert torch.equal(video.read_video(path, downscale=3), by_hand)
    with pytest.raises(BadData, match=r"frames of 48x32 pixels; downscale=33 leaves none"):
        video.read_video(path, downscale=33)


def yuv_to_rgb(planes: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """ITU-R BT.601, limited range, chroma of the same size as luma: ``(3, H, W)`` in 0–255."""
    y, u, v = (plane.astype(float) for plane in planes)
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 1.402 * v, y + 1.772 * u
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    pixels: NDArray[np.float64] = np.clip(np.stack([red, green, blue]), 0, 1) * 255
    return pixels


def raw_frames(width: int, height: int, frames: int) -> tuple[bytes, NDArray[np.float64]]:
    """Bytes of planar 4:2:0 with random luma and one chroma per frame; its pixels by the formula."""
    rng, out, pixels = np.random.default_rng(0), b"", []
    for _ in range(frames):
        luma = rng.integers(60, 180, (height, width), dtype=np.uint8)
        chroma = rng.integers(110, 146, 2, dtype=np.uint8)
        size = ((height + 1) // 2) * ((width + 1) // 2)
        out += luma.tobytes() + chroma[:1].tobytes() * size + chroma[1:].tobytes() * size
        pixels.append(yuv_to_rgb([luma, np.full_like(luma, chroma[0]), np.full_like(luma, chroma[1])]))
    return out, np.stack(pixels)


@pytest.mark.parametrize(("width", "height"), [(40, 24), (37, 23)])
def test_raw_yuv_is_read_by_the_formula(width: int, height: int, tmp_path: Path) -> None:
    content, pixels = raw_frames(width, height, 4)
    named = tmp_path / f"ball_{width}x{height}_50.yuv"
    named.write_bytes(content)
    read = video.read_video(named).numpy()
    assert read.shape == pixels.shape and np.abs(read - pixels).max() < 1.01
    assert np.abs((read - pixels).mean((0, 2, 3))).max() < 0.1  # no bias: swscale's defaults are a level off
    assert torch.equal(video.read_video(named, 2, 1), torch.from_numpy(read[1:3]))
    plain = tmp_path / "plain.yuv"
    plain.write_bytes(content)
    assert torch.equal(video.read_video(plain, size=f"{width}x{height}"), torch.from_numpy(read))
    assert video.count_frames(named) == 4 and video.picture_size(named) == (width, height)


def test_raw_yuv_that_cannot_be_read(tmp_path: Path) -> None:
    content, _ = raw_frames(40, 24, 2)
    (tmp_path / "x_40x24.yuv").write_bytes(content[:-1])
    with pytest.raises(BadData, match=r"has 2879 bytes, which is not a whole number of 40x24 frames of 1440 bytes"):
        video.read_video(tmp_path / "x_40x24.yuv")
    (tmp_path / "x.yuv").write_bytes(content)
    with pytest.raises(BadData, match="its name does not hold its picture size"):
        video.read_video(tmp_path / "x.yuv")
    with pytest.raises(BadData, match="size='40' cannot be read; expected width x height"):
        video.read_video(tmp_path / "x.yuv", size="40")
    (tmp_path / "x_40x24_10bit.yuv").write_bytes(content)
    with pytest.raises(BadData, match="holds 10bit by its name; expected planes of 8 bits, called 420"):
        video.read_video(tmp_path / "x_40x24_10bit.yuv")
    assert video.frame_rate(tmp_path / "x.yuv") is None


@pytest.mark.parametrize("crop", [32, 31])
def test_y4m_round_trip_is_within_two_levels(crop: int, clip: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "x.y4m"
    wanted = clip[..., :crop, :crop]
    video.write_y4m(wanted, path, fps=30000 / 1001)
    read = video.read_video(path)
    assert read.shape == wanted.shape
    difference = read.int() - wanted.int()
    assert difference.abs().max() <= 2 and difference.double().mean().abs() < 0.1
    assert video.frame_rate(path) == 30000 / 1001
    assert torch.equal(video.read_video(path, 3, 20), read[20:23])
    assert list(tmp_path.iterdir()) == [path]


def test_mp4_looks_like_the_clip_and_odd_sides_are_padded(clip: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    odd = clip[:6, :, :31, :45]
    video.write_mp4(odd, path, fps=12.5, crf=4)
    read = video.read_video(path).float()
    padded = F.pad(odd.float(), (0, 1, 0, 1), mode="replicate")
    assert read.shape == padded.shape and video.frame_rate(path) == 12.5
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert ((read - padded) * luma).sum(1).square().mean() < 10  # 38 dB: 4:2:0 loses chroma only
    assert (read - padded).mean((0, 2, 3)).abs().max() < 2  # no cast


def test_webp_holds_all_frames(clip: Tensor, tmp_path: Path) -> None:
    video.write_webp(clip[:5], tmp_path / "x.webp", fps=10, quality=100)
    with Image.open(tmp_path / "x.webp") as image:
        assert (image.n_frames, image.size) == (5, (48, 32))  # type: ignore[attr-defined]
        image.seek(4)
        last = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()
        assert image.info["duration"] == 100
    assert (last - clip[4].float()).square().mean() < (last - clip[0].float()).square().mean() / 4


def broken(kind: str, path: Path, clip: Tensor) -> Path:
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "unreadable":
            path.write_bytes(b"this is no video at all " * 100)
        case "cut short":
            video.write_y4m(clip, path.with_suffix(".y4m"))
            whole = path.with_suffix(".y4m")
            whole.write_bytes(whole.read_bytes()[:-5])
            return whole
        case "damaged":
            content = bytearray(write_lossless(clip, path, gop=300).read_bytes())
            content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
            path.write_bytes(content)
        case "sound":
            with av.open(str(path), "w") as container:
                stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
                silence.sample_rate = 8000
                container.mux(stream.encode(silence))
                container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no video at"),
        ("empty", r"is empty \(0 bytes\)"),
        ("unreadable", "is not a video that FFmpeg can read"),
        ("cut short", r"is cut short: it has \d+ bytes of \d+ or more"),
        ("damaged", "is damaged"),
        ("sound", "has no pictures in it"),
    ],
)
def test_unusable_videos_say_what_they_are(kind: str, message: str, clip: Tensor, tmp_path: Path) -> None:
    path = broken(kind, tmp_path / "x.mkv", clip)
    with pytest.raises(BadData, match=message) as error:
        video.read_video(path, frames=30)
    assert str(path) in str(error.value)


def test_frames_that_are_not_there(clip: Tensor, tmp_path: Path) -> None:
    path = write_lossless(clip, tmp_path / "x.mkv")
    for frames, start in ((31, 0), (3, 28), (1, 30), (0, 30), (0, 99)):
        with pytest.raises(BadData, match=rf"has 30 frames; expected.* frames from number {start} on"):
            video.read_video(path, frames, start)
    with pytest.raises(ValueError, match="downscale=0"):
        video.read_video(path, downscale=0)


def test_sequences_of_images_are_in_natural_order(clip: Tensor, tmp_path: Path) -> None:
    for i in (1, 2, 9, 10, 11):
        write_image(clip[i : i + 1], tmp_path / f"im{i}.png")
    assert torch.equal(images.read_sequence(tmp_path), clip[[1, 2, 9, 10, 11]])
    assert torch.equal(images.read_sequence(tmp_path, 2, 2), clip[[9, 10]])
    with pytest.raises(BadData, match="has 1 images from number 4 on, counted from 0; expected 2 images"):
        images.read_sequence(tmp_path, 2, 4)
    write_image(clip[:1, :, :20], tmp_path / "im12.png")
    with pytest.raises(BadData, match=r"im12.png has 48x20 pixels; im1.png beside it has 48x32"):
        images.read_sequence(tmp_path)
    with pytest.raises(BadData, match="is not a folder"):
        images.read_sequence(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def library(clip: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a long and a short video, a raw one and an image."""
    root = tmp_path_factory.mktemp("library")
    (root / "sub").mkdir()
    write_lossless(clip, root / "sub" / "long.mp4", "libx265", gop=6)
    write_lossless(clip[:5], root / "short.mkv")
    write_image(clip[:1], root / "photo.png")
    (root / "raw_40x24.yuv").write_bytes(raw_frames(40, 24, 12)[0])
    (root / "notes.txt").write_text("no video")
    return root


def test_folders_hold_images_and_whole_videos(library: Path, clip: Tensor) -> None:
    samples = {s.id: s for s in data.build(f"folder:{library}").samples()}
    assert list(samples) == ["photo", "raw_40x24", "short", "sub/long"]
    assert torch.equal(samples["photo"].load(), clip[:1])
    assert torch.equal(samples["sub/long"].load(), clip)
    assert torch.equal(samples["short"].load(), clip[:5])
    assert samples["short"].source == library / "short.mkv"


def test_first_frames_leave_short_videos_out(library: Path, clip: Tensor) -> None:
    samples = {s.id: s for s in data.build(f"folder:{library},frames=12,downscale=2,crop=10").samples()}
    assert list(samples) == ["photo", "raw_40x24", "sub/long"]
    halved = F.avg_pool2d(clip[:12].double(), 2).round().to(torch.uint8)
    assert torch.equal(samples["sub/long"].load(), halved[..., 3:13, 7:17])
    assert torch.equal(samples["photo"].load(), halved[:1, :, 3:13, 7:17])


def test_segments_are_spread_evenly(library: Path, clip: Tensor) -> None:
    samples = {s.id: s for s in data.build(f"folder:{library},frames=10,segments=3").samples()}
    assert list(samples) == [
        "photo",
        "raw_40x24@0",
        "raw_40x24@1",
        "raw_40x24@2",
        *(f"sub/long@{i}" for i in (0, 10, 20)),
    ]
    for start in (0, 10, 20):
        assert torch.equal(samples[f"sub/long@{start}"].load(), clip[start : start + 10])
    whole = [s.id for s in data.build(f"folder:{library},frames=12,segments=2").samples() if s.id.startswith("raw")]
    assert whole == ["raw_40x24@0"]  # both segments would be the same twelve frames


def test_files_that_differ_in_their_suffix_keep_it(clip: Tensor, tmp_path: Path) -> None:
    write_image(clip[:1], tmp_path / "a.png")
    write_lossless(clip[:2], tmp_path / "a.mkv")
    write_image(clip[:1], tmp_path / "b.png")
    assert [s.id for s in data.build(f"folder:{tmp_path}").samples()] == ["a.mkv", "a.png", "b"]


def test_folders_that_give_nothing(library: Path, clip: Tensor, tmp_path: Path) -> None:
    write_lossless(clip[:5], tmp_path / "short.mkv")
    with pytest.raises(BadData, match=r"none of 1 videos in .* has 16 frames"):
        data.build(f"folder:{tmp_path},frames=16").samples()
    with pytest.raises(BadParameter, match="segments=2 needs the length of a segment"):
        data.build(f"folder:{library},segments=2")
    with pytest.raises(BadParameter, match="expected crop and frames of at least 0"):
        data.build(f"folder:{library},downscale=0")
