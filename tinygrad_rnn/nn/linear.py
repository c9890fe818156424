"""The affine map, as a function and as a module."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import check_features, check_kind, whole
from .init import uniform
from .module import Module, Parameter


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x · weightᵀ + bias: x is (..., in), weight (out, in), bias (out,) or None."""
    y = x @ weight.T
    return y if bias is None else y + bias


class Linear(Module):
    """y = x · Wᵀ + b, on the last axis of x.

    ``weight`` is (out_features, in_features), ``bias`` (out_features,): PyTorch's layout. x is of the weights' dtype:
    nothing is converted silently.

    Parameters
    ----------
    in_features, out_features : int
        The sizes of x and y on their last axis.
    bias : bool, optional
        Whether there is a b.
    rng : int or Generator, optional
        For the weights: uniform within ±1/√in_features, as PyTorch's are.
    dtype : dtype, optional
        Of the weights.

    Examples
    --------
    >>> layer = Linear(3, 2, rng=0)
    >>> layer(np.ones((5, 3), np.float32)).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Any = None, dtype: Any = np.float32
    ):
        self.in_features = in_features = whole("Linear: in_features", in_features, 0)
        self.out_features = out_features = whole("Linear: out_features", out_features, 1)
        rng = np.random.default_rng(rng)
        bound = max(in_features, 1) ** -0.5
        self.weight = Parameter(uniform((out_features, in_features), bound, rng, dtype))
        self.bias = Parameter(uniform((out_features,), bound, rng, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        """y, (..., out_features), of x, (..., in_features)."""
        check_kind("Linear: x", x, self.weight.dtype)
        check_features("Linear: x", x, self.in_features, "its last axis", x)
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")
