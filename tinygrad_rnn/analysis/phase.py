"""Which way a map moves its points: arrows on a line and in the plane, and the fixed points between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import whole
from ..plotting import axes
from . import given
from .fixed import FixedPoints, fixed_points, mark
from .grids import Plane
from .maps import map_of


@dataclass(frozen=True, eq=False)
class PhaseLine:
    """How a map of numbers moves those of an interval.

    Parameters
    ----------
    xs : array, (n,)
        Places.
    moves : array, (n,)
        f(x) - x there.
    fixed : FixedPoints
        Where that is 0.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import phase_line
    >>> phase_line(lambda x: x / 2, (-1, 1)).moves[[0, -1]].tolist()
    [0.5, -0.5]
    """

    xs: np.ndarray
    moves: np.ndarray
    fixed: FixedPoints

    def __repr__(self) -> str:
        return f"PhaseLine from {self.xs[0]:.6g} to {self.xs[-1]:.6g}\n{self.fixed!r}"

    def plot(self, ax: Any = None, graph: bool = True, arrows: int = 16, legend: Any = True) -> Any:
        """Draw a line with arrows the way that f moves, its fixed points, and over it the graph of f(x) - x.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        graph : bool, optional
            Whether the graph is drawn; without it, the line is all there is.
        arrows : int, optional
            How many.
        legend : bool or dict, optional
            Whether there is one; or keywords for ``ax.legend``.
        """
        ax = axes(ax, figsize=(7, 3 if graph else 1.2))
        ax.axhline(0, color="0.5", linewidth=1)
        if graph:
            ax.plot(self.xs, self.moves, color="C0", label="f(x) - x")
        edges = np.linspace(self.xs[0], self.xs[-1], whole("arrows", arrows, 1) + 1)
        middles, gap = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        free = [all(abs(middle - x) > 0.4 * gap for x in self.fixed.points) for middle in middles]
        ways = np.sign(np.interp(middles, self.xs, self.moves))
        for x, way in zip(middles[free], ways[free]):
            ax.annotate(
                "", (x + 0.3 * gap * way, 0), (x - 0.3 * gap * way, 0),
                arrowprops={"arrowstyle": "-|>", "color": "C1", "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        mark(ax, np.stack([self.fixed.points, np.zeros(len(self.fixed))], axis=1), self.fixed.kinds)
        ax.set(xlabel="x", xlim=(self.xs[0], self.xs[-1]))
        if graph:
            ax.set_ylabel("f(x) - x")
        else:
            ax.set_yticks([])
        with_legend(ax, legend)
        return ax


@dataclass(frozen=True, eq=False)
class PhasePortrait:
    """How a map of the plane moves its points.

    Parameters
    ----------
    xs, ys : array, (n,)
        The axes of a grid.
    moves : array, (n, n, 2)
        f(x, y) - (x, y), where the first axis is that of ``ys``; of states of more numbers, its part in the plane.
    fixed : FixedPoints
        Where that is 0, as far as it was found from the points of the grid.
    places : array, (m, 2)
        Where in the plane the fixed points are, or what is below them there, if they lie outside of it.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import phase_portrait
    >>> phase_portrait(lambda x: x / 2, (-1, 1), (-1, 1), resolution=3).moves[0, 2].tolist()
    [-0.5, 0.5]
    """

    xs: np.ndarray
    ys: np.ndarray
    moves: np.ndarray
    fixed: FixedPoints
    places: np.ndarray

    def __repr__(self) -> str:
        x, y = (f"{ends[0]:.6g} to {ends[-1]:.6g}" for ends in (self.xs, self.ys))
        return f"PhasePortrait, {x} by {y}\n{self.fixed!r}"

    def plot(self, ax: Any = None, legend: Any = True, **keywords: Any) -> Any:
        """Draw arrows of one length (their colour is how far f moves), and the fixed points.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        legend : bool or dict, optional
            Whether there is one, above, where a title would be; or keywords for ``ax.legend``, ``loc`` and others.
        **keywords
            For ``ax.quiver``.
        """
        ax = axes(ax)
        far = np.linalg.norm(self.moves, axis=-1)
        unit = self.moves / np.where(far > 0, far, 1)[..., None]
        seen = np.log10(np.maximum(far, far.max() * 1e-3 or 1))
        options = {"pivot": "mid", "angles": "xy", "cmap": "viridis", "width": 0.004, **keywords}
        arrows = ax.quiver(self.xs, self.ys, unit[..., 0], unit[..., 1], seen, **options)
        ax.figure.colorbar(arrows, ax=ax, label="log10 of ‖f(x) - x‖")
        mark(ax, self.places, self.fixed.kinds)
        ax.set(xlabel="x[0]", ylabel="x[1]")
        with_legend(ax, {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 4} if legend is True else legend)
        return ax


def with_legend(ax: Any, legend: Any) -> None:
    """A legend, if it is wanted, and there is something to be named. legend: a bool, or its keywords."""
    if legend is not False and ax.get_legend_handles_labels()[0]:
        ax.legend(**({} if legend is True else legend))


def phase_line(f: Callable, interval: Any) -> PhaseLine:
    """How f moves the numbers of an interval, and the fixed points there.

    Parameters
    ----------
    f : callable or Cell
        The map of a number; or a cell whose state is one, with zeros for its input.
    interval : tuple of two numbers
        Where to look.

    Returns
    -------
    PhaseLine
        What it draws has arrows towards sinks (filled) and away from sources (hollow).

    Examples
    --------
    >>> phase_line(lambda x: x * x + 0.15, (-0.5, 1.2))
    PhaseLine from -0.5 to 1.2
        0.183772   period 1   multiplier 0.367544   sink
        0.816228   period 1   multiplier 1.632456   source
    """
    f, (a, b) = map_of(f, numbers=True), given.interval("interval", interval)
    fixed = fixed_points(f, interval=(a, b))
    xs = np.linspace(a, b, 401)
    return PhaseLine(xs, np.array([given.value_of(f, x) - x for x in xs]), fixed)


def phase_portrait(
    f: Callable, xlim: Any, ylim: Any, resolution: int = 20, *, x: Any = None, origin: Any = None, plane: Any = None
) -> PhasePortrait:
    """How f moves the points of a part of the plane, and the fixed points there.

    Parameters
    ----------
    f : callable or Cell
        The map of a vector, of two numbers unless there is a plane; or a cell, whose state is one.
    xlim, ylim : tuple of two numbers
        The part of the plane.
    resolution : int, optional
        The number of arrows on a side. Newton's method starts from every third of them.
    x, origin, plane : array, optional
        As for :func:`basins`: the input of a cell; and, of a state of more than two numbers, which part of it is drawn.

    Returns
    -------
    PhasePortrait
        The moves on a grid, and the fixed points within: in or out of the plane, where there are more numbers.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> W = np.array([[2.0, 0.0], [0.0, 0.5]])
    >>> phase_portrait(lambda x: tg.tanh(W @ x), (-1.5, 1.5), (-1.5, 1.5))
    PhasePortrait, -1.5 to 1.5 by -1.5 to 1.5
    [-0.957504  0.      ]   period 1   multiplier [0.5      0.166372]   sink
    [0. 0.]   period 1   multiplier [2.  0.5]   saddle
    [0.957504 0.      ]   period 1   multiplier [0.5      0.166372]   sink
    """
    grid = Plane(f, xlim, given.interval("ylim", ylim), x, origin, plane, resolution, "of one point")
    moves = np.array([given.value_of(grid.f, point) - point for point in grid.starts])
    fixed = fixed_points(grid.f, grid.starts.reshape(*grid.shape, -1)[::3, ::3].reshape(-1, len(grid.origin)))
    places = grid.in_plane(fixed.points.reshape(-1, len(grid.origin)))
    inside = ((places >= [grid.xs[0], grid.ys[0]]) & (places <= [grid.xs[-1], grid.ys[-1]])).all(axis=1)
    with np.errstate(invalid="ignore"):  # each row by itself, as there may be infinite ones
        moves = moves[:, :2] if plane is None else moves @ np.linalg.pinv(grid.plane)
    return PhasePortrait(grid.xs, grid.ys, moves.reshape(*grid.shape, 2), fixed.chosen(inside), places[inside])
