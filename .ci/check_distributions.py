"""Whether wheel and sdist hold what they should, all of it and nothing else: check_distributions.py FOLDER."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"robustcodec": "robustcodec", **{name: f"robustcodec/{name}" for name in ("attacks", "defenses", "zoo")}}
BESIDE = (".ci", "benchmarks", "docs", "leaderboards", "tests")  # in the sdist alone
MADE = ("__pycache__", "docs/_build", "leaderboards/site")  # by those who work on them
LIMITS = {"wheel": 80, "sdist": 90}  # MB; package indexes take 100


def files(folder: str) -> set[str]:
    """Paths of all files below a folder of the checkout, as from its root. Links inside are not followed."""
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {path for path in found if not any(f"/{made}/" in f"/{path}" for made in MADE)}


def compare(kind: str, path: Path, found: set[str], expected: set[str], optional: set[str] | None = None) -> list[str]:
    """What is wrong with a distribution, a line for each fault."""
    megabytes = path.stat().st_size / 1e6
    sys.stdout.write(f"{path.name}: {len(found)} files, {megabytes:.1f} MB (at most {LIMITS[kind]})\n")
    faults = [f"{kind}: {name} is missing" for name in sorted(expected - found)]
    faults += [f"{kind}: {name} does not belong into it" for name in sorted(found - expected - (optional or set()))]
    return faults + [f"{kind}: {megabytes:.1f} MB; at most {LIMITS[kind]}"] * (megabytes > LIMITS[kind])


def main(folder: Path) -> list[str]:
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    name = "-".join(wheel.name.split("-")[:2])
    installs = {source: files(source) for source in PACKAGES}
    modules = {at + path.removeprefix(source) for source, at in PACKAGES.items() for path in installs[source]}
    facts = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    with zipfile.ZipFile(wheel) as archive:
        found = {entry.filename for entry in archive.infolist() if not entry.is_dir()}
    faults = compare("wheel", wheel, found, modules | {f"{name}.dist-info/{fact}" for fact in facts})
    with tarfile.open(sdist) as archive:
        found = {entry.name.removeprefix(f"{name}/") for entry in archive if entry.isfile()}
    top = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")} - {"uv.lock"}
    expected = top.union({"PKG-INFO", "setup.cfg"}, *installs.values(), *map(files, BESIDE))
    about = {path for path in found if path.startswith("robustcodec.egg-info/")}
    return faults + compare("sdist", sdist, found, expected, about)


if faults := main(Path(sys.argv[1])):
    sys.exit("\n".join(faults))
