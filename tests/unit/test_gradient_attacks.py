"""Gradient attacks: against closed forms, against their papers written out, against torchattacks and foolbox."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcodec import load, registry
from robustcodec.attacks.apgd import APGD, checkpoints
from robustcodec.attacks.chen_ma import ChenMa
from robustcodec.attacks.cw import CW
from robustcodec.attacks.mi_fgsm import MIFGSM
from robustcodec.attacks.ni_fgsm import NIFGSM
from robustcodec.attacks.pgd import PGD
from robustcodec.errors import BadParameter
from robustcodec.interfaces import Attack, Codec, Draws, Objective, Output, Threat
from robustcodec.objectives.damage import Distortion, Rate, SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.rounding import Surrogate, rounding
from robustcodec.threats import L2, Linf, Mse, Psnr

Build = Callable[[Tensor], Codec]
TRAINED = "bmshj2018-factorized.tiny-q1"


def reached(
    attack: Attack, codec: Codec, threat: Threat, x: Tensor, objective: Objective | None = None, first_seed: int = 0
) -> Tensor:
    """Damage of what the attack returns, which is inside the threat."""
    objective = objective or Distortion()
    draws = Draws(range(first_seed, first_seed + len(x)))
    x_adv = attack.run(Oracle(codec, objective, x, "white"), x, threat, draws)
    torch.testing.assert_close(threat.project(x_adv, x), x_adv, rtol=0, atol=1e-6)
    with torch.no_grad():
        return Oracle(codec, objective, x, "black")(x_adv)


def noise(x: Tensor, seed: int) -> Tensor:
    """A random matrix for clips like ``x``: a landscape with many corners."""
    values = x[0].numel()
    return torch.randn(values, values, generator=torch.Generator().manual_seed(seed)) / math.sqrt(values)


@pytest.mark.parametrize("threat", [Psnr(30), Psnr(26), Mse(2e-3)], ids=repr)
@pytest.mark.parametrize("attack", [PGD(steps=50), APGD(), CW(), ChenMa()], ids=lambda a: type(a).__name__)
def test_the_top_singular_vector_is_found(
    attack: Attack, threat: Threat, linear: Build, spectrum: Tensor, grey: Tensor
) -> None:
    """The optimum is σ² r² / values. Budgets are such that rounding to 8 bits costs little of it."""
    top = float(torch.linalg.svdvals(spectrum.double())[0])
    optimum = top**2 * threat.radius(grey) ** 2 / grey[0].numel()
    assert (reached(attack, linear(spectrum), threat, grey) >= 0.99 * optimum).all()


@pytest.mark.parametrize(
    "attack", [PGD(), APGD(steps=20), CW(), ChenMa(steps=200), MIFGSM(), NIFGSM()], ids=lambda a: type(a).__name__
)
def test_the_worst_corner_is_found(attack: Attack, linear: Build, positive: Tensor, grey: Tensor) -> None:
    optimum = (8 / 255 * positive.double().sum(1)).square().mean()
    assert (reached(attack, linear(positive), Linf(8 / 255), grey) >= 0.99 * optimum).all()


def source_slope(matrix: Tensor, flat: Tensor, x: Tensor) -> Tensor:
    """Gradient of ``mean((A x* - x)²)`` by hand, one clip."""
    return 2 * matrix.T @ (matrix @ flat - x) / len(flat)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_steps_by_hand(norm: str, nesterov: bool, linear: Build, grey: Tensor) -> None:
    """The published loops, one clip at a time: 4 steps of a quarter of the radius from the clean clip."""
    matrix = noise(grey, seed=3)
    eps = 8 / 255 if norm == "linf" else 1.0
    threat: Threat = Linf(eps) if norm == "linf" else L2(eps)
    step = 0.25 * eps
    expected = []
    for clip in grey.flatten(1):
        flat, g = clip.clone(), torch.zeros_like(clip)
        for _ in range(4):
            size = 1.0 if norm == "linf" else float((g / g.norm()).abs().mean()) if g.any() else 0.0
            where = flat + step * size * g if nesterov else flat  # decay 1
            slope = source_slope(matrix, where, clip)
            g = g + slope / slope.abs().mean()
            flat = flat + step * (g.sign() if norm == "linf" else g / g.norm())
            off = flat - clip
            flat = clip + (off.clamp(-eps, eps) if norm == "linf" else off * min(1.0, eps / float(off.norm())))
        expected.append(threat.quantise(flat.view(1, *grey.shape[1:]), clip.view(1, *grey.shape[1:])))
    attack = (NIFGSM if nesterov else MIFGSM)(steps=4, reach=1, momentum=1, start=0, judge=4)
    oracle = Oracle(linear(matrix), SourceDistortion(), grey, "white")
    assert torch.equal(attack.run(oracle, grey, threat, Draws(range(2))), torch.cat(expected))
    assert oracle.queries == 5


def test_published_constants(linear: Build, spectrum: Tensor, grey: Tensor) -> None:
    for kind in (MIFGSM, NIFGSM):
        named, spelled = (
            attack.run(Oracle(linear(spectrum), SourceDistortion(), grey, "white"), grey, Psnr(30), Draws(range(2)))
            for attack in (kind(constants="published"), kind(steps=10, reach=1, momentum=1, start=0))
        )
        assert torch.equal(named, spelled)


def reference_apgd(
    f: Callable[[Tensor], Tensor], x0: Tensor, x: Tensor, eps: float, norm: str, steps: int
) -> list[Tensor]:
    """Algorithm 1 of Croce & Hein for one flat clip, with autograd: its iterates.

    As in the authors' code an iterate is replaced by the best after w_j steps, before the next one is made.
    """

    def project(v: Tensor) -> Tensor:
        off = v - x
        off = off.clamp(-eps, eps) if norm == "linf" else off * min(1.0, eps / max(float(off.norm()), 1e-12))
        return (x + off).clamp(0, 1)

    def slope(v: Tensor) -> Tensor:
        leaf = v.clone().requires_grad_()
        (g,) = torch.autograd.grad(f(leaf), leaf)
        return g.sign() if norm == "linf" else g / g.norm()

    def value(v: Tensor) -> float:
        return float(f(v).float())  # an oracle's damage is float32

    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    w = [math.ceil(round(share * steps, 9)) for share in p]
    eta, here, before, best = 2 * eps, x0, x0, x0
    xs, fs, etas, tops = [x0], [value(x0)], [eta], [value(x0)]
    for k in range(steps):
        z = project(here + eta * slope(here))
        new = project(here + 0.75 * (z - here) + 0.25 * (here - before)) if k else z
        before, here = here, new
        xs.append(new)
        fs.append(value(new))
        best = new if fs[-1] > tops[-1] else best
        tops.append(max(tops[-1], fs[-1]))
        etas.append(eta)  # that made this iterate
        if k + 1 in w:
            j = w.index(k + 1)
            rises = sum(fs[i + 1] > fs[i] for i in range(w[j - 1], w[j]))
            unchanged = j > 1 and etas[w[j]] == etas[w[j - 1]] and tops[w[j - 1]] == tops[w[j]]
            if rises < 0.75 * (w[j] - w[j - 1]) or unchanged:
                eta, here = eta / 2, best
    return xs


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [7, 60])
@pytest.mark.parametrize("bonus", [0, 9])
def test_apgd_is_the_algorithm_of_the_paper(norm: str, steps: int, bonus: int, linear: Build, grey: Tensor) -> None:
    """All iterates of both clips, though they halve their steps at different times.

    With a bonus at the start no later iterate is the best, though damage may rise at every step: the second condition.
    """
    matrix, x = noise(grey, seed=4).double(), grey.double()
    eps = 8 / 255 if norm == "linf" else math.sqrt(grey[0].numel()) * 8 / 255
    threat: Threat = Linf(eps) if norm == "linf" else L2(eps)
    starts = threat.random_start(x, Draws(range(2)).child())
    met = list[Tensor]()

    def extra(v: Tensor, start: Tensor) -> Tensor:
        return bonus * ((v - start).flatten(1).abs().amax(1) < 1e-9)

    class Favoured(SourceDistortion):
        def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
            return super().__call__(x, clean, attacked, x_adv) + extra(x_adv, starts)

    class Listening(Oracle):
        def gradient(self, x_adv: Tensor, surrogate: Surrogate = "none") -> tuple[Tensor, Tensor]:
            met.append(x_adv)
            return super().gradient(x_adv, surrogate)

    APGD(steps=steps, surrogate="none").run(
        Listening(linear(matrix), Favoured(), x, "white"), x, threat, Draws(range(2))
    )
    for i, (clip, start) in enumerate(zip(x.flatten(1), starts.flatten(1), strict=True)):

        def f(v: Tensor, clip: Tensor = clip, start: Tensor = start) -> Tensor:
            return (matrix @ v - clip).square().mean() + extra(v[None], start[None])[0]

        expected = reference_apgd(f, start, clip, eps, norm, steps)
        for own, iterate in zip(met, expected, strict=False):
            torch.testing.assert_close(own[i].flatten(), iterate, rtol=0, atol=1e-9)
    assert len(met) == steps


def test_checkpoints() -> None:
    """Those of AutoAttack's default of 100 steps, and no step twice where there are few."""
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(3) == {1, 2, 3}


