"""Files that libraries load from torch's cache are pickles: what is in them is not run, also before they are read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustcodec import registry
from robustcodec.errors import MissingDependency, WeightsError
from robustcodec.scores.metrics import lpips_model
from robustcodec.scores.metrics.perceptual import lpips
from robustcodec.scores.perception import fid, inception_score
from robustcodec.training.discriminators import build
from robustcodec.training.features import feature_loss

NAMES = [
    "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth", "squeezenet1_1-b8a52dc0.pth", "vgg19-dcbb9e9d.pth",
    "weights-inception-2015-12-05-6726825d.pth", "resnet34-b627a593.pth",
    "bmshj2018-factorized-prior-1-446d5c7f.pth.tar",
]  # fmt: skip


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.made,)


def frames() -> list[torch.Tensor]:
    return [torch.rand(1, 2, 3, 40, 40)]


USES: dict[str, Callable[[], object]] = {
    "lpips": lambda: lpips("alex").fn(frames()[0], frames()[0]),
    "lpips:net=vgg": lambda: lpips("vgg").fn(frames()[0], frames()[0]),
    "lpips:net=squeeze": lambda: lpips("squeeze").fn(frames()[0], frames()[0]),
    "fid": lambda: fid(frames(), frames()),
    "inception score": lambda: inception_score(frames(), splits=1),
    "vgg19": lambda: feature_loss("required"),
    "resnet34": lambda: build("paper"),
    "compressai": lambda: registry.codecs.build("bmshj2018-factorized.mse-q1"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_file_that_holds_code_is_not_run(
    use: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchmetrics")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    lpips_model.cache_clear()
    (tmp_path / "checkpoints").mkdir()
    for name in NAMES:
        (tmp_path / "checkpoints" / name).write_bytes(pickle.dumps(Runs(tmp_path / "run")))
    with pytest.raises((MissingDependency, WeightsError)) as refused:
        use()
    assert not (tmp_path / "run").exists()
    assert "its sha256 starts with" in str(refused.value) and str(tmp_path) in str(refused.value)


def test_nor_one_with_the_right_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustcodec.weights import sha256
    from robustcodec.weights.statedict import Published

    file = tmp_path / "checkpoints" / "net.pth"
    file.parent.mkdir()
    file.write_bytes(pickle.dumps(Runs(tmp_path / "run")))
    named = file.rename(file.with_name(f"net-{sha256(file)[:8]}.pth"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(WeightsError, match="may run code"):
        Published(f"https://example.org/{named.name}").load()
    assert not (tmp_path / "run").exists()
