"""What an attack may ask of its victim: damage and, if it is allowed to, a gradient. Every question is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustcodec import answers
from robustcodec.errors import AttackError, PluginError
from robustcodec.interfaces import Access, Card, Codec, Objective, Output, Precision, Transform
from robustcodec.rounding import MIDWAY, Surrogate, rounding

Made = TypeVar("Made")


@dataclass(frozen=True)
class _Made:
    """What an attack made on clips of its own: ``queries`` it took; ``blind``: all its gradients were zero."""

    value: Any
    queries: int
    blind: bool


def shown(codec: Codec, x: Tensor) -> Output:
    """``codec(x)``; each branch raises :class:`PluginError` when it is asked for and is not what it should be."""
    out, name = codec(x), codec.card.name
    if not isinstance(out, Output):
        raise PluginError(f"{name}: forward gave {answers.described(out)}; expected a robustcodec.interfaces.Output")
    return Output(
        lambda: answers.clips(f"{name}: x_hat of forward", out.x_hat, x.shape),
        lambda: answers.per_sample(f"{name}: bits of forward", out.bits, len(x)),
        lambda: out.latents,
    )


def damage(objective: Objective, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
    """The damage that ``objective`` states; raises :class:`PluginError` if it is not a number for each sample."""
    return answers.per_sample(type(objective).__name__, objective(x, clean, attacked, x_adv), len(x))


def level(objective: Objective, x: Tensor, clean: Output) -> Tensor:
    """The damage from which a codec counts as broken; raises as :func:`damage` does."""
    return answers.per_sample(f"level of {type(objective).__name__}", objective.level(x, clean), len(x))


class ForwardOnly(Codec):
    """A codec for an oracle alone, which uses only ``forward`` and writes and reads no bytes."""

    def compress(self, x: Tensor) -> list[bytes]:
        raise NotImplementedError(f"{type(self).__name__} is for an oracle, which writes no bytes")

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} is for an oracle, which reads no bytes")


class Ensemble(ForwardOnly):
    """Several codecs that are attacked at once; an oracle asks each of its ``members`` separately."""

    def __init__(self, members: Sequence[Codec]) -> None:
        super().__init__()
        self.members: list[Codec] = list(members)
        self.networks = nn.ModuleList(members)
        self.card = Card("|".join(codec.card.name for codec in members), "ensemble")
        self.differentiable = all(codec.differentiable for codec in members)
        self.randomised = any(codec.randomised for codec in members)

    def forward(self, x: Tensor) -> Output:
        raise NotImplementedError("several codecs show no picture together")


class _Member:
    """One codec of a victim: its damage, and what it makes of the clean clip, coded once for each branch."""

    def __init__(self, codec: Codec, objective: Objective, x: Tensor) -> None:
        self._codec, self.objective, self._x = codec, objective.bind(codec), x

        @contextmanager
        def as_coded() -> Iterator[Output]:
            """Whatever surrogate an attack queries under, the clean clip is coded as it is."""
            with torch.no_grad(), rounding("straight-through"), torch.autocast(x.device.type, enabled=False):
                yield shown(codec, x)

        def clean_x_hat() -> Tensor:
            with as_coded() as out:
                return out.x_hat

        def clean_bits() -> Tensor:
            with as_coded() as out:
                return out.bits

        def clean_latents() -> list[Tensor]:
            with as_coded() as out:
                return out.latents

        self._clean = Output(clean_x_hat, clean_bits, clean_latents)

    def damage(self, x_adv: Tensor) -> tuple[Tensor, Output]:
        """``(N,)``, as the objective measures it, and what the codec makes of ``x_adv``."""
        out = shown(self._codec, x_adv)
        return damage(self.objective, self._x, self._clean, out, x_adv), out

    @torch.no_grad()
    def level(self) -> Tensor:
        return level(self.objective, self._x, self._clean)

    @torch.no_grad()
    def none(self) -> Tensor:
        """``(N,)`` damage of the clean clip."""
        return damage(self.objective, self._x, self._clean, self._clean, self._x)

    def share(self, x_adv: Tensor) -> tuple[Tensor, Output]:
        """As :meth:`damage`, as a share of the way from that of the clean clip, 0, to where the codec is broken, 1."""
        (damage, out), (none, level) = self.damage(x_adv), self._ends
        return (damage - none) / (level - none).clamp(min=torch.finfo(none.dtype).tiny), out

    @cached_property
    def _ends(self) -> tuple[Tensor, Tensor]:
        return self.none(), self.level()


class Oracle:
    """Everything that an attack sees of its victim. It counts each question as a query.

    It tells the damage of an input, ``(N,)``; the gradient only to attacks of access ``white``, and the codec's
    transform only to attacks of access ``transform``. The damage of an :class:`Ensemble` is the mean over its members,
    each measured as a share of what breaks it: 0 at the clean clip, 1 where all members are broken evenly. Each member
    counts as a query.

    ``x``: the clean clips. ``on_query``: is called with the damage of each query. ``memory``: what :meth:`once` has
    made, shared by all oracles of one attack, objective, threat and victim. ``draws``: how often a victim that draws
    random numbers is asked; damage and gradient are then means. ``precision``: of the victim's arithmetic when a
    gradient is asked for; damage alone is always float32. ``progress``: how much of the attack is done, in [0, 1]; the
    attack's loop sets it, and annealed roundings sharpen with it.
    """

    progress: float = MIDWAY

    def __init__(
        self,
        codec: Codec,
        objective: Objective,
        x: Tensor,
        access: Access,
        on_query: Callable[[Tensor], None] = lambda damage: None,
        memory: dict[str, Any] | None = None,
        draws: int = 1,
        precision: Precision = "float32",
    ) -> None:
        x = x.detach().clone()  # the attack holds its own copy and may do to it what it likes
        members = [_Member(each, objective, x) for each in (codec.members if isinstance(codec, Ensemble) else [codec])]

        def of_all(x_adv: Tensor) -> tuple[Tensor, Output]:
            if len(members) == 1:
                return members[0].damage(x_adv)
            damages, outs = zip(*(member.share(x_adv) for member in members), strict=True)
            mean = Output(partial(_mean, outs, "x_hat"), partial(_mean, outs, "bits"))
            return torch.stack(damages).mean(0), mean

        self._members = members
        objective = members[0].objective if len(members) == 1 else objective  # what it has coded for it stays coded
        self._damage, self._access, self._on_query, self._shape = of_all, access, on_query, x.shape
        self._x, self._reduced = x, precision != "float32"
        self._name, self._transform = codec.card.name, codec.transform
        self._draws = draws if codec.randomised else 1
        self._asked = 0
        self._seen_gradient: Tensor | None = None
        self._unbounded = dict[str, Tensor]()  # what was not finite, and for which samples
        self._elsewhere: Callable[[Tensor], Oracle] = lambda other: Oracle(
            codec, objective, other, access, on_query, draws=draws, precision=precision
        )
        self._others: list[Oracle] = []
        self._memory: dict[str, _Made] = {} if memory is None else memory
        self._used: list[_Made] = []
        self._remarked: list[tuple[str, Tensor]] = []

    def __call__(self, x_adv: Tensor) -> Tensor:
        """Damage of each sample of ``x_adv``, which must be shaped like the clean input."""
        return sum((self._ask(x_adv)[0] for _ in range(self._draws - 1)), self._ask(x_adv)[0]) / self._draws

    def look(self, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """The damage, and the picture that the decoder shows, shaped like ``x_adv``: one query, no gradient.

        An attacker who can have clips coded sees the picture too. If the victim draws random numbers, or is several
        codecs, it is the mean of all pictures.
        """
        with torch.no_grad():
            answers = [self._ask(x_adv) for _ in range(self._draws)]
            damage, shown = (torch.stack(v).mean(0) for v in zip(*((d, out.x_hat) for d, out in answers), strict=True))
        return damage, shown

    def gradient(self, x_adv: Tensor, surrogate: Surrogate = "annealed") -> tuple[Tensor, Tensor]:
        """``(damage, gradient)`` at ``x_adv``: ``(N,)``, and the gradient with respect to the input, shaped like it.

        ``surrogate``: how latents are rounded for this query. The default, ``annealed``, follows :attr:`progress`: it
        hardly rounds at the beginning, so that a perturbation too small to flip a latent has a gradient, and rounds
        nearly as the codec does at the end (measured in ARCHITECTURE.md).
        """
        leaf = x_adv.detach().requires_grad_(True)
        damage, grad = torch.zeros(len(leaf), device=leaf.device), torch.zeros_like(leaf)
        for _ in range(self._draws):
            with torch.enable_grad():
                with rounding(surrogate, self.progress), self._arithmetic():
                    one, _ = self._ask(leaf)
                (slope,) = torch.autograd.grad(one.sum(), leaf)
            damage += one.detach() / self._draws
            grad += slope / self._draws
        self._look_at("gradient", grad.flatten(1).isfinite().all(1))
        alive = grad.flatten(1).ne(0).any(1)
        self._seen_gradient = alive if self._seen_gradient is None else self._seen_gradient | alive
        return damage, grad

    @property
    def transform(self) -> Transform:
        """The transform in which the victim rounds; raises :class:`AttackError` if it is not known. Not a query."""
        if self._access != "transform" or self._transform is None:
            raise AttackError(
                f"{self._name} states no transform in which it rounds, as jpeg does; attack it by queries, or by the "
                "gradients of another codec: access = transfer:CODEC or bpda:CODEC"
            )
        return self._transform

    def level(self) -> Tensor:
        """``(N,)`` the damage from which the codec counts as broken. Not a query."""
        level = self._members[0].level()
        return level if len(self._members) == 1 else torch.ones_like(level)

    def clean(self) -> Tensor:
        """``(N,)`` the damage of the clean clip. Not a query, and it leaves the random state as it was."""
        with torch.random.fork_rng(devices=[]):
            none = self._members[0].none()
        return none if len(self._members) == 1 else torch.zeros_like(none)

    def remark(self, what: str, where: Tensor) -> None:
        """Attach a remark to the samples where ``where``, ``(N,)`` bool, is true; tables show it as a warning."""
        self._remarked.append((what, where))

    @property
    def remarks(self) -> list[list[str]]:
        """The remarks on each sample, in their order. Reading them waits for the device, so read them at the end."""
        notes: list[list[str]] = [[] for _ in range(self._shape[0])]
        odd = [(f"the {what} of {self._name} was not finite", where) for what, where in self._unbounded.items()]
        remarked = [*self._remarked, *odd]
        chosen = torch.stack([where.to(self._x.device) for _, where in remarked]).tolist() if remarked else []
        for (what, _), of_samples in zip(remarked, chosen, strict=True):
            for mine, is_meant in zip(notes, of_samples, strict=True):
                if is_meant and what not in mine:
                    mine.append(what)
        return notes

    def _ask(self, x_adv: Tensor) -> tuple[Tensor, Output]:
        if x_adv.shape != self._shape:
            raise ValueError(f"the oracle was asked about shape {tuple(x_adv.shape)}; expected {tuple(self._shape)}")
        self._asked += len(self._members)
        with torch.set_grad_enabled(self._access == "white" and torch.is_grad_enabled()):
            damage, out = self._damage(x_adv if self._access == "white" else x_adv.detach())
        self._look_at("damage", damage.detach().isfinite())
        self._on_query(damage.detach())
        return damage, out

    def _look_at(self, what: str, is_finite: Tensor) -> None:
        """Remember for which samples something was not finite, and read it when all is done."""
        known = self._unbounded.get(what)
        self._unbounded[what] = ~is_finite if known is None else known | ~is_finite

    def _arithmetic(self) -> torch.autocast:
        device = self._x.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self._reduced, cache_enabled=False)

    def on(self, x: Tensor) -> Oracle:
        """An oracle of the same victim and objective for other clean clips; its queries count here too."""
        self._others.append(self._elsewhere(x))
        return self._others[-1]

    def once(self, key: str, make: Callable[[], Made]) -> Made:
        """``make()``, computed for the first sample that asks for ``key`` and given to all others, who must not change
        it.

        The result may depend on ``key``, the attack, objective, threat and victim, and on nothing else: no clean clip,
        no draw of a sample. Its queries, through oracles from :meth:`on`, count for every sample that uses it.
        """
        if key not in self._memory:
            before, self._others = self._others, []
            value = make()
            spent, seen = sum(o.queries for o in self._others), [o._seen_gradient for o in self._others]
            alive = [bool(s.any()) for s in seen if s is not None]
            self._memory[key], self._others = _Made(value, spent, bool(alive) and not any(alive)), before
        self._used.append(self._memory[key])
        result: Made = self._memory[key].value
        return result

    @property
    def queries(self) -> int:
        """The number of queries so far, per sample. If several things were made by :meth:`once`, a sample uses one of
        them, and the most expensive one counts.
        """
        return self._asked + sum(o.queries for o in self._others) + max((m.queries for m in self._used), default=0)

    @property
    def blind(self) -> list[bool]:
        """For each sample, whether gradients were asked for and all of them were zero."""
        if self._seen_gradient is None:
            return [any(m.blind for m in self._used)] * self._shape[0]
        return [not seen for seen in self._seen_gradient.tolist()]


def _mean(outs: Sequence[Output], branch: str) -> Tensor:
    """Of one branch of several outputs."""
    return torch.stack([getattr(out, branch) for out in outs]).mean(0)
