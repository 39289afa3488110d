"""sRGB to CIE L*a*b* and back (IEC 61966-2-1; CIE 15, D65, 2° observer), differentiable.

Colours outside the gamut come back outside [0, 1] and not as NaN, so that a gradient leads back in.
"""

from __future__ import annotations

import torch
from torch import Tensor

WHITE = (0.95047, 1.0, 1.08883)  # D65, 2° observer
XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))  # of the cube roots, plus (-16, 0, 0)
LINEAR = 6 / 29  # cube roots below this are replaced by a line


def to_lab(rgb: Tensor) -> Tensor:
    """``(N, T, 3, H, W)`` in [0, 1] to L* in [0, 100], a* and b* in about ±110."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    ratio = _mix(XYZ, linear) / _column(WHITE, rgb)
    root = torch.where(ratio > LINEAR**3, ratio.clamp(min=LINEAR**3) ** (1 / 3), ratio / (3 * LINEAR**2) + 16 / 116)
    return _mix(LAB, root) - _column((16.0, 0.0, 0.0), rgb)


def to_rgb(lab: Tensor) -> Tensor:
    """The inverse of :func:`to_lab`; not clamped to [0, 1]."""
    root = _mix(_inverse(LAB), lab + _column((16.0, 0.0, 0.0), lab))
    ratio = torch.where(root > LINEAR, root**3, (root - 16 / 116) * (3 * LINEAR**2))
    linear = _mix(_inverse(XYZ), ratio * _column(WHITE, lab))
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


Matrix = tuple[tuple[float, ...], ...]


def _mix(matrix: Matrix, clip: Tensor) -> Tensor:
    return torch.einsum("ij,ntjhw->ntihw", torch.tensor(matrix, dtype=clip.dtype, device=clip.device), clip)


def _inverse(matrix: Matrix) -> Matrix:
    rows: list[list[float]] = torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64)).tolist()
    return tuple(tuple(row) for row in rows)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
