"""Scans by programs: one is found, or made, for a cell and what it is given; and is one entry of the tape.

Its rule runs the backward program. Where a gradient is to be differentiated itself, the tape takes over: the scan is
computed again, step by step, and that is walked.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient, is_array, private
from ..debug import PACKAGE
from ..errors import described
from ..modes import is_recording
from ..nn.recurrent import masked, name_of, prepared, restarted, unrolled
from ..ops import at, concatenate, flip, getitem, reshape
from ..ops.checkpoint import Run, program, set_states
from ..ops.checkpoint import states as draws_of
from ..tensor import Tensor, bare
from .numba_module import has_numba
from .program import Program
from .surroundings import Surroundings
from .trace import Trace, derive
from .traced import Untraceable

PROGRAMS: OrderedDict[Any, Entry | Untraceable] = OrderedDict()
NUMPY, STDLIB = os.path.dirname(np.__file__), os.path.dirname(os.__file__)
LOCK, MOST = threading.RLock(), 256


class Entry:
    """A program, and what it reads of a step's surroundings."""

    def __init__(self, program: Program, trace: Trace):
        self.program, self.parts = program, [*trace.used]
        self.constants = [array for _, array in trace.constants.values()]
        self.draws = trace.draws
        self.pools: list[dict] = []  # arrays that no scan in progress uses
        d = program.d
        self.flows = [program.gradient_x is not None, *d.flows]
        self.wanted = [i for i, w in enumerate(d.weights) if w in d.gradients and w not in d.steady.values()]


def scanned(
    cell: Any, xs: Any, state: Any, mask: Any, reset: Any, order: Sequence, times: Sequence, states: bool,
    pad_value: float, backend: str,
) -> tuple:  # fmt: skip
    """What :func:`~..nn.recurrent.unrolled` returns: by a program, which runs over those times, in that order.

    Raises
    ------
    Untraceable
        There can be no program; says why.
    """
    xs, mask, reset = [x if x is None else of_times(x, times) for x in (xs, mask, reset)]
    ys, last, *every = by_program(cell, xs, state, mask, reset, states, pad_value, backend)
    if len(times) == len(order):
        return (of_times(ys, times), last, *[trees.map(lambda s: of_times(s, times), s) for s in every])
    missing = Tensor(np.full_like(bare(ys), pad_value, shape=(len(order), *ys.shape[1:])))
    ys = at(missing)[[*times]].set(ys)
    held, n, at_time = [0] * len(order), 0, dict(zip(times, range(1, len(times) + 1)))
    for t in order:
        held[t] = n = at_time.get(t, n)
    return (ys, last, *[trees.map(lambda first, s: held_at(first, s, held), state, s) for s in every])


def of_times(x: Any, times: Sequence) -> Any:
    """The parts of x for those times, in order; a view, where they are all."""
    if len(times) < len(x):
        return getitem(x, [*times])
    return x if times[0] <= times[-1] else flip(x, 0)


def held_at(first: Any, states: Any, held: list[int]) -> Any:
    """The states of all times: those made, the n-th of which there is since n steps, or the first one before."""
    return getitem(concatenate([reshape(first, (1, *first.shape)), states]), held)


def by_program(
    cell: Any, xs: Any, state: Any, mask: Any, reset: Any, states: bool, pad_value: float, backend: str
) -> tuple:
    """A scan over all of xs, first to last."""
    if is_recording():  # what is no tensor is the user's, who may write into it before the backward pass
        xs, mask, reset, state = [trees.map(kept, x) for x in (xs, mask, reset, state)]
    parts, rebuild = trees.flatten(state)
    wants = [isinstance(x, Tensor) and x.requires_grad and is_recording() for x in [xs, *parts]]
    entry, around = entry_for(cell, xs, state, mask, reset, states, pad_value, backend, wants)
    wants = [a and b for a, b in zip(wants, entry.flows)]  # what no step reads has no gradient, as on the tape
    given = [xs, *parts]
    constants = [x if wanted or not isinstance(x, Tensor) else x.detach() for x, wanted in zip(given, wants)]
    options = {"states": states, "pad_value": pad_value, "compiled": False}
    again = partial(on_tape, cell, constants, wants, rebuild, mask, reset, options)
    outs = Scan(entry, around, given, wants, mask, reset).noted(given, again, name_of(cell))
    n = len(entry.program.d.outs)
    last = rebuild(outs[n:])
    return (outs[0], last, rebuild(outs[1:n])) if states else (outs[0], last)


def kept(x: Any) -> Any:
    """What nobody writes into: a tensor as it is, a copy of an array."""
    return private(x) if is_array(x) else x


