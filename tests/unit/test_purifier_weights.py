"""The weights of diffusion purification: our own files, and models as diffusers itself writes them."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from toys import clips, purified, small, stored_purifier

from robustcodec import weights
from robustcodec.defenses._purifier_weights import purifier
from robustcodec.defenses.diffpure import DiffPure
from robustcodec.errors import BadParameter, WeightsError
from robustcodec.files import dump_toml


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ours with the small network."""
    return stored_purifier(tmp_path_factory.mktemp("weights"))


def test_a_fingerprint_is_of_the_weights(stored: Path, tmp_path: Path) -> None:
    assert DiffPure(weights=str(stored)).fingerprint() == weights.sha256(stored)
    assert DiffPure().fingerprint() == weights.sha256(weights.find("diffpure", "tiny"))
    assert DiffPure(weights="random").fingerprint() == "random"
    assert purifier("random") is purifier("random") is not purifier(None)
    official(tmp_path)
    before = DiffPure(weights=str(tmp_path)).fingerprint()
    config = tmp_path / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.02", "0.03"))
    assert before != DiffPure(weights=str(tmp_path)).fingerprint()


def test_missing_and_foreign_weights_are_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no card for"):
        purified(f"diffpure:weights={tmp_path}/none.safetensors")
    with pytest.raises(
        WeightsError, match=r"config\.json is not there; expected .*diffusion_pytorch_model\.safetensors"
    ):
        purified(f"diffpure:weights={tmp_path}/none")
    path = weights.find("bmshj2018-factorized", "tiny-q1")
    with pytest.raises(WeightsError, match="weights of bmshj2018-factorized, not of diffpure"):
        purified(f"diffpure:weights={path}")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"widths": [4, 8]}, "not hold the network that its card describes"),
        ({"widths": [99999999, 8]}, "not hold the network that its card describes"),
        ({"layers": 10**9}, "'layers': 1000000000"),
        ({"patch": 10**5}, "'patch': 100000"),
        ({"levels": 10**9}, "describes no network: levels=1000000000; expected 1 to"),
        ({"depth": 3}, "describes no network: .*'depth'"),
    ],
)
def test_a_card_of_another_network_is_refused(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, facts = tmp_path / "diffpure.wrong.safetensors", small().facts
    weights.save(path, small().state(), {"name": "a", **facts, "architecture": {**facts["architecture"], **wrong}})
    with pytest.raises(WeightsError, match=said):
        purified(f"diffpure:weights={path}")


def test_a_card_may_have_any_key() -> None:
    table = {"psnr_0.02": 1.0, "a-b_c": 2, "sigma_0.1": {"é": "x", "in.side": {"k": True}}}
    assert tomllib.loads(dump_toml(table)) == table


def official(folder: Path, out_channels: int = 3, in_channels: int = 3) -> Any:
    """A small model in the format of google/ddpm-*: written by diffusers itself."""
    from diffusers import DDPMScheduler, UNet2DModel

    make: Any = UNet2DModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = make(
            sample_size=16, in_channels=in_channels, out_channels=out_channels, block_out_channels=(8, 8),
            layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"), norm_num_groups=4, attention_head_dim=4,
        )  # fmt: skip
    unet.save_pretrained(folder)
    scheduler: Any = DDPMScheduler
    scheduler().save_pretrained(folder)
    return unet.eval().requires_grad_(False)


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("channels", [3, 6])
def test_a_model_of_diffusers_is_read(tmp_path: Path, pipeline: bool, channels: int) -> None:
    unet = official(tmp_path, channels)
    if pipeline:
        for name in ("unet", "scheduler"):
            (tmp_path / name).mkdir()
        for file in tmp_path.glob("*.*"):
            file.rename(tmp_path / ("scheduler" if "scheduler" in file.name else "unet") / file.name)
    network, x = purifier(str(tmp_path)), clips(1, 1, 18, 21)[0]
    bars = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)  # of Ho et al.
    torch.testing.assert_close(network.alphas, bars, rtol=1e-4, atol=1e-6)
    level = network.level(0.03)
    assert level == int((0.5 * (1 / bars - 1).sqrt() / 0.03).log().abs().argmin()) > 0
    whole = F.pad(x, (0, 1, 0, 0), mode="replicate")
    told = unet(whole, torch.tensor([level])).sample[:, :3, :, :21]
    torch.testing.assert_close(network.predicted(x, torch.tensor([level])), told)
    assert purified(f"diffpure:weights={tmp_path}").compress(x[None])
    with pytest.raises(BadParameter, match="not ours to train"):
        DiffPure(weights=str(tmp_path)).trainee()


def test_an_incomplete_model_says_which_file_is_missing(tmp_path: Path) -> None:
    official(tmp_path / "whole")
    for i, name in enumerate(("config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json")):
        folder = tmp_path / f"without-{i}"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / name).unlink()
        with pytest.raises(WeightsError, match=f"{name} is not there.*huggingface.co"):
            DiffPure(weights=str(folder)).fingerprint()
    (tmp_path / "whole" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", "norm_num_groups": 7}))
    with pytest.raises(WeightsError, match="does not hold a UNet2DModel that diffusers can read"):
        purified(f"diffpure:weights={tmp_path}/whole")
    official(tmp_path / "latent", 4, 4)
    with pytest.raises(WeightsError, match="takes 4 channels and gives 4"):
        purified(f"diffpure:weights={tmp_path}/latent")
