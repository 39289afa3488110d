"""What the pieces are. Everything is a clip: float32 ``(N, T, 3, H, W)`` in [0, 1]; an image has T = 1.

Shapes, ranges and units are fixed here and nowhere else: RGB, batch first, bits (not bits per pixel)
per sample, damage "higher is worse for the codec". A codec that thinks in 0–255 or YCbCr converts inside.
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
    """One number, or name, of results: how it is called, printed and read wherever it is shown.

    ``name``: in rows, CSV and Parquet; ``label``: in print, by default the name with spaces; ``digits``: decimals in
    print; ``better``: which values speak for the codec, if there are such.
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
        """The label, with the unit where it does not say it: ``input PSNR (dB)``."""
        complete = not self.unit or self.unit == YES_NO or self.label.endswith(self.unit)
        return self.label if complete else f"{self.label} ({self.unit})"


class Plugin:
    """What attacks, objectives, threats and defenses have in common: their parameters are their identity.

    ``neutral``: parameters that are younger than published results, with the value at which they change nothing. At
    that value an identity leaves them out, so that results keep their names. ``superseded``: parameters whose default
    has changed, with the default that the first published suites mean where they leave them out.
    """

    neutral: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    superseded: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def made_on(self) -> list[Sample]:
        """Clips that this plugin is made on; their checksums are part of its identity, in the place of a ``path``."""
        return []

    def fingerprint(self) -> str:
        """What identifies weights and libraries that its result depends on; it stands for a parameter ``weights``."""
        return ""


class Output:
    """What a codec makes of a clip, evaluated lazily: an objective that needs only one branch pays only for one.

    ``x_hat``: reconstruction, like the input, in [0, 1], not rounded to 8 bits.
    ``bits``: ``(N,)`` estimated size of each sample's stream, header included; differentiable.
    ``latents``: what is entropy-coded, ``(N, …)`` each, in steps of the rounding, rounded as
    :mod:`robustcodec.rounding` says; equal rounded latents of equal-sized clips give equal bytes.
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
    """What stands in front of a codec's rounding, and behind it: for attacks that push over rounding boundaries.

    Levels are tensors ``(N, T, rows, columns, …)``, in steps of the rounding: the last dimensions are kinds of level
    (frequencies, say), alike at every place. Whatever is rounded on the way goes through
    :func:`robustcodec.rounding.round_latent`; under the surrogate ``none`` both methods are linear but for an offset
    and for clamping, and differentiable.
    """

    @abstractmethod
    def analyse(self, x: Tensor) -> list[Tensor]:
        """The levels of clips ``(N, T, 3, H, W)``."""

    @abstractmethod
    def synthesise(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        """What a decoder shows of levels: ``(N, T, 3, height, width)`` in [0, 1]."""


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
    """Some bits of a stream: what they are, and the frames ``first`` … ``first + frames - 1`` that they are spent on.

    ``frames=0``: of no frame in particular (a header), or of frames that are not known.
    """

    name: str
    first: int
    frames: int
    bits: int


class Codec(nn.Module, ABC):
    """A codec. In eval mode ``forward`` must agree with ``decompress(compress(x))`` (``robustcodec check``)."""

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
    runs_code: ClassVar[bool] = False  # True: parameters name code, which is run as soon as it is asked about

    @abstractmethod
    def forward(self, x: Tensor) -> Output:
        """Differentiable path: the true rounding forward, gradients by :mod:`robustcodec.rounding`."""

    @abstractmethod
    def compress(self, x: Tensor) -> list[bytes]:
        """One self-contained stream per sample: its length is the published size."""

    @abstractmethod
    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        """Decode equal-sized clips from the bytes alone; damaged bytes raise :class:`StreamError`."""

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        """What the bytes of one sample's stream are spent on; the parts add up to all of its bits.

        Raises :class:`StreamError` for bytes that cannot be taken apart.
        """
        return [StreamPart("stream", 0, 0, 8 * len(stream))]

    def aux_loss(self) -> Tensor | None:
        """Loss of the auxiliary parameters (quantiles of an entropy bottleneck), or None."""
        return None

    def aux_parameters(self) -> list[nn.Parameter]:
        """Parameters trained by :meth:`aux_loss` alone."""
        return []

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint of this codec stores."""
        return dict(self.state_dict())

    def refresh(self) -> None:
        """Rebuild entropy-coding tables and frozen copies after the weights have changed."""

    def grown(self, seed: int, **widths: int) -> Codec:
        """A wider codec that shows what this one shows, its new weights drawn by ``seed``: training goes on from it.

        Raises :class:`UserError` for a family that cannot grow, and for widths that it has not or that are smaller.
        """
        raise UserError(f"{self.card.family} cannot grow; train it at the width that it has")

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        """What besides the parameters can change a number: weights' sha256, library versions. No model is built."""
        return ""


class Threat(Plugin, ABC):
    """The set of inputs an attack may return, per sample, inside the [0, 1] box. Enforced by the runner."""

    norm: ClassVar[Literal["linf", "l2"]]

    @abstractmethod
    def radius(self, x: Tensor) -> Tensor:
        """``(N,)`` largest allowed norm of ``x_adv - x``."""

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Nearest allowed input."""

    @abstractmethod
    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """A random allowed input."""

    @abstractmethod
    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        """The step of norm ``radius`` that increases a linear function with gradient ``grad`` the most."""

    @abstractmethod
    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The 8-bit input inside the set nearest to ``x_adv``; ``x`` is 8-bit already."""

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        """False if no input of this threat has such a PSNR (dB) or such a largest change (grey levels, 0–255).
        For who has the scores of an attacked input and not the input itself; True where they say too little."""
        return True

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        """The part of a perturbation of ``x`` that is of an allowed kind, whatever its size; by default all of it."""
        return delta


