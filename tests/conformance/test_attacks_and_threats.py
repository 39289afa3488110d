"""Every attack under every threat, on images and clips: budgets hold to the last bit, and samples stand alone."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from robustcodec import registry
from robustcodec.studies.check_attack import THREATS, check, clips, crafted

SHORT = {"steps": "2", "restarts": "1", "queries": "8", "samples": "2", "size": "4", "clips": "2", "binary_search": "2"}
FOREIGN = {
    "torchattacks": ["torchattacks:MIFGSM,options=steps=2", "torchattacks:PGDL2,options=steps=2"],
    "foolbox": ["foolbox:LinfPGD,options=steps=2", "foolbox:L2DeepFool,options=steps=2"],
}


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


@pytest.mark.parametrize(("name", "threat"), list(product(own(), THREATS)))
def test_budgets_hold_exactly_and_seeds_decide(name: str, threat: str) -> None:
    attack = registry.attacks.build(name)
    failed = [c for c in check(attack, [threat]) if not c.passed]
    assert not failed, failed
    if threat.startswith("flicker"):  # one offset per frame and colour, but where black or white clamps it
        for x in (clips(1), clips(2)):
            levels = crafted(attack, registry.threats.build(threat), x, [1, 2]).round()
            delta = (levels - (255 * x).round()).flatten(0, 2)
            free = ((levels > 0) & (levels < 255)).flatten(0, 2)
            assert all(len(d[f].unique()) <= 1 for d, f in zip(delta, free, strict=True))


def test_a_mask_file_is_kept_to_the_pixel(tmp_path: Path) -> None:
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[3:7, 2:6] = 255
    Image.fromarray(mask.numpy()).save(tmp_path / "m.png")
    attack = registry.attacks.build(f"patch:where=mask,mask={tmp_path / 'm.png'},steps=3")
    x = clips(1)
    changed = (crafted(attack, registry.threats.build("linf:8/255"), x, [1, 2]) - 255 * x).abs() > 0.5
    assert changed.any() and not changed[..., mask == 0].any()
