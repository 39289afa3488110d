"""Training a transposed convolution on a CPU: torch's own layer and zoo/_upsampling.py in turns, in one process.

    OMP_NUM_THREADS=1 python benchmarks/upsampling.py

It prints the seconds of forward and backward of both, in bfloat16 and in float32, the ratio, and by how much the
gradients of the weights differ. The layer is the third of `bmshj2018-hyperprior.base`'s synthesis, for 8 crops of 128².
"""

import copy
from time import perf_counter

import torch
from torch import nn

from robustcodec.execution.allocator import keep_memory
from robustcodec.zoo._upsampling import Upsampling


def seconds(layer: nn.Module, x: torch.Tensor) -> float:
    start = perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        y = layer(x)
    y.backward(torch.ones_like(y))
    return perf_counter() - start


def main(turns: int = 20) -> None:
    keep_memory()
    torch.manual_seed(0)
    own = Upsampling(128, 128, 5, 2, 2, 1).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(own)
    plain.__class__ = nn.ConvTranspose2d
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn(8, 128, 32, 32, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_(True)
        times: dict[nn.Module, list[float]] = {plain: [], own: []}
        for _ in range(turns):
            for layer, seen in times.items():
                layer.zero_grad()
                seen.append(seconds(layer, x))
        (theirs, ours), far = (min(t) for t in times.values()), (own.weight.grad - plain.weight.grad).abs().max()
        print(f"{dtype}: torch {theirs:.4f} s, here {ours:.4f} s, {theirs / ours:.2f} ×; gradients differ by {far:.1e}")


if __name__ == "__main__":
    main()
