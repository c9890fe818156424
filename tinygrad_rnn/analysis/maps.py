"""Maps that are iterated, x' = f(x): orbits, cobwebs, and recurrent cells as maps of their state.

A map is written with the operations of this package, so that its derivative comes from the tape (``fixed.py``): none is
written here, and none is a difference. It takes one point, a number or a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient, move
from ..errors import described, whole
from ..modes import no_grad
from ..nn import Cell, Module, Recurrent
from ..nn.recurrent import cells_of
from ..ops import astype, concatenate, reshape
from ..plotting import axes
from ..tensor import Tensor, bare, tensor
from . import given
from .steps import drawing_nothing


def iterate(f: Callable, x0: Any, n: int) -> np.ndarray:
    """The orbit of x0: x0, f(x0), f(f(x0)), ... to the n-th step, stacked, (n + 1, ...).

    Parameters
    ----------
    f : callable or Cell
        The map, from a tensor to one of the same shape; or a cell, as of :func:`as_map`, with zeros for its input.
    x0 : float or array
        Where it starts.
    n : int
        The number of steps. What grows without bounds becomes infinite, and then NaN.

    Returns
    -------
    array, (n + 1, ...)
        The orbit.

    Examples
    --------
    >>> iterate(lambda x: x * x, 0.5, 3)
    array([0.5       , 0.25      , 0.0625    , 0.00390625])
    """
    f = map_of(f)
    orbit = [given.floats("x0", x0)]
    for _ in range(whole("n", n, 0)):
        orbit.append(given.value_of(f, orbit[-1]))
    return np.stack(orbit)


@dataclass(frozen=True, eq=False)
class Cobweb:
    """The orbit of a number, with the graph of the map that it is iterated by.

    Parameters
    ----------
    orbit : array, (n + 1,)
        The number, and what it becomes.
    path : array, (2 n + 1, 2)
        The same as a walk: up or down to the graph, across to the diagonal, and again.
    xs, ys : array
        The graph of the map.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import cobweb
    >>> cobweb(lambda x: x / 2, 1.0, 2).path.tolist()
    [[1.0, 1.0], [1.0, 0.5], [0.5, 0.5], [0.5, 0.25], [0.25, 0.25]]
    """

    orbit: np.ndarray
    path: np.ndarray
    xs: np.ndarray
    ys: np.ndarray

    def __repr__(self) -> str:
        return f"Cobweb: {len(self.orbit) - 1} steps from {self.orbit[0]:.6g} to {self.orbit[-1]:.6g}"

    def plot(self, ax: Any = None, **keywords: Any) -> Any:
        """Draw the graph, the diagonal, and the walk between them.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        **keywords
            For ``ax.plot`` of the walk.
        """
        ax = axes(ax)
        ax.plot(self.xs, self.ys, color="C0", label="f(x)")
        ax.plot(self.xs, self.xs, color="0.5", linestyle="--", linewidth=1, label="x")
        ax.plot(*self.path.T, **{"color": "C1", "linewidth": 1, "label": "orbit", **keywords})
        ax.plot(*self.path[0], "o", color=ax.lines[-1].get_color(), markersize=5)
        ax.set(xlabel="x", ylabel="f(x)", xlim=(self.xs[0], self.xs[-1]))
        ax.legend()
        return ax


def cobweb(f: Callable, x0: float, n: int, interval: Any = None) -> Cobweb:
    """The orbit of a number under f, as a walk between the graph of f and the diagonal.

    Parameters
    ----------
    f : callable or Cell
        The map of a number; or a cell whose state is one.
    x0 : float
        Where it starts.
    n : int
        The number of steps.
    interval : tuple of two numbers, optional
        Where the graph is drawn; by default a little more than the orbit needs.

    Returns
    -------
    Cobweb
        The orbit, the walk, the graph.

    Raises
    ------
    OverflowError
        The orbit becomes infinite, so that there is no walk to draw.

    Examples
    --------
    >>> cobweb(lambda x: x * x + 0.15, 0.7, 30)
    Cobweb: 30 steps from 0.7 to 0.183772
    """
    given.floats("x0", x0, (0,), ", one of them")
    f = map_of(f, numbers=True)
    orbit = iterate(f, x0, n)
    if not np.isfinite(orbit).all():
        steps = int(np.argmin(np.isfinite(orbit)))
        raise OverflowError(f"cobweb: after {steps} steps the orbit is infinite: take n={steps - 1} at most")
    if interval is None:
        margin = 0.1 * np.ptp(orbit) or 0.5 * (1 + abs(orbit[0]))
        interval = orbit.min() - margin, orbit.max() + margin
    a, b = given.interval("interval", interval)
    path = np.stack([np.repeat(orbit, 2)[:-1], np.repeat(orbit, 2)[1:]], axis=1)
    xs = np.linspace(a, b, 401)
    return Cobweb(orbit, path, xs, np.array([given.value_of(f, x) for x in xs]))


def as_map(cell: Cell, x: Any = None) -> Callable:
    """A recurrent cell with the same input at each step, as a map of its state: vectors (..., d) to vectors (..., d).

    A state of several tensors, as (h, c) of an LSTM, is one vector, its parts one after another. The map is computed in
    double precision, whatever the weights have: they are converted for each step, and the cell stays as it is. What the
    weights become later, the map becomes, too.

    Parameters
    ----------
    cell : Cell
        The cell; in ``eval()`` mode, where it has dropout.
    x : array, (input_size,), optional
        The input; by default zeros.

    Returns
    -------
    callable
        The map. Its attribute ``size`` is d.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> f = as_map(nn.LSTMCell(3, 4, rng=0))
    >>> f.size, f(np.zeros((5, 8))).shape
    (8, (5, 8))
    """
    if not isinstance(cell, Cell):
        if hint := cells_of(cell) if isinstance(cell, Module) else "":
            raise TypeError(f"cell: expected a Cell, got {type(cell).__name__}{hint}")
        raise TypeError(f"cell: expected a Cell, got {described(cell)}: a function is a map as it is")
    name = type(cell).__name__
    if x is None:
        if cell.input_size is None:
            raise ValueError(f"x: {name} takes inputs of any kind: pass the one that it gets at each step")
        x = np.zeros(cell.input_size)
    x = given.floats("x", x, (1,), ", (input_size,)")
    if cell.input_size not in (None, len(x)):
        raise ValueError(f"x: expected {cell.input_size} numbers, the features of an input of {name}, got {len(x)}")
    device = next((p.device for p in cell.parameters()), "cpu")
    with in_double(cell):
        parts, rebuild = trees.flatten(cell.initial_state(move(x, device)))
    if any(getattr(bare(part), "dtype", np.dtype(int)).kind != "f" for part in parts):
        raise TypeError(f"cell: the state of {name} holds more than floating-point numbers ({described(parts)}): its "
                        "step is not the same at each time, and no map of the state")  # fmt: skip
    ends = np.cumsum([part.size for part in parts]).tolist()

    def step(state: Any) -> Any:
        state = state if isinstance(state, Tensor) else tensor(state)
        if state.shape[-1:] != (ends[-1],):
            raise ValueError(f"state: expected (..., {ends[-1]}), as a state of {name} has, got {described(state)}")
        batch, state = state.shape[:-1], state.to(device)
        pieces = [state[..., end - part.size : end].reshape(*batch, *part.shape) for part, end in zip(parts, ends)]
        with in_double(cell):
            _, after = cell.step(tensor(move(np.broadcast_to(x, (*batch, len(x))), device)), rebuild(pieces))
        flat = [part.reshape(*batch, -1) for part in trees.flatten(after)[0]]
        return concatenate(flat, axis=-1).to("cpu")

    step.size = ends[-1]
    with no_grad(), drawing_nothing(cell):
        step(np.zeros(ends[-1]))
    return step


@contextmanager
def in_double(cell: Cell) -> Iterator[None]:
    """Weights and constants of a cell are in double precision in a block, with their place on the tape."""
    tensors = {x for x in cell._tensors().values() if has_gradient(x.dtype) and x.dtype != np.float64}
    doubled = {x: astype(x, np.float64) for x in tensors}
    before = {x: (x._data, x.node) for x in tensors}
    try:
        for x, double in doubled.items():
            x._data, x.node = double._data, double.node
        yield
    finally:
        for x, (data, node) in before.items():
            x._data, x.node = data, node


def map_of(f: Any, numbers: bool = False, what: str = "of one point") -> Callable:
    """A map of points, numbers or vectors: of a cell, what it does without input."""
    if isinstance(f, Recurrent):
        raise TypeError(f"f: {type(f).__name__} runs whole sequences, and is no map{cells_of(f)}")
    if not isinstance(f, Cell):
        given.check_callable("f", f, f"{what}, or a Cell")
        return noted(f, cells_of(f)) if isinstance(f, Module) and cells_of(f) else f
    of_vectors = as_map(f)
    if not numbers:
        return of_vectors
    if of_vectors.size != 1:
        raise ValueError(f"f: expected a map of numbers; a state of {type(f).__name__} has {of_vectors.size} of them")
    return lambda x: reshape(of_vectors(reshape(x, (*x.shape, 1))), x.shape)


def noted(f: Module, cells: str) -> Callable:
    """The same map; if it is none, the error says where its cells are, which are."""

    def map_(x: Any) -> Any:
        try:
            return f(x)
        except (TypeError, ValueError) as error:
            error.add_note(f"{type(f).__name__} was called as a map, with a state, f(x){cells}")
            raise

    return map_
