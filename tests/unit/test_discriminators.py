"""The pair of discriminators: what each sees, its limits, its weights, and that it learns to tell blur from photos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcodec.clips import to_float
from robustcodec.errors import UserError, WeightsError
from robustcodec.registry import data
from robustcodec.training.discriminators import (
    KINETICS,
    RESNET34,
    Factorised,
    adversarial_loss,
    build,
    discriminator_loss,
    penalty,
)
from robustcodec.training.features import IMAGENET
from robustcodec.training.gan import FORMS, clip_weights, frozen
from robustcodec.weights.statedict import Published


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def paper() -> Iterator[Factorised]:
    torch.manual_seed(0)
    yield build("paper", "scratch")[0]


def tiny(seed: int = 0) -> Factorised:
    torch.manual_seed(seed)
    return build("tiny")[0]


def test_scores_are_of_patches_of_frames_and_of_clips(paper: Factorised) -> None:
    clip = torch.rand(2, 4, 3, 48, 64)
    for pair, patches in ((tiny(), 3 * 4), (paper, 1)):
        frames, clips = pair(clip)
        assert frames.shape == (2 * 4 * patches,)
        assert clips.shape == (2 * 2 * patches,) if patches > 1 else (2,)


def test_frames_are_judged_alone_and_in_order() -> None:
    pair = tiny().eval()
    clip = torch.rand(2, 3, 3, 32, 32)
    together = pair.score_frames(clip).view(2, 3, 4)
    for n in range(2):
        for t in range(3):
            torch.testing.assert_close(pair.score_frames(clip[n : n + 1, t : t + 1]), together[n, t])


def test_the_temporal_one_sees_the_clip_at_half_size_time_first() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1).mean(1, keepdim=True)

    clip = torch.rand(2, 5, 3, 32, 36)
    Factorised(Spy(), Spy())(clip)
    frames, halved = seen
    assert frames.shape == (10, 3, 32, 36) and halved.shape == (2, 3, 5, 16, 18)
    by_hand = sum(clip[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    assert isinstance(by_hand, Tensor)
    torch.testing.assert_close(halved, by_hand.transpose(1, 2))


def test_motion_is_the_temporal_ones_business() -> None:
    """The same frames in another order: same spatial scores, another temporal one."""
    pair = tiny().eval()
    clip = torch.rand(1, 6, 3, 32, 32)
    shuffled = clip[:, [3, 0, 5, 1, 4, 2]]
    torch.testing.assert_close(pair.score_frames(clip).sort()[0], pair.score_frames(shuffled).sort()[0])
    assert (pair.score_clips(clip) - pair.score_clips(shuffled)).abs().max() > 1e-5


def test_tiny_is_thin_without_batch_statistics_and_judges_patches() -> None:
    pair = tiny()
    for net in (pair.spatial, pair.temporal):
        assert 100_000 < sum(p.numel() for p in net.parameters()) < 300_000
    frames, clips = pair(torch.rand(1, 4, 3, 64, 64))
    assert frames.shape == (4 * 4 * 4,) and clips.shape == (2 * 4 * 4,)
    assert not any("BatchNorm" in type(m).__name__ for m in pair.modules())


@pytest.mark.parametrize("shape", [(1, 1, 3, 16, 16), (1, 2, 3, 17, 31), (2, 9, 3, 33, 20)])
def test_tiny_takes_what_is_small_or_odd(shape: tuple[int, ...]) -> None:
    frames, clips = tiny()(torch.rand(shape))
    assert frames.isfinite().all() and clips.isfinite().all()


def test_too_small_or_not_a_clip() -> None:
    for shape in [(1, 1, 3, 15, 64), (4, 3, 64, 64), (1, 3, 1, 64, 64)]:
        for score in (tiny().score_frames, tiny().score_clips):
            with pytest.raises(UserError, match="at least 16 pixels"):
                score(torch.rand(shape))


def test_paper_networks_are_torchvisions_behind_their_standardisations(paper: Factorised) -> None:
    from torchvision.models.video import R3D_18_Weights
    from torchvision.transforms.functional import normalize

    transforms = R3D_18_Weights.KINETICS400_V1.transforms()
    assert tuple(transforms.mean) == KINETICS[0] and tuple(transforms.std) == KINETICS[1]
    paper.eval()
    clip = torch.rand(1, 4, 3, 64, 64)
    with torch.no_grad():
        frames = paper.get_submodule("spatial.net")(normalize(clip[0], *map(list, IMAGENET)))
        halved = normalize(F.interpolate(clip[0], scale_factor=0.5, mode="area"), *map(list, KINETICS))
        clips = paper.get_submodule("temporal.net")(halved.transpose(0, 1)[None])
        torch.testing.assert_close(paper(clip), (frames[:, 0], clips[:, 0]))
    assert sum(p.numel() for p in paper.spatial.parameters()) == 21_797_672 - 999 * 513
    assert paper.get_submodule("temporal.net.fc").weight.shape == (1, 512)


@pytest.mark.parametrize("t, h, w", [(8, 32, 32), (9, 32, 80), (5, 48, 33)])
def test_the_guard_counts_features_as_the_networks_do(paper: Factorised, t: int, h: int, w: int) -> None:
    """The last residual stage's size, measured, is the input's over the strides that the guard divides by."""
    found: list[tuple[int, ...]] = []
    hooks = [
        paper.get_submodule(f"{name}.net.layer4").register_forward_hook(lambda m, i, out: found.append(out.shape[2:]))
        for name in ("spatial", "temporal")
    ]
    paper.eval()
    with torch.no_grad():
        paper(torch.rand(1, t, 3, h, w))
    for hook in hooks:
        hook.remove()
    assert found == [(ceil(h / 32), ceil(w / 32)), (ceil(t / 8), ceil(h // 2 / 16), ceil(w // 2 / 16))]


def test_batch_norm_with_one_value_is_refused_in_training_only(paper: Factorised) -> None:
    paper.train()
    with pytest.raises(UserError, match="one value per channel.*larger batch or crop"):
        paper.score_frames(torch.rand(1, 1, 3, 32, 32))
    with pytest.raises(UserError, match="one value per channel.*larger batch or crop"):
        paper.score_clips(torch.rand(1, 8, 3, 32, 32))
    for clip in (torch.rand(1, 9, 3, 32, 32), torch.rand(2, 8, 3, 32, 32), torch.rand(1, 8, 3, 33, 34)):
        paper(clip)
    paper.eval()
    paper(torch.rand(1, 1, 3, 32, 32))


@pytest.mark.parametrize("name", FORMS)
def test_losses_of_the_pair_are_means_of_each_ones_own(name: str) -> None:
    form = FORMS[name]
    real, fake = (tuple(torch.randn(n, generator=torch.manual_seed(s)) for n in (6, 2)) for s in (1, 2))
    spatial, temporal = (form.decoder_loss(real[i], fake[i]) for i in (0, 1))
    assert float(adversarial_loss(form, (real[0], real[1]), (fake[0], fake[1]))) == pytest.approx(
        float(spatial + temporal) / 2
    )
    spatial, temporal = (form.discriminator_loss(real[i], fake[i]) for i in (0, 1))
    assert float(discriminator_loss(form, (real[0], real[1]), (fake[0], fake[1]))) == pytest.approx(
        float(spatial + temporal) / 2
    )


def test_penalty_is_per_frame_and_per_clip() -> None:
    """With linear scores the slopes are known: |w| for a frame, |v|/4·2 for a clip seen at half size."""

    class Linear(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(size, generator=torch.manual_seed(size)))

        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1) @ self.w)[:, None]

    pair = Factorised(spatial := Linear(3 * 16 * 16), temporal := Linear(3 * 4 * 8 * 8))
    out = penalty(pair, torch.rand(2, 4, 3, 16, 16), torch.rand(2, 4, 3, 16, 16), torch.Generator())
    by_hand = ((spatial.w.norm() - 1) ** 2 + (temporal.w.norm() / 2 - 1) ** 2) / 2  # four pixels share v/4 each
    assert out.item() == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("name", FORMS)
def test_a_few_steps_tell_blurred_flickering_photos_from_panned_ones(name: str) -> None:
    """Every form trains both of the tiny pair, penalty and clipping included, as a trainer would."""
    form, pair = FORMS[name], tiny()
    photos = [to_float(s.load()) for s in data.build("photos:size=64").samples()[:2]]
    real = torch.stack([torch.cat([p[..., 8:56, 2 * t : 2 * t + 48] for t in range(4)]) for p in photos])
    fake = F.avg_pool3d(real, (1, 5, 5), stride=1, padding=(0, 2, 2), count_include_pad=False)
    fake = (fake + torch.tensor([0.15, -0.15, 0.15, -0.15]).view(4, 1, 1, 1)).clamp(0, 1)
    optimiser = torch.optim.Adam(pair.parameters(), lr=5e-4)
    rng = torch.Generator().manual_seed(0)

    def margins() -> list[float]:
        with torch.no_grad():
            return [float(r.mean() - f.mean()) for r, f in zip(pair(real), pair(fake), strict=True)]

    assert max(map(abs, margins())) < 0.05
    for _ in range(60):
        loss = discriminator_loss(form, pair(real), pair(fake))
        if form.penalty is not None:
            loss = loss + form.penalty * penalty(pair, real, fake, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if form.clip is not None:
            clip_weights(pair, form.clip)
    # weights within 0.01 leave scores of that order
    assert min(margins()) > (1e-6 if form.clip else 0.1)


def test_a_decoder_step_moves_pixels_alone() -> None:
    """Following the decoder's gradient lowers its loss, and the discriminators keep no gradient of it."""
    pair, form = tiny(), FORMS["lsgan"]
    real, fake = torch.rand(2, 2, 3, 3, 32, 32, generator=torch.manual_seed(0))
    fake = fake.clone().requires_grad_(True)
    with frozen(pair):
        loss = adversarial_loss(form, pair(real), pair(fake))
    loss.backward()  # type: ignore[no-untyped-call]
    assert fake.grad is not None and fake.grad.ne(0).any()
    with torch.no_grad():
        moved = fake - 0.5 * fake.grad / fake.grad.norm()
        assert adversarial_loss(form, pair(real), pair(moved)) < loss
    assert all(p.grad is None and p.requires_grad for p in pair.parameters())


