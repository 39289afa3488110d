"""Image codecs whose latents are coded in a few large groups, each given the groups before it: a checkerboard (He et
al., 2021, https://arxiv.org/abs/2103.15306) and ELIC's channel groups of checkerboards (He et al., 2022,
https://arxiv.org/abs/2203.10886).

The networks of CompressAI give the probabilities. All groups share one rANS string, which saves the overhead of a
string per group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from compressai.entropy_models import GaussianConditional
from compressai.models import Cheng2020AnchorCheckerboard, CompressionModel, Elic2022Chandelier, Elic2022Official
from compressai.zoo.image import cfgs
from torch import Tensor

from robustcodec.probing import LATENTS, MEANS, SCALES, SIDE, probe
from robustcodec.registry import codecs
from robustcodec.rounding import round_latent
from robustcodec.zoo import _entropy
from robustcodec.zoo._latent import LatentCodec
from robustcodec.zoo.container import chain
from robustcodec.zoo.frames import Latents


class Half(NamedTuple):
    """One colour of a checkerboard: ``inside`` ``(H, W)`` bool, and the rows and columns of its squares in reading
    order. What a mask selects has a length that only the device knows; what indices select has theirs.
    """

    inside: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def both(cls, height: int, width: int, device: torch.device) -> tuple[Half, Half]:
        """That of the upper left corner, and the other one."""
        rows, columns = (torch.arange(n, device=device) for n in (height, width))
        colour = (rows[:, None] + columns) % 2
        order = colour.flatten().argsort(stable=True)
        middle = -(-height * width // 2)
        first, second = order[:middle], order[middle:]
        return (
            cls(colour == 0, first // width, first % width),
            cls(colour == 1, second // width, second % width),
        )

    def of(self, v: Tensor) -> Tensor:
        """``(…, positions)`` of ``v`` ``(…, H, W)``."""
        return v[..., self.rows, self.columns]


Pick = Callable[[int, Half, Tensor, Tensor], Tensor]


class GroupCodec(LatentCodec):
    """Groups of channels, each in two halves of a checkerboard; all means and scales are parallel within a half."""

    def latents(self, frames: Tensor) -> Latents:
        y = self.net.g_a(frames).float()
        hyper = self.net.latent_codec.hyper

        @cache
        def z_hat() -> Tensor:
            z = hyper.h_a(y).float()
            return probe(SIDE, _entropy.bottleneck_round(hyper.entropy_bottleneck, z), z)

        @cache
        def walked() -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
            groups: Sequence[Tensor] = y.split(self.sizes, 1)
            steps: list[tuple[Tensor, Tensor, Tensor]] = []

            def pick(group: int, half: Half, scales: Tensor, means: Tensor) -> Tensor:
                scales, means = probe(SCALES, scales, z_hat()), probe(MEANS, means, z_hat())
                y_hat = probe(LATENTS, round_latent(groups[group], means), groups[group])
                steps.append((half.of(y_hat), half.of(scales), half.of(means)))
                return y_hat * half.inside

            return self._walk(z_hat(), pick), steps

        def part_bits() -> list[Tensor]:
            y_bits = torch.stack([_entropy.gaussian_bits(self.conditional, *step) for step in walked()[1]]).sum(0)
            return [y_bits, _entropy.bottleneck_bits(hyper.entropy_bottleneck, z_hat())]

        return Latents(lambda: walked()[0], part_bits, lambda: [walked()[0], z_hat()])

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        y = self.net.g_a(frame).float()
        hyper = self.net.latent_codec.hyper
        z_data, z_hat, z_crc = _entropy.encode_bottleneck(hyper.entropy_bottleneck, hyper.h_a(y))
        groups: Sequence[Tensor] = y.split(self.sizes, 1)
        writer = _entropy.GaussianWriter(self.conditional)

        def pick(group: int, half: Half, scales: Tensor, means: Tensor) -> Tensor:
            symbols = (groups[group] - means).round()
            writer.put(half.of(symbols), half.of(scales))
            return (symbols + means) * half.inside

        self._walk(z_hat, pick)
        y_data, y_crc = writer.finish()
        return [y_data, z_data], chain(z_crc, y_crc)

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        bottleneck, size = self.net.latent_codec.hyper.entropy_bottleneck, (height // self.stride, width // self.stride)
        z_hat, z_crc = _entropy.decode_bottleneck(bottleneck, parts[1], *size)
        reader = _entropy.GaussianReader(self.conditional, parts[0])

        def pick(group: int, half: Half, scales: Tensor, means: Tensor) -> Tensor:
            y_hat = torch.zeros_like(means)
            y_hat[..., half.rows, half.columns] = reader.get(half.of(scales)) + half.of(means)
            return y_hat

        y_hat = self._walk(z_hat, pick)
        return self.synthesise(y_hat), chain(z_crc, reader.crc)

    @property
    def boards(self) -> list[str]:
        """Names of the checkerboard codecs in ``net``, in coding order."""
        return ["latent_codec.y"]

    @property
    def sizes(self) -> list[int]:
        """Channels of each group."""
        return [self.net.get_submodule(f"{board}.context_prediction").in_channels for board in self.boards]

    @property
    def conditional(self) -> GaussianConditional:
        """The Gaussian model of the first group; all groups have the same tables."""
        return self.net.get_submodule(f"{self.boards[0]}.y.gaussian_conditional")

    def given(self, side: Tensor, done: list[Tensor]) -> Tensor:
        """What a group is conditioned on besides its own first half."""
        return side

    def _walk(self, z_hat: Tensor, pick: Pick) -> Tensor:
        """``y_hat``, half by half: ``pick(group, half, scales, means)`` gives a half's latents, zero elsewhere.

        ``half``: the positions to be coded; scales and means are given everywhere.
        """
        side = self.exactly("latent_codec.hyper.h_s", z_hat)
        first, second = Half.both(side.shape[-2], side.shape[-1], side.device)
        done: list[Tensor] = []
        for group, board in enumerate(self.boards):
            given = self.given(side, done)
            context = self.net.get_submodule(f"{board}.context_prediction")
            chunk = self.net.get_submodule(f"{board}.y")._chunk
            nothing = side.new_zeros(len(side), context.out_channels, *side.shape[-2:])
            scales, means = chunk(self.exactly(f"{board}.entropy_parameters", torch.cat((nothing, given), 1)))
            y_hat = pick(group, first, scales, means)
            seen = self.exactly(f"{board}.context_prediction", y_hat)
            scales, means = chunk(self.exactly(f"{board}.entropy_parameters", torch.cat((seen, given), 1)))
            done.append(y_hat + pick(group, second, scales, means))
        return torch.cat(done, 1)


@codecs.register("cheng2020-anchor-checkerboard")
class ChengCheckerboard(GroupCodec):
    """Image codec like ``cheng2020-anchor``, with a checkerboard in the place of the autoregressive context.

    CompressAI publishes no weights of it.
    """

    family = "cheng2020-anchor-checkerboard"
    paper = "https://arxiv.org/abs/2103.15306"
    architecture = Cheng2020AnchorCheckerboard
    widths = {q: {"N": n} for q, (n,) in cfgs["cheng2020-anchor"].items()}
    widths_from = {"N": ("g_a.0.conv1.weight", 0)}


def _elic(network: Callable[..., CompressionModel], N: int, M: int) -> CompressionModel:
    """The paper's uneven groups, 16, 16, 32, 64, 192 of 320 channels, in proportion to ``M``."""
    groups = [M // 20, M // 20, M // 10, M // 5]
    return network(N=N, M=M, groups=[*groups, M - sum(groups)])


@codecs.register("elic2022-official")
@codecs.register("elic2022")
class Elic(GroupCodec):
    """ELIC, an image codec whose latents are coded in groups of channels, each given all groups before it.

    All qualities have the same widths. CompressAI publishes no weights of it.
    """

    family = "elic2022-official"
    paper = "https://arxiv.org/abs/2203.10886"
    architecture = partial(_elic, Elic2022Official)
    widths = {q: {"N": 192, "M": 320} for q in range(1, 9)}
    widths_from = {"N": ("g_a.0.weight", 0), "M": ("g_a.14.conv_b.3.weight", 0)}

    @property
    def boards(self) -> list[str]:
        return [f"latent_codec.y.latent_codec.y{k}" for k in range(len(self.net.latent_codec.y.groups))]

    def given(self, side: Tensor, done: list[Tensor]) -> Tensor:
        if not done:
            return side
        groups = self.net.latent_codec.y
        context = self.exactly(f"latent_codec.y.channel_context.y{len(done)}", groups.merge_y(*done))
        return torch.cat((context, side), 1)


@codecs.register("elic2022-chandelier")
class ElicChandelier(Elic):
    """ELIC in Chandelier's variant, where a group is coded given the first group and the group just before it."""

    family = "elic2022-chandelier"
    paper = "https://arxiv.org/abs/2203.10886"
    architecture = partial(_elic, Elic2022Chandelier)
