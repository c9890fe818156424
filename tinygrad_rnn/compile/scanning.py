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
from ..arrays import has_gradient
from ..debug import PACKAGE
from ..errors import described
from ..modes import is_recording
from ..nn.recurrent import drawn_from, masked, name_of, restarted, unrolled
from ..ops import at, concatenate, flip, getitem, reshape
from ..ops.checkpoint import Derivative, Run
from ..recording import primitive
from ..tensor import Tensor, bare
from .program import Program
from .surroundings import Surroundings
from .trace import Trace, derive
from .traced import Untraceable

PROGRAMS: OrderedDict[Any, Entry | Untraceable] = OrderedDict()
LOCK, MOST = threading.RLock(), 256


class Entry:
    """A program, and what it reads of a step's surroundings."""

    def __init__(self, program: Program, trace: Trace):
        self.program, self.parts = program, [*trace.used]
        self.constants = [array for _, array in trace.constants.values()]
        self.draws = trace.draws
        self.pools: list[dict] = []  # arrays that no scan in progress uses
        d = program.d
        self.wanted = [i for i, w in enumerate(d.weights) if w in d.gradients and w not in d.steady.values()]


def scanned(
    cell: Any, xs: Any, state: Any, mask: Any, reset: Any, order: Sequence, times: Sequence, states: bool,
    pad_value: float, backend: str,
) -> tuple:  # fmt: skip
    """What :func:`~..nn.recurrent.unrolled` returns: by a program, which runs over those times, in that order.

    Raises:
        Untraceable: there can be no program; says why.
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
    around = Surroundings(cell)
    parts, rebuild = trees.flatten(state)
    arrays = [*map(bare, [xs, *parts])]
    for x in arrays:
        if not isinstance(x, np.ndarray):
            raise Untraceable(f"{described(x)} is no array in the host's memory, and programs are for these")
    wants = [isinstance(x, Tensor) and x.requires_grad and is_recording() for x in [xs, *parts]]
    key = (
        around.key, [(a.shape, a.dtype) for a in arrays[1:]], arrays[0].shape[1:], arrays[0].dtype, wants, states,
        backend, mask is None, reset is None, pad_value, rebuild([0] * len(parts)),
    )  # fmt: skip
    make = partial(made, cell, around, arrays, rebuild, mask, reset, wants, states, pad_value, backend)
    entry = found(repr(key[1:]), around.key, make)
    others = [f for f in (mask, reset) if f is not None]
    scan = Scan(entry, around, cell, arrays, others, wants, rebuild, (mask, reset, states, pad_value))
    outs = scan.noted([xs, *parts])
    n = len(entry.program.d.outs)
    last = rebuild(outs[n:])
    return (outs[0], last, rebuild(outs[1:n])) if states else (outs[0], last)


def found(shape: str, around: Any, make: Callable[[], Entry]) -> Entry:
    """The program for a key, from among those that were made; or why there is none."""
    key = shape, around
    with LOCK:
        entry = PROGRAMS.get(key)
        if entry is None:
            try:
                entry = make()
            except Untraceable as reason:
                entry = Untraceable(f"{reason}{line_of(reason)}")
            PROGRAMS[key] = entry
            if len(PROGRAMS) > MOST:
                PROGRAMS.popitem(last=False)
        PROGRAMS.move_to_end(key)
    if isinstance(entry, Untraceable):
        raise Untraceable(*entry.args)
    return entry


def line_of(error: Exception) -> str:
    """The innermost line of the user's that an error came from, if it came from one."""
    lines = [(frame.f_code.co_filename, n) for frame, n in traceback.walk_tb(error.__traceback__)]
    lines = [(file, n) for file, n in lines if not file.startswith((PACKAGE, os.path.dirname(np.__file__)))]
    return f", at {os.path.basename(lines[-1][0])}:{lines[-1][1]}" if lines else ""


