"""The commands as a user types them: what they print, what they write, and how they fail."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressai.models import FactorizedPrior
from PIL import Image
from terminal import Done, Type
from torch import Tensor

import robustcodec
from robustcodec import registry, weights
from robustcodec.clips import to_float, to_uint8
from robustcodec.data._images import read_image, write_image
from robustcodec.data._video import read_video, write_y4m
from robustcodec.running import suites

LEARNED = "bmshj2018-factorized:weights=random"  # its latents are lively even without training
BUNDLED = [f"{name}.{tag}" for name in registry.codecs.names() for tag in weights.bundled_tags(name)]


@pytest.fixture
def image(tmp_path: Path, photo: Tensor) -> Path:
    """A real photo of an odd size."""
    path = tmp_path / "photo.png"
    write_image(photo[..., :75, :101], path)
    return path


def refused(done: Done, *words: str) -> None:
    """A user's mistake: exit code 2, one line, no traceback."""
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    for word in words:
        assert word in done.err


def png(depth: int, colour: int) -> bytes:
    """A 2×2 PNG of ``depth`` bits per channel, written by hand: Pillow cannot write 16-bit RGB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels = {0: 1, 2: 3}[colour]
    rows = (b"\0" + bytes(2 * channels * depth // 8)) * 2
    header = struct.pack(">IIBBBBB", 2, 2, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- compress and decompress


@pytest.mark.parametrize("spec", [LEARNED, "jpeg:quality=30"])
def test_compress_and_decompress_are_the_codec(robust: Type, image: Path, tmp_path: Path, spec: str) -> None:
    packed, result = tmp_path / "photo.rc", tmp_path / "decoded.png"
    done = robust("compress", image, "--codec", spec, "-o", packed, "--json")
    assert done.code == 0, done.err

    codec, x = robustcodec.load(spec), to_float(read_image(image))[None]
    with torch.no_grad():
        (stream,) = codec.compress(x)
        decoded = to_uint8(codec.decompress([stream]))
    assert packed.read_bytes() == stream

    said = json.loads(done.out)
    assert said["bytes"] == len(stream) and (said["width"], said["height"]) == (101, 75)
    assert said["bpp"] == pytest.approx(8 * len(stream) / (75 * 101))
    error = (read_image(image).numpy().astype(float) - decoded[0].numpy()) ** 2
    assert said["psnr"] == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=1e-3)
    assert 0 < said["ms_ssim"] < 1

    done = robust("decompress", packed, "--codec", spec, "-o", result)
    assert done.code == 0, done.err
    assert torch.equal(read_image(result), decoded[0])


def test_compress_tells_people_too(robust: Type, image: Path, tmp_path: Path) -> None:
    done = robust("compress", image, "--codec", "jpeg", "-o", tmp_path / "photo.jpg")
    size = (tmp_path / "photo.jpg").stat().st_size
    assert done.code == 0
    assert f"101x75, {size} bytes, {8 * size / (75 * 101):.4f} bpp" in done.out and "dB PSNR" in done.out


def test_a_defense_travels_in_the_bytes(robust: Type, image: Path, tmp_path: Path) -> None:
    packed, result = tmp_path / "photo.rc", tmp_path / "decoded.png"
    defended = ("--codec", LEARNED, "--defense", "self-ensemble:views=2")
    assert robust("compress", image, *defended, "-o", packed).code == 0
    assert robust("decompress", packed, *defended, "-o", result).code == 0
    codec = robustcodec.load(LEARNED, "self-ensemble:views=2")
    expected = to_uint8(codec.decompress([packed.read_bytes()]))[0]
    assert torch.equal(read_image(result), expected)


@pytest.mark.parametrize("spec", BUNDLED[:1])
def test_decompress_finds_a_bundled_codec_by_itself(robust: Type, image: Path, tmp_path: Path, spec: str) -> None:
    packed = tmp_path / "photo.rc"
    assert robust("compress", image, "--codec", spec, "-o", packed).code == 0
    done = robust("decompress", packed, "-o", tmp_path / "found.png")
    assert done.code == 0 and spec in done.out
    assert robust("decompress", packed, "--codec", spec, "-o", tmp_path / "named.png").code == 0
    assert (tmp_path / "found.png").read_bytes() == (tmp_path / "named.png").read_bytes()


def test_a_small_image_has_no_ms_ssim(robust: Type, photo: Tensor, tmp_path: Path) -> None:
    write_image(photo[..., :8, :8], tmp_path / "small.png")
    done = robust("compress", tmp_path / "small.png", "--codec", "jpeg", "-o", tmp_path / "small.jpg", "--json")
    assert json.loads(done.out)["ms_ssim"] is None


def test_outputs_are_not_overwritten_unless_asked(robust: Type, image: Path, tmp_path: Path) -> None:
    packed = tmp_path / "photo.jpg"
    packed.write_bytes(b"precious")
    refused(robust("compress", image, "--codec", "jpeg", "-o", packed), "photo.jpg exists", "--force")
    assert packed.read_bytes() == b"precious"
    before = image.read_bytes()
    refused(robust("compress", image, "--codec", "jpeg", "-o", image, "--force"), "is the input")
    assert image.read_bytes() == before
    assert robust("compress", image, "--codec", "jpeg", "-o", packed, "--force").code == 0
    assert packed.read_bytes() == robustcodec.load("jpeg").compress(to_float(read_image(image))[None])[0]
    refused(robust("decompress", packed, "--codec", "jpeg", "-o", image), "exists", "--force")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.jpg", "photo.png"]


def cmyk(path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(path, format="JPEG")


def grey(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, format="PNG")


def cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:4000])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: path.write_text("not an image"), "is not an image"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_bytes(png(16, 0)), "16-bit"),
        (lambda path: path.write_bytes(png(16, 2)), "16-bit"),
        (lambda path: None, "no image at"),
        (cut, "damaged or cut short"),
        (cmyk, "CMYK"),
        (grey, "greyscale"),
    ],
    ids=["text", "empty", "16-bit grey", "16-bit RGB", "absent", "cut", "CMYK", "grey"],
)
def test_compress_refuses_what_is_not_an_8_bit_rgb_image(
    robust: Type, tmp_path: Path, make: Callable[[Path], Any], word: str
) -> None:
    path, packed = tmp_path / "image.png", tmp_path / "image.rc"
    make(path)
    refused(robust("compress", path, "--codec", "jpeg", "-o", packed), str(path), word)
    assert not packed.exists()


def test_decompress_refuses_damage_and_strangers(robust: Type, image: Path, tmp_path: Path) -> None:
    packed, out = tmp_path / "photo.rc", tmp_path / "out.png"
    assert robust("compress", image, "--codec", LEARNED, "-o", packed).code == 0
    whole = packed.read_bytes()
    decode = ("decompress", packed, "-o", out, "--codec")
    packed.write_bytes(whole[:50] + bytes([whole[50] ^ 4]) + whole[51:])
    refused(robust(*decode, LEARNED), "checksum")
    packed.write_bytes(whole[:-9])
    refused(robust(*decode, LEARNED), "checksum")
    packed.write_bytes(b"")
    refused(robust(*decode, LEARNED), "0 bytes that are not a robustcodec stream")
    packed.write_bytes(whole)
    refused(robust(*decode, f"{LEARNED},seed=1"), "was not written by", "decode it with the codec that wrote it")
    refused(robust("decompress", packed, "-o", out), "codec")
    refused(robust("decompress", tmp_path / "none.rc", "-o", out), "none.rc", "No such file")
    assert not out.exists()


def test_clips_are_not_images(robust: Type, photo: Tensor, tmp_path: Path) -> None:
    clip = to_float(photo[..., :32, :32]).repeat(2, 1, 1, 1)[None]
    (tmp_path / "clip.rc").write_bytes(robustcodec.load("jpeg").compress(clip)[0])
    done = robust("decompress", tmp_path / "clip.rc", "--codec", "jpeg", "-o", tmp_path / "clip.png")
    refused(done, "2 frames")


# --- names, parameters, weights


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("bmshj2018-hyperprio", ["did you mean bmshj2018-hyperprior"]),
        ("jpeg:qualty=3", ["no parameter 'qualty'", "quality"]),
        ("jpeg:quality=best", ["quality='best'", "int"]),
        ("jpeg:quality=1000", ["quality=1000", "1 to 100"]),
        ("bmshj2018-factorized:weights=nowhere.safetensors", ["nowhere.safetensors"]),
        ("bmshj2018-factorized:weights=nowhere.pth.tar", ["nowhere.pth.tar"]),
        ("bmshj2018-factorized.no-such-tag", ["no-such-tag"]),
    ],
)
def test_codecs_that_cannot_be(robust: Type, image: Path, tmp_path: Path, spec: str, words: list[str]) -> None:
    refused(robust("compress", image, "--codec", spec, "-o", tmp_path / "photo.rc"), *words)


def test_mistakes_found_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    """Whole processes, and nothing on stderr but the one line."""
    call = [sys.executable, "-c", "from robustcodec.cli import main; main()"]
    for words, said in (
        (["decompress", "photo.rc", "-o", "photo.jpg"], "ends in .png"),
        (["compress", "photo.png", "--codec", "jpeg", "-o", "nowhere/photo.rc"], "a folder that exists"),
        (["list", "codec"], "did you mean codecs?"),
    ):
        done = subprocess.run([*call, *words], capture_output=True, text=True, cwd=tmp_path)
        refused(Done(done.returncode, done.stdout, done.stderr), said)


# --- check


def test_check_prints_a_table_and_succeeds(robust: Type) -> None:
    done = robust("check", "jpeg:quality=30", "--defense", "self-ensemble:views=1")
    assert done.code == 0, done.out
    assert "jpeg:quality=30+self-ensemble" in done.out and "FAILED" not in done.out


def test_check_fails_a_codec_that_breaks_a_promise(robust: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = registry.codecs.get("jpeg")
    monkeypatch.setattr(jpeg, "decompress", lambda self, streams: torch.zeros(len(streams), 1, 3, 128, 128))
    done = robust("check", "jpeg", "--json")
    assert done.code == 1
    checks = {check["name"]: check["passed"] for check in json.loads(done.out)["jpeg"]}
    assert not checks["truncated and empty streams"] and checks["bytes of a batch of 2 and one by one"]
    assert robust("check", "jpeg").out.count("FAILED") == list(checks.values()).count(False)


def test_check_needs_a_codec(robust: Type) -> None:
    refused(robust("check"), "no codec to check")


# --- list and show


def test_list_knows_every_name_and_default(robust: Type) -> None:
    listed = json.loads(robust("list", "--json").out)
    assert [e["name"] for e in listed.pop("suites")] == [str(suite) for suite in suites.bundled()]
    assert {kind: [e["name"] for e in entries] for kind, entries in listed.items()} == {
        kind: plugins.names() for kind, plugins in registry.KINDS.items()
    }
    everything = {kind: {e["name"]: e for e in entries} for kind, entries in listed.items()}
    assert everything["attacks"]["pgd"]["parameters"]["steps"] == "20"
    assert everything["attacks"]["pgd"]["parameters"]["random_start"] == "true"
    assert everything["threats"]["psnr"]["parameters"] == {"db": None, "frames": "all", "per": "clip"}
    assert everything["codecs"]["jpeg"]["summary"].startswith("JPEG by libjpeg-turbo")
    for name, entry in everything["codecs"].items():
        assert entry["tags"] == weights.bundled_tags(name)


def test_listed_defaults_can_be_typed(robust: Type) -> None:
    """What ``list`` shows as name:key=value resolves to the plugin's defaults."""
    for kind, entries in json.loads(robust("list", "--json").out).items():
        for entry in entries:
            typed = {k: v for k, v in entry["parameters"].items() if v is not None}
            if None not in entry["parameters"].values() and typed:
                spec = entry["name"] + ":" + ",".join(f"{k}={v}" for k, v in typed.items())
                assert registry.KINDS[kind].resolve(spec) == registry.KINDS[kind].resolve(entry["name"]), spec


