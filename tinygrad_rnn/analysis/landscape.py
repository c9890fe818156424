"""Losses as a landscape: over two numbers, and along one of them.

What is drawn is a function of one or two numbers that returns a loss, a tensor. ``directions.py`` makes one of a model,
by varying some of its weights; ``paths.py`` walks down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import move
from ..errors import ShapeError, described, whole
from ..modes import no_grad
from ..plotting import axes
from ..progress import counted
from ..tensor import bare
from ..transforms import vjp
from . import given


@dataclass(frozen=True, eq=False)
class Surface:
    """A loss over a grid of two numbers.

    Parameters
    ----------
    a, b : array
        The axes.
    values : array, (len(b), len(a))
        The loss; infinite or NaN, where it is that.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import surface
    >>> surface(lambda a, b: (a - 1.0) ** 2 + b, [0, 1, 2], [0, 5, 10]).lowest
    (1.0, 0.0)
    """

    a: np.ndarray
    b: np.ndarray
    values: np.ndarray

    @property
    def lowest(self) -> tuple[float, float]:
        """Where on the grid the loss is smallest: (a, b)."""
        j, i = np.unravel_index(np.nanargmin(self.values), self.values.shape)
        return float(self.a[i]), float(self.b[j])

    def __repr__(self) -> str:
        text = f"Surface, {len(self.a)} by {len(self.b)}"
        if np.isnan(self.values).all():
            return f"{text}: all NaN"
        a, b = self.lowest
        bad = np.sum(~np.isfinite(self.values))
        text += f": {np.nanmin(self.values):.4g} at ({a:.4g}, {b:.4g}), to {np.nanmax(self.values):.4g}"
        return text + (f"; {bad} not finite" if bad else "")

    def plot(self, ax: Any = None, log: bool = True, floor: float = 1e-6, contours: int = 0, **keywords: Any) -> Any:
        """Draw the loss as colours, or, on axes with ``projection="3d"``, as a surface.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        log : bool, optional
            Whether the logarithm to base 10 is drawn.
        floor : float, optional
            What is smaller is drawn as that, under a logarithm.
        contours : int, optional
            How many lines of equal loss are drawn, too.
        **keywords
            For ``ax.pcolormesh``, or ``ax.plot_surface``.
        """
        ax = axes(ax)
        values = np.where(np.isfinite(self.values), self.values, np.nan)
        values = np.log10(np.maximum(values, floor)) if log else values
        label = "log10 of the loss" if log else "loss"
        if getattr(ax, "name", "") == "3d":
            ax.plot_surface(*np.meshgrid(self.a, self.b), values, **{"cmap": "viridis", **keywords})
            ax.set_zlabel(label)
        else:
            options = {"cmap": "viridis", "shading": "nearest", "rasterized": True, **keywords}
            ax.figure.colorbar(ax.pcolormesh(self.a, self.b, values, **options), ax=ax, label=label)
            if contours:
                ax.contour(self.a, self.b, values, whole("contours", contours, 1), colors="0.7", linewidths=0.6)
            ax.set(xlim=(self.a[0], self.a[-1]), ylim=(self.b[0], self.b[-1]))
        ax.set(xlabel="a", ylabel="b")
        return ax


@dataclass(frozen=True, eq=False)
class Profile:
    """Losses along one number, and their slopes.

    Parameters
    ----------
    at : array, (n,)
        The values of the number.
    losses : array, (n,), or (n, samples)
        One loss, or that of each sample.
    slopes : array, like losses
        The derivatives by the number.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import profile
    >>> found = profile(lambda v: v * np.array([1.0, 3.0]), [0, 1])
    >>> found.slopes.tolist(), found.mean.tolist()
    ([[1.0, 3.0], [1.0, 3.0]], [0.0, 2.0])
    """

    at: np.ndarray
    losses: np.ndarray
    slopes: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean over the samples, (n,)."""
        return self.losses.reshape(len(self.at), -1).mean(axis=1)

    @property
    def mean_slope(self) -> np.ndarray:
        """The derivative of the mean, (n,)."""
        return self.slopes.reshape(len(self.at), -1).mean(axis=1)

    def __repr__(self) -> str:
        samples = f", {self.losses.shape[1]} samples" if self.losses.ndim == 2 else ""
        text = f"Profile from {self.at[0]:.6g} to {self.at[-1]:.6g}{samples}"
        return (
            f"{text}: steepest slope {np.abs(self.slopes).max():.4g}, of the mean {np.abs(self.mean_slope).max():.4g}"
        )

    def plot(self, ax: Any = None, slopes: bool = False) -> Any:
        """Draw the mean, and the samples as thin lines behind it.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        slopes : bool, optional
            Draw how steep they are, \\|slope\\| on a logarithmic axis, and not how high.
        """
        ax = axes(ax)
        values, mean = (abs(self.slopes), abs(self.mean_slope)) if slopes else (self.losses, self.mean)
        if values.ndim == 2:
            ax.plot(self.at, values, color="0.5", linewidth=0.7, alpha=0.6)
            ax.plot([], [], color="0.5", linewidth=0.7, label=f"each of {values.shape[1]} samples")
        ax.plot(self.at, mean, color="C1", linewidth=2, label="mean" if values.ndim == 2 else None)
        ax.set(xlabel="value", ylabel="|slope|" if slopes else "loss", xlim=(self.at[0], self.at[-1]))
        if slopes:
            ax.set_yscale("log")
        if values.ndim == 2:
            ax.legend()
        return ax


