"""Basins of attraction: to which attractor a map takes each of many starts, and how soon.

A trained cell that gets the same input at each step is such a map, too: pass the cell. All starts are iterated as one
batch: f takes vectors as rows, (n, d), or, where there is no ``ylim``, numbers, (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..errors import whole
from ..nn import Cell
from ..plotting import axes, borders
from ..progress import counted
from . import given
from .fixed import kind_of, least_period, multipliers
from .grids import Grid
from .newton import newton

UNSETTLED, UNBOUNDED = -1, -2
CLOSE = 1000  # tolerances: how near an attractor counts as there
MOST = 200  # attractors


@dataclass(frozen=True, eq=False)
class Basins:
    """Which attractor each start falls into.

    Parameters
    ----------
    xs, ys : array
        The axes of the grid of starts; of numbers, ``ys`` is None.
    labels : array of int, (len(ys), len(xs)), or (len(xs),)
        The number of the attractor; -1: the start has not settled, or lies on a border, where it stays on what is no
        attractor; -2: its orbit has no bounds.
    attractors : list of array, (period, d)
        The points of each, one after another.
    steps : array of int, like labels
        After how many steps the orbit is at its attractor, and stays there; -1 where there is none.
    places : list of array, (period, 2)
        The attractors as they lie in the plane of the grid.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import basins
    >>> found = basins(lambda x: x * x, (-1.5, 1.5), resolution=4, steps=20)
    >>> found.labels, found.attractors
    (array([-2,  0,  0, -2]), [array([[0.]])])
    """

    xs: np.ndarray
    ys: np.ndarray | None
    labels: np.ndarray
    attractors: list[np.ndarray]
    steps: np.ndarray
    places: list[np.ndarray]

    def __repr__(self) -> str:
        if not self.attractors:
            rows = ["  no attractor found"]
        else:
            rows = [
                f"  {i}: {'fixed point' if len(points) == 1 else f'cycle of {len(points)}'} "
                f"{np.array2string(points[0], precision=6, suppress_small=True, threshold=6)}, "
                f"{np.mean(self.labels == i):.1%} of the starts"
                for i, points in enumerate(self.attractors)
            ]
        rows += [
            f"  {what}: {np.mean(self.labels == label):.1%} of the starts"
            for label, what in ((UNSETTLED, "not settled"), (UNBOUNDED, "without bounds"))
            if (self.labels == label).any()
        ]
        return "\n".join([f"Basins of {self.labels.size} starts:", *rows])

    def plot(self, ax: Any = None, steps: bool = False, cmap: str = "viridis") -> Any:
        """Draw the starts, coloured by their attractor, and the attractors.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        steps : bool, optional
            Colour by how soon they are there instead.
        cmap : str, optional
            The colours, of which each attractor has one; what has no attractor is left blank.
        """
        ax = axes(ax)
        values = np.where(self.labels >= 0, self.steps if steps else self.labels, np.nan).reshape(-1, len(self.xs))
        ys = np.array([-0.5, 0.5]) if self.ys is None else self.ys
        style = {"cmap": cmap, "rasterized": True, "shading": "flat" if self.ys is None else "nearest"}
        if not steps:
            style |= {"vmin": -0.5, "vmax": max(len(self.attractors), 1) - 0.5}
        xs = borders(self.xs) if self.ys is None else self.xs
        image = ax.pcolormesh(xs, ys, values, **style)
        if steps:
            ax.figure.colorbar(image, ax=ax, label="steps to the attractor")
        for points in self.places:
            ax.plot(*points.T, "o", color="C3", markeredgecolor="0.9", markersize=8, zorder=5, clip_on=False)
        ax.set(xlim=(self.xs[0], self.xs[-1]), xlabel="x" if self.ys is None else "x[0]")
        if self.ys is None:
            ax.set_yticks([])
        else:
            ax.set(ylim=(ys[0], ys[-1]), ylabel="x[1]")
        return ax


def basins(
    f: Callable | Cell, xlim: Any, ylim: Any = None, *, x: Any = None, origin: Any = None, plane: Any = None,
    resolution: int = 100, steps: int = 500, period: int = 4, tolerance: float = 1e-6, progress: bool = True,
) -> Basins:  # fmt: skip
    """Which attractor each start of a grid falls into: fixed points, and cycles up to a length.

    After all steps, a start has settled where a round of some ``period`` more brings it back within the tolerance. What
    lies within a thousand tolerances is one attractor, and what a small error leaves again (a multiplier above 1) none.

    Parameters
    ----------
    f : Cell, or callable
        A cell, whose state is the point; or a map of rows, (n, d), or of numbers, (n,), each by itself.
    xlim, ylim : tuple of two numbers
        The part of the plane (of the line, without ``ylim``) that is covered by the grid.
    x : array, (input_size,), optional
        What a cell gets at each step; by default zeros.
    origin : array, (d,), optional
        The point of the state space that is (0, 0) in the plane; by default zeros.
    plane : array, (2, d), or (1, d) without ylim, optional
        The directions that are its axes; by default those of the first numbers of a state.
    resolution : int, optional
        The number of starts along a side.
    steps : int, optional
        How many are made before one looks where it is.
    period : int, optional
        The longest cycle that is recognised.
    tolerance : float, optional
        How close counts as back.
    progress : bool, optional
        Whether a long run is shown, on stderr.

    Returns
    -------
    Basins
        The attractors, and who falls into them.

    Raises
    ------
    ValueError
        There are more than 200 attractors, as where each state is one.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> basins(lambda x: tg.tanh(2 * x), (-2, 2), (-2, 2), resolution=40)
    Basins of 1600 starts:
      0: fixed point [-0.957504 -0.957504], 25.0% of the starts
      1: fixed point [ 0.957504 -0.957504], 25.0% of the starts
      2: fixed point [-0.957504  0.957504], 25.0% of the starts
      3: fixed point [0.957504 0.957504], 25.0% of the starts
    """
    grid = Grid(f, xlim, ylim, x, origin, plane, resolution)
    steps, period = whole("steps", steps, 1), whole("period", period, 1)
    if not isinstance(tolerance, Real) or not tolerance > 0:
        raise ValueError(f"tolerance: expected a number above 0, got {tolerance!r}")
    states = grid.starts
    for _ in counted(range(steps), progress, "basins"):
        states = grid.step(states)
    rounds = [states]
    for _ in range(period):
        rounds.append(grid.step(rounds[-1]))
    labels, attractors = sorted_out(grid, np.stack(rounds), tolerance)
    arrived = np.where(labels >= 0, 0, -1)
    states = grid.starts
    for t in counted(range(1, steps + 1), progress and bool(attractors), "basins: steps"):
        away = arrived >= 0
        for i, attractor in enumerate(attractors):
            here = labels == i
            away[here] = distance(states[here], attractor) > CLOSE * tolerance
        arrived[away] = t
        states = grid.step(states)
    shape = grid.shape
    places = [grid.in_plane(a) for a in attractors]
    return Basins(grid.xs, grid.ys, labels.reshape(shape), attractors, arrived.reshape(shape), places)


# What they are made of ------------------------------------------------------------------------------------------------


def sorted_out(grid: Grid, rounds: np.ndarray, tolerance: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """The label of each start, and the attractors, from some last states, (period + 1, n, d)."""
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.linalg.norm(rounds[1:] - rounds[0], axis=-1)
    bounded = np.isfinite(rounds).all(axis=(0, 2))
    settled = bounded & (moved <= tolerance).any(axis=0)
    labels = np.where(bounded, UNSETTLED, UNBOUNDED)
    attractors: list[np.ndarray] = []
    open_ = settled.copy()
    for _ in range(MOST):
        if not open_.any():
            return labels, attractors
        first = int(np.argmax(open_))
        length = int(np.argmax(moved[:, first] <= tolerance)) + 1
        points = rounds[:length, first]
        near = open_ & (distance(rounds[0], points) <= CLOSE * tolerance)
        near[first], open_ = True, open_ & ~near
        best = np.flatnonzero(near)[np.argmin(moved[length - 1, near])]
        points = refined(grid, rounds[:length, best], CLOSE * tolerance)
        points = points[: least_period(grid.alone, points[0], length)]
        if kind_of(multipliers(grid.alone, points[0], len(points))) in ("sink", "neutral"):
            labels[near] = len(attractors)
            attractors.append(points)
    raise ValueError(f"basins: more than {MOST} attractors, as where all states of a region stay where they are: a "
                     "larger tolerance makes one of those that are close")  # fmt: skip


def refined(grid: Grid, points: np.ndarray, radius: float) -> np.ndarray:
    """A cycle to the last digit, by Newton's method; or, where that leads elsewhere, as it is."""
    found = newton(grid.alone, points[0], len(points))
    if found is None or np.linalg.norm(found - points[0]) > radius:
        return points
    cycle = [found]
    for _ in points[1:]:
        cycle.append(given.value_of(grid.alone, cycle[-1]))
    return np.stack(cycle)


def distance(states: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How far each state is from the nearest of some points."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.min([np.linalg.norm(states - point, axis=1) for point in points], axis=0)
