"""Element by element: arithmetic, powers, exponentials, angles, steps and kinks, activations.

Each operation is a forward function with its rules beside it, in the same words. Where NumPy has a ufunc, that is the
forward, and the ``def`` gives it its argument names and its documentation. Operands broadcast as NumPy's do; the walker
sums the gradients back, and no rule mentions it. Everything takes arrays or tensors; arrays alone give arrays.

Two things hold throughout. At a kink the rule is the one that PyTorch's documentation states: the sub-gradient of least
norm. And where a derivative is infinite, a gradient of exactly 0 stays 0 (:func:`quotient`), so that ``where`` shields
what it does not select: ``where(x > 0, sqrt(x), 0)`` has the gradient 0 at 0, not NaN.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..tape import primitive
from ..tensor import Tensor

# Arithmetic ----------------------------------------------------------------------------------------------------------


@primitive(ufunc=np.add)
def add(a, b):
    """The sum a + b.

    >>> add(np.array([1.0, 2.0]), 10.0)
    array([11., 12.])
    """


@primitive(ufunc=np.subtract)
def subtract(a, b):
    """The difference a - b.

    >>> subtract(np.array([1.0, 2.0]), 10.0)
    array([-9., -8.])
    """


@primitive(ufunc=np.multiply)
def multiply(a, b):
    """The product a · b, element by element.

    >>> multiply(np.array([1.0, 2.0]), 10.0)
    array([10., 20.])
    """


@primitive(ufunc=np.divide)
def divide(a, b):
    """The quotient a / b.

    >>> divide(np.array([1.0, 2.0]), 4.0)
    array([0.25, 0.5 ])
    """


@primitive(kind="elementwise")
def quotient(a, b):
    """The quotient a / b, and exactly 0 where a is 0, whatever b is: how rules divide a gradient by what may be 0.

    >>> quotient(np.array([0.0, 1.0]), np.array([0.0, 4.0]))
    array([0.  , 0.25])
    """
    return np.divide(a, np.where(a == 0, 1, b))


add.vjp(lambda g: g, lambda g: g)
subtract.vjp(lambda g: g, lambda g: -g)
multiply.vjp(lambda g, b: g * b, lambda g, a: g * a)
divide.vjp(lambda g, b: quotient(g, b), lambda g, a, b: -quotient(quotient(g * a, b), b))
quotient.vjp(lambda g, b: quotient(g, b), lambda g, a, b: -quotient(quotient(g * a, b), b))