def surface(f: Callable, a: Any, b: Any, *, vectorized: bool = False, progress: bool = True) -> Surface:
    """A loss over a grid of two numbers.

    Parameters
    ----------
    f : callable
        ``f(a, b)``, a single number.
    a, b : array
        The places on both axes, ascending: at least three, all of them, and not only the ends.
    vectorized : bool, optional
        Whether f takes arrays of the whole grid as well, and returns as many losses: it is called once then.
    progress : bool, optional
        Whether a long run is shown, on stderr.

    Returns
    -------
    Surface
        The losses.

    Examples
    --------
    >>> surface(lambda a, b: (a - 1) ** 2 + b * b, np.linspace(-2, 2, 5), np.linspace(-1, 1, 3), vectorized=True)
    Surface, 5 by 3: 0 at (1, 0), to 10
    """
    given.check_callable("f", f, "f(a, b)")
    a, b = given.line("a", a, 3), given.line("b", b, 3)
    A, B = np.meshgrid(a, b)
    if vectorized:
        with no_grad(), np.errstate(all="ignore"):
            return Surface(a, b, given.losses_of(f(A, B), A.shape, "f, vectorized"))
    values = []
    for x, y in counted(list(zip(A.ravel().tolist(), B.ravel().tolist())), progress, "surface"):
        with no_grad(), np.errstate(all="ignore"):
            values.append(given.losses_of(f(x, y), (), "f"))
    return Surface(a, b, np.reshape(values, A.shape))


def profile(f: Callable, values: Any, *, vectorized: bool = False, progress: bool = True) -> Profile:
    """Losses along one number, of several samples say, and their derivatives, by the tape.

    Parameters
    ----------
    f : callable
        ``f(v)``: the loss where the number is v; or the loss of each sample, (samples,).
    values : array, (n,)
        The places, ascending.
    vectorized : bool, optional
        Whether f takes all of them at once, (n,), and returns (n,) or (n, samples): what it makes of one must not
        depend on the others.
    progress : bool, optional
        Whether a long run is shown, on stderr.

    Returns
    -------
    Profile
        Losses and slopes, and the mean of both.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> targets = np.array([0.5, 1.0, 2.0])
    >>> profile(lambda b: (b * b - targets) ** 2, np.linspace(-2, 2, 101))
    Profile from -2 to 2, 3 samples: steepest slope 28, of the mean 22.67
    """
    given.check_callable("f", f, "f(v)")
    at = given.line("values", values)
    pieces = [at] if vectorized else at
    found = [slopes_of(f, v) for v in counted(list(pieces), progress, "profile")]
    losses, slopes = (np.concatenate(p) if vectorized else np.stack(p) for p in zip(*found))
    return Profile(at, losses, slopes)


# What they are made of ------------------------------------------------------------------------------------------------


def slopes_of(f: Callable, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f(v), where v is a number or many, and the derivatives: one walk for each sample."""
    with no_grad(), np.errstate(all="ignore"):
        y, pull = vjp(f, v)
        samples = y.shape[v.ndim :]
        if y.shape[: v.ndim] != v.shape or len(samples) > 1:
            raise ShapeError(f"f: expected it to return {(*v.shape,)} or {(*v.shape, 'samples')}, got {described(y)}")
        columns = []
        for j in np.ndindex(samples):
            g = np.zeros_like(y._data)
            g[(..., *j)] = 1
            columns.append(move(bare(pull(g)[0]), "cpu"))
    slopes = np.stack(columns, axis=-1) if columns else np.zeros(y.shape)
    return y.numpy(), slopes.reshape(y.shape)
