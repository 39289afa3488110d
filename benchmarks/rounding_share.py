"""Of what an attack takes from a learned codec, what is its network's and what is of rounding? Each attacked alone.

    ROBUSTCODEC_KODAK=kodak python benchmarks/rounding_share.py bmshj2018-hyperprior.base-q6 --limit 8

Every image is attacked twice: through the codec as it is, and through its network without rounding of latents, where
nothing but the network can amplify. Prints means over images for both: PSNR clean and attacked, the loss, and the
amplification, the mean square of what changes in the picture over that of the perturbation, in dB: 0 for a network that
passes a perturbation on as it is.
"""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import to_float
from robustcodec.execution.allocator import keep_memory
from robustcodec.interfaces import Codec, Output
from robustcodec.oracle import ForwardOnly
from robustcodec.reporting.text import to_markdown
from robustcodec.rounding import rounding
from robustcodec.scores.temporal import psnr
from robustcodec.training.validation import craft


class Unrounded(ForwardOnly):
    """A codec whose latents reach its synthesis as they are."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec, self.card = codec, codec.card

    def forward(self, x: Tensor) -> Output:
        """What the network shows, and the bits it estimates."""
        with rounding("none"):
            out = self.codec(x)
            x_hat, bits, latents = out.x_hat, out.bits, out.latents
        return Output(lambda: x_hat, lambda: bits, lambda: latents)


def measured(victim: Codec, x: Tensor, x_adv: Tensor) -> dict[str, float]:
    """What an attacked clip ``x_adv`` took from the picture of ``x``; PSNR and amplification in dB."""
    with torch.no_grad():
        clean, attacked = victim(x).x_hat, victim(x_adv).x_hat
    before, after = (float(psnr(x, shown).mean()) for shown in (clean, attacked))
    amplified = float(10 * torch.log10((attacked - clean).square().mean() / (x_adv - x).square().mean()))
    return {"PSNR": before, "attacked": after, "loss": before - after, "amplification": amplified}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", nargs="+")
    parser.add_argument("--attack", default="pgd:steps=100")
    parser.add_argument("--objective", default="source-distortion")
    parser.add_argument("--threat", default="psnr:40")
    parser.add_argument("--data", default="kodak:crop=256")
    parser.add_argument("--limit", type=int, default=8, help="images")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of the attack")
    args = parser.parse_args()
    keep_memory()
    attack, objective = registry.attacks.build(args.attack), registry.objectives.build(args.objective)
    threat, samples = registry.threats.build(args.threat), registry.data.build(args.data).samples()[: args.limit]
    rows = []
    for name in args.codec:
        codec = registry.codecs.build(name).eval().requires_grad_(False)
        for number, sample in enumerate(samples):
            x = to_float(sample.load())[None]
            for how, victim in (("as it is", codec), ("without rounding", Unrounded(codec))):
                x_adv = craft(victim, attack, objective, threat, x, (0, number), args.precision)
                rows.append({"codec": name, "victim": how, **measured(victim, x, x_adv)})
    print(to_markdown(pd.DataFrame(rows).groupby(["codec", "victim"], sort=False).mean().reset_index()))


if __name__ == "__main__":
    main()
