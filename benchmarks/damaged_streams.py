"""What every codec makes of damaged streams: flips, cuts, insertions and splices of the streams of two clips, with a
fixed seed, every second one with its last checksum put right.

    python benchmarks/damaged_streams.py [--mutations 20000] [--codec SPEC …] [--frames 2]

Per codec: how many streams were refused (a StreamError), showed the right pixels, or other ones in silence; how many
ended in another error or took more than ten times as long as a whole stream; and by how much the peak of memory rose. A
process that dies or never returns is a crash. The exit code is 1 unless all streams are refused or right.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import resource
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator

LEARNED = (
    "bmshj2018-factorized.tiny-q2",
    "bmshj2018-factorized-relu:weights=random",
    "bmshj2018-hyperprior.tiny-q2",
    "mbt2018-mean.tiny-q2",
    "mbt2018:weights=random",
    "cheng2020-anchor:weights=random",
    "cheng2020-anchor-checkerboard:weights=random",
    "elic2022-official:weights=random",
    "bmshj2018-hyperprior-vbr:weights=random",
    "mbt2018-mean-vbr:weights=random",
    "mbt2018-vbr:weights=random",
    "ssf2020:weights=random",
    "rdae.tiny-q2",
    "rdae-gan.tiny-q2",
)
CLASSICAL = ("jpeg", "webp", "avif", "jpeg2000", "h264", "h265", "av1", "vp9")
SIZE = 32
TIMES = 10  # as long as an undamaged stream …
AT_LEAST = 2.0  # … or so many seconds, whatever else the machine does
DIES = 120.0  # seconds after which a stream that is still being decoded is a hang
MEMORY = 300  # MiB above an undamaged stream
BAD = ("silent", "errors", "slow", "crashed")


def mutations(whole: bytes, other: bytes, count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for i in range(count):
        data, at = bytearray(whole), rng.randrange(len(whole))
        length = rng.randint(1, 12)
        kind = rng.choice(("flip", "flips", "overwrite", "cut", "remove", "insert", "splice", "swap"))
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "flips":
            for _ in range(length):
                data[rng.randrange(len(data))] ^= rng.randint(1, 255)
        elif kind == "overwrite":
            data[at : at + length] = rng.randbytes(length)
        elif kind == "cut":
            del data[at:]
        elif kind == "remove":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = rng.randbytes(length)
        elif kind == "splice":
            data[at:] = other[at:]
        else:
            data[at : at + length] = reversed(data[at : at + length])
        forged = bytes(data)
        yield forged[:-4] + zlib.crc32(forged[:-4]).to_bytes(4, "little") if i % 2 else forged


def decode_all(spec: str, count: int, frames: int) -> dict[str, float]:
    """In this process: what came of the mutations of one codec's stream."""
    import torch

    from robustcodec.coding import judged
    from robustcodec.errors import StreamError

    torch.set_num_threads(1)
    built = judged(spec)
    rows = torch.linspace(0, 3, SIZE)
    clips = [0.5 + 0.4 * torch.sin(rows[:, None] * rows * k).expand(1, frames, 3, SIZE, SIZE) for k in (2, 3)]
    with torch.no_grad():
        whole, other = (built.compress(clip)[0] for clip in clips)
        right = built.decompress([whole])
        start = time.perf_counter()
        built.decompress([whole])
        limit = max(AT_LEAST, TIMES * (time.perf_counter() - start))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found: Counter[str] = Counter()
        for data in mutations(whole, other, count, seed=0):
            faulthandler.dump_traceback_later(DIES, exit=True, file=sys.__stderr__)
            start = time.perf_counter()
            try:
                shown = built.decompress([data])
                same = shown.shape == right.shape and torch.equal(shown, right)
                found["right" if same or data == other else "silent"] += 1
            except StreamError:
                found["refused"] += 1
            except Exception as error:
                found["errors"] += 1
                print(f"{spec}: {type(error).__name__}: {error}", file=sys.stderr)
            found["slow"] += time.perf_counter() - start > limit
    faulthandler.cancel_dump_traceback_later()
    risen = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {**dict.fromkeys(("refused", "right", *BAD), 0), **found, "MiB": round(risen)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--codec", action="append", help="as `robustcodec list` names it; may be given again")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(decode_all(given.inside, given.mutations, given.frames)))
        return 0
    failed = False
    for spec in given.codec or [*LEARNED, *CLASSICAL]:
        shared = [f"--mutations={given.mutations}", f"--frames={given.frames}"]
        done = subprocess.run([sys.executable, __file__, *shared, f"--inside={spec}"], capture_output=True, text=True)
        outcome = {"crashed": 1} if done.returncode else json.loads(done.stdout)
        failed |= any(outcome.get(name) for name in BAD) or outcome.get("MiB", 0) > MEMORY
        print(f"{spec:45}", *(f"{name} {number}" for name, number in outcome.items()), flush=True)
        print(done.stderr[-2000:], end="", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
