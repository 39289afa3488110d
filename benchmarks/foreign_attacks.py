"""Every attack of torchattacks and foolbox on a small trained codec: which run, which cannot and why.

    python benchmarks/foreign_attacks.py

Steps and populations are cut so that all take a few minutes on one core: the table shows that they run and
roughly what they do, not how strong they could be. Writes leaderboards/attacks/foreign.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from robustcodec.execution.allocator import keep_memory

if TYPE_CHECKING:
    from robustcodec.attacks._foreign import Foreign

HOME = Path(__file__).parents[1] / "leaderboards" / "attacks" / "foreign.md"
SHORT = {
    "torchattacks:SPSA": "nb_iter=3;nb_sample=32;max_batch_size=32",
    "torchattacks:CW": "c=20",
    "torchattacks:Square": "n_queries=300",
    "torchattacks:EADL1": "max_iterations=30",
    "torchattacks:EADEN": "max_iterations=30",
    "torchattacks:JSMA": "gamma=0.02",
    "foolbox:L2CarliniWagnerAttack": "steps=30;binary_search_steps=6",
    "foolbox:EADAttack": "steps=30;binary_search_steps=6",
    "foolbox:BoundaryAttack": "steps=300",
    "foolbox:HopSkipJumpAttack": "steps=5;initial_gradient_eval_steps=30;max_gradient_eval_steps=100",
    "foolbox:GenAttack": "steps=50",
    "foolbox:LinearSearchBlendedUniformNoiseAttack": "steps=50;directions=20",
    "foolbox:LinearSearchContrastReductionAttack": "steps=100",
    "foolbox:GaussianBlurAttack": "steps=50",
    "foolbox:SaltAndPepperNoiseAttack": "steps=50",
    **{f"foolbox:{norm}BrendelBethgeAttack": "steps=30" for norm in ("L0", "L1", "L2", "Linfinity")},
    "foolbox:PointwiseAttack": "l2_binary_search=false",
}
HEAD = """# Attacks of torchattacks and foolbox

Made by `python benchmarks/foreign_attacks.py`: each attack once, on `{codec}`, the centre {size} × {size} of
`{sample}`, threat `{threat}`, objective `{objective}` (broken: a PSNR against the source 3 dB lower), with steps cut
short. *Kind*: *loss* maximises one within the budget, *minimum* looks by gradients and *decision* by queries for the
smallest perturbation that breaks the codec, *noise* draws or computes a corruption. *Queries* count forward and
forward–backward passes. `vi_db`: how much the codec amplifies what is left of the perturbation in 8 bits.

A perturbation of a *minimum* or *decision* attack that is larger than the budget is scaled down to it; an attack that
found nothing has given the clean clip back.

{counts}

| library | attack | norm | kind | access | runs | queries | input_psnr | vi_db | broken |
| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | --- |
"""


def main() -> None:
    """Attack, print one line per attack and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", default="bmshj2018-factorized.tiny-q1")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--threat", default="psnr:24")
    parser.add_argument("--objective", default="source-distortion")
    parser.add_argument("--out", type=Path, default=HOME)
    options = parser.parse_args()
    keep_memory()
    import torch

    from robustcodec import load, registry
    from robustcodec.clips import to_float
    from robustcodec.errors import AttackError, MissingDependency
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle

    registry.attacks.names()  # imports the plugins
    codec = load(options.codec).eval().requires_grad_(False)
    threat, objective = registry.threats.build(options.threat), registry.objectives.build(options.objective)
    sample = registry.data.build(f"photos:size={options.size}").samples()[0]
    x = to_float(sample.load())[None]
    clean = codec(x)

    def row(attack: Foreign) -> tuple[bool, str]:
        """Whether it runs, and the rest of its line."""
        oracle = Oracle(codec, objective, x, attack.access)
        try:
            x_adv = attack.run(oracle, x, threat, Draws([0]))
        except (AttackError, MissingDependency) as error:
            return False, f"no: {str(error).removeprefix(f'{attack.library}:{attack.full_name} ')} | | | | |"
        x_adv = threat.quantise(threat.project(x_adv, x), x)
        with torch.no_grad():
            attacked = codec(x_adv)
            broken = bool(objective(x, clean, attacked, x_adv) >= objective.level(x, clean))
            moved, out = ((a - b).square().mean() for a, b in ((x_adv, x), (attacked.x_hat, clean.x_hat)))
        sizes = f"{float(-10 * moved.log10()):.1f} | {float(10 * (out / moved).log10()):.1f}" if moved else "∞ | "
        return True, f"yes | {oracle.queries} | {sizes} | {'yes' if broken else 'no'} |"

    lines, counts = [], []
    for library in ("torchattacks", "foolbox"):
        plugin = registry.attacks.get(library)
        done = []
        for name, entry in plugin.catalogue.items():  # type: ignore[attr-defined]
            torch.manual_seed(0)
            started = time.perf_counter()
            attack = plugin(name, SHORT.get(f"{library}:{name}", ""))
            runs, rest = row(attack)
            done.append(runs)
            lines.append(f"| {library} | {name} | {entry.norm} | {entry.kind} | {attack.access} | {rest}")
            print(f"{time.perf_counter() - started:6.2f} s  {lines[-1]}", file=sys.stderr, flush=True)
        counts.append(f"{sum(done)} of the {len(done)} attacks of {library} run")
    head = HEAD.format(**vars(options), sample=sample.id, counts="; ".join(counts) + ".")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{'; '.join(counts)}. {options.out}")


if __name__ == "__main__":
    main()
