"""``docs/reference/published-attacks.md``: names that it says to type exist; no published loss or attack is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from robustcodec import registry
from robustcodec.registry import Registry
from robustcodec.running.access import victim
from robustcodec.scores import columns

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "published-attacks.md").read_text(encoding="utf-8")
NIC_LOSSES = [
    "added_noises_loss", "added_noises_loss_Y", "reconstr_loss", "reconstr_loss_Y", "src_reconstr_loss_Y",
    "ftda_default_loss", "ftda_default_loss_Y", "ftda_msssim_loss", "reconstruction_msssim_loss", "bpp_increase_loss",
    "pointwise_added_noises_loss",
]  # fmt: skip
NIC_ATTACKS = ["ifgsm", "pgd-ifgsm", "ftda", "FTDA-randn-init", "FTDA-linf", "madc", "MADC-randn-init", "madc-linf",
               "madc-norm", "mad-mix", "ssah", "cadv", "Korhonen", "random-noise"]  # fmt: skip


def rows(title: str) -> list[list[str]]:
    """The cells of each line of the table below a heading, a ``\\|`` inside one read back."""
    table = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def typed(title: str) -> list[str]:
    """All names in the last column of a table."""
    return [name for row in rows(title) for name in re.findall(r"`([^`]+)`", row[-1])]


@pytest.mark.parametrize(("title", "kind"), [("Attacks", registry.attacks), ("Losses", registry.objectives)])
def test_every_attack_and_loss_can_be_built(
    title: str, kind: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("photo.png")  # the target of targeted ones
    assert all(re.findall("`", row[-1]) for row in rows(title))
    for name in typed(title):
        kind.build(name)


def test_every_access_and_score_exists() -> None:
    for access in typed("What the attacker knows"):
        for codec in victim(access, "jpeg", "none").codecs:
            registry.codecs.resolve(codec)
    assert set(typed("Scores")) <= set(columns.RESULTS)


def test_nothing_of_nic_robustbench_is_missing() -> None:
    losses = {name for row in rows("Losses") if row[0] == "NIC-RobustBench" for name in re.findall(r"`(\w+)`", row[1])}
    assert losses == set(NIC_LOSSES)
    attacks = " ".join(row[1] for row in rows("Attacks") if row[0] == "NIC-RobustBench")
    assert not [name for name in NIC_ATTACKS if name not in attacks]
