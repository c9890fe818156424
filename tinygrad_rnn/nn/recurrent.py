"""Running a cell over a sequence: a loop, and nothing else. The tape that it leaves is the unrolled network.

What a sequence may need beside, padding, boundaries, a record of its states, wraps the step that the loop calls: a loop
without them pays nothing for it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, is_array, move
from ..debug import label, labelled, looks_for_nan, nan_at
from ..errors import AnomalyError, DeviceError, counted, described
from ..modes import is_observed, no_grad
from ..ops import stack, unstack, where
from ..ops.checkpoint import drawn_again
from ..tensor import Tensor, bare
from .cells import Cell, pair
from .module import Module
from .watch import in_time, noted, unwatched


def scan(
    cell: Cell | Callable, xs: Any, state: Any = None, *, lengths: Any = None, mask: Any = None, reset: Any = None,
    reverse: bool = False, states: bool = False, pad_value: float = 0, compiled: Any = "auto",
) -> tuple:  # fmt: skip
    """Run a cell over a sequence: ``y, state = cell.step(x, state)`` for each x in xs, first to last.

    With lengths, mask or reset every tensor of a state that a step changes has the batch for its first axis. Steps in
    which the mask leaves no sequence are not computed, if it is on the CPU (on a GPU, asking would be a wait).

    Parameters
    ----------
    cell : Cell or callable
        A :class:`~tinygrad_rnn.nn.Cell`, or any function ``step(x, state)`` that returns ``(y, state)``.
    xs : array or Tensor, (time, ...)
        The inputs, time first: (time, batch, features) for the cells of this package.
    state : Tensor or tuple of Tensor, optional
        What to start from; of a cell, it may be None: what its ``initial_state`` says, zeros.
    lengths : array of int, (batch,), optional
        How many steps each sequence of the batch has, from 0 to time, in any order: what comes after is padding, as if
        masked.
    mask : array of bool, (time, batch), optional
        Where it is False a sequence has no input: its state is held, its output is pad_value, and whatever xs holds
        there, even NaN, touches no value and no gradient. The cell gets an input that is one somewhere else: so what is
        finite for all inputs stays finite.
    reset : array of bool, (time, batch), optional
        True at the first step of a new sequence, where several lie one after another: it starts from the cell's
        ``initial_state`` (of a function, from ``state``), and no gradient flows across.
    reverse : bool, optional
        Last to first; the outputs stay at their places. A padded sequence starts at its own end, and one with resets at
        the end of each.
    states : bool, optional
        Whether to return the states of all steps, too.
    pad_value : float, optional
        The number that outputs hold where a sequence has no input.
    compiled : bool or "auto", optional
        ``"auto"``: a long scan that can be compiled is (``tinygrad_rnn.compile``); True: any is, or says why not;
        False: none, so that each step is on the tape, to be looked at. See :class:`~tinygrad_rnn.compile.compiled`.

    Returns
    -------
    ys : Tensor, (time, ...)
        The outputs, stacked. No steps: none.
    state : Tensor or tuple of Tensor
        The last state. No steps: the one that was given.
    states : Tensor or tuple of Tensor, (time, ...)
        With ``states=True``: the states after each step, each tensor of a state stacked.

    Raises
    ------
    TypeError
        ``cell`` is neither a cell nor a function, or returns no pair; or xs has no axis of time, or not the weights'
        dtype.
    ShapeError
        xs has not as many features as the cell takes.
    StateError
        ``state`` is not like the one that the cell starts from.
    ValueError
        ``lengths``, ``mask`` or ``reset`` do not fit to xs; or both of the first two are given.
    DeviceError
        They are not on one device.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> def running_mean(x, state):
    ...     total, n = state[0] + x, state[1] + 1
    ...     return total / n, (total, n)
    >>> means, _ = tg.scan(running_mean, tg.tensor([1.0, 2.0, 6.0]), (0.0, 0))
    >>> means
    tensor([1. , 1.5, 3. ])
    """
    cell, *sequence = prepared(cell, xs, state, lengths, mask, reset, reverse)
    probe = unseen(drawn_from(cell)) if idle(*sequence) else nullcontext()
    with probe, in_time(xs, cell) as shown:
        options = {"reverse": reverse, "states": states, "pad_value": number(pad_value), "compiled": compiled}
        return unrolled(cell, *sequence, **options, shown=shown)


def prepared(
    cell: Any, xs: Any, state: Any, lengths: Any = None, mask: Any = None, reset: Any = None, reverse: bool = False
) -> tuple:
    """What a scan is given, checked: the cell, the inputs (none of them padding), the first state, mask and resets."""
    cell, data = stepping(cell, state), checked_sequence(xs)
    if not (lengths is None and mask is None and reset is None):
        if data.ndim < (2 if cell.input_size is None else 3):
            raise ValueError(f"lengths, mask, reset: {name_of(cell)}: xs has no batch axis, it is {described(xs)}")
        mask, reset = mask_of(lengths, mask, data), flags("reset", reset, data)
    state = cell.start(np.zeros_like(data, shape=data.shape[1:]), state, xs)
    if reverse and reset is not None:  # back in time, a sequence begins where the one after it has its first step
        reset = np.concatenate([reset[1:], np.zeros_like(reset[:1])])
    return cell, xs if mask is None else filled(xs, mask), state, mask, reset


def unrolled(
    cell: Cell, xs: Any, state: Any, mask: Any, reset: Any, *, reverse: bool = False, states: bool = False,
    pad_value: float = 0, compiled: Any = False, shown: dict | None = None,
) -> tuple:  # fmt: skip
    """The loop. What is shown to whoever is watching is kept in ``shown``, by time."""
    data, name = bare(xs), name_of(cell)
    step, start = cell.step, state

    def checked(result: Any) -> tuple[Any, Any]:
        y, after = cell.checked(result, start)
        if not isinstance(y, (Tensor, Real)) and not is_array(y):
            way = ": concatenate them" if isinstance(y, (tuple, list, dict)) else ""
            raise TypeError(f"{name}: its output: expected a tensor or an array, got {counted(y)}{way}")
        return y, after

    if not len(data):
        with no_grad():
            y, _ = checked(step(np.zeros_like(data, shape=data.shape[1:]), state))
        none = trees.map(lambda part: part[:0], stacked([state]))
        return (stack([y])[:0], state, none) if states else (stack([y])[:0], state)

    order = range(len(data))[::-1] if reverse else range(len(data))
    times = order if mask is None else attended(order, mask, reset)
    if compiled is not False:
        from .. import compile  # which knows cells: it is asked for when it is needed

        if result := compile.attempt(compiled, cell, xs, state, mask, reset, order, times, states, pad_value):
            return result
    if is_observed():
        step = numbered(step, name, times)
    step = wrapped(cell, step, data, mask, reset, times, pad_value)
    if looks_for_nan():
        computed = isinstance(xs, Tensor) and xs.requires_grad
        step = suspicious(step, name, times, "was there before the scan" if computed else "came in with the data")
    if shown is not None:
        step = noted(cell, step, shown, times)
    made: list = []
    if states:
        step = remembered(step, made)

    with collector_paused():
        x, *others = unstack(xs) if times == range(len(data)) else [*map(unstack(xs).__getitem__, times)]
        ys: list = []
        where = located(name, times, ys)
        with where:
            result = step(x, state)
        y, state = checked(result)
        ys.append(y)
        with where:
            for x in others:
                y, state = step(x, state)
                ys.append(y)
        if times != range(len(data)):
            ys = by_time(ys, times, order, missing=np.full_like(bare(y), pad_value))
            made = by_time(made, times, order, missing=start, held=True) if states else made
        return (stack(ys), state, stacked(made)) if states else (stack(ys), state)


def by_time(parts: list, times: Sequence, order: Sequence, missing: Any, held: bool = False) -> list:
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


def suspicious(step: Callable, name: str, times: Sequence, source: str) -> Callable:
    """The same step, but a NaN in its input that gets into the state, and so into all that comes after, is an error."""
    numbers = iter(times)

    def suspicious_step(x: Any, state: Any) -> Any:
        t, result = next(numbers), step(x, state)
        spread = isinstance(result, tuple) and nan_at(state) is None and nan_at(result[1:]) is not None
        if spread and (where := nan_at(x)) is not None:
            within = "".join(f", {label}" for label in labelled())
            of = " of that segment" if "segment" in within else ""
            raise AnomalyError(f"xs{of} is nan at {[t, *where]}: it {source}, and has made the state of {name} nan in "
                               f"step {t}{within}: replace it, or leave such steps out, by a mask")  # fmt: skip
        return result

    return suspicious_step


def wrapped(
    cell: Cell, step: Callable, xs: Any, mask: Any, reset: Any, times: Sequence, pad_value: float = 0
) -> Callable:
    """The same step, with what a mask and resets do at each of the times."""
    if mask is not None:
        step = masked(step, rows(mask, device_of(xs), times, trivial=True), name_of(cell), pad_value)
    if reset is not None:
        start = partial(cell.initial_state, np.zeros_like(xs, shape=xs.shape[1:]))
        step = restarted(step, rows(reset, device_of(xs), times, trivial=False), start, name_of(cell))
    return step


def masked(step: Callable, mask: Iterator, name: str, pad_value: float) -> Callable:
    """The same step, but a sequence that is masked keeps its state, and its output is that of padding."""

    def masked_step(x: Any, state: Any) -> tuple[Any, Any]:
        y, after = pair(step(x, state), name)
        if (row := next(mask)) is None:
            return y, after
        hold = partial(chosen, row, f"{name}: the state that it returned")
        held = trees.map(lambda old, new: hold(new, old), state, after, name=f"{name}: the state that it returned")
        # an output that is a tensor of the state stays one: so all of the state's gradient comes by the state
        y = next((h for new, h in zip(trees.flatten(after)[0], trees.flatten(held)[0]) if new is y), y)
        return chosen(row, f"{name}: its output", y, pad_value), held

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
    lengths = bare(lengths)
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
    value = bare(value)
    value = value if is_array(value) else np.asarray(value)
    axes, shape = ("(batch, time)", xs.shape[1::-1]) if batch_first else ("(time, batch)", xs.shape[:2])
    if value.shape != shape or value.dtype != bool:
        hint = f": is it the other way round? pass {name}.T" if value.shape == shape[::-1] != shape else ""
        raise ValueError(f"{name}: expected booleans {axes}, {shape} as of xs, got {described(value)}{hint}")
    if device_of(value) not in ("cpu", device_of(bare(xs))):
        raise DeviceError(f"{name}: expected it on the CPU, or with xs, {described(xs)}; it is {described(value)}")
    return value.T if batch_first else value


def attended(order: Sequence, mask: Any, reset: Any) -> Sequence:
    """The times, in order, at which a sequence has an input, or is reset. At least one: it shows what an output is."""
    if device_of(mask) != "cpu" or (reset is not None and device_of(reset) != "cpu"):
        return order
    some = (mask if reset is None else mask | reset).any(axis=1).tolist()
    times = [t for t in order if some[t]] or [order[0]]
    return order if len(times) == len(order) else times


def rows(flags: Any, device: str, times: Sequence, trivial: bool) -> Iterator:
    """The flags of each time; None where all are the trivial ones, which leave a step as it is."""
    on_device, known = move(flags, device), device_of(flags) == "cpu"
    skipped = (flags == trivial).all(axis=1).tolist() if known else [False] * len(flags)
    return iter([None if skipped[t] else on_device[t] for t in times])


def idle(xs: Any, state: Any, mask: Any, reset: Any) -> bool:
    """Whether no sequence has an input, or a reset, at any time. (Flags on a GPU are not asked.)"""
    flags = [f for f in (mask, reset) if f is not None]
    return not len(xs) or (mask is not None and all(device_of(f) == "cpu" and not f.any() for f in flags))


def filled(xs: Any, mask: Any) -> Any:
    """The inputs; where a sequence has none, its first one, or that of a sequence which has one."""
    data = bare(xs)
    if not mask.size:
        return xs
    mask = move(mask, device_of(data))
    shape = (*mask.shape, *[1] * (data.ndim - 2))
    some = mask.any(axis=0)
    first = np.take_along_axis(data, mask.argmax(axis=0).reshape(1, *shape[1:]), axis=0)
    other = np.take_along_axis(first, some.argmax().reshape(1, 1, *shape[2:]), axis=1)
    first = np.where(some.reshape(1, *shape[1:]), first, np.where(some.any(), other, 0))
    return where(mask.reshape(shape), xs, first.astype(data.dtype, copy=False))


def chosen(row: Any, name: str, new: Any, old: Any) -> Any:
    """new for the sequences that are flagged, old for the others."""
    if new is old:
        return new
    a, b = bare(new), bare(old)
    if not is_array(a) or a.shape[:1] != row.shape or (is_array(b) and (a.shape, a.dtype) != (b.shape, b.dtype)):
        like = described(old) if is_array(b) and b.shape[:1] == row.shape else f"a tensor (batch, ...), {len(row)} rows"
        raise ValueError(f"{name}: expected {like}, of which a mask holds some rows, got {described(new)}")
    return where(row.reshape(row.shape + (1,) * (a.ndim - 1)), new, old)


# What makes a step ----------------------------------------------------------------------------------------------------


class Function(Cell):
    """A function step(x, state) as a cell, whose initial state is ``home``."""

    def __init__(self, function: Callable, home: Any):
        self.function, self.home = function, home

    def start(self, x: Any, state: Any = None, xs: Any = None) -> Any:
        if state is None:
            raise ValueError("state: a function does not say what its state is: pass the one to start from")
        return state

    def initial_state(self, x: Any) -> Any:
        return self.home

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        return self.function(x, state)

    def checked(self, result: Any, state: Any) -> tuple[Any, Any]:
        return pair(result, name_of(self))


def stepping(cell: Any, home: Any = None) -> Cell:
    """A cell; a function as one, which starts from home."""
    if isinstance(cell, Cell):
        return cell
    if isinstance(cell, type):
        raise TypeError(f"cell: expected a Cell, or a function step(x, state), got the class {cell.__name__}: make "
                        f"one, {cell.__name__}(...)")  # fmt: skip
    if isinstance(cell, Module):
        raise TypeError(
            f"cell: expected a Cell, or a function step(x, state), got {type(cell).__name__}, a module: what "
            f"runs over whole sequences itself is called, and what makes a step is a Cell{cells_of(cell)}"
        )
    if not callable(cell):
        raise TypeError(f"cell: expected a Cell, or a function step(x, state), got {described(cell)}")
    return Function(cell, home)


def cells_of(module: Module) -> str:
    """Where in a module its cells are, in the words of a message: nothing, if there are none."""
    found: list[str] = []
    seen: set[Module] = set()

    def look(value: Any, path: str) -> None:
        if isinstance(value, Cell):
            found.append(path)
        elif isinstance(value, Module) and value not in seen:  # a module may know the one it is in
            seen.add(value)
            for name, part in vars(value).items():
                look(part, f"{path}.{name}")
        elif isinstance(value, (dict, list, tuple)):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                look(part, f"{path}[{key!r}]")

    look(module, "model")
    if not found:
        return ""
    shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    return f"; its cells are {shown}" if len(found) > 1 else f"; its cell is {shown}"


def name_of(cell: Cell) -> str:
    return getattr(cell.function, "__name__", "step") if isinstance(cell, Function) else type(cell).__name__


def checked_sequence(xs: Any) -> Any:
    """The array of xs, if it has an axis of time."""
    data = bare(xs)
    if not getattr(data, "ndim", 0):
        raise TypeError(f"xs: expected an array or a tensor, time first, got {described(xs)}")
    return data


def number(pad_value: Any) -> Any:
    """One that changes no dtype."""
    if not isinstance(pad_value, Real):
        raise TypeError(f"pad_value: expected a number, got {described(pad_value)}")
    return pad_value.item() if isinstance(pad_value, np.generic) else pad_value


def drawn_from(cell: Module) -> list[np.random.Generator]:
    """The generators that a module draws from, each once: attributes, or in lists, tuples and dicts among these."""
    found, seen, left = {}, set(), [vars(part) for part in cell.modules()]
    for value in left:  # which grows meanwhile
        if isinstance(value, np.random.Generator):
            found[value] = None
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value
    return [*found]


# Besides --------------------------------------------------------------------------------------------------------------


@contextmanager
def unseen(generators: Iterable[np.random.Generator]) -> Iterator[None]:
    """What is computed only to see what an output is like draws nothing, and nobody watches it."""
    with drawn_again(generators), unwatched():
        yield


class located:
    """An error says in which step it came up: that after those that are done. (Anomaly mode's has said so already.)"""

    __slots__ = ("name", "times", "done")

    def __init__(self, name: str, times: Sequence, done: list):
        self.name, self.times, self.done = name, times, done

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, AnomalyError):
            error.add_note(f"in step {self.times[len(self.done)]} of {self.name}")


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
