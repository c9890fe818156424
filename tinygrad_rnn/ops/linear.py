"""Products of matrices and tensors, and what solves linear equations.

One product carries the first half: :func:`~tinygrad_rnn.matmul` has the rule; ``dot``, ``inner``, ``tensordot`` and
``einsum`` are transposes and reshapes around it, and their gradients of every order come from it as well. What can be
one large product of two matrices is one, in both directions: the gradient of a weight that a batch shares is not made
for each element of the batch first. The second half is LAPACK's, by way of ``np.linalg``, which has no float16.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Container
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..arrays import as_array
from ..recording import primitive
from .elementwise import multiply
from .shape import diagonal, ravel, reshape, transpose, tril

__all__ = ["cholesky", "dot", "einsum", "inner", "inv", "matmul", "outer", "slogdet", "solve", "tensordot"]


# Products of matrices ------------------------------------------------------------------------------------------------


@primitive(kind="product")
def matmul(a, b):
    """The product of matrices, or of stacks of them, which broadcast: (..., N, K) and (..., K, M) give (..., N, M).

    A vector is a row on the left and a column on the right, and the result lacks that axis.

    Examples
    --------
    >>> matmul(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    array([21., 43.])
    """
    try:
        if b.ndim == 2 == a.ndim:
            return np.dot(a, b)  # the same, but faster
        if b.ndim == 2 < a.ndim:
            return np.dot(_rows(a), b).reshape(*a.shape[:-1], b.shape[1])
    except AttributeError:
        pass  # a list, or a number
    return np.matmul(a, b)


@primitive(kind="product")
def matmul_nt(a, b):
    """a bᵀ, for two matrices."""
    return np.dot(a, b.T)


@primitive(kind="product")
def matmul_tn(a, b):
    """aᵀ b, for two matrices."""
    return np.dot(a.T, b)


def _rows(x: Any) -> Any:
    """A stack of matrices as one: all their rows, one after another."""
    return x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _t(x: Any) -> Any:
    """Each matrix transposed."""
    return x.swapaxes(-1, -2)


def _left_rule(g: Any, b: Any, in_shape: tuple) -> Any:
    """g bᵀ."""
    if b.ndim == 2 == len(in_shape):
        return matmul_nt(g, b)
    if b.ndim == 1:
        g, b = g[..., None], b[:, None]
    if len(in_shape) == 1:
        g = g[..., None, :]
    if len(in_shape) == 2 < b.ndim:  # all of a stack share it: one product instead of a stack to be summed
        return matmul(_rows(_t(g)).T, _rows(_t(b)))
    return matmul(g, _t(b))


def _right_rule(g: Any, a: Any, in_shape: tuple) -> Any:
    """aᵀ g."""
    if a.ndim == 2 == len(in_shape):
        return matmul_tn(a, g)
    if len(in_shape) == 1:
        g = g[..., None]
    if a.ndim == 1:
        g, a = g[..., None, :], a[None, :]
    if len(in_shape) <= 2:
        return matmul(_rows(a).T, _rows(g)).reshape(in_shape)
    return matmul(_t(a), g)


# Of two matrices, the three products a b, a bᵀ and aᵀ b have each other for rules: nothing is ever transposed in memory
matmul.vjp(_left_rule, _right_rule)
matmul_nt.vjp(lambda g, b: matmul(g, b), lambda g, a: matmul_tn(g, a))
matmul_tn.vjp(lambda g, b: matmul_nt(b, g), lambda g, a: matmul(a, g))


# Products of tensors -------------------------------------------------------------------------------------------------


def dot(a: Any, b: Any) -> Any:
    """The product of scalars, vectors and matrices; of more axes, the last of a is summed with the last but one of b.

    Examples
    --------
    >>> dot(np.ones((2, 3)), np.ones((4, 3, 5))).shape
    (2, 4, 5)
    """
    if not (_has_axes(a) and _has_axes(b)):
        return multiply(a, b)
    return matmul(a, b) if as_array(b).ndim <= 2 else tensordot(a, b, (-1, -2))


def inner(a: Any, b: Any) -> Any:
    """The inner products of the vectors along the last axis of a with those of b; the product, for scalars.

    Examples
    --------
    >>> inner(np.ones((2, 3)), np.ones((4, 3))).shape
    (2, 4)
    """
    if not (_has_axes(a) and _has_axes(b)):
        return multiply(a, b)
    return tensordot(a, b, (-1, -1))


def _has_axes(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or getattr(x, "ndim", 0) > 0


def outer(a: Any, b: Any) -> Any:
    """Each element of a times each of b, both flattened: a matrix.

    Examples
    --------
    >>> outer(np.array([1.0, 2.0]), np.array([1.0, 10.0]))
    array([[ 1., 10.],
           [ 2., 20.]])
    """
    return multiply(reshape(a, (-1, 1)), ravel(b))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """The product summed over axes that a and b share; the result has the other axes of a, and then those of b.

    axes is a number n, for the last n axes of a with the first n of b; or a pair: those of a, and those of b.

    Raises
    ------
    ValueError
        Axes that are summed together differ in number or length.

    Examples
    --------
    >>> tensordot(np.ones((2, 3, 4)), np.ones((4, 3, 5)), ([1, 2], [1, 0])).shape
    (2, 5)
    """
    a, b = as_array(a), as_array(b)
    if isinstance(axes, (int, np.integer)):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ValueError(f"tensordot: axes: a has {a.ndim} and b {b.ndim}, expected no more than both, got {axes}")
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    in_a = normalize_axis_tuple(axes[0], a.ndim, "tensordot: axes of a")
    in_b = normalize_axis_tuple(axes[1], b.ndim, "tensordot: axes of b")
    lengths = [a.shape[i] for i in in_a], [b.shape[i] for i in in_b]
    if lengths[0] != lengths[1]:
        raise ValueError(f"tensordot: axes {in_a} of a, {a.shape}, have the lengths {lengths[0]}, "
                         f"and axes {in_b} of b, {b.shape}, have {lengths[1]}")  # fmt: skip
    names = dict(zip(in_b, in_a))
    out, _ = _product(a, tuple(range(a.ndim)), b, tuple([names.get(i, a.ndim + i) for i in range(b.ndim)]), ())
    return out


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's sum: letters name axes; over those that the result lacks, the product of the operands is summed.

    All of NumPy's subscripts: ``"ij,jk"`` (what occurs once is kept, in alphabetical order), ``"ij,jk->ki"``, diagonals
    (``"ii->i"``), any number of operands, and ``"..."`` for axes without a letter, which broadcast. Operands are
    multiplied in pairs, one call of :func:`~tinygrad_rnn.matmul` each, and first those that leave the least.

    Raises
    ------
    TypeError
        The subscripts are no string.
    ValueError
        They do not fit together, or not to the operands.

    Examples
    --------
    >>> einsum("bti,ij->btj", np.ones((2, 3, 4)), np.ones((4, 5))).shape
    (2, 3, 5)
    >>> einsum("ii", np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.float64(5.0)
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts: expected a string such as 'ij,jk->ik', got {type(subscripts).__name__} "
                        "(lists of axes are not taken)")  # fmt: skip
    operands = [*map(as_array, operands)]
    terms, wanted, pairs, output = _plan(subscripts, tuple([x.shape for x in operands]))
    factors = [_alone(*each) for each in zip(operands, terms, wanted)]
    for i, j, needed in pairs:
        right, left = factors.pop(j), factors.pop(i)
        factors.append(_product(*left, *right, needed))
    [(out, labels)] = factors
    return _ordered(out, labels, output)


def _alone(x: Any, labels: tuple, wanted: Container) -> tuple[Any, tuple]:
    """What can be done with one operand: diagonals, where it repeats a label, and sums over labels not wanted."""
    for label in labels:
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            x = diagonal(x, axis1=i, axis2=j)
            labels = (*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label)
    lost = tuple([i for i, label in enumerate(labels) if label not in wanted])
    return (x.sum(axis=lost), tuple([label for label in labels if label in wanted])) if lost else (x, labels)


def _product(a: Any, left: tuple, b: Any, right: tuple, wanted: Container) -> tuple[Any, tuple]:
    """The product of two operands, summed over the labels of both that are not wanted; and its labels.

    Those in both that are wanted number a stack of matrices; a's own number the rows, b's own the columns.
    """
    sizes = dict(zip(left + right, a.shape + b.shape))
    stack = tuple([label for label in left if label in right and label in wanted])
    summed = tuple([label for label in left if label in right and label not in wanted])
    rows = tuple([label for label in left if label not in right])
    columns = tuple([label for label in right if label not in left])

    def merged(x: Any, labels: tuple, first: tuple, last: tuple) -> Any:
        """x as a stack of matrices, whose rows have the first labels, and whose columns the last."""
        ends = [math.prod([sizes[label] for label in group]) for group in (first, last)]
        return _shaped(_ordered(x, labels, stack + first + last), (*[sizes[label] for label in stack], *ends))

    multiplied = matmul if summed else multiply  # without a sum: a column times a row, by broadcasting
    out = multiplied(merged(a, left, rows, summed), merged(b, right, summed, columns))
    labels = stack + rows + columns
    return _shaped(out, tuple([sizes[label] for label in labels])), labels


def _ordered(x: Any, labels: tuple, order: tuple) -> Any:
    return x if labels == order else transpose(x, tuple([labels.index(label) for label in order]))


def _shaped(x: Any, shape: tuple) -> Any:
    return x if x.shape == shape else reshape(x, shape)


@functools.lru_cache(1024)
def _plan(subscripts: str, shapes: tuple) -> tuple[list, list, list, tuple]:
    """The labels of each operand; which to keep; the pairs to multiply, and what of each; the result's labels."""
    terms, output = _labels(subscripts, shapes)
    sizes: dict = {}
    for term, shape in zip(terms, shapes):
        own: dict = {}
        for label, n in zip(term, shape):
            if own.setdefault(label, n) != n or n != 1 != sizes.get(label, 1) != n:
                raise ValueError(f"einsum: subscripts {subscripts!r}: axes {label!r} differ in length: {shapes}")
            if sizes.get(label, 1) == 1:
                sizes[label] = n
    # An axis of length 1 that broadcasts is dropped, like one that nobody else has: then all that is left agrees
    has = [{label for label, n in zip(term, shape) if n == sizes[label]} for term, shape in zip(terms, shapes)]
    wanted = [own & set(output).union(*has[:i], *has[i + 1 :]) for i, own in enumerate(has)]

    def size(labels: set) -> int:
        return math.prod([sizes[label] for label in labels])

    left, pairs = list(wanted), []
    while len(left) > 1:
        options = []
        for i, j in itertools.combinations(range(len(left)), 2):
            needed = (left[i] | left[j]) & set(output).union(*left[:i], *left[i + 1 : j], *left[j + 1 :])
            options.append((size(needed) - size(left[i]) - size(left[j]), i, j, needed))
        _, i, j, needed = min(options, key=lambda option: option[0])
        pairs.append((i, j, needed))
        left = [*left[:i], *left[i + 1 : j], *left[j + 1 :], needed]
    return terms, wanted, pairs, output


def _labels(subscripts: str, shapes: tuple) -> tuple[list, tuple]:
    """The labels of each operand's axes, and of the result's: letters, and ..., -2, -1 for the axes in "...".

    What an operand lacks of these, it lacks in front: so they broadcast.
    """
    about = f"einsum: subscripts {subscripts!r}:"
    given, arrow, result = subscripts.replace(" ", "").partition("->")
    terms, labels, most = given.split(","), [], 0
    for term in [*terms, result]:
        if not re.fullmatch(r"[A-Za-z]*(\.\.\.[A-Za-z]*)?", term):
            raise ValueError(f"{about} expected letters, and '...' at most once, got {term!r}")
    if len(terms) != len(shapes):
        raise ValueError(f"{about} they are for {len(terms)} operands, got {len(shapes)}")
    for i, (term, shape) in enumerate(zip(terms, shapes)):
        before, dots, after = term.partition("...")
        others = len(shape) - len(before + after)
        if others < 0 or (others and not dots):
            raise ValueError(f"{about} {term!r} does not name the axes of operand {i}, whose shape is {shape}")
        labels.append((*before, *range(-others, 0), *after))
        most = max(most, others)
    if not arrow:
        letters = re.sub("[,.]", "", given)
        result = "..." + "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    before, dots, after = result.partition("...")
    if most and not dots:
        raise ValueError(f"{about} the axes in '...' are lost: the result must have it, too")
    if len(set(before + after)) < len(before + after) or not set(before + after) <= set(given):
        raise ValueError(f"{about} a letter of the result must occur in it once, and in an operand")
    return labels, (*before, *range(-most, 0), *after)


# Equations -----------------------------------------------------------------------------------------------------------


@primitive
def solve(a, b):
    """The x with a x = b, for each matrix of a stack. b is a vector if it has one axis, and otherwise matrices.

    Raises
    ------
    numpy.linalg.LinAlgError
        a is singular, or not square.

    Examples
    --------
    >>> solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 2.0]))
    array([1. , 0.5])
    """
    a, b = as_array(a), as_array(b)
    columns = b if b.ndim > 1 else b[:, None]
    if a.shape[:-2] != columns.shape[:-2]:  # CuPy's does not broadcast
        stack = np.broadcast_shapes(a.shape[:-2], columns.shape[:-2])
        a, columns = [np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, columns)]
    out = np.linalg.solve(a, columns)
    return out if b.ndim > 1 else out[..., 0]


