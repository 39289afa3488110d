"""Entropy models of CompressAI with a gradient through the rounding, and their symbols as bytes and back.

CompressAI's own eval-mode ``forward`` rounds with zero gradient; here the rounding is :func:`round_latent`.
Symbols and probabilities are the same: the streams come from CompressAI's coder and tables. Its estimate differs from
its coder on rare symbols, which rate attacks look for: see :func:`escape_bits`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from torch import Tensor

from robustcodec.errors import BadData, StreamError
from robustcodec.rounding import round_latent
from robustcodec.stream import symbol_crc

SHARP = 1.5  # of the bend between the two ways to spend bits: at most half a bit is cut off
PRECISION, STATE = 16, 64  # bits: of the tables' frequencies, and of the coder's final state
SLACK = 2.0**-14  # bits by which a symbol may be cheaper than its frequency says: a state has at least 31 digits
LARGEST = 2.0**24  # of latents: whole numbers in float32
LEAST = 1e-30  # likelihood; keeps its logarithm finite where escape_bits is less anyway


def escape_bits(symbols: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The most that the coder spends on each of ``symbols`` under a table from ``-low`` to ``high``; shaped alike.

    A frequency is at least 1 of 2^16, so what the table holds costs up to 16 bits, and what it does not hold costs an
    escape of about 16 bits, 4 for the number of groups, and 4 for each group of 4 binary digits of twice the distance
    to the table. Groups are steps without a slope; this is a curve through them, off by half a bit inside and two
    outside. (Tables of scales beyond 16 have more left for the escape, which may then cost up to 7 bits less.)
    """
    reach = torch.where(symbols < 0, low, high)
    beyond = symbols.abs() - reach
    inside = 14 + 2.5 * (symbols.abs() / reach).clamp(max=1)
    return inside + 6.5 * beyond.clamp(0, 1) + beyond.clamp(min=1).log2()


def _coded_bits(likelihood: Tensor, most: Tensor) -> Tensor:
    """Bits of each likelihood: its information, but no more than ``most``, by a smooth minimum."""
    return most - F.softplus(most + likelihood.clamp(min=LEAST).log2(), beta=SHARP)


def total(bits: Tensor) -> Tensor:
    """``(B,)`` sums of ``(B, …)``."""
    return bits.flatten(1).sum(1)


def medians(model: EntropyBottleneck, z: Tensor) -> Tensor:
    """The centres of the bottleneck's integer grid, shaped to broadcast against ``z`` (B, C, H, W)."""
    centres: Tensor = model.quantiles[:, 0, 1].detach()
    return centres.view(1, -1, *[1] * (z.ndim - 2))


def bottleneck_round(model: EntropyBottleneck, z: Tensor) -> Tensor:
    """``z`` rounded on the bottleneck's grid."""
    return round_latent(z, medians(model, z))


def bottleneck_bits(model: EntropyBottleneck, z_hat: Tensor, step: Tensor | None = None) -> Tensor:
    """``(B,)`` bits of ``z_hat`` (B, C, H, W) under the factorised prior; ``step``: of a variable-rate grid.

    In training mode the bare information, which CompressAI's likelihood bound keeps finite.
    """
    return total(each_bottleneck_bits(model, z_hat, step))


def each_bottleneck_bits(model: EntropyBottleneck, z_hat: Tensor, step: Tensor | None = None) -> Tensor:
    """:func:`bottleneck_bits` of every value, shaped like ``z_hat``."""
    with torch.autocast(z_hat.device.type, enabled=False):
        values = z_hat.float().transpose(0, 1)
        rows = values.reshape(values.shape[0], 1, -1)
        likelihood, _, _ = model._likelihood(rows) if step is None else model._likelihood_variable(rows, qs=step)
        if model.training:
            bounded: Tensor = model.likelihood_lower_bound(likelihood)
            return -bounded.view(values.shape).transpose(0, 1).log2()
        below, centre, above = model.quantiles.detach().unbind(-1)  # (C, 1) each
        unit = 1.0 if step is None else step
        low, high = (((end - centre).abs() / unit).ceil().clamp(min=1) for end in (below, above))
        most = escape_bits((rows - centre[..., None]) / unit, low[..., None], high[..., None])
        return _coded_bits(likelihood.view(values.shape).transpose(0, 1), most.view(values.shape).transpose(0, 1))


def gaussian_bits(model: GaussianConditional, y_hat: Tensor, scales: Tensor, means: Tensor | None) -> Tensor:
    """``(B,)`` bits of ``y_hat`` under N(means, scales) integrated over the unit bin.

    In training mode the bare information, which CompressAI's likelihood bound keeps finite.
    """
    return total(each_gaussian_bits(model, y_hat, scales, means))


def each_gaussian_bits(model: GaussianConditional, y_hat: Tensor, scales: Tensor, means: Tensor | None) -> Tensor:
    """:func:`gaussian_bits` of every value, shaped like ``y_hat``."""
    with torch.autocast(y_hat.device.type, enabled=False):
        symbols = y_hat.float() if means is None else y_hat.float() - means.float()
        likelihood = model._likelihood(symbols, scales.float())
        if model.training:
            information: Tensor = -model.likelihood_lower_bound(likelihood).log2()
            return information
        bounded = model.lower_bound_scale(scales.float())
        table = torch.bucketize(bounded.detach().contiguous(), model.scale_table).clamp(max=len(model.scale_table) - 1)
        end = -model.offset[table] * (bounded / bounded.detach())  # of the table in use, with the slope of all of them
        return _coded_bits(likelihood, escape_bits(symbols, end, end))


