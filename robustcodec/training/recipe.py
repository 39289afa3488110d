"""Everything that decides a trained model, and files of it.

The loss is ``beta · rate + lmbda · distortion + gamma · features + rho · adversarial``. With the defaults that is
bpp + λ·255²·MSE (Ballé et al., 2018, https://arxiv.org/abs/1802.01436); with the last two terms it is Eq. 5 of
"Adversarial Distortion for Learned Video Compression" (https://arxiv.org/abs/2004.09508). A finetune adds what makes
a codec robust: see :class:`FinetuneRecipe`.

A recipe file is TOML with the names below; options of the command line come before it. ``[[variant]]`` tables, each
with a ``name``, make one training run per variant: an ablation.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from robustcodec.errors import UserError
from robustcodec.training.crops import Sampling
from robustcodec.weights import Storage

Distortion = Literal["mse", "l1", "ms-ssim"]
Freeze = Literal["none", "encoder", "decoder", "prior"]
R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True)
class Recipe:
    """``codec``: ``…:weights=random`` or a checkpoint to start from; ``name``: the tag of the result."""

    codec: str
    name: str
    data: tuple[str, ...]
    lmbda: float  # weight of the distortion: 255²·MSE, 255·mean absolute difference, or 1 − MS-SSIM
    metric: Distortion = "mse"
    beta: float = 1.0  # weight of the rate
    rate_unit: Literal["bpp", "symbol"] = "bpp"  # bits per pixel, or per latent symbol
    rate_warmup: float = 0.0  # share of the steps over which the weight of the rate grows from 0
    rho: float = 0.0  # weight of the adversarial loss
    gan: str | None = None  # dcgan, dcgan-ns, wgan-clip, wgan-gp, lsgan, ragan
    discriminators: Literal["tiny", "paper"] = "tiny"
    discriminator_lr: float = 1e-4
    discriminator_steps: int = 0  # first steps, which train the discriminators alone
    n_critic: int | None = None  # steps of the discriminators per step of the codec; None: as the form's authors do
    resnet34_weights: str | None = None  # of the paper's frame discriminator: a path, download, scratch; None: cache
    gamma: float = 0.0  # weight of the feature loss
    feature: Literal["vgg19", "lpips-alex", "lpips-vgg", "lpips-squeeze"] = "vgg19"
    vgg_weights: str | None = None  # a path, download, required, random; None: the cache, or the term is off
    feature_layer: Literal["conv5_4", "relu5_4"] = "conv5_4"
    steps: int = 20_000
    batch: int = 8
    crop: int = 128  # pixels; MS-SSIM needs more than 160
    frames: int = 1
    sampling: Sampling = "area"
    lr: float = 5e-4
    aux_lr: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.999
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    validate: str | None = None  # a data set; its first 8 samples, centre-cropped to 256 pixels

    def __post_init__(self) -> None:
        if self.metric == "ms-ssim" and self.crop <= 160:
            raise UserError(f"--crop {self.crop} is too small for MS-SSIM's five scales; use 161 or more, such as 192")
        if self.steps < 1 or self.batch < 1 or self.lmbda <= 0:
            raise UserError(f"steps={self.steps}, batch={self.batch}, lmbda={self.lmbda}; each must be positive")
        if self.n_critic is not None and self.n_critic < 1:
            raise UserError(f"n_critic={self.n_critic}; expected at least one step of the discriminators")
        if (self.gan is None) != (self.rho == 0):
            raise UserError(f"gan={self.gan} with rho={self.rho:g}; give both a GAN form and its weight, or neither")

    @property
    def folder(self) -> str:
        """Default name of the training folder."""
        return f"{self.codec.split(':')[0].split('.')[0]}.{self.name}"


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

    steps: int = 2000
    lr: float = 1e-4
    ema: float = 0.99
    attack: str = "pgd:steps=3,step_size=0.5"
    objective: str = "source-distortion"
    threat: str = "psnr:40"
    ramp: float = 0.0  # share of the steps over which the budget grows from 0
    free: int = 0  # replays of every batch, perturbed along the updates' own gradients; 0: ``attack`` crafts
    adversarial: float = 0.5
    target: Literal["clean", "own"] = "clean"  # what C(x*) is compared with: x, or x*
    consistency: float = 0.0
    gradient_penalty: float = 0.0
    lipschitz: float = 0.0
    rate_robustness: float = 0.0
    freeze: Freeze = "none"  # decoder: all that decoding needs, so that an encoder is trained for the old decoder
    storage: Storage = "float16"  # of the result; int8: kernels in half the bytes
    validate_every: int = 100  # steps
    validate_attack: str = "pgd:steps=20"
    validate_threat: str | None = None  # None: ``threat``
    attacked: int = 4  # of the validation clips
    balance: float = 0.5  # share of the attacked clips in the score that chooses the best weights
    patience: int = 0  # validations without a better score before stopping; 0: never

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
        if self.validate_every < 1 or self.attacked < 1:
            raise UserError(
                f"validate_every={self.validate_every}, attacked={self.attacked}; expected at least 1 of each"
            )
        if not (self.adversarial or self.compares or self.gradient_penalty):
            raise UserError(
                "no term of this loss sees an attacked clip; give --adversarial, --consistency or a penalty"
            )

    @property
    def compares(self) -> bool:
        """Whether a term needs both C(x) and C(x*)."""
        return bool(self.consistency or self.lipschitz or self.rate_robustness)


@dataclass(frozen=True)
class RecipeFile(Generic[R]):
    """Settings of a recipe of one ``kind``, some or all, and the variants of an ablation."""

    settings: dict[str, Any]
    variants: tuple[dict[str, Any], ...] = ()
    kind: type[R] = Recipe  # type: ignore[assignment]

    @classmethod
    def read(cls, name: str, kind: type[R] = Recipe) -> RecipeFile[R]:  # type: ignore[assignment]
        """A TOML file by path, or one that ships by name; raises :class:`UserError` for anything else."""
        shipped = files("robustcodec.zoo") / "recipes"
        path = Path(name)
        if path.suffix != ".toml":
            path = Path(str(shipped / f"{name}.toml"))
        if not path.is_file():
            known = ", ".join(sorted(Path(e.name).stem for e in shipped.iterdir()))
            raise UserError(f"no recipe {name!r}; give the path of a .toml file or one of {known}")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a TOML file: {error}") from None
        variants = tuple(table.pop("variant", ()))
        for part in (table, *variants):
            if unknown := set(part) - {f.name for f in fields(kind)}:
                finetune = unknown <= {f.name for f in fields(FinetuneRecipe)}
                raise UserError(
                    f"{path} sets {', '.join(sorted(unknown))}, which no recipe has; "
                    f"expected {', '.join(f.name for f in fields(kind))}"
                    + (" (robustcodec finetune takes this recipe)" if finetune else "")
                )
        if any("name" not in v for v in variants):
            raise UserError(f"{path} has a [[variant]] without a name")
        return cls(table, variants, kind)

    def recipes(self, given: dict[str, Any]) -> list[R]:
        """One recipe per variant (or the only one); ``given`` comes before the file. A variant's name is appended.

        Raises :class:`UserError` for settings that are still missing or of the wrong kind.
        """
        settings = {**self.settings, **given}
        missing = [f.name for f in fields(self.kind) if f.default is MISSING and f.name not in settings]
        if missing:
            raise UserError(
                f"the recipe lacks {', '.join(missing)}; give --{' --'.join(missing)} or put it in the file"
            )
        settings["data"] = tuple(settings["data"])
        base = self.kind(**settings)
        return [replace(base, **{**v, "name": f"{base.name}-{v['name']}"}) for v in self.variants] or [base]


def command(recipe: Recipe, inherited: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The command line that trains ``recipe``; ``inherited``: settings that its codec's card gives to a finetune."""
    words = [f"robustcodec {'finetune' if isinstance(recipe, FinetuneRecipe) else 'train'}", recipe.codec]
    usual = {f.name: f.default for f in fields(recipe)} | dict(inherited)
    for key, value in asdict(recipe).items():
        if key == "codec" or value == usual[key]:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            words.append(f"--{key.replace('_', '-')} {'none' if item is None else item}")
    return " ".join(words)
