"""Measures codecs without an attack: sizes of real bytes, and scores of what those bytes decode to in 8 bits.

Each codec and clip is a point, kept in a file of its own as soon as it is known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from robustcodec.clips import as_batch, checksum
from robustcodec.coding import Coded, code, judged
from robustcodec.errors import StoreError, UserError
from robustcodec.files import remove_leftovers, write_whole
from robustcodec.interfaces import Codec, Metric, Sample
from robustcodec.memory import out_of_memory, short_of_memory
from robustcodec.registry import codecs
from robustcodec.scores import rate
from robustcodec.sealed import seal_json, unseal_json
from robustcodec.spec import Spec
from robustcodec.studies.ladders import Ladder

VERSION = 1  # raise it whenever the same codec and clip would give other numbers than before
SECONDS = ["encode_s", "decode_s"]


@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why. ``codec`` or ``clip`` is ``all`` where the other one alone is to blame."""

    codec: str
    clip: str
    reason: str
    mistake: bool = False  # by what was given, not by what ran

    @classmethod
    def of(cls, codec: str, clip: str, error: BaseException) -> Failure:
        """Because of ``error``."""
        if short_of_memory(error):
            return cls(codec, clip, str(out_of_memory(error)))
        line = (str(error).strip().splitlines() or ["no message"])[-1]
        given = isinstance(error, UserError)
        return cls(codec, clip, line if given else f"{type(error).__name__}: {line}", given)


def compare(
    ladders: Sequence[Ladder],
    samples: Sequence[Sample],
    metrics: Sequence[Metric],
    folder: Path,
    device: str = "cpu",
    watch: Callable[[str], None] = lambda note: None,
    keep_streams: bool = False,
) -> tuple[pd.DataFrame, list[Failure]]:
    """Measure every codec on every sample: one row per ladder, codec and clip, and what could not be measured.

    Each point is kept in ``folder/points`` as soon as it is known and is not measured again while codec, weights and
    pixels are the same. ``watch`` is called before each codec and clip. ``keep_streams``: in ``.rc`` files beside the
    points. Columns: ``ladder``, ``codec``, ``clip``,
    ``frames``, ``width``, ``height``, ``bytes``, ``bpp``, the metrics, and the wall times ``encode_s``, ``decode_s``.

    Raises :class:`UserError` before anything is measured if a codec is not known or its weights are not there.
    """
    specs = list(dict.fromkeys(codec for ladder in ladders for codec in ladder.codecs))
    identities = {codec: identity(codec) for codec in specs}
    remove_leftovers(folder)
    failures: list[Failure] = []
    clips: dict[str, str] = {}  # checksum by sample
    for sample in samples:
        try:
            clips[sample.id] = checksum(sample.load())
        except (Exception, SystemExit) as error:  # one bad file must not cost the others
            failures.append(Failure.of("all", sample.id, error))
    points: dict[str, list[dict[str, Any]]] = {codec: [] for codec in specs}
    names = [metric.name for metric in metrics]
    for codec in specs:
        built: Codec | None = None
        for sample in samples:
            watch(f"{codec}, {sample.id}")
            if sample.id not in clips:
                continue
            path = place(folder, identities[codec], clips[sample.id])
            point = read_point(path)
            if not set(names) <= set(point) or (keep_streams and not stream_of(path).is_file()):
                try:
                    built = built or judged(codec, device=device)
                    coded = code(built, sample.load(), device)
                    point |= _point(coded, sample.load(), metrics, device)
                except (Exception, SystemExit) as error:  # codecs are anyone's code
                    failures.append(Failure.of(codec, sample.id if built else "all", error))
                    if built is None:
                        break
                    continue
                if keep_streams:
                    write_whole(stream_of(path), coded.stream)
                write_whole(path, seal_json(path.stem, point))
            points[codec].append({"clip": sample.id, **point})
    rows = [
        {"ladder": ladder.name, "codec": codec, **point}
        for ladder in ladders
        for codec in ladder.codecs
        for point in points[codec]
    ]
    columns = ["ladder", "codec", "clip", "frames", "width", "height", "bytes", "bpp", *names, *SECONDS]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(["bpp", *names, *SECONDS], float)), failures


def _point(coded: Coded, clip: Tensor, metrics: Sequence[Metric], device: str) -> dict[str, Any]:
    x, x_hat = as_batch(clip, device), as_batch(coded.decoded(), device)
    scores = {metric.name: metric.fn(x, x_hat).item() for metric in metrics}
    frames, _, height, width = clip.shape
    return {
        "frames": frames,
        "width": width,
        "height": height,
        "bytes": len(coded.stream),
        "bpp": rate.bpp(coded.bits, clip.shape),
        **{name: None if math.isnan(score) else score for name, score in scores.items()},  # JSON has no NaN
        "encode_s": coded.encode_s,
        "decode_s": coded.decode_s,
    }


def identity(codec: str) -> list[Any]:
    """What a point of ``codec`` depends on beside the clip."""
    spec = Spec.parse(codec)
    params = codecs.resolve(spec)
    return [VERSION, spec.name, params, codecs.fingerprint(spec.name, **params)]


def place(folder: Path, identity: list[Any], clip: str) -> Path:
    """Where the point of a codec and of a clip of that checksum lies."""
    return folder / "points" / f"{digest([identity, clip])}.json"


def stream_of(point: Path) -> Path:
    """Where the stream of a point lies, if it was kept."""
    return point.with_suffix(".rc")


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def read_point(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return unseal_json(path.stem, path.read_bytes())
    except ValueError as error:
        raise StoreError(f"{path} is not a measured point ({error}); remove it and run again") from None
