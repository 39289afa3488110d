"""Decoding speed of the autoregressive prior on one clip: wave by wave against one full forward per symbol.

    python benchmarks/rdae_decoding.py [--codec rdae.tiny-q2] [--size 64]

Both decode the same strings with the same integer prior to the same symbols; the ratio is of wall times in this run.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import constriction
import numpy as np
import torch
from torch import Tensor

from robustcodec.clips import to_float
from robustcodec.registry import codecs, data
from robustcodec.zoo import _wavefront
from robustcodec.zoo._integer_prior import IntegerPrior


def naive(prior: IntegerPrior, string: bytes, size: tuple[int, int, int, int]) -> Tensor:
    """One evaluation of the whole slice per symbol, as an autoregressive decoder without a plan does."""
    channels, slices, height, width = size
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(string, "<u4").astype(np.uint32))
    grid = _wavefront.Slices(prior, 1, (channels, height, width))
    everywhere = torch.arange(channels * height * width)
    order = np.concatenate(_wavefront.waves(channels, height, width))
    found = torch.zeros(slices, len(order), dtype=torch.int64)
    for t in range(slices):
        for position in order:
            weights = grid.weights(everywhere)[0, position][None]
            found[t, position] = int(coder.decode(_wavefront.FAMILY, weights.numpy())[0])
            grid.put(everywhere, found[t][None])
        if t + 1 < slices:
            grid.advance()
    return found.view(slices, channels, height, width).transpose(0, 1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--codec", default="rdae.tiny-q2")
    options.add_argument("--size", type=int, default=64, help="side of the clip in pixels")
    given = options.parse_args()
    torch.set_num_threads(1)
    codec = codecs.build(given.codec)
    clip = to_float(data.build(f"clips:frames={codec.architecture.gop},size={given.size}").samples()[0].load())[None]
    (symbols,) = codec.symbols(clip)
    size = tuple(symbols.shape)
    string, _ = _wavefront.encode(codec.integer_prior, symbols)
    times = {}
    for name, decode in {
        "wavefront": lambda: _wavefront.decode(codec.integer_prior, [string], size)[0],
        "one forward per symbol": lambda: naive(codec.integer_prior, string, size),
    }.items():
        started = perf_counter()
        assert torch.equal(decode(), symbols), f"{name} decoded other symbols"
        times[name] = perf_counter() - started
        print(f"{name}: {times[name]:.2f} s for {symbols.numel()} symbols of {tuple(clip.shape)}")
    print(f"ratio: {times['one forward per symbol'] / times['wavefront']:.0f}")


if __name__ == "__main__":
    main()
