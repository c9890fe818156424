"""The same elements in another shape, order or number: views, joining and parting, repeating, padding, triangles.

Each is linear, and its rule is the way back: reshape to reshape, stack to unstack, concatenate to split. Joining and
parting are one entry with many inputs or outputs: so a loop over time costs the same at every step, as ``for x in
unstack(xs)`` never makes a gradient of the size of xs for a single step. What repeats elements is made of
``broadcast_to`` or ``take``, and needs no rule of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..arrays import as_array, namespace
from ..errors import described
from ..recording import primitive
from .indexing import getitem, integers, take

__all__ = [
    "broadcast_to", "concatenate", "diagonal", "expand_dims", "flip", "matrix_transpose", "moveaxis", "pad", "ravel",
    "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "tile", "trace", "transpose", "tril", "triu",
    "unstack",
]  # fmt: skip


# Views ----------------------------------------------------------------------------------------------------------------


@primitive(kind="view")
def reshape(x, /, shape):
    """The elements in the same order (the last axis fastest) in another shape; -1 stands for what is left.

    Examples
    --------
    >>> reshape(np.arange(6), (2, -1))
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    return x.reshape(shape)


@primitive(kind="view")
def expand_dims(x, /, axis):
    """A new axis of length 1 (or several, for a tuple), which is axis ``axis`` of the result.

    Examples
    --------
    >>> expand_dims(np.ones((2, 3)), -1).shape
    (2, 3, 1)
    """
    return np.expand_dims(x, axis)


@primitive(kind="view")
def squeeze(x, /, axis=None):
    """Without an axis of length 1 (or several, for a tuple; all that there are, by default).

    Examples
    --------
    >>> squeeze(np.ones((2, 1, 3, 1)), -1).shape
    (2, 1, 3)
    """
    return x.squeeze(axis)


