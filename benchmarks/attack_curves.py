"""Damage against queries, and how close each attack is to the best known curve.

    python benchmarks/attack_curves.py --samples 4 --picture curves.png
    python benchmarks/attack_curves.py --codec mbt2018-mean.tiny-q2 --attack pgd:steps=100 --attack square:queries=110

A curve is the most damage, beyond that of the clean clip, that an attack has seen on 8-bit inputs inside the threat,
by the codec that rounds its latents, after so many queries; gradients are queries, restarts too. The best known curve
of a sample is at each number of queries the best of all attacks. Optimality is the area under an attack's curve as a
share of that under the best known one, up to the longest attack; an attack that has ended stays where it is
(AttackBench, https://arxiv.org/abs/2404.19460, with damage in a fixed threat in the place of perturbations of any
size). It depends on which attacks are compared, and on the scale of queries, here linear: 1 is ahead all the way.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import to_float
from robustcodec.interfaces import Codec, Draws, Objective, Threat
from robustcodec.oracle import Oracle

ATTACKS = (
    "pgd:steps=100",
    "pgd:steps=100,surrogate=none,decay=constant,widening=1,step_size=0.3",
    "apgd:steps=100",
    "ftda:steps=100",
    "mi-fgsm:steps=100",
    "square:queries=110",
    "random-search:queries=110",
)
Curve = np.ndarray[Any, np.dtype[np.float64]]


class Recording(Oracle):
    """Keeps the best of what an attack has judged, by the queries that it took; gradients are no judgements."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.judged: list[tuple[int, float]] = []

    def __call__(self, x_adv: Tensor) -> Tensor:
        damage = super().__call__(x_adv)
        self.judged.append((self.queries, float(damage)))
        return damage


def curve(judged: list[tuple[int, float]], queries: int, clean: float) -> Curve:
    """``(queries + 1,)``: the most damage beyond ``clean`` after so many queries, from none to all."""
    best = np.zeros(queries + 1)
    for count, damage in judged:
        if count <= queries:
            best[count] = max(best[count], damage - clean)
    most: Curve = np.maximum.accumulate(best)
    return most


def optimality(curves: dict[str, Curve]) -> dict[str, float]:
    """Of each attack on one sample: the area under its curve over the area under the best of all."""
    best = np.max(list(curves.values()), axis=0).sum()
    return {name: float(each.sum() / best) if best > 0 else 1.0 for name, each in curves.items()}


def met(codec: Codec, objective: Objective, threat: Threat, x: Tensor, attack: str, seed: int) -> Recording:
    """The oracle that an attack on one clip has asked."""
    built = registry.attacks.build(attack)
    oracle = Recording(codec, objective, x, built.access)
    built.run(oracle, x.clone(), threat, Draws([seed]))
    return oracle


def main() -> None:
    """Print a table, and draw a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", action="append", help="repeatable; default: bmshj2018-hyperprior.tiny-q2")
    parser.add_argument("--attack", action="append", help="repeatable; default: seven attacks of about 110 queries")
    parser.add_argument("--objective", default="source-distortion")
    parser.add_argument("--threat", default="psnr:40")
    parser.add_argument("--data", default="photos:size=64")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    attacks, codecs = options.attack or list(ATTACKS), options.codec or ["bmshj2018-hyperprior.tiny-q2"]
    objective, threat = registry.objectives.build(options.objective), registry.threats.build(options.threat)
    samples = registry.data.build(options.data).samples()[: options.samples]
    means: dict[str, dict[str, Curve]] = {}
    for name in codecs:
        codec = registry.codecs.build(name).eval().requires_grad_(False)
        shares: dict[str, list[float]] = defaultdict(list)
        relative: dict[str, list[Curve]] = defaultdict(list)
        spent: dict[str, int] = {}
        for seed, sample in enumerate(samples):
            x = to_float(sample.load())[None]
            oracles = {attack: met(codec, objective, threat, x, attack, seed) for attack in attacks}
            spent = {attack: oracle.queries for attack, oracle in oracles.items()}
            clean = float(next(iter(oracles.values())).clean())
            curves = {a: curve(oracle.judged, max(spent.values()), clean) for a, oracle in oracles.items()}
            most = max(each[-1] for each in curves.values())
            for attack, share in optimality(curves).items():
                shares[attack].append(share)
                relative[attack].append(curves[attack] / most if most > 0 else curves[attack])
        means[name] = {attack: np.mean(np.stack(several), axis=0) for attack, several in relative.items()}
        print(f"\n{name}, {options.objective} @ {options.threat}, {len(samples)} samples of {options.data}")
        print(f"{'optimality':>10}  {'at the end':>10}  {'queries':>7}  attack")
        for attack in sorted(attacks, key=lambda a: -float(np.mean(shares[a]))):
            print(f"{np.mean(shares[attack]):10.3f}  {means[name][attack][-1]:10.3f}  {spent[attack]:7}  {attack}")
    if options.picture:
        draw(means, attacks, options.picture)


def draw(means: dict[str, dict[str, Curve]], attacks: list[str], path: Path) -> None:
    """A panel per codec: mean damage by queries, as a share of the most that any attack did to the sample."""
    from matplotlib.lines import Line2D

    from robustcodec.reporting.pictures import COLOURS, MARKERS, SCREEN, figure_of

    styles = {a: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, a in enumerate(attacks)}
    with figure_of(4.2 * len(means) + 1.2 + 0.075 * max(map(len, attacks)), 4.0, path) as figure:
        panels = figure.subplots(1, len(means), squeeze=False, sharey=True)[0]
        for panel, (codec, curves) in zip(panels, means.items(), strict=True):
            for attack, mean in curves.items():
                colour, marker = styles[attack]
                panel.plot(mean, color=colour, marker=marker, markersize=4, markevery=max(1, len(mean) // 8), lw=1.2)
            panel.set_title(codec, fontsize="medium")
            panel.set_xlabel("queries")
            panel.set_ylim(-0.02, 1.02)
            panel.grid(color="0.9")
            panel.set_axisbelow(True)
        panels[0].set_ylabel("damage, as a share of the most")
        SCREEN.legend(figure, [Line2D([], [], color=c, marker=m, lw=1.2, label=a) for a, (c, m) in styles.items()])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
