"""A photo of the user's own: made small enough, refused where it is none, and met by attacks that know their codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustcodec.errors import BadData, StoreError
from robustcodec.studies import own_photo


def photo(folder: Path, width: int, height: int, name: str = "photo.png") -> Path:
    """A ramp from left to right in red, and from top to bottom in green."""
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    Image.fromarray(ramp).save(folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("size", "fits", "note"),
    [
        ((64, 48), (64, 48), ""),
        ((256, 256), (256, 256), ""),
        ((1200, 900), (295, 221), "1200 x 900 pixels: it was shrunk to 295 x 221 pixels"),
        ((400, 50), (100, 50), "400 x 50 pixels: its middle was cut out to 100 x 50 pixels"),
        ((900, 2400), (181, 362), "its middle was cut out and it was shrunk to 181 x 362 pixels"),
    ],
)
def test_a_photo_is_made_to_fit_and_says_so(
    tmp_path: Path, size: tuple[int, int], fits: tuple[int, int], note: str
) -> None:
    made = own_photo.prepare(photo(tmp_path, *size), tmp_path / "run")
    with Image.open(made.path) as picture:
        assert picture.size == fits and picture.width * picture.height <= own_photo.PIXELS
        corners = [picture.getpixel(place)[:2] for place in ((0, 0), (fits[0] - 1, fits[1] - 1))]  # type: ignore[index]
    assert made.note.endswith(note) and bool(made.note) == bool(note)
    cut = np.array([1 - min(1, own_photo.LONGEST * min(size) / side) for side in size])  # from each end half of it
    assert np.abs(np.array(corners) - 255 * np.array([cut / 2, 1 - cut / 2])).max() < 4


def test_a_grey_photo_turned_by_its_camera_is_taken_upright(tmp_path: Path) -> None:
    picture = Image.new("L", (40, 60), 7)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(own_photo.prepare(tmp_path / "turned.jpg", tmp_path / "run").path) as made:
        assert made.size == (60, 40) and made.mode == "RGB"


def test_what_is_no_photo_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    for name, words in {
        ".": "is a folder; quickstart takes one photo",
        "clip.mp4": "is a video; quickstart takes one photo. For a clip: robustcodec attack",
        "notes.png": "is not an image",
        "empty.png": "is empty",
        "nowhere.png": "no image at",
    }.items():
        with pytest.raises(BadData, match=words):
            own_photo.prepare(tmp_path / name, tmp_path / "run")
    with pytest.raises(BadData, match="has 200x31 pixels; expected 32 or more"):
        own_photo.prepare(photo(tmp_path, 200, 31), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_photo_itself_is_never_replaced(tmp_path: Path) -> None:
    file = photo(tmp_path, 600, 600)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="give another --out"):
        own_photo.prepare(file, tmp_path)
    assert file.read_bytes() == before


def test_another_photo_of_the_same_name_takes_no_results_over(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, run = photo(tmp_path, 64, 48), tmp_path / "run"
    made = own_photo.prepare(one, run).path
    before = made.read_bytes()
    with pytest.raises(StoreError, match="results of another photo called photo.png; give another --out"):
        own_photo.prepare(photo(tmp_path / "other", 64, 40), run)
    assert made.read_bytes() == before
    made.write_bytes(before[:50])  # what cannot be read stands for nothing
    own_photo.prepare(one, run)
    assert made.read_bytes() == before


def test_every_codec_meets_an_attack_that_knows_it_and_one_is_defended(tmp_path: Path) -> None:
    cells = own_photo.grid(photo(tmp_path, 40, 40), (), "psnr:36").cells()
    bare = {cell.codec: cell.attack for cell in cells if cell.defense == "none"}
    assert bare == {**dict.fromkeys(own_photo.CODECS, own_photo.BY_GRADIENT), "jpeg:quality=20": "jpeg-dct:steps=5"}
    defended = {(cell.codec, cell.access) for cell in cells if cell.defense != "none"}
    assert defended == {(own_photo.DEFENDED, access) for access in ("oblivious", "adaptive")}
    assert {cell.threat for cell in cells} == {"psnr:36"}


def test_a_codec_without_gradients_is_asked_and_not_defended(tmp_path: Path) -> None:
    cells = own_photo.grid(photo(tmp_path, 40, 40), ["webp:quality=30", "jpeg:quality=20"], "psnr:36").cells()
    assert {(cell.codec, cell.attack, cell.defense) for cell in cells} == {
        ("webp:quality=30", own_photo.BY_QUERIES, "none"),
        ("jpeg:quality=20", own_photo.BY_TRANSFORM, "none"),
    }


def test_the_classical_codec_can_be_asked_for_alone(tmp_path: Path) -> None:
    cells = own_photo.grid(photo(tmp_path, 40, 40), [own_photo.CLASSICAL], "psnr:36").cells()
    assert [(cell.codec, cell.attack) for cell in cells] == [(own_photo.CLASSICAL, own_photo.BY_TRANSFORM)]