def program_of(
    cell: Any, xs: Any, state: Any = None, *, lengths: Any = None, mask: Any = None, reset: Any = None,
    states: bool = False, pad_value: float = 0, backend: str | None = None,
) -> Program:  # fmt: skip
    """The program that a compiled :func:`~tinygrad_rnn.scan` of these arguments runs, with all gradients: to read.

    Parameters
    ----------
    cell : Cell or callable
        What is scanned with.
    xs : array or Tensor, (T, ...)
        The inputs.
    state, lengths, mask, reset, states, pad_value : optional
        As of :func:`~tinygrad_rnn.scan`.
    backend : {"numpy", "numba"}, optional
        By default Numba's, where Numba is installed.

    Returns
    -------
    Program
        ``forward_source`` and ``backward_source`` show what is run; ``kernel_source``, what that calls, where it is
        Numba's; and ``steps``, the step before the first pass and after each.

    Raises
    ------
    Untraceable
        There can be none; says why.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> program = program_of(nn.RNNCell(3, 4, rng=0), np.ones((7, 2, 3), np.float32), backend="numpy")
    >>> print(program.backward_source)
    def backward(T, weight_ih, weight_hh, x, h, g_h, dh_next, times, minus, dh, dnet, dx):
        # weight_ih: 4×3, weight_hh: 4×4, x: T×2×3, h: (T+1)×2×4, g_h: T×2×4, dh_next: 2×4, times: T×2×4, minus: T×2×4,
        # dh: 2×4, dnet: T×2×4, dx: T×2×3
        np.multiply(h[1:], h[1:], out=times)
        np.subtract(1, times, out=minus)
        for t in reversed(range(T)):
            np.add(g_h[t], dh_next, out=dh)
            np.multiply(dh, minus[t], out=dnet[t])
            np.matmul(dnet[t], weight_hh, out=dh_next)
        np.matmul(dnet.reshape(-1, 4), weight_ih, out=dx.reshape(-1, 3))
        dweight_ih = dnet.reshape(-1, 4).T @ x.reshape(-1, 3)
        dweight_hh = dnet.reshape(-1, 4).T @ h[:-1].reshape(-1, 4)
        dbias_ih = dnet.sum(axis=0).sum(axis=-2)
        return dx, dh_next, dweight_ih, dweight_hh, dbias_ih, dbias_ih
    <BLANKLINE>
    """
    cell, xs, state, mask, reset = prepared(cell, xs, state, lengths, mask, reset)
    wants = [has_gradient(bare(x).dtype) for x in [xs, *trees.flatten(state)[0]]]
    backend = backend or ("numba" if has_numba() else "numpy")
    return entry_for(cell, xs, state, mask, reset, states, pad_value, backend, wants)[0].program


def entry_for(
    cell: Any, xs: Any, state: Any, mask: Any, reset: Any, states: bool, pad_value: float, backend: str, wants: list
) -> tuple[Entry, Surroundings]:
    """The program for a scan, from among those that were made, or a new one; and the surroundings of its step."""
    around = Surroundings(cell)
    parts, rebuild = trees.flatten(state)
    x, *arrays = map(bare, [xs, *parts])
    for a in (x, *arrays):
        if not isinstance(a, np.ndarray):
            raise Untraceable(f"{described(a)} is no array in the host's memory, and programs are for these")
    form = repr(rebuild(range(len(parts)))), *[(a.shape, a.dtype) for a in arrays]
    options = states, backend, mask is None, reset is None, type(pad_value), repr(pad_value)
    key = around.key, x.shape[1:], x.dtype, form, *wants, *options
    with LOCK:
        entry = PROGRAMS.get(key)
        if entry is None:
            try:
                one = np.broadcast_to(np.zeros((), x.dtype), x.shape[1:])
                entry = made(cell, around, one, rebuild(arrays), mask, reset, wants, states, pad_value, backend)
            except Untraceable as reason:
                entry = Untraceable(f"{reason}{line_of(reason)}")
            except Exception as error:  # on the tape it may be right, or be raised where it can be understood
                came = f"{type(error).__name__} was raised, {error}{line_of(error)}"
                entry = Untraceable(f"{came} (is it on the tape, too?)")
            PROGRAMS[key] = entry
            if len(PROGRAMS) > MOST:
                PROGRAMS.popitem(last=False)
        PROGRAMS.move_to_end(key)
    if isinstance(entry, Untraceable):
        raise Untraceable(*entry.args)
    return entry, around


def line_of(error: Exception) -> str:
    """The innermost line of the user's that an error came from, if it came from one."""
    lines = [(frame.f_code.co_filename, n) for frame, n in traceback.walk_tb(error.__traceback__)]
    lines = [
        (file, n)
        for file, n in lines
        if not file.startswith((PACKAGE, NUMPY)) and os.path.dirname(file) != STDLIB and not file.endswith(".pyx")
    ]
    return f", at {os.path.basename(lines[-1][0])}:{lines[-1][1]}" if lines else ""


