"""What drawn pictures share: sizes, Pillow's own font, and text broken into lines."""

from __future__ import annotations

from PIL import ImageFont

from robustcodec.errors import MissingDependency

PANEL_WIDTH = 256  # pixels at least, so that a caption is readable under a thumbnail
GAP = 12  # pixels around panels and lines of text
GAIN = 10  # how much a perturbation is enlarged to be seen
GREY = 128


def font_of(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # has the Latin alphabet only: no × and no dash
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise MissingDependency("this Pillow was built without FreeType and cannot write captions: pip install pillow")
    return font


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """``text`` in lines no wider than ``width``: broken between words, inside a word only if it alone is wider."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