def test_list_prints_a_table_of_one_kind(robust: Type) -> None:
    done = robust("list", "threats")
    assert done.code == 0
    assert "linf" in done.out and "eps=…" in done.out and "pgd" not in done.out
    refused(robust("list", "atacks"), "did you mean attacks?")


def test_show_explains_a_plugin(robust: Type) -> None:
    facts = json.loads(robust("show", "pgd:steps=3", "--json").out)
    assert facts["kind"] == "attack" and facts["defined in"] == "robustcodec.attacks.pgd"
    assert facts["parameters"]["steps"] == "3" and facts["parameters"]["step_size"] == "1.0"
    assert "arxiv.org/abs/1706.06083" in facts["method"]


def test_show_prints_a_codec_s_card(robust: Type) -> None:
    done = robust("show", "jpeg:quality=30", "--kind", "codecs")  # a defense has this name too
    assert done.code == 0
    for fact in ("libjpeg-turbo", "ITU-T T.81", "quality = 30", "robustcodec.zoo.pillow"):
        assert fact in done.out


@pytest.mark.parametrize("spec", BUNDLED[:1])
def test_show_prints_where_bundled_weights_come_from(robust: Type, spec: str) -> None:
    facts = json.loads(robust("show", spec, "--json").out)
    name, _, tag = spec.partition(".")
    assert facts["sha256"] == weights.sha256(weights.find(name, tag))
    assert facts["training"] and facts["licence"]


