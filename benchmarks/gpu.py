"""How fast crafting is on this GPU, how near to what its matrix rate allows, and whether its streams are the CPU's.

    python benchmarks/gpu.py [--size 512x768] [--batches 1 4 16] [--steps 20] > gpu.md
    python benchmarks/gpu.py --rehearse

Prints Markdown to send in. Three tables:

* **Matrix rate**: floating-point operations per second of a large product in float32, in TF32 and in bfloat16.
* **Steps** of PGD as ``robustcodec run`` executes it (annealed rounding, every tenth iterate judged, convolutions as
  torch has them by default, in TF32), by family and batch: time per sample; the floor, which is what the convolutions
  and products of one forward and backward would take at the rate of TF32, counted by torch; the most memory that was
  allocated beyond the weights, per megapixel of the batch; and how often a gradient makes the host wait.
* **Streams** of a bundled codec, written on the CPU and read on the GPU, and the other way round: whether their bytes
  are equal, and the pixels, in 8 bits, those that the writer decodes.

Weights are random, of the widths of CompressAI's quality 3: a step costs the same whatever they are. Without a GPU
there is nothing to measure: one line, exit code 2. ``--rehearse`` runs every row on the CPU with small sizes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from robustcodec.clips import to_uint8
from robustcodec.coding import judged
from robustcodec.interfaces import Codec, Draws
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks, data, objectives, threats
from robustcodec.running.provenance import provenance

FAMILIES = {  # with the frames of a clip
    "bmshj2018-factorized:quality=3,weights=random": 1,
    "bmshj2018-hyperprior:quality=3,weights=random": 1,
    "mbt2018-mean:quality=3,weights=random": 1,
    "mbt2018:quality=3,weights=random": 1,
    "cheng2020-anchor:quality=3,weights=random": 1,
    "elic2022-official:quality=3,weights=random": 1,
    "ssf2020:quality=3,weights=random": 4,
    "rdae:config=mid,weights=random": 8,
}
SMALL = {"bmshj2018-factorized.tiny-q1": 1, "rdae.tiny-q1": 2}
WRITERS = ("bmshj2018-factorized.tiny-q2", "bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2", "rdae.tiny-q2")
ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    """What is measured where; ``product``: rows of the square matrices whose product is the matrix rate."""

    device: torch.device
    families: dict[str, int]
    writers: tuple[str, ...]
    size: tuple[int, int]
    batches: tuple[int, ...]
    steps: int
    product: int


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Median of some runs after one that is not counted, until the device is done."""

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(ROUNDS))


def matrix_rates(plan: Plan) -> dict[str, float]:
    """Operations per second by precision; a multiplication and its addition are two."""
    rates = {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
        ("bfloat16", torch.bfloat16, "highest"),
    ):
        a, b = (torch.rand(plan.product, plan.product, device=plan.device, dtype=dtype) for _ in range(2))
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        rates[name] = 2 * plan.product**3 / seconds(plan.device, lambda a=a, b=b: a @ b)  # type: ignore[misc]
        torch.set_float32_matmul_precision(before)
    return rates


def clips(plan: Plan, frames: int, batch: int) -> Tensor:
    """Random clips: a step costs the same whatever is in them."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, frames, 3, *plan.size, generator=rng).to(plan.device)


class Counter(TorchDispatchMode):
    """Operations of what runs inside. Torch's own counter also tells modules apart, which gradients to inputs stop."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.operations += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=made)
        return made


def operations(codec: Codec, x: Tensor) -> int:
    """Of the convolutions and products of one forward and one backward to the input."""
    oracle = Oracle(codec, objectives.build("distortion"), x, "white")
    oracle.gradient(x)  # codes the clean clip, once for the whole attack
    with Counter() as counter:
        oracle.gradient(x)
    return counter.operations


