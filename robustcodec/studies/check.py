"""Does a codec keep the promises of :class:`robustcodec.interfaces.Codec`? What ``robustcodec check`` runs.

Attacks trust ``forward``, published numbers come from the bytes: parity of the two, the size of the stream, the
gradient against central differences of a frozen-rounding forward, determinism, and what damaged bytes do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import registry
from robustcodec.clips import centre_crop, to_float
from robustcodec.errors import BadData, StreamError
from robustcodec.interfaces import Codec, Output
from robustcodec.memory import out_of_memory, short_of_memory
from robustcodec.rounding import rounding

PIXEL = 1e-4  # allowed difference of two decodes, in units of the [0, 1] range: 1/40 of an 8-bit level
BITS_SHARE, BITS_EXTRA = 0.01, 64.0  # allowed gap of estimated and real bits
GRADIENT = 0.05  # allowed relative error of directional derivatives, over all directions together
STEP = 1e-3  # root mean square of a finite-difference step, a quarter of an 8-bit level
FINER = 3e-4  # that of a second look, where the first is not straight: the bits of a codec of 35 dB, for one
FLOAT_NOISE = 4 * 2.0**-23  # of a value summed in float32: what a finite difference cannot resolve
DIRECTIONS = 6
PROBE = 128  # side of the clip that gradients are checked on


@dataclass(frozen=True)
class Check:
    """One promise: what was ``measured`` against what was ``expected``. Informative checks always pass."""

    name: str
    passed: bool
    measured: str
    expected: str


def check(
    codec: Codec, data: Sequence[Tensor] | None = None, rebuild: Callable[[], Codec] | None = None
) -> list[Check]:
    """All checks that apply to ``codec``, which is put into eval mode.

    ``data``: at least two float clips ``(1, 1, 3, H, W)`` in [0, 1] of one size (default: bundled photos);
    ``rebuild`` builds the same codec again. A check that raises has failed; its message is what was measured.
    """
    codec.eval()
    clips = [to_float(s.load())[None] for s in registry.data.build("photos").samples()[:2]] if data is None else data
    return _Examination(codec, [clip.to(_device(codec)) for clip in clips]).run(rebuild)


class _Examination:
    """The checks of one codec on a few clips."""

    def __init__(self, codec: Codec, clips: Sequence[Tensor]) -> None:
        self.codec, self.clips = codec, clips
        self.photo = clips[0]
        self.small = [centre_crop(clip, 128) for clip in clips[:2]]

    def _forward(self, x: Tensor) -> Output:
        with _same_draws():
            out: Output = self.codec(x)
            return out

    def _compress(self, x: Tensor) -> list[bytes]:
        with _same_draws():
            return self.codec.compress(x)

    def run(self, rebuild: Callable[[], Codec] | None) -> list[Check]:
        checks = [self.parity(name, x) for name, x in self.shapes()]
        # once where the photo is the small one
        checks += [self.size(x) for x in {x.shape: x for x in (self.photo, self.small[0])}.values()]
        if self.codec.differentiable:
            checks += [
                self.gradient("distortion", lambda out, x: (out.x_hat - x).double().square().sum()),
                self.gradient("bits", lambda out, x: out.bits.double().sum()),
            ]
        checks += [self.batches(), self.thread_bytes(), self.thread_pixels(), self.flipped(), self.truncated()]
        if rebuild is not None:
            checks.append(self.self_contained(rebuild))
        return checks

    def shapes(self) -> Iterator[tuple[str, Tensor]]:
        """Clips of every shape that codecs stumble over."""
        first, second = self.small
        height = min(64, self.photo.shape[-2])
        wide = self.photo[..., :height, :].repeat(1, 1, 1, 1, -(-2048 // self.photo.shape[-1]))[..., :2048]
        yield "photo", self.photo
        yield "odd size", self.photo[..., :37, :53]
        yield "one pixel", self.photo[..., :1, :1]
        yield "wide", wide
        yield "batch of 2", torch.cat((first, second))
        yield "clip of 2 frames", torch.cat((first, second), 1)

    def parity(self, name: str, x: Tensor) -> Check:
        def run() -> tuple[bool, str]:
            with torch.no_grad():
                try:
                    decoded = self.codec.decompress(self._compress(x))
                except BadData as refusal:  # said clearly before any byte was written
                    return True, f"refuses this size: {refusal}"
                close, text = _compare(self._forward(x).x_hat, decoded)
            return close or not self.codec.exact_forward, text

        size = f"{x.shape[-1]}x{x.shape[-2]}"
        expected = f"≤ {PIXEL:g}" if self.codec.exact_forward else "information: forward is a stated surrogate"
        return guarded(f"forward = decoded bytes, {name} {size}", expected, run)

    def size(self, x: Tensor) -> Check:
        def run() -> tuple[bool, str]:
            with torch.no_grad():
                estimate = float(self._forward(x).bits[0])
            real = 8 * len(self._compress(x)[0])
            near = abs(estimate - real) <= BITS_SHARE * real + BITS_EXTRA
            text = f"{estimate:.0f} of {real} bits ({(estimate - real) / real:+.2%})"
            return near or not self.codec.exact_forward, text

        expected = f"within {BITS_SHARE:.0%} + {BITS_EXTRA:.0f} bits"
        if not self.codec.exact_forward:
            expected = "information: forward is a stated surrogate"
        return guarded(f"estimated bits, {x.shape[-1]}x{x.shape[-2]}", expected, run)

    def gradient(self, what: str, objective: Callable[[Output, Tensor], Tensor]) -> Check:
        """Directional derivatives by autograd against central differences of the forward with frozen rounding."""

        def run() -> tuple[bool, str]:
            x = self.probe
            leaf = x.clone().requires_grad_(True)
            with rounding("frozen") as state:
                (grad,) = torch.autograd.grad(objective(self._forward(leaf), x), leaf)
                if not bool(grad.isfinite().all()):
                    return False, "not finite"
                if not bool(grad.any()):
                    return False, "zero everywhere"

                def value(at: Tensor) -> float:
                    state.rewind()
                    with torch.no_grad():
                        return float(objective(self._forward(at), x))

                def apart(step: float) -> tuple[float, float]:
                    """How far slopes and differences are apart, and how large the slopes are."""
                    pairs = [
                        (float((grad * v).sum()), (value(x + v) - value(x - v)) / 2) for v in _directions(grad, step)
                    ]
                    slopes, differences = torch.tensor(pairs, dtype=torch.float64).T
                    return float((slopes - differences).norm()), float(slopes.norm())

                error, size = apart(STEP)
                noise = FLOAT_NOISE * abs(value(x)) * (1 + DIRECTIONS) ** 0.5
                if not (agrees := error <= GRADIENT * size + noise):
                    error, size = apart(FINER)
                    agrees = error <= GRADIENT * size
            hint = "" if agrees else "; does it round with robustcodec.rounding.round_latent?"
            return agrees, f"{error / size:.2%} from finite differences{hint}"

        expected = f"finite, not zero, ≤ {GRADIENT:.0%} beyond float noise"
        return guarded(f"gradient of {what}", expected, run)

    def batches(self) -> Check:
        def run() -> tuple[bool, str]:
            together = self._compress(torch.cat(self.small))
            apart = [stream for x in self.small for stream in self._compress(x)]
            equal = together == apart
            return equal or self.codec.randomised, "equal" if equal else "other bytes"

        expected = "information: each sample has its draw" if self.codec.randomised else "equal"
        return guarded("bytes of a batch of 2 and one by one", expected, run)

    def thread_bytes(self) -> Check:
        def run() -> tuple[bool, str]:
            same = self._written[1] == self._written[2]
            return True, "equal" if same else "differ: sizes may vary a little between machines"

        return guarded("bytes with 1 and 2 threads", "information", run)

    def thread_pixels(self) -> Check:
        def run() -> tuple[bool, str]:
            streams = self._written[2]
            with _threads(2):
                there = self.codec.decompress(streams)
            with _threads(1):
                return _compare(there, self.codec.decompress(streams))

        return guarded("written with 2 threads, read with 1", f"≤ {PIXEL:g}", run)

    @cached_property
    def _written(self) -> dict[int, list[bytes]]:
        """What 1 and 2 threads write of the small clip."""
        found = {}
        for threads in (1, 2):
            with _threads(threads):
                found[threads] = self._compress(self.small[0])
        return found

    def flipped(self) -> Check:
        """One wrong bit at five places."""
        whole = self._stream
        places = sorted({0, len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4, len(whole) - 1})
        wrong = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in places]
        return self._damage("a flipped bit", wrong)

    def truncated(self) -> Check:
        whole = self._stream
        return self._damage("truncated and empty streams", [whole[:-1], whole[: len(whole) // 2], whole[:1], b""])

    @cached_property
    def _stream(self) -> bytes:
        return self._compress(self.small[0])[0]

    def _damage(self, name: str, streams: list[bytes]) -> Check:
        def run() -> tuple[bool, str]:
            silent = 0
            for stream in streams:
                try:
                    self.codec.decompress([stream])
                    silent += 1
                except StreamError:
                    pass
            text = "StreamError" if not silent else f"{silent} of {len(streams)} damaged streams decode"
            return silent == 0, text

        return guarded(name, "StreamError", run)

    def self_contained(self, rebuild: Callable[[], Codec]) -> Check:
        def run() -> tuple[bool, str]:
            other = rebuild().to(self.photo.device).eval()
            return _compare(self.codec.decompress([self._stream]), other.decompress([self._stream]))

        return guarded("decoded by a second instance", f"≤ {PIXEL:g}", run)

    @cached_property
    def probe(self) -> Tensor:
        """A smooth clip within (0.2, 0.8), so that few reconstructed values meet the clamp to [0, 1]."""
        crop = centre_crop(self.photo, PROBE)
        frames = F.avg_pool2d(F.pad(crop.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return 0.2 + 0.6 * frames.view_as(crop)


def _directions(grad: Tensor, step: float) -> Iterator[Tensor]:
    """The gradient, random parts of it, and random smooth directions; root mean square ``step``."""
    rng = torch.Generator().manual_seed(0)
    height, width = grad.shape[-2:]
    for kind in itertools.chain(["gradient"], ["part", "smooth"] * (DIRECTIONS // 2)):
        v = grad
        if kind == "part":
            v = v * (torch.rand(v.shape, generator=rng) < 0.5).to(v)
        elif kind == "smooth":
            coarse = torch.randn(1, 3, -(-height // 8), -(-width // 8), generator=rng)
            v = F.interpolate(coarse, size=(height, width), mode="bilinear")[:, None].to(v)
        yield v * (step / v.square().mean().sqrt())


def _compare(a: Tensor, b: Tensor) -> tuple[bool, str]:
    """Whether two clips agree to ``PIXEL``, and by how much they do not."""
    if a.shape != b.shape:
        return False, f"shape {tuple(b.shape)}, not {tuple(a.shape)}"
    gap = (a - b).abs()
    apart = float((gap > PIXEL).float().mean())
    worst = float(gap.max())
    return worst <= PIXEL, f"{worst:.1e}" + (f" ({apart:.1%} of values are further apart)" if apart else "")


def guarded(name: str, expected: str, run: Callable[[], tuple[bool, str]]) -> Check:
    """``run()`` as a check; one that raises has failed."""
    try:
        passed, measured = run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a third-party codec raises is its result
        if short_of_memory(error):  # not the codec's
            raise out_of_memory(error) from error
        passed, measured = False, f"{type(error).__name__}: {error}"
    return Check(name, passed, measured, expected)


@contextmanager
def _same_draws() -> Iterator[None]:
    """A random codec does the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(codec: Codec) -> torch.device:
    """Where the codec's tensors are."""
    return next((t.device for t in itertools.chain(codec.parameters(), codec.buffers())), torch.device("cpu"))
