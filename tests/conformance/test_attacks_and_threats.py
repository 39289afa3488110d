"""Every attack under every threat, on images and clips: budgets hold to the last bit, and samples stand alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import Shown

from robustcodec import registry
from robustcodec.interfaces import Attack, Card, Draws, Oracle, Output, Threat
from robustcodec.rounding import round_latent

# What decides about the budget of 8-bit inputs is counted in whole grey levels, so that nothing is left to float noise.
THREATS: dict[str, Callable[[Tensor], Tensor]] = {
    "linf:3/255": lambda d: d.abs().amax() <= 3,
    "l2:0.3": lambda d: d.square().sum() <= (255 * 0.3) ** 2,
    "mse:1e-4": lambda d: d.square().mean() <= 255**2 * 1e-4,
    "psnr:36": lambda d: d.square().mean() <= 255**2 * 10**-3.6,
    "psnr:36,per=frame": lambda d: (d.square().mean((1, 2, 3)) <= 255**2 * 10**-3.6).all(),
    "linf:3/255,frames=first": lambda d: (d.abs().amax() <= 3) & ~d[1:].any(),
    "flicker:3/255": lambda d: d.abs().amax() <= 3,
}
SHORT = {"steps": "2", "restarts": "1", "queries": "8", "samples": "2", "size": "4", "clips": "2", "binary_search": "2"}
FOREIGN = {
    "torchattacks": ["torchattacks:MIFGSM,options=steps=2", "torchattacks:PGDL2,options=steps=2"],
    "foolbox": ["foolbox:LinfPGD,options=steps=2", "foolbox:L2DeepFool,options=steps=2"],
}


class Means(Shown):
    """Means of 2 × 2 pixels on 64 levels: nothing in it depends on a batch."""

    card = Card("means", "means")

    def forward(self, x: Tensor) -> Output:
        y = round_latent(63 * torch.nn.functional.avg_pool3d(x, (1, 2, 2)))
        up = (y / 63).repeat_interleave(2, -1).repeat_interleave(2, -2)
        return Output(lambda: up, lambda: (1 + y.abs()).log2().flatten(1).sum(1))


def own() -> list[str]:
    """Every attack of this package, cut short."""
    specs: list[str] = []
    for name in registry.attacks.names():
        if not registry.attacks.get(name).__module__.startswith("robustcodec."):
            continue
        if name in FOREIGN:
            specs += FOREIGN[name]
            continue
        known = registry.attacks.resolve(name)
        short = [f"{k}={v}" for k, v in SHORT.items() if k in known]
        data = ["data=photos:size=8"] if "data" in known else []
        specs.append(f"{name}:{','.join(data + short)}" if data or short else name)
    return specs


def clips(frames: int) -> Tensor:
    """Two 8-bit clips, with black and white where the box binds."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (2, frames, 3, 8, 8), generator=rng)
    x[:, :, :, :2] = 0
    x[:, :, :, 2] = 255
    return x / 255


def crafted(attack: Attack, threat: Threat, x: Tensor, seeds: list[int]) -> Tensor:
    """What would be evaluated, in grey levels, ``(N, T, 3, H, W)``; one by one, as the runner crafts on a CPU."""
    out = []
    for clip, seed in zip(x, seeds, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            oracle = Oracle(Means(), registry.objectives.build("source-distortion"), clip[None], attack.access)
            found = attack.run(oracle, clip[None].clone(), threat, Draws([seed]))
        out.append(threat.quantise(threat.project(found, clip[None]), clip[None]))
    return 255 * torch.cat(out)


@pytest.mark.parametrize(("name", "threat"), list(product(own(), THREATS)))
def test_budgets_hold_exactly_and_seeds_decide(name: str, threat: str) -> None:
    attack, ball = registry.attacks.build(name), registry.threats.build(threat)
    for frames in (1, 2):
        x = clips(frames)
        levels = crafted(attack, ball, x, [1, 2])
        assert (levels - levels.round()).abs().max() < 1e-3
        levels = levels.round()
        assert levels.min() >= 0 and levels.max() <= 255
        for before, after in zip((255 * x).round().double(), levels.double(), strict=True):
            delta = after - before
            assert THREATS[threat](delta), (name, threat, frames)
            if threat.startswith("flicker"):  # one offset per frame and colour, but where black or white clamps it
                free = (after > 0) & (after < 255)
                assert all(
                    len(d[f].unique()) <= 1 for d, f in zip(delta.flatten(0, 1), free.flatten(0, 1), strict=True)
                )
        swapped = crafted(attack, ball, x.flip(0), [2, 1])
        assert torch.equal(swapped.round().flip(0), levels)


def test_a_mask_file_is_kept_to_the_pixel(tmp_path: Path) -> None:
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[3:7, 2:6] = 255
    Image.fromarray(mask.numpy()).save(tmp_path / "m.png")
    attack = registry.attacks.build(f"patch:where=mask,mask={tmp_path / 'm.png'},steps=3")
    x = clips(1)
    changed = (crafted(attack, registry.threats.build("linf:8/255"), x, [1, 2]) - 255 * x).abs() > 0.5
    assert changed.any() and not changed[..., mask == 0].any()
