"""Objects in memory where names stand: networks, attacks, defenses, pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressai.models import ScaleHyperprior
from torch import Tensor, nn

import robustcodec
from robustcodec.brought.contents import Contents
from robustcodec.brought.objects import ObjectWarning
from robustcodec.brought.pictures import Pictures
from robustcodec.errors import AttackError, BadParameter, RobustCodecError, UserError
from robustcodec.registry import attacks, codecs


class Blur(nn.Module):
    """From picture to picture, as researchers have them."""

    def __init__(self, width: float = 0.2) -> None:
        super().__init__()
        self.width, self.extra = width, {"a": [1, 2]}
        self.mix = nn.Parameter(torch.eye(3).reshape(3, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        shifted = x.roll(1, -1) + x.roll(-1, -1)
        return nn.functional.conv2d((1 - self.width) * x + self.width / 2 * shifted, self.mix)


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2, ::2]


@pytest.fixture(scope="module")
def network() -> ScaleHyperprior:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = ScaleHyperprior(16, 24)
    net.update(force=True)
    return net.eval()


@pytest.fixture
def pictures() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(40.0), indexing="ij")
    waves = [(0.5 + 0.4 * torch.sin(rows / (4 + c + i)) * torch.cos(columns / 6)) for c in range(3) for i in range(2)]
    return torch.stack(waves).view(2, 3, 48, 40)


def test_a_compressai_object_is_attacked_as_the_same_weights_by_name(
    network: ScaleHyperprior, pictures: Tensor, tmp_path: Path
) -> None:
    torch.save({"state_dict": network.state_dict()}, tmp_path / "mine.pth.tar")
    named = f"bmshj2018-hyperprior:weights={tmp_path / 'mine.pth.tar'}"
    before = {key: value.clone() for key, value in network.state_dict().items()}
    one, other = (robustcodec.attack(pictures, codec, attack="pgd:steps=3") for codec in (network, named))
    assert isinstance(one, robustcodec.Outcomes) and isinstance(other, robustcodec.Outcomes)
    assert torch.equal(one.adversarial, other.adversarial) and torch.equal(one.clean, other.clean)
    for score in ("psnr", "adv_psnr", "vi_db", "damage"):
        assert one.frame[score].tolist() == other.frame[score].tolist()
    sizes = [8 * len(a.clean_stream) - 8 * len(b.clean_stream) for a, b in zip(one, other, strict=True)]
    assert all(abs(size) <= 8 * 16 for size in sizes), sizes  # the container alone
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_any_network_from_picture_to_picture_has_distortion_alone(pictures: Tensor, tmp_path: Path) -> None:
    run = robustcodec.run(codec=[Blur(0.8), "jpeg"], attack=["noise"], data=pictures, out=tmp_path / "run")
    rows = run.frame[run.frame["codec"] != "jpeg"]
    assert len(rows) == 2 and rows["bpp"].isna().all() and rows["rate_ratio"].isna().all()
    assert rows["warnings"].str.contains("no bytes: distortion only, nothing to publish").all()
    original = (pictures * 255).round() / 255
    shown = (Blur(0.8)(original).clamp(0, 1) * 255).round() / 255
    expected = -10 * (shown - original).square().mean((1, 2, 3)).log10()
    assert rows["psnr"].to_numpy() == pytest.approx(expected.detach().numpy(), abs=1e-3)
    outcome = robustcodec.attack(pictures[0], Blur(), attack="pgd:steps=4", defense="flip")
    assert isinstance(outcome, robustcodec.Outcome)
    assert outcome.scores["adv_psnr"] < outcome.scores["psnr"]
    with pytest.raises(RobustCodecError, match="expected the same shape"):
        robustcodec.attack(pictures[0], Wrong(), attack="noise")


class Strided(nn.Module):
    """An autoencoder of stride 4, which gives whole multiples alone."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(8, 3, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.down(x))
        return y.sigmoid()


