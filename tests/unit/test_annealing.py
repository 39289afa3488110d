"""Rounding that sharpens while an attack goes on, and the wider set that shrinks meanwhile."""

from __future__ import annotations

import math

import pytest
import torch

from robustcodec import registry
from robustcodec.attacks.ascent import ARRIVAL, share, widened
from robustcodec.attacks.pgd import PGD
from robustcodec.interfaces import Draws
from robustcodec.oracle import Oracle
from robustcodec.rounding import MIDWAY, STAGES, Rounded, choose_level, round_latent, rounding, soft_round, stage
from robustcodec.running import suites


def test_stages_have_equal_shares_and_end_with_the_sharpest() -> None:
    assert [stage(k / 60) for k in range(60)] == [s for s in STAGES for _ in range(10)]
    assert stage(1.0) == STAGES[-1] and list(STAGES) == sorted(STAGES)
    assert stage(MIDWAY) == 4


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.99])
def test_annealed_latents_follow_the_soft_round_and_its_slope(progress: float) -> None:
    y, a = torch.linspace(-1.9, 1.9, 39, dtype=torch.float64), stage(progress)
    leaf = y.clone().requires_grad_()
    with rounding("annealed", progress):
        rounded = round_latent(leaf)
    expected = [
        math.floor(v) + 0.5 + math.tanh(a * (v - math.floor(v) - 0.5)) / (2 * math.tanh(a / 2)) for v in y.tolist()
    ]
    torch.testing.assert_close(rounded.detach(), torch.tensor(expected, dtype=torch.float64))
    (slope,) = torch.autograd.grad(rounded.sum(), leaf)
    step = 1e-6
    torch.testing.assert_close(
        slope, (soft_round(y + step, a) - soft_round(y - step, a)) / (2 * step), rtol=1e-4, atol=1e-6
    )


def test_the_ends_are_the_identity_and_rounding() -> None:
    y = torch.tensor([0.2, 0.4, 0.6, -1.3])
    torch.testing.assert_close(soft_round(y, 0), y)
    torch.testing.assert_close(soft_round(y, 200.0), y.round(), rtol=0, atol=1e-6)


def test_between_two_centres_a_sharpened_assignment_is_a_logistic_step() -> None:
    """``softmax(-a d²)`` of centres at 0 and 1: the step of ``tanh(a r) / 2`` about the middle between them."""
    z, centres = torch.linspace(0.1, 0.9, 9, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    soft = torch.softmax(-(z[:, None] - centres).square(), -1)
    for progress in (0.3, 0.6, 0.95):
        with rounding("annealed", progress):
            values = choose_level(soft) @ centres
        torch.testing.assert_close(values, 0.5 + torch.tanh(stage(progress) * (z - 0.5)) / 2)
    with rounding("annealed", 0.0):
        assert choose_level(soft) is soft


def test_a_widened_set_is_the_threat_with_larger_perturbations() -> None:
    x = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    far = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    for name in ("psnr:40", "linf:4/255"):
        threat = registry.threats.build(name)
        delta, radius = widened(threat, far, x, 2.0) - x, threat.radius(x)
        size = delta.abs().flatten(1).amax(1) if threat.norm == "linf" else delta.flatten(1).norm(dim=1)
        torch.testing.assert_close(size.double(), 2 * radius, rtol=1e-5, atol=0)
        torch.testing.assert_close(widened(threat, far, x, 1.0), threat.project(far, x))
    at_edge = widened(registry.threats.build("linf:0.5"), torch.ones_like(x) * 3, x, 2.0)
    assert at_edge.max() <= 1 and at_edge.min() >= 0


def test_steps_shrink_to_a_fiftieth_and_the_set_arrives_before_the_end() -> None:
    assert share("constant", 0.7) == 1
    assert share("cosine", 0.0) == 1 and share("cosine", 1.0) == pytest.approx(0.02)
    assert share("cosine", 0.5) == pytest.approx(0.51)
    assert 0 < ARRIVAL < 1


def test_the_default_does_clearly_more_than_gradients_that_skip_the_rounding() -> None:
    """At equal gradients, on a trained codec; twice as much was measured on Kodak."""
    from robustcodec import load
    from robustcodec.clips import to_float

    codec = load("bmshj2018-hyperprior.tiny-q2").requires_grad_(False)
    x = to_float(registry.data.build("photos:size=64").samples()[0].load())[None]
    objective, threat = registry.objectives.build("source-distortion"), registry.threats.build("psnr:40")

    def damage(attack: PGD) -> float:
        x_adv = attack.run(Oracle(codec, objective, x, "white"), x, threat, Draws([0]))
        return float(Oracle(codec, objective, x, "black")(threat.quantise(threat.project(x_adv, x), x)))

    former = PGD(steps=20, surrogate="none", step_size=0.3, decay="constant", widening=1.0)
    clean = float(Oracle(codec, objective, x, "black")(x))
    assert damage(PGD(steps=20)) - clean > 1.4 * (damage(former) - clean)


def test_first_versions_of_suites_say_what_was_default_when_they_were_published() -> None:
    members = dict.fromkeys(attack for attack, _ in suites.find("robustcodec-standard.v1").members)
    assert "pgd:steps=50,surrogate=none,step_size=0.3,decay=constant,widening=1" in members
    assert "mi-fgsm:constants=published,surrogate=none" in members
    assert ("noise", "source-distortion") in suites.find("robustcodec-black.v1").members
    newest = suites.find("robustcodec-standard")
    assert newest.version == 2 and newest.members == newest.written


def test_what_is_whole_already_stays_whole_where_a_network_rounds() -> None:
    """Networks round indices and count with them; decimals and real roundings are not latents either."""
    whole, values = torch.arange(4), torch.tensor([0.26, 1.74])
    with rounding("annealed"), Rounded():
        assert torch.round(whole).dtype == whole.dtype and torch.equal(whole.round(), whole)
        assert torch.equal(torch.round(values, decimals=1), torch.tensor([0.3, 1.7]))
        assert torch.equal(torch.round(values), round_latent(values)) and not torch.equal(values.round(), values)
    with Rounded():
        assert torch.equal(torch.round(values), torch.tensor([0.0, 2.0]))
