"""Activation functions, element by element, and the error function that one of them needs.

They are safe by construction: none overflows. NumPy's own ``tanh`` is in ``elementwise.py``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..arrays import floating
from ..recording import primitive
from .elementwise import add, exp, multiply, square, tanh, where

__all__ = [
    "elu", "erf", "gelu", "leaky_relu", "log_sigmoid", "relu", "sigmoid", "silu", "softplus",
]  # fmt: skip


@primitive(kind="elementwise")
def sigmoid(x):
    """The logistic function exp(x) / (1 + exp(x)); exact for very negative x, too, and without overflow.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Numbers from 0 to 1.

    Examples
    --------
    >>> sigmoid(np.array([-20.0, 0.0, 20.0]))
    array([2.06115362e-09, 5.00000000e-01, 9.99999998e-01])
    """
    x = floating(x)
    one, large = constants_of_sigmoid(type(x), x.dtype)
    powers = np.exp(np.minimum(x, large))
    return powers / (one + powers)


@functools.cache
def constants_of_sigmoid(kind: type, dtype: Any) -> tuple:
    """1, and an x for which exp(x) is finite, and so large that 1 more is no more; arrays, as NumPy is fastest so."""
    constants = dtype.type(1), dtype.type({2: 11, 4: 88}.get(dtype.itemsize, 700))
    return tuple(map(np.asarray, constants)) if kind is np.ndarray else constants


@primitive(kind="elementwise")
def relu(x):
    """The rectified linear unit max(x, 0): its gradient at 0 is 0.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return np.maximum(x, 0)


@primitive(kind="elementwise")
def leaky_relu(x, slope=0.01):
    """The leaky rectifier: x where it is positive, slope · x elsewhere. Its gradient at 0 is the slope.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.
    slope : float, optional
        That of the negative part.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1)
    array([-0.1,  2. ])
    """
    return np.where(x > 0, x, slope * x)


@primitive(kind="elementwise")
def elu(x, alpha=1.0):
    """The exponential linear unit (Clevert et al., 2016): x where it is positive, alpha · (exp(x) - 1) elsewhere.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.
    alpha : float, optional
        How far below 0 it goes.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> elu(np.array([-1.0, 2.0]))
    array([-0.63212056,  2.        ])
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@primitive(kind="elementwise")
def softplus(x):
    """The smooth rectifier log(1 + exp(x)), without overflow.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> softplus(np.array([0.0, 1000.0]))
    array([6.93147181e-01, 1.00000000e+03])
    """
    return np.logaddexp(x, 0)


@primitive(kind="elementwise")
def log_sigmoid(x):
    """The logarithm of the logistic function, log(sigmoid(x)) = -softplus(-x), without overflow.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> log_sigmoid(np.array([0.0, -1000.0]))
    array([-6.93147181e-01, -1.00000000e+03])
    """
    return -np.logaddexp(-floating(x), 0)


sigmoid.vjp(lambda g, out: g * (out - out * out))
relu.vjp(lambda g, out: where(out <= 0, 0, g))
leaky_relu.vjp(lambda g, x, slope: where(x > 0, g, slope * g))
elu.vjp(lambda g, x, out, alpha: where(x > 0, g, g * (out + alpha)))
softplus.vjp(lambda g, x: g * sigmoid(x))
log_sigmoid.vjp(lambda g, x: g * sigmoid(-x))


def silu(x: Any) -> Any:
    """The sigmoid linear unit x · sigmoid(x), also called swish (Elfwing et al., 2018).

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> silu(np.array([0.0, 1.0]))
    array([0.        , 0.73105858])
    """
    return multiply(x, sigmoid(x))


def gelu(x: Any, approximate: bool = False) -> Any:
    """The Gaussian error linear unit x · Φ(x), where Φ is the normal distribution function (Hendrycks & Gimpel, 2016).

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.
    approximate : bool, optional
        Use 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 x³))), as many published models do.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> gelu(np.array([0.0, 1.0]))
    array([0.        , 0.84134475])
    """
    if approximate:
        cubic = multiply(x, add(1, multiply(0.044715, square(x))))
        return multiply(multiply(0.5, x), add(1, tanh(multiply(math.sqrt(2 / math.pi), cubic))))
    return multiply(multiply(0.5, x), add(1, erf(multiply(math.sqrt(0.5), x))))


@primitive(kind="elementwise")
def erf(x):
    """The error function 2/√π ∫₀ˣ exp(-t²) dt, by rational approximations in three ranges (Cody, 1969).

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> erf(np.array([0.0, 1.0]))
    array([0.        , 0.84270079])
    """
    x = floating(x)
    if x.dtype == np.float16:  # too narrow for the polynomials
        return erf.op.forward(x.astype(np.float32)).astype(np.float16)
    size = np.absolute(x)
    near, middle, far = np.minimum(size, 0.46875), np.clip(size, 0.46875, 4), np.clip(size, 4, 6)
    inverse = 1 / (far * far)
    tail = inverse * _rational(inverse, *_ERF_FAR)
    outer = np.where(size <= 4, _rational(middle, *_ERF_MIDDLE), (1 / math.sqrt(math.pi) - tail) / far)
    outer = 1 - np.exp(-np.square(np.clip(size, 0.46875, 6))) * outer
    return np.where(size <= 0.46875, x * _rational(near * near, *_ERF_NEAR), np.sign(x) * outer)


def _rational(x: Any, above: tuple, below: tuple) -> Any:
    """A quotient of polynomials, their coefficients from the highest power down."""
    return functools.reduce(lambda p, c: p * x + c, above[1:], above[0]) / functools.reduce(
        lambda q, c: q * x + c, below[1:], below[0]
    )


_ERF_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_ERF_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_ERF_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip

erf.vjp(lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-x * x)))