def test_show_refuses_unknown_and_ambiguous_names(robust: Type) -> None:
    refused(robust("show", "pgdd"), "did you mean pgd (attacks)")
    refused(robust("show", "psnr"), "threats, metrics", "--kind threats")
    assert "threat" in robust("show", "psnr", "--kind", "threats").out
    refused(robust("show", "psnr", "--kind", "attacks"), "no attack is named 'psnr'")


def test_show_says_what_a_checkpoint_holds_and_what_to_type(robust: Type, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth.tar"
    net = FactorizedPrior(8, 12)
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, path)
    facts = json.loads(robust("show", str(path), "--json").out)
    assert facts["parameters"] == sum(p.numel() for p in net.state_dict().values())
    assert facts["fits"] == ["bmshj2018-factorized (N=8, M=12)"] and facts["beside them"] == ["epoch: 3"]
    codec = facts["to use it"][0].removeprefix("--codec ").strip('"')
    assert "N = 8" in robust("show", codec).out
    path.write_bytes(path.read_bytes()[:200])
    refused(robust("show", str(path)), "cut short")
    refused(robust("show", "nowhere.pth"), "no weights at nowhere.pth")


# --- doctor


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches, and a network that raises if it is touched. Returns PyTorch's folder of downloads."""

    def refuse(*args: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("ROBUSTCODEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBUSTCODEC_KODAK", raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_doctor_finds_nothing_in_empty_caches_and_downloads_nothing(
    robust: Type, offline: Path, tmp_path: Path
) -> None:
    done = robust("doctor", "--json")
    assert done.code == 0
    found = {finding["what"]: finding for finding in json.loads(done.out)}
    assert {f["what"] for f in found.values() if f["status"] == "broken"} == set()
    for what in ("Kodak images", "CompressAI's official weights", "backbone of lpips:net=alex"):
        assert found[what]["status"] == "missing" and found[what]["remedy"]
    assert found["torch"]["found"] == torch.__version__.split("+")[0]
    assert found["bundled weights"]["status"] == ("ok" if BUNDLED else "missing")
    assert found["codecs"]["found"] == f"{len(registry.codecs.names())} found"
    assert list(tmp_path.iterdir()) == []


def test_doctor_sees_damaged_files(robust: Type, offline: Path) -> None:
    offline.mkdir(parents=True)
    (offline / "alexnet-owt-7be5be79.pth").write_bytes(b"half a download")
    (offline / "bmshj2018-factorized-prior-1-446d5c7f.pth.tar").write_bytes(b"")
    found = {finding["what"]: finding for finding in json.loads(robust("doctor", "--json").out)}
    assert found["backbone of lpips:net=alex"]["status"] == "broken"
    assert found["CompressAI's official weights"]["found"].startswith("1 of ")


def test_doctor_survives_a_broken_library(robust: Type, offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    done = robust("doctor")
    assert done.code == 0
    assert "broken" in done.out and "torchvision" in done.out and "Kodak images" in done.out


@pytest.mark.parametrize("kind", ["y4m", "mp4"])
def test_a_clip_goes_through_its_bytes(robust: Type, kind: str, tmp_path: Path) -> None:
    clip = registry.data.build("clips:frames=9,size=40").samples()[0].load()
    source, coded, decoded = tmp_path / "clip.y4m", tmp_path / "clip.rc", tmp_path / f"decoded.{kind}"
    write_y4m(clip, source)
    codec = "--codec", "rdae.tiny-q1"
    done = robust("compress", source, *codec, "-o", coded, "--json")
    assert json.loads(done.out)["frames"] == 9
    refused(robust("decompress", coded, *codec, "-o", tmp_path / "clip.png"), "write a .y4m or .mp4")
    assert robust("decompress", coded, *codec, "-o", decoded).code == 0
    there = read_video(decoded)
    assert there.shape == clip.shape
    direct = robustcodec.load("rdae.tiny-q1").decompress([coded.read_bytes()])[0]
    assert (there / 255 - direct).abs().mean() < (0.01 if kind == "y4m" else 0.05)
