"""Objectives that aim at another picture: the codec shall decode the attacked clip as this picture, or code it as this
picture is coded.

Target: Chen & Ma, 2023, https://arxiv.org/abs/2112.08691. Collision: https://arxiv.org/abs/2503.19817.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor

from robustcodec.data._images import read_image
from robustcodec.data._video import VIDEO_SUFFIXES, read_video
from robustcodec.errors import AttackError, BadData, BadParameter
from robustcodec.interfaces import YES_NO, Codec, Column, Objective, Output, Sample
from robustcodec.objectives.damage import Levelled
from robustcodec.registry import objectives
from robustcodec.rounding import rounding
from robustcodec.scores.metrics import decibels

Made = TypeVar("Made")
SAME = 1e-3  # rounding steps: latents nearer to each other are equal but for float noise


def read_target(path: Path, frames: int, height: int, width: int) -> Tensor:
    """The centre of an image, ``frames`` times, or of the first frames of a video, uint8 ``(T, 3, H, W)``.

    Raises :class:`BadData` if it is smaller, shorter or cannot be read.
    """
    moving = path.suffix.lower() in VIDEO_SUFFIXES
    clip = read_video(path, frames) if moving else read_image(path)
    found_h, found_w = clip.shape[-2:]
    if found_h < height or found_w < width:
        raise BadData(
            f"the target {path} has {found_w}x{found_h} pixels and the clip to be attacked {width}x{height}; "
            "expected a target of at least that size: enlarge it, or attack smaller clips"
        )
    top, left = (found_h - height) // 2, (found_w - width) // 2
    return clip[..., top : top + height, left : left + width].expand(frames, -1, -1, -1)


class Aim:
    """What one codec makes of the target in the size of a clip ``x``; everything is made once per size.

    ``picture``, ``x_hat``: ``(1, T, 3, H, W)`` in [0, 1]; ``latents``: rounded, ``(1, …)`` each; ``stream``: its bytes.
    """

    def __init__(self, path: Path, codec: Codec) -> None:
        self._path, self.codec = path, codec
        self._made: dict[tuple[str, torch.Size, torch.device], object] = {}

    def picture(self, x: Tensor) -> Tensor:
        def make() -> Tensor:
            frames, _, height, width = x.shape[1:]
            picture: Tensor = read_target(self._path, frames, height, width)[None].to(x.device).float() / 255
            return picture

        return self._once("picture", x, make)

    def x_hat(self, x: Tensor) -> Tensor:
        x_hat: Tensor = self._once("x_hat", x, lambda: self.codec(self.picture(x)).x_hat)
        return x_hat

    def latents(self, x: Tensor) -> list[Tensor]:
        return self._once("latents", x, lambda: self.codec(self.picture(x)).latents)

    def stream(self, x: Tensor) -> bytes:
        return self._once("stream", x, lambda: self.codec.compress(self.picture(x))[0])

    def _once(self, what: str, x: Tensor, make: Callable[[], Made]) -> Made:
        key = what, x.shape[1:], x.device
        if key not in self._made:
            with _as_coded(x.device):
                self._made[key] = make()
        return cast(Made, self._made[key])


@contextmanager
def _as_coded(device: torch.device) -> Iterator[None]:
    """Rounded, in float32, without gradient; a random codec meets the target with one draw and spends no other."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), rounding("straight-through"):
        torch.manual_seed(0)
        with torch.autocast(device.type, enabled=False):
            yield


@dataclass(frozen=True)
class _Aimed(Objective):
    """``path``: an image, or a video for clips; the checksum of its bytes is its identity. Its centre is cropped to the
    size of the attacked clip.
    """

    path: str

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise BadData(f"no target at {self.path}; expected an image or a video file")

    def made_on(self) -> list[Sample]:
        """The target: its checksum stands for ``path`` in the identity of this objective."""
        path = Path(self.path)
        moving = path.suffix.lower() in VIDEO_SUFFIXES
        return [Sample("target", lambda: read_video(path) if moving else read_image(path), source=path)]

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        raise AttackError("what this objective is depends on the codec; bind(codec) gives the one to be called")

    @abstractmethod
    def bind(self, codec: Codec) -> Objective: ...


@objectives.register("target")
@dataclass(frozen=True)
class Target(_Aimed, Levelled):
    """Closeness of the attacked reconstruction to another picture t: −MSE(x̂*, t), ``target:photo.png``.

    ``path``: an image or a video, at least as large as the clip; its centre is used. ``form``: t is the picture itself
    (``pixel``) or what the codec makes of it (``reconstruction``, as in Chen & Ma). With ``roi``, t is that
    reconstruction inside ``box``, which is ``top;left;height;width`` in pixels; outside the box ``background`` (at
    least 0) times MSE(x̂*, x̂) is subtracted. Chen & Ma weigh the background of the input by 0.01; here the threat
    limits the input.

    The codec counts as broken where the error to t has fallen to MSE(x̂, t)/``tau``. ``tau`` must be above 1. The score
    ``target_psnr`` is the PSNR of the decoded real bytes against the picture, in dB. Raises :class:`BadData` for a
    picture that cannot be read or is too small.
    """

    form: Literal["pixel", "reconstruction", "roi"] = "pixel"
    box: str | None = None
    background: float = 0.01
    tau: float = 2.0
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "target_psnr",
            "PSNR in dB of the attacked reconstruction against the target picture",
            "target PSNR",
            "dB",
            2,
            "low",
        ),
    )

    def __post_init__(self) -> None:
        _Aimed.__post_init__(self)
        Levelled.__post_init__(self)
        if (self.box is None) == (self.form == "roi"):
            raise ValueError(f"form={self.form} with box={self.box}; expected a box with form=roi, and only there")
        if self.box is not None:
            parse_box(self.box)
        if not 0 <= self.background < math.inf:
            raise ValueError(f"background={self.background}; expected a weight of 0 or more")

    def bind(self, codec: Codec) -> Objective:
        return _TargetOf(self, Aim(Path(self.path), codec))


