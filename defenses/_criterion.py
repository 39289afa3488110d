"""By what an encoder chooses among clips that it could code: the error of its own reconstruction, bits, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustcodec.interfaces import Codec, Output
from robustcodec.rounding import kept, rounding

Rule = Literal["own-input", "bits", "rd"]
LMBDA = 0.01  # of CompressAI's qualities 3 and 4
SOFT = 0.05  # of the mean cost: a way that costs so much more has 1/e of the weight in a soft choice
TIE = 1e-5  # relative; symmetric clips cost the same up to float noise, and then the first counts


@dataclass(frozen=True)
class Criterion:
    """``own-input``: MSE between a clip and its reconstruction; ``bits``: of its stream; ``rd``: both, bits per pixel +
    ``lmbda`` · 255² · MSE. No source is needed: an encoder only has its input.
    """

    rule: Rule
    lmbda: float = LMBDA

    def cost(self, codec: Codec, clips: Tensor, head: int, real: bool) -> Tensor:
        """``(N,)`` what it costs to code ``clips`` ``(N, T, 3, H, W)`` behind ``head`` bytes of side information.

        It does not depend on the precision, gradients and rounding around this call, which are an attacker's, and
        leaves the random state of a random codec as it was: what is coded next is what was judged, for one sample.
        ``real``: of real bytes where ``forward`` is a surrogate.
        """
        devices = [clips.device] if clips.is_cuda else []
        with (
            torch.no_grad(),
            rounding("straight-through"),
            torch.autocast(clips.device.type, enabled=False),
            torch.random.fork_rng(devices, enabled=codec.randomised),
        ):
            return self.of(_coded(codec, clips) if real and not codec.exact_forward else codec(clips), clips, head)

    def of(self, out: Output, clips: Tensor, head: int) -> Tensor:
        """``(N,)`` cost of what a codec makes of ``clips``, with its gradient."""
        if self.rule == "own-input":
            return _mse(out, clips)
        bits = out.bits + 8 * head
        if self.rule == "bits":
            return bits
        return bits / clips[0, :, 0].numel() + self.lmbda * 255**2 * _mse(out, clips)


def cheapest(costs: Tensor) -> list[int]:
    """Of costs ``(N, K)``, the first of the K that is as good as the best, for each sample; a choice like rounding,
    which checks of gradients freeze.
    """
    best = (costs <= (1 + TIE) * costs.amin(1, keepdim=True)).int().argmax(1)
    chosen: list[int] = kept(best.double()).long().tolist()
    return chosen


def soft_shares(costs: Tensor) -> Tensor:
    """``(N, K)`` weights of a soft choice by costs ``(N, K)``, with their gradient."""
    return torch.softmax(-costs / (SOFT * costs.detach().mean(1, keepdim=True)), 1)


def _coded(codec: Codec, clips: Tensor) -> Output:
    streams = codec.compress(clips)
    sizes = torch.tensor([8.0 * len(s) for s in streams], device=clips.device)
    return Output(lambda: codec.decompress(streams), lambda: sizes)


def _mse(out: Output, clips: Tensor) -> Tensor:
    return (out.x_hat - clips).square().flatten(1).mean(1)
