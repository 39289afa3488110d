"""Exact entropy coding of the bundled autoencoders on real clips: symbols, bytes, and cross-entropies.

    python benchmarks/rdae_exactness.py folder:clips-test

For every codec and clip: streams written with two threads are read with one, in another process; four crops of the
clip coded as one batch give the bytes of each alone; real bits of all strings against the integer prior's
cross-entropy, and that against the float prior's. Any difference in symbols or bytes ends the program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from robustcodec import weights
from robustcodec.clips import to_float
from robustcodec.registry import codecs, data
from robustcodec.zoo import _wavefront

ELSEWHERE = """
import sys, torch
from robustcodec.registry import codecs
torch.set_num_threads(1)
codec = codecs.build(sys.argv[1])
packet = codec.packet(open(sys.argv[2], "rb").read())
torch.save(codec._symbols([packet])[0], sys.argv[3])
"""


def examine(name: str, clip: torch.Tensor, folder: Path) -> str:
    """A line of the table."""
    codec = codecs.build(name)
    torch.set_num_threads(2)
    symbols = codec.symbols(clip)
    (written,) = codec.compress(clip)
    (folder / "clip.rc").write_bytes(written)
    subprocess.run([sys.executable, "-c", ELSEWHERE, name, folder / "clip.rc", folder / "symbols.pt"], check=True)
    there = torch.load(folder / "symbols.pt", weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(symbols, there, strict=True)), "other symbols in another process"
    half = [n // 2 for n in clip.shape[-2:]]
    crops = torch.cat([clip[:, :8, :, y : y + half[0], x : x + half[1]] for y in (0, half[0]) for x in (0, half[1])])
    assert codec.compress(crops) == [codec.compress(crop[None])[0] for crop in crops], "other bytes in a batch"
    coded = [_wavefront.encode(codec.integer_prior, s) for s in symbols]
    real = 8 * sum(len(string) for string, _ in coded)
    integer = sum(bits for _, bits in coded)
    worst = max(abs(8 * len(string) - bits) - 0.01 * bits for string, bits in coded)
    with torch.no_grad():
        floating = float(
            sum(codec.prior.bits(codec.codebook(codec._analyse(gops))).sum() for gops in codec._gops(clip))
        )
    assert worst <= 64 and abs(integer - floating) <= 0.005 * floating
    packet = codec.packet(written)
    assert packet.parts == tuple(string for string, _ in coded)
    return f"{len(symbols)} | {real} | {real / integer - 1:+.3%} | {worst:+.0f} | {integer / floating - 1:+.4%}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="clips")
    samples = data.build(parser.parse_args().data).samples()
    names = [f"{family}.{tag}" for family in ("rdae", "rdae-gan") for tag in weights.bundled_tags(family)]
    print("| codec | clip | GoPs | bits of the strings | over integer | worst GoP − 1 % (bits) | integer over float |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for sample in samples:
                print(
                    f"| {name} | {sample.id} | {examine(name, to_float(sample.load())[None], Path(folder))} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
