"""Every attack of foolbox, by name (Rauber et al., 2020, https://doi.org/10.21105/joss.02607; version 3.3.4).

The library sees the codec as a classifier of two classes, "fine" and "damaged", see
:mod:`robustcodec.attacks._classifier`.
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
    """An attack of the library foolbox, such as ``foolbox:L2CarliniWagnerAttack,options=steps=100``.

    ``name`` is the name of a class of the library, with or without ``Attack`` at its end, or one of the library's short
    names (``PGD``). ``options`` are arguments for its constructor, as ``key=value``, separated by semicolons. Attacks
    of a fixed size also take the option ``epsilon``. Without it they get the radius of the threat, if the threat has
    their norm; for another norm they get a radius whose ball holds the threat's. An L∞ attack under an L2 threat is the
    exception: it gets the epsilon at which ±epsilon on every value has the threat's radius. An attack that looks for
    the smallest perturbation is followed by a search for the smallest multiple of its result that breaks the codec in 8
    bits.

    ``scale`` multiplies the logits of the classifier (positive). ``start``: where the library asks for the gradient at
    the clean clip, it is taken at this fraction, in (0, 1], of a random allowed perturbation. ``surrogate`` says how a
    gradient passes the rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``,
    ``noise``, ``straight-through`` or ``none``.

    Noise attacks that repeat until the model is fooled return the clean clip if they never succeed.

    Raises :class:`ValueError` for a name or an option that the library does not have, :class:`MissingDependency` for an
    attack that needs a further package, and :class:`AttackError` for attacks that cannot work on a codec and where the
    clean clip counts as broken already.
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