class Objective(Plugin, ABC):
    """Damage per sample, higher is worse for the codec. Subclasses are frozen dataclasses.

    ``tau``: how many times its clean value damage must reach for the codec to count as broken. At 2 that is a PSNR
    3 dB lower for an MSE against the source, and twice the bits for a rate.
    """

    tau: float = 2.0
    columns: ClassVar[tuple[Column, ...]] = ()  # what tables show of :meth:`scores`, one for each

    @abstractmethod
    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        """``(N,)`` damage of ``x_adv``."""

    def level(self, x: Tensor, clean: Output) -> Tensor:
        """``(N,)`` damage from which the codec counts as broken."""
        return self.tau * self(x, clean, clean, x)

    def bind(self, codec: Codec) -> Objective:
        """This objective for one victim: for objectives that have to code something themselves, such as a target."""
        return self

    def scores(self, x: Tensor, x_adv: Tensor, stream: bytes, x_adv_hat: Tensor | None) -> dict[str, float]:
        """Scores of its own of one attacked sample, by name; :attr:`columns` says what they are. Called on what
        :meth:`bind` gave for the codec under test.

        ``x``, ``x_adv``, ``x_adv_hat`` ``(1, T, 3, H, W)``; ``stream`` the attacked bytes; None: they did not decode.
        """
        return {}


class Draws:
    """Random numbers for a batch, one generator per sample: a sample's draws do not depend on its batch. Drawn on the
    CPU, so that they do not depend on the device either."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, shape: torch.Size) -> Tensor:
        """float32 in [0, 1) of ``shape``; its first dimension is the batch."""
        return torch.stack([torch.rand(shape[1:], generator=g) for g in self._generators])

    def normal(self, shape: torch.Size) -> Tensor:
        """Standard normal float32 of ``shape``; its first dimension is the batch."""
        return torch.stack([torch.randn(shape[1:], generator=g) for g in self._generators])

    def child(self) -> Draws:
        """Fresh draws seeded from these: the first ``k`` children are the same however many follow."""
        return Draws([int(torch.randint(2**63 - 1, (), generator=g)) for g in self._generators])


class Attack(Plugin, ABC):
    """An optimiser over inputs. Subclasses are frozen dataclasses: their fields are their identity.

    ``access``: whether it asks for gradients (``white``), for the transform in which the codec rounds (``transform``),
    or for damage alone. ``effort``: parameters of which more is a longer attack, which must not do less. ``baseline``:
    it asks nothing of the codec, so that every other attack must beat it. ``general``: it looks for the most damage in
    the whole of the threat, so that a weakness that it misses speaks against it; not so for one that keeps to a part of
    it (a patch, a band), to a look, to one step or to the settings of a paper.
    """

    access: ClassVar[Access] = "white"
    superseded = MappingProxyType({"surrogate": "none"})
    effort: ClassVar[tuple[str, ...]] = ("steps", "restarts", "queries")
    baseline: ClassVar[bool] = False
    general: ClassVar[bool] = True

    @abstractmethod
    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        """Inputs that hurt, like ``x``. The runner projects, rounds and checks: no clipping "to be safe"."""


class Defense(Plugin, ABC):
    """Turns a codec into another codec. Subclasses are frozen dataclasses; side information goes in the bytes."""

    trainable: ClassVar[bool] = False  # True: ``robustcodec train`` takes its name, and trains its ``trainee``

    @abstractmethod
    def wrap(self, codec: Codec) -> Codec:
        """A codec around ``codec``, which itself stays as it is: others may be around it too."""

    def trainee(self) -> nn.Module:
        """The network to train, as :class:`robustcodec.training.denoiser.Denoiser`, of a defense that is trainable."""
        raise UserError(f"{type(self).__name__} has nothing to train")


@dataclass(frozen=True)
class Metric:
    """A score of a test clip against a reference: ``fn(reference, test) -> (N,)``, both clips in [0, 1].

    ``label``: in print, by default the name with spaces; ``digits``: decimals in print; ``least``: side of the smallest
    frames that it scores, smaller ones give NaN."""

    name: str
    unit: str
    higher_is_better: bool
    fn: Callable[[Tensor, Tensor], Tensor]
    label: str = ""
    digits: int = 4
    least: int = 1

    def score(self, reference: Tensor, test: Tensor) -> float:
        """Of one clip; raises :class:`PluginError` for what is no number."""
        return answers.per_sample(f"metric {self.name}", self.fn(reference, test), 1).item()

    @property
    def column(self) -> Column:
        """What tables show of it where nothing is attacked."""
        return self.columns[0]

    @property
    def columns(self) -> tuple[Column, Column]:
        """What tables show of it: ``NAME`` of the clean and ``adv_NAME`` of the attacked reconstruction."""
        label = self.label or self.name.replace("_", " ")
        quantity = f"{label} in {self.unit}" if self.unit else label
        meaning = f"clean {quantity}, of the decoded bytes against the source"
        clean = Column(self.name, meaning, label, self.unit, self.digits, "high" if self.higher_is_better else "low")
        attacked = f"{quantity} of the attacked reconstruction against the clean source"
        return clean, replace(clean, name=f"adv_{self.name}", meaning=attacked, label=f"attacked {label}")


@dataclass(frozen=True)
class Sample:
    """One clip of a data set: ``load()`` gives uint8 ``(T, 3, H, W)``; ``source``: the file it is read from, if any;
    ``fps``: if stated; ``checksum``: if known already. It travels to other processes as its pixels."""

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
