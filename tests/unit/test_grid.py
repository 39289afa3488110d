"""Cells and grids: identity, TOML, the command line's axes, and mistakes."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from robustcodec.data._images import write_image
from robustcodec.errors import BadParameter, GridError, UnknownName, UserError
from robustcodec.running import suites
from robustcodec.running.grid import Cell, Grid, select
from robustcodec.running.resolved import identity_of

PGD = Cell("jpeg:quality=30", "pgd", data="ramps")
# A change of any of these makes another number. A new field must be added here, or be declared runtime in Runner.
IDENTITY = {"codec", "attack", "objective", "threat", "defense", "access", "data", "seed", "limit", "precision"}


def test_every_field_of_a_cell_is_declared_identity() -> None:
    assert {f.name for f in fields(Cell)} == IDENTITY


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "jpeg:quality=31"},
        {"attack": "pgd:steps=21"},
        {"objective": "rate"},
        {"threat": "psnr:41"},
        {"defense": "self-ensemble"},
        {"access": "transfer:levels"},
        {"access": "bpda:levels"},
        {"precision": "bfloat16"},
        {"data": "ramps:size=25"},
        {"seed": 1},
    ],
)
def test_every_field_changes_the_id(plugins: None, change: dict[str, Any]) -> None:
    assert replace(PGD, **change).id != PGD.id


def test_spelling_does_not_change_the_id(plugins: None) -> None:
    assert replace(PGD, threat="psnr:db=40.0").id == PGD.id
    assert replace(PGD, attack="pgd:steps=20").id == PGD.id
    assert replace(PGD, codec="jpeg:30").id == PGD.id


def test_golden_id(plugins: None) -> None:
    """Do not update the value: raise CELL_VERSION, so that old results are not taken for new ones."""
    cell = Cell("levels:levels=8", "brighten", "darkness", "linf:8/255", "halve", data="ramps:size=16")
    assert cell.id == "ef493f416ec86b5e"


def test_data_counts_by_content_not_by_path(tmp_path: Path, plugins: None) -> None:
    clip = torch.full((1, 3, 8, 8), 7, dtype=torch.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(clip, tmp_path / folder / "x.png")
    cells = [replace(PGD, data=f"folder:{tmp_path / folder}") for folder in ("a", "b")]
    assert cells[0].id == cells[1].id
    write_image(clip + 1, tmp_path / "b" / "x.png")
    assert cells[0].id != replace(PGD, data=f"folder:{tmp_path / 'b'}").id


def test_blocks_multiply_and_adaptive_needs_a_defense() -> None:
    block = {"codec": ["a", "b"], "attack": ["noise"], "defense": ["none", "d"], "access": ["oblivious", "adaptive"]}
    cells = Grid.parse({"block": [block, block]}, "g", "g.toml").cells()
    assert len(cells) == 6  # for each codec: bare, oblivious, adaptive
    assert {(c.defense, c.access) for c in cells} == {("none", "oblivious"), ("d", "oblivious"), ("d", "adaptive")}


def test_cells_of_one_victim_are_neighbours() -> None:
    """So that codecs are built and clean clips are coded once."""
    block = {"codec": ["b", "a"], "attack": ["noise", "pgd"], "defense": ["none", "d"], "data": ["x", "y"]}
    cells = Grid.parse({"block": [block]}, "g", "g.toml").cells()
    victims = [(c.data, c.codec, c.defense) for c in cells]
    assert victims == sorted(victims) and [c.attack for c in cells[:2]] == ["noise", "pgd"]


def test_data_sets_keep_the_order_in_which_a_grid_names_them() -> None:
    blocks = [
        {"codec": ["webp", "jpeg"], "attack": ["noise"], "data": [name]}
        for name in ("photos", "clips:size=16", "kodak")
    ]
    cells = Grid("g", (*blocks, {"codec": ["avif"], "attack": ["noise"], "data": ["photos"]})).cells()
    assert list(dict.fromkeys(cell.data for cell in cells)) == ["photos", "clips:size=16", "kodak"]
    assert [cell.codec for cell in cells if cell.data == "photos"] == ["avif", "jpeg", "webp"]


def test_a_suite_brings_pairs_and_no_product_of_them() -> None:
    grid = Grid.parse(
        {"block": [{"codec": ["a"], "suite": ["robustcodec-rate.v1", "robustcodec-standard.v1"]}]}, "g", "g"
    )
    members = [
        pair for name in ("robustcodec-rate.v1", "robustcodec-standard.v1") for pair in suites.find(name).members
    ]
    assert sorted((c.attack, c.objective) for c in grid.cells()) == sorted(set(members))
    assert len({c.attack for c in grid.cells()}) * len({c.objective for c in grid.cells()}) > len(set(members))


def test_the_limit_is_a_number_of_samples() -> None:
    whole = Cell("jpeg:30", "noise", data="photos:size=8").samples()
    assert [len(replace(PGD, data="photos:size=8", limit=n).samples()) for n in (1, 2, 0)] == [1, 2, len(whole)]


def test_weights_and_targets_count_by_content_not_by_path(tmp_path: Path) -> None:
    """Of a codec's file, of a purifier's, and of the picture that an objective aims at."""
    zoo, codec = Path(__file__).parents[2] / "zoo", "bmshj2018-factorized.tiny-q1"
    picture = Cell("jpeg:30", "noise", data="photos:size=8").samples()[0].source
    assert picture is not None
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(zoo / "weights" / f"{codec}.safetensors", tmp_path / folder / "weights.safetensors")
        shutil.copy(zoo / "cards" / f"{codec}.toml", tmp_path / folder / "weights.toml")
        shutil.copy(picture, tmp_path / folder / "picture.png")
        toys.stored_purifier(tmp_path / folder)

    def ids(axis: str, text: str) -> list[str]:
        cell = Cell("jpeg:30", "noise", data="photos:size=8", limit=1)
        return [replace(cell, **{axis: text.format(tmp_path / folder)}).id for folder in ("a", "b")]  # type: ignore[arg-type]

    for axis, text in (
        ("codec", "bmshj2018-factorized:weights={}/weights.safetensors"),
        ("defense", "diffpure:weights={}/diffpure.small.safetensors"),
        ("objective", "target:{}/picture.png"),
    ):
        one, other = ids(axis, text)
        assert one == other, axis
    write_image(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), tmp_path / "b" / "picture.png")
    one, other = ids("objective", "target:{}/picture.png")
    assert one != other


def test_toml_round_trip(tmp_path: Path) -> None:
    grid = Grid.default()
    path = tmp_path / "grid.toml"
    path.write_text(grid.to_toml())
    assert Grid.read(path) == grid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("block = 3", "must be written [[block]]"),
        ("codecs = ['a']", "unknown key 'codecs'"),
        ("[[block]]\ncodec = ['a']\nattack = ['b']\nattacks = []", "unknown key 'attacks' in a block"),
        ("[[block]]\ncodec = ['a']", "names no attack"),
        ("[[block]]\ncodec = [3]\nattack = ['b']", "expected a list of str"),
        ("[[block]]\ncodec = ['a']\nattack = ['b']\nlimit = -1", "limit = -1"),
        ("[[block]", "is not TOML"),
    ],
)
def test_mistakes_in_a_grid_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(GridError) as error:
        Grid.read(path).cells()
    assert message in str(error.value) and "grid.toml" in str(error.value)


def test_names_and_values_are_checked_before_anything_runs() -> None:
    def grid(**axes: str) -> Grid:
        block = {"codec": ["jpeg:30"], "attack": ["noise"], "data": ["photos:size=8"]}
        return Grid("g", ({**block, **{k: [v] for k, v in axes.items()}},))

    with pytest.raises(UnknownName, match="did you mean pgd"):
        grid(attack="pgdd").check()
    with pytest.raises(BadParameter, match="steps=0"):
        grid(attack="pgd:steps=0").check()
    with pytest.raises(GridError, match="expected oblivious, .*transfer:CODEC, several as .*, or bpda:CODEC"):
        grid(access="all").check()
    with pytest.raises(UnknownName):
        grid(access="transfer:nonsense").check()


def test_axes_on_the_command_line() -> None:
    default = Grid.default()
    assert select(None, {}, None) == default
    limited = select(None, {"threat": ["linf:8/255"]}, 1)
    assert {c.threat for c in limited.cells()} == {"linf:8/255"}
    assert len(limited.cells()) == len({replace(c, threat="linf:8/255") for c in default.cells()})
    own = select(None, {"codec": ["jpeg:30"], "attack": ["noise"]}, None)
    assert own.cells() == [Cell("jpeg:30", "noise")]


def test_axes_on_the_command_line_keep_the_rest_of_a_grid_file() -> None:
    file = Grid("mine", ({"codec": ["jpeg:30", "jpeg:40"], "attack": ["noise"], "threat": ["psnr:34"], "limit": 2},))
    assert select(file, {}, None) is file
    assert select(file, {"codec": ["webp:50"]}, None).cells() == [Cell("webp:50", "noise", threat="psnr:34", limit=2)]


def test_a_defense_is_identified_by_its_layers_its_weights_and_what_it_is_made_on() -> None:
    assert identity_of("defense", "self-ensemble") == {"name": "self-ensemble", "params": {"views": 8}}  # as of old
    assert identity_of("defense", "self-ensemble:criterion=bits")["params"]["criterion"] == "bits"
    stack = identity_of("defense", "self-ensemble+bitdepth:bits=5")
    assert stack == {
        "name": "self-ensemble+bitdepth",
        "layers": [identity_of("defense", "self-ensemble"), identity_of("defense", "bitdepth:bits=5")],
    }
    assert stack != identity_of("defense", "bitdepth:bits=5+self-ensemble")
    assert identity_of("defense", "h264:30")["fingerprint"]
    clamp = identity_of("defense", "latent-clamp")
    assert clamp["made_on"] and clamp != identity_of("defense", "latent-clamp:photos:size=64")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "../../x"', "no way out"),
        ('name = "/elsewhere/x"', "no way out"),
        ('name = ".."', "no way out"),
        ('name = "a\\\\b"', "no way out"),
        ('name = "a\\u0000b"', "signs that can be seen, of at most 200 bytes"),
        ('name = "a\\nb"', "signs that can be seen, of at most 200 bytes"),
        ('name = "a\\u001b[31m"', "signs that can be seen, of at most 200 bytes"),
        ('name = "a\\u202eb"', "signs that can be seen, of at most 200 bytes"),
        (f'name = "{"a" * 300}"', "signs that can be seen, of at most 200 bytes"),
        (f"nested = {'[' * 3000}{']' * 3000}", "is not TOML"),
        (f"seed = {'9' * 5000}", "is not TOML"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "grid.toml").write_text(f'{text}\n[[block]]\ncodec = ["jpeg"]\nattack = ["noise"]\n')
    with pytest.raises(GridError, match=words) as error:
        Grid.read(tmp_path / "grid.toml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"seed": [10**4000]}, "at most 63 bits"),
        ({"attack": ["noise" + "{0,1,2,3,4,5,6,7,8,9}" * 7]}, "stands for 10000000 names; expected at most 10000"),
        ({"codec": ["h264:crf=nan"]}, "crf='nan' cannot be read"),
        ({"codec": ["jpeg2000:ratio=inf"]}, "ratio='inf' cannot be read"),
        ({"codec": ["jpeg:quality={1,2,3,4,5,6,7,8}" + "{0,1,2,3,4,5,6,7,8,9}" * 2], "seed": list(range(2000))},
         "1600000 cells; expected at most 50000"),
        ({"codec": ["jpeg:quality={1,2,3,4,5,6,7,8,9}{0,1,2,3,4,5,6,7,8,9}"],
          "threat": [f"psnr:{i}" for i in range(50)], "seed": list(range(200))},
         "900000 cells; expected at most 50000"),
        ({"attack": [f"noise:a={i}" for i in range(9000)], "objective": [f"rate:b={i}" for i in range(9000)]},
         "81000000 cells; expected at most 50000"),
    ],
)  # fmt: skip
def test_careless_axes_are_refused_before_anything_is_made(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        Grid.parse({"block": [{"codec": ["jpeg"], "attack": ["noise"], "limit": 1, **axes}]}, "x", "x").check()
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_the_blocks_of_a_grid_are_bounded_together() -> None:
    block = {"codec": ["jpeg"], "attack": ["noise"], "limit": 1, "seed": list(range(30_000))}
    with pytest.raises(GridError, match="60000 cells; expected at most 50000"):
        Grid.parse({"block": [block, block]}, "x", "x").cells()


def test_a_grid_file_may_begin_with_a_mark_of_its_bytes(tmp_path: Path) -> None:
    """As editors on Windows write it."""
    text = 'name = "marked"\n[[block]]\ncodec = ["jpeg"]\nattack = ["noise"]\n'
    (tmp_path / "grid.toml").write_text(text, encoding="utf-8-sig")
    assert Grid.read(tmp_path / "grid.toml").name == "marked"
