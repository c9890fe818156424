"""What the functions of this room are given, checked: intervals, points, grids, and what a user's map returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trees
from ..arrays import move
from ..errors import ShapeError, described
from ..modes import no_grad
from ..tensor import Tensor, bare, tensor


def check_callable(name: str, f: Any, what: str) -> None:
    """Raise a TypeError, if it cannot be called. what: the call that is expected."""
    if not callable(f):
        raise TypeError(f"{name}: expected a function {what}, got {described(f)}")


def interval(name: str, value: Any) -> tuple[float, float]:
    """The ends of an interval: two finite numbers, the smaller one first."""
    try:
        a, b = map(float, value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected two numbers (a, b), got {described(value)}") from None
    if not -np.inf < a < b < np.inf:
        raise ValueError(f"{name}: expected two finite numbers (a, b) with a < b, got ({a:g}, {b:g})")
    return a, b


def floats(name: str, value: Any, ndim: tuple[int, ...] | None = None, what: str = "") -> np.ndarray:
    """Finite floating-point numbers, as a NumPy array in double precision; of so many axes, where that is said.

    Python's own numbers may be whole ones, also in lists and tuples; an array of integers is refused.
    """
    array = np.asarray(move(bare(value), "cpu") if isinstance(value, Tensor) else value)
    if array.dtype.kind in "iu" and all(type(x) is int for x in trees.flatten(value)[0]):
        array = array.astype(float)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected floating-point numbers{what}, got {described(value)}: astype(float)")
    if ndim is not None and array.ndim not in ndim:
        raise ShapeError(f"{name}: expected floating-point numbers{what}, got {described(array)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {np.sum(~np.isfinite(array))} NaN or infinite of "
                         f"{array.size}")  # fmt: skip
    return array.astype(np.float64)


def line(name: str, values: Any, least: int = 2) -> np.ndarray:
    """The places along an axis: finite numbers, each larger than the one before. Whole numbers are welcome."""
    array = np.asarray(bare(values))
    if array.dtype.kind not in "fiu" or array.ndim != 1 or len(array) < least:
        raise ShapeError(f"{name}: expected at least {least} numbers on one axis, such as np.linspace(0, 1, 50), got "
                         f"{described(values)}")  # fmt: skip
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or not (np.diff(array) > 0).all():
        raise ValueError(f"{name}: expected finite numbers, each larger than the one before, got {described(array)}: "
                         "np.sort and np.unique may help")  # fmt: skip
    return array


def value_of(f: Callable, x: np.ndarray, *others: Any, name: str = "f") -> np.ndarray:
    """f(x, ...) as a NumPy array, unrecorded: of the shape of x, or it is an error."""
    with no_grad(), np.errstate(all="ignore"):
        y = f(tensor(x), *others)
    return checked(y, x, name)


def checked(y: Any, x: np.ndarray, name: str) -> np.ndarray:
    """What a map made of x, as a NumPy array."""
    array = np.asarray(move(bare(y), "cpu"))
    if array.dtype.kind != "f" or array.shape != x.shape:
        raise ShapeError(f"{name}: expected it to map {described(x)} to floating-point numbers of the same shape, it "
                         f"returned {described(y)}")  # fmt: skip
    return array


def losses_of(y: Any, shape: tuple, name: str) -> np.ndarray:
    """What a loss returned, on the host: of that shape."""
    array = np.asarray(move(bare(y), "cpu"))
    if array.dtype.kind != "f" or (array.size != 1 if shape == () else array.shape != shape):
        wanted = "a single floating-point number" if shape == () else f"a floating-point array {shape}"
        raise ShapeError(f"{name}: expected it to return {wanted}, got {described(y)}")
    return array.reshape(shape).astype(np.float64)
