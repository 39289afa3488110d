"""Checkpoints as people save them: whatever they are wrapped in, of whatever widths, and never run."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lively import clip
from safetensors.torch import save_file
from torch import Tensor, nn

from robustcodec import weights
from robustcodec.errors import WeightsError
from robustcodec.registry import codecs
from robustcodec.studies import checkpoint
from robustcodec.weights import statedict

ODD = {"N": 12, "M": 20}
FAMILIES = [name for name in codecs.names() if hasattr(codecs.get(name), "widths_from")]


def network(name: str) -> Any:
    """A small random network of a family, of widths that nobody publishes; its tables are made."""
    family: Any = codecs.get(name)
    net = family.architecture(**{width: ODD[width] for width in family.widths_from})
    net.update(force=True)
    return net


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return {"g_a.0.weight": torch.ones(4, 3, 5, 5), "g_a.0.bias": torch.zeros(4), "h_s.0.weight": torch.ones(2, 2)}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_widths_are_those_of_the_tensors(name: str, tmp_path: Path) -> None:
    net, path = network(name), tmp_path / "checkpoint_best.pth.tar"
    torch.save({"state_dict": prefixed(net.state_dict(), "module."), "epoch": 7, "loss": torch.tensor(1.0)}, path)
    codec: Any = codecs.build(f"{name}:weights={path}")
    assert codec.card.architecture == {width: ODD[width] for width in codec.widths_from}
    loaded = dict(codec.net.named_parameters())
    assert all(torch.equal(loaded[key], value) for key, value in net.named_parameters())
    found = checkpoint.facts(path)
    assert f'--codec "{name}:weights={path}"' in found["to use it"] or name == "elic2022"
    assert found["weights are"] == 'under "state_dict"; names begin with "module."'


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "net": lambda s: {"net": s},
    "an unknown name": lambda s: {"codec_weights": s, "step": 3},
    "two levels": lambda s: {"checkpoint": {"model": s}},
    "DataParallel": lambda s: {"state_dict": prefixed(s, "module.")},
    "compiled and parallel": lambda s: prefixed(s, "_orig_mod.module."),
    "a compiled part": lambda s: {name.replace("g_a.", "g_a._orig_mod."): value for name, value in s.items()},
    "Lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(1)},
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": argparse.Namespace(lmbda=0.01),
    },
    "averaged beside": lambda s: {"state_dict": {k: v + 1 for k, v in s.items()}, "ema": s},
    "AveragedModel": lambda s: {**prefixed(s, "module."), "n_averaged": torch.tensor(5)},
    "numpy scalars": lambda s: {"state_dict": s, "best_loss": np.float64(0.5), "epoch": np.int64(4)},
    "a Namespace": lambda s: {"state_dict": s, "args": argparse.Namespace(path=Path("a"), lr=1e-4)},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("legacy", [False, True])
def test_wrappers_are_understood(wrapper: str, legacy: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "file"  # what it is, its bytes say
    torch.save(WRAPPERS[wrapper](state), path, _use_new_zipfile_serialization=not legacy)
    held = statedict.read(path)
    assert held.tensors.keys() == state.keys()
    assert all(torch.equal(held.tensors[name], state[name]) for name in state)
    assert bool(held.wrappers) == (wrapper != "bare")


def test_safetensors_need_no_card(tmp_path: Path) -> None:
    net, path = network("mbt2018-mean"), tmp_path / "mine.safetensors"
    save_file(prefixed(net.state_dict(), "module."), path)
    codec, x = codecs.build(f"mbt2018-mean:weights={path}").eval(), clip(1, 1, 64, 64)
    with torch.no_grad():
        assert (codec.decompress(codec.compress(x)) - codec(x).x_hat).abs().max() <= 1e-4
    assert codecs.fingerprint("mbt2018-mean", **codecs.resolve(f"mbt2018-mean:weights={path}")) == weights.sha256(path)


def test_tensors_by_their_old_names(tmp_path: Path) -> None:
    net = network("bmshj2018-hyperprior")
    old = {
        name.replace(".matrices.", "._matrix").replace(".biases.", "._bias").replace(".factors.", "._factor"): value
        for name, value in net.state_dict().items()
    }
    assert "entropy_bottleneck._matrix0" in old
    torch.save(old, tmp_path / "old.pth")
    codec: Any = codecs.build(f"bmshj2018-hyperprior:weights={tmp_path / 'old.pth'}")
    assert torch.equal(codec.net.entropy_bottleneck.matrices[0], net.entropy_bottleneck.matrices[0])


class Touch:
    """A pickle that writes a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Trainer:
    pass


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_what_may_run_code_is_named_and_not_run(
    protocol: int, legacy: bool, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path, trace = tmp_path / "mine.pth", tmp_path / "trace"
    held = {"state_dict": state, "hook": Touch(trace)}
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"pathlib.*may run code.*torch.save\(checkpoint") as raised:
        statedict.read(path)
    assert "\n" not in str(raised.value)
    assert not trace.exists()


def test_a_whole_model_is_named_with_how_to_save_its_weights(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 3, 1)), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"a whole model .*torch.nn.*model.state_dict\(\)"):
        statedict.read(tmp_path / "model.pt")


