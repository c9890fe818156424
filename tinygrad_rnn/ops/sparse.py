"""The product with a sparse matrix, and its rules: what large reservoirs are made of.

A matrix is three arrays, as SciPy and CuPy hold one by rows (CSR): ``values``, the numbers that are not 0, row by row;
``indices``, the column of each; ``indptr``, where each row begins, and the last ends. The values can have a gradient;
the pattern is constant. The products are SciPy's (``pip install 'tinygrad_rnn[reservoir]'``), on a GPU CuPy's.

Three products have each other for rules, as those of dense matrices do: x Wᵀ, x W, and the entries of aᵀ b where W has
some. So every order of derivative is there, and nothing dense is ever made.
"""

from __future__ import annotations

import functools
import importlib
from collections import OrderedDict
from types import ModuleType
from typing import Any

import numpy as np

from ..arrays import as_array, namespace
from ..errors import described
from ..recording import primitive

__all__ = ["sparse_matmul"]

CHUNK = 2**22  # products of single entries that are held at once


@primitive
def sparse_matmul(values, x, /, indices, indptr):
    """The product x Wᵀ, for a sparse matrix W (rows, columns).

    Parameters
    ----------
    values : array or Tensor, (entries,)
        The entries of W that are not 0, row by row: float32 or float64.
    x : array or Tensor, (..., columns)
        What is multiplied, of the same dtype.
    indices : array of int, (entries,)
        The column of each entry.
    indptr : array of int, (rows + 1,)
        Row i has the entries from indptr[i] to indptr[i + 1].

    Returns
    -------
    array or Tensor, (..., rows)
        The product. Both values and x have gradients.

    Raises
    ------
    ValueError
        The arrays are no such matrix, or x has fewer columns.
    TypeError
        The values and x differ in dtype, or have one that the products do not take.
    ImportError
        SciPy is not installed.

    Examples
    --------
    >>> values, indices, indptr = np.array([2.0, 3.0]), np.array([1, 0]), np.array([0, 1, 2, 2])
    >>> sparse_matmul(values, np.array([10.0, 1.0]), indices, indptr)      # [[0, 2], [3, 0], [0, 0]]
    array([ 2., 30.,  0.])
    """
    values, x, indices, indptr = map(as_array, (values, x, indices, indptr))
    return _times(_matrix(values, x, indices, indptr, x.shape[-1]), x)


@primitive
def sparse_matmul_t(values, x, /, indices, indptr, columns):
    """x W, for the same W: x is (..., rows), the result (..., columns)."""
    return _times(_matrix(values, x, indices, indptr, columns, transposed=True), x)


@primitive
def sparse_outer(a, b, /, indices, indptr):
    """Of aᵀ b the entries that W has, summed over all other axes: a is (..., rows), b (..., columns)."""
    rows = np.searchsorted(indptr, namespace(indices).arange(len(indices)), side="right") - 1
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    total = np.zeros_like(a, shape=indices.shape)
    step = max(1, CHUNK // max(len(indices), 1))
    for i in range(0, len(a), step):
        total += (a[i : i + step, rows] * b[i : i + step, indices]).sum(axis=0)
    return total


def _times(matrix: Any, x: Any) -> Any:
    """x Wᵀ: of one row a product with a vector, which is much faster."""
    rows, columns = matrix.shape
    if x.shape[-1] != columns:
        raise ValueError(f"the matrix has {columns} columns, and x {x.shape[-1]}")
    if x.size == columns:
        times = getattr(matrix, "_matmul_vector", matrix.__matmul__)  # SciPy's own: what its @ comes to, in a few µs
        return times(x.reshape(columns)).reshape(*x.shape[:-1], rows)
    return (matrix @ x.reshape(-1, columns).T).T.reshape(*x.shape[:-1], rows)


# Matrices ------------------------------------------------------------------------------------------------------------

MOST = 16
_made: OrderedDict[tuple, tuple] = OrderedDict()  # the latest: a scan has the same ones at each step


def _matrix(values: Any, x: Any, indices: Any, indptr: Any, columns: int, transposed: bool = False) -> Any:
    """W, or Wᵀ, without a copy of what it is made of."""
    if values.dtype != x.dtype:
        raise TypeError(f"expected values and x of one dtype, got {described(values)} and {described(x)}")
    key = id(values), id(indices), id(indptr), columns
    found = _made.get(key)
    if found is None:
        matrix = _checked_matrix(values, indices, indptr, columns)
        found = matrix, matrix.T, (values, indices, indptr)  # which keeps their ids
        _made[key] = found
        while len(_made) > MOST:
            _made.popitem(last=False)
    return found[transposed]


def _checked_matrix(values: Any, indices: Any, indptr: Any, columns: int) -> Any:
    if values.dtype.name not in ("float32", "float64"):
        raise TypeError(f"expected float32 or float64, got {described(values)}")
    if indices.dtype.kind not in "iu" or indptr.dtype.kind not in "iu":
        raise TypeError(f"expected integers for indices and indptr, got {described(indices)} and {described(indptr)}")
    matrix = sparse_arrays(namespace(values)).csr_matrix((values, indices, indptr), shape=(len(indptr) - 1, columns))
    if (np.diff(indptr) < 0).any() or ((indices < 0) | (indices >= columns)).any():
        raise ValueError(f"expected columns from 0 to {columns - 1} in indices, and indptr ascending")
    return matrix


@functools.cache
def sparse_arrays(arrays: ModuleType) -> ModuleType:
    """The module of sparse matrices that goes with NumPy, or with CuPy."""
    try:
        return importlib.import_module("scipy.sparse" if arrays is np else f"{arrays.__name__}x.scipy.sparse")
    except ImportError as error:
        raise ImportError("sparse matrices need SciPy: pip install 'tinygrad_rnn[reservoir]'") from error


sparse_matmul.vjp(
    lambda g, x, indices, indptr: sparse_outer(g, x, indices, indptr),
    lambda g, values, in_shape, indices, indptr: sparse_matmul_t(values, g, indices, indptr, in_shape[-1]),
)
sparse_matmul_t.vjp(
    lambda g, x, indices, indptr: sparse_outer(x, g, indices, indptr),
    lambda g, values, indices, indptr: sparse_matmul(values, g, indices, indptr),
)
sparse_outer.vjp(
    lambda g, b, indices, indptr: sparse_matmul(g, b, indices, indptr),
    lambda g, a, in_shape, indices, indptr: sparse_matmul_t(g, a, indices, indptr, in_shape[-1]),
)
