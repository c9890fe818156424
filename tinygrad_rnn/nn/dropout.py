"""Dropout, and the random masks that it and the wrappers of cells are made of."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from ..arrays import device_of, has_gradient, move
from ..errors import check_kind, described
from ..tensor import Tensor, bare
from .module import Module


class Dropout(Module):
    """While training, each number is 0 with probability p; evaluating, it is the identity (Srivastava et al., 2014).

    The others are divided by 1 - p: the expectation stays.

    Parameters
    ----------
    p : float, optional
        The probability, from 0 to below 1.
    rng : int or Generator, optional
        For what is drawn at each call: the same seed drops the same numbers.

    Examples
    --------
    >>> layer = Dropout(0.5, rng=1)
    >>> layer(np.ones(6)).data
    array([0., 2., 2., 2., 0., 0.])
    >>> layer.eval()(np.ones(6))
    array([1., 1., 1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, rng: Any = None):
        self.p, self.rng = probability("p", p), np.random.default_rng(rng)

    def forward(self, x: Any) -> Any:
        """x, of any shape, with some numbers dropped while training."""
        return x * mask(x, self.p, self.rng) if self.training and self.p else x

    def extra_repr(self) -> str:
        """Its probability."""
        return f"{self.p}"


def mask(like: Any, p: float, rng: np.random.Generator) -> Tensor:
    """A constant like a tensor or an array: each number is 0 with probability p, and 1 / (1 - p) otherwise."""
    check_kind("dropout", like)
    if not has_gradient(like.dtype):
        raise TypeError(f"dropout: expected floating-point numbers, got {described(like)}")
    return Tensor((~draw(like, p, rng)).astype(like.dtype) / (1 - p))


def draw(like: Any, p: float, rng: np.random.Generator) -> Any:
    """An array of booleans, of the shape and on the device of like, each True with probability p."""
    return move(rng.random(like.shape, np.float32) < p, device_of(bare(like)))


def probability(name: str, p: Any, certain: bool = False) -> float:
    """p, if it is in [0, 1), or, where certainty makes sense, in [0, 1]."""
    if not isinstance(p, Real) or not (0 <= p < 1 or (certain and p == 1)):
        raise ValueError(f"{name}: expected a probability in [0, 1{']' if certain else ')'}, got {described(p)}")
    return float(p)  # NumPy's float64 would make float64 of all that it touches
