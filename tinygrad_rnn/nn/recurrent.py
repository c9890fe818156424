"""Running a cell over a sequence: a loop, and nothing else. The tape that it leaves is the unrolled network.

What a sequence may need beside, padding, boundaries, a record of its states, wraps the step that the loop calls: a loop
without them pays nothing for it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, is_array, move
from ..debug import label
from ..errors import DeviceError, described
from ..modes import is_observed, no_grad
from ..ops import stack, unstack, where
from .cells import Cell, pair
from .module import Module


def scan(
    cell: Cell | Callable, xs: Any, state: Any = None, *, lengths: Any = None, mask: Any = None, reset: Any = None,
    reverse: bool = False, states: bool = False,
) -> tuple:  # fmt: skip
    """Run a cell over a sequence: ``y, state = cell.step(x, state)`` for each x in xs, first to last.

    Args:
        cell: a :class:`Cell`, or any function ``step(x, state)`` that returns ``(y, state)``.
        xs: the inputs, time first: (time, batch, features) for the cells of this package.
        state: what to start from; of a cell, it may be None: what its ``initial_state`` says, zeros.
        lengths: how many steps each sequence of the batch has, (batch,) integers from 0 to time, in any order: what
            comes after is padding, as if masked.
        mask: (time, batch) booleans. Where it is False a sequence has no input: its state is held, its output is 0,
            and whatever xs holds there, even NaN, touches no value and no gradient.
        reset: (time, batch) booleans, True at the first step of a new sequence, where several lie one after another:
            it starts from the cell's ``initial_state`` (of a function, from ``state``), and no gradient flows across.
        reverse: last to first; the outputs stay at their places. A padded sequence starts at its own end, and one with
            resets at the end of each.
        states: whether to return the states of all steps, too.

    Returns:
        The outputs, stacked, (time, ...); and the last state. With states=True, also the states after each step: each
        tensor of a state, stacked. No steps: empty outputs, and the state that was given.

    With lengths, mask or reset every tensor of a state that a step changes has the batch for its first axis. Steps in
    which the mask leaves no sequence are not computed, if it is on the CPU (on a GPU, asking would be a wait).

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
    if isinstance(cell, Module) and not isinstance(cell, Cell):
        raise TypeError(
            f"cell: expected a Cell, or a function step(x, state), got {type(cell).__name__}, a module: what "
            "runs over whole sequences itself is called, and what makes a step is a Cell"
        )
    like_x, known = np.zeros_like(data, shape=data.shape[1:]), isinstance(cell, Cell)
    step, name = (cell.step, type(cell).__name__) if known else (cell, getattr(cell, "__name__", "step"))
    if not (lengths is None and mask is None and reset is None):
        if data.ndim < (2 if not known or cell.input_size is None else 3):
            raise ValueError(f"lengths, mask, reset: {name}: xs has no batch axis, it is {described(xs)}")
        mask, reset = mask_of(lengths, mask, data), flags("reset", reset, data)
    if known:
        state = cell.start(like_x, state, xs)
    elif state is None:
        raise ValueError("state: a function does not say what its state is: pass the one to start from")
    start = state

    def first(x: Any) -> tuple[Any, Any]:
        result = step(x, state)
        return cell.checked(result, state) if known else pair(result, name)

    if not len(data):
        with no_grad():
            y, _ = first(like_x)
        none = trees.map(lambda part: part[:0], stacked([state]))
        return (stack([y])[:0], state, none) if states else (stack([y])[:0], state)

    order = range(len(data))[::-1] if reverse else range(len(data))
    if reverse and reset is not None:  # back in time, a sequence begins where the one after it has its first step
        reset = np.concatenate([reset[1:], np.zeros_like(reset[:1])])
    times = order if mask is None else attended(order, mask, reset)
    if is_observed():
        step = numbered(step, name, times)
    if mask is not None:
        on_device = move(mask, device_of(data))
        xs = where(on_device.reshape(on_device.shape + (1,) * (data.ndim - 2)), xs, 0)
        step = masked(step, rows(mask, on_device, times, trivial=True), name)
    if reset is not None:
        on_device = move(reset, device_of(data))
        again = partial(cell.initial_state, like_x) if known else lambda: start
        step = restarted(step, rows(reset, on_device, times, trivial=False), again, name)
    made: list = []
    if states:
        step = remembered(step, made)

    with collector_paused():
        x, *others = unstack(xs) if times == range(len(data)) else [*map(unstack(xs).__getitem__, times)]
        y, state = first(x)
        ys = [y]
        for x in others:
            y, state = step(x, state)
            ys.append(y)
        if times != range(len(data)):
            ys = in_time(ys, times, order, missing=np.zeros_like(getattr(y, "_data", y)))
            made = in_time(made, times, order, missing=start, held=True) if states else made
        return (stack(ys), state, stacked(made)) if states else (stack(ys), state)


def in_time(parts: list, times: Sequence, order: Sequence, missing: Any, held: bool = False) -> list:
    """What the steps gave, by time. Where none was made: what is missing; or, held, what the one before it gave."""
    at = dict(zip(times, parts))
    for t in order:
        part = at.setdefault(t, missing)
        missing = part if held else missing
    return [at[t] for t in range(len(order))]


def stacked(states: list) -> Any:
    """A list of states as one, each tensor with an axis of time before its own."""
    return trees.map(lambda *parts: stack(parts), *states)


# What wraps a step ----------------------------------------------------------------------------------------------------


def numbered(step: Callable, name: str, times: Sequence) -> Callable:
    """The same step, which tells anomaly mode its number."""
    numbers = iter(times)

    def numbered_step(x: Any, state: Any) -> tuple[Any, Any]:
        with label("step", next(numbers), "of", name):
            return step(x, state)

    return numbered_step


