"""Fixed points followed as a parameter changes: their branches, stable or not, and where two meet and vanish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from ..ops import stack
from ..plotting import axes
from ..transforms import grad
from . import given
from .continuation import STEP, follow, slopes
from .newton import halved, solved

PLACES = 200  # where a branch may begin, on the axis of x


@dataclass(frozen=True, eq=False)
class Branch:
    """A curve of fixed points in the plane of parameter and state.

    Parameters
    ----------
    parameters, points, multipliers : array, (n,)
        Along the curve: the parameter, the fixed point, and f'(x) there; it is stable where \\|f'(x)\\| < 1.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import branches
    >>> (curve,) = branches(lambda x, p: x / 2 + p, (-2, 2), np.linspace(-0.5, 0.5, 3)).curves
    >>> bool(curve.stable.all()), np.allclose(curve.points, 2 * curve.parameters)
    (True, True)
    """

    parameters: np.ndarray
    points: np.ndarray
    multipliers: np.ndarray

    @property
    def stable(self) -> np.ndarray:
        """Whether each point is stable: \\|f'\\| < 1."""
        return abs(self.multipliers) < 1


@dataclass(frozen=True, eq=False)
class Branches:
    """All branches of fixed points that were found, and the folds on them.

    Parameters
    ----------
    curves : tuple of Branch
        The curves.
    folds : array, (n, 2)
        Where a stable and an unstable branch meet and vanish: parameter and state.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import branches
    >>> branches(lambda x, p: x + p - x * x, (-2, 2), np.linspace(-1, 1, 6))
    Branches:
      from x = 1 at 1 to -1 at 1: stable, unstable
      fold at 0, x = 0
    """

    curves: tuple[Branch, ...]
    folds: np.ndarray

    def __repr__(self) -> str:
        if not self.curves:
            return "Branches: none found"
        ends = [
            f"  from x = {tidy(c.points[0])} at {tidy(c.parameters[0])} to {tidy(c.points[-1])} at "
            f"{tidy(c.parameters[-1])}: " + ", ".join("stable" if kind else "unstable" for kind, _ in groupby(c.stable))
            for c in self.curves
        ]
        folds = [f"  fold at {tidy(p)}, x = {tidy(x)}" for p, x in self.folds]
        return "\n".join(["Branches:", *ends, *folds])

    def plot(self, ax: Any = None, color: str = "C0") -> Any:
        """Draw the branches, what is stable as full lines and the rest dashed, and dots at the folds.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        color : str, optional
            Of the lines.
        """
        ax = axes(ax)
        labels = {True: "stable", False: "unstable"}
        for curve in self.curves:
            for stable, style in ((True, "-"), (False, "--")):
                inside = curve.stable == stable
                inside[1:] |= inside[:-1] & ~inside[1:]  # one point more, so that the parts touch
                if (curve.stable == stable).any():
                    points = np.where(inside, curve.points, np.nan)
                    ax.plot(curve.parameters, points, style, color=color, label=labels.pop(stable, None))
        if len(self.folds):
            ax.plot(*self.folds.T, "o", color="C3", label="fold", zorder=5)
        ax.set(xlabel="parameter", ylabel="fixed points")
        if self.curves:
            ax.legend()
        return ax


def branches(f: Callable, interval: Any, parameters: Any) -> Branches:
    """Follow the fixed points of f(·, p), a map of numbers, as the parameter p changes.

    For each p of ``parameters`` the fixed points in the interval are looked for; and from each that lies on no curve
    yet, the curve f(x, p) = x is followed both ways by its length s (pseudo-arclength continuation), which also goes
    around folds: one step along the tangent, and then Newton's method across it::

        f(x, p) - x = 0,    t · ((x, p) - (x, p)_before) = Δs

    Parameters
    ----------
    f : callable
        ``f(x, p)``, elementwise.
    interval : tuple of two numbers
        Where fixed points are looked for.
    parameters : array
        At which p they are looked for, ascending; the branches end at the first and at the last.

    Returns
    -------
    Branches
        The curves, with f' along them, and their folds. A branch that exists only between two of the parameters is not
        found; and two that are nowhere further apart than 1/200 of the interval may be taken for one, or missed.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> branches(lambda x, b: 5 * tg.sigmoid(x) + b, (-3, 3), np.linspace(-3, -2, 5))
    Branches:
      from x = -2.67883 at -3 to 2.67883 at -2: stable, unstable, stable
      fold at -2.65561, x = 0.962424
      fold at -2.34439, x = -0.962424
    """
    given.check_callable("f", f, "f(x, p)")
    a, b = given.interval("interval", interval)
    ps = given.line("parameters", parameters)
    box = np.array([[a, ps[0]], [b, ps[-1]]])
    found: list[np.ndarray] = []
    for seed in seeds(f, box, ps):
        if not any(near(seed, curve, box) for curve in found):
            forth = follow(f, seed, box, 1)
            closed = len(forth) > 1 and forth[-1] is seed
            curve = np.array(forth if closed else [*follow(f, seed, box, -1)[:0:-1], *forth])
            found.append(curve if curve[0, 1] <= curve[-1, 1] else curve[::-1])
    curves = tuple(Branch(c[:, 1], c[:, 0], np.array([slopes(f, *z)[1] + 1 for z in c])) for c in found)
    return Branches(curves, turning(f, curves, box))


