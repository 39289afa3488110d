"""Adversarial clips of a cell: an attack meets its victim through an oracle, and what it returns is not trusted.

It is checked, projected onto the threat and rounded to 8 bits inside it, sample batch by sample batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from cachetools import LRUCache
from torch import Tensor

from robustcodec import answers
from robustcodec.clips import sample_seed, to_float, to_uint8
from robustcodec.errors import AttackError, PluginError
from robustcodec.interfaces import Codec, Draws, Precision, Sample, Threat
from robustcodec.oracle import Oracle
from robustcodec.running.codecs import Codecs
from robustcodec.running.findings import OUTSIDE, budget_used, gradient_health
from robustcodec.running.rehearsal import Need, need
from robustcodec.running.resolved import Resolved

Queried = Callable[[Tensor], None]
EIGHT_BITS = 1e-3  # grey levels by which an 8-bit value in float32 may miss its level


@dataclass(frozen=True)
class Made:
    """Adversarial uint8 clips ``(T, 3, H, W)`` in the order of their samples, each with how it was reached."""

    clips: tuple[tuple[Tensor, dict[str, Any]], ...]


class Crafting:
    """Crafts clips on the codecs of one device."""

    def __init__(self, codecs: Codecs) -> None:
        self.codecs = codecs
        self._needs: LRUCache[tuple[Any, torch.Size], Need | None] = LRUCache(64)

    def clips(self, batch: Sequence[Sample]) -> Tensor:
        """``(N, T, 3, H, W)`` in [0, 1], on the device."""
        return to_float(torch.stack([s.load() for s in batch])).to(self.codecs.device)

    def need(self, cell: Resolved, x: Tensor) -> Need | None:
        """What memory it takes to craft clips ``x``; None if that is little, or cannot be known."""
        if (key := (cell.cell, x.shape)) not in self._needs:
            self._needs[key] = need(cell.attack, cell.threat, partial(self._oracle, cell), x)
        return self._needs[key]

    def _oracle(self, cell: Resolved, x: Tensor, **more: Any) -> Oracle:
        """What the attack of a cell may ask about clips ``x``."""
        victim, precision = self.codecs.victim(cell), cast(Precision, cell.cell.precision)
        return Oracle(
            victim, cell.objective, x, cell.attack.access, draws=cell.victim.draws, precision=precision, **more
        )

    def run(self, cell: Resolved, batches: Iterable[Sequence[Sample]], probed: str, queried: Queried) -> Made:
        """A clip for each sample; ``queried`` learns the damages ``(N,)`` of every query. ``probed``: the sample on
        which the health of the gradient is looked into.
        """
        memory: dict[str, Any] = {}  # what the attack makes once, for all of these samples
        # random states are of single samples
        alone = self.codecs.victim(cell).randomised
        clips: list[tuple[Tensor, dict[str, Any]]] = []
        for group in (part for batch in batches for part in ([[s] for s in batch] if alone else [batch])):
            adversarial, infos = self._attack(cell, group, queried, memory, probed in [s.id for s in group])
            clips += zip(adversarial, infos, strict=True)
        return Made(tuple(clips))

    def _attack(
        self, cell: Resolved, batch: Sequence[Sample], queried: Queried, memory: dict[str, Any], probe: bool
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """Adversarial clips and how they were reached; ``probe``: look into the health of the gradient too."""
        attack, threat, name = cell.attack, cell.threat, cell.cell.attack
        victim = self.codecs.victim(cell)
        if attack.access == "white" and not victim.differentiable:
            raise AttackError(
                f"{victim.card.name} gives no gradient and {name} needs one; "
                "use access = transfer:CODEC with a learned codec, bpda:CODEC with a surrogate of it (diff-jpeg), "
                "or a black-box attack"
            )
        x = self.clips(batch)
        if (memory_needed := self.need(cell, x)) is not None:
            memory_needed.check(self.codecs.device)
        seeds = [sample_seed(s, cell.cell.seed) for s in batch]
        ask = partial(self._oracle, cell, x)

        def changed() -> None:
            self.codecs.forget()  # built again from the file by whoever needs it next
            raise AttackError(f"{name} changed the codec's weights; its result is not used")

        with _contained(victim, changed):
            torch.manual_seed(seeds[0])  # for whoever draws from the global state
            oracle = ask(on_query=queried, memory=memory)
            returned = attack.run(oracle, x.clone(), threat, Draws(seeds))
        suspicions: list[list[str]] = [[] for _ in batch]
        if probe and attack.access == "white":
            with torch.random.fork_rng(devices=[]):
                suspicions = gradient_health(ask(), x, threat, Draws(seeds))
        x_adv, findings = _checked(name, returned, x, _radius(cell.cell.threat, threat, x), threat.norm)
        if attack.access == "white" and victim.randomised and cell.victim.draws == 1:
            findings = [[*faults, "randomised defense attacked without expectation"] for faults in findings]
        x_adv = inside(cell.cell.threat, threat, x_adv, x)
        infos = [
            {"queries": oracle.queries, "blind": blind, "budget": round(used, 4), "findings": [*faults, *notes, *signs]}
            for blind, used, faults, notes, signs in zip(
                oracle.blind, budget_used(x_adv, x, threat), findings, oracle.remarks, suspicions, strict=True
            )
        ]
        return to_uint8(x_adv).cpu(), infos


@contextmanager
def _contained(codec: Codec, on_change: Callable[[], None]) -> Iterator[None]:
    """What an attack does to random state, gradient mode or the codec's modes is undone. ``on_change`` is called if
    any tensor of the codec has other values than before, even if the attack then raised. Values are compared, not
    version counters: writing through ``.data`` or numpy leaves those as they were.
    """
    grad = torch.is_grad_enabled()
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            codec.eval().requires_grad_(False)
            after = codec.state_dict()
            if after.keys() != before.keys() or not all(torch.equal(after[k], before[k]) for k in before):
                on_change()


def _radius(name: str, threat: Threat, x: Tensor) -> Tensor:
    """``(N,)`` in float64; raises :class:`PluginError` if it is none."""
    radius = answers.per_sample(f"{name}: radius", threat.radius(x), len(x)).double()
    if not bool((radius.isfinite() & (radius >= 0)).all()):
        raise PluginError(f"{name}: radius gave {radius.tolist()}; expected finite sizes of 0 or more")
    return radius


def inside(name: str, threat: Threat, x_adv: Tensor, x: Tensor) -> Tensor:
    """The 8-bit input of ``threat`` next to ``x_adv``; raises :class:`PluginError` for what is none."""
    projected = answers.clips(f"{name}: project", threat.project(x_adv, x), x.shape)
    made = answers.finite(
        f"{name}: quantise", answers.clips(f"{name}: quantise", threat.quantise(projected, x), x.shape)
    )
    levels = 255 * made
    if answers.outside(made) or float((levels - levels.round()).abs().max()) > EIGHT_BITS:
        raise PluginError(f"{name}: quantise gave values that are not of 8 bits; expected multiples of 1/255 in [0, 1]")
    if (most := max(budget_used(made, x, threat))) > 1 + OUTSIDE:
        raise PluginError(
            f"{name}: quantise gave an input of {most:.3g} times the radius; expected one inside the threat"
        )
    return made


def _checked(name: str, returned: Any, x: Tensor, radius: Tensor, norm: str) -> tuple[Tensor, list[list[str]]]:
    """What an attack returned, made harmless, and per sample what was wrong with it."""
    try:
        x_adv = answers.clips(name, returned, x.shape).detach().to(x.device, x.dtype)
    except PluginError as error:
        raise AttackError(str(error)) from None
    findings: list[list[str]] = [[] for _ in range(len(x))]
    for i in range(len(x)):
        if not torch.isfinite(x_adv[i]).all():
            findings[i].append("returned values that are not finite: the clean clip was used")
            x_adv = torch.cat([x_adv[:i], x[i : i + 1], x_adv[i + 1 :]])
            continue
        delta = (x_adv[i] - x[i]).flatten().double()
        size = delta.abs().max() if norm == "linf" else delta.norm()
        if size > radius[i] * (1 + OUTSIDE):
            findings[i].append(f"left the threat set ({float(size / radius[i]):.3g} of the budget): projected back")
        elif x_adv[i].min() < -OUTSIDE or x_adv[i].max() > 1 + OUTSIDE:
            findings[i].append("left the [0, 1] box: clamped")
    return x_adv, findings