def waits(codec: Codec, x: Tensor) -> str:
    """How often the host waits for the device in one gradient of a rate."""
    if x.device.type != "cuda":
        return "–"
    oracle = Oracle(codec, objectives.build("rate"), x, "white")
    oracle.gradient(x)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            oracle.gradient(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return str(sum("synchroniz" in str(w.message) for w in caught))


def memory(device: torch.device, work: Callable[[], object]) -> float | None:
    """Most bytes allocated beyond what was before; None where nobody counts them."""
    if device.type != "cuda":
        work()
        return None
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return float(torch.cuda.max_memory_allocated(device) - before)


def step_rows(plan: Plan, rate: float) -> list[str]:
    """A line for each family and batch; ``rate``: operations per second that the floor is reckoned with."""
    attack, threat = attacks.build(f"pgd:steps={plan.steps}"), threats.build("psnr:40")
    objective = objectives.build("distortion")
    lines = []
    for name, frames in plan.families.items():
        codec = judged(name, device=plan.device)
        floor = operations(codec, clips(plan, frames, 1)) / rate
        for batch in plan.batches:
            x = clips(plan, frames, batch)

            def run(x: Tensor = x, codec: Codec = codec) -> None:
                attack.run(Oracle(codec, objective, x, "white"), x.clone(), threat, Draws(list(range(len(x)))))

            try:
                peak = memory(plan.device, run)
                step = seconds(plan.device, run) / plan.steps / batch
            except torch.cuda.OutOfMemoryError:
                lines.append(f"| {name} | {batch} | out of memory | {1e3 * floor:.2f} | – | – | – |")
                continue
            per_megapixel = "–" if peak is None else f"{peak / 2**20 / (x.numel() / 3e6):.0f}"
            lines.append(
                f"| {name} | {batch} | {1e3 * step:.2f} | {1e3 * floor:.2f} | {step / floor:.1f} | {per_megapixel} | "
                f"{waits(codec, x)} |"
            )
    return lines


def stream_rows(plan: Plan) -> list[str]:
    """A line for each codec: the CPU's and the device's streams of one clip, each read on both."""
    lines = []
    for name in plan.writers:
        here, there = (judged(name, device=device) for device in (torch.device("cpu"), plan.device))
        source = "clips:frames=8,size=64" if here.card.kind == "video" else "photos:size=64"
        x = data.build(source).samples()[0].load()[None].float() / 255
        streams = {"CPU": here.compress(x)[0], "GPU": there.compress(x.to(plan.device))[0]}
        pixels = {
            writer: [to_uint8(codec.decompress([stream]).cpu()) for codec in (here, there)]
            for writer, stream in streams.items()
        }
        equal = [streams["CPU"] == streams["GPU"], *(torch.equal(*shown) for shown in pixels.values())]
        lines.append(f"| {name} | {' | '.join('yes' if same else 'no' for same in equal)} |")
    return lines


def report(plan: Plan) -> None:
    """Print the tables."""
    made: dict[str, Any] = provenance(plan.device)
    height, width = plan.size
    print(f"{made['device']}, torch {made['torch']}, commit {made['commit'] or 'unknown'}; {width} × {height} pixels\n")
    rates = matrix_rates(plan)
    print("| matrix rate | TFLOP/s |\n| --- | ---: |")
    for name, rate in rates.items():
        print(f"| {name} | {rate / 1e12:.2f} |")
    print(
        "\n| codec | batch | ms per step and sample | floor (ms) | × floor | MiB per megapixel | waits per gradient |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(step_rows(plan, rates["TF32"])))
    print("\n| codec | equal bytes | the CPU's stream read alike | the GPU's stream read alike |")
    print("| --- | --- | --- | --- |")
    print("\n".join(stream_rows(plan)))


def main() -> None:
    """Print the tables, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x768", help="height x width")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rehearse", action="store_true", help="every row on the CPU, small")
    given = parser.parse_args()
    height, width = map(int, given.size.split("x"))
    if given.rehearse:
        plan = Plan(torch.device("cpu"), SMALL, WRITERS[:1], (32, 32), (1, 2), steps=1, product=64)
    elif torch.cuda.is_available():
        cuda = torch.device("cuda", torch.cuda.current_device())
        plan = Plan(cuda, FAMILIES, WRITERS, (height, width), tuple(given.batches), given.steps, product=8192)
    else:
        print("no CUDA device: nothing to measure; --rehearse runs every row on the CPU", file=sys.stderr)
        raise SystemExit(2)
    report(plan)


if __name__ == "__main__":
    main()
