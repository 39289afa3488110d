"""What readers of the documentation have in their folder: belongings.py FOLDER. All of it is cut from what ships.

photo.png (192 × 128), my/photos/{cat,coffee,rocket}.png (96 × 96), clip.y4m, my/clips/{one,two}.y4m (96 × 80).
"""

from __future__ import annotations

import sys
from pathlib import Path

from robustcodec.data._images import write_image
from robustcodec.data._video import write_y4m
from robustcodec.registry import data

folder = Path(sys.argv[1])
for name in ("photos", "clips"):
    (folder / "my" / name).mkdir(parents=True)
photos = [sample.load() for sample in data.build("photos").samples()]
clips = [sample.load() for sample in data.build("clips:frames=8,size=96").samples()[:3]]
write_image(photos[0][..., :128, :192], folder / "photo.png")
for name, photo in zip(("cat", "coffee", "rocket"), photos[1:], strict=False):
    write_image(photo[..., :96, :96], folder / "my" / "photos" / f"{name}.png")
for path, clip in zip(("clip", "my/clips/one", "my/clips/two"), clips, strict=True):
    write_y4m(clip[..., :80, :].contiguous(), folder / f"{path}.y4m", fps=25)
