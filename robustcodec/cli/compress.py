"""``robustcodec compress``: an image to a file of exactly the bytes that count."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

from robustcodec.cli._document import say

LIMIT = "ROBUSTCODEC_MAX_PIXELS"  # as robustcodec.stream has it, which takes a second to import


def command(
    image: Annotated[Path, typer.Argument(help="8-bit RGB image.")],
    codec: Annotated[str, typer.Option(help="Codec, such as bmshj2018-hyperprior.tiny-q2 or jpeg:quality=30.")],
    output: Annotated[Path, typer.Option("--out", "--output", "-o", help="File to write, such as photo.rc.")],
    defense: Annotated[str, typer.Option(help="Defense to put around the codec.")] = "none",
    max_pixels: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, envvar=LIMIT, help="Frames x height x width of the largest clip that is written."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> None:
    """Compress an image or a clip, and say how large and how good the result is.

    The file holds one sample's stream and nothing else. The scores are of what its bytes decode to, in 8 bits.

    Examples:

        robustcodec compress photo.png --codec bmshj2018-hyperprior.tiny-q2 -o photo.rc

        robustcodec compress photo.png --codec jpeg:quality=30 -o photo.jpg --json

        robustcodec compress clip.y4m --codec rdae.tiny-q2 -o clip.rc
    """
    check_target(output, image, force)
    allow(max_pixels)
    from robustcodec.cli._console import Console

    console = Console(stderr=json)
    with console.status("compressing …"):
        import math

        from robustcodec.clips import as_batch
        from robustcodec.coding import code, judged
        from robustcodec.data._images import read_image
        from robustcodec.data._video import VIDEO_SUFFIXES, read_video
        from robustcodec.scores.metrics import of_every_run
        from robustcodec.scores.rate import bpp

        read = read_video if image.suffix.lower() in VIDEO_SUFFIXES else read_image
        clip, built = read(image), judged(codec, defense)
        coded = code(built, clip)
        x, x_hat = as_batch(clip), as_batch(coded.decoded())
        scores = {metric.name: metric.fn(x, x_hat).item() for metric in of_every_run()}
    write(output, lambda path: path.write_bytes(coded.stream))
    height, width = x.shape[-2:]
    result = {
        "codec": built.card.name,
        "width": width,
        "height": height,
        "frames": x.shape[1],
        "bytes": len(coded.stream),
        "bpp": bpp(coded.bits, x.shape),
        **{name: score if math.isfinite(score) else None for name, score in scores.items()},
    }
    if json:
        say(result, indent=None)
        return
    quality = f"{scores['psnr']:.2f} dB PSNR, {scores['ms_ssim']:.4f} MS-SSIM"
    if not math.isfinite(scores["ms_ssim"]):
        quality = f"{scores['psnr']:.2f} dB PSNR (too small for MS-SSIM)"
    frames = f"{x.shape[1]} frames, " if x.shape[1] > 1 else ""
    size = f"{frames}{len(coded.stream)} bytes, {result['bpp']:.4f} bpp"
    console.print(f"{output}: {width}x{height}, {size}, {quality}", highlight=False, soft_wrap=True)


def allow(max_pixels: int | None) -> None:
    """Let streams hold so many pixels, whatever was allowed before; None: as before."""
    if max_pixels is not None:
        os.environ[LIMIT] = str(max_pixels)


def check_target(output: Path, source: Path, force: bool) -> None:
    """Raise :class:`UserError` if ``output`` cannot or should not be written, before any work is done."""
    from robustcodec.errors import UserError

    if not output.parent.is_dir() or (output.exists() and not output.is_file()):
        raise UserError(f"cannot write {output}: expected a file name in a folder that exists")
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"{output} is the input; give another --output")
    if output.exists() and not force:
        raise UserError(f"{output} exists; give another --output, or --force to overwrite it")


def write(output: Path, save: Callable[[Path], object]) -> None:
    """Let ``save`` write ``output`` whole or not at all; raises :class:`UserError` if the system refuses."""
    from robustcodec.errors import UserError
    from robustcodec.files import whole

    try:
        with whole(output) as partial:
            save(partial)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}; give another --output") from None
