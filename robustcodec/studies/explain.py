"""Where the damage of an attack comes from: how much each layer of a codec amplifies the perturbation, and how much
damage is left when a part of what is coded is replaced by what it was for the clean clip.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from robustcodec.clips import to_float
from robustcodec.coding import judged
from robustcodec.errors import BadData
from robustcodec.execution.watching import Watcher
from robustcodec.files import write_whole
from robustcodec.interfaces import Codec
from robustcodec.probing import Handler, probed
from robustcodec.reporting import explanation as drawing
from robustcodec.rounding import rounding
from robustcodec.studies.attack import attack as run
from robustcodec.studies.attack_outcome import Outcome
from robustcodec.studies.layers import Layer, require_layers, trace

NOTHING, EVERYTHING = "nothing", "everything"


@dataclass(frozen=True)
class Replaced:
    """What the codec makes of the attacked clip when ``part`` is that of the clean clip.

    ``error``: MSE of its picture to the clean reconstruction; ``bits``: estimated, of the whole clip. ``error_left``
    and ``bits_left``: what the attack added to each that is still there, as a share of all it added; NaN where it added
    nothing, below 0 or above 1 where parts work against each other.
    """

    part: str
    error: float
    bits: float
    error_left: float
    bits_left: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """An attack and where its damage comes from.

    ``replaced`` begins with ``nothing``, the attack as it is, and ends with ``everything``, the clean clip.
    """

    outcome: Outcome
    layers: Sequence[Layer]
    replaced: Sequence[Replaced]

    def table(self) -> dict[str, Any]:
        """What :meth:`Outcome.table` has, and ``layers`` and ``replaced``, ready for JSON: NaN is None."""
        return {**self.outcome.table(), "layers": _plain(self.layers), "replaced": _plain(self.replaced)}

    def write(self, folder: Path) -> list[Path]:
        """Write ``explanation.json``, :meth:`table`, and ``explanation.png``, the figure; gives the paths.

        Raises :class:`StoreError` if the folder cannot be written.
        """
        text = json.dumps(self.table(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        path = folder / "explanation.json"
        write_whole(path, text.encode())
        layers, replaced = (pd.DataFrame(map(asdict, rows)) for rows in (self.layers, self.replaced))
        clip = self.outcome.original
        replaced["bpp"] = replaced["bits"] / (len(clip) * clip.shape[-2] * clip.shape[-1])
        title = f"{self.outcome.cell.codec} under {self.outcome.cell.attack}, {self.outcome.cell.threat}"
        return [path, drawing.plot(layers, replaced, title, folder / "explanation.png")]


def explain(
    codec: str,
    source: str | Path | Tensor,
    attack: str = "pgd",
    objective: str = "distortion",
    threat: str = "psnr:40",
    seed: int = 0,
    frames: int = 0,
    crop: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
    watcher: Watcher | None = None,
) -> Explanation:
    """Attack one image or clip and follow the perturbation through the codec; arguments as of
    :func:`robustcodec.studies.attack.attack`, whose files ``out`` holds too.

    Raises :class:`UserError` for what cannot be run and for codecs without layers, such as JPEG,
    :class:`RobustCodecError` if the attack or the codec crashed.
    """
    if isinstance(source, Tensor) and source.ndim != 3:
        raise BadData(f"source is a tensor {tuple(source.shape)}; expected one picture (3, H, W), or a file")
    victim = judged(codec, device=device)
    require_layers(victim)  # before the attack, which takes long
    names = (codec, attack, objective, threat, "none", "oblivious")
    outcome = run(source, *names, seed, frames, crop, out=out, device=device, watcher=watcher)
    assert isinstance(outcome, Outcome)  # of one picture or file
    x, x_adv = (to_float(clip)[None].to(device) for clip in (outcome.original, outcome.adversarial))
    explanation = Explanation(outcome, trace(victim, x, x_adv), replacements(victim, x, x_adv))
    if out is not None:
        explanation.write(Path(out))
    return explanation


@torch.no_grad()
def replacements(codec: Codec, x: Tensor, x_adv: Tensor) -> list[Replaced]:
    """The attack as it is, then with each part that the codec probes replaced by the clean one, then the clean clip;
    clips ``(1, T, 3, H, W)``. Without a probe in the codec only the first and the last.
    """
    clean: dict[str, list[Tensor]] = {}

    def keep(name: str, value: Tensor, source: Tensor | None) -> Tensor:
        clean.setdefault(name, []).append(value)
        return value

    x_hat, clean_bits = _coded(codec, x, keep)

    def measured(clip: Tensor, handler: Handler) -> tuple[float, float]:
        picture, bits = _coded(codec, clip, handler)
        return float((picture - x_hat).square().mean()), bits

    outcomes = {NOTHING: measured(x_adv, lambda name, value, source: value)}
    for part, values in clean.items():
        outcomes[part] = measured(x_adv, _replacing(part, values))
    outcomes[EVERYTHING] = 0.0, clean_bits
    error, bits = outcomes[NOTHING]
    return [
        Replaced(part, e, b, e / (error or math.nan), (b - clean_bits) / ((bits - clean_bits) or math.nan))
        for part, (e, b) in outcomes.items()
    ]


def _replacing(part: str, values: Sequence[Tensor]) -> Handler:
    """Gives ``values`` one after the other for ``part``."""
    left = iter(values)
    return lambda name, value, source: next(left) if name == part else value


def _coded(codec: Codec, clip: Tensor, handler: Handler) -> tuple[Tensor, float]:
    """Picture and bits of one clip, always asked for in this order: so probes are met in the same order."""
    with probed(handler), rounding("straight-through"):
        out = codec(clip)
        return out.x_hat, float(out.bits)


def _plain(rows: Sequence[Layer] | Sequence[Replaced]) -> list[dict[str, Any]]:
    def plain(value: str | float) -> str | float | None:
        return value if isinstance(value, str) or math.isfinite(value) else None

    return [{key: plain(value) for key, value in asdict(row).items()} for row in rows]
