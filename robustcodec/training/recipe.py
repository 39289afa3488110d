"""Everything that decides a trained model.

The loss is ``beta · rate + lmbda · distortion + gamma · features + rho · adversarial``. With the defaults that is
bpp + λ·255²·MSE (Ballé et al., 2018, https://arxiv.org/abs/1802.01436); with the last two terms it is Eq. 5 of
"Adversarial Distortion for Learned Video Compression" (https://arxiv.org/abs/2004.09508).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal

from robustcodec.errors import UserError
from robustcodec.training.settings import Setting
from robustcodec.weights import Storage

LOSS, GAN, LOOP, CODEC = "Loss", "Feature and adversarial terms", "Optimisation", "Codec"  # panels of --help
MEASURE = "Validation"
Distortion = Literal["mse", "l1", "ms-ssim"]
GanForm = Literal["dcgan", "dcgan-ns", "wgan-clip", "wgan-gp", "lsgan", "ragan"]
Sampling = Literal["area", "uniform"]


@dataclass(frozen=True)
class CropShape:
    """What a batch looks like: ``batch`` crops of ``frames`` frames and ``size`` × ``size`` pixels, each shrunk from
    a region that is larger by up to 1 / ``scale``, as far as its sample is.
    """

    batch: int
    frames: int
    size: int
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.size}x{self.size} pixels"


@dataclass(frozen=True)
class Recipe:
    """All settings of the training of a codec."""

    codec: Annotated[str, Setting("What to train: FAMILY:weights=random, a checkpoint to start from, or diffpure.")]
    name: Annotated[str, Setting("Tag of the result: FAMILY.NAME.safetensors.")]
    data: Annotated[tuple[str, ...], Setting("Training data, such as folder:photos. Repeatable.")]
    lmbda: Annotated[float, Setting("Weight λ of the distortion: λ·255²·MSE, λ·255·L1 or λ·(1 − MS-SSIM).", LOSS)]
    metric: Annotated[Distortion, Setting("Distortion.", LOSS)] = "mse"
    beta: Annotated[float, Setting("Weight β of the rate.", LOSS)] = 1.0
    rate_unit: Annotated[
        Literal["bpp", "symbol"], Setting("The rate in bits per pixel or per latent symbol.", LOSS)
    ] = "bpp"
    rate_warmup: Annotated[
        float, Setting("Share of the steps over which the weight of the rate grows from 0.", LOSS)
    ] = 0.0
    rho: Annotated[float, Setting("Weight ρ of the adversarial loss.", GAN)] = 0.0
    gan: Annotated[
        GanForm | None, Setting("Form of the adversarial loss; none, with --rho 0: without what a recipe says.", GAN)
    ] = None
    discriminators: Annotated[
        Literal["tiny", "paper"], Setting("Size of the pair; paper: ResNet-34 on frames, 3-D ResNet on clips.", GAN)
    ] = "tiny"
    discriminator_lr: Annotated[float, Setting("Learning rate of the discriminators.", GAN)] = 1e-4
    discriminator_steps: Annotated[int, Setting("First steps, which train the discriminators alone.", GAN)] = 0
    n_critic: Annotated[
        int | None,
        Setting("Steps of the discriminators per step of the codec. Default: as the form's authors do.", GAN),
    ] = None
    resnet34_weights: Annotated[
        str | None,
        Setting(
            "Of the paper's frame discriminator: PATH, download or scratch. Default: torch's cache or scratch.", GAN
        ),
    ] = None
    gamma: Annotated[float, Setting("Weight γ of the feature distance.", GAN)] = 0.0
    feature: Annotated[
        Literal["vgg19", "lpips-alex", "lpips-vgg", "lpips-squeeze"],
        Setting("Features: VGG-19 as in the paper, or LPIPS as in HiFiC.", GAN),
    ] = "vgg19"
    vgg_weights: Annotated[
        str | None,
        Setting("PATH, download, required or random. Default: torch's cache, or the term is off.", GAN),
    ] = None
    feature_layer: Annotated[
        Literal["conv5_4", "relu5_4"], Setting("VGG-19 features before or after the activation.", GAN)
    ] = "conv5_4"
    steps: Annotated[int, Setting("Optimiser steps.", LOOP)] = 20_000
    batch: Annotated[int, Setting("Crops per step.", LOOP)] = 8
    crop: Annotated[int, Setting("Side of a crop in pixels; MS-SSIM needs more than 160.", LOOP)] = 128
    frames: Annotated[int, Setting("Frames of a crop.", LOOP)] = 1
    sampling: Annotated[Sampling, Setting("area: all data in memory. uniform: read when needed.", LOOP)] = "area"
    scale: Annotated[
        float, Setting("Smallest factor that a crop is shrunk by at random, from a larger region; 1: never.", LOOP)
    ] = 1.0
    late_crop: Annotated[
        int | None, Setting("Side of the crops of the last steps. Default: --crop to the end.", LOOP)
    ] = None
    late_share: Annotated[float, Setting("Share of the steps that --late-crop is for.", LOOP)] = 0.25
    late_batch: Annotated[int | None, Setting("Crops per step there. Default: as many pixels as before.", LOOP)] = None
    lr: Annotated[float, Setting("Peak learning rate of Adam.", LOOP)] = 5e-4
    aux_lr: Annotated[float, Setting("Learning rate of the auxiliary optimiser (bottleneck quantiles).", CODEC)] = 1e-3
    schedule: Annotated[Literal["cosine", "constant"], Setting("Course of the learning rate.", LOOP)] = "cosine"
    warmup: Annotated[
        float | None,
        Setting("Share of the steps over which it rises linearly. Default: 0.02, or 0 if it is constant.", LOOP),
    ] = None
    final_lr: Annotated[float, Setting("Share of the peak that the cosine ends at.", LOOP)] = 0.02
    clip: Annotated[float, Setting("Largest gradient norm.", LOOP)] = 1.0
    ema: Annotated[float, Setting("Decay of the weights' moving average.", LOOP)] = 0.999
    seed: Annotated[int, Setting("Seed of crops, noise and initial weights.", LOOP)] = 0
    precision: Annotated[
        Literal["float32", "bfloat16"], Setting("Precision of the convolutions (bfloat16: AMP).", LOOP)
    ] = "float32"
    validate: Annotated[
        str | None, Setting("Data set; its first 8 samples, 256 pixels of each. Default: none.", MEASURE)
    ] = None
    validate_every: Annotated[int, Setting("Steps between validations.", MEASURE)] = 500
    grow: Annotated[
        str | None,
        Setting("Widths, such as N=128,M=192: train a wider codec that begins as this one. Default: as it is.", CODEC),
    ] = None
    borrow: Annotated[
        str | None,
        Setting("A trained codec: begin with its values where name and shape are the same. Default: nothing.", CODEC),
    ] = None
    borrow_only: Annotated[
        str | None, Setting("Parts to borrow by name, such as g_a,g_s for the transforms. Default: all.", CODEC)
    ] = None
    hold: Annotated[float, Setting("Share of the steps, the first, that keep what was borrowed.", CODEC)] = 0.0
    storage: Annotated[Storage, Setting("Of the result; int8: kernels in 8 bits, half the size.")] = "float16"

    unused: ClassVar[frozenset[str]] = frozenset()  # settings that this kind of training does not have

    def __post_init__(self) -> None:
        usual = {f.name: f.default for f in fields(self)}
        if useless := [name for name in usual if name in self.unused and getattr(self, name) != usual[name]]:
            raise UserError(
                f"{', '.join(useless)} would change nothing in the training of {self.codec}; leave it out. What "
                f"counts: {', '.join(sorted(set(usual) - self.unused - {'codec'}))}"
            )
        if self.metric == "ms-ssim" and self.crop <= 160:
            raise UserError(f"--crop {self.crop} is too small for MS-SSIM's five scales; use 161 or more, such as 192")
        if self.steps < 1 or self.batch < 1 or self.lmbda <= 0:
            raise UserError(f"steps={self.steps}, batch={self.batch}, lmbda={self.lmbda}; each must be positive")
        for name in ("late_share", "warmup", "final_lr", "hold"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise UserError(f"{name}={getattr(self, name)}; expected a share in [0, 1]")
        if not 0 < self.scale <= 1:
            raise UserError(f"scale={self.scale}; expected a factor above 0 and at most 1")
        if self.validate_every < 1 or min(self.late_crop or 1, self.late_batch or 1) < 1:
            raise UserError(
                f"validate_every={self.validate_every}, late_crop={self.late_crop}, late_batch={self.late_batch}; "
                "expected at least 1 of each"
            )
        if self.n_critic is not None and self.n_critic < 1:
            raise UserError(f"n_critic={self.n_critic}; expected at least one step of the discriminators")
        if self.borrow is None and (self.hold or self.borrow_only):
            raise UserError(
                f"hold={self.hold:g}, borrow_only={self.borrow_only} are about what is borrowed, and nothing is; give "
                "--borrow CODEC, too"
            )
        if (self.gan is None) != (self.rho == 0):
            raise UserError(f"gan={self.gan} with rho={self.rho:g}; give both a GAN form and its weight, or neither")

    @property
    def shapes(self) -> tuple[CropShape, CropShape]:
        """Of the batches of the first steps, and of those from :attr:`late_start` on."""
        late = self.late_crop or self.crop
        batch = self.late_batch or max(1, round(self.batch * (self.crop / late) ** 2))
        return (
            CropShape(self.batch, self.frames, self.crop, self.scale),
            CropShape(batch, self.frames, late, self.scale),
        )

    @property
    def late_start(self) -> int:
        """The first step with late crops; ``steps`` if there is none."""
        return self.steps - (round(self.late_share * self.steps) if self.late_crop else 0)

    @property
    def folder(self) -> str:
        """Default name of the training folder."""
        return f"{self.codec.split(':')[0].split('.')[0]}.{self.name}"
