"""How much the end of an orbit depends on its start: the size of the derivative, for a grid of starts.

Inside a basin of attraction it vanishes with the number of steps, and at the border of two it explodes: that is the
gradient of a loss at the end, by the state at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import whole
from ..modes import no_grad
from ..nn import Cell
from ..plotting import axes
from ..progress import counted
from ..transforms import jvp
from .grids import Grid


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """How much the end of an orbit depends on its start.

    Parameters
    ----------
    xs, ys : array
        The axes of the grid of starts; of numbers, ``ys`` is None.
    ends : array, (len(ys), len(xs), d), or (len(xs), d), or (len(xs),)
        The states after all steps; the last, where they are single numbers.
    slopes : array, (len(ys), len(xs)), or (len(xs),)
        The largest singular value of the derivative of the end by the start, along the grid; of numbers, its modulus.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import sensitivity
    >>> sensitivity(lambda x: x / 2, (-1, 1), steps=3, resolution=3).slopes
    array([0.125, 0.125, 0.125])
    """

    xs: np.ndarray
    ys: np.ndarray | None
    ends: np.ndarray
    slopes: np.ndarray

    def __repr__(self) -> str:
        low, middle, high = np.quantile(self.slopes, (0, 0.5, 1))
        return f"Sensitivity of {self.slopes.size} starts: slope {low:.3g} to {high:.3g}, median {middle:.3g}"

    def plot(self, ax: Any = None, floor: float = 1e-16, **keywords: Any) -> Any:
        """Draw the logarithm of the slope, as an image over the plane, or over the line.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        floor : float, optional
            What is smaller is drawn as that.
        **keywords
            For ``ax.pcolormesh``, or ``ax.semilogy``.
        """
        ax = axes(ax)
        slopes = np.maximum(self.slopes, floor)
        if self.ys is None:
            ax.semilogy(self.xs, slopes, **keywords)
            ax.set(xlabel="start", ylabel="|∂ end / ∂ start|")
            return ax
        image = ax.pcolormesh(
            self.xs, self.ys, np.log10(slopes), **{"rasterized": True, "shading": "nearest", **keywords}
        )
        ax.figure.colorbar(image, ax=ax, label="log10 of ‖∂ end / ∂ start‖")
        ax.set(xlabel="x[0]", ylabel="x[1]")
        return ax

    def plot_ends(self, ax: Any = None, **keywords: Any) -> Any:
        """Draw the end over the start, along a line; of states of several numbers, a line for each.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        **keywords
            For ``ax.plot``.
        """
        if self.ys is not None:
            raise ValueError("plot_ends: these are ends of starts in a plane: see .ends, and plot()")
        ax = axes(ax)
        ax.plot(self.xs, self.ends, **keywords)
        ax.set(xlabel="start", ylabel="end")
        return ax


def sensitivity(
    f: Callable | Cell, xlim: Any, ylim: Any = None, *, steps: int = 50, x: Any = None, origin: Any = None,
    plane: Any = None, resolution: int = 100, progress: bool = True,
) -> Sensitivity:  # fmt: skip
    """How much the state after so many steps depends on the start: the size of its derivative, for a grid of starts.

    The derivative is that of the orbit on the tape, and along both axes of the grid, of all starts at once.

    Parameters
    ----------
    f : Cell, or callable
        As for :func:`basins`.
    xlim, ylim : tuple of two numbers
        The part of the plane, or, without ``ylim``, of the line.
    steps : int, optional
        The number of steps.
    x, origin, plane : array, optional
        As for :func:`basins`.
    resolution : int, optional
        The number of starts along a side.
    progress : bool, optional
        Whether a long run is shown.

    Returns
    -------
    Sensitivity
        The ends, and the slopes.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> sensitivity(lambda x: tg.tanh(2 * x), (-1, 1), steps=10, resolution=101)
    Sensitivity of 101 starts: slope 1.34e-08 to 1.02e+03, median 2.14e-07
    """
    grid = Grid(f, xlim, ylim, x, origin, plane, resolution)
    steps = whole("steps", steps, 1)

    def end(states: Any) -> Any:
        for _ in counted(range(steps), progress, "sensitivity"):
            states = grid.map(states)
        return states

    columns, ends = [], grid.starts
    for direction in grid.plane:
        with no_grad(), np.errstate(all="ignore"):
            ends, column = jvp(end, grid.starts, np.broadcast_to(direction, grid.starts.shape).copy())
        columns.append(column.numpy())
    J = np.stack(columns, axis=-1)
    finite = np.isfinite(J).all(axis=(1, 2))
    slopes = np.full(len(J), np.inf)
    slopes[finite] = np.linalg.norm(J[finite], ord=2, axis=(1, 2))
    number = grid.ys is None and len(grid.origin) == 1
    ends = ends.numpy().reshape(*grid.shape, *(() if number else (-1,)))
    return Sensitivity(grid.xs, grid.ys, ends, slopes.reshape(grid.shape))
