"""Every attack of foolbox, by name (Rauber et al., 2020, https://doi.org/10.21105/joss.02607; version 3.3.4).

The codec is shown to them as a classifier, see :mod:`robustcodec.attacks._classifier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from robustcodec.attacks._classifier import Classifier
from robustcodec.attacks._foreign import Budget, Foreign, LibraryAttack, constructor
from robustcodec.errors import MissingDependency
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

NORMS = ("L1", "L2", "Linf")
ASCENTS = (
    "ProjectedGradientDescentAttack",
    "AdamProjectedGradientDescentAttack",
    "BasicIterativeAttack",
    "AdamBasicIterativeAttack",
    "MomentumIterativeFastGradientMethod",
    "FastGradientAttack",
)
L2_NOISES = [
    f"L2{aware}{repeated}Additive{law}NoiseAttack"
    for aware in ("", "ClippingAware")
    for repeated in ("", "Repeated")
    for law in ("Gaussian", "Uniform")
]
CATALOGUE = {
    **{f"{norm}{rest}": LibraryAttack(norm, "loss") for rest in ASCENTS for norm in NORMS},
    "SparseL1DescentAttack": LibraryAttack("L1", "loss"),
    "VirtualAdversarialAttack": LibraryAttack("L2", "loss", defaults={"steps": 10}),
    "GenAttack": LibraryAttack("Linf", "loss", "black"),
    **{name: LibraryAttack("L2", "noise", "black") for name in L2_NOISES},
    **{f"Linf{r}AdditiveUniformNoiseAttack": LibraryAttack("Linf", "noise", "black") for r in ("", "Repeated")},
    "L2ContrastReductionAttack": LibraryAttack("L2", "noise", "black"),
    "DDNAttack": LibraryAttack("L2", "minimum"),
    "L2CarliniWagnerAttack": LibraryAttack("L2", "minimum"),
    "NewtonFoolAttack": LibraryAttack("L2", "minimum"),
    "EADAttack": LibraryAttack("L1", "minimum"),
    "L2DeepFoolAttack": LibraryAttack("L2", "minimum"),
    "LinfDeepFoolAttack": LibraryAttack("Linf", "minimum"),
    **{f"{norm}BrendelBethgeAttack": LibraryAttack(norm, "minimum") for norm in ("L0", "L1", "L2")},
    "LinfinityBrendelBethgeAttack": LibraryAttack("Linf", "minimum"),
    **{f"{norm}FMNAttack": LibraryAttack(norm, "minimum") for norm in ("L0", "L1", "L2")},
    "LInfFMNAttack": LibraryAttack("Linf", "minimum"),
    **{
        name: LibraryAttack("any", "decision", "black")
        for name in (
            "InversionAttack",
            "BinarySearchContrastReductionAttack",
            "LinearSearchContrastReductionAttack",
            "GaussianBlurAttack",
            "SaltAndPepperNoiseAttack",
            "LinearSearchBlendedUniformNoiseAttack",
        )
    },
    "SpatialAttack": LibraryAttack("-", "decision", "black"),
    "BoundaryAttack": LibraryAttack("L2", "decision", "black"),
    "HopSkipJumpAttack": LibraryAttack("L2, Linf", "decision", "black"),
    "PointwiseAttack": LibraryAttack("L0, L2", "decision", "black"),
    "DatasetAttack": LibraryAttack(
        "any", "decision", "black", cannot="returns another picture of a data set instead of changing this one"
    ),
    "BinarizationRefinementAttack": LibraryAttack(
        "any", "decision", "black", cannot="refines what another attack found on a model that binarises its input"
    ),
}
ALIASES = {
    "FGM": "L2FastGradientAttack",
    "FGSM": "LinfFastGradientAttack",
    "MIFGSM": "LinfMomentumIterativeFastGradientMethod",
    "PGD": "LinfProjectedGradientDescentAttack",
    "AdamPGD": "LinfAdamProjectedGradientDescentAttack",
    **{f"{norm}PGD": f"{norm}ProjectedGradientDescentAttack" for norm in NORMS},
    **{f"{norm}AdamPGD": f"{norm}AdamProjectedGradientDescentAttack" for norm in NORMS},
}


@attacks.register("foolbox")
@dataclass(frozen=True)
class Foolbox(Foreign):
    """``foolbox:L2CarliniWagnerAttack,options=steps=100``: ``name`` with or without ``Attack`` at its end,
    or one of the library's short names (``PGD``).

    ``options`` of its constructor, and ``epsilon`` of attacks of a fixed size: if not given, it is the threat's, the
    radius of its own norm, and of another norm a radius whose ball holds the threat's (of an L∞ attack under an L2
    threat: that at which ±epsilon has the threat's radius). Attacks of smallest perturbations are followed by a
    search for the smallest multiple that, in 8 bits, breaks the codec. ``surrogate``: how gradients pass the rounding
    of latents; ``scale`` of the logits; ``start``: a gradient at the clean clip is taken at so large a share of the
    budget from it.

    Noises that are repeated until the model is fooled give the clean clip back if it is not.
    """

    library: ClassVar[str] = "foolbox"
    catalogue: ClassVar[dict[str, LibraryAttack]] = CATALOGUE
    aliases: ClassVar[dict[str, str]] = ALIASES
    name: str
    options: str = ""
    surrogate: Crafting = "annealed"
    scale: float = 1.0
    start: float = 0.5

    def takes(self) -> dict[str, object]:
        known = constructor(self._class(), ("distance", "init_attack", "tensorboard"))
        return known | ({"epsilon": 0.0} if self._fixed() else {})

    def find(self, model: Classifier, picture: Tensor, budget: Budget, seed: int) -> Tensor:
        import foolbox
        from foolbox.models.pytorch import PyTorchModel

        options: dict[str, Any] = {**self.entry.defaults, **self.given}
        size = options.pop("epsilon", {"Linf": budget.linf, "L2": budget.l2, "L1": budget.l1}.get(self.entry.norm))
        if self.full_name == "HopSkipJumpAttack":
            options.setdefault("constraint", budget.norm)
        if self.full_name == "VirtualAdversarialAttack":
            options.setdefault("xi", self.start * budget.l2)  # a step of 1e-6 is lost among the rounding of floats
        victim = PyTorchModel(model, bounds=(0, 1), device=picture.device)
        labels = picture.new_zeros(1).long()
        criterion: Any = foolbox.criteria.Misclassification(labels)
        if self.full_name == "GenAttack":
            criterion = foolbox.criteria.TargetedMisclassification(labels + 1)
        try:
            attack = self._class()(**options)
            _, found, _ = attack(victim, picture, criterion, epsilons=size if self._fixed() else None)
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"foolbox:{self.full_name} needs {error.name}, which foolbox does not install: pip install {error.name}"
            ) from error
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            return picture  # noise of any size did not break the codec, and it is where the search begins
        return found  # type: ignore[no-any-return]

    def _class(self) -> Any:
        import foolbox

        return getattr(foolbox.attacks, self.full_name)

    def _fixed(self) -> bool:
        """Whether the attack has a budget, rather than finding the smallest perturbation."""
        return self.entry.kind in ("loss", "noise")