def made(
    cell: Any, around: Surroundings, arrays: list, rebuild: Callable, mask: Any, reset: Any, wants: list,
    states: bool, pad_value: float, backend: str,
) -> Entry:  # fmt: skip
    """A new program."""
    x = arrays[0]
    one = np.broadcast_to(np.zeros((), x.dtype), x.shape[1:])
    rows = {name: f[0] for name, f in (("mask", mask), ("reset", reset)) if f is not None}

    def wrapped(cell: Any) -> Callable:
        def step(x: Any, state: Any, *rows: Any) -> tuple:
            rows, run = [*rows], cell.step
            if mask is not None:
                run = masked(run, iter([rows.pop(0)]), name_of(cell), pad_value)
            if reset is not None:
                run = restarted(run, iter([rows.pop(0)]), partial(undrawn, cell, one, bare(x).notes), name_of(cell))
            return cell.checked(run(x, state), state)

        return step

    state = rebuild(arrays[1:])
    d, trace = derive(cell, around, one, rows, state, wants[0], states, wrapped)
    return Entry(Program(d, wants, backend), trace)


def undrawn(cell: Any, x: Any, trace: Trace) -> Any:
    """The state that a reset leads to. Its random numbers, if it has any, are drawn where there is a reset alone."""
    draws = len(trace.draws)
    state = cell.initial_state(x)
    if len(trace.draws) > draws:
        raise Untraceable("random numbers are drawn at each reset")
    return state


class Scan:
    """One run of a program: what it was given, and the arrays that its backward pass needs."""

    def __init__(
        self, entry: Entry, around: Surroundings, cell: Any, arrays: list, others: list, wants: list, rebuild: Callable,
        options: tuple,
    ):  # fmt: skip
        self.entry, self.around, self.cell, self.rebuild, self.options = entry, around, cell, rebuild, options
        self.arrays, self.others, self.wants = arrays, others, wants
        self.weights = [bare(around.parts[i]) for i in entry.parts] + entry.constants
        self.tensors = [around.parts[i] for i in entry.parts]
        self.kept: dict | None = None
        self.pool: dict | None = None

    def noted(self, given: list) -> list:
        """The outputs and the last state, as tensors, with an entry on the tape for all."""
        trained = [i for i in self.entry.wanted if is_recording()]
        inputs = [x for x, wanted in zip(given, self.wants) if wanted] + [self.tensors[i] for i in trained]
        if not inputs:
            return [Tensor(a) for a in self.forward()]
        closed = [None] * sum(self.wants) + [self.tensors[i] for i in trained]
        self.run = Run(self.again, name_of(self.cell), closed, drawn_from(self.cell))
        return [*scan(*inputs, run=self)]

    def forward(self) -> list:
        entry = self.entry
        self.pool = entry.pools.pop() if entry.pools else {}
        xs = [self.arrays[0], *self.others, *self._drawn()]
        outs, last, self.kept = entry.program.forward_pass(xs, self.arrays[1:], self.weights, self.pool)
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
        n = len(self.entry.program.d.outs)
        g_x, g_state, g_weights = self.entry.program.backward_pass(self.kept, [*gs[:n]], [*gs[n:]], self.pool)
        wanted = [g for g, wants in zip([g_x, *g_state], self.wants) if wants]
        return [*wanted, *g_weights]

    def again(self, *tensors: Tensor) -> list[Tensor]:
        """The same by the tape: from the tensors that stand for x and the state."""
        given = iter(tensors)
        xs, *parts = [next(given) if wants else a for a, wants in zip(self.arrays, self.wants)]
        mask, reset, states, pad_value = self.options
        ys, last, *every = unrolled(
            self.cell, xs, self.rebuild(parts), mask, reset, states=states, pad_value=pad_value, compiled=False
        )
        return [y for y in trees.flatten([ys, *every, last])[0] if has_gradient(y.dtype)]

    def __del__(self) -> None:
        if self.pool is not None and len(self.entry.pools) < 2:  # nobody needs its arrays any more
            self.entry.pools.append(self.pool)


@primitive(several=True)
def scan(*arrays, run):
    return tuple(run.forward())


def _rule(g: tuple, arrays: tuple, run: Scan) -> list:
    if not any(isinstance(x, Tensor) for x in (*arrays, *g)):
        return run.backward(g)
    g = [x for x in g if has_gradient(x.dtype)]
    return [*Derivative(run.run, len(g)).noted((*arrays, *g))]


scan.vjp(_rule)
