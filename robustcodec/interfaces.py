"""What the pieces are. Everything is a clip: float32 ``(N, T, 3, H, W)`` in [0, 1]; an image has T = 1.

Shapes, ranges and units are fixed here and nowhere else: RGB, batch first, bits (not bits per pixel) per sample, and
damage that is higher when it is worse for the codec. A codec that thinks in 0–255 or YCbCr converts inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from robustcodec import answers
from robustcodec.errors import AttackError, UserError
from robustcodec.rounding import Surrogate

if TYPE_CHECKING:
    from robustcodec.oracle import Oracle

Precision = Literal["float32", "bfloat16"]
Access = Literal["white", "transform", "black"]
YES_NO = "yes/no"  # unit of a score that is 1.0 for yes and 0.0 for no; the mean of several is a share


@dataclass(frozen=True)
class Column:
    """One column of results: how it is called, printed and read wherever it is shown.

    ``name``: in rows, CSV and Parquet. ``label``: in print; by default the name with spaces. ``digits``: decimals in
    print. ``better``: whether ``high`` or ``low`` values speak for the codec, or None if neither does.
    """

    name: str
    meaning: str = ""
    label: str = ""
    unit: str = ""
    digits: int = 2
    better: Literal["high", "low"] | None = None

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name.replace("_", " "))

    @property
    def title(self) -> str:
        """The label with the unit, if the label does not contain it already: ``input PSNR (dB)``."""
        complete = not self.unit or self.unit == YES_NO or self.label.endswith(self.unit)
        return self.label if complete else f"{self.label} ({self.unit})"


class Plugin:
    """What attacks, objectives, threats and defenses have in common: their parameters are their identity.

    ``neutral``: parameters that are younger than published results, each with the value at which it changes nothing. At
    that value an identity leaves the parameter out, so that results keep their names. ``superseded``: parameters whose
    default has changed, each with the default that the first published suites mean when they do not state it.
    """

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    superseded: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def made_on(self) -> list[Sample]:
        """The clips on which this plugin is made; their checksums replace a parameter ``path`` in its identity."""
        return []

    def fingerprint(self) -> str:
        """What identifies the weights and libraries that its result depends on; it replaces a parameter ``weights``."""
        return ""


class Output:
    """What a codec makes of a clip, computed lazily: an objective that needs one branch pays for one branch.

    ``x_hat``: the reconstruction, shaped like the input, in [0, 1], not rounded to 8 bits. ``bits``: ``(N,)`` estimated
    size of each sample's stream, header included; differentiable. ``latents``: the tensors that are entropy-coded,
    ``(N, …)`` each, in rounding steps; clips of equal size whose rounded latents are equal give equal bytes.
    """

    def __init__(
        self, x_hat: Callable[[], Tensor], bits: Callable[[], Tensor], latents: Callable[[], list[Tensor]] | None = None
    ) -> None:
        self._x_hat, self._bits, self._latents = x_hat, bits, latents

    @cached_property
    def x_hat(self) -> Tensor:
        return self._x_hat()

    @cached_property
    def bits(self) -> Tensor:
        return self._bits()

    @cached_property
    def latents(self) -> list[Tensor]:
        if self._latents is None:
            raise AttackError("this codec shows no latents; an objective on them needs a learned codec that does")
        return self._latents()


class Transform(ABC):
    """The transforms before and after a codec's rounding, for attacks that push coefficients over rounding boundaries.

    Levels are tensors ``(N, T, rows, columns, …)`` in rounding steps; their last dimensions are kinds of level, such as
    frequencies, which are alike at every place. All rounding inside goes through
    :func:`robustcodec.rounding.round_latent`. Under the surrogate ``none`` both methods are differentiable, and linear
    except for an offset and for clamping.
    """

    @abstractmethod
    def analyse(self, x: Tensor) -> list[Tensor]:
        """The levels of clips ``x`` ``(N, T, 3, H, W)``."""

    @abstractmethod
    def synthesise(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        """The clips ``(N, T, 3, height, width)`` in [0, 1] that a decoder makes of levels."""


@dataclass(frozen=True)
class Card:
    """What a codec is and where its weights come from."""

    name: str  # family.tag, as typed
    family: str
    kind: Literal["image", "video"] = "image"
    licence: str = ""
    paper: str = ""
    weights: str = ""  # file, URL or "random"
    sha256: str = ""  # of the weights file
    architecture: dict[str, Any] = field(default_factory=dict)  # widths and the like
    training: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamPart:
    """Some bits of a stream, and the frames ``first`` … ``first + frames - 1`` on which they are spent.

    ``frames=0`` means that they belong to no frame in particular (a header), or that the frames are not known.
    """

    name: str
    first: int
    frames: int
    bits: int


class Codec(nn.Module, ABC):
    """A codec. In eval mode ``forward`` must agree with ``decompress(compress(x))``; ``robustcodec check`` tests it."""

    card: Card
    differentiable: bool = True  # False: forward gives no gradient (JPEG …)
    exact_forward: bool = True  # False: forward is a stated surrogate of the real decode
    coded: bool = True  # False: it makes no bytes, and what it calls a stream has no size
    transform: Transform | None = None  # in which it rounds, where that is known and does not depend on the clip
    randomised: bool = False  # True: what it does to a clip depends on torch's random state
    training_surrogate: ClassVar[Surrogate] = "noise"  # how latents are rounded in training
    symbols_per_pixel: float | None = None  # of a codec of discrete symbols
    encoder_only: ClassVar[tuple[str, ...]] = ()  # how parameters that decoding does not need begin
    synthesis: ClassVar[tuple[str, ...]] = ()  # how parameters that make pixels of what was decoded begin
    immaterial: ClassVar[tuple[str, ...]] = ()  # parameters of ``__init__`` that change no number (time limits)

    @abstractmethod
    def forward(self, x: Tensor) -> Output:
        """The differentiable path: values with the real rounding, gradients as :mod:`robustcodec.rounding` says."""

    @abstractmethod
    def compress(self, x: Tensor) -> list[bytes]:
        """One self-contained stream per sample; its length is the size that is published."""

    @abstractmethod
    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        """Decode streams of clips of one size from their bytes alone; raises :class:`StreamError` for damaged bytes."""

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        """What the bytes of one sample's stream are spent on; the parts add up to all of its bits.

        Raises :class:`StreamError` for bytes that cannot be taken apart.
        """
        return [StreamPart("stream", 0, 0, 8 * len(stream))]

    def aux_loss(self) -> Tensor | None:
        """The loss of the auxiliary parameters (quantiles of an entropy bottleneck), or None if there are none."""
        return None

    def aux_parameters(self) -> list[nn.Parameter]:
        """The parameters that :meth:`aux_loss` alone trains."""
        return []

    def state(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint of this codec stores."""
        return dict(self.state_dict())

    def refresh(self) -> None:
        """Rebuild entropy-coding tables and frozen copies after the weights have changed."""

    def grown(self, seed: int, **widths: int) -> Codec:
        """A wider codec that shows the same pictures, for training; ``seed`` draws new weights, all of a random one.

        Raises :class:`UserError` for a family that cannot grow, and for ``widths`` that it lacks or that are smaller.
        """
        raise UserError(f"{self.card.family} cannot grow; train it at the width that it has")

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        """What can change a number besides the parameters: weights' sha256, library versions. It builds no model."""
        return ""


