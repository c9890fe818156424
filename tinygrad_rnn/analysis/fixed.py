"""Fixed points and cycles of maps, found by Newton's method on the tape, and of what kind they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import whole
from ..plotting import axes
from . import given
from .maps import map_of
from .newton import brackets, newton, repeated, tangent

NEUTRAL = 1e-6  # a multiplier whose modulus is so close to 1 is neither inside nor outside the unit circle
SUPERSTABLE = 1e-8
APART = 1e-6  # points that are closer, relative to their size, are one
MARKS = {"sink": "o", "source": "o", "saddle": "D", "neutral": "s"}


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """Points that a map brings back to themselves, after one step or after some.

    Parameters
    ----------
    points : array, (n,) or (n, d)
        In ascending order, of vectors by their first component.
    periods : array of int, (n,)
        After how many steps each is back for the first time.
    multipliers : array, (n,) or (n, d)
        The eigenvalues of the derivative of that many steps, all points of a cycle have the same: a small error grows
        by such a factor from one round to the next.
    kinds : tuple of str, (n,)
        ``"sink"``: all multipliers have a modulus below 1; ``"source"``: all above; ``"saddle"``: some below and some
        above; ``"neutral"``: one is 1, so that the derivative does not decide.
    residual : array, (n,)
        How far f brings a point away from itself, after all: rounding.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import fixed_points
    >>> found = fixed_points(lambda x: x * x + 0.15, interval=(-2, 2))
    >>> found.where("sink")
        0.183772   period 1   multiplier 0.367544   sink
    >>> len(found), bool(found.superstable.any())
    (2, False)
    """

    points: np.ndarray
    periods: np.ndarray
    multipliers: np.ndarray
    kinds: tuple[str, ...]
    residual: np.ndarray

    @property
    def superstable(self) -> np.ndarray:
        """Whether all multipliers of a point are 0: what is near it converges faster than any geometric series."""
        return (abs(self.multipliers.reshape(len(self), -1)) < SUPERSTABLE).all(axis=1)

    def where(self, kind: str | None = None, period: int | None = None) -> FixedPoints:
        """Those of one kind, or of one least period, or both.

        Parameters
        ----------
        kind : str, optional
            ``"sink"``, ``"source"``, ``"saddle"`` or ``"neutral"``.
        period : int, optional
            The least period.
        """
        if kind not in (None, *MARKS):
            raise ValueError(f"kind: expected one of {', '.join(map(repr, MARKS))}, got {kind!r}")
        return self.chosen([kind in (None, k) and period in (None, p) for k, p in zip(self.kinds, self.periods)])

    def chosen(self, which: Any) -> FixedPoints:
        """Those that are chosen.

        Parameters
        ----------
        which : sequence of bool
            One for each point.
        """
        which = np.asarray(which, dtype=bool)
        kinds = tuple(k for k, wanted in zip(self.kinds, which) if wanted)
        arrays = self.points, self.periods, self.multipliers, self.residual
        points, periods, multipliers, residual = (array[which] for array in arrays)
        return FixedPoints(points, periods, multipliers, kinds, residual)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        if not len(self):
            return "FixedPoints: none found (from these starts, or in this interval)"
        with np.printoptions(precision=6, suppress=True, threshold=8, edgeitems=2, linewidth=200):
            rows = [
                f"{x!s:>12}   period {p}   multiplier {m!s}   {kind}" + (", superstable" if s else "")
                for x, p, m, kind, s in zip(
                    self.points.round(6) + 0.0,
                    self.periods,
                    self.multipliers.round(6) + 0.0,
                    self.kinds,
                    self.superstable,
                )
            ]
        return "\n".join(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw the points: sinks filled, sources hollow, saddles as diamonds. Numbers lie on the diagonal y = x.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        """
        points = self.points if self.points.ndim == 2 else np.stack([self.points] * 2, axis=1)
        if len(self) and points.shape[1] != 2:
            raise ValueError(f"plot: points of {points.shape[1]} numbers are not drawn: see .points")
        ax = axes(ax)
        mark(ax, points, self.kinds)
        return ax


def mark(ax: Any, points: np.ndarray, kinds: tuple[str, ...]) -> None:
    """Draw points of the plane by their kind, each kind with an entry in the legend."""
    for kind in dict.fromkeys(kinds):
        here = points[[k == kind for k in kinds]]
        fill = "C3" if kind == "sink" else "none"
        ax.plot(
            here[:, 0], here[:, 1], MARKS[kind], color="C3", markerfacecolor=fill, markersize=7, label=kind, zorder=5
        )


