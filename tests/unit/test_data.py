"""Data sets: real photos, folders, Kodak's cache, and every kind of image that cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustcodec.clips import checksum, to_float, to_uint8
from robustcodec.data._images import read_image, write_image
from robustcodec.data.photos import Kodak
from robustcodec.errors import BadData, WeightsError
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data
from robustcodec.running.grid import Cell


def test_photos_are_scikit_images_pixels() -> None:
    samples = {s.id: s for s in data.build("photos:size=200").samples()}
    assert len(samples) == 6
    pixels = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    astronaut = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(samples["astronaut"].load(), astronaut[..., 156:356, 156:356])
    assert all(s.load().shape == (1, 3, 200, 200) and s.load().dtype == torch.uint8 for s in samples.values())


def test_png_round_trip_is_exact(photo: Tensor, tmp_path: Path) -> None:
    write_image(photo, tmp_path / "x.png")
    assert torch.equal(read_image(tmp_path / "x.png"), photo)
    assert torch.equal(to_uint8(to_float(photo)), photo)


def test_checksum_is_of_shape_and_pixels() -> None:
    clip = torch.arange(24, dtype=torch.uint8).view(1, 3, 2, 4)
    assert checksum(clip) == hashlib.sha256(b"(1, 3, 2, 4)" + bytes(range(24))).hexdigest()
    assert checksum(clip.view(1, 3, 4, 2)) != checksum(clip)


def test_folders_are_listed_in_order_and_cropped(photo: Tensor, tmp_path: Path) -> None:
    for name in ("b.png", "a/c.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(photo, tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    samples = data.build(f"folder:{tmp_path},crop=100").samples()
    assert [s.id for s in samples] == ["a/c", "a", "b"]
    assert torch.equal(samples[1].load(), photo[..., 78:178, 78:178])


def _broken(kind: str, path: Path, photo: Tensor) -> Path:
    pixels = photo[0].permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "unreadable":
            path.write_bytes(b"this is no image at all")
        case "truncated":
            image.save(path)
            path.write_bytes(path.read_bytes()[:2000])
        case "CMYK":
            path = path.with_suffix(".jpg")
            image.convert("CMYK").save(path)
        case "greyscale":
            image.convert("L").save(path)
        case "transparency":
            image.putalpha(254)
            image.save(path)
        case "16-bit":
            Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
        case "16-bit RGB":
            path.write_bytes(_png16(pixels))
    return path


def _png16(pixels: NDArray[np.uint8]) -> bytes:
    """A 16-bit RGB PNG, written by hand: Pillow cannot write one."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = pixels.shape
    rows = (pixels.astype(">u2") * 257).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is empty (0 bytes)"),
        ("unreadable", "is not an image that Pillow can read"),
        ("truncated", "is damaged or cut short"),
        ("CMYK", "is a CMYK image; expected 8-bit RGB"),
        ("greyscale", "is a greyscale image; expected 8-bit RGB"),
        ("transparency", "is an image with transparency; expected 8-bit RGB"),
        ("16-bit", "is a 16-bit image; expected 8-bit RGB"),
        ("16-bit RGB", "is a 16-bit image; expected 8-bit RGB"),
    ],
)
def test_unusable_images_say_what_they_are(kind: str, message: str, photo: Tensor, tmp_path: Path) -> None:
    path = _broken(kind, tmp_path / "x.png", photo)
    with pytest.raises(BadData) as error:
        read_image(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_another_format_named_png_is_read_by_its_content(tmp_path: Path) -> None:
    """Where a PNG holds its depth this file holds a pixel of 200."""
    clip = torch.full((1, 3, 16, 16), 200, dtype=torch.uint8)
    Image.fromarray(clip[0].permute(1, 2, 0).numpy()).save(tmp_path / "x.png", format="PPM")
    assert torch.equal(read_image(tmp_path / "x.png"), clip)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no images in"):
        data.build(f"folder:{tmp_path}").samples()
    with pytest.raises(BadData, match="is not a folder"):
        data.build(f"folder:{tmp_path / 'nowhere'}").samples()


def test_kodak_offline_says_which_file_where_from_and_where_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBUSTCODEC_KODAK", raising=False)
    monkeypatch.setenv("ROBUSTCODEC_CACHE", str(tmp_path))
    monkeypatch.setattr(Kodak, "URL", "http://127.0.0.1:9/kodak")  # nothing listens there
    with pytest.raises(WeightsError) as error:
        data.build("kodak").samples()
    assert "http://127.0.0.1:9/kodak/kodim01.png" in str(error.value)
    assert str(tmp_path / "kodak" / "kodim01.png") in str(error.value)


def test_kodak_refuses_another_file_of_that_name(photo: Tensor, tmp_path: Path) -> None:
    write_image(photo, tmp_path / "kodim01.png")
    with pytest.raises(WeightsError, match="damaged or another file: its sha256 starts with"):
        data.build(f"kodak:{tmp_path}").samples()


def test_names_are_unique_whatever_files_are_called(photo: Tensor, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.jpg.png", "b.png", "c/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo[0].permute(1, 2, 0).numpy()[:16, :16]).save(tmp_path / name)
    samples = data.build(f"folder:{tmp_path}").samples()
    assert sorted(sample.id for sample in samples) == ["a.jpg", "a.jpg.png", "a.png", "b", "c/b"]
    assert all(s.source is not None and s.source.name.startswith(Path(s.id).name) for s in samples)


def test_a_data_set_that_names_two_samples_alike_is_refused(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = photo[..., :16, :16]

    class Twins(DataSet):
        def samples(self) -> list[Sample]:
            return [Sample("one", lambda: clip), Sample("one", lambda: clip)]

    monkeypatch.setitem(data._builders, "twins", Twins)
    with pytest.raises(BadData, match="twins: one and one have one name, 'one'; rename one of them"):
        _ = Cell("jpeg", "noise", data="twins").id


def test_only_what_people_put_into_a_folder_is_a_sample(photo: Tensor, tmp_path: Path) -> None:
    picture = Image.fromarray(photo[0].permute(1, 2, 0).numpy()[:16, :16])
    hidden = (".ipynb_checkpoints/x.png", ".thumbnails/y.png", "__MACOSX/z.png", "._a.png", ".hidden.png")
    for name in ("a.png", "deep/b.png", *hidden):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "set" / name)
    for name in ("frames.png", "clip.mp4"):  # folders
        (tmp_path / "set" / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    picture.save(tmp_path / "elsewhere" / "c.png")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "deep" / "round").symlink_to(tmp_path / "set")  # has no end
    samples = data.build(f"folder:{tmp_path / 'set'}").samples()
    assert [sample.id for sample in samples] == ["a", "deep/b", "linked/c"]