@primitive(kind="view")
def broadcast_to(x, /, shape):
    """x repeated to a shape, by NumPy's rules of broadcasting, without a copy.

    Examples
    --------
    >>> broadcast_to(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    return np.broadcast_to(x, shape)


@primitive(kind="view")
def transpose(x, /, axes=None):
    """The axes in another order: axis i of the result is axis ``axes[i]`` of x; in reverse, by default.

    Examples
    --------
    >>> transpose(np.ones((2, 3, 4)), (0, -1, 1)).shape
    (2, 4, 3)
    """
    return x.transpose(axes)


@primitive(kind="view")
def swapaxes(x, /, axis1, axis2):
    """Two axes in each other's place.

    Examples
    --------
    >>> swapaxes(np.ones((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    return x.swapaxes(axis1, axis2)


@primitive(kind="view")
def moveaxis(x, /, source, destination):
    """An axis (or several, for tuples) in another place; the others keep their order.

    Examples
    --------
    >>> moveaxis(np.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    return np.moveaxis(x, source, destination)


@primitive(kind="view")
def flip(x, /, axis=None):
    """The elements in reverse order along an axis, or several (all, by default).

    Examples
    --------
    >>> flip(np.array([[1, 2], [3, 4]]), 1)
    array([[2, 1],
           [4, 3]])
    """
    return np.flip(x, axis)


def _inverse(axes: Any, ndim: int) -> tuple | None:
    return None if axes is None else tuple(np.argsort(np.atleast_1d(axes) % ndim).tolist())


reshape.vjp(lambda g, in_shape: reshape(g, in_shape))
expand_dims.vjp(lambda g, in_shape: reshape(g, in_shape))
squeeze.vjp(lambda g, in_shape: reshape(g, in_shape))
broadcast_to.vjp(lambda g: g)  # the walker sums it down
transpose.vjp(lambda g, axes: transpose(g, _inverse(axes, g.ndim)))
swapaxes.vjp(lambda g, axis1, axis2: swapaxes(g, axis1, axis2))
moveaxis.vjp(lambda g, source, destination: moveaxis(g, destination, source))
flip.vjp(lambda g, axis: flip(g, axis))


def ravel(x: Any) -> Any:
    """All elements in one dimension, the last axis fastest.

    Examples
    --------
    >>> ravel(np.array([[1, 2], [3, 4]]))
    array([1, 2, 3, 4])
    """
    return reshape(x, -1)


def matrix_transpose(x: Any) -> Any:
    """Each matrix of a stack (..., M, N) transposed: (..., N, M).

    Examples
    --------
    >>> matrix_transpose(np.ones((5, 2, 3))).shape
    (5, 3, 2)
    """
    return swapaxes(x, -1, -2)


# Joining and parting --------------------------------------------------------------------------------------------------


def stack(arrays: Sequence, axis: int = 0) -> Any:
    """Arrays of one shape, joined along a new axis.

    Examples
    --------
    >>> stack([np.array([1, 2]), np.array([3, 4])], axis=1)
    array([[1, 3],
           [2, 4]])
    """
    return _stack(*_listed("stack", arrays, axis), axis=axis)


@primitive(several=True)
def unstack(x, /, axis=0):
    """The parts of x along an axis, in a tuple, without that axis; the inverse of :func:`~tinygrad_rnn.stack`.

    Parameters
    ----------
    x : array or Tensor
        Of one axis or more.
    axis : int, optional
        Which goes.

    Returns
    -------
    tuple of array or Tensor
        As many as the axis is long.

    Examples
    --------
    >>> unstack(np.array([[1, 2], [3, 4]]), axis=1)
    (array([1, 3]), array([2, 4]))
    """
    return tuple(x if axis == 0 else np.moveaxis(x, axis, 0))


def concatenate(arrays: Sequence, axis: int | None = 0) -> Any:
    """Arrays joined along an axis that they have; with axis=None each is flattened first.

    Examples
    --------
    >>> concatenate([np.array([1, 2]), np.array([3])])
    array([1, 2, 3])
    """
    arrays = _listed("concatenate", arrays, axis)
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    return _concatenate(*arrays, axis=axis)


@primitive(several=True)
def split(x, /, indices_or_sections, axis=0):
    """The parts of x along an axis, in a tuple; the inverse of :func:`~tinygrad_rnn.concatenate`.

    A number makes that many equal parts, and must divide the axis; a sequence says where to cut, in ascending order.

    Examples
    --------
    >>> split(np.arange(6), 3)
    (array([0, 1]), array([2, 3]), array([4, 5]))
    >>> split(np.arange(6), [1, -2])
    (array([0]), array([1, 2, 3]), array([4, 5]))
    """
    if not isinstance(indices_or_sections, (int, tuple)):
        cuts = integers("indices_or_sections", indices_or_sections).tolist()
        indices_or_sections = tuple(cuts) if isinstance(cuts, list) else cuts
    return tuple([x[part] for part in _parts(x.shape, indices_or_sections, axis)])


@functools.lru_cache(1024)
def _parts(shape: tuple, cuts: int | tuple, axis: int) -> list[tuple]:
    """The index of each part. The parts never overlap: otherwise, joining gradients would not be the rule."""
    axis = normalize_axis_index(axis, len(shape))
    n = shape[axis]
    if isinstance(cuts, int):
        if cuts < 1 or n % cuts:
            raise ValueError(f"{cuts} parts do not make an equal division of axis {axis}, which has length {n}")
        ends = [n // cuts * i for i in range(cuts + 1)]
    else:
        ends = [0, *[slice(cut).indices(n)[1] for cut in cuts], n]
        if ends != sorted(ends):
            raise ValueError(f"places to cut must ascend, got {cuts} for an axis of length {n}")
    return [(*[slice(None)] * axis, slice(*part)) for part in itertools.pairwise(ends)]


def _listed(operation: str, arrays: Sequence, axis: Any) -> list:
    """The arrays to join, in a list; refused if there are none, or if they did not come in one sequence."""
    if not hasattr(arrays, "__iter__") or not isinstance(axis, (int, np.integer, type(None))):
        raise TypeError(f"{operation}: expected a sequence of arrays and an axis, as in {operation}([a, b], 0); "
                        f"got {described(arrays)} and {described(axis)}")  # fmt: skip
    arrays = [*map(as_array, arrays)]
    if not arrays:
        raise ValueError(f"{operation}: arrays: expected at least one, got none")
    return arrays


@primitive
def _stack(*arrays, axis):
    return np.stack(arrays, axis)


@primitive
def _concatenate(*arrays, axis):
    return np.concatenate(arrays, axis)


_stack.op.name, _concatenate.op.name = "stack", "concatenate"
_stack.vjp(lambda g, axis: unstack(g, axis))
unstack.vjp(lambda g, axis: _stack(*g, axis=axis))
_concatenate.vjp(lambda g, in_shapes, axis: split(g, _cuts(in_shapes, axis), axis))
split.vjp(lambda g, axis: _concatenate(*g, axis=axis))


def _cuts(shapes: list, axis: int) -> tuple:
    """Where one of the joined arrays ends and the next begins."""
    return tuple(itertools.accumulate([shape[axis] for shape in shapes[:-1]]))


# Repeating, shifting and padding --------------------------------------------------------------------------------------


def tile(x: Any, reps: Any) -> Any:
    """x repeated as a whole, so many times along each axis; with more reps than axes, x gets axes in front.

    Examples
    --------
    >>> tile(np.array([1, 2]), (2, 2))
    array([[1, 2, 1, 2],
           [1, 2, 1, 2]])
    """
    x, reps = as_array(x), np.ravel(reps).tolist()
    shape = (1,) * (len(reps) - x.ndim) + x.shape
    reps = [1] * (x.ndim - len(reps)) + reps
    x = reshape(x, tuple([m for n in shape for m in (1, n)]))
    x = broadcast_to(x, tuple([m for pair in zip(reps, shape) for m in pair]))
    return reshape(x, tuple([r * n for r, n in zip(reps, shape)]))


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each element repeated along an axis (of x flattened, by default): so many times, or each its own number of times.

    Examples
    --------
    >>> repeat(np.array([1, 2]), 2)
    array([1, 1, 2, 2])
    >>> repeat(np.array([[1, 2]]), [3, 1], axis=1)
    array([[1, 1, 1, 2]])
    """
    x, axis = (ravel(x), 0) if axis is None else (as_array(x), axis)
    repeats, axis = integers("repeat: repeats", repeats), normalize_axis_index(axis, x.ndim, "repeat")
    if namespace(repeats) is not np:
        raise TypeError("repeat: repeats: expected integers on the host, as the result's shape depends on them")
    before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    if repeats.ndim:
        return take(x, np.repeat(np.arange(n), repeats), axis)
    x = broadcast_to(expand_dims(x, axis + 1), (*before, n, int(repeats), *after))
    return reshape(x, (*before, n * int(repeats), *after))


@primitive
def roll(x, /, shift, axis=None):
    """The elements shifted along an axis, or several; those pushed out at the end come in at the beginning.

    By default x is rolled as if flattened.

    Examples
    --------
    >>> roll(np.array([1, 2, 3, 4]), 1)
    array([4, 1, 2, 3])
    """
    return np.roll(x, shift, axis)


roll.vjp(lambda g, shift, axis: roll(g, tuple([-int(s) for s in shift]) if np.ndim(shift) else -int(shift), axis))


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """More elements at the ends of the axes of x.

    pad_width says how many: one number, (before, after), or ((before, after), ...), a pair for each axis. mode says
    which: ``"constant"`` (constant_values, in the same forms as pad_width), ``"edge"`` (the last element),
    ``"reflect"`` and ``"symmetric"`` (mirrored, without and with the last element), ``"wrap"`` (the other end).

    Raises
    ------
    ValueError
        There is no such mode here, or pad_width has another form than NumPy's; or there are constant_values in another
        mode.

    Examples
    --------
    >>> pad(np.array([1, 2, 3]), (1, 2))
    array([0, 1, 2, 3, 0, 0])
    >>> pad(np.array([1, 2, 3]), 2, "reflect")
    array([3, 2, 1, 2, 3, 2, 1])
    """
    x = as_array(x)
    if mode not in _PAD_MODES:
        raise ValueError(f"pad: mode: expected one of {', '.join(map(repr, _PAD_MODES))}, got {mode!r}")
    try:
        widths = np.broadcast_to(integers("pad: pad_width", pad_width), (x.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(f"pad: pad_width: expected a number, (before, after), or a pair for each of the {x.ndim} "
                         f"axes, got {described(pad_width)}") from None  # fmt: skip
    if mode == "constant":
        return _pad(x, widths or [(0, 0)], constant_values)
    if np.ndim(constant_values) or constant_values != 0:
        raise ValueError(f"pad: constant_values: only mode='constant' has any, and mode is {mode!r}")
    for axis, width in enumerate(widths):
        if any(width):
            x = take(x, np.pad(np.arange(x.shape[axis]), width, mode), axis)
    return x


_PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@primitive
def _pad(x, /, pad_width, constant_values):
    return np.pad(x, pad_width, constant_values=constant_values)


_pad.op.name = "pad"
_pad.vjp(
    lambda g, in_shape, pad_width: getitem(g, tuple([slice(a, a + n) for (a, _), n in zip(pad_width, in_shape)])),
)


# Triangles and diagonals ----------------------------------------------------------------------------------------------


@primitive
def tril(x, /, k=0):
    """The lower triangle of each matrix: zeros above diagonal k (0 is the main one, positive ones lie above it).

    Examples
    --------
    >>> tril(np.ones((3, 3)), -1)
    array([[0., 0., 0.],
           [1., 0., 0.],
           [1., 1., 0.]])
    """
    return np.tril(x, k)


@primitive
def triu(x, /, k=0):
    """The upper triangle of each matrix: zeros below diagonal k.

    Examples
    --------
    >>> triu(np.ones((3, 3)), 1)
    array([[0., 1., 1.],
           [0., 0., 1.],
           [0., 0., 0.]])
    """
    return np.triu(x, k)


tril.vjp(lambda g, k: tril(g, k))
triu.vjp(lambda g, k: triu(g, k))


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of the matrices in two axes, as the last axis of the result; with an offset, one to the right of it.

    Examples
    --------
    >>> diagonal(np.array([[1, 2, 3], [4, 5, 6]]), offset=1)
    array([2, 6])
    """
    x = as_array(x)
    if x.ndim < 2:
        raise ValueError(f"diagonal: x: expected two dimensions or more, got {described(x)}")
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    *others, rows, columns = x.shape
    start = offset if offset >= 0 else -offset * columns
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    step = columns + 1  # in a matrix written row by row, the elements of a diagonal are so far apart
    return getitem(reshape(x, (*others, rows * columns)), (..., slice(start, start + length * step, step)))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a :func:`diagonal`.

    Examples
    --------
    >>> trace(np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.float64(5.0)
    """
    return diagonal(x, offset, axis1, axis2).sum(axis=-1)
