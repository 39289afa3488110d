"""Every attack of torchattacks, by name (Kim, 2020, https://arxiv.org/abs/2010.01950; version 3.5.1).

The library sees the codec as a classifier of two classes, "fine" and "damaged", see
:mod:`robustcodec.attacks._classifier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from robustcodec.attacks._classifier import Classifier
from robustcodec.attacks._foreign import Budget, Foreign, LibraryAttack, constructor
from robustcodec.errors import AttackError
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

LARGEST_SALIENCY_MAP = 3 * 32 * 32  # values of a picture: JSMA scores all pairs of them
LINF = LibraryAttack("Linf", "loss")
CATALOGUE = {
    "VANILA": LibraryAttack("-", "noise", "black"),
    "GN": LibraryAttack("-", "noise", "black"),
    **dict.fromkeys(("FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD"), LINF),
    "APGD": LibraryAttack("Linf, L2", "loss"),
    "APGDT": LibraryAttack("Linf, L2", "loss", classes=4),
    **dict.fromkeys(("DIFGSM", "TIFGSM", "Jitter", "NIFGSM", "PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM"), LINF),
    "SPSA": LibraryAttack("Linf", "loss", "black"),
    "JSMA": LibraryAttack("L0", "minimum"),
    "EADL1": LibraryAttack("L1", "minimum"),
    "EADEN": LibraryAttack("L1, L2", "minimum"),
    "PIFGSM": LINF,
    "PIFGSMPP": LINF,
    "CW": LibraryAttack("L2", "minimum"),
    "PGDL2": LibraryAttack("L2", "loss"),
    "DeepFool": LibraryAttack("L2", "minimum"),
    "PGDRSL2": LibraryAttack("L2", "loss"),
    "SparseFool": LibraryAttack("L0", "minimum"),
    "OnePixel": LibraryAttack("L0", "decision", "black"),
    "Pixle": LibraryAttack("L0", "decision", "black"),
    "FAB": LibraryAttack("Linf, L2, L1", "minimum"),
    "AutoAttack": LibraryAttack("Linf, L2", "loss", classes=4),
    "Square": LibraryAttack("Linf, L2", "loss", "black"),
    "MultiAttack": LibraryAttack("-", "wrapper", cannot="is a list of other attacks; name those, or a suite"),
    "LGV": LibraryAttack("-", "wrapper", cannot="trains the victim's weights, which no attack is shown"),
}


@attacks.register("torchattacks")
@dataclass(frozen=True)
class Torchattacks(Foreign):
    """An attack of the library torchattacks, such as ``torchattacks:VMIFGSM,options=steps=20;N=5``.

    ``name`` is the name of a class of the library. ``options`` are arguments for its constructor, as ``key=value``,
    separated by semicolons. Options that are not given follow the threat. An ``eps`` or ``max_epsilon`` is the threat's
    radius; for an attack of another norm it is the radius at which ±eps on every value has the threat's radius, and
    likewise ``std`` is the deviation at which noise has it. An ``alpha`` is the library's, times the ratio of that
    ``eps`` to the library's. The ``norm`` is the threat's, and the ``seed`` is drawn. An attack that looks for the
    smallest perturbation is followed by a search for the smallest multiple of its result that breaks the codec in 8
    bits.

    ``scale`` multiplies the logits of the classifier (positive). ``start``: where the library asks for the gradient at
    the clean clip, it is taken at this fraction, in (0, 1], of a random allowed perturbation. ``surrogate`` says how a
    gradient passes the rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``,
    ``noise``, ``straight-through`` or ``none``.

    Attacks that return a picture only if it fools the model (APGD, Square …) return the clean clip if the budget does
    not suffice to break the codec.

    Raises :class:`ValueError` for a name or an option that the library does not have, and :class:`AttackError` for
    attacks that cannot work on a codec and where the clean clip counts as broken already.
    """

    library: ClassVar[str] = "torchattacks"
    catalogue: ClassVar[dict[str, LibraryAttack]] = CATALOGUE
    name: str
    options: str = ""
    surrogate: Crafting = "annealed"
    scale: float = 1.0
    start: float = 0.5

    def takes(self) -> dict[str, object]:
        return constructor(self._class(), ("model", "verbose", "attacks", "trainloader", "attack_class"))

    def find(self, model: Classifier, picture: Tensor, budget: Budget, seed: int) -> Tensor:
        if self.full_name == "JSMA" and picture.numel() > LARGEST_SALIENCY_MAP:
            raise AttackError(
                f"torchattacks:JSMA keeps a number for every pair of the {picture.numel()} values of a picture; "
                f"it can be run on up to {LARGEST_SALIENCY_MAP}, such as a crop of 32 by 32"
            )
        labels = picture.new_zeros(1).long()
        found: Tensor = self._class()(model, **self._arguments(budget, seed))(picture, labels)
        return found

    def _class(self) -> Any:
        import torchattacks  # the library: imports are absolute

        return getattr(torchattacks, self.full_name)

    def _arguments(self, budget: Budget, seed: int) -> dict[str, Any]:
        """The given options and, for what the constructor takes, those of the threat."""
        known, given = constructor(self._class(), ("model",)), dict[str, Any](self.given)
        if "norm" in known:
            norm = given.get("norm", "L2" if budget.norm == "l2" else "Linf")
        else:
            norm = self.entry.norm
        size = {"Linf": budget.linf, "L2": budget.l2, "L1": budget.l1}.get(norm, budget.l2)
        ours: dict[str, Any] = {"norm": norm, "seed": seed, "n_classes": self.entry.classes}
        ours |= {"eps": size, "max_epsilon": size, "std": budget.linf}
        if self.full_name == "Jitter":
            del ours["std"]  # of its logits
        if "alpha" in known and "eps" in known:
            ours["alpha"] = known["alpha"] * given.get("eps", size) / known["eps"]
        return {k: v for k, v in ours.items() if k in known} | self.entry.defaults | given