def _solve_left_rule(g: Any, a: Any, out: Any) -> Any:
    if out.ndim < a.ndim:  # b is a vector
        g, out = g[..., None], out[..., None]
    return -matmul(solve(_t(a), g), _t(out))


def _solve_right_rule(g: Any, a: Any, in_shape: tuple) -> Any:
    return solve(_t(a), g) if len(in_shape) > 1 else solve(_t(a), g[..., None])[..., 0]


@primitive
def inv(x):
    """The inverse of a matrix, or of each of a stack.

    To solve equations, :func:`~tinygrad_rnn.solve` is faster and more exact.

    Raises
    ------
    numpy.linalg.LinAlgError
        x is singular, or not square.

    Examples
    --------
    >>> inv(np.array([[2.0, 0.0], [0.0, 4.0]]))
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    return np.linalg.inv(x)


@primitive
def cholesky(x):
    """The lower triangular L with L Lᵀ = x, for a symmetric, positive definite matrix, or each of a stack.

    x is taken to be symmetric (only its lower triangle is read), and so is its gradient. The rule is that of I. Murray,
    "Differentiation of the Cholesky decomposition", arXiv:1602.07527, eq. 8-10.

    Raises
    ------
    numpy.linalg.LinAlgError
        x is not positive definite, or not square.

    Examples
    --------
    >>> cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
    array([[2., 0.],
           [1., 2.]])
    """
    return np.linalg.cholesky(x)


def _cholesky_rule(g: Any, out: Any) -> Any:
    p = matmul(_t(out), tril(g))
    p = 0.5 * (tril(p) + tril(p, -1))  # its lower triangle, with half of its diagonal
    s = solve(_t(out), _t(solve(_t(out), p)))  # L⁻ᵀ p L⁻¹, transposed
    return 0.5 * (s + _t(s))


@primitive(several=True)
def slogdet(x):
    """The sign of the determinant, and the logarithm of its absolute value, of a matrix or of each of a stack.

    Of a singular matrix these are 0 and -inf; there is no gradient there, and asking for it raises a LinAlgError.

    Examples
    --------
    >>> slogdet(np.array([[0.0, 1.0], [1.0, 0.0]]))
    (np.float64(-1.0), np.float64(0.0))
    """
    return tuple(np.linalg.slogdet(x))


solve.vjp(_solve_left_rule, _solve_right_rule)
inv.vjp(lambda g, out: -matmul(matmul(_t(out), g), _t(out)))
cholesky.vjp(_cholesky_rule)
slogdet.vjp(lambda g, x: g[1][..., None, None] * _t(inv(x)))  # the sign is constant