class TwoClasses(nn.Module):
    """A codec as torchattacks and foolbox see it: pictures to the logits -m/2 and m/2 of "fine" and "damaged".

    m is damage less 1.05 times that of the clean picture: it is "fine", and the damaged ones are all found.
    """

    def __init__(self, oracle: Oracle, x: Tensor) -> None:
        super().__init__()
        self.oracle = oracle
        self.somewhere = nn.Parameter(torch.zeros(()))  # torchattacks looks for a device here
        with torch.no_grad():
            self.level = 1.05 * self._damage(x[:, 0])

    def forward(self, pictures: Tensor) -> Tensor:
        margin = self._damage(pictures) - self.level
        return torch.stack([-margin, margin], 1) / 2

    def _damage(self, pictures: Tensor) -> Tensor:
        with rounding("none"):  # as own attacks get their gradients
            return self.oracle(pictures[:, None])


STEPS = 10
IN_LINF = ["torchattacks:PGD", "torchattacks:MIFGSM", "torchattacks:NIFGSM", "torchattacks:APGD", "foolbox:LinfPGD"]
IN_L2 = ["torchattacks:PGDL2", "torchattacks:APGD", "foolbox:L2PGD"]
OWN: dict[str, Attack] = {  # the same first step, momentum and start; judged at the end alone, as theirs are
    "PGD": PGD(steps=STEPS, judge=STEPS),
    "MIFGSM": MIFGSM(steps=STEPS, reach=0.3 * STEPS, momentum=1, start=0, judge=STEPS),
    "NIFGSM": NIFGSM(steps=STEPS, reach=0.3 * STEPS, momentum=1, start=0, judge=STEPS),
    "APGD": APGD(steps=STEPS, judge=STEPS),
}


