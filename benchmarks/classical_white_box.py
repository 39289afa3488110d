"""How much damage attacks that know a classical codec do, against those that only ask it.

    python benchmarks/classical_white_box.py --data kodak:crop=64
    python benchmarks/classical_white_box.py --data folder:clips,crop=64,frames=6 --codec h264:crf=30 --limit 2

A line for each codec, budget and attack, means over the clips: the drop of PSNR in dB, ``vi_db``, how many times the
clean bytes, the PSNR of the attacked input, queries and seconds per clip. First JPEG, attacked in its own transform for
quality and for rate, by queries, and by the gradient of ``diff-jpeg`` behind its forward; then codecs whose transform
is not known, by queries. Bytes are real and clips are rounded to 8 bits inside the budget.
"""

from __future__ import annotations

import argparse
import math
import time

JPEG = ["jpeg:quality=20", "jpeg:quality=50"]
OTHERS = ["webp:quality=20", "webp:quality=50", "avif:quality=30", "jpeg2000:24"]
IN_TRANSFORM = [
    ("jpeg-dct", "source-distortion", "real"),
    ("jpeg-dct", "rate", "real"),
    ("jpeg-dct:steps=0", "source-distortion", "real"),
    ("square:queries=200", "source-distortion", "real"),
    ("block-search:queries=200", "source-distortion", "real"),
    ("pgd:steps=50", "source-distortion", "bpda"),
    ("pgd:steps=50,surrogate=soft", "source-distortion", "bpda"),
]
BY_QUERIES = [
    (f"{name}:queries={queries}", "source-distortion", "real")
    for queries in (200, 1000)
    for name in ("square", "random-search", "block-search")
]


def main() -> None:
    """Print the tables line by line, as they are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="photos:size=64")
    parser.add_argument("--limit", type=int, help="the first clips alone")
    parser.add_argument("--codec", action="append", help="instead of JPEG and the others; may be repeated")
    parser.add_argument("--threat", action="append", help="default psnr:40 and psnr:34; may be repeated")
    options = parser.parse_args()
    import torch

    from robustcodec import registry
    from robustcodec.clips import as_batch
    from robustcodec.interfaces import Draws
    from robustcodec.oracle import Oracle
    from robustcodec.running.guided import Guided

    clips = [as_batch(s.load()) for s in registry.data.build(options.data).samples()[: options.limit]]
    print(f"{options.data}, {len(clips)} clips", flush=True)
    print("| codec | threat | attack | objective | drop | vi_db | bytes × | input PSNR | queries | seconds |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in options.codec or [*JPEG, *OTHERS]:
        codec = registry.codecs.build(name)
        family, _, parameters = name.partition(":")
        attempts = IN_TRANSFORM if family == "jpeg" else BY_QUERIES
        for threat_name in options.threat or ["psnr:40", "psnr:34"]:
            threat = registry.threats.build(threat_name)
            for spec, aim, access in attempts:
                victim = codec if access == "real" else Guided(codec, registry.codecs.build(f"diff-jpeg:{parameters}"))
                attack, objective = registry.attacks.build(spec), registry.objectives.build(aim)
                rows = []
                for seed, x in enumerate(clips):
                    torch.manual_seed(seed)
                    oracle, began = Oracle(victim, objective, x, attack.access), time.perf_counter()
                    x_adv = attack.run(oracle, x.clone(), threat, Draws([seed])).detach()
                    seconds = time.perf_counter() - began
                    x_adv = threat.quantise(threat.project(x_adv, x), x)
                    clean, attacked = codec(x), codec(x_adv)
                    pairs = (attacked.x_hat, x), (clean.x_hat, x), (attacked.x_hat, clean.x_hat), (x_adv, x)
                    error, before, added, moved = (
                        10 * math.log10(max(float((a - b).square().mean()), 1e-12)) for a, b in pairs
                    )
                    ratio = float(attacked.bits / clean.bits)
                    rows.append((error - before, added - moved, ratio, -moved, float(oracle.queries), seconds))
                means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
                label = spec if access == "real" else f"{spec} (bpda:diff-jpeg)"
                numbers = "{:.2f} | {:.1f} | {:.3f} | {:.2f} | {:.0f} | {:.1f}".format(*means)
                print(f"| {name} | {threat_name} | {label} | {aim} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
