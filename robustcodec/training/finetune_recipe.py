"""Everything that decides how a trained codec is made robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from robustcodec.errors import UserError
from robustcodec.training.recipe import CODEC, LOSS, MEASURE, Recipe
from robustcodec.training.settings import Setting

ATTACK = "What is learned from"  # a panel of --help
Freeze = Literal["none", "encoder", "decoder", "prior"]


@dataclass(frozen=True)
class FinetuneRecipe(Recipe):
    """How a trained codec is made robust. With x* what ``attack`` makes of x, and C the codec, the loss is

    ``(1 − adversarial)·[λ·D(C(x), x) + β·R(x)] + adversarial·[λ·D(C(x*), target) + β·R(x*)]`` plus

    ======================  =========================================================================================
    ``consistency``         · λ·D(C(x*), C(x)), after TRADES (Zhang et al., 2019, https://arxiv.org/abs/1901.08573)
    ``gradient_penalty``    · λ·first-order rise of D(C(x*), x) over the threat, the dual norm of its gradient
                            (Ross & Doshi-Velez, 2018, https://arxiv.org/abs/1711.09404)
    ``lipschitz``           · ‖y(x*) − y(x)‖² / ‖x* − x‖² of the latents
    ``rate_robustness``     · β·max(0, R(x*) − R(x))
    ======================  =========================================================================================

    The recipe of Chen & Ma, 2023 (https://arxiv.org/abs/2112.08691) is ``adversarial=1, target="own"`` with a ``ramp``.
    """

    codec: Annotated[
        str, Setting("A trained codec: FAMILY.TAG, FAMILY:weights=FILE, or the path of a .safetensors file.")
    ]
    name: Annotated[str, Setting("Tag of the result: FAMILY.NAME.safetensors. Default: TAG-at.")]
    lmbda: Annotated[
        float, Setting("Weight λ of the distortion, as in train. Default, as of metric and GAN: the codec's own.", LOSS)
    ]
    steps: int = 2000
    lr: float = 1e-4
    ema: float = 0.99
    attack: Annotated[str, Setting("Inner attack, such as fgsm.", ATTACK)] = "pgd:steps=3,step_size=0.5"
    objective: Annotated[str, Setting("What it maximises.", ATTACK)] = "source-distortion"
    threat: Annotated[str, Setting("Its budget.", ATTACK)] = "psnr:40"
    ramp: Annotated[float, Setting("Share of the steps over which the budget grows from 0.", ATTACK)] = 0.0
    free: Annotated[
        int,
        Setting("Replays of every batch, attacked with the updates' own gradients (free training); 0: none.", ATTACK),
    ] = 0
    adversarial: Annotated[
        float, Setting("Weight of attacked samples in rate and distortion; clean ones have 1 − this.", LOSS)
    ] = 0.5
    target: Annotated[
        Literal["clean", "own"],
        Setting("What an attacked reconstruction is compared with: the source, or its own input.", LOSS),
    ] = "clean"
    consistency: Annotated[float, Setting("Weight of λ·D(C(x*), C(x)), as in TRADES.", LOSS)] = 0.0
    gradient_penalty: Annotated[
        float, Setting("Weight of the first-order rise of the distortion over the budget.", LOSS)
    ] = 0.0
    lipschitz: Annotated[float, Setting("Weight of ‖y(x*) − y(x)‖² / ‖x* − x‖² of the latents.", LOSS)] = 0.0
    rate_robustness: Annotated[float, Setting("Weight of the bits that an attack adds.", LOSS)] = 0.0
    rounding: Annotated[
        Literal["own", "noise", "straight-through"],
        Setting(
            "How latents are rounded for the pictures in the loss; its rates keep the codec's own way. own: as it "
            "trains; straight-through: for real, so that the loss sees what an attack does to the rounding.",
            CODEC,
        ),
    ] = "own"
    freeze: Annotated[Freeze, Setting("What stays; decoder: streams still decode in the old decoder.", CODEC)] = "none"
    validate: Annotated[
        str | None,
        Setting("Data set; its first 8 clips count. Default: photos, or clips for video.", MEASURE),
    ] = None
    validate_every: Annotated[int, Setting("Steps between validations, which are also checkpoints.", MEASURE)] = 100
    validate_attack: Annotated[str, Setting("Attack on the validation clips.", MEASURE)] = "pgd:steps=20"
    validate_threat: Annotated[str | None, Setting("Its budget. Default: --threat.", MEASURE)] = None
    attacked: Annotated[int, Setting("How many of the validation clips are attacked.", MEASURE)] = 4
    balance: Annotated[
        float, Setting("Share of attacked clips in the score that chooses the best weights.", MEASURE)
    ] = 0.5
    patience: Annotated[int, Setting("Validations without a better score before stopping; 0: never.", MEASURE)] = 0

    unused = frozenset({"rate_warmup", "grow", "borrow", "borrow_only", "hold"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ramp", "adversarial", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)}; expected a share in [0, 1]")
        for name in ("consistency", "gradient_penalty", "lipschitz", "rate_robustness", "free", "patience"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}={getattr(self, name)}; expected a number of at least 0")
        if self.storage == "int8" and self.freeze == "decoder":
            raise UserError("storage=int8 rounds the decoder, which freeze=decoder keeps as it is; use storage=float16")
        if self.attacked < 1:
            raise UserError(f"attacked={self.attacked}; expected at least 1 of the validation clips")
        if not (self.adversarial or self.compares or self.gradient_penalty):
            raise UserError(
                "no term of this loss sees an attacked clip; give --adversarial, --consistency or a penalty"
            )

    @property
    def compares(self) -> bool:
        """Whether a term needs both C(x) and C(x*)."""
        return bool(self.consistency or self.lipschitz or self.rate_robustness)
