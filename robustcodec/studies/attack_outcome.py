"""What came of one attack on one clip: clips, streams and scores, and the files that show them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from robustcodec.data._lossless import lossless_path, write_lossless
from robustcodec.errors import counted
from robustcodec.files import on_disk, write_whole
from robustcodec.reporting._drawing import GAP, font_of, wrap
from robustcodec.reporting.side_by_side import frames
from robustcodec.running.grid import AXES, Cell


@dataclass(frozen=True, eq=False)
class Outcome:
    """One attack on one clip; clips are uint8 ``(T, 3, H, W)``.

    ``scores``: as :func:`robustcodec.scores.robustness.sample_scores` and the objective give them, floats that are
    finite or NaN. ``clean``, ``attacked``: what the decoder made of the bytes ``clean_stream`` and
    ``attacked_stream``; None if it failed. ``queries``: how often the attack asked. ``fps``: frames per second of a
    clip, if known; ``sample``: its name.
    """

    cell: Cell
    scores: dict[str, float]
    queries: int
    warnings: tuple[str, ...]
    original: Tensor
    adversarial: Tensor
    clean: Tensor
    attacked: Tensor | None
    clean_stream: bytes
    attacked_stream: bytes
    fps: float | None = None
    sample: str = ""

    def __repr__(self) -> str:
        """The main scores alone: clips and streams are large."""
        main = ("psnr", "adv_psnr", "bpp", "adv_bpp", "vi_db", "input_psnr")
        told = ", ".join(f"{name}={self.scores[name]:.4g}" for name in main if name in self.scores)
        return f"Outcome({self.cell}: {told}; {counted(len(self.warnings), 'warning')})"

    def table(self) -> dict[str, Any]:
        """Everything but clips and bytes, ready for JSON: NaN is None."""
        scores = {key: value if math.isfinite(value) else None for key, value in self.scores.items()}
        axes = {axis: getattr(self.cell, axis) for axis in AXES}
        return {**axes, "scores": scores, "queries": self.queries, "warnings": list(self.warnings)}

    def write(self, folder: Path) -> list[Path]:
        """Write everything into ``folder``, over what is there, and give the paths.

        ``original``, ``adversarial``, ``decoded_clean``, ``decoded_attacked``: ``.png`` or, for clips, lossless
        ``.mkv`` (not the last one, if the decoder failed); ``clean.rc``, ``attacked.rc``: the bytes;
        ``panel.png``: all in one picture, of a clip the worst frame; ``scores.json``: :meth:`table`.
        Raises :class:`StoreError` if the folder cannot be written.
        """
        clips = {"original": self.original, "adversarial": self.adversarial, "decoded_clean": self.clean}
        if self.attacked is not None:
            clips["decoded_attacked"] = self.attacked
        with on_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (*clips, "decoded_attacked"):  # of an earlier attack, on a clip of another length
                for length in (1, 2):
                    lossless_path(folder / name, length).unlink(missing_ok=True)
            paths = [write_lossless(clip, folder / name, self.fps) for name, clip in clips.items()]
        text = json.dumps(self.table(), indent=1, ensure_ascii=False, allow_nan=False)
        panel = BytesIO()
        self.panel().save(panel, "PNG")
        for name, data in {
            "clean.rc": self.clean_stream,
            "attacked.rc": self.attacked_stream,
            "panel.png": panel.getvalue(),
            "scores.json": text.encode() + b"\n",
        }.items():
            write_whole(folder / name, data)
            paths.append(folder / name)
        return paths

    def panel(self) -> Image.Image:
        """Inputs above, what the decoder makes of them below, both changes amplified alike, and the scores."""
        worst = self._worst_frame()
        clips = {"original": self.original, "adversarial": self.adversarial, "clean": self.clean}
        if self.attacked is not None:
            clips["attacked"] = self.attacked
        shown = frames({name: clip[worst : worst + 1] for name, clip in clips.items()})[0]
        pictures = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
        width = pictures.width - 2 * GAP
        small, large = font_of(max(14, pictures.width // 66)), font_of(max(16, pictures.width // 50))
        texts = [(line, large) for line in wrap(self._title(worst), large, width)]
        texts += [(line, small) for caption in self._captions() for line in wrap(caption, small, width)]
        steps = [math.ceil(1.2 * sum(font.getmetrics())) for _, font in texts]
        sheet = Image.new("RGB", (pictures.width, pictures.height + sum(steps) + GAP), "white")
        draw = ImageDraw.Draw(sheet)
        top = GAP
        for (line, font), step in zip(texts, steps, strict=True):
            draw.text((GAP, top), line, "black", font)
            top += step
        sheet.paste(pictures, (0, top))
        return sheet

    def _worst_frame(self) -> int:
        """Where the reconstructions differ most; after a failed decode, where the inputs do."""
        pair = (self.clean, self.attacked) if self.attacked is not None else (self.original, self.adversarial)
        one, other = (clip.numpy().astype(np.int64) for clip in pair)
        return int(np.argmax(((one - other) ** 2).sum((1, 2, 3))))

    def _title(self, frame: int) -> str:
        cell = self.cell
        parts = [cell.codec if cell.defense == "none" else f"{cell.codec} behind {cell.defense}"]
        parts += [f"{cell.attack} on {cell.objective}", f"threat {cell.threat}"]
        parts += [cell.access] if cell.access != "oblivious" or cell.defense != "none" else []
        parts += [f"worst frame: {frame} (of 0 to {len(self.original) - 1})"] if len(self.original) > 1 else []
        return " | ".join(parts)

    def _captions(self) -> list[str]:
        s = self.scores
        clip = " (all frames)" if len(self.original) > 1 else ""
        attacked = "could not be decoded" if self.attacked is None else _quality(s, "adv_")
        amplified = f" | amplification (vi_db) {s['vi_db']:.2f} dB" if math.isfinite(s["vi_db"]) else ""
        return [
            f"input: at most {s['input_linf']:.0f}/255, {s['input_psnr']:.2f} dB PSNR{clip}{amplified}",
            f"clean: {s['bpp']:.4f} bpp, {_quality(s, '')} | attacked: {s['adv_bpp']:.4f} bpp, {attacked}",
        ]


@dataclass(frozen=True, eq=False)
class Outcomes(Sequence[Outcome]):
    """One attack on a batch of pictures, in its order."""

    each: tuple[Outcome, ...]

    def __len__(self) -> int:
        return len(self.each)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Outcome, ...]: ...
    def __getitem__(self, index: int | slice) -> Outcome | tuple[Outcome, ...]:
        return self.each[index]

    @property
    def frame(self) -> pd.DataFrame:
        """A row of scores for each picture, and ``queries``."""
        rows = [{"sample": one.sample, **one.scores, "queries": one.queries} for one in self.each]
        return pd.DataFrame(rows)

    @property
    def original(self) -> Tensor:
        """uint8 ``(N, 3, H, W)``, as are ``adversarial`` and ``clean``."""
        return torch.cat([one.original for one in self.each])

    @property
    def adversarial(self) -> Tensor:
        return torch.cat([one.adversarial for one in self.each])

    @property
    def clean(self) -> Tensor:
        return torch.cat([one.clean for one in self.each])

    @property
    def attacked(self) -> list[Tensor | None]:
        """uint8 ``(3, H, W)`` each, or None where the decoder failed."""
        return [None if one.attacked is None else one.attacked[0] for one in self.each]


def _quality(scores: dict[str, float], prefix: str) -> str:
    text = f"{scores[f'{prefix}psnr']:.2f} dB PSNR"
    ms_ssim = scores[f"{prefix}ms_ssim"]
    return f"{text}, {ms_ssim:.4f} MS-SSIM" if math.isfinite(ms_ssim) else text
