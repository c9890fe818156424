"""Are the gradients right? Compare them with what the function itself does when its inputs are moved a little.

Nothing here knows a rule: numerical derivatives ask only for values, so they are an oracle for any function of tensors.
They are central differences, extrapolated to a step of 0 (Richardson): ``(4 D(h/2) - D(h)) / 3``. In float64 that gives
ten digits or so, and the comparison asks for seven. In float32 it would prove nothing, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import is_array, move, to_array
from .debug import Written
from .errors import described
from .modes import is_observed, no_grad, switched
from .tensor import Tensor, bare
from .transforms import as_tensor, grad
from .trees import flatten, paths

STEPS = (2.0**-10, 2.0**-14, 2.0**-18)  # powers of two: x ± h is exact; the small ones are for a kink nearby
EPSILON = 2.0**-52
FULL, DIRECTIONS = 64, 4  # an input of more numbers than that is moved along random directions


def check_gradients(f: Callable, *inputs: Any, order: int = 1, rtol: float = 1e-7, seed: int = 0) -> None:
    """Compare the gradients of ``f(*inputs)`` with numerical ones, and raise an error where they differ.

    Each number of an input is moved, or, where there are more than 64, all of them along 4 random directions. Keep away
    from kinks (ties, ``abs`` at 0), where the rule is a convention: the error says where a difference looks like one.

    Parameters
    ----------
    f : callable
        A function of tensors, the same at each call. It may return tensors of any shape, nested: a random projection of
        them is differentiated.
    *inputs : Tensor, array, number, or anything else
        What is moved: what is float64, nested as f takes it. What else there is (integers, booleans, strings) is passed
        on as it is.
    order : int, optional
        Up to which order: the second is the gradient of a random projection of the first, and so on.
    rtol : float, optional
        How far they may be apart: of the greater of both, and of the greatest in the gradient by that input.
    seed : int, optional
        Of the random numbers.

    Raises
    ------
    AssertionError
        They differ: names the input, the index, what was expected, and what the gradient is.
    ValueError
        It cannot be checked: it is not float64, not finite, or not the same at each call.
    MutationError
        A rule writes into the gradient that it is given, or into what the tape keeps for it: others may hold these.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> check_gradients(tg.tanh, np.array([0.5, -1.0]), order=3)
    """
    derivative, xs, names = of_float64(f, inputs)
    what, level = getattr(f, "__name__", type(f).__name__), 0.0
    for k in range(1, order + 1):
        number = projected(derivative, what, [seed, k])
        derivative = grad(number, range(len(xs)))
        with no_grad(), np.errstate(all="ignore"):
            if not math.isfinite(y := number(*xs).item()) or number(*xs).item() != y:
                raise ValueError(f"{what} is not finite, or not the same at each call: that cannot be checked")
            level = max(level, abs(y))  # a derivative may be 0 because numbers as large as that cancel
            if not is_observed():  # anomaly mode looks for that itself
                with switched(observer=Written()):
                    derivative(*xs)
            for i, g in enumerate(derivative(*xs)):
                difference = compare(number, xs, i, g, rtol, level, np.random.default_rng([seed, k, i]))
                if difference:
                    raise AssertionError(f"the gradient of {what} by {names[i]}, {difference} (order {k}, seed {seed})")


def numerical_gradient(f: Callable, *inputs: Any, h: float = STEPS[0]) -> list[Tensor]:
    """The gradients of ``f(*inputs)``, a single number, by extrapolated central differences.

    Parameters
    ----------
    f : callable
        A function of tensors that returns a single number.
    *inputs : Tensor, array, number, or anything else
        Float64, as in :func:`~tinygrad_rnn.check_gradients`.
    h : float, optional
        The larger of the two steps, as a share of the size of the number that is moved (of 1, if that is smaller).

    Returns
    -------
    list of Tensor
        One for each input; where they are nested, one for each leaf of them.

    Raises
    ------
    ValueError
        There is nothing of float64 among the inputs, or other floating-point numbers.

    Examples
    --------
    >>> numerical_gradient(lambda x: (x * x).sum(), np.array([1.0, 2.0]))[0].numpy().round(9)
    array([2., 4.])
    """
    number, xs, _ = of_float64(f, inputs)
    with no_grad(), np.errstate(all="ignore"):
        slopes = [[slope(moved(number, xs, i, d), h * size) for d, size in elements(x)] for i, x in enumerate(xs)]
    return [Tensor(move(np.array(found).reshape(x.shape), x.device)) for found, x in zip(slopes, xs)]


# What they are made of -----------------------------------------------------------------------------------------------


def of_float64(f: Callable, inputs: tuple) -> tuple[Callable, list[Tensor], list[str]]:
    """f as a function of those leaves alone that can be moved; these; and what to call them."""
    leaves, rebuild = flatten(inputs)
    names, found = paths(inputs, "inputs"), {}
    for i, x in enumerate(leaves):
        if isinstance(x, float) or (is_array(bare(x)) and x.dtype.kind == "f"):
            found[i] = as_tensor(x, names[i]).detach()
            if found[i].dtype != np.float64:
                raise ValueError(f"{names[i]}: expected float64, as a difference needs its digits; got {described(x)}")
    if not found:
        raise ValueError(f"inputs: expected float64 tensors, arrays or numbers among them, got {described(inputs)}")

    def of_found(*xs: Tensor) -> Any:
        return f(*rebuild(list({**dict(enumerate(leaves)), **dict(zip(found, xs))}.values())))

    return of_found, list(found.values()), [names[i] for i in found]


def projected(f: Callable, what: str, seed: Sequence[int]) -> Callable:
    """What f returns, along a random direction, as a function of the same inputs: a single number."""

    def number(*xs: Tensor) -> Tensor:
        rng, terms = np.random.default_rng(seed), []
        for y in flatten(f(*xs))[0]:
            y = as_tensor(y, f"what {what} returned")
            if y.dtype == np.float64:
                terms.append((y * move(np.asarray(rng.standard_normal(y.shape)), y.device)).sum())
            elif y.dtype.kind == "f":
                raise ValueError(f"{what} returned {described(y)}: expected float64, as a difference needs its digits")
        if not terms:
            raise ValueError(f"{what} returned nothing that has a gradient: expected float64 tensors")
        return sum(terms[1:], terms[0])

    return number


def compare(
    number: Callable, xs: list[Tensor], i: int, g: Tensor, rtol: float, level: float, rng: np.random.Generator
) -> str:
    """Where g is not the gradient of number by xs[i], in words; none, if it is. Numbers have been as large as level."""
    x, full = xs[i], xs[i].size <= FULL
    along = elements(x) if full else random_directions(x, rng)
    values = [moved(number, xs, i, d) for d, _ in along]
    got = np.array([(g._data * d).sum().item() for d, _ in along])
    expected = np.full(len(along), np.nan)
    rounding = np.array([16 * EPSILON * level / (STEPS[0] * size) for _, size in along])
    wrong = np.ones(len(along), bool)
    for h in STEPS:
        for j in np.flatnonzero(wrong):
            estimate = slope(values[j], h * along[j][1])
            if not abs(expected[j] - got[j]) <= abs(estimate - got[j]):
                expected[j] = estimate
        scale = np.maximum(abs(got), abs(expected)) + np.nanmax(abs(expected), initial=0)
        wrong = ~(abs(got - expected) <= rtol * scale + rounding)
        if not wrong.any():
            return ""
    j = int(np.argmax(np.where(wrong, np.nan_to_num(abs(got - expected), nan=np.inf), -1)))
    where = f"at {tuple(map(int, np.unravel_index(j, x.shape)))}" if full else f"along random direction {j}"
    return f"{where}: expected {expected[j]:.12g}, got {got[j]:.12g}{kink(values[j], along[j][1], rounding[j])}"


def elements(x: Tensor) -> list[tuple[Any, float]]:
    """The directions of the single numbers of x, with the power of two that is a large step there: 1, or about x."""
    along = []
    for j, size in enumerate(powers(x).ravel()):
        d = np.zeros_like(x._data, order="C")
        d.reshape(-1)[j] = 1
        along.append((d, float(size)))
    return along


def random_directions(x: Tensor, rng: np.random.Generator) -> list[tuple[Any, float]]:
    """Random directions, in which all numbers of x move a little."""
    sizes = powers(x) / 2.0 ** np.round(np.log2(x.size) / 2)
    return [(move(sizes * rng.choice([-1.0, 1.0], x.shape), x.device), 1.0) for _ in range(DIRECTIONS)]


def powers(x: Tensor) -> np.ndarray:
    return 2.0 ** np.floor(np.log2(np.maximum(1, abs(x.numpy()))))


def moved(number: Callable, xs: list[Tensor], i: int, d: Any) -> Callable[[float], float]:
    """The value of number, as a function of how far xs[i] is moved along d."""
    return lambda t: float(number(*xs[:i], Tensor(to_array(xs[i]._data + t * d)), *xs[i + 1 :]).item())


def slope(value: Callable[[float], float], h: float) -> float:
    """The derivative of value at 0."""
    wide = (value(h) - value(-h)) / (2 * h)
    narrow = (value(h / 2) - value(-h / 2)) / h
    return (4 * narrow - wide) / 3


def kink(value: Callable[[float], float], size: float, rounding: float) -> str:
    """A few words, if the slopes on both sides of 0 do not approach each other."""
    (left, right), (closer_left, closer_right) = [
        ((value(0.0) - value(-h)) / h, (value(h) - value(0.0)) / h) for h in (STEPS[0] * size, STEPS[1] * size)
    ]
    if not abs(closer_right - closer_left) > max(abs(right - left) / 4, 1e-6 * abs(closer_right) + rounding):
        return ""
    return (f"; the slope is {closer_left:.6g} on the one side and {closer_right:.6g} on the other: this is a kink, "
            "where the rule is a convention")  # fmt: skip