def masked(step: Callable, mask: Iterator, name: str) -> Callable:
    """The same step, but a sequence that is masked keeps its state, and its output is 0."""

    def masked_step(x: Any, state: Any) -> tuple[Any, Any]:
        y, after = pair(step(x, state), name)
        if (row := next(mask)) is None:
            return y, after
        hold = partial(chosen, row, f"{name}: the state that it returned")
        after = trees.map(lambda old, new: hold(new, old), state, after, name=f"{name}: the state that it returned")
        return chosen(row, f"{name}: its output", y, 0), after

    return masked_step


def restarted(step: Callable, reset: Iterator, start: Callable, name: str) -> Callable:
    """The same step, but a sequence that is reset starts it anew."""

    def restarted_step(x: Any, state: Any) -> tuple[Any, Any]:
        if (row := next(reset)) is not None:
            state = trees.map(partial(chosen, row, f"{name}: state"), start(), state)
        return step(x, state)

    return restarted_step


def remembered(step: Callable, states: list) -> Callable:
    """The same step, which adds the state after it to a list."""

    def remembered_step(x: Any, state: Any) -> tuple[Any, Any]:
        result = step(x, state)
        states.append(result[1])
        return result

    return remembered_step


# Which sequences have an input, and when ------------------------------------------------------------------------------


def mask_of(lengths: Any, mask: Any, xs: Any, batch_first: bool = False) -> Any:
    """The mask (time, batch) that lengths, or a mask, say; None, if no step of any sequence is masked."""
    if lengths is not None:
        if mask is not None:
            raise ValueError("lengths, mask: expected one of them, got both: a mask says what lengths say, too")
        mask = np.arange(xs.shape[0])[:, None] < checked_lengths(lengths, *xs.shape[:2])
        return None if mask.all() else mask
    mask = flags("mask", mask, xs, batch_first)
    return None if mask is None or (device_of(mask) == "cpu" and mask.all()) else mask


def checked_lengths(lengths: Any, time: int, batch: int) -> np.ndarray:
    lengths = getattr(lengths, "_data", lengths)
    if is_array(lengths) and device_of(lengths) != "cpu":
        raise DeviceError(f"lengths: expected them on the CPU, which counts the steps; got {described(lengths)}: "
                          "keep them there, or pass a mask")  # fmt: skip
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or (lengths.dtype.kind not in "iu" and batch):
        hint = f"; xs is time first: {time} steps of {batch} sequences" if lengths.shape == (time,) != (batch,) else ""
        raise ValueError(f"lengths: expected {batch} integers, one for each sequence, got {described(lengths)}{hint}")
    wrong = np.flatnonzero((lengths < 0) | (lengths > time)).tolist()
    if wrong:
        listed = ", ".join([f"{lengths[i]} at [{i}]" for i in wrong[:8]] + ["..."] * (len(wrong) > 8))
        raise ValueError(f"lengths: expected numbers from 0 to {time}, as xs has {time} steps; got {listed}")
    return lengths


def flags(name: str, value: Any, xs: Any, batch_first: bool = False) -> Any:
    """A mask, or resets: an array of booleans (time, batch), checked; or None."""
    if value is None:
        return None
    value = getattr(value, "_data", value)
    value = value if is_array(value) else np.asarray(value)
    axes, shape = ("(batch, time)", xs.shape[1::-1]) if batch_first else ("(time, batch)", xs.shape[:2])
    if value.shape != shape or value.dtype != bool:
        hint = f": is it the other way round? pass {name}.T" if value.shape == shape[::-1] != shape else ""
        raise ValueError(f"{name}: expected booleans {axes}, {shape} as of xs, got {described(value)}{hint}")
    if device_of(value) not in ("cpu", device_of(getattr(xs, "_data", xs))):
        raise DeviceError(f"{name}: expected it on the CPU, or with xs, {described(xs)}; it is {described(value)}")
    return value.T if batch_first else value


def attended(order: Sequence, mask: Any, reset: Any) -> Sequence:
    """The times, in order, at which a sequence has an input, or is reset. At least one: it shows what an output is."""
    if device_of(mask) != "cpu" or (reset is not None and device_of(reset) != "cpu"):
        return order
    some = (mask if reset is None else mask | reset).any(axis=1).tolist()
    times = [t for t in order if some[t]] or [order[0]]
    return order if len(times) == len(order) else times


def rows(flags: Any, on_device: Any, times: Sequence, trivial: bool) -> Iterator:
    """The flags of each time; None where all are the trivial ones, which leave a step as it is."""
    known = device_of(flags) == "cpu"
    skipped = (flags == trivial).all(axis=1).tolist() if known else [False] * len(flags)
    return iter([None if skipped[t] else on_device[t] for t in times])


def chosen(row: Any, name: str, new: Any, old: Any) -> Any:
    """new for the sequences that are flagged, old for the others."""
    if new is old:
        return new
    a, b = getattr(new, "_data", new), getattr(old, "_data", old)
    if not is_array(a) or a.shape[:1] != row.shape or (is_array(b) and (a.shape, a.dtype) != (b.shape, b.dtype)):
        like = described(old) if is_array(b) and b.shape[:1] == row.shape else f"a tensor (batch, ...), {len(row)} rows"
        raise ValueError(f"{name}: expected {like}, of which a mask holds some rows, got {described(new)}")
    return where(row.reshape(row.shape + (1,) * (a.ndim - 1)), new, old)


# Besides --------------------------------------------------------------------------------------------------------------


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
