"""What one training step of the published configuration costs, term by term: parameters, MACs, memory, time.

    python benchmarks/paper_step.py [--batch 1] [--size 160] [--frames 16]

Each term runs in its own process, forward and backward, so that its peak memory can be told; memory is the process's
peak less what it held before. Random weights throughout: they cost the same as trained ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robustcodec.registry import codecs
from robustcodec.training import discriminators
from robustcodec.training.features import FeatureLoss
from robustcodec.training.gan_pair import Adversary
from robustcodec.training.recipe import Recipe

Term = tuple[list[nn.Module], Callable[[Tensor], object]]


def autoencoder(x: Tensor) -> Term:
    codec = codecs.build("rdae:config=paper,weights=random").train()

    def step(x: Tensor) -> None:
        (codec(x).x_hat - x).square().mean().backward()

    return [codec.encoder, codec.decoder], step


def prior(x: Tensor) -> Term:
    codec = codecs.build("rdae:config=paper,weights=random").train()
    with torch.no_grad():
        assignment = codec.codebook(codec._analyse(codec._gops(x)[0]))

    def step(x: Tensor) -> None:
        codec.prior.bits(assignment).sum().backward()

    return [codec.prior], step


def features(x: Tensor) -> Term:
    term = FeatureLoss()

    def step(x: Tensor) -> None:
        decoded = (x + 0.1).requires_grad_(True)
        term(x, decoded).backward()

    return [term], step


def _pair(x: Tensor) -> Adversary:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights are meant here
        recipe = Recipe("", "", (), 1.0, gan="lsgan", rho=1.0, discriminators="paper", resnet34_weights="scratch")
        return Adversary(recipe, x.device)


def discriminator_step(x: Tensor) -> Term:
    adversary, plain = _pair(x), torch.autocast(x.device.type, enabled=False)
    return [adversary.pair.spatial, adversary.pair.temporal], lambda x: adversary.train(x, x + 0.1, plain)


def adversarial(x: Tensor) -> Term:
    adversary, plain = _pair(x), torch.autocast(x.device.type, enabled=False)

    def step(x: Tensor) -> None:
        adversary.loss(x, (x + 0.1).requires_grad_(True), plain).backward()

    return [adversary.pair], step


TERMS = {f.__name__: f for f in (autoencoder, prior, features, discriminator_step, adversarial)}


def measure(name: str, shape: tuple[int, ...]) -> dict[str, float]:
    """One term in this process."""
    x = torch.rand(shape)
    modules, step = TERMS[name](x)
    small = x[:, :, :, :32, :32]
    with FlopCounterMode(display=False) as counter:
        step(small) if name != "prior" else step(x)
    pixels = (x if name == "prior" else small).numel() / 3
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = perf_counter()
    step(x)
    return {
        "parameters": sum(p.numel() for m in modules for p in m.parameters()),
        "kmac_per_pixel": counter.get_total_flops() / 2 / pixels / 1e3,
        "seconds": perf_counter() - started,
        "gib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 2**20,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--size", type=int, default=160)
    options.add_argument("--frames", type=int, default=16)
    options.add_argument("--term", choices=TERMS, help=argparse.SUPPRESS)
    given = options.parse_args()
    shape = given.batch, given.frames, 3, given.size, given.size
    if given.term:
        print(json.dumps(measure(given.term, shape)))
        return
    print(f"clips {shape}, {discriminators.build.__module__} of size paper, forward and backward, float32, CPU\n")
    print("| term | parameters (M) | kMAC per pixel, forward + backward | peak memory (GiB) | time (s) |")
    print("|---|---|---|---|---|")
    for name in TERMS:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--term", name], capture_output=True, check=True
        )
        m = json.loads(done.stdout.splitlines()[-1])
        cells = f"{m['parameters'] / 1e6:.2f}", f"{m['kmac_per_pixel']:.0f}", f"{m['gib']:.2f}", f"{m['seconds']:.1f}"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
