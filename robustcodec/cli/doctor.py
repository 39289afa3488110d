"""``robustcodec doctor``: what works on this machine, and what to do about what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from robustcodec.cli._document import say


@dataclass(frozen=True)
class Checkup:
    """One thing looked at: what was found, and what to do if it is not ``ok``."""

    what: str
    status: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""


def command(
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """Look at this machine: versions, devices, and every optional thing, with a remedy where one is missing.

    Downloads nothing and changes nothing.

    Examples:

        robustcodec doctor

        robustcodec doctor --json
    """
    from robustcodec.cli._console import Console

    console = Console(stderr=json)
    with console.status("looking …"):
        findings = [finding for probe in PROBES for finding in _safely(probe)]
    if json:
        say([asdict(finding) for finding in findings])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # paths and addresses are long
    styles = {"ok": "green", "missing": "yellow", "broken": "bold red"}
    for f in findings:
        said = f"{f.what}: {f.found}" + (f"\n{f.remedy}" if f.remedy else "")
        table.add_row(Text(f.status, style=styles[f.status]), Text(said))
    console.print(table)


Probe = Callable[[], Iterator[Checkup]]


def _safely(probe: Probe) -> Iterator[Checkup]:
    """The probe's findings; whatever it raises is one more."""
    try:
        yield from probe()
    except Exception as error:  # a broken installation raises anything
        name = probe.__name__.strip("_")
        yield Checkup(
            name, "broken", f"{type(error).__name__}: {error}", "reinstall: pip install --force-reinstall robustcodec"
        )


def _python() -> Iterator[Checkup]:
    import os
    import platform

    yield Checkup("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Checkup("processors", "ok", f"{os.cpu_count()}")


def _libraries() -> Iterator[Checkup]:
    """What robustcodec requires, by its own metadata."""
    import re
    from importlib.metadata import PackageNotFoundError, requires, version

    yield Checkup("robustcodec", "ok", version("robustcodec"))
    for requirement in sorted(requires("robustcodec") or ()):
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            yield Checkup(name, "ok", version(name))
        except PackageNotFoundError:
            yield Checkup(name, "missing", "not installed", f"pip install '{requirement}'")


def _torch() -> Iterator[Checkup]:
    import torch

    yield Checkup("CPU threads of PyTorch", "ok", f"{torch.get_num_threads()}")
    if not torch.cuda.is_available():
        yield Checkup(
            "CUDA", "missing", "no device", "not needed; a CUDA build of PyTorch and a driver make runs faster"
        )
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        memory = properties.total_memory / 2**30
        yield Checkup(f"CUDA device {i}", "ok", f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")


def _allocator() -> Iterator[Checkup]:
    from robustcodec.execution.allocator import keep_memory

    if keep_memory():
        yield Checkup("memory kept by glibc", "ok", "on (ROBUSTCODEC_KEEP_MEMORY=0 switches it off)")
    else:
        yield Checkup("memory kept by glibc", "missing", "off", "not needed; works with glibc on Linux, and is faster")


def _plugins() -> Iterator[Checkup]:
    from robustcodec import registry

    for kind, plugins in registry.KINDS.items():
        try:
            yield Checkup(kind, "ok", f"{len(plugins.names())} found")
        except (Exception, SystemExit) as error:  # a third party's plugin raises anything
            remedy = "repair or uninstall the package that the message names"
            yield Checkup(kind, "broken", f"{type(error).__name__}: {error}", remedy)


def _bundled_weights() -> Iterator[Checkup]:
    from importlib.resources import files

    from robustcodec import weights

    zoo = Path(str(files("robustcodec.zoo")))
    names = sorted(path.stem for folder in ("cards", "weights") for path in (zoo / folder).glob("*.toml"))
    wrong = []
    for name in names:
        family, _, tag = name.partition(".")
        path = weights.find(family, tag)
        if not path.is_file():
            wrong.append(f"{name} (no file)")
        elif weights.sha256(path) != weights.read_card(path)["sha256"]:
            wrong.append(f"{name} (damaged)")
    if wrong:
        yield Checkup("bundled weights", "broken", ", ".join(wrong), "pip install --force-reinstall robustcodec")
    elif names:
        yield Checkup("bundled weights", "ok", f"{len(names)} checkpoints, all sha256 match")
    else:
        remedy = "use FAMILY.mse-q3 (downloaded), or robustcodec train"
        yield Checkup("bundled weights", "missing", "none ship with this copy", remedy)


def _official_weights() -> Iterator[Checkup]:
    from compressai.zoo import image, image_vbr

    def urls(table: object) -> Iterator[str]:
        if isinstance(table, dict):
            for entry in table.values():
                yield from urls(entry)
        else:
            yield str(table)

    names = {url.rsplit("/", 1)[-1] for url in (*urls(image.model_urls), *urls(image_vbr.model_urls))}
    folder = _hub()
    here = sum((folder / name).is_file() for name in names)
    remedy = "" if here else f"downloaded when used; offline, put the files into {folder}"
    status: Literal["ok", "missing"] = "ok" if here else "missing"
    yield Checkup("CompressAI's official weights", status, f"{here} of {len(names)} in {folder}", remedy)


def _pillow() -> Iterator[Checkup]:
    from PIL import features

    for name, codec in (("jpg", "JPEG"), ("webp", "WebP"), ("avif", "AVIF"), ("jpg_2000", "JPEG 2000")):
        if features.check(name):
            yield Checkup(f"{codec} in Pillow", "ok", str(features.version(name) or "yes"))
        else:
            remedy = "pip install --force-reinstall --only-binary :all: pillow"
            yield Checkup(f"{codec} in Pillow", "missing", "this Pillow cannot write it", remedy)


def _lpips() -> Iterator[Checkup]:
    from torchvision import models

    from robustcodec import weights

    backbones = {
        "alex": models.AlexNet_Weights.IMAGENET1K_V1,
        "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }
    for net, backbone in backbones.items():
        path = _hub() / Path(backbone.url).name
        digest = path.stem.rsplit("-", 1)[-1]
        if not path.is_file():
            remedy = f"downloaded when used; offline, put {backbone.url} into {path.parent}"
            yield Checkup(f"backbone of lpips:net={net}", "missing", f"no {path.name}", remedy)
        elif not weights.sha256(path).startswith(digest):
            yield Checkup(f"backbone of lpips:net={net}", "broken", f"{path} is damaged", "delete it and get it again")
        else:
            yield Checkup(f"backbone of lpips:net={net}", "ok", str(path))


def _kodak() -> Iterator[Checkup]:
    import os

    from robustcodec import weights
    from robustcodec.data.photos import KODAK_SHA256, Kodak

    given = os.environ.get("ROBUSTCODEC_KODAK")
    folder = Path(given).expanduser() if given else weights.cache_dir() / "kodak"
    paths = {folder / f"kodim{number:02}.png": digest for number, digest in enumerate(KODAK_SHA256, start=1)}
    whole = sum(path.is_file() and weights.sha256(path) == digest for path, digest in paths.items())
    if whole == len(paths):
        yield Checkup("Kodak images", "ok", f"all {whole} in {folder}")
    else:
        remedy = f"downloaded when used; offline, get {Kodak.URL}/kodim01.png … and set $ROBUSTCODEC_KODAK"
        yield Checkup("Kodak images", "missing", f"{whole} of {len(paths)} in {folder}", remedy)


def _hub() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


PROBES: tuple[Probe, ...] = (
    _python, _libraries, _torch, _allocator, _plugins, _bundled_weights, _official_weights, _pillow, _lpips, _kodak,
)  # fmt: skip
