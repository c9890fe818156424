"""How long a network remembers, measured forward: how far a small change of an input is still seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, is_array, move
from ..errors import ShapeError, described
from ..modes import no_grad
from ..nn import Cell, Module, scan
from ..plotting import axes, log_line
from ..progress import counted
from ..tensor import bare
from .steps import Flat, drawing_nothing, host, norms

AT_ONCE = 2**22  # numbers in the inputs and states of the sequences that are run at once


@dataclass(frozen=True, eq=False)
class Memory:
    """By how much what is there at the end changes, when an input some steps before is changed.

    Parameters
    ----------
    lags : array of integers, (lags,)
        How long before the end the input was changed: 0 is the last one.
    distances : array, (lags, batch)
        Between what is there at the end, with and without the change; divided by the size of the change.
    floor : float, optional
        What rounding alone makes of no change at all, about: below it, distances say nothing.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = nn.RNNCell(1, 2, nonlinearity="linear", rng=0, dtype=np.float64)
    >>> cell.weight_hh.data = np.array([[0.0, -0.5], [0.5, 0.0]])
    >>> memory(cell, np.ones((10, 1, 1)), rng=0).reach(0.1)
    3
    """

    lags: np.ndarray
    distances: np.ndarray
    floor: float = 0.0

    @property
    def rms(self) -> np.ndarray:
        """The root mean square of the distances over the batch, (lags,)."""
        return norms(self.distances, 1) / np.sqrt(self.distances.shape[1])

    def reach(self, fraction: float = 0.01) -> int:
        """The longest lag at which a change is still seen, and is more than rounding.

        Parameters
        ----------
        fraction : float, optional
            By how much, at least, of the most that any lag has.

        Returns
        -------
        int
            -1, if no change is seen at all.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction: expected a number above 0, to 1, got {fraction!r}")
        rms = self.rms
        return int(self.lags[(rms > self.floor) & (rms >= fraction * rms.max())].max(initial=-1))

    def plot(self, ax: Any = None) -> Any:
        """Draw the distances over the lag, on a logarithmic scale (the rms over the batch), and where rounding begins.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        ax, rms = axes(ax), self.rms
        log_line(ax, self.lags, rms, color="C0")
        if (rms <= self.floor).any():
            ax.axhline(self.floor, color="0.5", linestyle=":", label="below: rounding")
            ax.legend()
        ax.set(xlabel="lag", ylabel="change at the end / change of the input", title="What is left of an input")
        return ax

    def __repr__(self) -> str:
        sizes = [f"{x:.2e}" if x > self.floor else f"below rounding ({self.floor:.0e})" for x in self.rms[[0, -1]]]
        ends = f"lag {self.lags[0]}: {sizes[0]}, lag {self.lags[-1]}: {sizes[1]}"
        return f"Memory: {ends}; 1 % of the most is reached until lag {self.reach()}"


def memory(
    model: Any, xs: Any, *, size: float = 0.01, lags: Sequence[int] | None = None, rng: Any, progress: bool = True
) -> Memory:
    """How far back a change of the input is seen at the end: all lags are run forward at once, as one batch.

    Each sequence of the batch is run again for each lag, with noise of a given norm, in a random direction, added to
    the input of that step. No gradient is needed: the changes may be large, and the network may have kinks. What is
    left of one, though, is lost in rounding, as soon as it is less than the last digit of what is at the end: below
    about 1e-16 / size, or 1e-7 / size in single precision. A larger ``size`` helps, and so does ``float64``.

    Parameters
    ----------
    model : Cell, Module or function
        A cell: its last state is looked at. Or anything that is called with all inputs, ``model(xs)``, and returns
        outputs, or a tuple of outputs and more: if these are (time, batch, ...), those of the last step are looked at;
        if they are (batch, ...), these. (Where it could be either, one step more tells.) What a module says of itself
        in ``batch_first`` is understood.
    xs : array or Tensor, (time, batch, features)
        The inputs.
    size : float, optional
        The norm of the change of an input, over its features.
    lags : sequence of int, optional
        Which lags, from 0, the last step; by default all.
    rng : int or Generator
        Of the directions.
    progress : bool, optional
        Whether a bar is shown, where tqdm is installed and it takes a while.

    Returns
    -------
    Memory
        The distances, by lag.

    Raises
    ------
    ValueError
        The model draws random numbers.
    FloatingPointError
        What it returned is not finite.

    Examples
    --------
    A moving average with exponential weights forgets by the same factor at each step:

    >>> from tinygrad_rnn import nn
    >>> cell = nn.LeakyCell(1, 1, 0.5, nonlinearity="linear", recurrent=False, rng=0, dtype=np.float64)
    >>> found = memory(cell, np.ones((10, 3, 1)), rng=0)
    >>> (found.rms[1:] / found.rms[:-1]).round(6)[:3], found.reach(0.1)
    (array([0.5, 0.5, 0.5]), 3)
    """
    data = bare(xs)
    if not callable(model):
        raise TypeError(f"model: expected a cell, a module or a function of xs, got {described(model)}")
    if not is_array(data) or data.dtype.kind != "f":
        raise TypeError(f"xs: expected floating-point numbers, got {described(xs)}")
    if data.ndim != 3 or 0 in data.shape:
        raise ShapeError(f"xs: expected (time, batch, features), no axis of them empty, got {described(xs)}")
    if not isinstance(size, Real) or not 0 < size < np.inf:
        raise ValueError(f"size: expected a number above 0, got {size!r}")
    second = getattr(model, "batch_first", False)
    data = np.swapaxes(data, 0, 1) if second else data
    time, batch, features = data.shape
    given, lags = lags, np.arange(time) if lags is None else np.asarray(lags)
    if lags.ndim != 1 or lags.dtype.kind not in "iu" or not len(lags) or not ((lags >= 0) & (lags < time)).all():
        raise ValueError(f"lags: expected whole numbers from 0 to {time - 1}, got {given!r}")
    noise = np.random.default_rng(rng).standard_normal((len(lags), batch, features))
    noise = move((size * noise / norms(noise, 2)[..., None]).astype(data.dtype), device_of(data))
    with no_grad(), drawing_nothing(model):
        every_step = has_time(model, data, second)
        end, again = (at_the_end(model, data, second, every_step) for _ in range(2))
        eps = np.finfo(end.dtype).eps if end.dtype.kind == "f" else 0.0
        expected, found = host(end), []
        if not np.allclose(host(again), expected, rtol=np.sqrt(eps), atol=np.sqrt(eps) * abs(expected).max()):
            raise ValueError("model: it gave something else, when it was called with the same inputs again: expected "
                             "no random numbers in it (dropout, noise): .eval() turns them off")  # fmt: skip
        many = max(1, AT_ONCE // (time * batch * (features + width(model))))
        for begin in counted(range(0, len(lags), many), progress, "memory", "part"):
            some = range(begin, min(begin + many, len(lags)))
            changed = np.repeat(data[:, None], len(some), axis=1)  # (time, lags, batch, features)
            for i, lag in enumerate(lags[begin : begin + many].tolist()):
                changed[time - 1 - lag, i] += noise[begin + i]
            ends = host(at_the_end(model, changed.reshape(time, -1, features), second, every_step))
            found.append(norms(ends.reshape(len(some), batch, -1) - expected, 2))
    floor = eps * np.sqrt((expected**2).sum() / batch) / size
    return Memory(lags, np.concatenate(found) / size, float(floor))


# What a model returns -------------------------------------------------------------------------------------------------


def outputs(model: Any, data: Any, second: bool) -> Any:
    ys = model(np.swapaxes(data, 0, 1) if second else data)
    return bare(trees.flatten(ys[0])[0][0] if isinstance(ys, (tuple, list)) else ys)


def has_time(model: Any, data: Any, second: bool) -> bool:
    """Whether what a model returns has an axis of time."""
    if isinstance(model, Cell):
        return False
    ys, (time, batch) = outputs(model, data, second), data.shape[:2]
    layout, named = ((batch, time), "(batch, time, ...)") if second else ((time, batch), "(time, batch, ...)")
    if not is_array(ys) or (ys.shape[:2] != layout and ys.shape[:1] != (batch,)):
        raise ShapeError(f"model: expected outputs {named} or (batch, ...), with {time} steps and {batch} sequences, "
                         f"got {described(ys)}")  # fmt: skip
    if ys.shape[:2] == layout and ys.shape[0] == batch:  # as many steps as sequences, or as features, perhaps
        return outputs(model, np.concatenate([data, data[-1:]]), second).shape != ys.shape
    return ys.shape[:2] == layout


def width(model: Any) -> int:
    """How many numbers there are at each step in the states of a model's cells, as far as it says."""
    parts = model.modules() if isinstance(model, Module) else ()
    sizes = [trees.flatten(part.state_size)[0] for part in parts if isinstance(part, Cell)]
    return sum(size for each in sizes for size in each if isinstance(size, int))


def at_the_end(model: Any, data: Any, second: bool, every_step: bool) -> Any:
    """What is there after the last step, (batch, size)."""
    if isinstance(model, Cell):
        state = scan(model, data)[1]
        end = bare(Flat(state).join(state))
    else:
        end = outputs(model, data, second)
        end = (end[:, -1] if second else end[-1]) if every_step else end
        if end.shape[:1] != data.shape[1:2]:
            raise ShapeError(f"model: expected a row at the end for each of {data.shape[1]} sequences, which are more "
                             f"than those of xs, as lags are run at once; got {described(end)}")  # fmt: skip
        end = end.reshape(len(end), -1)
    if not np.isfinite(end).all():
        raise FloatingPointError("model: what it has computed is not finite: tg.anomaly() says which operation it was")
    return end