class Threat(Plugin, ABC):
    """The set of inputs that an attack may return, per sample and inside [0, 1]. The runner enforces it."""

    norm: ClassVar[Literal["linf", "l2"]]

    @abstractmethod
    def radius(self, x: Tensor) -> Tensor:
        """``(N,)`` the largest allowed norm of ``x_adv - x``."""

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The allowed input nearest to ``x_adv``."""

    @abstractmethod
    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """A random allowed input."""

    @abstractmethod
    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        """The step of norm ``radius`` that increases a linear function with gradient ``grad`` the most."""

    @abstractmethod
    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The allowed 8-bit input nearest to ``x_adv``; ``x`` has 8 bits already."""

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        """False if no allowed input has this PSNR (dB) or largest change (grey levels); True if that cannot be told.

        For callers that have the scores of an attacked input and not the input itself.
        """
        return True

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        """The part of a perturbation of ``x`` that is of an allowed kind, whatever its size; by default all of it."""
        return delta


class Objective(Plugin, ABC):
    """Damage per sample, higher is worse for the codec. Subclasses are frozen dataclasses.

    ``tau``: the codec counts as broken when the damage reaches ``tau`` times its clean value. At 2 that means 3 dB less
    PSNR if damage is an MSE against the source, and twice the bits if it is a rate.
    """

    tau: float = 2.0
    columns: ClassVar[tuple[Column, ...]] = ()  # what tables show of :meth:`scores`, one for each

    @abstractmethod
    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        """``(N,)`` damage of ``x_adv``."""

    def level(self, x: Tensor, clean: Output) -> Tensor:
        """``(N,)`` the damage from which the codec counts as broken."""
        return self.tau * self(x, clean, clean, x)

    def bind(self, codec: Codec) -> Objective:
        """This objective for one victim, for objectives that have to code something themselves, such as a target."""
        return self

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        """Scores of one attacked sample, by name, as :attr:`columns` lists them; called on the result of :meth:`bind`.

        ``x``, ``x_adv``, ``x_adv_hat``: ``(1, T, 3, H, W)``; ``x_adv_hat`` is None if ``stream`` does not decode.
        """
        return {}


