"""NumPy's functions where NumPy's are not complex-safe: what the oracle differentiates by a complex step.

Each is a formula in its own right, and none is the package's. They branch on the real part, take no absolute values and
conjugate nothing, so that an imaginary part that is infinitely small comes out as a derivative. Where NumPy's function
does this already (exp, sin, sum, matmul, einsum, solve, ...), it is the reference.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

# Steps and kinks -----------------------------------------------------------------------------------------------------


def sign(x):
    return np.sign(np.real(x)) + 0 * x


def absolute(x):
    return np.sign(np.real(x)) * x


def floor(x):
    return np.floor(np.real(x)) + 0 * x


def ceil(x):
    return np.ceil(np.real(x)) + 0 * x


def trunc(x):
    return np.trunc(np.real(x)) + 0 * x


def round(x, decimals=0):
    return np.round(np.real(x), decimals) + 0 * x


def remainder(a, b):
    return a - b * np.floor(np.real(a) / np.real(b))


def floor_divide(a, b):
    return np.floor(np.real(a) / np.real(b)) + 0 * (a + b)


def maximum(a, b):
    return np.where(np.real(a) > np.real(b), a, b)


def minimum(a, b):
    return np.where(np.real(a) < np.real(b), a, b)


def clip(x, min=None, max=None):
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


def relu(x):
    return np.where(np.real(x) > 0, x, 0)


def leaky_relu(x, slope=0.01):
    return np.where(np.real(x) > 0, x, slope * x)


def elu(x, alpha=1.0):
    return np.where(np.real(x) > 0, x, alpha * np.expm1(minimum(x, 0)))


# Powers, exponentials, angles ----------------------------------------------------------------------------------------


def cbrt(x):
    side = np.sign(np.real(x))
    return side * np.power(side * x, 1 / 3)


def hypot(a, b):
    return np.sqrt(a * a + b * b)


def arctan2(y, x):
    """From the smaller of y/x and x/y, turned into the quadrant of the real parts."""
    flat = np.abs(np.real(x)) > np.abs(np.real(y))
    by_x = np.arctan(y / np.where(flat, x, 1)) + np.where(np.real(x) < 0, np.copysign(np.pi, np.real(y)), 0)
    by_y = np.copysign(np.pi / 2, np.real(y)) - np.arctan(x / np.where(flat, 1, y))
    return np.where(flat, by_x, by_y)


def logaddexp(a, b):
    high, low = maximum(a, b), minimum(b, a)
    return high + np.log1p(np.exp(low - high))


def erf(x):
    """Near the real axis erf(x + ih) = erf(x) + ih · 2/√π · exp(-x²): the integral's value, and its integrand."""
    real = np.vectorize(math.erf, otypes=[float])(np.real(x))
    slope = 2 / math.sqrt(math.pi) * np.exp(-np.real(x) * np.real(x))
    return real + 1j * np.imag(x) * slope if np.iscomplexobj(x) else real


def softplus(x):
    return logaddexp(x, 0 * x)


def sigmoid(x):
    return np.exp(-softplus(-x))


def log_sigmoid(x):
    return -softplus(-x)


def silu(x):
    return x * sigmoid(x)


def gelu(x, approximate=False):
    if approximate:
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return x / 2 * (1 + erf(x / math.sqrt(2)))


# Reductions ----------------------------------------------------------------------------------------------------------


def flattened(x, axis):
    """The axes that are reduced moved to the end, as one; and the shape of the rest with keepdims."""
    x = np.asarray(x)
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in ((axis,) if np.ndim(axis) == 0 else axis)]
    axes = tuple(axes)
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    rest = [a for a in range(x.ndim) if a not in axes]
    shape = [x.shape[a] for a in rest] + [math.prod(x.shape[a] for a in axes)]
    return np.transpose(x, [*rest, *axes]).reshape(shape), kept


def reduced(out, kept, keepdims):
    return out.reshape(kept) if keepdims else out


def max(x, axis=None, keepdims=False):
    """The first of the largest. (At a tie this is no reference: draw inputs without.)"""
    rows, kept = flattened(x, axis)
    out = np.take_along_axis(rows, np.argmax(np.real(rows), axis=-1)[..., None], axis=-1)[..., 0]
    return reduced(out, kept, keepdims)


def min(x, axis=None, keepdims=False):
    return -max(-x, axis, keepdims)


def mean(x, axis=None, keepdims=False):
    rows, kept = flattened(x, axis)
    return reduced(np.sum(rows, axis=-1) / rows.shape[-1], kept, keepdims)


def var(x, axis=None, ddof=0, keepdims=False):
    rows, kept = flattened(x, axis)
    centred = rows - np.sum(rows, axis=-1, keepdims=True) / rows.shape[-1]
    return reduced(np.sum(centred * centred, axis=-1) / (rows.shape[-1] - ddof), kept, keepdims)


def std(x, axis=None, ddof=0, keepdims=False):
    return np.sqrt(var(x, axis, ddof, keepdims))


def norm(x, ord=None, axis=None, keepdims=False):
    """The vector norms: 2 (also None), 1, infinity, minus infinity, 0, p. ("fro" is 2, over both axes.)"""
    rows, kept = flattened(x, axis)
    size = absolute(rows)
    if ord in (None, 2, "fro"):
        out = np.sqrt(np.sum(rows * rows, axis=-1))
    elif ord == 1:
        out = np.sum(size, axis=-1)
    elif ord in (math.inf, -math.inf):
        out = max(size, -1) if ord > 0 else min(size, -1)
    elif ord == 0:
        out = np.sum((np.real(rows) != 0) + 0 * rows, axis=-1)
    else:
        out = np.power(np.sum(np.power(size, ord), axis=-1), 1 / ord)
    return reduced(out, kept, keepdims)


def logsumexp(x, axis=None, keepdims=False):
    rows, kept = flattened(x, axis)
    high = np.max(np.real(rows), axis=-1, keepdims=True)
    out = high + np.log(np.sum(np.exp(rows - high), axis=-1, keepdims=True))
    return reduced(out[..., 0], kept, keepdims)


def log_softmax(x, axis=-1):
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x, axis=-1):
    return np.exp(log_softmax(x, axis))


# Matrices (with any leading dimensions) ------------------------------------------------------------------------------


def cholesky(a):
    """The lower factor, row by row: L L^T = A, without conjugation."""
    n = a.shape[-1]
    lower = np.zeros(a.shape, np.result_type(a, float))
    for j in range(n):
        for i in range(j, n):
            rest = a[..., i, j] - np.sum(lower[..., i, :j] * lower[..., j, :j], axis=-1)
            lower[..., i, j] = np.sqrt(rest) if i == j else rest / lower[..., j, j]
    return lower


def slogdet(a) -> tuple[Any, Any]:
    det = np.linalg.det(a)
    side = np.sign(np.real(det))
    return side + 0 * det, np.log(side * det)


def trace(a):
    return builtins.sum(a[..., i, i] for i in range(builtins.min(a.shape[-2:])))
