"""Element by element: arithmetic, powers, exponentials, angles, steps and kinks.

Each operation is a forward function with its rules beside it, in the same words. Where NumPy has a ufunc, that is the
forward, and the ``def`` gives it its argument names and its documentation. Operands broadcast as NumPy's do; the walker
sums the gradients back, and no rule mentions it. Everything takes arrays or tensors; arrays alone give arrays.

Two things hold throughout. At a kink the rule is the one that PyTorch's documentation states: the sub-gradient of least
norm. And where a derivative divides by 0 (of roots, logarithms, powers, quotients), a gradient of exactly 0 stays 0
(:func:`~tinygrad_rnn.quotient`), so that ``where`` shields what it does not select: ``where(x > 0, sqrt(x), 0)`` has
the gradient 0 at 0, not NaN. (A factor that is infinite itself, as in ``exp(1000) * x``, is not shielded: 0 · ∞ is NaN.
And what is 0 only because another factor is, as in ``sqrt(x) ** 2`` at 0, gets the gradient 0 where PyTorch's is NaN.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import as_array, device_of, move
from ..errors import refuse_mixed
from ..recording import primitive
from ..tensor import bare

__all__ = [
    "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "astype", "cbrt",
    "ceil", "clip", "cos", "cosh", "divide", "equal", "exp", "exp2", "expm1", "floor", "floor_divide", "greater",
    "greater_equal", "hypot", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2",
    "logaddexp", "maximum", "minimum", "multiply", "negative", "not_equal", "positive", "power", "quotient",
    "reciprocal", "remainder", "round", "sign", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "to",
    "trunc", "where",
]  # fmt: skip

# Arithmetic -----------------------------------------------------------------------------------------------------------


@primitive(ufunc=np.add)
def add(a, b):
    """The sum a + b.

    Examples
    --------
    >>> add(np.array([1.0, 2.0]), 10.0)
    array([11., 12.])
    """


@primitive(ufunc=np.subtract)
def subtract(a, b):
    """The difference a - b.

    Examples
    --------
    >>> subtract(np.array([1.0, 2.0]), 10.0)
    array([-9., -8.])
    """


@primitive(ufunc=np.multiply)
def multiply(a, b):
    """The product a · b, element by element.

    Examples
    --------
    >>> multiply(np.array([1.0, 2.0]), 10.0)
    array([10., 20.])
    """


@primitive(ufunc=np.divide)
def divide(a, b):
    """The quotient a / b.

    Examples
    --------
    >>> divide(np.array([1.0, 2.0]), 4.0)
    array([0.25, 0.5 ])
    """


@primitive(kind="elementwise")
def quotient(a, b):
    """The quotient a / b, and exactly 0 where a is 0, whatever b is: how rules divide a gradient by what may be 0.

    Parameters
    ----------
    a, b : array, Tensor or number
        What broadcasts.

    Returns
    -------
    array or Tensor
        Of the shape that they broadcast to.

    Examples
    --------
    >>> quotient(np.array([0.0, 1.0]), np.array([0.0, 4.0]))
    array([0.  , 0.25])
    """
    if isinstance(b, (int, float)):
        b = np.result_type(a, b).type(b)  # np.where would make a float64 of two Python numbers
    return np.divide(a, np.where(a == 0, 1, b))


@primitive(ufunc=np.negative)
def negative(x):
    """The negative -x.

    Examples
    --------
    >>> negative(np.array([1.0, -2.0]))
    array([-1.,  2.])
    """


@primitive(ufunc=np.positive)
def positive(x):
    """A copy of x: an entry of its own on the tape.

    Examples
    --------
    >>> positive(np.array([1.0, -2.0]))
    array([ 1., -2.])
    """


@primitive(ufunc=np.floor_divide)
def floor_divide(a, b):
    """The quotient a / b, rounded down. It is made of steps: its gradient is 0.

    Examples
    --------
    >>> floor_divide(np.array([5.0, -5.0]), 3.0)
    array([ 1., -2.])
    """


@primitive(ufunc=np.remainder)
def remainder(a, b):
    """What a leaves when divided by b, with the sign of b: a - b · floor(a / b).

    Examples
    --------
    >>> remainder(np.array([5.0, -5.0]), 3.0)
    array([2., 1.])
    """


def _zero(g: Any) -> Any:
    """The gradient of what is flat wherever it has a slope."""
    return np.zeros_like(g)


add.vjp(lambda g: g, lambda g: g)
subtract.vjp(lambda g: g, lambda g: -g)
multiply.vjp(lambda g, b: g * b, lambda g, a: g * a)
divide.vjp(lambda g, b: quotient(g, b), lambda g, a, b: -quotient(quotient(g * a, b), b))
quotient.vjp(lambda g, b: quotient(g, b), lambda g, a, b: -quotient(quotient(g * a, b), b))
negative.vjp(lambda g: -g)
positive.vjp(lambda g: g)
floor_divide.vjp(_zero, _zero)
remainder.vjp(lambda g: g, lambda g, a, b: -g * floor_divide(a, b))


# Powers ---------------------------------------------------------------------------------------------------------------


@primitive(ufunc=np.power)
def power(a, b):
    """The power a ** b.

    Its gradient is right at a = 0, too: 0 for b = 0 and for b > 1, 1 for b = 1, infinite for 0 < b < 1. With regard to
    b it is a ** b · log(a), which is 0 at a = 0, and NaN for a negative a.

    Examples
    --------
    >>> power(np.array([0.0, 2.0]), 3.0)
    array([0., 8.])
    """


@primitive(ufunc=np.square)
def square(x):
    """The square x · x.

    Examples
    --------
    >>> square(np.array([3.0, -2.0]))
    array([9., 4.])
    """


@primitive(ufunc=np.sqrt)
def sqrt(x):
    """The square root. Its derivative at 0 is infinite.

    Examples
    --------
    >>> sqrt(np.array([4.0, 9.0]))
    array([2., 3.])
    """


@primitive(ufunc=np.cbrt)
def cbrt(x):
    """The cube root, of negative numbers, too. Its derivative at 0 is infinite.

    Examples
    --------
    >>> cbrt(np.array([-8.0, 27.0]))
    array([-2.,  3.])
    """


@primitive(ufunc=np.reciprocal)
def reciprocal(x):
    """The reciprocal 1 / x.

    Examples
    --------
    >>> reciprocal(np.array([2.0, -4.0]))
    array([ 0.5 , -0.25])
    """


@primitive(ufunc=np.hypot)
def hypot(a, b):
    """The length √(a² + b²), without overflow. Its gradient at a = b = 0 is 0.

    Examples
    --------
    >>> hypot(np.array([3.0]), np.array([4.0]))
    array([5.])
    """


def as_floating(x: Any, g: Any) -> Any:
    """x, in the dtype of g if it is an array of integers: their arithmetic would wrap, or be of low precision."""
    return x if isinstance(x, (int, float)) or x.dtype.kind == "f" else x.astype(g.dtype)


def _slope_in_base(g: Any, a: Any, b: Any) -> Any:
    """g · b · a ** (b - 1), with the power of a below the line where b < 1: there it may be a division by 0."""
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b >= 1 else quotient(g * b, a ** (1 - b))
    a, b = as_floating(a, g), as_floating(b, g)
    c = where((a == 0) & (b == 0), 1, b)  # a ** 0 is flat at 0, too
    return quotient(g * b * a ** maximum(c - 1, 0), a ** maximum(1 - c, 0))


def _log_of_base(a: Any) -> Any:
    """log(a), and 0 at a = 0, where a ** b is 0 or does not depend on b."""
    if isinstance(a, (int, float)):
        return math.log(a) if a > 0 else 0.0 if a == 0 else math.nan
    return log(where(a == 0, 1, a))


power.vjp(_slope_in_base, lambda g, a, out: g * out * _log_of_base(as_floating(a, g)))
square.vjp(lambda g, x: g * (2 * x))
sqrt.vjp(lambda g, out: quotient(g, 2 * out))
cbrt.vjp(lambda g, out: quotient(g, 3 * out * out))
reciprocal.vjp(lambda g, x: -quotient(quotient(g, x), x))
hypot.vjp(lambda g, a, out: quotient(g * a, out), lambda g, b, out: quotient(g * b, out))


# Exponentials and logarithms ------------------------------------------------------------------------------------------


@primitive(ufunc=np.exp)
def exp(x):
    """e to the power of x.

    Examples
    --------
    >>> exp(np.array([0.0, 1.0]))
    array([1.        , 2.71828183])
    """


@primitive(ufunc=np.exp2)
def exp2(x):
    """2 to the power of x.

    Examples
    --------
    >>> exp2(np.array([0.0, 3.0]))
    array([1., 8.])
    """


@primitive(ufunc=np.expm1)
def expm1(x):
    """exp(x) - 1, exact near 0.

    Examples
    --------
    >>> expm1(np.array([0.0, 1e-20]))
    array([0.e+00, 1.e-20])
    """


@primitive(ufunc=np.log)
def log(x):
    """The natural logarithm.

    Examples
    --------
    >>> log(np.array([1.0, np.e]))
    array([0., 1.])
    """


@primitive(ufunc=np.log2)
def log2(x):
    """The logarithm to the base 2.

    Examples
    --------
    >>> log2(np.array([1.0, 8.0]))
    array([0., 3.])
    """


@primitive(ufunc=np.log10)
def log10(x):
    """The logarithm to the base 10.

    Examples
    --------
    >>> log10(np.array([1.0, 1000.0]))
    array([0., 3.])
    """


@primitive(ufunc=np.log1p)
def log1p(x):
    """log(1 + x), exact near 0.

    Examples
    --------
    >>> log1p(np.array([0.0, 1e-20]))
    array([0.e+00, 1.e-20])
    """


@primitive(ufunc=np.logaddexp)
def logaddexp(a, b):
    """log(exp(a) + exp(b)), without overflow. Where both are -∞ its gradient is 0.

    Examples
    --------
    >>> logaddexp(np.array([0.0, 1000.0]), 0.0)
    array([6.93147181e-01, 1.00000000e+03])
    """


def _share(g: Any, a: Any, b: Any, out: Any) -> Any:
    """How much of the sum exp(a) + exp(b) is exp(a), the logistic function of a - b; of nothing, nothing."""
    return g * where(out == -math.inf, 0, 0.5 + 0.5 * tanh(0.5 * (a - where(out == -math.inf, 0, b))))


exp.vjp(lambda g, out: g * out)
exp2.vjp(lambda g, out: g * out * math.log(2))
expm1.vjp(lambda g, x: g * exp(x))
log.vjp(lambda g, x: quotient(g, x))
log2.vjp(lambda g, x: quotient(g, x * math.log(2)))
log10.vjp(lambda g, x: quotient(g, x * math.log(10)))
log1p.vjp(lambda g, x: quotient(g, 1 + x))
logaddexp.vjp(_share, lambda g, a, b, out: _share(g, b, a, out))


# Angles ---------------------------------------------------------------------------------------------------------------


@primitive(ufunc=np.sin)
def sin(x):
    """The sine of x, in radians.

    Examples
    --------
    >>> sin(np.array([0.0, np.pi / 2]))
    array([0., 1.])
    """


@primitive(ufunc=np.cos)
def cos(x):
    """The cosine of x, in radians.

    Examples
    --------
    >>> cos(np.array([0.0, np.pi]))
    array([ 1., -1.])
    """


@primitive(ufunc=np.tan)
def tan(x):
    """The tangent of x, in radians.

    Examples
    --------
    >>> tan(np.array([0.0, 1.0]))
    array([0.        , 1.55740772])
    """


@primitive(ufunc=np.arcsin)
def arcsin(x):
    """The angle in [-π/2, π/2] whose sine is x. Its derivative at ±1 is infinite.

    Examples
    --------
    >>> arcsin(np.array([0.0, 1.0]))
    array([0.        , 1.57079633])
    """


@primitive(ufunc=np.arccos)
def arccos(x):
    """The angle in [0, π] whose cosine is x. Its derivative at ±1 is infinite.

    Examples
    --------
    >>> arccos(np.array([0.0, 1.0]))
    array([1.57079633, 0.        ])
    """


@primitive(ufunc=np.arctan)
def arctan(x):
    """The angle in (-π/2, π/2) whose tangent is x.

    Examples
    --------
    >>> arctan(np.array([0.0, 1.0]))
    array([0.        , 0.78539816])
    """


@primitive(ufunc=np.arctan2)
def arctan2(y, x):
    """The angle of the point (x, y), in (-π, π]. Its gradient at the origin is 0.

    Examples
    --------
    >>> arctan2(np.array([1.0, 0.0]), np.array([1.0, -1.0]))
    array([0.78539816, 3.14159265])
    """


@primitive(ufunc=np.sinh)
def sinh(x):
    """The hyperbolic sine.

    Examples
    --------
    >>> sinh(np.array([0.0, 1.0]))
    array([0.        , 1.17520119])
    """


@primitive(ufunc=np.cosh)
def cosh(x):
    """The hyperbolic cosine.

    Examples
    --------
    >>> cosh(np.array([0.0, 1.0]))
    array([1.        , 1.54308063])
    """


@primitive(ufunc=np.tanh)
def tanh(x):
    """The hyperbolic tangent.

    Examples
    --------
    >>> tanh(np.array([0.0, 1.0]))
    array([0.        , 0.76159416])
    """


@primitive(ufunc=np.arcsinh)
def arcsinh(x):
    """The inverse of sinh.

    Examples
    --------
    >>> arcsinh(np.array([0.0, 1.0]))
    array([0.        , 0.88137359])
    """


@primitive(ufunc=np.arccosh)
def arccosh(x):
    """The inverse of cosh, for x ≥ 1. Its derivative at 1 is infinite.

    Examples
    --------
    >>> arccosh(np.array([1.0, 2.0]))
    array([0.       , 1.3169579])
    """


@primitive(ufunc=np.arctanh)
def arctanh(x):
    """The inverse of tanh, for -1 < x < 1.

    Examples
    --------
    >>> arctanh(np.array([0.0, 0.5]))
    array([0.        , 0.54930614])
    """


def _turn(g: Any, x: Any, y: Any) -> Any:
    """g · x / (x² + y²), without overflow."""
    r = hypot(x, y)
    return quotient(quotient(g * x, r), r)


sin.vjp(lambda g, x: g * cos(x))
cos.vjp(lambda g, x: -g * sin(x))
tan.vjp(lambda g, out: g * (1 + out * out))
arcsin.vjp(lambda g, x: quotient(g, sqrt((1 - x) * (1 + x))))  # 1 - x² would lose its digits near ±1
arccos.vjp(lambda g, x: -quotient(g, sqrt((1 - x) * (1 + x))))
arctan.vjp(lambda g, x: g / (1 + x * x))
arctan2.vjp(lambda g, y, x: _turn(g, x, y), lambda g, y, x: -_turn(g, y, x))
sinh.vjp(lambda g, x: g * cosh(x))
cosh.vjp(lambda g, x: g * sinh(x))
tanh.vjp(lambda g, out: g * (1 - out * out))
arcsinh.vjp(lambda g, x: g / hypot(1, x))
arccosh.vjp(lambda g, x: quotient(g, sqrt(x - 1) * sqrt(x + 1)))
arctanh.vjp(lambda g, x: quotient(g, (1 - x) * (1 + x)))


# Steps and kinks ------------------------------------------------------------------------------------------------------


@primitive(ufunc=np.absolute)
def absolute(x):
    """The absolute value: its gradient at 0 is 0.

    Examples
    --------
    >>> absolute(np.array([-1.5, 2.0]))
    array([1.5, 2. ])
    """


@primitive(ufunc=np.sign)
def sign(x):
    """-1, 0 or 1, as x is negative, 0 or positive. Its gradient is 0.

    Examples
    --------
    >>> sign(np.array([-1.5, 0.0, 2.0]))
    array([-1.,  0.,  1.])
    """


@primitive(ufunc=np.floor)
def floor(x):
    """Rounded down. Its gradient is 0.

    Examples
    --------
    >>> floor(np.array([-1.5, 1.5]))
    array([-2.,  1.])
    """


@primitive(ufunc=np.ceil)
def ceil(x):
    """Rounded up. Its gradient is 0.

    Examples
    --------
    >>> ceil(np.array([-1.5, 1.5]))
    array([-1.,  2.])
    """


@primitive(ufunc=np.trunc)
def trunc(x):
    """Rounded towards 0. Its gradient is 0.

    Examples
    --------
    >>> trunc(np.array([-1.5, 1.5]))
    array([-1.,  1.])
    """


@primitive(kind="elementwise")
def round(x, decimals=0):
    """Rounded to the given number of decimals, halves to even. Its gradient is 0.

    Examples
    --------
    >>> round(np.array([0.5, 1.5, 2.25]), 1)
    array([0.5, 1.5, 2.2])
    """
    return np.round(x, decimals)


@primitive(ufunc=np.maximum)
def maximum(a, b):
    """The larger of the two; NaN if one is. Where they are equal, each gets half of the gradient.

    Examples
    --------
    >>> maximum(np.array([1.0, 5.0]), 3.0)
    array([3., 5.])
    """


@primitive(ufunc=np.minimum)
def minimum(a, b):
    """The smaller of the two; NaN if one is. Where they are equal, each gets half of the gradient.

    Examples
    --------
    >>> minimum(np.array([1.0, 5.0]), 3.0)
    array([1., 3.])
    """


@primitive(kind="elementwise")
def clip(x, min=None, max=None):
    """x, but not below min nor above max (numbers, constant arrays, or None for no bound).

    The gradient passes between the bounds, and is 0 at them and beyond. (``torch.clamp`` lets it pass at a bound.)
    Where a bound wants a gradient itself, use :func:`maximum` and :func:`minimum`.

    Examples
    --------
    >>> clip(np.array([-2.0, 0.5, 2.0]), -1, 1)
    array([-1. ,  0.5,  1. ])
    """
    return np.clip(x, min, max)


def _clip_rule(g: Any, x: Any, min: Any, max: Any) -> Any:
    if min is not None:
        g = where(x <= min, 0, g)
    return g if max is None else where(x >= max, 0, g)


@primitive(kind="elementwise")
def where(condition, a, b):
    """a where the condition holds, b where it does not (booleans; they have no gradient).

    What is not selected gets a gradient of exactly 0, even if it is NaN.

    Examples
    --------
    >>> where(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    array([1., 0.])
    """
    return np.where(condition, a, b)


def _part(g: Any, lost: Any, tied: Any) -> Any:
    """The part of g for the operand that lost, or tied, or else won."""
    return where(lost, 0, where(tied, 0.5 * g, g))


absolute.vjp(lambda g, x: g * sign(x))
sign.vjp(_zero)
floor.vjp(_zero)
ceil.vjp(_zero)
trunc.vjp(_zero)
round.vjp(_zero)
maximum.vjp(lambda g, a, b: _part(g, a < b, a == b), lambda g, a, b: _part(g, b < a, a == b))
minimum.vjp(lambda g, a, b: _part(g, a > b, a == b), lambda g, a, b: _part(g, b > a, a == b))
clip.vjp(_clip_rule)
where.vjp(None, lambda g, condition: where(condition, g, 0), lambda g, condition: where(condition, 0, g))


# Kinds of numbers, and devices ----------------------------------------------------------------------------------------


@primitive(kind="elementwise")
def astype(x, /, dtype):
    """x in another dtype. Between floating-point dtypes the gradient is cast back; other kinds have none.

    Examples
    --------
    >>> astype(np.array([1.5, 2.5]), np.float32)
    array([1.5, 2.5], dtype=float32)
    """
    return x.astype(dtype)


@primitive
def _move(x, /, source, target):
    return move(x, target)


def to(x: Any, device: str) -> Any:
    """The same values on a device; the gradient comes back to where x is.

    Parameters
    ----------
    x : array, Tensor or number
        Of any shape.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Returns
    -------
    array or Tensor
        On that device: x itself, if it is there already.

    Raises
    ------
    ValueError
        There is no such name of a device.
    ImportError
        CuPy is not installed.
    RuntimeError
        CuPy finds no such GPU.

    Examples
    --------
    >>> to(np.array([1.0]), "cpu")
    array([1.])
    """
    x = as_array(x)
    return _move(x, device_of(bare(x)), device)


_move.op.name = "to"
astype.vjp(lambda g: g)  # the walker casts it
_move.vjp(lambda g, source, target: _move(g, target, source))


# Comparisons: plain arrays, with no gradient --------------------------------------------------------------------------


def _plain(ufunc: Callable) -> Callable:
    """The function on the values of tensors."""

    def compare(*inputs: Any) -> Any:
        arrays = [*map(bare, inputs)]
        try:
            return ufunc(*arrays)
        except TypeError as error:
            refuse_mixed(ufunc.__name__, dict(zip("ab", arrays)), error)
            raise

    compare.__name__, compare.__doc__ = ufunc.__name__, f"``np.{ufunc.__name__}``, as a plain array."
    return compare


equal, not_equal = _plain(np.equal), _plain(np.not_equal)
less, less_equal = _plain(np.less), _plain(np.less_equal)
greater, greater_equal = _plain(np.greater), _plain(np.greater_equal)
isnan, isinf, isfinite = _plain(np.isnan), _plain(np.isinf), _plain(np.isfinite)
