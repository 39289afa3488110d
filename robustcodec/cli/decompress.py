"""``robustcodec decompress``: a stream back to an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from robustcodec.cli.compress import LIMIT, allow, check_target, write

if TYPE_CHECKING:
    from torch import Tensor


def command(
    stream: Annotated[Path, typer.Argument(help="File that robustcodec compress wrote.")],
    output: Annotated[
        Path, typer.Option("--out", "--output", "-o", help="Image (.png) or clip (.y4m, .mp4) to write.")
    ],
    codec: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Codec that wrote the stream. Default: whichever of those that ship did."),
    ] = None,
    defense: Annotated[str, typer.Option(help="Defense that was around the codec.")] = "none",
    max_pixels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, envvar=LIMIT, help="Frames x height x width of the largest clip that is read."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Decompress a stream into a PNG or, if it holds a clip, a video.

    PNG loses nothing; .y4m (4:4:4) moves values by up to 2 of 255, .mp4 (H.264) is for looking at.

    Examples:

        robustcodec decompress photo.rc -o photo.png

        robustcodec decompress clip.rc -o clip.y4m

        robustcodec decompress photo.rc --codec mbt2018-mean:weights=mine.safetensors -o photo.png
    """
    from robustcodec.errors import StreamError, UserError

    kind = output.suffix.lower()
    if kind not in (".png", ".y4m", ".mp4"):
        raise UserError(f"cannot write {output}: expected a name that ends in .png, or in .y4m or .mp4 for a clip")
    check_target(output, stream, force)
    allow(max_pixels)
    try:
        data = stream.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {stream}: {error.strerror}; expected a file of robustcodec compress") from None
    from robustcodec.cli._console import Console

    console = Console()
    with console.status("decompressing …"):
        from robustcodec.clips import to_uint8
        from robustcodec.coding import judged
        from robustcodec.data._images import write_image
        from robustcodec.data._video import write_mp4, write_y4m

        if codec is None:
            name, clip = _decode_bundled(data, defense)
        else:
            built = judged(codec, defense)
            name, clip = built.card.name, built.decompress([data])[0]
        if len(clip) != 1 and kind == ".png":
            raise StreamError(f"{stream} holds a clip of {len(clip)} frames, a PNG takes one; write a .y4m or .mp4")
    save = {".png": write_image, ".y4m": write_y4m, ".mp4": write_mp4}[kind]
    write(output, lambda path: save(to_uint8(clip), path))
    height, width = clip.shape[-2:]
    console.print(f"{output}: {width}x{height}, {name}", highlight=False, soft_wrap=True)


def _decode_bundled(data: bytes, defense: str) -> tuple[str, Tensor]:
    """Name and clip of the bundled codec that knows this stream: the model id in it lets no other decode it."""
    from robustcodec import registry, weights
    from robustcodec.coding import judged
    from robustcodec.errors import StreamError

    specs = [f"{name}.{tag}" for name in registry.codecs.names() for tag in weights.bundled_tags(name)]
    refusals: list[str] = []
    for spec in specs:
        built = judged(spec, defense)
        try:
            return built.card.name, built.decompress([data])[0]
        except StreamError as error:
            refusals.append(str(error))
    if len(set(refusals)) == 1:  # damage: the same whoever reads it
        raise StreamError(refusals[0])
    raise StreamError(f"none of the {len(specs)} codecs that ship wrote this stream; name its codec with --codec")