class Coarse(nn.Module):
    """Rounds to a few levels, in one of the ways in which people write it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y = x * 12.3
        if self.how == "function":
            y = torch.round(y)
        elif self.how == "method":
            y = y.round()
        elif self.how == "in place":
            y.round_()
        else:
            y = y + (torch.round(y) - y).detach()
        return y / 12.3


@pytest.mark.parametrize("how", ["function", "method", "in place", "detached"])
def test_a_network_that_rounds_is_no_wall_to_attacks(how: str, pictures: Tensor) -> None:
    outcome = robustcodec.attack(pictures[0], Coarse(how), attack="pgd:steps=5", objective="source-distortion")
    assert isinstance(outcome, robustcodec.Outcome)
    assert not any("blind" in warning for warning in outcome.warnings), outcome.warnings
    assert outcome.scores["adv_psnr"] < outcome.scores["psnr"] - 0.5
    original = (pictures[0] * 255).round() / 255
    shown = ((original * 12.3).round() / 12.3 * 255).round() / 255
    assert outcome.scores["psnr"] == pytest.approx(float(-10 * (shown - original).square().mean().log10()), abs=1e-3)


class Shaded(nn.Module):
    """What TorchScript can hold; ``rounds`` is no parameter of it."""

    def __init__(self, rounds: bool = False) -> None:
        super().__init__()
        self.mix, self.rounds = nn.Conv2d(3, 3, 1), rounds
        nn.init.dirac_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(x)
        return torch.round(y * 20) / 20 if self.rounds else y


@pytest.mark.filterwarnings("error::robustcodec.brought.objects.ObjectWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_known_by_its_code_and_its_weights(pictures: Tensor, tmp_path: Path) -> None:
    plain = Shaded()
    scripted: list[Any] = [torch.jit.script(plain)]
    scripted.append(torch.jit.trace(plain, torch.rand(1, 3, 8, 8)))  # type: ignore[no-untyped-call]
    torch.jit.save(scripted[0], tmp_path / "network.pt")
    for network in (*scripted, torch.jit.load(tmp_path / "network.pt")):  # type: ignore[no-untyped-call]
        outcome = robustcodec.attack(pictures[0], network, attack="pgd:steps=2", objective="source-distortion")
        assert isinstance(outcome, robustcodec.Outcome) and outcome.scores["adv_psnr"] < outcome.scores["psnr"]
    other = torch.jit.script(Shaded(rounds=True))
    other.load_state_dict(plain.state_dict())
    shifted = torch.jit.script(Shaded())
    contents = [Contents(network) for network in (scripted[0], other, shifted)]
    assert len({each.checksum for each in contents}) == 3 and not any(each.unknown for each in contents)
    assert Contents(scripted[0]).checksum == contents[0].checksum


def test_sides_that_a_network_does_not_keep_are_padded(pictures: Tensor) -> None:
    network = Strided()
    sides = pictures[:, :, :37, :39].float() / 255
    codec = robustcodec.load(network)
    whole = nn.functional.pad(sides, (0, 1, 0, 3), mode="replicate")
    with torch.no_grad():
        assert torch.equal(codec(sides[:, None]).x_hat[:, 0], network(whole)[..., :37, :39])
    outcome = robustcodec.attack(pictures[0, :, :37, :39], network, attack="pgd:steps=2")
    assert (
        isinstance(outcome, robustcodec.Outcome)
        and outcome.clean.shape == (1, 3, 37, 39)
        and outcome.scores["input_psnr"] >= 39.99
    )
    assert "adv_psnr=" in repr(outcome) and len(repr(outcome)) < 500  # a notebook shows it


def test_a_run_of_objects_resumes_and_another_object_is_another_cell(pictures: Tensor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"attack": "noise", "data": pictures[:1], "out": tmp_path}
    first = robustcodec.run(codec=Blur(), **options)
    (cell,) = (tmp_path / "cells").iterdir()
    stamp = cell.stat().st_mtime_ns
    again = robustcodec.run(codec=Blur(), **options)
    assert cell.stat().st_mtime_ns == stamp and again.frame.equals(first.frame)
    assert robustcodec.read(tmp_path).frame.equals(first.frame)
    robustcodec.run(codec=Blur(0.3), **options)
    assert len([*(tmp_path / "cells").iterdir()]) == 2


def test_another_process_reports_on_objects_and_cannot_run_them(
    pictures: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustcodec.brought import objects

    frame = robustcodec.run(codec=Blur(0.25), attack="noise", data=pictures, out=tmp_path).frame
    for kind, names in objects._known.items():
        for name in names:
            monkeypatch.delitem(robustcodec.registry.KINDS[kind]._builders, name)
    monkeypatch.setattr(objects, "_known", {})
    assert robustcodec.read(tmp_path).frame.equals(frame)
    with pytest.raises(UserError, match="was an object in Python; give it to robustcodec.run again"):
        codecs.build(frame["codec"][0])


def test_what_cannot_be_looked_into_is_never_taken_for_the_same(pictures: Tensor, tmp_path: Path) -> None:
    def odd() -> Blur:
        network = Blur()
        network.extra["count"] = iter([1, 2])  # type: ignore[assignment]
        return network

    options: dict[str, Any] = {"attack": "noise", "data": pictures[:1], "out": tmp_path}
    with pytest.warns(ObjectWarning, match=r"extra\['count'\] \(list_iterator\) from another, so this run cannot be"):
        robustcodec.run(codec=odd(), **options)
    with pytest.warns(ObjectWarning):
        robustcodec.run(codec=odd(), **options)
    assert len([*(tmp_path / "cells").iterdir()]) == 2


def test_attacks_and_defenses_are_objects_too(pictures: Tensor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "bmshj2018-factorized.tiny-q1", "data": pictures[:1], "threat": "psnr:36"}
    attack = attacks.build("pgd:steps=2")
    one = robustcodec.run(attack=attack, out=tmp_path / "a", **options).frame
    other = robustcodec.run({"block": [{**options, "attack": "pgd:steps=2", "data": "photos"}]}, data=pictures[:1],
                            out=tmp_path / "b").frame  # fmt: skip
    assert one["adv_psnr"].tolist() == other["adv_psnr"].tolist() and one["attack"][0] != other["attack"][0]
    with pytest.raises(BadParameter, match=r"attack is a Blur; expected a name, as robustcodec list attacks shows"):
        robustcodec.run(attack=Blur(), **options)  # type: ignore[arg-type]
    with pytest.raises(AttackError, match="latents"):
        _ = robustcodec.load(Blur())(pictures[None]).latents


def changed(**attributes: Any) -> Blur:
    network = Blur()
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


def test_contents_tell_apart_what_differs_and_nothing_else() -> None:
    same = {Contents(Blur()).checksum, Contents(changed()).checksum, Contents(Blur().eval()).checksum}
    assert len(same) == 1
    with torch.no_grad():
        (heavier := Blur()).mix[0, 0] += 1e-7
    scale = 2.0
    others = [
        heavier,
        changed(width=0.20001),
        changed(extra={"a": [1, 3]}),
        changed(hook=lambda x: x),
        changed(hook=lambda x: x * scale),
        changed(table=np.arange(3)),
        changed(table=np.arange(3.0)),
        changed(table=torch.arange(3)),
    ]
    assert len({Contents(other).checksum for other in others} | same) == len(others) + 1
    assert Contents(changed(hook=lambda x: x * scale)).checksum == Contents(changed(hook=lambda x: x * scale)).checksum
    circular: list[Any] = []
    circular.append(circular)
    assert Contents(changed(loop=circular)).unknown == []
    assert Contents(changed(file=Path("x"), open=iter(()))).unknown == ["Blur.open (tuple_iterator)"]


GAIN = 1.0


class Notebook(nn.Module):
    """Reads what stands beside it, as in a notebook."""

    def forward(self, x: Tensor) -> Tensor:
        return GAIN * x


def test_what_its_functions_read_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, same = Contents(Notebook()).checksum, Contents(Notebook()).checksum
    hook = Contents(changed(hook=lambda x: GAIN * x)).checksum
    monkeypatch.setitem(globals(), "GAIN", 2.0)
    assert before == same != Contents(Notebook()).checksum
    assert hook != Contents(changed(hook=lambda x: GAIN * x)).checksum


def test_what_a_set_holds_counts() -> None:
    assert Contents(changed(names={"a", "b"})).checksum == Contents(changed(names={"b", "a"})).checksum
    assert Contents(changed(some={iter(())})).unknown == ["an entry of Blur.some"]


def test_what_cannot_be_copied_is_attacked_all_the_same(pictures: Tensor, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("")
    with (tmp_path / "log.txt").open(encoding="utf-8") as file, pytest.warns(ObjectWarning, match="file"):
        outcome = robustcodec.attack(pictures[0], changed(file=file), attack="noise")
    assert isinstance(outcome, robustcodec.Outcome) and outcome.scores["psnr"] > 20


@dataclasses.dataclass
class Setting:
    level: float = 1.0


def test_plain_attributes_of_any_class_count() -> None:
    one, other = (Contents(changed(setting=Setting(level))).checksum for level in (1.0, 2.0))
    assert one != other


def test_pictures_have_the_same_draws_in_any_company(pictures: Tensor) -> None:
    both, alone = Pictures.of(pictures).samples(), Pictures.of(pictures[1]).samples()
    assert [s.id for s in both][1:] == [s.id for s in alone] and len({s.id for s in both}) == 2
    twice = Pictures.of(torch.stack([pictures[0], pictures[0]])).samples()
    assert twice[1].id == f"{twice[0].id}-2"
    (clip,) = Pictures.of(pictures, clip=True).samples()
    assert clip.load().shape == (2, 3, 48, 40)