def test_building_follows_the_seed_and_a_state_dict_restores_it() -> None:
    clip = torch.rand(1, 2, 3, 32, 32)
    a, b, other = tiny(1), tiny(1), tiny(2)
    torch.testing.assert_close(a(clip), b(clip), rtol=0, atol=0)
    other.load_state_dict(a.state_dict())
    torch.testing.assert_close(a(clip), other(clip), rtol=0, atol=0)


def test_resnet34_weights_by_path_cache_and_download(cache: Path, tmp_path: Path) -> None:
    from torchvision.models import ResNet34_Weights, resnet34

    assert RESNET34.url == ResNet34_Weights.IMAGENET1K_V1.url and RESNET34.digest == "b627a593"
    torch.manual_seed(4)
    state = resnet34().state_dict()
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    path = plain.rename(tmp_path / f"resnet34-{digest[:8]}.pth")
    source = Published(path.as_uri())

    def same(pair: Factorised) -> bool:
        loaded = pair.get_submodule("spatial.net").state_dict()
        return loaded["fc.weight"].shape == (1, 512) and all(
            torch.equal(loaded[k], v) for k, v in state.items() if not k.startswith("fc.")
        )

    pair, origin = build("paper", str(path), source)
    assert same(pair) and origin == f"resnet34 ImageNet1K_V1 (sha256 {digest})"
    with pytest.raises(WeightsError, match="another file"):
        build("paper", str(path))  # not the official file
    pair, origin = build("paper", "download", source)
    assert same(pair) and digest in origin and source.cached.is_file()
    path.unlink()
    with pytest.warns(UserWarning, match=f"from ImageNet weights, found at {source.cached}"):
        pair, origin = build("paper", None, source)
    assert same(pair) and digest in origin
    source.cached.unlink()
    with pytest.raises(WeightsError, match=f"get it from {source.url} and put it at"):
        build("paper", "download", source)


def test_without_weights_it_starts_from_scratch_and_says_so(cache: Path) -> None:
    with pytest.warns(UserWarning, match=f"FROM SCRATCH.*{RESNET34.url}.*{cache / 'resnet34-b627a593.pth'}"):
        pair, origin = build("paper")
    assert origin == "from scratch"
    assert build("tiny")[1] == "from scratch"
    with pytest.raises(UserError, match="tiny discriminators take no ResNet-34 weights"):
        build("tiny", "download")
    with pytest.raises(UserError, match="expected tiny or paper"):
        build("huge")  # type: ignore[arg-type]