def folds(f: Callable, interval: Any, parameters: Any) -> np.ndarray:
    """Where two fixed points of f(·, p) meet and vanish: f(x, p) = x and f'(x, p) = 1, with ∂f/∂p not 0.

    Newton's method solves the pair, by derivatives of the tape, from where f' passes 1 on a branch.

    Parameters
    ----------
    f : callable
        ``f(x, p)``, elementwise.
    interval : tuple of two numbers
        Where fixed points are looked for.
    parameters : array
        At which p they are looked for, ascending.

    Returns
    -------
    array, (n, 2)
        The folds, ascending: p and x.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> folds(lambda x, b: 5 * tg.sigmoid(x) + b, (-3, 3), np.linspace(-3, -2, 5)).round(5)
    array([[-2.65561,  0.96242],
           [-2.34439, -0.96242]])
    """
    return branches(f, interval, parameters).folds


# What they are made of ------------------------------------------------------------------------------------------------


def seeds(f: Callable, box: np.ndarray, ps: np.ndarray) -> Iterator[np.ndarray]:
    """Fixed points at each of the parameters: all changes of the sign of f(x, p) - x."""
    xs = np.linspace(box[0, 0], box[1, 0], PLACES + 1)

    def gap(x: np.ndarray, p: float) -> np.ndarray:
        return given.value_of(lambda y: f(y, p), x) - x

    for p in ps:
        gaps = gap(xs, p)
        yield from (np.array([x, p]) for x in xs[gaps == 0])
        for i in np.flatnonzero(gaps[:-1] * gaps[1:] < 0):
            z = np.array([halved(partial(gap, p=p), xs[i], xs[i + 1]), p])
            if abs(gap(z[0], p)) < STEP * (box[1, 0] - box[0, 0]):  # or else it jumps over 0
                yield z


def tidy(number: float) -> str:
    """Six digits, where rounding is nothing."""
    return f"{round(float(number), 12) + 0.0:.6g}"


def near(z: np.ndarray, curve: np.ndarray, box: np.ndarray) -> bool:
    """Whether a point is on a curve, as it is drawn: on a line from one of its points to the next."""
    points = (curve - z) / (box[1] - box[0])
    ways = np.diff(points, axis=0, append=points[-1:])
    lengths = (ways**2).sum(axis=1)
    parts = np.clip(-(points * ways).sum(axis=1) / np.where(lengths > 0, lengths, 1), 0, 1)
    return bool((np.linalg.norm(points + parts[:, None] * ways, axis=1) < STEP / 10).any())


def turning(f: Callable, curves: tuple[Branch, ...], box: np.ndarray) -> np.ndarray:
    """The folds on the curves: where f' passes 1, and the parameter turns round."""

    def pair(z: Any) -> Any:
        return stack([f(z[0], z[1]) - z[0], grad(f)(z[0], z[1]) - 1])

    found: list[np.ndarray] = []
    for curve in curves:
        for i in np.flatnonzero(np.diff(np.sign(curve.multipliers - 1)) != 0):
            z = np.array([curve.points[i], curve.parameters[i]])
            z = solved(pair, z)
            inside = z is not None and ((z >= box[0]) & (z <= box[1])).all()
            if inside and abs(slopes(f, *z)[2]) > 1e-6 and not any(np.allclose(z, other) for other in found):
                found.append(z)
    return np.array(sorted(z[::-1].tolist() for z in found)).reshape(-1, 2)
