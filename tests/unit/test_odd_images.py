"""Images that are no 8-bit RGB pictures: one rule for every format, and what ``convert`` makes of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustcodec.data._images import write_image
from robustcodec.errors import UserError
from robustcodec.registry import data
from robustcodec.running.grid import Cell
from robustcodec.zoo.pyav import scheduled_as_before

SIDE = 16
PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 8, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def read(path: Path, options: str = "") -> Tensor | str:
    """Pixels of an image as a data set, or the one line that says why there are none."""
    try:
        clip: Tensor = data.build(f"file:{path}{options}").samples()[0].load()
        return clip
    except UserError as error:
        return str(error)


def saved(format: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def tiff(values: NDArray[np.generic], bits: int, kind: int) -> bytes:
    """Uncompressed RGB of so many bits, which Pillow cannot write; ``kind``: 1 unsigned, 3 float."""
    height, width, _ = values.shape
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 146)]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, values.nbytes), (339, 3, 3, 140)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head + struct.pack("<6H", bits, bits, bits, kind, kind, kind) + values.tobytes()


def avif10() -> bytes:
    file = io.BytesIO()
    with scheduled_as_before(), av.open(file, "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"preset": "12", "svtav1-params": "lp=1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        grey = np.full((64, 64, 3), 90, np.uint8)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(grey)), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def patched(content: bytes, after: bytes, places: range | tuple[int, ...], value: int) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[content.index(after) + place] = value
    return bytes(changed)


DEEP: dict[str, tuple[str, Callable[[], bytes]]] = {
    "16.ppm": ("16-bit", lambda: b"P6 24 16 65535\n" + (PIXELS.astype(">u2") * 257).tobytes()),
    "10.ppm": ("10-bit", lambda: b"P6\n# by hand\n24 16\n1023\n" + (PIXELS.astype(">u2") * 4).tobytes()),
    "plain.ppm": ("9-bit", lambda: b"P3 2 1 300 " + b"255 256 300 1 2 3"),
    "16.tif": ("16-bit", lambda: tiff(PIXELS.astype("<u2") * 257, 16, 1)),
    "float.tif": ("32-bit float", lambda: tiff(PIXELS.astype("<f4") / 255, 32, 3)),
    "grey.tiff": ("32-bit float", lambda: saved("TIFF", Image.fromarray(PIXELS[..., 0].astype(np.float32)))),
    "10.avif": ("10-bit", avif10),
    "16.jp2": ("16-bit", lambda: patched(saved("JPEG2000"), b"\xff\x4f\xff\x51", (42, 45, 48), 15)),
    "12.jpg": ("12-bit", lambda: patched(saved("JPEG"), b"\xff\xc0", (4,), 12)),
    "16.png": ("16-bit", lambda: saved("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257))),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_refused_in_every_format(name: str, tmp_path: Path) -> None:
    """Whatever Pillow makes of them, and whatever the file is called: most it would reduce without a word."""
    depth, content = DEEP[name]
    for path in (tmp_path / name, tmp_path / "renamed.png"):
        path.write_bytes(content())
        expected = f"{path} is a {depth} image; expected 8-bit RGB. Convert it first: "
        for found in (read(path), read(path, ",convert=true")):
            assert isinstance(found, str) and found.startswith(expected), found


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_8_bit_rgb_is_read_in_every_format(format: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(saved(format))
    with Image.open(path) as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    for options in ("", ",convert=true"):
        found = read(path, options)
        assert isinstance(found, Tensor) and torch.equal(found, expected)


MANY: dict[str, tuple[str, dict[str, Any]]] = {
    "x.png": ("PNG", {"duration": 100}),
    "x.webp": ("WEBP", {"duration": 100, "lossless": True}),
    "gif.png": ("GIF", {}),
    "x.tif": ("TIFF", {}),
    "x.avif": ("AVIF", {"speed": 10}),
}


@pytest.mark.parametrize("name", MANY)
def test_files_of_several_pictures_are_refused(name: str, tmp_path: Path) -> None:
    format, options = MANY[name]
    path = tmp_path / name
    path.write_bytes(saved(format, PICTURE, save_all=True, append_images=[Image.fromarray(255 - PIXELS)], **options))
    for found in (read(path), read(path, ",convert=true")):
        assert isinstance(found, str) and found.startswith(f"{path} holds 2 pictures; expected one"), found


def alpha(lowest: int) -> Image.Image:
    opacity = np.full((SIDE, SIDE + 8, 1), 255, np.uint8)
    opacity[3, 4] = lowest
    return Image.fromarray(np.concatenate([PIXELS, opacity], 2))


def keyed(mode: str, hit: bool) -> bytes:
    """A PNG one colour of which is transparent; ``hit``: a pixel has that colour."""
    picture = PICTURE.point(lambda level: level // 2).convert(mode)  # no pixel is as bright as 250
    key = picture.getpixel((4, 3)) if hit else {"L": 250, "RGB": (250, 250, 250), "P": 255}[mode]
    return saved("PNG", picture, transparency=key)


TRANSPARENT: dict[str, Callable[[bool], bytes]] = {
    "alpha.png": lambda seen: saved("PNG", alpha(254 if seen else 255)),
    "alpha.webp": lambda seen: saved("WEBP", alpha(254 if seen else 255), lossless=True, exact=True),
    "alpha.tif": lambda seen: saved("TIFF", alpha(254 if seen else 255)),
    "key.png": lambda seen: keyed("RGB", seen),
    "grey key.png": lambda seen: keyed("L", seen),
    "palette key.png": lambda seen: keyed("P", seen),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_pixels_that_are_seen_through(name: str, tmp_path: Path) -> None:
    """Alpha and colour keys alike: what no pixel uses is no transparency."""
    path = tmp_path / name
    path.write_bytes(TRANSPARENT[name](True))
    for found in (read(path), read(path, ",convert=true")):
        assert isinstance(found, str) and found.startswith(f"{path} is an image with transparency; expected"), found
    path.write_bytes(TRANSPARENT[name](False))
    with Image.open(path) as image:
        opaque = torch.from_numpy(np.array(image.convert("RGBA").convert("RGB"))).permute(2, 0, 1)[None]
    found = read(path, ",convert=true" if name in ("grey key.png", "palette key.png") else "")
    assert isinstance(found, Tensor) and torch.equal(found, opaque), found


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    return saved("PNG", exif=exif)


def with_gain_map() -> bytes:
    """A JPEG as phones write them: behind the photo is a smaller grey picture."""
    return saved("MPO", save_all=True, append_images=[Image.new("L", (8, 8), 128)])


GREY, BITS, PALETTE = PICTURE.convert("L"), PICTURE.convert("1"), PICTURE.quantize(9)
MENDED: dict[str, tuple[str, Callable[[], bytes], NDArray[np.uint8]]] = {
    "grey.png": ("greyscale", lambda: saved("PNG", GREY), np.array(GREY.convert("RGB"))),
    "bits.png": ("black-and-white", lambda: saved("PNG", BITS), np.array(BITS.convert("RGB"))),
    "palette.png": ("palette", lambda: saved("PNG", PALETTE), np.array(PALETTE.convert("RGB"))),
    "turned.png": ("turned", turned, np.rot90(PIXELS, -1)),
    "phone.jpg": ("multi-picture", with_gain_map, np.array(Image.open(io.BytesIO(saved("JPEG"))))),
}


@pytest.mark.parametrize("name", MENDED)
def test_convert_gives_what_has_one_meaning(name: str, tmp_path: Path) -> None:
    kind, content, pixels = MENDED[name]
    path = tmp_path / name
    path.write_bytes(content())
    plain = read(path)
    assert isinstance(plain, str) and kind in plain and "convert=true" in plain, plain
    found = read(path, ",convert=true")
    assert isinstance(found, Tensor), found
    assert torch.equal(found, torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])


def test_turned_tiffs_are_turned_once(tmp_path: Path) -> None:
    """Pillow turns them by itself, and no other format."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.tif"
    path.write_bytes(saved("TIFF", exif=exif))
    plain, found = read(path), read(path, ",convert=true")
    assert isinstance(plain, str) and "turned" in plain, plain
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.from_numpy(np.rot90(PIXELS, -1).copy()).permute(2, 0, 1)[None])


