"""Newton's method on the tape: for the fixed points of a map, and for equations in general."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import move
from ..modes import no_grad
from ..tensor import bare
from ..transforms import jacobian, vjp
from . import given

RESOLUTION = 400  # how many places of an interval are looked at


def stepped(f: Callable, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f(x), and the Jacobian there, a matrix, from one tape."""
    with no_grad(), np.errstate(all="ignore"):
        y, pull = vjp(f, x)
        value = given.checked(y, x, "f")
        rows = [move(bare(pull(move(g.reshape(x.shape), y.device))[0]), "cpu") for g in np.eye(x.size, dtype=y.dtype)]
    return value, np.array(rows).reshape(x.size, x.size)


def repeated(f: Callable, x: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        x = given.value_of(f, x)
    return x


def tangent(f: Callable, x: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
    """f applied so many times, and the derivative of that: the product of the steps'."""
    J = np.eye(x.size)
    for _ in range(times):
        x, step = stepped(f, x)
        J = step @ J
    return x, J


@np.errstate(over="ignore", invalid="ignore")  # what overflows is infinite, and no way to go
def newton(f: Callable, x: np.ndarray, period: int, steps: int = 60) -> np.ndarray | None:
    """The fixed point that Newton's method, its steps halved where they make things worse, reaches from x, if any."""
    y, J = tangent(f, x, period)
    for _ in range(steps):
        gap = np.linalg.norm(y - x)
        if not np.isfinite(gap) or not np.isfinite(J).all():
            return None
        change = -np.linalg.lstsq(J - np.eye(x.size), (y - x).ravel(), rcond=None)[0].reshape(x.shape)
        for _ in range(12):
            new = x + change
            y, J = tangent(f, new, period)
            if np.linalg.norm(y - new) < gap:
                break
            change = change / 2
        else:
            break  # nothing is better than x: it is found to the last digit, or it is a dead end
        x = new
    value, J = tangent(f, x, period)
    rounding = np.finfo(value.dtype).eps * (1 + np.linalg.norm(x)) * (1 + np.linalg.norm(J))
    return x if np.linalg.norm(value - x) <= 64 * rounding else None


def brackets(gap: Callable, a: float, b: float) -> np.ndarray:
    """Where to start from in an interval: at all zeros of gap that change its sign, and where it is closest to 0."""
    xs = np.linspace(a, b, RESOLUTION + 1)
    gaps = np.array([gap(x) for x in xs])
    with np.errstate(invalid="ignore"):
        starts = [halved(gap, xs[i], xs[i + 1]) for i in np.flatnonzero(gaps[:-1] * gaps[1:] < 0)]
    near = np.pad(np.where(np.isfinite(gaps), abs(gaps), np.inf), 1, constant_values=np.inf)
    closest = (near[1:-1] <= near[:-2]) & (near[1:-1] <= near[2:]) & np.isfinite(gaps)
    return np.array([*starts, *xs[closest]])


def halved(gap: Callable, a: float, b: float) -> float:
    """A zero between a and b, where gap has another sign."""
    positive = gap(np.asarray(b)) > 0
    while a < (middle := (a + b) / 2) < b:
        if (gap(np.asarray(middle)) > 0) == positive:
            b = middle
        else:
            a = middle
    return a


def solved(equations: Callable, z: np.ndarray) -> np.ndarray | None:
    """The zero that Newton's method reaches from z, if it reaches one."""
    for _ in range(30):
        with no_grad(), np.errstate(all="ignore"):
            value, J = equations(z), jacobian(equations)(z).numpy()
        if not np.isfinite(J).all():
            return None
        change = np.linalg.lstsq(J, -value.numpy(), rcond=None)[0]
        z = z + change
        if np.linalg.norm(change) <= 1e-14 * (1 + np.linalg.norm(z)):
            return z
    return z if np.linalg.norm(change) < 1e-7 else None
