"""How the gradient passes the rounding of latents, and how much damage PGD then does (vi_db at 40 dB input PSNR).

    python benchmarks/rounding_surrogates.py
    python benchmarks/rounding_surrogates.py --codec mbt2018-mean.tiny-q2 --data kodak:crop=256

Damage is of the real, rounding codec; clips are rounded to 8 bits inside the budget.
"""

from __future__ import annotations

import argparse

from robustcodec.allocator import keep_memory


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
    from robustcodec.data import to_float
    from robustcodec.interfaces import Draws, Oracle

    codec = load(options.codec).requires_grad_(False)
    threat, objective = registry.threats.build(options.threat), registry.objectives.build("distortion")
    clips = [to_float(s.load())[None] for s in registry.data.build(options.data).samples()]
    print(f"{options.codec}, {options.data}, {options.threat}, pgd:steps={options.steps}")
    for surrogate in ("straight-through", "noise", "none"):
        for step_size in (0.1, 0.3, 1.0):
            attack = registry.attacks.build(f"pgd:steps={options.steps},step_size={step_size},surrogate={surrogate}")
            scores = []
            for seed, x in enumerate(clips):
                torch.manual_seed(seed)
                x_adv = attack.run(Oracle(codec, objective, x, "white"), x, threat, Draws([seed]))
                x_adv = threat.quantise(threat.project(x_adv, x), x)
                damage = Oracle(codec, objective, x, "black")(x_adv)
                scores.append(10 * torch.log10(damage / (x_adv - x).square().mean()))
            print(f"  {surrogate:18} step {step_size:<4} vi_db {float(torch.cat(scores).mean()):6.2f}", flush=True)


if __name__ == "__main__":
    main()
