"""Running a cell over a sequence: a loop, and nothing else. The tape that it leaves is the unrolled network."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..debug import label
from ..errors import described
from ..modes import is_observed, no_grad
from ..ops import stack, unstack
from .cells import Cell, pair


def scan(cell: Cell | Callable, xs: Any, state: Any = None) -> tuple[Any, Any]:
    """Run a cell over a sequence: ``y, state = cell.step(x, state)`` for each x in xs, first to last.

    Args:
        cell: a :class:`Cell`, or any function ``step(x, state)`` that returns ``(y, state)``.
        xs: the inputs, time first: (time, batch, features) for the cells of this package.
        state: what to start from; of a cell, it may be None: zeros.

    Returns:
        The outputs, stacked, (time, ...); and the last state. No steps: empty outputs, and the state that was given.

    >>> import tinygrad_rnn as tg
    >>> def running_mean(x, state):
    ...     total, n = state[0] + x, state[1] + 1
    ...     return total / n, (total, n)
    >>> means, _ = tg.scan(running_mean, tg.tensor([1.0, 2.0, 6.0]), (0.0, 0))
    >>> means
    tensor([1. , 1.5, 3. ])
    """
    data = getattr(xs, "_data", xs)
    if not getattr(data, "ndim", 0):
        raise TypeError(f"xs: expected an array or a tensor, time first, got {described(xs)}")
    like_x, known = np.zeros_like(data, shape=data.shape[1:]), isinstance(cell, Cell)
    if known:
        state = cell.start(like_x, state, xs)
    elif state is None:
        raise ValueError("state: a function does not say what its state is: pass the one to start from")
    step, name = (cell.step, type(cell).__name__) if known else (cell, getattr(cell, "__name__", "step"))

    step = numbered(step, name) if is_observed() else step

    def first(x: Any) -> tuple[Any, Any]:
        result = step(x, state)
        return cell.checked(result, state) if known else pair(result, name)

    if not len(data):
        with no_grad():
            y, _ = first(like_x)
        return stack([y])[:0], state
    with collector_paused():
        x, *others = unstack(xs)
        y, state = first(x)
        ys = [y]
        for x in others:
            y, state = step(x, state)
            ys.append(y)
        return stack(ys), state


def numbered(step: Callable, name: str) -> Callable:
    """The same step, which tells anomaly mode its number."""
    numbers = itertools.count()

    def numbered_step(x: Any, state: Any) -> tuple[Any, Any]:
        with label("step", next(numbers), "of", name):
            return step(x, state)

    return numbered_step


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic collector, unless it is off already.

    Nothing on a tape is cyclic: all of it is freed by counting. But the collector walks every entry of a growing tape
    again and again to find that out, which would make a step slower the longer the sequence is.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
