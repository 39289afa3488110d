"""Training of codecs: rate and distortion, with feature and adversarial terms if the recipe has them.

The loop is that of ``loop.py``. bfloat16 is for convolutions only; likelihoods, hyper-decoder and losses stay float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustcodec.clips import as_batch, centre_crop
from robustcodec.coding import code
from robustcodec.errors import UserError
from robustcodec.interfaces import Card, Codec
from robustcodec.registry import codecs, data
from robustcodec.rounding import rounding
from robustcodec.scores.metrics import Net, of_every_run
from robustcodec.scores.rate import bpp
from robustcodec.training.borrowing import Borrowed, borrow
from robustcodec.training.features import FeatureLoss, LpipsLoss, feature_loss
from robustcodec.training.gan_pair import Adversary
from robustcodec.training.loop import Loop, Seen
from robustcodec.training.recipe import Distortion

LPIPS_NETS: dict[str, Net] = {"lpips-alex": "alex", "lpips-vgg": "vgg", "lpips-squeeze": "squeeze"}


def distortion(metric: Distortion, x: Tensor, x_hat: Tensor) -> Tensor:
    """Unweighted distortion of clips: MSE or mean absolute difference of 8-bit levels, or 1 − MS-SSIM of frames."""
    if metric == "mse":
        return 255**2 * (x_hat - x).square().mean()
    if metric == "l1":
        return 255 * (x_hat - x).abs().mean()
    from pytorch_msssim import ms_ssim

    return 1 - ms_ssim(x_hat.flatten(0, 1), x.flatten(0, 1), data_range=1.0)  # type: ignore[no-any-return]


class Trainer(Loop[Codec]):
    """One training run of a codec, as :class:`Loop`."""

    borrowed: Borrowed | None = None

    @property
    def codec(self) -> Codec:
        return self.model

    @property
    def card(self) -> Card:
        return self.codec.card

    @property
    def parents(self) -> list[Card]:
        return [self.card] if self.borrowed is None else [self.card, self.borrowed.lender]

    def _build(self) -> Codec:
        """The codec to train; parameters without ``requires_grad`` stay as they are."""
        codec: Codec = codecs.build(self.recipe.codec)
        if not codec.differentiable:
            raise UserError(f"{self.recipe.codec} has nothing to train; give a learned codec")
        if self.recipe.grow:
            codec = codec.grown(self.recipe.seed, **_widths(self.recipe.grow))
        if self.recipe.borrow:
            parts = self.recipe.borrow_only
            self.borrowed = borrow(codec, self.recipe.borrow, None if parts is None else parts.split(","))
        return codec

    def _trained(self) -> list[nn.Parameter]:
        aux = self.codec.aux_parameters()
        return [p for p in super()._trained() if all(p is not a for a in aux)]

    def _prepare(self) -> None:
        aux = [p for p in self.codec.aux_parameters() if p.requires_grad]
        self.aux_optimiser = torch.optim.Adam(aux, lr=self.recipe.aux_lr) if aux else None
        if self.borrowed is not None:
            self.notes.append(self.borrowed.note)
            if self.recipe.hold and len(self.borrowed.parameters) == len(self.main):
                raise UserError(
                    f"hold={self.recipe.hold:g} leaves nothing to train: all of {self.card.family} is borrowed from "
                    f"{self.recipe.borrow}; leave --hold out, or borrow less (--borrow-only)"
                )
        self.features = self._feature_term()
        self.adversary = self._adversary()

    def _stored(self) -> dict[str, Tensor]:
        return self.codec.state()

    def _refresh(self) -> None:
        self.codec.refresh()

    def validate(self) -> dict[str, float]:
        """Real bytes and distortion of the averaged weights on the validation set; empty without one."""
        if self.recipe.validate is None:
            return {}
        clips = [centre_crop(s.load(), 256) for s in data.build(self.recipe.validate).samples()[:8]]
        with self._averaged():
            scores = [measure(self.codec, clip, self.device) for clip in clips]
        return {k: sum(s[k] for s in scores) / len(scores) for k in scores[0]}

    def _update(self, x: Tensor, detailed: bool) -> Seen:
        """One step on clips ``x``; returns what to log, the norms of the terms' gradients only if ``detailed``."""
        r = self.recipe
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=r.precision == "bfloat16")
        seen = self._set_rate(r.lr)
        self.codec.train()
        if self.borrowed is not None:
            self.borrowed.hold(self.step < r.hold * r.steps)
        turn = self.adversary is None or self.adversary.decoder_turn(self.step)
        with torch.set_grad_enabled(turn), rounding(self.codec.training_surrogate), half:
            out = self.codec(x)
            x_hat, bits = out.x_hat, out.bits
        if self.adversary is not None:
            seen |= self.adversary.train(x, x_hat, half)
        if turn:
            seen |= self._update_codec(x, x_hat, bits, half, detailed)
        return seen

    def _update_codec(self, x: Tensor, x_hat: Tensor, bits: Tensor, half: torch.autocast, detailed: bool) -> Seen:
        r = self.recipe
        bpp = bits.sum() / (x.numel() / 3)
        dist = distortion(r.metric, x, x_hat)  # in float32: MS-SSIM subtracts squares that nearly cancel
        terms = {"pixel": r.lmbda * dist, **self._other_terms(x, x_hat, half)}
        seen: Seen = {}
        if detailed and len(terms) > 1:
            for name, term in terms.items():
                (slope,) = torch.autograd.grad(term, x_hat, retain_graph=True)
                seen[f"gradient_{name}"] = slope.norm()
        warm = min(1.0, self.step / (r.rate_warmup * r.steps)) if r.rate_warmup else 1.0
        loss = warm * r.beta * self._rate(bpp) + torch.stack(list(terms.values())).sum()
        return seen | self._descend(loss, {"bpp": bpp, "distortion": dist}, terms)

    def _other_terms(self, x: Tensor, x_hat: Tensor, half: torch.autocast) -> dict[str, Tensor]:
        """Weighted feature and adversarial losses of a reconstruction ``x_hat`` of ``x``, those that the recipe has."""
        terms = {}
        if self.features is not None:
            terms["feature"] = self.recipe.gamma * self.features(x, x_hat)  # bfloat16 would move it by several percent
        if self.adversary is not None:
            terms["adversarial"] = self.recipe.rho * self.adversary.loss(x, x_hat, half)
        return terms

    def _rate(self, bpp: Tensor) -> Tensor:
        """The rate in the recipe's unit."""
        return bpp if self.recipe.rate_unit == "bpp" else bpp / self._symbols_per_pixel

    def _descended(self) -> None:
        if self.aux_optimiser is not None and (aux := self.codec.aux_loss()) is not None:
            self.aux_optimiser.zero_grad()
            aux.backward()  # type: ignore[no-untyped-call]
            self.aux_optimiser.step()

    @property
    def _symbols_per_pixel(self) -> float:
        if self.codec.symbols_per_pixel is None:
            raise UserError(f"{self.recipe.codec} codes no discrete symbols; give --rate-unit bpp")
        return self.codec.symbols_per_pixel

    def _feature_term(self) -> torch.nn.Module | None:
        r = self.recipe
        if r.gamma == 0:
            return None
        with self._noted():
            term: FeatureLoss | LpipsLoss | None
            if r.feature == "vgg19":
                term = feature_loss(r.vgg_weights, r.feature_layer)
            else:
                term = LpipsLoss(LPIPS_NETS[r.feature])
        self.notes += [] if term is None else [f"feature term: {term.origin}"]
        return None if term is None else term.to(self.device)

    def _adversary(self) -> Adversary | None:
        r = self.recipe
        if r.gan is None:
            return None
        with self._noted():
            pair = Adversary(r, self.device)
        self.notes.append(f"frame discriminator: {pair.origin}")
        return pair

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Warnings inside go into the card as well."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            self.notes.append(str(warning.message))
            warnings.warn(warning.message, stacklevel=3)

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "adversary": self.adversary.state() if self.adversary else None,
            "aux_optimiser": self.aux_optimiser.state_dict() if self.aux_optimiser else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        if self.aux_optimiser is not None:
            self.aux_optimiser.load_state_dict(state["aux_optimiser"])
        if self.adversary is not None:
            self.adversary.load_state(state["adversary"])


def _widths(text: str) -> dict[str, int]:
    """``N=128,M=192`` as a dictionary; raises :class:`UserError` for anything else."""
    pairs = [part.split("=") for part in text.split(",")]
    if not all(len(pair) == 2 and pair[1].isdecimal() for pair in pairs):
        raise UserError(f"--grow {text} cannot be read; expected widths, such as N=128,M=192")
    return {name.strip(): int(width) for name, width in pairs}


def measure(codec: Codec, clip: Tensor, device: str | torch.device = "cpu") -> dict[str, float]:
    """bpp of the real bytes, PSNR and MS-SSIM after 8-bit rounding of one uint8 clip ``(T, 3, H, W)``."""
    coded = code(codec, clip, device)
    x, x_hat = as_batch(clip, device), as_batch(coded.decoded(), device)
    return {"bpp": bpp(coded.bits, clip.shape), **{m.name: m.fn(x, x_hat).item() for m in of_every_run()}}