def test_a_class_of_the_authors_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state, "trainer": Trainer()}, tmp_path / "mine.ckpt")
    with pytest.raises(WeightsError, match="Trainer"):
        statedict.read(tmp_path / "mine.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short(kind: str, share: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"cut.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="cut short") as raised:
        statedict.read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content, said",
    [
        ({"epoch": 3, "lr": 0.1}, "a dictionary with epoch, lr"),
        ([torch.ones(2)], "a list of 1"),
        (torch.ones(2), "a tensor"),
        ({}, "an empty dictionary"),
    ],
)
def test_a_file_without_weights(content: object, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=f"holds no weights by name, but {said}"):
        statedict.read(tmp_path / "none.pth")


def test_values_that_are_not_finite_are_refused_and_shown(tmp_path: Path) -> None:
    net, path = network("bmshj2018-factorized"), tmp_path / "diverged.pth"
    with torch.no_grad():
        net.g_a[0].weight[0, 0, 0, :2] = torch.nan
    torch.save(net.state_dict(), path)
    with pytest.raises(WeightsError, match=r"not finite: 2 of g_a\.0\.weight, 1 of"):
        codecs.build(f"bmshj2018-factorized:weights={path}")
    with pytest.raises(WeightsError, match="not finite"):
        codecs.build(f"compressai:class=compressai.models:FactorizedPrior,weights={path}")
    assert checkpoint.facts(path)["not finite"] == [f"g_a.0.weight: 2 of {net.g_a[0].weight.numel()}"]


def test_values_of_ours_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state, path = network("bmshj2018-factorized").state_dict(), tmp_path / "mine.safetensors"
    state["g_s.0.weight"][0, 0, 0, 0] = torch.nan
    weights.save(path, state, {"name": "mine", "family": "bmshj2018-factorized", "architecture": ODD})
    with pytest.raises(WeightsError, match=r"not finite: 1 of g_s\.0\.weight, 1 of"):
        codecs.build(f"bmshj2018-factorized:weights={path}")


def test_a_published_file_is_held_to_the_sha256_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "bmshj2018-factorized-prior-1-446d5c7f.pth.tar"
    torch.save(network("bmshj2018-factorized").state_dict(), path)
    with pytest.raises(WeightsError, match="its name says 446d5c7f"):
        codecs.build(f"bmshj2018-factorized:weights={path}")
    codecs.build(f"bmshj2018-factorized:weights={path.rename(tmp_path / 'mine.pth.tar')}")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"architecture": {"N": 99999999, "M": 20}}, "its tensors"),
        ({"architecture": "x"}, "architecture = 'x', expected dict"),
        ({"family": None}, "family"),
        ({"family": "mbt2018"}, "of mbt2018"),
        ({"sha256": 3}, "sha256 = 3"),
        ({"sha256": None}, "sha256"),
    ],
)
def test_a_card_that_cannot_be(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    net, path = network("mbt2018-mean"), tmp_path / "mine.safetensors"
    weights.save(path, net.state_dict(), {"name": "a", "family": "mbt2018-mean", "architecture": ODD})
    facts = {**weights.read_card(path), **wrong}
    lines = [f"{key} = {json.dumps(value)}" for key, value in facts.items() if key != "architecture" and value]
    if isinstance(facts["architecture"], dict):
        lines += ["[architecture]", *(f"{key} = {value}" for key, value in facts["architecture"].items())]
    else:
        lines.append(f"architecture = {json.dumps(facts['architecture'])}")
    weights._parse_card.cache_clear()
    path.with_suffix(".toml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(WeightsError, match=said):
        codecs.build(f"mbt2018-mean:weights={path}")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"channels": 99999999}, r"the card says {'channels': 99999999}, the tensors {'channels': 16}"),
        ({"prior_layers": 10**9}, "'prior_layers': 1000000000"),
        ({"levels": "a"}, "'levels': 'a'"),
        ({"time_strides": [2, 2]}, r"time_strides=\(2, 2\); expected three positive numbers"),
        ({"time_strides": 3}, "describes no network"),
        ({"depth": 3}, "describes no network: .*'depth'"),
    ],
)
def test_a_card_of_a_network_of_ours_that_cannot_be(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    state, card = weights.load(weights.find("rdae", "tiny-q1"))
    path = tmp_path / "mine.safetensors"
    weights.save(path, state, {**card, "architecture": {**card["architecture"], **wrong}})
    with pytest.raises(WeightsError, match=said):
        codecs.build(f"rdae:weights={path}")


def test_what_fits_no_family_is_told_from_the_nearest(tmp_path: Path) -> None:
    net, path = network("mbt2018-mean"), tmp_path / "almost.pth"
    state = {name: value for name, value in net.state_dict().items() if name != "h_s.4.bias"}
    torch.save({**state, "context.weight": torch.ones(3)}, path)
    found = checkpoint.facts(path)
    assert found["fits"] == "none of the families here"
    fit = "1 missing (h_s.4.bias); 1 unexpected (context.weight)"
    assert found["nearest"] == f"mbt2018-mean (N=12, M=20): {fit}"
    assert "compressai:class=pkg.mod:Cls" in found["to use it"][0]


def test_a_file_of_another_kind_of_network(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "linear.pth")
    assert "nearest" not in checkpoint.facts(tmp_path / "linear.pth")
    with pytest.raises(WeightsError, match=r"lacks g_a.0.weight and g_a.6.weight, and holds weight, bias"):
        codecs.build(f"mbt2018:weights={tmp_path / 'linear.pth'}")


def test_pickles_that_only_look_like_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(Touch(tmp_path / "trace")))
    with pytest.raises(WeightsError, match="pathlib"):
        statedict.read(path)
    assert not (tmp_path / "trace").exists()
