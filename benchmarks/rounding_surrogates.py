"""How a gradient best passes the rounding of latents: the damage of PGD at equal gradients, judged by the real codec.

    python benchmarks/rounding_surrogates.py
    python benchmarks/rounding_surrogates.py --codec mbt2018-mean.tiny-q2 --objective rate
    python benchmarks/rounding_surrogates.py --data folder:kodak,crop=64 --steps 100 --threat psnr:34

Printed, as Markdown, are the means of the loss of PSNR in dB and of the factor of the bits over all samples. Clips are
rounded to 8 bits inside the budget. Gradients that skip the rounding, add noise to it or pass straight through it are
the usual ways; the others change one thing of the default at a time.
"""

from __future__ import annotations

import argparse

from robustcodec.execution.allocator import keep_memory

FORMER = "step_size=0.3,decay=constant,widening=1"
WAYS = {
    "straight-through": f"surrogate=straight-through,{FORMER}",
    "noise": f"surrogate=noise,{FORMER}",
    "none": f"surrogate=none,{FORMER}",
    "none, decaying steps": "surrogate=none,widening=1",
    "none, shrinking set": "surrogate=none",
    "soft": f"surrogate=soft,{FORMER}",
    "soft, decaying steps": "surrogate=soft,widening=1",
    "soft, shrinking set": "surrogate=soft",
    "annealed": f"surrogate=annealed,{FORMER}",
    "annealed, decaying steps": "widening=1",
    "annealed, shrinking set (default)": "widening=2",
    "the same from 1.5 times": "widening=1.5",
    "the same from 3 times": "widening=3",
    "default, first step of half a radius": "step_size=0.5",
    "default with momentum": "momentum=0.5",
}


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bmshj2018-hyperprior.tiny-q2")
    parser.add_argument("--data", default="photos:size=64")
    parser.add_argument("--objective", default="source-distortion")
    parser.add_argument("--threat", default="psnr:40")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    keep_memory()
    import torch

    from robustcodec import load, registry
    from robustcodec.clips import to_float
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle
    from robustcodec.scores.metrics import squared_error

    codec = load(options.codec).requires_grad_(False)
    threat, objective = registry.threats.build(options.threat), registry.objectives.build(options.objective)
    clips = [to_float(s.load())[None] for s in registry.data.build(options.data).samples()]
    print(f"{options.codec}, {options.data}, {options.objective}, {options.threat}, {options.steps} gradients\n")
    print("| way | loss (dB) | bits × |\n| --- | ---: | ---: |", flush=True)
    for way, parameters in WAYS.items():
        attack = registry.attacks.build(f"pgd:steps={options.steps},{parameters}")
        losses, factors = [], []
        for seed, x in enumerate(clips):
            torch.manual_seed(seed)
            x_adv = attack.run(Oracle(codec, objective, x, "white"), x, threat, Draws([seed]))
            with torch.no_grad():
                clean, attacked = codec(x), codec(threat.quantise(threat.project(x_adv, x), x))
            losses.append(10 * torch.log10(squared_error(attacked.x_hat, x) / squared_error(clean.x_hat, x)))
            factors.append(attacked.bits / clean.bits)
        loss, factor = (float(torch.cat(values).mean()) for values in (losses, factors))
        print(f"| {way} | {loss:.2f} | {factor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
