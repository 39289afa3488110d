"""One more codec, attack, defense, objective, metric, threat or data set is one new file, and no table is edited.

The files are those that the how-tos show: as modules of a package that is installed, each named by
one line of that package's own, and as files in the folders of a checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from documents import blocks

from robustcodec import registry

ROOT = Path(__file__).parents[2]
NAMES = {
    "codecs": "block-means",
    "attacks": "smooth-pgd",
    "defenses": "drop-bits",
    "objectives": "brightness",
    "metrics": "max_error",
    "threats": "levels",
    "data": "slopes",
}
FOLDERS = {kind: kind for kind in NAMES} | {"codecs": "zoo", "metrics": "scores/metrics"}
SCRIPT = """
import sys, robustcodec.cli
for words in (["list", "--json"], sys.argv[1:]):
    sys.argv = ["robustcodec", *words]
    try:
        robustcodec.cli.main()
    except SystemExit as end:
        if end.code:
            raise
"""


def files() -> dict[str, str]:
    """By kind, the one file that the documents show of it."""
    texts = [b.text for page in (ROOT / "docs" / "howto").glob("add-a*.md") for b in blocks(page) if b.kind == "file"]
    found = {kind: [t for t in texts if f'@{kind}.register("{name}")' in t] for kind, name in NAMES.items()}
    assert all(len(shown) == 1 for shown in found.values())
    return {kind: shown[0] for kind, shown in found.items()}


def package(folder: Path) -> Path:
    """Where a package of all files has been installed."""
    source, site = folder / "source", folder / "site"
    lines = ['[project]\nname = "mine"\nversion = "0.1"\n']
    for kind, text in files().items():
        module = source / "mine" / f"my_{kind}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(text, encoding="utf-8")
        lines.append(f'[project.entry-points."robustcodec.{kind}"]\n{NAMES[kind]} = "mine.my_{kind}"\n')
    (source / "mine" / "__init__.py").touch()  # or a mine.py anywhere behind it would stand in its place
    (source / "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline], check=True, capture_output=True)
    return site


def checkout(folder: Path) -> Path:
    """A copy of this one without weights, with one more file in each folder that is looked through."""
    copy = folder / "checkout"
    shutil.copytree(
        ROOT / "robustcodec", copy / "robustcodec", ignore=shutil.ignore_patterns("*.safetensors", "__pycache__")
    )
    for kind, name in FOLDERS.items():
        (copy / "robustcodec" / name / f"my_{kind}.py").write_text(files()[kind], encoding="utf-8")
    return copy


def used(site: Path, folder: Path, *words: str) -> tuple[dict[str, set[str]], pd.DataFrame]:
    """What ``robustcodec list`` names with ``site`` on the path, by kind, and the results of a run of ``words``."""
    out = folder / "run"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", *words, "--out", str(out)],
        cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    listed, _ = json.JSONDecoder().raw_decode(done.stdout)
    return {kind: {e["name"] for e in entries} for kind, entries in listed.items()}, pd.read_parquet(
        out / "results.parquet"
    )


def test_every_kind_of_plugin_is_shown() -> None:
    assert set(NAMES) == set(registry.KINDS)


@pytest.mark.parametrize("place", [package, checkout])
def test_one_file_is_all_that_a_plugin_needs(place: Callable[[Path], Path], tmp_path: Path) -> None:
    words = "--codec block-means --defense drop-bits --access adaptive --attack smooth-pgd:steps=2"
    words += " --objective brightness --data slopes:size=16 --threat levels:3 --metric max_error"
    listed, results = used(place(tmp_path), tmp_path, *words.split())
    assert all(NAMES[kind] in listed[kind] for kind in NAMES)
    assert sorted(results["sample"]) == ["across", "down"]
    assert (results["input_linf"].round(4) <= 3).all() and (results["input_linf"] > 0).all()
    assert (results["adv_max_error"] > 0).all()
