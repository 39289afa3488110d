"""Where a purifier comes from: the weights that ship, a file of ours, or a folder in the format of diffusers."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch

from robustcodec import weights as checkpoints
from robustcodec.defenses._purifier import Architecture, Purifier, diffusers, stored
from robustcodec.errors import WeightsError
from robustcodec.weights.described import described

BUNDLED = "tiny"
RANDOM = "random"
UNET, SCHEDULER = "config.json", "scheduler_config.json"
FORMATS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def fingerprint(where: str | None) -> str:
    """sha256 of the weights ``where`` (of all files that count, if it is a folder); raises :class:`WeightsError`."""
    if where == RANDOM:
        return RANDOM
    path = _path(where)
    if path.suffix == ".safetensors":
        return str(checkpoints.read_card(path)["sha256"])
    digests = [checkpoints.sha256(file) for file in _official(path)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def purifier(where: str | None) -> Purifier:
    """The network with the weights ``where``, loaded once, without gradients of its own.

    None: the ones that ship. ``random``: ours before training, always the same. A ``.safetensors`` file: what
    ``robustcodec train`` wrote. A folder: a model that diffusers wrote. Raises :class:`WeightsError`.
    """
    return _purifier(where, fingerprint(where))


@cache
def _purifier(where: str | None, digest: str) -> Purifier:
    with torch.random.fork_rng(devices=[]):  # networks are born random: nothing may depend on which call loads them
        torch.manual_seed(0)
        if where == RANDOM:
            made = Purifier.of(Architecture())
        else:
            path = _path(where)
            made = _ours(path) if path.suffix == ".safetensors" else _theirs(path)
    return made.eval().requires_grad_(False)


def _path(where: str | None) -> Path:
    return checkpoints.find("diffpure", BUNDLED) if where is None else Path(where).expanduser()


def _ours(path: Path) -> Purifier:
    state, card = checkpoints.load(path)
    if card["family"] != "diffpure":
        raise WeightsError(f"{path} holds weights of {card['family']}, not of diffpure")
    made = Purifier.of(described(path, card, Architecture, stored(state)))
    made.facts = card
    try:
        made.unet.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not hold the network that its card describes: {error}") from None
    return made


def _theirs(folder: Path) -> Purifier:
    """A pixel-space UNet2DModel with the levels of its scheduler's configuration."""
    config, _, scheduler = _official(folder)
    with diffusers():
        from diffusers import DDPMScheduler, UNet2DModel

        models: Any = UNet2DModel
        schedulers: Any = DDPMScheduler
        try:
            unet = models.from_pretrained(config.parent, local_files_only=True)
            process = schedulers.from_pretrained(scheduler.parent, local_files_only=True)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise WeightsError(f"{folder} does not hold a UNet2DModel that diffusers can read: {error}") from None
    channels = unet.config.in_channels, unet.config.out_channels
    if channels not in ((3, 3), (3, 6)):
        raise WeightsError(
            f"the network in {folder} takes {channels[0]} channels and gives {channels[1]}; "
            "expected 3 and 3 (or 6, with variances): diffpure needs one of RGB pixels, not of latents"
        )
    return Purifier(unet, process.alphas_cumprod, {"family": "diffpure"}, prediction=process.config.prediction_type)


def _official(folder: Path) -> tuple[Path, Path, Path]:
    """Configuration, weights and scheduler's configuration of a model or a pipeline."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    beside = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    stored = next((unet / name for name in FORMATS if (unet / name).is_file()), unet / FORMATS[0])
    for path in (unet / UNET, stored, beside / SCHEDULER):
        if not path.is_file():
            raise WeightsError(
                f"no purifier at {folder}: {path} is not there; expected a .safetensors file that robustcodec train "
                f"wrote, or a folder with {UNET}, {FORMATS[0]} and {SCHEDULER} of a diffusers model, such as "
                "google/ddpm-church-256; nothing is downloaded, so get them from https://huggingface.co and put them "
                "there"
            )
    return unet / UNET, stored, beside / SCHEDULER
