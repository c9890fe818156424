"""The way of gradient descent over a landscape, as it is and clipped: every point, loss and gradient norm of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import described, whole
from ..modes import enable_grad
from ..optim import SGD, clip_grad_norm_
from ..plotting import axes
from ..tensor import Tensor, tensor
from ..transforms import gradients
from . import given


@dataclass(frozen=True, eq=False)
class Descent:
    """The way of gradient descent.

    Parameters
    ----------
    points : array, (n + 1, k)
        The numbers, from the start on.
    losses : array, (n + 1,)
        The loss at each.
    norms : array, (n,)
        The norm of the gradient at each point but the last, before it is clipped.
    ended : str
        Why: ``"steps"``, all were made; or ``"not finite"``: the loss or the gradient at the last point was not.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import descent
    >>> descent(lambda a: a * a, (1.0,), lr=0.25, steps=2).points.tolist()
    [[1.0], [0.5], [0.25]]
    """

    points: np.ndarray
    losses: np.ndarray
    norms: np.ndarray
    ended: str

    def __repr__(self) -> str:
        point = ", ".join(f"{x:.4g}" for x in self.points[-1])
        text = f"Descent, {len(self.norms)} steps: loss {self.losses[0]:.4g} to {self.losses[-1]:.4g} at ({point}), "
        text += f"largest gradient {self.norms.max(initial=0):.4g}"
        return text + ("" if self.ended == "steps" else "; it ended there, as what came was not finite")

    def plot(self, ax: Any = None, **keywords: Any) -> Any:
        """Draw the way, over a surface say, with a ring at its start.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        **keywords
            For ``ax.plot`` of the way.
        """
        if self.points.shape[1] != 2:
            raise ValueError(f"plot: a way of {self.points.shape[1]} numbers is not drawn: see .points and .losses")
        ax = axes(ax)
        (line,) = ax.plot(*self.points.T, **{"marker": ".", "markersize": 3, "linewidth": 1, **keywords})
        ax.plot(*self.points[0], "o", color=line.get_color(), markersize=8, fillstyle="none")
        return ax


def descent(f: Callable, start: Sequence[float], lr: float, steps: int, clip: float | None = None) -> Descent:
    """Plain gradient descent on a function of a few numbers; clipped, if that is wanted.

    It is the package's own: ``optim.SGD``, and ``optim.clip_grad_norm_`` before each step. It ends where the loss or
    its gradient is not finite: nothing further would be.

    Parameters
    ----------
    f : callable
        ``f(a, b)``, a single number; of as many numbers as start has.
    start : sequence of float
        Where it starts.
    lr : float
        The learning rate.
    steps : int
        The number of steps.
    clip : float, optional
        The largest norm of a gradient.

    Returns
    -------
    Descent
        The way, the losses, the norms.

    Examples
    --------
    >>> descent(lambda a, b: a * a + 10 * b * b, (1.0, 1.0), lr=0.02, steps=100)
    Descent, 100 steps: loss 11 to 0.0002846 at (0.01687, 6.533e-23), largest gradient 20.1
    """
    given.check_callable("f", f, "of as many numbers as start has")
    numbers = [tensor(x, requires_grad=True) for x in given.floats("start", start, (1,), ", (k,)")]
    optimizer = SGD(numbers, lr=lr)
    points, losses, norms = [], [], []
    for i in range(whole("steps", steps, 0) + 1):
        with enable_grad(), np.errstate(all="ignore"):
            if not isinstance(loss := f(*numbers), Tensor):
                raise TypeError(f"f: expected it to return a tensor, computed from what it is given, got "
                                f"{described(loss)}")  # fmt: skip
            losses.append(float(given.losses_of(loss, (), "f")))
            points.append([x.item() for x in numbers])
            if not np.isfinite(losses[-1]):
                break
            if i < steps:
                for x, g in zip(numbers, gradients(loss, numbers)):
                    x.grad = g
                norm = float(clip_grad_norm_(numbers, np.inf if clip is None else clip, on_nonfinite="skip"))
                if not np.isfinite(norm):
                    break
                norms.append(norm)
                optimizer.step()
    ended = "steps" if len(norms) == steps and np.isfinite(losses[-1]) else "not finite"
    return Descent(np.array(points), np.array(losses), np.array(norms), ended)
