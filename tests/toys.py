"""Small codecs and clips that several tests share: a linear codec, of which the worst case is known in closed form,
with matrices and clips for it; crops of a photo; a small purifier."""

from __future__ import annotations

import math
import struct
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from robustcodec import weights
from robustcodec.defenses._purifier import Architecture, Purifier
from robustcodec.defenses.preprocessing import PreprocessedCodec
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.registry import codecs, data, defenses
from robustcodec.weights.statedict import Published

Shape = tuple[int, int, int, int]  # (T, 3, H, W)
SIZES = struct.Struct("<4H")
SMALL = Architecture(widths=(8, 8), groups=4, levels=20)


class Shown(Codec):
    """A codec by its ``forward`` alone: its bytes are what that shows, as float32 behind the shape."""

    @abstractmethod
    def forward(self, x: Tensor) -> Output: ...

    def compress(self, x: Tensor) -> list[bytes]:
        with torch.no_grad():
            return [SIZES.pack(*clip.shape) + clip.float().numpy().tobytes() for clip in self(x).x_hat]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack(
            [
                torch.frombuffer(bytearray(s[SIZES.size :]), dtype=torch.float32).view(SIZES.unpack_from(s))
                for s in streams
            ]
        )


class Linear(Shown):
    """``x_hat = A x`` without rounding or clamping, for clips of one size, each value of the input 32 bits."""

    card = Card("linear", "linear")

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Output:
        x_hat = (x.flatten(1) @ self.matrix.T).view_as(x)
        return Output(lambda: x_hat, lambda: torch.full((len(x),), 32.0 * x[0].numel()))


def spectrum(shape: Shape) -> Tensor:
    """A matrix with singular values 2, 1.4, 1.4/2, 1.4/3 … in random directions."""
    values, rng = math.prod(shape), torch.Generator().manual_seed(5)
    u, v = (torch.linalg.qr(torch.randn(values, values, generator=rng)).Q for _ in range(2))
    s = 1.4 / torch.arange(values).clamp(min=1)
    s[0] = 2
    matrix: Tensor = u @ torch.diag(s) @ v.T
    return matrix


def positive(shape: Shape) -> Tensor:
    """A matrix without negative entries: under L∞ the worst case moves every value up."""
    values = math.prod(shape)
    return torch.rand(values, values, generator=torch.Generator().manual_seed(6)) / values


def grey(shape: Shape, n: int = 2) -> Tensor:
    """8-bit clips ``(n, T, 3, H, W)`` far from the faces of the box."""
    return torch.randint(100, 156, (n, *shape), generator=torch.Generator().manual_seed(7)) / 255


def clips(n: int = 2, t: int = 1, height: int = 33, width: int = 47) -> Tensor:
    """Crops of a photo that move by a pixel from frame to frame and a few from clip to clip."""
    photo: Tensor = data.build("photos:size=96").samples()[0].load().float() / 255
    return torch.stack(
        [torch.cat([photo[..., 3 * i + k :, 5 * i + k :][..., :height, :width] for k in range(t)]) for i in range(n)]
    )


def small(seed: int = 0) -> Purifier:
    """Ours, smaller, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Purifier.of(SMALL).eval().requires_grad_(False)


def stored_purifier(folder: Path) -> Path:
    """A file of :func:`small`."""
    network, path = small(), folder / "diffpure.small.safetensors"
    weights.save(path, network.state(), {"name": "diffpure.small", **network.facts})
    return path


@cache
def purified_codec() -> Codec:
    """The codec behind :func:`purified`."""
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


def purified(spec: str) -> PreprocessedCodec:
    """A bundled codec behind a purification, such as ``diffpure:sigma=0.05``."""
    made = defenses.build(spec).wrap(purified_codec())
    assert isinstance(made, PreprocessedCodec)
    return made


def random_backbone(torch_home: Path) -> Published:
    """A SqueezeNet with random weights in torch's cache, the same each time, for the trained one of LPIPS."""
    from torchvision.models import squeezenet1_1

    file = torch_home / "hub" / "checkpoints" / "squeezenet1_1.pth"
    file.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(squeezenet1_1(weights=None).state_dict(), file)
    named = file.rename(file.with_name(f"squeezenet1_1-{weights.sha256(file)[:8]}.pth"))
    return Published(f"https://example.org/{named.name}")
