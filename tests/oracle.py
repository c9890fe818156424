"""The judge of gradients: derivatives by numbers alone, and the one comparison that every test uses.

What is checked is a vector-Jacobian product: for a function f, inputs, and a cotangent g of the output, the gradient of
``sum(g * f(*inputs))`` with regard to input i. The oracle never sees the package: f is plain NumPy. In doubt:

- ``complex_step``: Im f(x + i·h·u) / h, exact to rounding, as nothing is subtracted. f must be complex-safe: branch on
  the real part, ``x * x`` and not ``abs(x) ** 2``, ``.T`` and not ``.conj().T`` (see ``references.py``).
- ``richardson``: central differences with steps h and h/2, (4 D(h/2) - D(h)) / 3, for an f that is not. All in float64.

``check`` judges a gradient element by element up to 64 elements, and along fresh random directions beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STEP = 1e-30  # so small that its square vanishes, and no difference is taken: the step has no rounding error
FULL = 64  # up to so many elements every one is perturbed
DIRECTIONS = 3
RTOL = {"complex_step": 1e-9, "richardson": 2e-8}


def complex_step(f: Callable, arrays: Sequence, i: int, g: Any = None, u: Any = None) -> np.ndarray:
    """The gradient with regard to input i, or, where a direction u is given, the slope along it."""
    arrays = exact(arrays)
    x = arrays[i]

    def slope(u: np.ndarray) -> float:
        out = f(*arrays[:i], x + 1j * STEP * u, *arrays[i + 1 :])
        for part in out if isinstance(out, tuple) else (out,):
            if not np.iscomplexobj(part):
                raise TypeError("the reference lost the imaginary part: it is not complex-safe")
        return paired(g, out).imag / STEP

    return np.asarray(slope(u)) if u is not None else along_each_axis(slope, np.ones(x.shape))


def richardson(
    f: Callable,
    arrays: Sequence,
    i: int,
    g: Any = None,
    u: Any = None,
    domain: tuple[float, float] = (-np.inf, np.inf),
    reach: float = np.inf,
) -> np.ndarray:
    """The same by differences. ``domain`` is where f is smooth in each element (an open interval), ``reach`` how far
    any step may go, such as half of the way to the nearest kink.
    """
    arrays = exact(arrays)
    x = arrays[i]
    h = steps(x, domain, reach)

    def central(u: np.ndarray) -> float:
        up, down = (paired(g, f(*arrays[:i], y, *arrays[i + 1 :])) for y in (x + u, x - u))
        return (up - down) / 2

    def slope(u: np.ndarray) -> float:
        return (4 * 2 * central(u / 2) - central(u)) / 3

    if u is None:
        return along_each_axis(slope, h)
    if not u.any():
        return np.asarray(0.0)
    length = 2.0 ** np.floor(np.log2((h[u != 0] / np.abs(u[u != 0])).min()))  # no element goes beyond its own step
    return np.asarray(slope(u * length) / length)


def steps(x: np.ndarray, domain: tuple[float, float], reach: float) -> np.ndarray:
    """For each element 2^-10 max(1, |x|), or less near an end of the domain: powers of two, so that x ± h is exact."""
    room = np.minimum(x - domain[0], domain[1] - x)
    if (room <= 0).any():
        raise ValueError(f"an input lies outside of the open domain {domain}")
    h = np.minimum(np.minimum(2.0**-10 * np.maximum(1.0, np.abs(x)), 2.0**-7 * room), reach)
    return 2.0 ** np.floor(np.log2(h))


def along_each_axis(slope: Callable, h: np.ndarray) -> np.ndarray:
    gradient = np.zeros(h.shape)
    for index in np.ndindex(h.shape):
        u = np.zeros(h.shape)
        u[index] = h[index]
        gradient[index] = slope(u) / h[index]
    return gradient


def exact(arrays: Sequence) -> list:
    """In float64, whatever floats they were; integers and booleans stay."""
    arrays = [np.asarray(a) for a in arrays]
    return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]


def paired(g: Any, out: Any) -> Any:
    """``sum(g * out)``, for one output or several; without g the output is a scalar."""
    if isinstance(out, tuple):
        return sum(paired(a, b) for a, b in zip(g, out, strict=True) if a is not None)
    if g is None:
        if np.ndim(out):
            raise ValueError(f"the output has the shape {np.shape(out)}: a cotangent g is needed")
        return out
    if np.shape(g) != np.shape(out):
        raise ValueError(f"g has the shape {np.shape(g)}, and the output {np.shape(out)}")
    return np.sum(np.asarray(g, np.float64) * out)


def compare(actual: Any, expected: Any, rtol: float = 1e-9, equal_nan: bool = False, about: str = "") -> None:
    """Raise an AssertionError unless shape and dtype are equal (``np.allclose`` broadcasts) and all values nearly are.

    |a - e| ≤ rtol · max(|a|, |e|) + rtol · scale, where scale = max(1e-3, the largest |e|). Infinities must be equal.
    """
    about = f"{about}: " if about else ""
    alike(actual, expected, about)
    a, e = np.asarray(actual), np.asarray(expected)
    if a.dtype.kind not in "fc":
        wrong = a != e
        error = wrong.astype(float)
        allowed = np.zeros(a.shape)
    else:
        finite = np.abs(e[np.isfinite(e)])
        with np.errstate(all="ignore"):
            allowed = rtol * np.maximum(np.abs(a), np.abs(e)) + rtol * finite.max(initial=1e-3)
            error = np.abs(a - e)
            near = np.isfinite(a) & np.isfinite(e) & (error <= allowed)
        wrong = ~(near | (a == e) | (equal_nan & np.isnan(a) & np.isnan(e)))
    if wrong.any():
        with np.errstate(all="ignore"):
            excess = np.nan_to_num(error / np.where(allowed > 0, allowed, 1), nan=np.inf)
        excess = np.where(wrong, excess, -1)
        worst = np.unravel_index(np.argmax(excess), a.shape)
        raise AssertionError(
            f"{about}{int(wrong.sum())} of {a.size} elements differ by more than rtol={rtol:g}; the worst at "
            f"{tuple(map(int, worst))}: expected {e[worst]!r}, got {a[worst]!r} (off by {error[worst]:.3g})"
        )


def alike(actual: Any, expected: Any, about: str = "") -> None:
    """Raise an AssertionError unless shape and dtype are equal."""
    got, wanted = (
        f"{getattr(x, 'dtype', type(x).__name__)} {getattr(x, 'shape', '')}".strip() for x in (actual, expected)
    )
    if got != wanted:
        raise AssertionError(f"{about}expected {wanted}, got {got}")


def check(
    actual: Any,
    f: Callable,
    arrays: Sequence,
    i: int,
    g: Any = None,
    rng: np.random.Generator | None = None,
    method: Callable = complex_step,
    rtol: float | None = None,
    about: str = "",
    **options: Any,
) -> None:
    """Judge a gradient with regard to input i; ``rng`` draws the directions, where there are many elements."""
    x = exact(arrays)[i]
    rtol = RTOL[method.__name__] if rtol is None else rtol
    about = f"{about}gradient of input {i}"
    if x.size <= FULL:
        compare(actual, method(f, arrays, i, g, **options), rtol, about=about)
        return
    alike(actual, x, f"{about}: ")
    if not np.isfinite(actual).all():
        raise AssertionError(f"{about}: not finite at {np.argwhere(~np.isfinite(actual))[0]}")
    if rng is None:
        raise ValueError(f"{x.size} elements: rng is needed, for random directions")
    for n in range(DIRECTIONS):
        u = rng.choice([-1.0, 1.0], x.shape) * rng.uniform(0.5, 1.0, x.shape) * np.maximum(1.0, np.abs(x))
        u /= np.abs(u).max()
        slope = method(f, arrays, i, g, u, **options)
        compare(np.asarray(np.sum(actual * u)), slope, rtol, about=f"{about}, along direction {n}")