class _TargetOf(Objective):
    """``target`` for one victim."""

    def __init__(self, target: Target, aim: Aim) -> None:
        self.tau, self._target, self._aim = target.tau, target, aim

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        wanted = self._aim.picture(x) if self._target.form == "pixel" else self._aim.x_hat(x)
        inside = self._inside(x)
        damage = -_mean((attacked.x_hat - wanted).square(), inside)
        if self._target.box is None:
            return damage
        return damage - self._target.background * _mean((attacked.x_hat - clean.x_hat).square(), ~inside)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return self(x, clean, clean, x) / self.tau

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        if x_adv_hat is None:
            return {"target_psnr": math.nan}
        error = (x_adv_hat - self._aim.picture(x)).double().square()
        return {"target_psnr": float(decibels(_mean(error, self._inside(x))))}

    def _inside(self, x: Tensor) -> Tensor:
        """``(H, W)`` bool: the pixels that shall be the target's."""
        height, width = x.shape[-2:]
        inside = torch.ones(height, width, dtype=torch.bool, device=x.device)
        if self._target.box is None:
            return inside
        top, left, h, w = parse_box(self._target.box)
        if top + h > height or left + w > width:
            raise BadParameter(
                f"box={self._target.box} (top;left;height;width) reaches beyond a frame of {width}x{height} pixels; "
                "move it, or use larger clips"
            )
        inside[:] = False
        inside[top : top + h, left : left + w] = True
        return inside


@objectives.register("collision")
@dataclass(frozen=True)
class Collision(_Aimed):
    """Closeness of the attacked clip's latents to those of another picture: −mean[max(|y* − ŷ_t| − margin, 0)²].

    Typed as ``collision:photo.png``. ``path``: an image or a video, at least as large as the clip; its centre is used.
    y* are all latents of the attacked clip, unrounded if the gradient skips the rounding, and ŷ_t are the latents of
    the target as it is coded. If every latent is within half a step of the target's, both have the same bytes;
    ``margin``, in rounding steps, keeps a distance from that edge. The codec counts as broken at a damage of 0, where
    all latents agree.

    The scores of the real bytes are ``same_bytes`` (1.0 or 0.0) and ``latent_agreement``, the share of latents that are
    equal. Raises :class:`AttackError` for codecs that show no latents.
    """

    margin: float = 0.3
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "same_bytes", "share of attacked streams that are the target's, byte by byte", unit=YES_NO, better="low"
        ),
        Column("latent_agreement", "share of latents that equal the target's", digits=4, better="low"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"margin={self.margin}; expected 0 to 0.5 steps of the rounding")

    def bind(self, codec: Codec) -> Objective:
        return _CollisionOf(self.margin, Aim(Path(self.path), codec))


class _CollisionOf(Objective):
    """``collision`` for one victim."""

    def __init__(self, margin: float, aim: Aim) -> None:
        self._margin, self._aim = margin, aim

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return -(self._apart(x, attacked) - self._margin).clamp(min=0).square().mean(1)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return torch.zeros(len(x), device=x.device)

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        with _as_coded(x.device):
            agree = self._apart(x, self._aim.codec(x_adv)) < SAME
        return {
            "same_bytes": float(stream == self._aim.stream(x)),
            "latent_agreement": float(agree.double().mean()),
        }

    def _apart(self, x: Tensor, attacked: Output) -> Tensor:
        """``(N, latents)`` distances from the target's."""
        pairs = zip(attacked.latents, self._aim.latents(x), strict=True)
        return torch.cat([(mine - wanted).abs().flatten(1) for mine, wanted in pairs], 1)


def parse_box(text: str) -> tuple[int, int, int, int]:
    """``top;left;height;width`` in pixels; raises :class:`ValueError`."""
    parts = text.split(";")
    if len(parts) != 4 or not all(p.strip().isdecimal() for p in parts):
        raise ValueError(f"box={text}; expected top;left;height;width in pixels, such as 0;64;32;32")
    top, left, height, width = map(int, parts)
    if not height or not width:
        raise ValueError(f"box={text} is empty; expected top;left;height;width with a height and width of at least 1")
    return top, left, height, width


def _mean(squares: Tensor, where: Tensor) -> Tensor:
    """``(N,)`` mean over the pixels chosen by ``where``, ``(H, W)``; 0 if there are none."""
    return squares[..., where].flatten(1).mean(1) if where.any() else squares.new_zeros(len(squares))
