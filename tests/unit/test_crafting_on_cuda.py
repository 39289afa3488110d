"""Crafting on a GPU, rehearsed: no attack mixes devices, and none waits for a value between its steps.

The exceptions are stated, with the file that asks: ``chen-ma`` and ``ftda`` save a query where all samples are outside
the budget, a threat of several bounds fills them until nothing changes, and a defense that chooses among ways of coding
asks once whenever a clip is really coded.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rehearsal import Rehearsal

from robustcodec.coding import judged
from robustcodec.execution.worker import now_and_then
from robustcodec.interfaces import Codec, Draws
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, codecs, objectives, threats
from robustcodec.zoo.container import ContainerCodec

SMALL = "bmshj2018-factorized.tiny-q1"
BUNDLED = {"bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "rdae", "rdae-gan"}
CLASSES: dict[str, Any] = {name: codecs.get(name) for name in codecs.names()}
OTHERS = {"process", "compressai"}  # which run code that is not ours
FAMILIES = {cls: name for name, cls in CLASSES.items() if issubclass(cls, ContainerCodec) and name not in OTHERS}
ATTACKS = {  # short ones, with the file that may ask
    "apgd:steps=6": "",
    "cadv:steps=1": "",
    "chen-ma:steps=1": "chen_ma.py",
    "cw:steps=1,binary_search=2": "",
    "fgsm": "",
    "frequency:steps=1": "",
    "ftda:steps=1": "ftda.py",
    "korhonen:steps=1": "",
    "madc:steps=1": "",
    "mi-fgsm:steps=1": "",
    "min-norm:steps=2": "",
    "nes:queries=6,samples=2": "",
    "ni-fgsm:steps=1": "",
    "noise": "",
    "patch:steps=1": "",
    "pgd:steps=2,restarts=2,momentum=0.5": "",
    "random-search:queries=2": "",
    "spsa:queries=3": "",
    "square:queries=2": "",
    "ssah:steps=1": "",
    "tmla:steps=1": "",
}
ELSEWHERE = {  # not rehearsed
    "block-search",  # for codecs that run on the CPU, whose picture it compares block by block
    "foolbox",  # of other libraries, which ask after every step whether they are done
    "torchattacks",
    "jpeg-dct",  # of JPEG's transform; its levels are searched on the host
    "universal",  # compares clips by their checksums
}
START = 2  # uploads at most of a random start: draws are made on the CPU
pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")


def craft(codec: Codec, attack: str, threat: str = "linf:4/255", objective: str = "rate-distortion") -> Oracle:
    """What ``attack`` does to two samples on the device; the oracle that it asked."""
    built = attacks.build(attack)
    x = torch.zeros(2, 2 if codec.card.kind == "video" else 1, 3, 64, 64, device="cuda")
    oracle = Oracle(codec, objectives.build(objective), x, built.access)
    x_adv = built.run(oracle, x.clone(), threats.build(threat), Draws([1, 2]))
    assert x_adv.is_cuda and x_adv.shape == x.shape
    return oracle


@pytest.mark.parametrize("family", sorted(FAMILIES.values()))
def test_a_family_is_attacked_without_a_fetch(family: str) -> None:
    name = f"{family}.tiny-q1" if family in BUNDLED else f"{family}:weights=random"
    with Rehearsal() as rehearsal:
        codec = judged(name, device="cuda")
        rehearsal.uploads = 0
        craft(codec, "pgd:steps=1")
        assert rehearsal.uploads <= START


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_fetches_nothing(attack: str) -> None:
    with Rehearsal(ATTACKS[attack]) as rehearsal:
        craft(judged(SMALL, device="cuda"), attack, "psnr:34")
        assert (rehearsal.fetches > 0) == (ATTACKS[attack] != "")


def test_every_attack_is_rehearsed_or_stated() -> None:
    ours = {name for name in attacks.names() if attacks.get(name).__module__.startswith("robustcodec.attacks.")}
    assert {name.partition(":")[0] for name in ATTACKS} | ELSEWHERE == ours


@pytest.mark.parametrize(
    "threat", ["linf:4", "l2:0.5", "mse:1e-4", "psnr:34,per=frame", "flicker:4", "linf:4,frames=0"]
)
def test_a_threat_fetches_nothing(threat: str) -> None:
    with Rehearsal() as rehearsal:
        codec = judged(SMALL, device="cuda")
        rehearsal.uploads = 0
        craft(codec, "pgd:steps=1,judge=1", threat)
        assert rehearsal.uploads <= START


def test_several_bounds_are_filled_until_nothing_changes() -> None:
    with Rehearsal("_filling.py") as rehearsal:
        craft(judged(SMALL, device="cuda"), "pgd:steps=1", "psnr:34+linf:4")
        assert rehearsal.fetches == 5  # one round of each: steepest twice, projection three times


@pytest.mark.parametrize("objective", ["distortion", "rate", "own-distortion", "pointwise-added-noise", "rate-down"])
def test_an_objective_fetches_nothing(objective: str) -> None:
    with Rehearsal() as rehearsal:
        codec = judged(SMALL, device="cuda")
        rehearsal.uploads = 0
        craft(codec, "pgd:steps=1", objective=objective)
        assert rehearsal.uploads <= START


def test_ms_ssim_fetches_nothing() -> None:
    with Rehearsal():
        craft(judged(SMALL, device="cuda"), "pgd:steps=1", objective="ms-ssim")


@pytest.mark.parametrize("defense", ["noise", "smooth:draws=2", "flip", "resize", "latent-clamp", "bitdepth"])
def test_a_defense_fetches_nothing(defense: str) -> None:
    with Rehearsal():
        craft(judged(SMALL, defense, "cuda"), "pgd:steps=1")


def test_an_adaptive_attack_on_a_choice_asks_only_where_a_clip_is_really_coded() -> None:
    """The clean clip's picture and its bits, and the one iterate that is judged; not the three steps."""
    with Rehearsal("_criterion.py") as rehearsal:
        craft(judged(SMALL, "self-ensemble:views=2", "cuda"), "pgd:steps=3,judge=3")
        assert rehearsal.fetches == 3


def test_what_is_remarked_is_read_when_it_is_asked_for() -> None:
    with Rehearsal("oracle.py") as rehearsal:
        oracle = craft(judged(SMALL, device="cuda"), "pgd:steps=1")
        assert (rehearsal.fetches, oracle.remarks, rehearsal.fetches) == (0, [[], []], 1)


def test_a_display_reads_a_damage_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damage:
        """Counts how often it is read."""

        read = 0

        def mean(self) -> float:
            Damage.read += 1
            return 1.0

    clock, shown = [9.7], list[float]()
    monkeypatch.setattr("robustcodec.execution.worker.time.perf_counter", lambda: clock[0])
    queried = now_and_then(shown.append)
    for clock[0] in (10.0, 10.1, 10.15, 10.25, 10.3):
        queried(Damage())  # type: ignore[arg-type]
    assert Damage.read == 2 and shown == [1.0, 1.0]
