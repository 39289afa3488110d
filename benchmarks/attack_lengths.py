"""How long an attack must be, and whether the remark on attacks that are too short says so.

    python benchmarks/attack_lengths.py --codec bmshj2018-hyperprior.tiny-q2 --samples 4

For each number of steps: the share of attacks with each remark of :func:`robustcodec.attacks.ascent.remark_rising`, and
how much more damage (beyond the clean clip's) the best of all lengths does to the same sample. A remark is false where
that is little; an attack without one is not known to have found the worst case: it may rest in a local optimum.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch

from robustcodec import registry
from robustcodec.clips import to_float
from robustcodec.interfaces import Draws
from robustcodec.oracle import Oracle

LENGTHS = (5, 10, 20, 50, 100, 200)
LITTLE = 0.05  # of the damage that was done: what another random start may add as well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bmshj2018-hyperprior.tiny-q2")
    parser.add_argument("--attack", default="pgd", help="an attack with steps, and parameters if wanted: pgd:judge=5")
    parser.add_argument("--data", default="photos:size=64")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--threat", nargs="+", default=["psnr:40", "psnr:34"])
    parser.add_argument("--objective", nargs="+", default=["source-distortion", "rate"])
    args = parser.parse_args()
    codec = registry.codecs.build(args.codec).eval().requires_grad_(False)
    samples = registry.data.build(args.data).samples()[: args.samples]
    more: dict[int, list[float]] = defaultdict(list)
    remarks: dict[int, list[str]] = defaultdict(list)
    for objective in map(registry.objectives.build, args.objective):
        for threat in map(registry.threats.build, args.threat):
            for seed, sample in enumerate(samples):
                x = to_float(sample.load())[None]
                reached = {}
                for steps in LENGTHS:
                    joint = "," if ":" in args.attack else ":"
                    attack = registry.attacks.build(f"{args.attack}{joint}steps={steps}")
                    oracle = Oracle(codec, objective, x, attack.access)
                    x_adv = attack.run(oracle, x.clone(), threat, Draws([seed]))
                    remarks[steps].append("; ".join(oracle.remarks[0]))
                    with torch.no_grad():
                        reached[steps] = float(oracle(x_adv) - oracle.clean())
                most = max(reached.values())
                for steps, damage in reached.items():
                    more[steps].append(most / damage - 1)
    print(f"{args.attack} on {args.codec}, {len(more[LENGTHS[0]])} attacks of each length")
    print(f"{'steps':>5}  {'still rises':>11}  {'judged once':>11}  {'false':>5}  {'missed':>6}  more, in the mean")
    for steps in LENGTHS:
        rising = ["rises" in each for each in remarks[steps]]
        once = ["once" in each for each in remarks[steps]]
        false = sum(a and b < LITTLE for a, b in zip(rising, more[steps], strict=True))
        missed = sum(not (a or o) and b >= LITTLE for a, o, b in zip(rising, once, more[steps], strict=True))
        mean = sum(more[steps]) / len(more[steps])
        print(f"{steps:5}  {sum(rising):11}  {sum(once):11}  {false:5}  {missed:6}  {mean:+.0%}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
