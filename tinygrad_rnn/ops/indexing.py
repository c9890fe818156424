"""Choosing elements: indexing, its adjoint, and what is made of the two.

``getitem`` and ``put`` are each other's rule, so between them they have every order of derivative. An index is a
constant: integers, slices (of any step), None, ``...``, arrays or lists of integers (which may name a place twice) or
of booleans, tensors of these, or a tuple of all that, with NumPy's meaning. To take the rows of an array one by one,
use ``unstack``, or iterate: that is one entry, while the gradient of each ``x[i]`` alone has the size of x.

Where NumPy raises an IndexError, CuPy wraps the integers in an array around. So for an x on a GPU, index arrays on the
host are checked before they are moved there; those on the GPU are used as they are, as a check would wait for the GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..arrays import as_array, device_of, is_array, move, namespace, scatter_add, to_array
from ..errors import described
from ..recording import primitive
from ..tensor import Tensor, bare

__all__ = ["at", "getitem", "one_hot", "take", "take_along_axis"]


# An element, or many --------------------------------------------------------------------------------------------------


@primitive
def getitem(x, /, index):
    """What ``x[index]`` is, for any of NumPy's indices.

    The gradient of a place is the sum over all that was taken from it.

    Parameters
    ----------
    x : array or Tensor
        What is indexed.
    index : int, slice, None, Ellipsis, array of int or bool, or a tuple of these
        Which places: constants.

    Returns
    -------
    array or Tensor
        The elements there: a copy or a view, as of NumPy.

    Raises
    ------
    IndexError
        There is no such place.

    Examples
    --------
    >>> getitem(np.array([1.0, 2.0, 3.0]), [0, 2, 2])
    array([1., 3., 3.])
    """
    return x[usable(index, x)]


@primitive
def put(x, /, index, shape):
    """The adjoint of ``getitem``: zeros of a shape, with x added at an index.

    Examples
    --------
    >>> put(np.array([1.0, 2.0, 3.0]), [0, 2, 2], (4,))
    array([1., 0., 5., 0.])
    """
    out = namespace(x).zeros(shape, x.dtype)
    if may_repeat(index):
        scatter_add(out, usable(index, out), x)
    else:
        out[usable(index, out)] = x
    return out


getitem.vjp(lambda g, index, in_shape: put(g, index, in_shape))
put.vjp(lambda g, index: getitem(g, index))


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements of x at integer places along an axis (of x flattened, by default). Places may be named twice.

    The axis is replaced by the dimensions of indices: with x (N, D), indices (T, B) and axis 0 the result is (T, B, D).

    Examples
    --------
    >>> take(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), [2, 0, -1], axis=1)
    array([[3., 1., 3.],
           [6., 4., 6.]])
    """
    indices = integers("take: indices", indices)
    x = as_array(x)
    if axis is None:
        return getitem(x.reshape(-1), indices)
    return getitem(x, (slice(None),) * normalize_axis_index(axis, x.ndim, "take") + (indices,))


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """One place along an axis for each element of the result: what ``argmax(x, axis, keepdims=True)`` gives, say.

    indices has as many dimensions as x; the others broadcast. With axis=None both are flat.

    Examples
    --------
    >>> x = np.array([[1.0, 3.0], [5.0, 4.0]])
    >>> take_along_axis(x, x.argmax(axis=1, keepdims=True), axis=1)
    array([[3.],
           [5.]])
    """
    indices = integers("take_along_axis: indices", indices)
    x = as_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = normalize_axis_index(axis, x.ndim, "take_along_axis")
    if indices.ndim != x.ndim:
        raise ValueError(f"take_along_axis: indices: expected {x.ndim} dimensions, as x has, got {indices.ndim}")
    places = [np.arange(n).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, n in enumerate(x.shape)]
    return getitem(x, (*places[:axis], indices, *places[axis + 1 :]))


# A new array that differs in some places ------------------------------------------------------------------------------


def at(x: Any) -> At:
    """Places of x, to give them other values in a new tensor: ``x.at[index].set(v)``, ``.add(v)``, ``.multiply(v)``.

    The values v broadcast to the shape of ``x[index]``, and are cast to x's dtype. Both x and v have gradients.

    Parameters
    ----------
    x : array or Tensor
        It stays as it is.

    Returns
    -------
    At
        What waits for its index.

    Examples
    --------
    >>> at(np.array([1.0, 2.0, 3.0]))[1:].set(0.0)
    array([1., 0., 0.])
    """
    return At(as_array(x))


class At:
    """``x.at``: waits for its index."""

    __slots__ = ("x",)

    def __init__(self, x: Any):
        self.x = x

    def __getitem__(self, index: Any) -> Places:
        return Places(self.x, index)


class Places:
    """``x.at[index]``: places of x. Each method returns a new tensor that is x elsewhere; x itself stays as it is.

    v broadcasts to the shape of ``x[index]``, and is cast to x's dtype. Both x and v have gradients.
    """

    __slots__ = ("index", "x")

    def __init__(self, x: Any, index: Any):
        self.x, self.index = x, index

    def set(self, v: Any) -> Any:
        """v at these places.

        An array of integers must not name a place twice, as nobody could say which of its values stays: that is a
        ValueError (unless v is a number), but is not checked for an index on a GPU.

        Examples
        --------
        >>> at(np.array([1.0, 2.0, 3.0]))[[0, 2]].set(np.array([10.0, 30.0]))
        array([10.,  2., 30.])
        """
        return _set(self.x, v, self.index)

    def add(self, v: Any) -> Any:
        """x + v at these places; where the index names a place twice, both are added.

        Examples
        --------
        >>> at(np.array([1.0, 2.0, 3.0]))[[0, 2, 2]].add(10.0)
        array([11.,  2., 23.])
        """
        return _add(self.x, v, self.index)

    def multiply(self, v: Any) -> Any:
        """x · v at these places; no place may be named twice, as for :meth:`set`.

        Examples
        --------
        >>> at(np.array([1.0, 2.0, 3.0]))[1:].multiply(10.0)
        array([ 1., 20., 30.])
        """
        return self.set(getitem(self.x, self.index) * v)


