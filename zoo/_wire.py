"""How a codec in a process of its own is spoken to: one line of JSON, then raw arrays.

docs/howto/your-codec-process.md has the protocol; this file knows nothing of pipes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from robustcodec.errors import ProcessError
from robustcodec.rounding import Surrogate

VERSION = 1
LONGEST_LINE = 1 << 16  # bytes of JSON
DTYPES = {"float32": "<f4", "uint8": "|u1"}

Array = np.ndarray[Any, Any]
Expected = Mapping[str, tuple[str, tuple[int, ...]]]  # name → dtype and shape, of which -1 stands for any length


@dataclass(frozen=True)
class Description:
    """What a server says of its codec.

    ``multiple``: of height and width of the frames that it takes; ``rounding``: the surrogates that it knows, beside
    straight-through; ``exact``: whether ``forward`` shows what decoding shows; ``randomised``: whether it draws from
    the seed of a request.
    """

    name: str
    identity: str
    kind: Literal["image", "video"] = "image"
    forward: bool = False
    gradient: bool = False
    multiple: tuple[int, int] = (1, 1)
    rounding: tuple[Surrogate, ...] = ()
    exact: bool = True
    randomised: bool = False
    licence: str = ""
    paper: str = ""

    @classmethod
    def read(cls, head: Mapping[str, Any]) -> Description:
        """From the answer to ``describe``; raises :class:`ProcessError` for what is missing or of another type."""
        fields = {k: v for k, v in head.items() if k in cls.__annotations__}
        missing = [k for k in ("name", "identity") if not fields.get(k)]
        if missing:
            raise ProcessError(f"describes no {' and no '.join(missing)}; expected a text that is not empty")
        for key, wanted in (("multiple", "two numbers of 1 to 4096"), ("rounding", "a list of names")):
            if key in fields:
                if not isinstance(fields[key], list):
                    raise ProcessError(f"describes {key}={fields[key]!r}; expected {wanted}")
                fields[key] = tuple(fields[key])
        made = cls(**fields)
        for key, kind in (("name", str), ("identity", str), ("licence", str), ("paper", str)):
            _expect(isinstance(getattr(made, key), kind), key, fields, "a text")
        for key in ("forward", "gradient", "exact", "randomised"):
            _expect(isinstance(getattr(made, key), bool), key, fields, "true or false")
        _expect(made.kind in ("image", "video"), "kind", fields, "image or video")
        _expect(made.forward or not made.gradient, "gradient", fields, "false where forward is false")
        whole = len(made.multiple) == 2 and all(type(m) is int and 1 <= m <= 4096 for m in made.multiple)
        _expect(whole, "multiple", fields, "two numbers of 1 to 4096")
        return made


def _expect(holds: bool, key: str, fields: Mapping[str, Any], wanted: str) -> None:
    if not holds:
        raise ProcessError(f"describes {key}={fields[key]!r}; expected {wanted}")


def pack(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """A request."""
    raw = {name: np.ascontiguousarray(a, DTYPES[a.dtype.name]) for name, a in arrays.items()}
    listed = [
        {"name": name, "dtype": a.dtype.name, "shape": list(a.shape), "bytes": a.nbytes} for name, a in raw.items()
    ]
    line = json.dumps({"robustcodec": VERSION, **head, "arrays": listed})
    return b"".join((line.encode(), b"\n", *(a.tobytes() for a in raw.values())))


class Incoming:
    """One answer as its bytes come in. Raises :class:`ProcessError` at the first byte that cannot be part of it."""

    def __init__(self, number: int, expected: Expected, limit: int) -> None:
        """``number``: of the request; ``limit``: bytes that arrays of unknown length may have, all together."""
        self._number, self._expected, self._limit = number, expected, limit
        self._buffer = bytearray()
        self._head: dict[str, Any] | None = None
        self._size = 0

    @property
    def whole(self) -> bool:
        return self._head is not None and len(self._buffer) >= self._size

    @property
    def begun(self) -> str:
        """What came in place of a whole answer, for a message; empty if nothing came."""
        if not self._buffer:
            return ""
        if self._head is None:
            return f"; it wrote {_shown(self._buffer)} to stdout"
        return f"; {len(self._buffer)} of {self._size} announced bytes came"

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if self._head is None:
            line, end, rest = self._buffer.partition(b"\n")
            if not end and len(line) <= LONGEST_LINE:
                return
            self._head = self._read(bytes(line[:LONGEST_LINE]))
            self._size = sum(self._bytes_of(entry) for entry in self._head["arrays"])
            self._buffer = rest
        if len(self._buffer) > self._size:
            extra = self._buffer[self._size :]
            raise ProcessError(f"wrote {_shown(extra)} to stdout after its answer; {_ONLY}")

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """By name. Raises :class:`ProcessError` for values that are not finite."""
        found, at = {}, 0
        assert self._head is not None, "an answer is read when it is whole"
        for entry in self._head["arrays"]:
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            values = np.frombuffer(self._buffer, dtype, math.prod(shape), at).reshape(shape)
            at += values.nbytes
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                raise ProcessError(f"answered {entry['name']} of which {bad} of {values.size} values are not finite")
            found[entry["name"]] = values
        return found

    @property
    def head(self) -> dict[str, Any]:
        assert self._head is not None, "an answer is read when it is whole"
        return self._head

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            head = json.loads(line)
        except (ValueError, RecursionError):
            head = None
        if not isinstance(head, dict) or "robustcodec" not in head:
            raise ProcessError(f"wrote {_shown(line)} to stdout; {_ONLY}")
        if head["robustcodec"] != VERSION:
            raise ProcessError(
                f"speaks version {head['robustcodec']!r} of the protocol; this release version {VERSION}"
            )
        if head.get("id") != self._number:
            raise ProcessError(f"answered request {head.get('id')!r} instead of {self._number}; expected the same id")
        listed = head.setdefault("arrays", [])
        if not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
            raise ProcessError(f"answered arrays {str(listed)[:60]}; expected a list of objects")
        if "error" not in head and [e.get("name") for e in listed] != list(self._expected):
            raise ProcessError(
                f"answered arrays {[e.get('name') for e in listed]}; expected {list(self._expected)} in this order"
            )
        return head

    def _bytes_of(self, entry: Mapping[str, Any]) -> int:
        name, shape = entry.get("name"), entry.get("shape", [])
        dtype, wanted = self._expected.get(str(name), ("nothing", ()))
        same = isinstance(shape, list) and len(shape) == len(wanted) and all(type(s) is int for s in shape)
        same = same and all(w in (s, -1) for s, w in zip(shape, wanted, strict=True))
        if entry.get("dtype") != dtype or not same:
            raise ProcessError(
                f"answered {name} as {entry.get('dtype')} of shape {shape}; expected {dtype} of {list(wanted)}"
            )
        size: int = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if entry.get("bytes") != size:
            raise ProcessError(f"announced {entry.get('bytes')} bytes for {name} of shape {shape}; expected {size}")
        if -1 in wanted and not 0 <= size <= self._limit:
            raise ProcessError(f"announced {size} bytes for {name}; expected at most {self._limit}")
        return size


_ONLY = "only answers belong there: print to stderr, as the templates do"


def _shown(data: bytes | bytearray) -> str:
    text = bytes(data[:60]).decode("utf-8", "backslashreplace")
    return repr(text + ("…" if len(data) > 60 else ""))
