"""Normalisation over features: nothing depends on the other sequences of a batch, or on other steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import has_gradient
from ..errors import ShapeError, check_kind, described
from ..ops import mean, sqrt, square
from .module import Module, Parameter


class LayerNorm(Module):
    """Layer normalisation: over the last axes of x, mean 0 and variance 1 (Ba et al., 2016).

    That is::

        y = (x - mean) / √(variance + eps) · weight + bias

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The length of the last axis, or those of the last axes.
    eps : float, optional
        What keeps the quotient finite where all numbers are equal: y is the bias there.
    elementwise_affine : bool, optional
        Whether there are a weight, at first 1, and a bias, at first 0, of that shape.
    bias : bool, optional
        Whether there is a bias, too.
    dtype : dtype, optional
        Of both, and so of x: nothing is converted silently.

    Raises
    ------
    ValueError
        A length is below 1, or ``eps`` below 0.

    Examples
    --------
    >>> LayerNorm(3, eps=0.0, dtype=np.float64)(np.array([[1.0, 2.0, 3.0]])).data.round(3)
    array([[-1.225,  0.   ,  1.225]])
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, *, dtype: Any = np.float32,
    ):  # fmt: skip
        shape = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"normalized_shape: expected a positive number, or some, got {normalized_shape!r}")
        if not eps >= 0:
            raise ValueError(f"eps: expected a number that is not negative, got {eps!r}")
        self.normalized_shape, self.eps = shape, float(eps)
        self.weight = Parameter(np.ones(shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, dtype)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        """x, normalised: its shape ends with ``normalized_shape``."""
        n = len(self.normalized_shape)
        check_kind("LayerNorm: x", x, None if self.weight is None else self.weight.dtype)
        if not has_gradient(x.dtype):
            raise TypeError(f"LayerNorm: x: expected floating-point numbers, got {described(x)}: convert it, "
                            "astype('float32')")  # fmt: skip
        if x.shape[-n:] != self.normalized_shape:
            raise ShapeError(f"LayerNorm: x: expected {self.normalized_shape} at the end of its shape, got "
                             f"{described(x)}")  # fmt: skip
        axes = tuple(range(-n, 0))
        x = x - mean(x, axes, keepdims=True)
        y = x / sqrt(mean(square(x), axes, keepdims=True) + self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Its settings."""
        weights = f", elementwise_affine={self.weight is not None}, bias={self.bias is not None}"
        return f"{self.normalized_shape}, eps={self.eps}{'' if self.bias is not None else weights}"
