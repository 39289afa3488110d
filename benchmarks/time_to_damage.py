"""CPU seconds until our default attack does the damage that others do at their own default effort.

    python benchmarks/time_to_damage.py [--codecs NAME …] [--samples 3] [--size 64] [--threat linf:8/255]

Others: PGD of torchattacks and of foolbox as their constructors have it, FTDA with the first published preset, and
I-FGSM, which is ``mi-fgsm`` with the published 10 steps and without momentum. All of them take gradients without
rounding, which is more than their users get: CompressAI's own ``forward`` rounds with a gradient of zero. Ours is
``pgd`` with so few steps, of a ladder, that damage is at least theirs: ``distortion`` in dB, the mean over crops,
judged in 8 bits with rounded latents. A crop's clean reconstruction and all judging are in the times; libraries are
imported before. One thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from typing import Any

CODECS = ("bmshj2018-factorized.tiny-q2", "bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2", "rdae.tiny-q2")
OTHERS = {
    "torchattacks PGD": "torchattacks:PGD,surrogate=none",
    "foolbox PGD": "foolbox:PGD,surrogate=none",
    "FTDA, published": "ftda:constants=published-0,surrogate=none",
    "I-FGSM, published": "mi-fgsm:steps=10,reach=1,momentum=0,start=0,surrogate=none",
}
LADDER = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160)


def measured(attack: str, codec: Any, clips: list[Any], threat: Any) -> tuple[float, float]:
    """Mean damage in dB, and CPU seconds per clip."""
    import torch

    from robustcodec import registry
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle

    method, objective = registry.attacks.build(attack), registry.objectives.build("distortion")
    damage, seconds = [], 0.0
    for seed, x in enumerate(clips):
        start = time.process_time()
        x_adv = method.run(Oracle(codec, objective, x, "white"), x.clone(), threat, Draws([seed]))
        seconds += time.process_time() - start
        counted = threat.quantise(threat.project(x_adv, x), x)
        with torch.no_grad():
            damage.append(10 * math.log10(max(1e-10, float(Oracle(codec, objective, x, "black")(counted)))))
    return statistics.mean(damage), seconds / len(clips)


def compare(name: str, samples: int, size: int, threat: Any) -> None:
    """Print a line per other attack."""
    from robustcodec import registry
    from robustcodec.clips import to_float
    from robustcodec.coding import judged

    codec = judged(name)
    data = f"clips:frames=8,size={size}" if codec.card.kind == "video" else f"photos:size={size}"
    clips = [to_float(sample.load())[None] for sample in registry.data.build(data).samples()[:samples]]
    for attack in (*OTHERS.values(), "pgd:steps=1"):
        measured(attack, codec, clips[:1], threat)  # imports, and what is built when it is first used
    ours: dict[int, tuple[float, float]] = {}
    for label, attack in OTHERS.items():
        theirs, seconds = measured(attack, codec, clips, threat)
        for steps in LADDER:
            if steps not in ours:
                ours[steps] = measured(f"pgd:steps={steps}", codec, clips, threat)
            damage, cost = ours[steps]
            if damage >= theirs:
                text = f"{steps} | {damage:.2f} | {cost:.3f} | {seconds / cost:.1f} |"
                break
        else:
            text = f"more than {steps} | {damage:.2f} | – | not first |"
        print(f"| {name} | {label} | {theirs:.2f} | {seconds:.3f} | {text}", flush=True)


def main() -> None:
    """Print the table."""
    from robustcodec.execution.allocator import keep_memory

    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="+", default=list(CODECS))
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threat", default="linf:8/255")
    given = parser.parse_args()
    import torch

    from robustcodec import registry

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ours = "steps of pgd | damage of pgd (dB) | CPU s of pgd | × as fast"
    print(f"| codec | other attack | its damage (dB) | CPU s | {ours} |")
    print("| --- | --- | ---: | ---: | --- | ---: | ---: | --- |")
    for name in given.codecs:
        compare(name, given.samples, given.size, registry.threats.build(given.threat))


if __name__ == "__main__":
    main()