def theirs(name: str, oracle: Oracle, x: Tensor, threat: Threat) -> Tensor:
    """What an attack of torchattacks or foolbox finds, with ``STEPS`` gradients, rounded inside the threat."""
    library, _, kind = name.partition(":")
    radius = float(threat.radius(x)[0])
    model = TwoClasses(oracle, x).eval()
    labels = torch.zeros(len(x), dtype=torch.long)
    torch.manual_seed(0)
    before = oracle.queries
    if library == "foolbox":
        import foolbox

        wrapped = foolbox.models.pytorch.PyTorchModel(model, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, kind)(rel_stepsize=0.3, steps=STEPS)
        found = attack.run(wrapped, x[:, 0], foolbox.criteria.Misclassification(labels), epsilon=radius)
    else:
        import torchattacks

        if kind == "APGD":  # one more gradient than steps, and it asks about the clean and the last picture
            options: dict[str, Any] = {"norm": "Linf" if threat.norm == "linf" else "L2", "steps": STEPS - 1}
        else:
            options = {"alpha": 0.3 * radius, "steps": STEPS}
        found = getattr(torchattacks, kind)(model, eps=radius, **options)(x[:, 0], labels)
    assert STEPS <= oracle.queries - before <= STEPS + 2
    return threat.quantise(threat.project(found.detach()[:, None], x), x)


@pytest.mark.parametrize("threat", [Linf(4 / 255), Psnr(34)], ids=repr)
@pytest.mark.parametrize("victim", ["linear", TRAINED])
def test_as_strong_as_other_libraries(
    victim: str, threat: Threat, linear: Build, spectrum: Tensor, grey: Tensor, photo: Tensor
) -> None:
    """At equal numbers of gradients, within 1 % for the deterministic ones and 3 % where random starts differ."""
    objective, codec, x = SourceDistortion(), linear(spectrum), grey
    if victim == TRAINED:
        codec, x = load(TRAINED).requires_grad_(False), photo[None, :, :, 64:128, 64:128] / 255
    for name in IN_LINF if threat.norm == "linf" else IN_L2:
        oracle = Oracle(codec, objective, x, "white")
        found = theirs(name, oracle, x, threat)
        with torch.no_grad():
            peer = Oracle(codec, objective, x, "black")(found)
        kind = name.partition(":")[2]
        own = reached(OWN["PGD" if "PGD" in kind and kind != "APGD" else kind], codec, threat, x, objective)
        assert (own >= (0.99 if "FGSM" in kind else 0.97) * peer).all(), (name, own, peer)