def fixed_points(f: Callable, starts: Any = None, *, interval: Any = None, period: int = 1) -> FixedPoints:
    """The points x with f(x) = x, or with f applied ``period`` times, and their kind.

    Newton's method finds them, by the derivative J of all those steps, the product of the steps' Jacobians::

        x ← x - (J(x) - I)⁻¹ (f(x) - x)

    Of a map of numbers, ``interval`` looks everywhere: each change of the sign of f(x) - x between 400 places is halved
    down first, and where it only comes close to 0, Newton's method starts as well.

    Parameters
    ----------
    f : callable or Cell
        The map of one point: ``lambda x: 3.5 * x * (1 - x)``, ``lambda x: tg.tanh(W @ x)``. A cell is one with zeros
        for its input; with another, see :func:`as_map`.
    starts : array, (n,) or (n, d), optional
        Numbers, or vectors, from which Newton's method starts.
    interval : tuple of two numbers, optional
        Instead: where to look for fixed points of a map of numbers.
    period : int, optional
        Cycles of such a length, too: their points, and those of the lengths that divide it, fixed points first of all.

    Returns
    -------
    FixedPoints
        Points, multipliers, kinds. The rule is about the modulus \\|f'(x)\\|: -1.5 is a source as 1.5 is. What has not
        been found is not there: with nothing found, it is empty.

    Examples
    --------
    >>> fixed_points(lambda x: 3.5 * x * (1 - x), interval=(-0.5, 1.5))
             0.0   period 1   multiplier 3.5   source
        0.714286   period 1   multiplier -1.5   source
    >>> cycle = fixed_points(lambda x: 3.5 * x * (1 - x), interval=(0, 1), period=4).where(period=4)
    >>> cycle.points.round(5), cycle.kinds[0]
    (array([0.38282, 0.50088, 0.82694, 0.875  ]), 'sink')
    """
    f = map_of(f, numbers=interval is not None)
    period = whole("period", period, 1)
    if (starts is None) == (interval is None):
        raise TypeError("fixed_points: expected either starts, or interval=(a, b), and not both")
    within = None if interval is None else given.interval("interval", interval)
    if within is not None:
        starts = brackets(lambda x: repeated(f, x, period) - x, *within)
    else:
        starts = given.floats("starts", starts, (1, 2), ", (n,), or (n, d) for vectors")
    found = [(x, r) for start in starts if (x := newton(f, start, period)) is not None for r in [size(f, x, period)]]
    if within is not None:
        slack = APART * (within[1] - within[0])
        found = [(x, r) for x, r in found if within[0] - slack <= x <= within[1] + slack]
    return classified(f, distinct(found), period, starts.shape[1:])


def classified(f: Callable, found: list[tuple], period: int, shape: tuple) -> FixedPoints:
    """The points with their least period, multipliers and kind."""
    points = np.array([x for x, _ in found]).reshape(-1, *shape)
    periods = np.array([least_period(f, x, period) for x in points], dtype=int)
    roots = [multipliers(f, x, p) for x, p in zip(points, periods)]
    eigenvalues = np.array(roots).reshape(points.shape)
    kinds = tuple(map(kind_of, roots))
    return FixedPoints(points, periods, eigenvalues, kinds, np.array([r for _, r in found]))


def kind_of(eigenvalues: np.ndarray) -> str:
    """Sink, source, saddle or neutral: by how many multipliers are inside the unit circle."""
    sizes = abs(np.atleast_1d(eigenvalues))
    if (abs(sizes - 1) <= NEUTRAL).any():
        return "neutral"
    return "sink" if (sizes < 1).all() else "source" if (sizes > 1).all() else "saddle"


def size(f: Callable, x: np.ndarray, period: int) -> float:
    return float(np.linalg.norm(repeated(f, x, period) - x))


def distinct(found: list[tuple]) -> list[tuple]:
    """Each point once, the best of those that are close; in order."""
    kept: list[tuple] = []
    for x, r in sorted(found, key=lambda pair: pair[1]):
        if all(np.linalg.norm(x - other) > APART * (1 + np.linalg.norm(x)) for other, _ in kept):
            kept.append((x, r))
    return sorted(kept, key=lambda pair: tuple(np.ravel(pair[0])))


def least_period(f: Callable, x: np.ndarray, period: int) -> int:
    near = APART * (1 + np.linalg.norm(x))
    return next(p for p in range(1, period + 1) if period % p == 0 and (p == period or size(f, x, p) <= near))


def multipliers(f: Callable, x: np.ndarray, period: int) -> np.ndarray:
    """The eigenvalues of the derivative of so many steps; real, where all of them are."""
    values = np.linalg.eigvals(tangent(f, x, period)[1])
    values = values[np.lexsort((-values.imag, -abs(values).round(12)))]
    return values.reshape(x.shape)
