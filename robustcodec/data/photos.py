"""Named sets of photographs: ``photos``, which scikit-image brings (https://scikit-image.org), and ``kodak``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from torch import Tensor

from robustcodec import weights
from robustcodec.clips import centre_crop
from robustcodec.data._images import read_image
from robustcodec.data._samples import image_sample
from robustcodec.errors import BadData
from robustcodec.files import Stamp, stamp
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data


@data.register("photos")
@dataclass(frozen=True)
class Photos(DataSet):
    """Colour photographs that ship with scikit-image, cropped to a central square.

    ``size``: side of the square in pixels; a photograph with a shorter side keeps all of it.
    """

    size: int = 256

    NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "hubble_deep_field")

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}; expected at least 1 pixel")

    def samples(self) -> list[Sample]:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        paths = [next(folder.glob(f"{name}.*"), folder / f"{name}.png") for name in self.NAMES]
        return [Sample(path.stem, partial(_square, path, self.size), path) for path in paths]


def whole(path: Path) -> Tensor:
    """One of the photographs, decoded once per process: every cell of a run asks for it. It is not to be changed."""
    return _decoded(path, stamp(path))


@lru_cache(maxsize=len(Photos.NAMES))
def _decoded(path: Path, _: Stamp | None) -> Tensor:
    return read_image(path)


def _square(path: Path, size: int) -> Tensor:
    return centre_crop(whole(path), size).clone()


@data.register("kodak")
@dataclass(frozen=True)
class Kodak(DataSet):
    """The 24 Kodak PhotoCD images, 768x512 or 512x768, downloaded once and checked.

    They are looked for in ``path`` or ``$ROBUSTCODEC_KODAK``, then in the cache, then at r0k.us. ``crop`` > 0 keeps the
    central square of that many pixels.
    """

    path: str | None = None
    crop: int = 0

    URL = "https://r0k.us/graphics/kodak/kodak"

    def samples(self) -> list[Sample]:
        given = self.path or os.environ.get("ROBUSTCODEC_KODAK")
        root = Path(given).expanduser() if given else weights.cache_dir() / "kodak"
        if given and not root.is_dir():
            raise BadData(f"{root} is not a folder; expected the 24 Kodak images kodim01.png to kodim24.png")
        found = []
        for number, digest in enumerate(KODAK_SHA256, start=1):
            name = f"kodim{number:02}"
            path = weights.fetch(f"{self.URL}/{name}.png", digest, root / f"{name}.png")
            found.append(image_sample(name, path, self.crop))
        return found


KODAK_SHA256 = (
    "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
    "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
    "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
    "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
    "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
    "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
    "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
    "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
    "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
    "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
    "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
    "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
    "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
    "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
    "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
    "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
    "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
    "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
    "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
    "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
    "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
    "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
    "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
    "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
)
