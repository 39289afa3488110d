"""What a submitter gives: files and folders in which each clip is called as the sample that it is of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry
from robustcodec.data._images import IMAGE_SUFFIXES, read_image, read_sequence, sequence_paths
from robustcodec.data._video import VIDEO_SUFFIXES, read_video
from robustcodec.data._walking import folders_below
from robustcodec.errors import BadData, BoardError
from robustcodec.running.store import Store

IMAGES, VIDEOS, ARRAY = (".png", ".bmp", ".tif", ".tiff", ".ppm"), (".mkv", ".y4m"), ".npy"
KEEPING = (*IMAGES, *VIDEOS, ARRAY)  # formats that lose nothing
KNOWN = {*KEEPING, *IMAGE_SUFFIXES, *VIDEO_SUFFIXES}
ADVERSARIAL = "adversarial"  # what `robustcodec attack` calls it, in a folder that is called as the sample


@dataclass(frozen=True)
class Given:
    """A clip of ``sample``. ``where``: how messages call it; ``load`` gives uint8 ``(T, 3, H, W)``, or raises
    :class:`BadData`.
    """

    sample: str
    where: str
    load: Callable[[], Tensor]


def given(paths: Iterable[Path], board: Board, entry: Entry, threat: str) -> tuple[list[Given], list[str]]:
    """The clips at ``paths``, and a line for each file that cannot be one.

    A path is a file, a folder of numbered images that is one clip, a folder that `robustcodec attack` wrote, a run
    folder (of which the clips count that were crafted for the entry's codec under ``threat``), or a folder of any of
    them. Raises :class:`BoardError` for a path that is not there.
    """
    found: list[Given] = []
    faults: list[str] = []
    for path in paths:
        if path.is_dir():
            items: Iterable[Given | str] = _in_folder(path, board, entry, threat)
        elif path.is_file():
            items = [_file(path, path.parent, board.samples)]
        else:
            raise BoardError(f"{path} is not there; expected images or clips, or folders of them")
        for item in items:
            if isinstance(item, Given):
                found.append(item)
            else:
                faults.append(item)
    return found, faults


def _in_folder(root: Path, board: Board, entry: Entry, threat: str) -> Iterator[Given | str]:
    whole: list[Path] = []  # folders of which everything is known
    for folder in folders_below(root):
        if any(done in folder.parents for done in whole):
            continue
        own = [path for path in sorted(folder.glob(f"{ADVERSARIAL}.*")) if path.suffix in KEEPING]
        if (folder / "grid.toml").is_file():
            yield from _in_run(folder, board, entry, threat)
        elif own:
            yield _file(own[0], root, board.samples)
        elif (name := _called(folder, root, board.samples)) and sequence_paths(folder):
            yield Given(name, str(folder), partial(read_sequence, folder))
        else:
            files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in KNOWN and path.is_file()]
            yield from (_file(path, root, board.samples) for path in files if not path.name.startswith("."))
            continue
        whole.append(folder)


def _in_run(root: Path, board: Board, entry: Entry, threat: str) -> Iterator[Given | str]:
    store, found = Store.existing(root), set[str]()
    wanted = (board.data, entry.codec, threat)
    for cell in store.grid().cells():
        if (cell.data, cell.codec, cell.threat) != wanted:
            continue
        for sample in cell.samples():
            made = cell.craft_id(sample)
            if made not in found and sample.id in board.samples and store.holds_clip(made):
                found.add(made)
                yield Given(sample.id, f"{root}: {cell}", partial(_kept, store, made))
    if not found:
        yield f"{root} is a run that keeps no clip of {board.data} crafted on {entry.codec} at {threat}"


def _kept(store: Store, made: str) -> Tensor:
    if (kept := store.clip(made)) is None:
        raise BadData(f"{store.root} has lost the clip {made} meanwhile; run it again")
    return kept[0]


def _file(path: Path, root: Path, samples: Collection[str]) -> Given | str:
    suffix, place = path.suffix.lower(), path.with_suffix("")
    if suffix not in KEEPING:
        what = "may lose pixels" if suffix in KNOWN else "is no image and no clip by its name"
        return f"{path} {what}; expected what is kept whole: {', '.join(KEEPING)}"
    if (name := _called(place.parent if place.name == ADVERSARIAL else place, root, samples)) is None:
        some = ", ".join(sorted(samples)[:3])
        return f"{path} is called as no sample of the board; expected one of {len(samples)} names: {some} …"
    read = read_image if suffix in IMAGES else read_video if suffix in VIDEOS else _read_array
    return Given(name, str(path), partial(read, path))


def _called(place: Path, root: Path, samples: Collection[str]) -> str | None:
    """The sample that a path without suffix names: all of it below ``root``, or its end."""
    names = [place.relative_to(root).as_posix()] if place.is_relative_to(root) else []
    return next((name for name in (*names, place.name, place.resolve().name) if name in samples), None)


def _read_array(path: Path) -> Tensor:
    """A ``.npy`` file: uint8 ``(T, 3, H, W)``, or a picture ``(H, W, 3)``."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"{path} is no array of numbers ({error}); expected one that numpy.save wrote") from None
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise BadData(f"{path} holds {getattr(array, 'dtype', 'several arrays')}; expected uint8")
    if array.ndim == 3 and array.shape[2] == 3:
        array = array.transpose(2, 0, 1)[None]
    if array.ndim != 4 or array.shape[1] != 3:
        raise BadData(f"{path} has the shape {array.shape}; expected (T, 3, H, W), or (H, W, 3) of one picture")
    return torch.from_numpy(np.ascontiguousarray(array))
