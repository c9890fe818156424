"""Lyapunov exponents: how fast neighbouring states part, in the long run, in each direction."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..arrays import is_array
from ..errors import ShapeError, described, whole
from ..nn import Cell
from ..nn.recurrent import name_of, stepping
from ..ops import reshape
from ..plotting import axes
from ..tensor import bare
from .steps import steps_of

NEUTRAL = 1e-9  # a sum of exponents that is so little below 0 is 0, and rounding


@dataclass(frozen=True, eq=False)
class LyapunovExponents:
    """The exponents, the largest first, in natural logarithms a step.

    Parameters
    ----------
    growth : array, (steps, batch, number)
        By how much each direction has grown in each step, ``log |R_ii|``: their mean is the exponent.
    size : int
        How many numbers there are in a state: so many exponents there are in all.

    Examples
    --------
    A cell that turns its state about, and shrinks it:

    >>> from tinygrad_rnn import nn
    >>> cell = nn.RNNCell(1, 2, nonlinearity="linear", rng=0, dtype=np.float64)
    >>> cell.weight_hh.data = np.array([[0.0, -0.5], [0.5, 0.0]])
    >>> lyapunov_exponents(cell, np.ones((100, 1, 1)))
    LyapunovExponents: -0.6931, -0.6931 (from 90 steps of 1 sequence)
    """

    growth: np.ndarray
    size: int

    @property
    def exponents(self) -> np.ndarray:
        """(number,), the means over all steps and sequences."""
        return self.growth.mean(axis=(0, 1))

    @property
    def by_sequence(self) -> np.ndarray:
        """(batch, number), the means over the steps: how much they differ says how sure the exponents are."""
        return self.growth.mean(axis=0)

    @property
    def history(self) -> np.ndarray:
        """(steps, number), the exponents as they were found from the first steps only: whether they have converged."""
        return np.cumsum(self.growth.mean(axis=1), axis=0) / np.arange(1, len(self.growth) + 1)[:, None]

    @property
    def dimension(self) -> float:
        """Kaplan and Yorke's dimension of the attractor; NaN, if more exponents were needed to say it."""
        sums = np.cumsum(self.exponents)
        growing = np.flatnonzero(sums >= -NEUTRAL)
        j = int(growing[-1]) + 1 if len(growing) else 0
        if j == len(sums):
            return float(j) if j == self.size else np.nan
        return j + max(0.0, float(sums[j - 1])) / abs(self.exponents[j]) if j else 0.0

    def plot(self, ax: Any = None) -> Any:
        """Draw the exponents over the steps that they were found from: the first ten of them.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        ax, history = axes(ax), self.history
        for i, values in enumerate(history.T[:10]):
            ax.plot(np.arange(1, len(history) + 1), values, color=f"C{i}", label=f"$\\lambda_{{{i + 1}}}$")
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set(xlabel="steps", ylabel="exponent", xscale="log", title="Lyapunov exponents, as they converge")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        found = self.exponents
        shown = ", ".join(f"{x:.4f}" for x in found[:8]) + (", ..." if len(found) > 8 else "")
        steps, batch, _ = self.growth.shape
        return f"LyapunovExponents: {shown} (from {steps} steps of {batch} sequence{'s' * (batch != 1)})"


def lyapunov_exponents(
    system: Any, xs: Any = None, state: Any = None, *, steps: int | None = None, discard: int | None = None,
    number: int | None = None, rng: Any = 0, progress: bool = True,
) -> LyapunovExponents:  # fmt: skip
    """The Lyapunov exponents of a cell driven by inputs, or of a map, by the QR method.

    Directions are carried along with the state, by its Jacobians, and made orthogonal again after each step::

        J_t Q_{t-1} = Q_t R_t        λ_i = 1/T Σ_t log |R_t[i, i]|

    The largest one says how fast neighbours part: above 0 the system is chaotic. In a linear system they are the
    logarithms of the eigenvalues' absolute values; their sum is the mean of ``log |det J_t|``.

    Parameters
    ----------
    system : Cell or function
        A cell, any one, or a function ``step(x, state)``, with xs. Without xs: a map ``f(state)``, written with this
        package's operations; it maps states (..., size) on the last axis, as ``x, y = tg.unstack(v, axis=-1)`` takes
        them apart.
    xs : array or Tensor, (time, batch, ...), optional
        The inputs.
    state : array or tree of tensors, optional
        What to start from. Of a map: (size,), or several points, (batch, size), or a number.
    steps : int, optional
        How many steps a map is iterated.
    discard : int, optional
        How many steps are left out at the beginning, while the state and the directions settle; by default a tenth.
    number : int, optional
        How many exponents are wanted, the largest ones; by default all, one for each number of the state.
    rng : int or Generator, optional
        Of the directions to start with.
    progress : bool, optional
        Whether a bar is shown, where tqdm is installed and it takes a while.

    Returns
    -------
    LyapunovExponents
        The exponents, and how they were found.

    Raises
    ------
    FloatingPointError
        The state is not finite any more: the orbit has left for infinity.

    References
    ----------
    G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn: Lyapunov characteristic exponents for smooth dynamical
    systems and for Hamiltonian systems. Meccanica 15 (1980).

    Examples
    --------
    The logistic map at r = 4, whose exponent is ln 2:

    >>> found = lyapunov_exponents(lambda x: 4 * x * (1 - x), state=0.3, steps=4000)
    >>> abs(found.exponents[0] - np.log(2)) < 0.002
    np.True_
    """
    if xs is None:
        run = steps_of(*autonomous(system, state, steps))
    elif steps is not None:
        raise ValueError(f"steps: expected it without xs, which has its own number of steps, got {steps!r}")
    else:
        run = steps_of(system, xs, state)
    (time, batch), size = run.xs.shape[:2], run.flat.size
    discard = time // 10 if discard is None else whole("discard", discard, 0)
    if discard >= time:
        raise ValueError(f"discard: expected less than the number of steps, {time}, got {discard}")
    number = size if number is None else whole("number", number, 1)
    if number > size:
        raise ValueError(f"number: expected at most {size}, as many as there are numbers in the state, got {number}")
    Q = np.linalg.qr(np.random.default_rng(rng).standard_normal((batch, size, number)))[0]
    growth = []
    with np.errstate(divide="ignore"):
        for matrices in run.jacobians(progress):
            for J in matrices:
                Q, R = np.linalg.qr(J @ Q)
                growth.append(np.log(np.abs(np.diagonal(R, axis1=-2, axis2=-1))))
    growth = np.stack(growth[discard:])
    order = np.argsort(-growth.mean(axis=(0, 1)), kind="stable")
    return LyapunovExponents(growth[..., order], size)


def autonomous(f: Any, state: Any, steps: Any) -> tuple:
    """A map as a function step(x, state), with inputs that it does not look at, and its first states."""
    if isinstance(f, Cell) or not callable(f):
        raise TypeError(f"system: expected a cell with xs, or, without xs, a function f(state), got {described(f)}")
    if state is None or steps is None:
        raise ValueError("state, steps: expected both for a map: where it starts, and how often it is iterated")
    points = bare(state)
    if not is_array(points):
        points = np.asarray(points, float if isinstance(points, (Real, list, tuple)) else None)
    if points.ndim > 2 or points.dtype.kind != "f":
        raise ShapeError(f"state: expected floating-point numbers (size,), or (batch, size), got {described(state)}")
    points = points.reshape(1, -1) if points.ndim < 2 else points
    name = name_of(stepping(f, points))

    def step(x: Any, before: Any) -> tuple[Any, Any]:
        try:
            state = f(before)
        except (IndexError, ValueError) as error:
            error.add_note(f"in {name}, which is given {points.shape}, (batch, size): coordinates are x[..., 0], ...")
            raise
        if state is before:  # of a map that changes nothing; a part that is handed on would be taken for a constant
            state = reshape(state, state.shape)
        if getattr(state, "shape", None) != (*x.shape[:1], points.shape[1]):
            raise ShapeError(f"{name}: expected it to map (batch, size), here {points.shape}, to the same, got "
                             f"{described(state)}: coordinates are on the last axis, x[..., 0]")  # fmt: skip
        return state, state

    step.__name__ = name
    return step, np.zeros_like(points, shape=(whole("steps", steps, 1), len(points))), points