def test_cmyk_has_no_one_meaning(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(saved("JPEG", PICTURE.convert("CMYK")))
    for found in (read(path), read(path, ",convert=true")):
        assert isinstance(found, str) and "is a CMYK image; expected 8-bit RGB. Convert it first: " in found, found


def odd_folder(folder: Path) -> Path:
    """A good image, and of each kind one that is none."""
    folder.mkdir()
    write_image(torch.from_numpy(PIXELS).permute(2, 0, 1)[None], folder / "good.png")
    for name in ("grey.png", "palette.png", "turned.png"):
        (folder / name).write_bytes(MENDED[name][1]())
    return folder


@pytest.mark.parametrize(
    "spec", ["folder:{},convert=true", "sequences:{},convert=true", "motion:{},frames=2,size=16,convert=true"]
)
def test_every_data_set_of_files_converts(spec: str, tmp_path: Path) -> None:
    folder = odd_folder(tmp_path / "odd")
    if spec.startswith("sequences"):
        (folder / "turned.png").unlink()  # it has another size
    found: list[Tensor | str] = []
    try:
        found += [sample.load() for sample in data.build(spec.format(folder)).samples()]
    except UserError as error:
        found.append(str(error))
    assert all(isinstance(clip, Tensor) for clip in found), found


def test_convert_is_no_identity(tmp_path: Path) -> None:
    """Where it changes a pixel there is no number without it, so what was measured before it came stays valid."""
    folder = odd_folder(tmp_path / "odd")
    ids = set[str]()
    for options in ("", ",convert=true", ",convert=false"):
        try:
            ids.add(Cell("jpeg", "noise", data=f"folder:{folder}{options}").id)
        except UserError as error:
            ids.add(str(error))
    assert len(ids) == 1, ids


def test_whatever_a_decoder_raises_is_damage(tmp_path: Path) -> None:
    """Pillow's raise errors of many types, here RuntimeError."""
    path, content = tmp_path / "x.avif", saved("AVIF")
    coded = content.index(b"mdat") + 4
    path.write_bytes(content[:coded] + bytes(len(content) - coded))
    try:
        found = read(path)
    except Exception as error:
        found = repr(error)
    assert isinstance(found, str) and found.startswith(f"{path} is damaged or cut short ("), found


def test_other_kinds_of_image_are_named_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(saved("TGA"))
    found = read(tmp_path / "x.png")
    assert isinstance(found, str), found
    assert found.endswith("expected PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, AVIF or JPEG 2000")