def made(
    cell: Any, around: Surroundings, x: Any, state: Any, mask: Any, reset: Any, wants: list, states: bool,
    pad_value: float, backend: str,
) -> Entry:  # fmt: skip
    """A new program, for an x of one time, a state, and rows of a mask and of resets, like these."""
    rows, like = {name: f[0] for name, f in (("mask", mask), ("reset", reset)) if f is not None}, x

    def wrapped(cell: Any) -> Callable:
        def step(x: Any, state: Any, *rows: Any) -> tuple:
            rows, run = [*rows], cell.step
            if mask is not None:
                run = masked(run, iter([rows.pop(0)]), name_of(cell), pad_value)
            if reset is not None:
                run = restarted(run, iter([rows.pop(0)]), partial(undrawn, cell, like, bare(x).notes), name_of(cell))
            return cell.checked(run(x, state), state)

        return step

    d, trace = derive(cell, around, x, rows, state, wants[0], states, wrapped)
    return Entry(Program(d, wants, backend), trace)


def undrawn(cell: Any, x: Any, trace: Trace) -> Any:
    """The state that a reset leads to. Its random numbers, if it has any, are drawn where there is a reset alone."""
    draws = len(trace.draws)
    state = cell.initial_state(x)
    if len(trace.draws) > draws:
        raise Untraceable("random numbers are drawn at each reset")
    return state


class Scan:
    """One run of a program: what it is given, and the arrays that its backward pass needs."""

    def __init__(self, entry: Entry, around: Surroundings, given: list, wants: list, mask: Any, reset: Any):
        self.entry, self.around, self.wants = entry, around, wants
        self.arrays, self.rows = [*map(bare, given)], [f for f in (mask, reset) if f is not None]
        parts = [kept(around.parts[i]) if is_recording() else around.parts[i] for i in entry.parts]
        self.weights = [*map(bare, parts), *entry.constants]
        self.pool = entry.pools.pop() if entry.pools else {}
        self.kept: dict | None = None
        self.tape: Run | None = None  # what computes the same on the tape

    def noted(self, given: list, again: Callable, name: str) -> list:
        """The outputs and the last state, as tensors, with an entry on the tape for all."""
        parts = self.around.parts
        trained = [parts[self.entry.parts[i]] for i in self.entry.wanted] if is_recording() else []
        inputs = [x for x, wanted in zip(given, self.wants) if wanted] + trained
        if not inputs:
            return [Tensor(a) for a in self.forward(keep=False)]
        self.tape = Run(again, name, [None] * sum(self.wants) + trained, self.around.generators())
        return [*program(*inputs, run=self)]

    def forward(self, keep: bool = True) -> list:
        xs = [self.arrays[0], *self.rows, *self._drawn()]
        outs, last, self.kept = self.entry.program.forward_pass(xs, self.arrays[1:], self.weights, self.pool, keep)
        return [*outs, *last]

    def _drawn(self) -> list:
        """The random numbers of all steps: drawn step by step, as the tape draws them."""
        time, draws = len(self.arrays[0]), self.entry.draws
        drawn = [np.empty((time, *draw.value.shape), draw.value.dtype) for draw in draws]
        calls = [partial(getattr(self.around.parts[d.generator], d.method), *d.args, **d.keywords) for d in draws]
        for t in range(time if draws else 0):
            for array, call in zip(drawn, calls):
                array[t] = call()
        return drawn

    def backward(self, gs: Sequence) -> list:
        """The gradients of what was given and wants one."""
        n, compiled = len(self.entry.program.d.outs), self.entry.program
        if self.kept is None:  # the last backward pass has written over what it was given
            now = draws_of(self.tape.generators)
            set_states(self.tape.generators, self.tape.draws)
            self.forward()
            set_states(self.tape.generators, now)
        kept, self.kept = self.kept, None if compiled.consumes else self.kept
        g_x, g_state, g_weights = compiled.backward_pass(kept, [*gs[:n]], [*gs[n:]], self.pool)
        return [*[g for g, wanted in zip([g_x, *g_state], self.wants) if wanted], *g_weights]

    def __del__(self) -> None:
        if len(self.entry.pools) < 2:  # nobody needs its arrays any more
            self.entry.pools.append(self.pool)


def on_tape(
    cell: Any, given: list, wants: list, rebuild: Callable, mask: Any, reset: Any, options: dict, *tensors: Tensor
) -> list[Tensor]:
    """The same scan, step by step: from the tensors that stand for those that want a gradient."""
    stand_ins = iter(tensors)
    xs, *parts = [next(stand_ins) if wanted else x for x, wanted in zip(given, wants)]
    ys, last, *every = unrolled(cell, xs, rebuild(parts), mask, reset, **options)
    found = [Tensor(y) if not isinstance(y, Tensor) else y for y in trees.flatten([ys, *every, last])[0]]
    return [y for y in found if has_gradient(y.dtype)]
