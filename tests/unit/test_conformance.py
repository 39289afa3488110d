"""The conformance check passes codecs that keep their promises and names the promise that is broken."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import registry, stream, weights
from robustcodec.clips import to_float
from robustcodec.errors import BadData, StreamError
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.rounding import round_latent, rounding
from robustcodec.studies.check import Check, check

BUNDLED = [f"{name}.{tag}" for name in registry.codecs.names() for tag in weights.bundled_tags(name)]
ID = b"blok"
PARITY = {
    "forward = decoded bytes, photo 96x96",
    "forward = decoded bytes, odd size 53x37",
    "forward = decoded bytes, one pixel 1x1",
    "forward = decoded bytes, wide 2048x64",
    "forward = decoded bytes, batch of 2 96x96",
    "forward = decoded bytes, clip of 2 frames 96x96",
}
GRADIENTS = {"gradient of distortion", "gradient of bits"}


class Blocks(Codec):
    """Means of 4×4 blocks in 33 levels, one byte each: a codec that can be followed by hand."""

    card = Card("blocks", "blocks")

    def symbols(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        frames = F.pad(x.flatten(0, 1), (0, -width % 4, 0, -height % 4), mode="replicate")
        return round_latent(32 * F.avg_pool2d(frames, 4))

    def reconstruct(self, y: Tensor, height: int, width: int) -> Tensor:
        return F.interpolate(y / 32, scale_factor=4.0)[..., :height, :width]

    def forward(self, x: Tensor) -> Output:
        n, t, _, height, width = x.shape
        y = self.symbols(x)
        size = y[0].numel()
        real = stream.overhead_bits((t, height, width), [size] * t) + 8 * t * size
        bits = real + y.view(n, -1).square().mean(1) / 4  # a slope for the gradient, inside the tolerance
        return Output(lambda: self.reconstruct(y, height, width).view_as(x), lambda: bits)

    def compress(self, x: Tensor) -> list[bytes]:
        return [self.pack(clip) for clip in x]

    def pack(self, clip: Tensor) -> bytes:
        parts = tuple(y.to(torch.uint8).numpy().tobytes() for y in self.symbols(clip[None]))
        return stream.pack(stream.Packet(len(clip), clip.shape[-2], clip.shape[-1], parts, 0), ID)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack([self.unpack(s) for s in streams])

    def unpack(self, data: bytes) -> Tensor:
        packet = stream.unpack(data, ID, "blocks", lambda frames: frames)
        size = 3, -(-packet.height // 4), -(-packet.width // 4)
        frames = [torch.tensor(list(part), dtype=torch.float32).view(size) for part in packet.parts]
        return self.reconstruct(torch.stack(frames), packet.height, packet.width)


@pytest.fixture(scope="module")
def clips() -> list[Tensor]:
    """Two real photos, 96×96."""
    return [to_float(s.load())[None] for s in registry.data.build("photos:size=96").samples()[:2]]


@pytest.fixture(scope="module")
def quarters() -> list[Tensor]:
    """The same photos, 128×128: the smallest on which a gradient is examined as on whole ones."""
    return [to_float(s.load())[None] for s in registry.data.build("photos:size=128").samples()[:2]]


def failed(checks: list[Check]) -> set[str]:
    return {c.name for c in checks if not c.passed}


def named(checks: list[Check], name: str) -> Check:
    (found,) = [c for c in checks if c.name == name]
    return found


def test_a_faithful_codec_passes_every_check(clips: list[Tensor]) -> None:
    checks = check(Blocks(), clips, rebuild=Blocks)
    assert failed(checks) == set()
    assert {c.name for c in checks} == PARITY | GRADIENTS | {
        "estimated bits, 96x96",
        "bytes of a batch of 2 and one by one",
        "bytes with 1 and 2 threads",
        "written with 2 threads, read with 1",
        "a flipped bit",
        "truncated and empty streams",
        "decoded by a second instance",
    }


def test_a_learned_codec_passes_on_the_bundled_photos() -> None:
    spec = "bmshj2018-factorized:weights=random"
    checks = check(registry.codecs.build(spec), rebuild=lambda: registry.codecs.build(spec))
    assert failed(checks) == set(), checks
    assert {"estimated bits, 256x256", "estimated bits, 128x128"} <= {c.name for c in checks}


@pytest.mark.parametrize("spec", BUNDLED)
def test_bundled_codecs_pass(spec: str, quarters: list[Tensor]) -> None:
    """The first of each family on whole photos, as the command does; the others, whose weights alone differ, on a
    quarter of each.
    """
    family = spec.partition(".")[0]
    first = next(name for name in BUNDLED if name.partition(".")[0] == family)
    data = None if spec == first else quarters
    checks = check(registry.codecs.build(spec), data, rebuild=lambda: registry.codecs.build(spec))
    assert failed(checks) == set(), checks


@pytest.mark.parametrize(("shift", "broken"), [(5e-5, set()), (2e-4, PARITY)])
def test_forward_must_agree_with_the_bytes(clips: list[Tensor], shift: float, broken: set[str]) -> None:
    class Shifted(Blocks):
        def forward(self, x: Tensor) -> Output:
            out = super().forward(x)
            return Output(lambda: out.x_hat + shift, lambda: out.bits)

    assert failed(check(Shifted(), clips)) == broken


def test_a_stated_surrogate_reports_its_gap_and_passes(clips: list[Tensor]) -> None:
    class Surrogate(Blocks):
        exact_forward = False

        def forward(self, x: Tensor) -> Output:
            out = super().forward(x)
            return Output(lambda: out.x_hat + 0.25, lambda: 2 * out.bits)

    checks = check(Surrogate(), clips)
    assert failed(checks) == set()
    photo = named(checks, "forward = decoded bytes, photo 96x96")
    assert photo.measured == "2.5e-01 (100.0% of values are further apart)"
    assert photo.expected == "information: forward is a stated surrogate"


@pytest.mark.parametrize(("factor", "broken"), [(1.002, set()), (1.1, {"estimated bits, 96x96"})])
def test_estimated_bits_must_be_the_real_ones(clips: list[Tensor], factor: float, broken: set[str]) -> None:
    class Estimate(Blocks):
        def forward(self, x: Tensor) -> Output:
            out = super().forward(x)
            return Output(lambda: out.x_hat, lambda: factor * out.bits)

    assert failed(check(Estimate(), clips)) == broken


@pytest.mark.parametrize(("factor", "broken"), [(1.02, set()), (1.2, GRADIENTS), (-1.0, GRADIENTS), (0.0, GRADIENTS)])
def test_a_wrong_gradient_is_seen(clips: list[Tensor], factor: float, broken: set[str]) -> None:
    class Scaled(Blocks):
        def forward(self, x: Tensor) -> Output:
            return super().forward(x.detach() + factor * (x - x.detach()))

    checks = check(Scaled(), clips)
    assert failed(checks) == broken
    if factor == 0:
        assert named(checks, "gradient of bits").measured == "zero everywhere"


def test_a_gradient_that_is_not_finite_is_seen(clips: list[Tensor]) -> None:
    class Rooted(Blocks):
        def forward(self, x: Tensor) -> Output:
            return super().forward(x + 0 * (x - x.detach()).abs().sqrt())

    assert named(check(Rooted(), clips), "gradient of distortion").measured == "not finite"


def test_a_codec_that_rounds_by_itself_is_told_how_to(clips: list[Tensor]) -> None:
    class Selfish(Blocks):
        def forward(self, x: Tensor) -> Output:
            with rounding("straight-through"):
                return super().forward(x)

    checks = check(Selfish(), clips)
    assert failed(checks) == GRADIENTS
    assert "robustcodec.rounding.round_latent" in named(checks, "gradient of distortion").measured


def test_bytes_may_not_depend_on_the_batch(clips: list[Tensor]) -> None:
    class Batched(Blocks):
        def compress(self, x: Tensor) -> list[bytes]:
            brighter = x + 0.1 * (len(x) - 1)
            return super().compress(brighter.clamp(0, 1))

    assert failed(check(Batched(), clips)) == {
        "bytes of a batch of 2 and one by one",
        "forward = decoded bytes, batch of 2 96x96",
    }


def test_pixels_may_not_depend_on_threads_and_bytes_are_reported(clips: list[Tensor]) -> None:
    class Threaded(Blocks):
        def compress(self, x: Tensor) -> list[bytes]:
            return super().compress(x if torch.get_num_threads() == 1 else (x + 0.1).clamp(0, 1))

        def decompress(self, streams: Sequence[bytes]) -> Tensor:
            return super().decompress(streams) + 1e-3 * (torch.get_num_threads() - 1)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        checks = check(Threaded(), clips)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert failed(checks) == {"written with 2 threads, read with 1"}
    assert named(checks, "bytes with 1 and 2 threads").measured.startswith("differ")


def test_damage_that_decodes_is_seen(clips: list[Tensor]) -> None:
    class Lenient(Blocks):
        def decompress(self, streams: Sequence[bytes]) -> Tensor:
            try:
                return super().decompress(streams)
            except StreamError:
                return torch.zeros(len(streams), 1, 3, 96, 96)

    checks = check(Lenient(), clips)
    assert failed(checks) == {"a flipped bit", "truncated and empty streams"}
    assert named(checks, "a flipped bit").measured == "5 of 5 damaged streams decode"


def test_damage_must_raise_the_right_error(clips: list[Tensor]) -> None:
    class Crashing(Blocks):
        def unpack(self, data: bytes) -> Tensor:
            if not data:
                raise IndexError("index out of range")
            return super().unpack(data)

    checks = check(Crashing(), clips)
    assert failed(checks) == {"truncated and empty streams"}
    assert named(checks, "truncated and empty streams").measured == "IndexError: index out of range"


def test_streams_that_need_their_writer_are_seen(clips: list[Tensor]) -> None:
    class Cheating(Blocks):
        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[bytes, Tensor] = {}

        def pack(self, clip: Tensor) -> bytes:
            data = super().pack(clip)
            self.kept[data] = super().unpack(data)
            return data

        def unpack(self, data: bytes) -> Tensor:
            kept = self.kept.get(data)
            return 0 * super().unpack(data) if kept is None else kept

    assert failed(check(Cheating(), clips, rebuild=Cheating)) == {"decoded by a second instance"}


def test_a_codec_that_raises_has_failed_and_the_rest_is_still_checked(clips: list[Tensor]) -> None:
    class Fragile(Blocks):
        def compress(self, x: Tensor) -> list[bytes]:
            if x.shape[-1] % 2:
                raise RuntimeError("odd width")
            return super().compress(x)

    checks = check(Fragile(), clips)
    assert failed(checks) == {
        "forward = decoded bytes, odd size 53x37",
        "forward = decoded bytes, one pixel 1x1",
    }
    assert named(checks, "forward = decoded bytes, odd size 53x37").measured == "RuntimeError: odd width"


def test_a_clear_refusal_of_a_size_is_not_a_failure(clips: list[Tensor]) -> None:
    class Picky(Blocks):
        def compress(self, x: Tensor) -> list[bytes]:
            if x.shape[-1] < 4:
                raise BadData("blocks codes frames of at least 4 pixels")
            return super().compress(x)

    checks = check(Picky(), clips)
    assert failed(checks) == set()
    assert "refuses this size" in named(checks, "forward = decoded bytes, one pixel 1x1").measured


@pytest.mark.parametrize("spec", ["jpeg:quality=30", "webp", "jpeg2000"])
def test_file_formats_pass_without_a_gradient(spec: str, clips: list[Tensor]) -> None:
    checks = check(registry.codecs.build(spec), clips, rebuild=lambda: registry.codecs.build(spec))
    assert failed(checks) == set()
    assert not GRADIENTS & {c.name for c in checks}
    assert named(checks, "a flipped bit").expected == "StreamError"


def test_defended_codecs_pass(clips: list[Tensor]) -> None:
    defended = registry.defenses.build("self-ensemble:views=2").wrap(Blocks())
    assert failed(check(defended, clips)) == set()