class Draws:
    """Random numbers from one generator per sample, on the CPU: they depend neither on the batch nor on the device."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, shape: torch.Size) -> Tensor:
        """float32 in [0, 1) of ``shape``; its first dimension is the batch."""
        return torch.stack([torch.rand(shape[1:], generator=g) for g in self._generators])

    def normal(self, shape: torch.Size) -> Tensor:
        """Standard normal float32 of ``shape``; its first dimension is the batch."""
        return torch.stack([torch.randn(shape[1:], generator=g) for g in self._generators])

    def child(self) -> Draws:
        """New draws seeded from these: the first ``k`` children are the same however many follow."""
        return Draws([int(torch.randint(2**63 - 1, (), generator=g)) for g in self._generators])


class Attack(Plugin, ABC):
    """An optimiser over inputs. Subclasses are frozen dataclasses, whose fields are their identity.

    ``access``: what the attack asks for: gradients (``white``), the transform in which the codec rounds
    (``transform``), or damage alone (``black``). ``effort``: parameters that make it longer; a longer attack must not
    do less damage. ``baseline``: True if it asks nothing of the codec, so that every other attack must beat it.
    ``general``: True if it looks for the most damage in the whole threat, so that a missed weakness speaks against it;
    False if it keeps to a part of the threat (a patch, a band), to a look, to one step or to the settings of a paper.
    """

    access: ClassVar[Access] = "white"
    superseded = MappingProxyType({"surrogate": "none"})
    effort: ClassVar[tuple[str, ...]] = ("steps", "restarts", "queries")
    baseline: ClassVar[bool] = False
    general: ClassVar[bool] = True

    @abstractmethod
    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        """Inputs that hurt, shaped like ``x``. They need no clipping: the runner projects, rounds and checks them."""


class Defense(Plugin, ABC):
    """Turns a codec into another codec. Subclasses are frozen dataclasses; side information goes into the bytes."""

    trainable: ClassVar[bool] = False  # True: ``robustcodec train`` takes its name, and trains its ``trainee``

    @abstractmethod
    def wrap(self, codec: Codec) -> Codec:
        """A codec around ``codec``, which itself must stay unchanged, since other defenses may wrap it too."""

    def trainee(self) -> nn.Module:
        """The network to train of a trainable defense, as a :class:`robustcodec.training.denoiser.Denoiser`."""
        raise UserError(f"{type(self).__name__} has nothing to train")


@dataclass(frozen=True)
class Metric:
    """A score of a test clip against a reference: ``fn(reference, test) -> (N,)``, both clips in [0, 1].

    ``label`` and ``digits`` (decimals): in print. ``least``: frames with a side of fewer pixels score NaN.
    """

    name: str
    unit: str
    higher_is_better: bool
    fn: Callable[[Tensor, Tensor], Tensor]
    label: str = ""
    digits: int = 4
    least: int = 1

    def score(self, reference: Tensor, test: Tensor) -> float:
        """The score of one clip; raises :class:`PluginError` if it is not a number."""
        return answers.per_sample(f"metric {self.name}", self.fn(reference, test), 1).item()

    @property
    def column(self) -> Column:
        """The column of this metric where nothing is attacked."""
        return self.columns[0]

    @property
    def columns(self) -> tuple[Column, Column]:
        """The columns of this metric: ``NAME`` for the clean and ``adv_NAME`` for the attacked reconstruction."""
        label = self.label or self.name.replace("_", " ")
        quantity = f"{label} in {self.unit}" if self.unit else label
        meaning = f"clean {quantity}, of the decoded bytes against the source"
        clean = Column(self.name, meaning, label, self.unit, self.digits, "high" if self.higher_is_better else "low")
        attacked = f"{quantity} of the attacked reconstruction against the clean source"
        return clean, replace(clean, name=f"adv_{self.name}", meaning=attacked, label=f"attacked {label}")


@dataclass(frozen=True)
class Sample:
    """One clip of a data set: ``load()`` gives uint8 ``(T, 3, H, W)``. It travels to other processes as its pixels.

    ``source``: the file from which it is read, if any. ``fps``: frames per second, if stated. ``checksum``: if known.
    """

    id: str
    load: Callable[[], Tensor]
    source: Path | None = None
    fps: float | None = None
    checksum: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.load, answers.Reader):
            object.__setattr__(self, "load", answers.Reader(self.id, self.load))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.id, self.load(), self.fps, self.checksum)


def _arrived(name: str, clip: Tensor, fps: float | None, checksum: str) -> Sample:
    return Sample(name, lambda: clip, None, fps, checksum)


class DataSet(ABC):
    """A named list of samples in a fixed order. Subclasses are frozen dataclasses."""

    @abstractmethod
    def samples(self) -> list[Sample]: ...
