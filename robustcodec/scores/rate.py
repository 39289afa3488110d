"""Sizes and what they buy: bits per pixel, kilobits per second, and Bjøntegaard's average differences.

G. Bjøntegaard, Calculation of average PSNR differences between RD-curves, ITU-T VCEG-M33, 2001 (cubic).
Piecewise cubics through every point do not overshoot as one polynomial may: pchip, and akima as recommended by
Herglotz et al., 2022, https://arxiv.org/abs/2202.12565.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustcodec.errors import BadData

Method = Literal["pchip", "cubic", "akima"]
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # log10 of rate, quality; both rising
_MIN_POINTS: dict[Method, int] = {"pchip": 2, "akima": 3, "cubic": 4}


def bpp(bits: float, shape: Sequence[int]) -> float:
    """Bits per pixel of one sample: over its frames, height and width, not over channels.

    ``shape``: of the original clip, ``(T, 3, H, W)`` or ``(N, T, 3, H, W)``; ``bits``: of one of the N.
    """
    frames, height, width = _size(shape)
    return bits / (frames * height * width)


def kbps(bits: float, shape: Sequence[int], fps: float) -> float:
    """Kilobits (1000 bits) per second of one sample shown at ``fps`` frames per second; ``shape`` as in :func:`bpp`."""
    if not fps > 0:
        raise ValueError(f"{fps} frames per second were given; expected a positive number")
    return bits * fps / _size(shape)[0] / 1000


def bd_rate(
    anchor_bpp: ArrayLike,
    anchor_quality: ArrayLike,
    test_bpp: ArrayLike,
    test_quality: ArrayLike,
    method: Method = "pchip",
) -> float:
    """Average rate difference of test against anchor at equal quality, in percent; negative: test needs fewer bits.

    Points may come in any order and number (at least 2 for pchip, 3 for akima, 4 for cubic, whose third-degree
    polynomial is least squares beyond 4). Any rate unit will do. Quality must rise with rate: negate a metric
    for which lower is better. The mean of log10 rate is over the qualities that both curves reach.

    Raises :class:`BadData` for too few points, a curve that does not rise, or no common quality.
    """
    (log_anchor, q_anchor), (log_test, q_test) = _curves(anchor_bpp, anchor_quality, test_bpp, test_quality, method)
    mean = _mean_difference((q_anchor, log_anchor), (q_test, log_test), method, "quality")
    return float((10**mean - 1) * 100)


def bd_quality(
    anchor_bpp: ArrayLike,
    anchor_quality: ArrayLike,
    test_bpp: ArrayLike,
    test_quality: ArrayLike,
    method: Method = "pchip",
) -> float:
    """Average quality difference of test against anchor at equal rate, in the quality's unit (dB for PSNR).

    Positive: test is better. The mean is over log10 rate; inputs and errors as in :func:`bd_rate`.
    """
    anchor, test = _curves(anchor_bpp, anchor_quality, test_bpp, test_quality, method)
    return _mean_difference(anchor, test, method, "log10 rate")


def _size(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) not in (4, 5) or shape[-3] != 3 or min(shape) < 1:
        raise ValueError(f"{tuple(shape)} is no clip's shape; expected (T, 3, H, W) or (N, T, 3, H, W)")
    return shape[-4], shape[-2], shape[-1]


def _curves(
    anchor_rate: ArrayLike, anchor_quality: ArrayLike, test_rate: ArrayLike, test_quality: ArrayLike, method: Method
) -> tuple[Curve, Curve]:
    if method not in _MIN_POINTS:
        raise ValueError(f"method {method!r} is unknown; expected one of {', '.join(_MIN_POINTS)}")
    least = _MIN_POINTS[method]
    return _curve("anchor", anchor_rate, anchor_quality, least), _curve("test", test_rate, test_quality, least)


def _curve(which: str, rate: ArrayLike, quality: ArrayLike, least: int) -> Curve:
    rates, qualities = np.asarray(rate, dtype=float), np.asarray(quality, dtype=float)
    if rates.ndim != 1 or rates.shape != qualities.shape:
        raise BadData(
            f"the {which} curve has rates of shape {rates.shape} and qualities of shape {qualities.shape}; "
            "expected two lists of one length"
        )
    if len(rates) < least:
        raise BadData(f"the {which} curve has {len(rates)} points; this method needs {least}: measure more qualities")
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and (rates > 0).all()):
        raise BadData(f"the {which} curve has a rate or quality that is not finite, or a rate that is not positive")
    order = np.argsort(rates, kind="stable")
    rates, qualities = rates[order], qualities[order]
    for i in np.flatnonzero((np.diff(rates) <= 0) | (np.diff(qualities) <= 0)):
        raise BadData(
            f"the {which} curve does not rise from ({rates[i]:g}, {qualities[i]:g}) to "
            f"({rates[i + 1]:g}, {qualities[i + 1]:g}); drop the dominated point, or negate a quality for which "
            "lower is better"
        )
    return np.log10(rates), qualities


def _mean_difference(anchor: Curve, test: Curve, method: Method, axis: str) -> float:
    """Mean of test's minus anchor's second coordinate over the range of the first that both cover."""
    low, high = max(anchor[0][0], test[0][0]), min(anchor[0][-1], test[0][-1])
    if low >= high:
        raise BadData(
            f"the curves share no {axis}: anchor has {anchor[0][0]:g} to {anchor[0][-1]:g}, "
            f"test {test[0][0]:g} to {test[0][-1]:g}; measure points whose ranges overlap"
        )
    area = [_integral(x, y, method)(low, high) for x, y in (anchor, test)]
    return (area[1] - area[0]) / float(high - low)


def _integral(x: NDArray[np.float64], y: NDArray[np.float64], method: Method) -> Callable[[float, float], float]:
    if method == "cubic":
        centre = x.mean()  # powers of 30 to 40 dB are nearly dependent, those about their centre are not
        primitive = np.poly1d(np.polyfit(x - centre, y, 3)).integ()
        return lambda low, high: float(primitive(high - centre) - primitive(low - centre))
    from scipy.interpolate import Akima1DInterpolator, PchipInterpolator  # half a second, for who compares curves

    piecewise = PchipInterpolator(x, y) if method == "pchip" else Akima1DInterpolator(x, y)
    return lambda low, high: float(piecewise.integrate(low, high))
