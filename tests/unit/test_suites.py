"""Suites: what they hold, how they are asked for, and who met them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustcodec import registry
from robustcodec.errors import GridError, UnknownName
from robustcodec.running import suites
from robustcodec.running.grid import Grid, select


def test_every_member_of_every_suite_can_be_built() -> None:
    assert {s.name for s in suites.bundled()} == {
        "robustcodec-standard", "robustcodec-rate", "robustcodec-black", "robustcodec-video", "robustcodec-quick",
        "robustcodec-defense", "robustcodec-queries", "robustcodec-transform",
    }  # fmt: skip
    for suite in suites.bundled():
        assert suite.about and len(set(suite.members)) == len(suite.members) > 1
        for attack, objective in suite.members:
            registry.attacks.build(attack)
            registry.objectives.build(objective)


def test_the_black_suite_asks_for_no_gradient_and_the_standard_one_does() -> None:
    kinds = {
        name: {registry.attacks.build(a).access for a, _ in suites.find(name).members}
        for name in ("robustcodec-black", "robustcodec-standard")
    }
    assert kinds == {"robustcodec-black": {"black"}, "robustcodec-standard": {"white"}}


def test_a_name_alone_is_the_newest_version() -> None:
    assert suites.find("robustcodec-quick") == suites.find("robustcodec-quick.v2")
    with pytest.raises(UnknownName, match=r"did you mean robustcodec-standard\? .*robustcodec-standard.v1"):
        suites.find("standard")


def test_a_suite_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.v2.toml"
    path.write_text('about = "mine"\n[[member]]\nattack = "noise"\nobjective = "rate"\n')
    found = suites.find(str(path))
    assert str(found) == "mine.v2" and found.members == (("noise", "rate"),)
    path.write_text('about = "mine"\n')
    with pytest.raises(GridError, match="is not a suite"):
        suites.find(str(path))
    with pytest.raises(GridError, match="cannot be read"):
        suites.find(str(tmp_path / "none.toml"))


def test_a_block_with_a_suite_has_its_attacks_each_with_its_objective() -> None:
    grid = Grid.parse({"block": [{"codec": ["jpeg:30"], "suite": ["robustcodec-quick"]}]}, "g", "g.toml")
    assert {(c.attack, c.objective) for c in grid.cells()} == set(suites.find("robustcodec-quick").members)
    with pytest.raises(GridError, match="a suite brings its attacks and objectives; drop attack or the suite"):
        Grid.parse({"block": [{"codec": "a", "suite": "robustcodec-quick", "attack": "pgd"}]}, "g", "g.toml")


def test_a_suite_on_the_command_line_replaces_attacks() -> None:
    file = Grid.parse({"block": [{"codec": ["jpeg:30"], "attack": ["noise"], "threat": "psnr:{30,40}"}]}, "g", "g")
    asked = select(file, {"suite": ["robustcodec-quick"]}, None)
    assert len(asked.cells()) == 2 * len(suites.find("robustcodec-quick").members)
    back = select(asked, {"attack": ["noise"]}, None)
    assert {(c.attack, c.objective, c.threat) for c in back.cells()} == {
        ("noise", "distortion", "psnr:30"), ("noise", "distortion", "psnr:40"),
    }  # fmt: skip


def test_a_suite_is_complete_when_every_pair_was_met() -> None:
    members = suites.find("robustcodec-quick").members
    assert "robustcodec-quick.v2" in suites.complete([*members, ("noise", "rate")])
    assert "robustcodec-quick.v1" not in suites.complete(members[1:])