@primitive
def _set(x, v, /, index):
    check_value(v, x)
    if not isinstance(v, (int, float)) and may_repeat(index) and repeats(index, x.shape):
        raise ValueError("index: names a place twice, and which value stays there is undefined; .add(v) adds them all")
    out = to_array(x).copy()
    out[usable(index, out)] = v
    return out


@primitive
def _add(x, v, /, index):
    check_value(v, x)
    out, index = to_array(x).copy(), usable(index, x)
    if may_repeat(index):  # NumPy's add.at would read past the end of values that it has to broadcast
        scatter_add(out, index, np.broadcast_to(v, out[index].shape) if np.ndim(v) else v)
    else:
        out[index] += v
    return out


def _rule_of_v(g, index, in_shape):
    g = getitem(g, index)
    return g.reshape((1,) * (len(in_shape) - g.ndim) + g.shape)  # an assignment drops leading ones of v


_set.op.name, _add.op.name = "at.set", "at.add"
_set.vjp(lambda g, index: _set(g, 0.0, index), _rule_of_v)
_add.vjp(lambda g: g, _rule_of_v)


def check_value(v: Any, x: Any) -> None:
    """An assignment would cast and copy silently."""
    dtype = as_array(v).dtype
    if not np.can_cast(dtype, x.dtype, "same_kind"):
        raise TypeError(f"v: {dtype} does not fit into {x.dtype}: cast one of them first, with astype")
    if is_array(v) and not isinstance(v, np.generic) and namespace(v) is not namespace(x):
        raise TypeError("x and v are on different devices")


# Indices --------------------------------------------------------------------------------------------------------------


def may_repeat(index: Any) -> bool:
    """Whether an index can name a place twice: only integers in an array or a list can."""
    parts = index if isinstance(index, tuple) else (index,)
    if _BASIC.issuperset(map(type, parts)):
        return False
    arrays = [as_array(part) for part in parts if type(part) not in _BASIC]
    return any(array.ndim > 0 and array.dtype.kind in "iu" for array in arrays)


_BASIC = {int, slice, type(None), type(...)}


def repeats(index: Any, shape: tuple) -> bool:
    """Whether an index does name a place twice. Not known of an index on a GPU: False."""
    if namespace(*(index if isinstance(index, tuple) else (index,))) is not np:
        return False
    named = np.zeros(shape, bool)
    named[index] = True
    return np.count_nonzero(named) < named[index].size


def usable(index: Any, x: Any) -> Any:
    """The index as it is for an x on the host. For one on a GPU its arrays on the host are checked, and moved there."""
    if isinstance(x, (np.ndarray, np.generic)):
        return index
    parts, axis = [], 0
    given = index if isinstance(index, tuple) else (index,)
    given = [integers("index", part, "biu") if isinstance(part, (list, tuple)) else part for part in given]
    widths = [_width(part) for part in given]
    for part, width in zip(given, widths):
        if isinstance(part, np.ndarray):
            if part.dtype.kind in "iu" and part.size and axis < x.ndim:
                n, low, high = x.shape[axis], int(part.min()), int(part.max())
                if low < -n or high >= n:
                    wrong = low if low < -n else high
                    raise IndexError(f"index {wrong} is out of bounds for axis {axis} with size {n}")
            part = move(part, device_of(x)) if part.ndim or part.dtype.kind == "b" else int(part)
        parts.append(part)
        axis += x.ndim - sum(widths) if part is ... else width
    return tuple(parts)


def _width(part: Any) -> int:
    """How many axes of x a part of an index takes."""
    if part is None or part is ... or isinstance(part, bool):
        return 0
    return part.ndim if is_array(part) and part.dtype.kind == "b" else 1


def integers(name: str, value: Any, kinds: str = "iu") -> Any:
    """An argument as an array of integers, refused if it is anything else."""
    array = as_array(bare(value))
    if array.size == 0 and isinstance(value, (list, tuple)):
        return array.astype(np.intp)  # NumPy makes floats of an empty list
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected integers, got {described(value)}")
    return array


def one_hot(indices: Any, num_classes: int, dtype: Any = float) -> Any:
    """A constant that is 1 at the index and 0 elsewhere, along a new last axis.

    Parameters
    ----------
    indices : array, Tensor or list of int
        Of any shape.
    num_classes : int
        The length of the new axis.
    dtype : dtype, optional
        Of the result.

    Returns
    -------
    array or Tensor
        An array for an array or a list, a tensor for a tensor.

    Raises
    ------
    TypeError
        The indices are no integers.
    ValueError
        An index is below 0, or not below num_classes. (On a GPU it gives zeros, as a check would wait for the GPU.)

    Examples
    --------
    >>> one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    array = integers("one_hot: indices", indices)
    if namespace(array) is np and array.size and not 0 <= array.min() <= array.max() < num_classes:
        raise ValueError(
            f"one_hot: indices: expected 0 to {num_classes - 1} (num_classes is {num_classes}), "
            f"got {array.min()} to {array.max()}"
        )
    out = (array[..., None] == namespace(array).arange(num_classes)).astype(dtype)
    return Tensor(out) if isinstance(indices, Tensor) else out
