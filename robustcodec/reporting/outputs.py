"""Files that are made again only when what they are made from has changed, or when they are not there as they were.

What a file is made from is said by a digest: of tables, clips and names, and of the code and libraries that make it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from robustcodec.files import stamp, write_whole
from robustcodec.registry import KINDS
from robustcodec.sealed.shapes import read_json

DRAWN_WITH = ("av", "itables", "jinja2", "matplotlib", "numpy", "pandas", "pillow", "plotly", "pyarrow", "scipy")
CODE = {".py", ".html", ".css", ".js", ".toml"}


def digest(*parts: object) -> str:
    """sha256 of tables, and of whatever else JSON can say."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, pd.DataFrame):
            found.update(repr([*part.dtypes.astype(str).items()]).encode())
            found.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
        else:
            found.update(json.dumps(part, sort_keys=True).encode())
        found.update(b"\0")
    return found.hexdigest()


@cache
def makers() -> str:
    """Digest of what makes files: this package's code, that of plugins elsewhere, and the libraries."""
    package = Path(str(files("robustcodec")))
    folders = [package, *(path for path in package.iterdir() if path.is_dir())]  # some are links in a checkout
    sources = {path for folder in folders for path in folder.rglob("*") if path.suffix in CODE}
    for registry in KINDS.values():
        modules = map(sys.modules.get, registry.modules())
        sources |= {Path(path) for module in modules if (path := getattr(module, "__file__", None))}
    contents = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources)
    libraries = {"python": sys.version}
    for name in DRAWN_WITH:
        with suppress(PackageNotFoundError):
            libraries[name] = version(name)
    return digest(contents, libraries)


class Outputs:
    """Files below ``root``. The file ``memory`` holds what each was made from, and is written when the block ends; it
    may be deleted, and everything is then made again.
    """

    def __init__(self, root: Path, memory: Path) -> None:
        self.root, self.memory = root, memory
        self.made = 0
        self._known: dict[str, Any] = {}

    def __enter__(self) -> Self:
        with suppress(OSError, ValueError):  # none yet, or damaged
            known = read_json(self.memory.read_bytes())
            self._known = known if isinstance(known, dict) else {}
        return self

    def make(self, name: str, of: str, maker: Callable[[], Iterable[Path]]) -> list[Path]:
        """The files called ``name`` of what has the :func:`digest` ``of``; ``maker`` writes them where that is needed.

        Raises what ``maker`` raises.
        """
        of = digest(makers(), of)
        known = self._known.get(name, {})
        with suppress(AttributeError, KeyError, TypeError):  # not as we write it
            paths = [self.root / path for path in known["files"]]
            if known["of"] == of and [stamp(path) for path in paths] == [tuple(s) for s in known["files"].values()]:
                return paths
        paths = list(maker())
        stamps = {path.relative_to(self.root).as_posix(): stamp(path) for path in paths}
        self._known[name] = {"of": of, "files": stamps}
        self.made += 1
        return paths

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.made:
            write_whole(self.memory, json.dumps(self._known, indent=1).encode())
