"""Scores of all decoded frames of a codec as one set, such as FID, from the streams that a comparison kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from robustcodec.clips import as_batch, checksum
from robustcodec.coding import judged, read
from robustcodec.errors import BadData
from robustcodec.files import write_whole
from robustcodec.interfaces import Codec, Sample
from robustcodec.scores.perception import SetScore
from robustcodec.sealed import seal_json
from robustcodec.studies.compare import Failure, digest, identity, place, read_point, stream_of


def set_scores(
    codecs: Sequence[str],
    samples: Sequence[Sample],
    scores: Sequence[SetScore],
    folder: Path,
    device: str = "cpu",
    watch: Callable[[str], None] = lambda note: None,
) -> tuple[pd.DataFrame, list[Failure]]:
    """``scores`` of each codec over all frames of ``samples``, as columns by codec, and what could not be measured.

    ``folder``: where :func:`robustcodec.studies.compare.compare` kept streams of all of ``samples``. Each score is kept
    in ``folder/sets`` and is not computed again while codec, weights and pixels are the same. ``watch`` is called
    before each codec and score.
    """
    clips = [checksum(sample.load()) for sample in samples]
    failures: list[Failure] = []
    rows: dict[str, dict[str, float]] = {codec: {} for codec in codecs}
    for codec in codecs:
        built: Codec | None = None
        known = identity(codec)
        points = [place(folder, known, clip) for clip in clips]
        for score in scores:
            watch(f"{codec}, {score.column.label}")
            path = folder / "sets" / f"{digest([known, clips, score.name])}.json"
            found = read_point(path)
            if score.name not in found:
                try:
                    built = built or judged(codec, device=device)
                    value = score.fn(_sources(samples), _decoded(built, samples, points, device), device)
                except (Exception, SystemExit) as error:  # codecs are anyone's code
                    failures.append(Failure.of(codec, "all", error))
                    continue
                found = {score.name: value}
                write_whole(path, seal_json(path.stem, found))
            rows[codec][score.name] = found[score.name]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[score.name for score in scores]), failures


def _sources(samples: Sequence[Sample]) -> Iterator[Tensor]:
    return (as_batch(sample.load(), "cpu") for sample in samples)


def _decoded(codec: Codec, samples: Sequence[Sample], points: Sequence[Path], device: str) -> Iterator[Tensor]:
    for sample, stream in zip(samples, map(stream_of, points), strict=True):
        if not stream.is_file():
            raise BadData(f"there is no stream of {sample.id}: a set of frames is scored where every clip was coded")
        yield read(codec, stream.read_bytes(), as_batch(sample.load(), device).shape)
