"""Many numbers to few, or each to those before it: sums, products, extremes, norms, softmax.

``axis`` is NumPy's throughout: None for all elements, an axis, or a tuple of axes (an empty one for none). A rule gives
the gradient its dropped axes back (``expand``), and broadcasting does the rest. At a kink it is the sub-gradient of
least norm: elements that tie for a maximum share its gradient evenly, and a norm has the gradient 0 at 0.

Like NumPy's, some of these names hide Python's own inside this module: ``sum`` is the one below.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..arrays import as_array, floating
from ..recording import primitive
from ..tensor import bare
from .elementwise import absolute, astype, exp, quotient, sign, where
from .indexing import getitem
from .shape import broadcast_to, flip, pad, reshape, squeeze, stack, unstack

__all__ = [
    "all", "any", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logsumexp", "max", "mean", "min", "norm",
    "prod", "softmax", "std", "sum", "var",
]  # fmt: skip


def axes_of(axis: Any, ndim: int, argument: str | None = None) -> tuple:
    """The axes that are meant, counted from 0. (An error names the argument.)"""
    if axis is None or (ndim == 0 and axis in (0, -1)):  # NumPy allows axis 0 of a number
        return tuple(range(ndim))
    return normalize_axis_tuple(axis, ndim, argument)


def length(shape: tuple, axis: Any, argument: str | None = None) -> int:
    """The number of elements that become one."""
    return math.prod([shape[i] for i in axes_of(axis, len(shape), argument)])


def expand(g: Any, shape: tuple, axis: Any) -> Any:
    """g with the axes back, of length 1, that a reduction of this shape dropped or kept: it broadcasts to the shape."""
    if axis is None:
        return g  # has one element, and broadcasts as it is
    axes = axes_of(axis, len(shape))
    return reshape(g, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def dropped(out: Any, axis: Any, keepdims: bool) -> Any:
    """out without the axes that were reduced, unless they are kept; a scalar where none is left, as NumPy has it."""
    return out if keepdims else np.squeeze(out, axis)[()]


# Sums and means ------------------------------------------------------------------------------------------------------


@primitive(kind="reduction")
def sum(x, /, axis=None, keepdims=False):
    """The sum over axes.

    Examples
    --------
    >>> sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    array([4., 6.])
    """
    return np.sum(x, axis=axis, keepdims=keepdims)


@primitive(kind="reduction")
def mean(x, /, axis=None, keepdims=False):
    """The mean over axes; NaN, with NumPy's warning, where there is nothing.

    Examples
    --------
    >>> mean(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=-1, keepdims=True)
    array([[1.5],
           [3.5]])
    """
    return np.mean(x, axis=axis, keepdims=keepdims)


@primitive(kind="reduction")
def var(x, /, axis=None, ddof=0, keepdims=False):
    """The variance over axes: the mean of the squared distances from the mean, but with n - ddof instead of n.

    As in NumPy, ddof is 0 by default (PyTorch's is 1), and n must be larger: otherwise the result is NaN or inf, with a
    warning, and the gradient NaN.

    Examples
    --------
    >>> var(np.array([1.0, 2.0, 3.0])), var(np.array([1.0, 2.0, 3.0]), ddof=1)
    (np.float64(0.6666666666666666), np.float64(1.0))
    """
    return np.var(x, axis=axis, ddof=ddof, keepdims=keepdims)


def std(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation over axes: the root of :func:`var`. Its gradient at equal elements is 0.

    Examples
    --------
    >>> std(np.array([1.0, 2.0, 3.0]), ddof=1)
    np.float64(1.0)
    """
    x = as_array(x)
    free = length(x.shape, axis, "std: axis") - ddof
    root = math.sqrt(free) if free > 0 else 0.0
    return _norm(x - mean(x, axis, keepdims=True), 2, axis, keepdims) / root


@primitive
def cumsum(x, /, axis=None):
    """The sums of each element and all before it along an axis (of x flattened, by default).

    Examples
    --------
    >>> cumsum(np.array([1.0, 2.0, 3.0]))
    array([1., 3., 6.])
    """
    return np.cumsum(x, axis=axis)


def _var_slope(x: Any, axis: Any, ddof: float) -> Any:
    free = length(x.shape, axis) - ddof
    return (2 / free if free > 0 else math.nan) * (x - mean(x, axis, keepdims=True))


def _cumsum_rule(g: Any, in_shape: tuple, axis: int | None) -> Any:
    """An element counts in its own sum and all later ones."""
    along = axis or 0  # flattened: g has one axis
    return reshape(flip(cumsum(flip(g, along), along), along), in_shape)


sum.vjp(lambda g, in_shape, axis: broadcast_to(expand(g, in_shape, axis), in_shape))
mean.vjp(lambda g, in_shape, axis: broadcast_to(expand(g / (length(in_shape, axis) or 1), in_shape, axis), in_shape))
var.vjp(lambda g, x, axis, ddof: expand(g, x.shape, axis) * _var_slope(x, axis, ddof))
cumsum.vjp(_cumsum_rule)


# Products ------------------------------------------------------------------------------------------------------------


@primitive(kind="reduction")
def prod(x, /, axis=None, keepdims=False):
    """The product over axes. Nothing is divided by in its rule: gradients are right where elements are 0.

    Examples
    --------
    >>> prod(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    array([3., 8.])
    """
    return np.prod(x, axis=axis, keepdims=keepdims)


@primitive
def cumprod(x, /, axis=None):
    """The products of each element and all before it along an axis (of x flattened, by default).

    Gradients are right where elements are 0, as they are for :func:`prod`, and take linear time.

    Examples
    --------
    >>> cumprod(np.array([2.0, 3.0, 4.0]))
    array([ 2.,  6., 24.])
    """
    return np.cumprod(x, axis=axis)


def _delayed(x: Any, axis: int) -> Any:
    """x one place later along an axis: a 1 comes in at the beginning, and the last is pushed out."""
    before = (slice(None),) * axis
    widths = [(int(i == axis), 0) for i in range(x.ndim)]
    return getitem(pad(x, widths, constant_values=1), (*before, slice(x.shape[axis])))


def _product_of_others(x: Any, axis: Any) -> Any:
    """For each element, the product of those before it and of those after it, one axis after another."""
    others: Any = 1
    for i in axes_of(axis, x.ndim):
        before, after = cumprod(_delayed(x, i), i), flip(cumprod(_delayed(flip(x, i), i), i), i)
        others = others * (before * after)
        x = prod(x, i, keepdims=True)
    return others


def _cumprod_rule(g: Any, x: Any, out: Any, axis: int | None) -> Any:
    """g_k x_0...x_k + g_(k+1) x_0...x_(k+1) + ..., by x_k: the product of what is before it, times r_k.

    Here r_k = g_k + x_(k+1) r_(k+1): Horner's scheme, from the last to the first.
    """
    in_shape, along = x.shape, 0 if axis is None else axis % (x.ndim or 1)
    x = reshape(x, g.shape)
    if g.size == 0:
        return reshape(g, in_shape)
    rs, carried = [], 0
    for g_k, x_k in zip(reversed(unstack(g, along)), reversed(unstack(x, along))):
        rs.append(g_k + carried)
        carried = x_k * rs[-1]
    return reshape(_delayed(out, along) * stack(rs[::-1], along), in_shape)


prod.vjp(lambda g, x, axis: expand(g, x.shape, axis) * _product_of_others(x, axis))
cumprod.vjp(_cumprod_rule)


# Extremes ------------------------------------------------------------------------------------------------------------


@primitive(kind="reduction")
def max(x, /, axis=None, keepdims=False):
    """The largest element over axes; NaN if there is one.

    Elements that tie share the gradient evenly; if the result is NaN, the NaNs do.

    Examples
    --------
    >>> max(np.array([[1.0, 4.0], [3.0, 2.0]]), axis=1)
    array([4., 3.])
    """
    return np.max(x, axis=axis, keepdims=keepdims)


@primitive(kind="reduction")
def min(x, /, axis=None, keepdims=False):
    """The smallest element over axes; NaN if there is one. Its gradient is shared as that of :func:`max` is.

    Examples
    --------
    >>> min(np.array([[1.0, 4.0], [3.0, 2.0]]), axis=1)
    array([1., 2.])
    """
    return np.min(x, axis=axis, keepdims=keepdims)


def _shared(g: Any, x: Any, out: Any, axis: Any) -> Any:
    chosen = (x == expand(out, x.shape, axis)) | (x != x)  # a NaN is unequal to itself, and always the result
    number = np.sum(chosen, axis=axis, keepdims=True).astype(g.dtype)
    return where(chosen, expand(g, x.shape, axis) / number, 0)


max.vjp(_shared)
min.vjp(_shared)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) largest element along an axis, or in x flattened: a plain array.

    Examples
    --------
    >>> argmax(np.array([[1.0, 4.0], [3.0, 2.0]]), axis=1)
    array([1, 0])
    """
    return np.argmax(bare(x), axis=axis, keepdims=keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the (first) smallest element along an axis, or in x flattened: a plain array.

    Examples
    --------
    >>> argmin(np.array([[1.0, 4.0], [3.0, 2.0]]), axis=1)
    array([0, 1])
    """
    return np.argmin(bare(x), axis=axis, keepdims=keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements over axes are true (not 0): a plain array.

    Examples
    --------
    >>> all(np.array([[1.0, 0.0], [3.0, 2.0]]), axis=1)
    array([False,  True])
    """
    return np.all(bare(x), axis=axis, keepdims=keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether one element or more over axes is true (not 0): a plain array.

    Examples
    --------
    >>> any(np.array([[1.0, 0.0], [0.0, 0.0]]), axis=1)
    array([ True, False])
    """
    return np.any(bare(x), axis=axis, keepdims=keepdims)


# Norms ---------------------------------------------------------------------------------------------------------------


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of vectors (axis is one axis) or of matrices (axis is a pair of axes); the gradient at 0 is 0.

    Parameters
    ----------
    x : array or Tensor
        The vectors or matrices.
    ord : float or str, optional
        None: the root of the sum of squares, of all elements if axis is None, too. For vectors: any number p > 0, for
        ``(Σ |x|^p)^(1/p)``; ``inf`` or ``-inf``, for the largest or smallest ``|x|``. For matrices: ``"fro"`` (the same
        as None); 1 or -1, for the largest or smallest sum of a column of ``|x|``; ``inf`` or ``-inf``, for that of a
        row.
    axis : int or tuple of int, optional
        By default all axes; with ord, x must then be a vector or a matrix.
    keepdims : bool, optional
        Whether the axes are kept, with length 1.

    Returns
    -------
    array or Tensor
        Without the axes, unless they are kept.

    Raises
    ------
    ValueError
        There is no such norm, or it needs singular values (2, -2, ``"nuc"``), which have no rule here.

    Examples
    --------
    >>> norm(np.array([[3.0, 4.0], [0.0, 0.0]])), norm(np.array([3.0, -4.0]), 1)
    (np.float64(5.0), np.float64(7.0))
    """
    x = as_array(x)
    x = astype(x, float) if x.dtype.kind in "biu" else x
    axes = axes_of(axis, x.ndim, "norm: axis")
    if (ord is None and (axis is None or len(axes) in (1, 2))) or (ord == "fro" and len(axes) == 2):
        return _norm(x, 2, axis, keepdims)
    if len(axes) == 1:
        if ord in (math.inf, -math.inf):
            return (max if ord > 0 else min)(absolute(x), axis, keepdims)
        if not isinstance(ord, Real) or not ord > 0:
            raise ValueError(f"norm: ord: for vectors expected None, a number p > 0, inf or -inf, got {ord!r}")
        return sum(absolute(x), axis, keepdims) if ord == 1 else _norm(x, float(ord), axis, keepdims)
    if len(axes) != 2:
        raise ValueError(f"norm: axis: expected one axis (vectors) or two (matrices), got {len(axes)} of {x.shape}")
    if ord in (2, -2, "nuc"):
        raise ValueError(f"norm: ord={ord!r} of matrices needs singular values, which have no rule here; 'fro' has one")
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f"norm: ord: for matrices expected None, 'fro', 1, -1, inf or -inf, got {ord!r}")
    rows, columns = axes
    summed, rest = (rows, columns) if abs(ord) == 1 else (columns, rows)
    out = (max if ord > 0 else min)(sum(absolute(x), summed, keepdims=True), rest, keepdims=True)
    return out if keepdims else squeeze(out, axes)


@primitive(kind="reduction")
def _norm(x, /, ord, axis, keepdims):
    """(Σ |x|^ord)^(1/ord), of what is divided by its largest element first, so that no power is too large or small."""
    x = np.abs(floating(x))
    if x.size == 0:
        return np.sum(x, axis=axis, keepdims=keepdims)
    largest = np.max(x, axis=axis, keepdims=True)
    scale = np.where((largest == 0) | np.isinf(largest), 1, largest)
    total = np.sum(np.square(x / scale) if ord == 2 else (x / scale) ** ord, axis=axis, keepdims=True)
    return dropped(scale * (np.sqrt(total) if ord == 2 else total ** (1 / ord)), axis, keepdims)


def _norm_rule(g: Any, x: Any, out: Any, ord: float, axis: Any) -> Any:
    ratio = quotient(x, expand(out, x.shape, axis))
    if ord > 1:
        slope = ratio if ord == 2 else sign(x) * absolute(ratio) ** (ord - 1)
    else:
        slope = quotient(sign(x), absolute(ratio) ** (1 - ord))
    return expand(g, x.shape, axis) * slope


_norm.op.name = "norm"
_norm.vjp(_norm_rule)


# Softmax -------------------------------------------------------------------------------------------------------------


def _exponentials(x: Any, axis: Any) -> tuple:
    """The largest element over axes; x less it; exp of that, which cannot overflow; the sum of that, which is not 0.

    From -inf alone nothing is taken off: its exp is 0, and the sum is set to 1.
    """
    x = floating(x)
    largest = np.max(x, axis=axis, keepdims=True)
    with np.errstate(over="ignore"):  # -1e308 - 1e308 is -inf, and its exp is 0: as it should be
        shifted = x - np.where(np.isinf(largest), 0, largest)
    powers = np.exp(shifted)
    total = np.sum(powers, axis=axis, keepdims=True)
    return largest, shifted, powers, np.where(total == 0, 1, total)


@primitive(kind="reduction")
def logsumexp(x, /, axis=None, keepdims=False):
    """The logarithm of the sum of exp(x) over axes, without overflow: a smooth maximum.

    Of -inf alone it is -inf, with the gradient 0; with an inf it is inf, with the gradient NaN.

    Parameters
    ----------
    x : array or Tensor
        Of any shape.
    axis : int or tuple of int, optional
        By default all axes.
    keepdims : bool, optional
        Whether the axes are kept, with length 1.

    Returns
    -------
    array or Tensor
        Without the axes, unless they are kept.

    Examples
    --------
    >>> logsumexp(np.array([1000.0, 1000.0]))
    np.float64(1000.6931471805599)
    """
    largest, _, _, total = _exponentials(x, axis)
    return dropped(largest + np.log(total), axis, keepdims)


@primitive
def softmax(x, /, axis=-1):
    """The softmax exp(x) / Σ exp(x) over axes, without overflow: positive numbers whose sum is 1.

    Of -inf alone (where everything is masked) it is 0. With an inf it is NaN, as inf - inf is.

    Parameters
    ----------
    x : array or Tensor
        Of any shape.
    axis : int or tuple of int, optional
        Over which the sum is 1; by default the last.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0, -np.inf]))
    array([0.5, 0.5, 0. ])
    """
    _, _, powers, total = _exponentials(x, axis)
    powers /= total
    return powers


@primitive
def log_softmax(x, /, axis=-1):
    """The logarithm of the softmax, exact where that is too small for a number; -inf, where it is 0.

    Parameters
    ----------
    x : array or Tensor
        Of any shape.
    axis : int or tuple of int, optional
        That of the softmax; by default the last.

    Returns
    -------
    array or Tensor
        Of the same shape.

    Examples
    --------
    >>> log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    _, shifted, _, total = _exponentials(x, axis)
    return shifted - np.log(total)


logsumexp.vjp(lambda g, x, axis: expand(g, x.shape, axis) * softmax(x, axis))
softmax.vjp(lambda g, out, axis: out * (g - sum(g * out, axis, keepdims=True)))
log_softmax.vjp(lambda g, out, axis: g - exp(out) * sum(g, axis, keepdims=True))
