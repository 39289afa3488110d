"""Video files that do not hold what they seem to: covers, files cut short, no frame rate, other layouts of pixels."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustcodec.data import _lossless as lossless
from robustcodec.data import _video as video
from robustcodec.errors import BadData, UserError
from robustcodec.registry import data
from robustcodec.zoo.pyav import scheduled_as_before

FRAMES, HEIGHT, WIDTH = 12, 48, 64
SEEN: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (HEIGHT + 16, WIDTH + 16, 3), dtype=np.uint8)
MADE_BY = {
    ".mp4": "libx264", ".mov": "mpeg4", ".mkv": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".flv": "flv1",
    ".ts": "libx264", ".mpg": "mpeg2video", ".ivf": "libvpx-vp9", ".ogv": "libvpx", ".wmv": "wmv2", ".h264": "libx264",
    ".hevc": "libx265", ".obu": "libsvtav1", ".y4m": "wrapped_avframe",
}  # fmt: skip
OPTIONS = {
    "libx264": {"x264-params": "cpu-independent=1"},  # else its bytes change, and what a cut falls on
    "libx265": {"x265-params": "log-level=none"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


def written(path: Path, frames: int = FRAMES, rate: int = 30, pix_fmt: str = "yuv420p", codec: str = "") -> Path:
    codec = codec or MADE_BY[path.suffix]
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    format = {".ogv": "ogg", ".wmv": "asf"}.get(path.suffix)
    with scheduled_as_before(), av.open(str(path), "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, options=OPTIONS.get(codec, {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for t in range(frames):
            pixels = np.ascontiguousarray(SEEN[t : t + HEIGHT, t : t + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path: Path, frames: int = 0) -> Tensor | str:
    """Frames, or the one line that says why there are none."""
    try:
        return video.read_video(path, frames)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("suffix", MADE_BY)
def test_a_whole_file_is_read_whole(suffix: str, tmp_path: Path) -> None:
    clip = read(written(tmp_path / f"x{suffix}"))
    assert isinstance(clip, Tensor) and clip.shape == (FRAMES, 3, HEIGHT, WIDTH), clip


@pytest.mark.parametrize("suffix", [s for s in MADE_BY if s != ".hevc"])  # raw H.265 does not tell
def test_a_file_cut_short_is_no_clip(suffix: str, tmp_path: Path) -> None:
    """By whatever the file says of its length, or where that says nothing, in the middle of a frame."""
    path = written(tmp_path / f"x{suffix}")
    content = path.read_bytes()
    for share in (0.9, 0.5, 0.25):
        path.write_bytes(content[: int(share * len(content)) | 1])  # odd: a transport stream has packets of 188
        found = read(path)
        assert isinstance(found, str) and str(path) in found, (share, found)


def test_a_transport_stream_that_ends_inside_a_frame_is_no_clip(tmp_path: Path) -> None:
    """It states no length: one that ends with a packet and between two frames cannot be told from a whole one."""
    path = written(tmp_path / "x.ts")
    content = path.read_bytes()
    with av.open(str(path)) as container:
        first, second, *_ = (packet.pos for packet in container.demux(video=0))
    assert first is not None and second is not None
    for end, whole in ((first + 5 * 188, False), (second - 188, False), (second, True)):
        path.write_bytes(content[:end])
        assert isinstance(read(path), Tensor) == whole, end


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".avi", ".mov", ".ivf", ".y4m", ".wmv"])
def test_containers_that_know_their_length_are_whole_or_nothing(suffix: str, tmp_path: Path) -> None:
    """Also where the frames that were asked for are all there, and where the cut is between two frames."""
    path = written(tmp_path / f"x{suffix}")
    content = path.read_bytes()
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size and packet.pos]
    header = {".ivf": 12, ".y4m": 6}.get(suffix, 0)  # of a frame
    for end in (places[-1] - header, len(content) - 1):
        path.write_bytes(content[:end])
        found = read(path, 2)
        if suffix == ".y4m" and end < places[-1]:
            assert isinstance(found, Tensor)  # it states no number of frames
        else:
            assert isinstance(found, str) and f"{path} is cut short" in found, (end, found)


@pytest.mark.parametrize(("ticks", "stated"), [(1, 12), (33, 12), (33, 12 * 33), (33, 0)])
def test_an_ivf_states_its_length_in_frames_or_in_time(ticks: int, stated: int, tmp_path: Path) -> None:
    """libvpx writes one, FFmpeg the other, and both call it the length."""
    content = written(tmp_path / "x.ivf").read_bytes()
    changed, at, frame = content[:24] + stated.to_bytes(4, "little") + content[28:32], 32, 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        changed += content[at : at + 4] + (ticks * frame).to_bytes(8, "little") + content[at + 12 : at + 12 + length]
        at, frame = at + 12 + length, frame + 1
    (tmp_path / "y.ivf").write_bytes(changed)
    clip = read(tmp_path / "y.ivf")
    assert isinstance(clip, Tensor) and len(clip) == FRAMES, clip


def covered(path: Path, film: bool) -> Path:
    """An MP4 of a film, or of sound alone, in which the cover comes before everything else."""
    picture = io.BytesIO()
    Image.fromarray(SEEN[:40, :40]).save(picture, "JPEG")
    with av.open(str(path), "w", format="mp4") as container:
        if film:
            stream = container.add_stream("libx264", rate=30)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for t in range(FRAMES):
                pixels = np.ascontiguousarray(SEEN[t : t + HEIGHT, t : t + WIDTH])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        else:
            sound = container.add_stream("aac", rate=44100)
            assert isinstance(sound, av.AudioStream)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate = 44100
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))

    def box(name: bytes, body: bytes) -> bytes:
        return (len(body) + 8).to_bytes(4, "big") + name + body

    cover = box(b"data", (13).to_bytes(4, "big") + bytes(4) + picture.getvalue())
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    told = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", box(b"covr", cover))))
    content = path.read_bytes()
    at = content.index(b"moov") - 4  # the last box: nothing behind it moves
    length = int.from_bytes(content[at : at + 4], "big")
    header = content[at + 8 : at + 8 + 108]  # mvhd
    moov = box(b"moov", header + told + content[at + 8 + 108 : at + length])
    path.write_bytes(content[:at] + moov + content[at + length :])
    return path


def test_a_cover_is_not_the_film(tmp_path: Path) -> None:
    path = covered(tmp_path / "x.mp4", film=True)
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 40  # the cover comes first
    clip = read(path)
    assert isinstance(clip, Tensor) and clip.shape == (FRAMES, 3, HEIGHT, WIDTH)
    assert video.picture_size(path) == (WIDTH, HEIGHT) and video.count_frames(path) == FRAMES
    assert video.frame_rate(path) == 30 and torch.equal(video.read_video(path, 2, 5), clip[5:7])


def test_sound_with_a_cover_is_no_clip(tmp_path: Path) -> None:
    found = read(covered(tmp_path / "x.mp4", film=False))
    assert isinstance(found, str) and "has no pictures in it but a cover; expected a video" in found, found


def rate(path: Path) -> float | None:
    """As a data set knows it."""
    return data.build(f"file:{path}").samples()[0].fps


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".ivf", ".webm", ".h264", ".hevc", ".y4m", ".mpg"])
def test_the_frame_rate_is_the_one_that_is_stated(suffix: str, tmp_path: Path) -> None:
    found = rate(written(tmp_path / f"x{suffix}", rate=24))
    assert found == pytest.approx(24, rel=1e-3)


def test_the_frame_rate_of_one_frame(tmp_path: Path) -> None:
    assert rate(written(tmp_path / "x.ts", frames=1)) == 30
    assert rate(written(tmp_path / "x.ivf", frames=1)) is None


@pytest.mark.parametrize("stated", ["F0:0 ", "F0:1 ", "F30:0 ", ""])
def test_a_y4m_without_a_rate_has_none(stated: str, tmp_path: Path) -> None:
    path = tmp_path / "x.y4m"
    path.write_bytes(f"YUV4MPEG2 W4 H4 {stated}C444\n".encode() + (b"FRAME Xfirst\n" + bytes([128]) * 48) * 3)
    clip = read(path)
    assert isinstance(clip, Tensor) and clip.shape == (3, 3, 4, 4), clip
    assert rate(path) is None


def test_a_raw_stream_without_a_rate_has_none(tmp_path: Path) -> None:
    """AV1 by itself, as SVT-AV1 writes it: FFmpeg would call it 25."""
    assert rate(written(tmp_path / "x.obu")) is None


def test_a_y4m_of_ours_without_a_rate_states_none(tmp_path: Path) -> None:
    clip = torch.full((2, 3, 8, 8), 90, dtype=torch.uint8)
    video.write_y4m(clip, tmp_path / "x.y4m")
    assert rate(tmp_path / "x.y4m") is None
    video.write_y4m(clip, tmp_path / "y.y4m", 24000 / 1001)
    assert rate(tmp_path / "y.y4m") == 24000 / 1001


def test_a_lossless_clip_of_ours_without_a_rate_states_none(tmp_path: Path) -> None:
    """Matroska has no way to say so but a comment."""
    clip = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    path = lossless.write_lossless(clip, tmp_path / "x")
    assert rate(path) is None and torch.equal(video.read_video(path), clip)
    assert rate(lossless.write_lossless(clip, tmp_path / "y", 12.5)) == 12.5


LAYOUTS = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}  # luma samples to one of chroma, across and down


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("x_12x10", "420"), ("x_12x10_420", "420"), ("12x10_yuv420p", "420"), ("x-i420-12x10", "420"),
        ("x_12x10_25fps_420_8bit_YUV", "420"), ("x_iyuv_12x10", "420"), ("x_12x10_4-2-0", "420"),
        ("12x10.420p8", "420"),
        ("x_12x10_422", "422"), ("x_12x10_yuv422p", "422"), ("x_12x10_I422", "422"), ("x_12x10_4.2.2_8bit", "422"),
        ("x_12x10_444", "444"), ("x_444_12x10", "444"), ("x_12x10_YUV444P", "444"), ("x_12x10_i444_8-bit", "444"),
        ("grey_12x10_25fps", "420"), ("x4444_12x10", "420"), ("session10_bits_12x10", "420"), ("a2014_12x10_p1", "420"),
    ],
)  # fmt: skip
def test_raw_video_is_read_by_the_layout_in_its_name(name: str, layout: str, tmp_path: Path) -> None:
    """Chroma that changes from frame to frame, the same all over a frame: any other layout shows other colours."""
    across, down = LAYOUTS[layout]
    path, content = tmp_path / f"{name}.yuv", b""
    for t in range(6):
        chroma = 12 * 10 // across // down
        content += bytes([120]) * 120 + bytes([110 + 5 * t]) * chroma + bytes([150 - 5 * t]) * chroma
    path.write_bytes(content)
    clip = read(path)
    assert isinstance(clip, Tensor) and clip.shape == (6, 3, 10, 12), clip
    for t, frame in enumerate(clip.double()):
        luma, blue, red = (120 - 16) / 219, (110 + 5 * t - 128) / 224, (150 - 5 * t - 128) / 224
        expected = (luma + 1.402 * red, None, luma + 1.772 * blue)
        for channel in (0, 2):
            value = expected[channel]
            assert value is not None and (frame[channel] - 255 * value).abs().max() < 1.5


@pytest.mark.parametrize(
    "name",
    [
        "x_12x10_nv12", "x_12x10_NV21", "x_12x10_yv12", "x_12x10_yuyv422", "x_12x10_uyvy", "x_12x10_yuy2",
        "x_12x10_400",
        "x_12x10_yuv411p", "x_12x10_440", "x_12x10_4:1:1", "x_12x10_p010", "x_12x10_p010le", "x_12x10_yuv420p10le",
        "x_12x10_420p10", "x_12x10_10bit_420", "x_12x10_420_10bits", "x_12x10_10_bit", "x_12x10_16le",
        "x_12x10_yuv444p16",
        "x_12x10_y800", "x_12x10_gray10le", "x_12x10_rgb24", "x_12x10_bgra", "x_12x10_p016", "x_12x10_y210",
        "x_12x10_v210",
        "x_12x10_420_444",
    ],
)  # fmt: skip
def test_raw_video_of_another_layout_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yuv"
    path.write_bytes(bytes([128]) * (12 * 10 * 12))  # a whole number of frames whatever the layout
    found = read(path)
    assert isinstance(found, str) and str(path) in found and "420, 422 or 444" in found, found


@pytest.mark.parametrize(("codec", "pix_fmt", "bits"), [("libx264", "yuv420p10le", 10), ("ffv1", "gbrp12le", 12)])
def test_more_than_8_bits_are_refused_in_videos_too(codec: str, pix_fmt: str, bits: int, tmp_path: Path) -> None:
    path = written(tmp_path / "x.mkv", 3, pix_fmt=pix_fmt, codec=codec)
    found = read(path)
    assert isinstance(found, str) and f"{path} has {bits} bits per value; expected 8. Convert it first: " in found, (
        found
    )


def test_transparent_videos_are_refused(tmp_path: Path) -> None:
    for opacity in (255, 254):
        path = tmp_path / f"{opacity}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=30)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 16, 8, "bgra"
            pixels = np.full((8, 16, 4), 90, np.uint8)
            pixels[..., 3] = 255
            pixels[2, 3, 3] = opacity
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgra")))
            container.mux(stream.encode(None))
    assert isinstance(read(tmp_path / "255.mkv"), Tensor)
    found = read(tmp_path / "254.mkv")
    assert isinstance(found, str) and "has transparent pixels" in found, found


def test_a_title_in_another_encoding_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Kirmes im M_rz"
        stream = container.add_stream("ffv1", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "bgr0"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((8, 16, 3), 90, np.uint8))))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"M_rz", "März".encode("latin-1")))
    try:
        found: Tensor | str = video.read_video(path)
    except UnicodeDecodeError as error:
        found = str(error)
    assert isinstance(found, Tensor), found


def test_missing_files_are_still_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no video at"):
        video.frame_rate(tmp_path / "nowhere.mp4")
