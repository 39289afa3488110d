"""How the gradient passes the rounding of latents, and how much damage PGD then does.

    python benchmarks/rounding_surrogates.py
    python benchmarks/rounding_surrogates.py --codec mbt2018-mean.tiny-q2 --data kodak:crop=256

Damage is of the real, rounding codec; clips are rounded to 8 bits inside the budget. It is given in dB of the whole
budget: ``vi_db`` would reward an attack that leaves some of it unused.
"""

from __future__ import annotations

import argparse

from robustcodec.cli._allocator import keep_memory


def main() -> None:
    """Print one line per surrogate and step size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bmshj2018-hyperprior.tiny-q2")
    parser.add_argument("--data", default="photos:size=128")
    parser.add_argument("--threat", default="psnr:40")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    keep_memory()
    import torch

    from robustcodec import load, registry
    from robustcodec.clips import to_float
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle

    codec = load(options.codec).requires_grad_(False)
    threat, objective = registry.threats.build(options.threat), registry.objectives.build("distortion")
    clips = [to_float(s.load())[None] for s in registry.data.build(options.data).samples()]
    print(f"{options.codec}, {options.data}, {options.threat}, pgd:steps={options.steps}")
    for surrogate in ("straight-through", "noise", "soft", "none"):
        for step_size in (0.1, 0.3, 1.0):
            attack = registry.attacks.build(f"pgd:steps={options.steps},step_size={step_size},surrogate={surrogate}")
            scores = []
            for seed, x in enumerate(clips):
                torch.manual_seed(seed)
                x_adv = attack.run(Oracle(codec, objective, x, "white"), x, threat, Draws([seed]))
                x_adv = threat.quantise(threat.project(x_adv, x), x)
                damage = Oracle(codec, objective, x, "black")(x_adv)
                scores.append(10 * torch.log10(damage * x.numel() / threat.radius(x) ** 2))
            print(f"  {surrogate:18} step {step_size:<4} damage {float(torch.cat(scores).mean()):6.2f} dB", flush=True)


if __name__ == "__main__":
    main()
