"""What made a result: versions, device and the commit of this package; no times."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch


@cache
def provenance(device: torch.device) -> dict[str, str]:
    """Versions and device, for the record; no times, so that results are reproducible byte by byte."""
    libraries = ("robustcodec", "torch", "compressai", "numpy", "pillow", "av", "torchattacks", "foolbox")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    made_by = {"python": platform.python_version(), "device": f"{device.type} {where}", "commit": commit()}
    return made_by | {k: version(k) for k in libraries}


@cache
def commit() -> str:
    """The git commit that this package stands at, with ``+changes`` if its tracked files differ from it; empty if it
    does not run from a checkout of its own.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head, state = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or a folder that git does not trust
        return ""
    return f"{head}+changes" if state else head