def _crc(y_hat: Tensor, means: Tensor | None) -> int:
    centred = y_hat if means is None else y_hat - means
    return symbol_crc(centred.round().to(torch.int32).cpu().numpy().tobytes())


def _codable(latent: Tensor) -> Tensor:
    """``latent`` itself; raises :class:`BadData` for values with which CompressAI's coder does not come to an end."""
    if not (good := latent.abs() < LARGEST).all():  # False of NaN too
        raise BadData(
            f"{int((~good).sum())} of {latent.numel()} latents are NaN or beyond {LARGEST:g}: the weights are damaged, "
            "or the input is none that they were trained for"
        )
    return latent


def encode_bottleneck(model: EntropyBottleneck, z: Tensor) -> tuple[bytes, Tensor, int]:
    """Bytes of one latent ``z`` (1, C, H, W), the values the decoder will see, and their checksum."""
    centres = medians(model, z)
    data = model.compress(_codable(z))[0]
    z_hat = (z - centres).round() + centres
    return data, z_hat, _crc(z_hat, centres)


def least_bits(model: EntropyBottleneck, positions: int) -> float:
    """What the most likely symbols of all channels take at so many positions, less what the coder may gain."""
    cdf = model.quantized_cdf.double()
    each = PRECISION - cdf.diff(dim=1).amax(1).log2()
    return positions * float((each - SLACK).clamp(min=0).sum())


def require_room(model: EntropyBottleneck, data: bytes, height: int, width: int) -> None:
    """Raise :class:`StreamError` unless ``data`` can hold a latent (C, height, width)."""
    if 8 * len(data) + STATE < (least := least_bits(model, height * width)):
        raise StreamError(
            f"{len(data)} bytes cannot hold the {height}x{width} latents that the header asks for, which take at least "
            f"{least:.0f} bits"
        )


def decode_bottleneck(model: EntropyBottleneck, data: bytes, height: int, width: int) -> tuple[Tensor, int]:
    """The latent (1, C, height, width) and its checksum."""
    require_room(model, data, height, width)
    z_hat = model.decompress([data], (height, width))
    return z_hat, _crc(z_hat, medians(model, z_hat))


def table_indexes(model: GaussianConditional, scales: Tensor) -> Tensor:
    """Which of the coder's tables each of ``scales`` uses, int32: what ``model.build_indexes`` finds by going through
    all tables, over all latents each time.
    """
    bounded = model.lower_bound_scale(scales).contiguous()
    return torch.bucketize(bounded, model.scale_table[:-1].to(bounded), out_int32=True)


def encode_gaussian(model: GaussianConditional, y: Tensor, scales: Tensor, means: Tensor | None) -> tuple[bytes, int]:
    """Bytes and checksum of one latent ``y`` (1, C, H, W)."""
    data = model.compress(_codable(y), table_indexes(model, scales), means)[0]
    return data, _crc((y if means is None else y - means).round(), None)


def decode_gaussian(
    model: GaussianConditional, data: bytes, scales: Tensor, means: Tensor | None
) -> tuple[Tensor, int]:
    """The latent and its checksum."""
    y_hat = model.decompress([data], table_indexes(model, scales), means=means)
    return y_hat, _crc(y_hat, means)


class GaussianWriter:
    """Symbols that become known step by step, as one rANS string under CompressAI's Gaussian tables."""

    def __init__(self, model: GaussianConditional) -> None:
        self._model = model
        self._symbols: list[Tensor] = []
        self._indexes: list[Tensor] = []

    def put(self, symbols: Tensor, scales: Tensor) -> None:
        """Append integers ``symbols`` with standard deviations ``scales``, of equal shape."""
        self._symbols.append(_codable(symbols).to(torch.int32).flatten())
        self._indexes.append(table_indexes(self._model, scales).flatten())

    def finish(self) -> tuple[bytes, int]:
        """Bytes and checksum of all symbols."""
        symbols = torch.cat(self._symbols).cpu()
        encoder = BufferedRansEncoder()
        encoder.encode_with_indexes(symbols.tolist(), torch.cat(self._indexes).tolist(), *_tables(self._model))
        return encoder.flush(), symbol_crc(symbols.numpy().tobytes())


class GaussianReader:
    """The symbols of :class:`GaussianWriter`, in the same steps; ``crc`` is the checksum of those read so far."""

    def __init__(self, model: GaussianConditional, data: bytes) -> None:
        self._model, self._tables, self.crc = model, _tables(model), 0
        self._decoder = RansDecoder()
        self._decoder.set_stream(data)

    def get(self, scales: Tensor) -> Tensor:
        """The next symbols, as floats, with standard deviations ``scales``, of equal shape."""
        indexes = table_indexes(self._model, scales).flatten().tolist()
        symbols = torch.tensor(self._decoder.decode_stream(indexes, *self._tables), dtype=torch.int32)
        self.crc = symbol_crc(symbols.numpy().tobytes(), self.crc)
        return symbols.to(scales).view_as(scales)


def _tables(model: GaussianConditional) -> tuple[list[list[int]], list[int], list[int]]:
    return model.quantized_cdf.tolist(), model.cdf_length.tolist(), model.offset.tolist()
