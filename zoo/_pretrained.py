"""From a spec's parameters to a CompressAI network with weights: bundled, official, by path, or random."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from compressai.models import CompressionModel
from compressai.zoo import image, image_vbr, video
from torch import nn

from robustcodec import weights as checkpoints
from robustcodec.errors import BadParameter, WeightsError
from robustcodec.interfaces import Card
from robustcodec.weights import statedict
from robustcodec.zoo._fitting import WidthsFrom, load_into, widths_in

TINY = {"N": 48, "M": 64}  # widths of the bundled checkpoints
PUBLISHED = re.compile(r"-([0-9a-f]{8})\.pth\.tar$")
OFFICIAL_TAG = re.compile(r"(mse|ms-ssim)-q(\d+)")


def official_url(family: str, metric: str, quality: int) -> str | None:
    """Where CompressAI publishes these weights, or None if it does not."""
    published: dict[str, dict[str, Any]] = {**image.model_urls, **image_vbr.model_urls, **video.model_urls}
    urls = published.get(family, {}).get(metric)
    return urls.get(quality) if isinstance(urls, dict) else urls


@dataclass(frozen=True)
class Source:
    """Where a network's weights come from. ``where``: a path, a URL, or ``random-<seed>``."""

    family: str
    kind: Literal["path", "official", "random"]
    where: str
    quality: int | None
    metric: str
    seed: int

    @classmethod
    def choose(
        cls, family: str, tag: str | None, quality: int | None, metric: str, weights: str | None, seed: int
    ) -> Source:
        """What a spec's parameters mean; raises :class:`BadParameter` or :class:`WeightsError` if nothing."""
        if tag is not None and (match := OFFICIAL_TAG.fullmatch(tag)):
            tag, metric, quality = None, match[1], int(match[2])
        if tag is not None:
            return cls(family, "path", str(checkpoints.find(family, tag)), quality, metric, seed)
        if weights == "random":
            return cls(family, "random", f"random-{seed}", quality, metric, seed)
        if weights is not None:
            return cls(family, "path", weights, quality, metric, seed)
        if quality is None:
            tags = ", ".join(f"{family}.{t}" for t in checkpoints.bundled_tags(family)) or "none"
            raise BadParameter(
                f"codec {family!r} needs weights: a bundled tag ({tags}), {family}.mse-q3 for CompressAI's official "
                f"ones, {family}:weights=FILE, or {family}:quality=3,weights=random"
            )
        url = official_url(family, metric, quality)
        if url is None:
            raise WeightsError(
                f"CompressAI publishes no weights of {family} for metric {metric}, quality {quality}; "
                f"train them with: robustcodec train {family} …"
            )
        return cls(family, "official", url, quality, metric, seed)

    def fingerprint(self) -> str:
        """What identifies the weights in a cell: sha256 of the file, the official file's name, or the seed."""
        if self.kind != "path":
            return self.where.rsplit("/", 1)[-1]
        return fingerprint(Path(self.where))


def fingerprint(path: Path) -> str:
    """sha256 of a checkpoint; of ours, as its card says."""
    if checkpoints.has_card(path):
        return str(checkpoints.read_card(path)["sha256"])
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; expected a .safetensors, .pth, .pth.tar, .pt or .ckpt file")
    return checkpoints.sha256(path)


def network(
    source: Source,
    build: Callable[..., CompressionModel],
    widths: dict[int, dict[str, int]],
    widths_from: WidthsFrom,
) -> tuple[nn.Module, Card]:
    """The network and its card. ``build(**widths[quality])`` makes a published network; that of a file is as wide as
    its tensors, see :func:`robustcodec.zoo._fitting.widths_in`.

    Raises :class:`WeightsError` for missing, damaged or foreign weights.
    """
    family, where, quality = source.family, source.where, source.quality
    if quality is not None and quality not in widths:
        raise BadParameter(f"codec {family!r} has no quality {quality}; expected {min(widths)} to {max(widths)}")
    wide = widths[quality or min(widths)]
    if source.kind == "random":
        wide = wide if quality else {k: TINY[k] for k in wide}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source.seed)
            net = build(**wide)
        net.update(force=True)
        return net, Card(f"{family}.{where}", family, weights="random", architecture=wide)
    if source.kind == "official":
        net = build(**wide)
        load_into(net, statedict.Published(where).load(), where)
        net.update(force=True)
        name = f"{family}.{source.metric}-q{quality}"
        licence = "BSD-3-Clause-Clear (InterDigital)"
        return net, Card(name, family, licence=licence, weights=where, architecture=wide)
    path = Path(where)
    _check_published(path)
    ours = checkpoints.has_card(path)
    state, facts = checkpoints.load(path) if ours else (statedict.finite(path), {})
    if facts.get("family", family) != family:
        raise WeightsError(f"{path} holds weights of {facts['family']}, not of {family}")
    wide = _of_file(path, family, state, widths_from)
    if facts.get("architecture", wide) != wide:
        raise WeightsError(
            f"the card of {path} says {facts['architecture']}, its tensors {wide}; one is of another file"
        )
    net = build(**wide)
    load_into(net, state, where)
    net.update(force=not ours)
    texts = {k: facts[k] for k in ("licence", "paper", "training", "measured") if k in facts}
    name = facts.get("name", f"{family}:{where}")
    return net, Card(name, family, weights=path.name, sha256=fingerprint(path), architecture=wide, **texts)


def _check_published(path: Path) -> None:
    """Raises :class:`WeightsError` for a file that CompressAI publishes, by its name, with other bytes than it has: the
    name ends with the beginning of the sha256.
    """
    match = PUBLISHED.search(path.name)
    if match and path.is_file() and not (actual := checkpoints.sha256(path)).startswith(match[1]):
        raise WeightsError(
            f"{path} is damaged or another file: its sha256 starts with {actual[:8]}, its name says {match[1]}; "
            "get it again, or rename it if it is yours"
        )


def _of_file(path: Path, family: str, state: dict[str, Any], widths_from: WidthsFrom) -> dict[str, int]:
    """The widths of a file's network; raises :class:`WeightsError` if its tensors are of another kind."""
    wide = widths_in(state, widths_from)
    if wide is None:
        wanted = " and ".join(name for name, _ in widths_from.values())
        raise WeightsError(
            f"{path} does not fit {family}: it lacks {wanted}, and holds {', '.join([*state][:3])}, …; "
            f"robustcodec show {path} says what fits"
        )
    return wide