@pytest.mark.parametrize(
    "attack", [MIFGSM(), NIFGSM(), APGD(steps=12, restarts=2), CW(steps=9)], ids=lambda a: repr(a)[:6]
)
@pytest.mark.parametrize(
    "spec",
    ["psnr:34", "psnr:34,frames=first", "psnr:34,per=frame", "linf:8/255", "linf:8/255,frames=1:", "flicker:8/255"],
)
def test_clips_under_every_threat(attack: Attack, spec: str, linear: Build) -> None:
    """Budgets hold to the bit, noise is beaten, and a sample sees nobody else, for damage below zero too."""

    class Negative(Distortion):
        def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
            return super().__call__(x, clean, attacked, x_adv) - 1

    threat = registry.threats.build(spec)
    rng = torch.Generator().manual_seed(2)
    x = torch.randint(0, 256, (3, 2, 3, 4, 4), generator=rng) / 255
    codec = linear(torch.randn(96, 96, generator=rng) / 8)
    together = attack.run(Oracle(codec, Negative(), x, "white"), x, threat, Draws([0, 1, 2]))
    assert torch.equal(threat.quantise(together, x), together)
    assert torch.equal(threat.confine(together - x, x).ne(0).any(), torch.tensor(True))
    for i in (2, 0):
        alone = attack.run(Oracle(codec, Negative(), x[i : i + 1], "white"), x[i : i + 1], threat, Draws([i]))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)
    at_random = threat.quantise(threat.random_start(x, Draws([3, 4, 5])), x)
    oracle = Oracle(codec, Negative(), x, "black")
    assert (oracle(together) > oracle(at_random)).all()


def test_cw_raises_the_weight_of_a_flat_damage(linear: Build, grey: Tensor) -> None:
    """Damage falls with the distance from a point 1.2 radii away: the first c stops at 0.7 of the radius."""
    threat = Psnr(30)
    goal = grey + 1.2 * threat.steepest(torch.ones_like(grey), grey)

    class Near(Objective):
        def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
            return -(x_adv - goal).square().flatten(1).mean(1)

    codec, optimum = linear(torch.eye(grey[0].numel())), -(0.2**2) * 1e-3
    few, more = (reached(CW(binary_search=n), codec, threat, grey, Near()) for n in (1, 5))
    assert (few < 4 * optimum).all() and (more > 1.2 * optimum).all()


def test_restarts(linear: Build, grey: Tensor) -> None:
    matrix = noise(grey, seed=8)
    found = [reached(APGD(steps=5, restarts=r), linear(matrix), Linf(8 / 255), grey) for r in (1, 2, 4)]
    assert all((more >= fewer).all() for fewer, more in zip(found, found[1:], strict=False))
    assert (found[-1] > found[0]).any()


@pytest.mark.parametrize("kind", [APGD, PGD])
def test_disagreeing_restarts_are_remarked(kind: Callable[..., Attack], linear: Build, grey: Tensor) -> None:
    """Two hills: which one a run climbs is decided by its start. The second clip has one."""

    class Hills(Objective):
        def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
            way = (x_adv - x).flatten(1).mean(1)
            lower = torch.tensor([0.5, 1.0])
            return torch.where(way > 0, 1.0, lower) * way.abs() + 1e-3

    oracle = Oracle(linear(torch.eye(grey[0].numel())), Hills(), grey, "white")
    kind(steps=20, restarts=8).run(oracle, grey, Linf(8 / 255), Draws([0, 1]))
    assert oracle.remarks == [["random restarts disagree"], []]


def test_queries_are_what_they_say(linear: Build, positive: Tensor, grey: Tensor) -> None:
    for attack, expected in (
        (MIFGSM(), 22),
        (NIFGSM(steps=5), 6),
        (APGD(steps=20, restarts=2), 46),
        (CW(steps=20, binary_search=2), 44),
        (PGD(steps=5, restarts=2), 12),
    ):
        oracle = Oracle(linear(positive), Distortion(), grey, "white")
        attack.run(oracle, grey, Linf(8 / 255), Draws(range(2)))
        assert oracle.queries == expected, attack


@pytest.mark.parametrize("surrogate", ["straight-through", "noise", "soft"])
def test_surrogates_and_rate(surrogate: str, photo: Tensor) -> None:
    """On a trained codec, towards more bits, through every way of rounding."""
    codec, x = load(TRAINED).requires_grad_(False), photo[None, :, :, 64:128, 64:128] / 255
    with torch.no_grad():
        clean = Rate()(x, codec(x), codec(x), x)
    for name in ("mi-fgsm:steps=5", "ni-fgsm:steps=5", "apgd:steps=5", "cw:steps=10,binary_search=2"):
        attack = registry.attacks.build(f"{name},surrogate={surrogate}")
        assert (reached(attack, codec, Psnr(36), x, Rate()) > 1.01 * clean).all(), name


@pytest.mark.parametrize(
    "spec",
    [
        "mi-fgsm:steps=0",
        "mi-fgsm:reach=0",
        "mi-fgsm:momentum=-1",
        "ni-fgsm:start=2",
        "ni-fgsm:judge=0",
        "mi-fgsm:constants=published,steps=11",
        "apgd:steps=0",
        "apgd:restarts=0",
        "cw:lr=0",
        "cw:binary_search=0",
        "cw:start=-0.1",
    ],
)
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(BadParameter, match="expected"):
        registry.attacks.build(spec)
