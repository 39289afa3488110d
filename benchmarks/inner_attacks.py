"""How much of what a long attack finds does the short inner attack of a finetune find? By batch of training crops.

    python benchmarks/inner_attacks.py bmshj2018-hyperprior.tiny-q2 --data photos --batches 5 \
        --attack chen-ma:steps=30 chen-ma:steps=300

Each attack meets the same batches, at the same seeds, as `finetune` crafts them. Prints per attack the loss that it
reaches (the objective beyond the clean clips'), its share of the last attack's with a 95 % interval over batches, and
the seconds of a batch.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
import torch

from robustcodec import registry
from robustcodec.clips import to_float
from robustcodec.execution.allocator import keep_memory
from robustcodec.oracle import Oracle
from robustcodec.scores.intervals import interval
from robustcodec.training.crops import Crops
from robustcodec.training.recipe import CropShape
from robustcodec.training.validation import craft


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec")
    parser.add_argument("--attack", nargs="+", required=True, help="the last one is what the others are compared with")
    parser.add_argument("--objective", default="distortion")
    parser.add_argument("--threat", default="psnr:40")
    parser.add_argument("--data", default="photos")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    keep_memory()
    codec = registry.codecs.build(args.codec).eval().requires_grad_(False)
    objective, threat = registry.objectives.build(args.objective), registry.threats.build(args.threat)
    crops = Crops(registry.data.build(args.data).samples(), CropShape(args.batch, 1, args.crop), 0)
    losses: dict[str, list[float]] = {attack: [] for attack in args.attack}
    seconds = dict.fromkeys(losses, 0.0)
    for step, batch in enumerate(crops.stream(0, args.batches, 0)):
        x = to_float(batch)
        for spec, seen in losses.items():
            attack = registry.attacks.build(spec)
            start = perf_counter()
            x_adv = craft(codec, attack, objective, threat, x, (0, step), args.precision)
            seconds[spec] += perf_counter() - start
            oracle = Oracle(codec, objective, x, attack.access)
            with torch.no_grad():
                seen.append(float((oracle(x_adv) - oracle.clean()).mean()))
    reference = np.array(losses[args.attack[-1]])
    print("| inner attack | loss | share of the last | 95 % | seconds a batch |\n|---|---:|---:|---|---:|")
    for spec, seen in losses.items():
        share = interval(np.array(seen) / reference)
        print(
            f"| {spec} | {np.mean(seen):.3e} | {share.mean:.3f} | {share.low:.3f} to {share.high:.3f} | "
            f"{seconds[spec] / args.batches:.2f} |"
        )


if __name__ == "__main__":
    main()
