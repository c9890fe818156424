"""A program: the two loops of a step, forward and backward, as functions that can be called, and read."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..ops.activation import constants_of_sigmoid
from .graph import Value, padded, reach
from .kernels import FusedLoop, NumbaSource
from .loops import RESERVED, Loop, Place, given
from .numba_module import has_product, module_of, source_of
from .passes import FOR_KERNELS, PASSES, Direction, directions, gradient_carries
from .source import NumPySource
from .trace import Derived

CHEAP = {"add", "subtract", "multiply", "negative"}


class Program:
    """What computes a scan, and its gradients. It is for one shape of a step, and for any number of steps.

    Args:
        d: the step, and its derivative; they become those after the passes.
        wants: whether the gradient of x is wanted, and that of each tensor of the state.
        backend: ``"numpy"`` or ``"numba"``.

    ``print(program.forward_source)`` and ``print(program.backward_source)`` show what is run; ``kernel_source``, what
    that calls, where it is Numba's; and ``steps``, the step before the first pass and after each.
    """

    def __init__(self, d: Derived, wants: Sequence[bool], backend: str = "numpy"):
        self.d, self.backend, self.steps = d, backend, {"traced": str(d)}
        wanted = {g for g, wanted in zip(d.g_state, wants[1:]) if wanted}  # before a pass makes weights of states
        for run in [*PASSES, *(FOR_KERNELS if backend == "numba" else [])]:
            run(d)
            self.steps[run.__name__] = str(d)
        self.gradient_x = d.gradients.get(d.inputs[0]) if wants[0] else None
        self.trained = [w for w in d.weights if w in d.gradients]
        there, back = self._written(wanted)
        self.kernel_source = kernels_of(there, back, real_dtype(d).name) if backend == "numba" else None
        self.forward_source = there.text(self.arguments["forward"], map(there.result, d.outs))
        results, totals = map(back.result, self.backward.results), map(back.read, self.backward.totals)
        self.backward_source = back.text(self.arguments["backward"], results, totals)
        self._load(there.functions, back.functions)

    def _written(self, wanted: set[Value]) -> tuple[NumPySource, NumPySource]:
        """Plan both loops, and write what computes their values."""
        d, (forward, backward), inputs = self.d, directions(self.d), self._named()
        kind, source = (Loop, NumPySource) if self.backend == "numpy" else (fused(real_dtype(d)), NumbaSource)
        results, totals = [g for g in [self.gradient_x] if g is not None], [d.gradients[w] for w in self.trained]
        saved = self._saved(forward, [*results, *totals, *[after for _, after in gradient_carries(d)]])
        self.forward = kind(forward, inputs, [*zip(d.state, d.new_state)], d.state, d.outs, saved, [], {}, False)
        there = source(self.forward, "forward")

        kept = {v: self.forward.where(v) for v in saved}
        self.g_outs = {v: given(v, self.forward.fresh(v.name)) for v in d.g_outs}
        known = {**inputs, **kept, **self.g_outs}
        rooms = {name: room.of(kept) for name, room in self.forward.rooms.items()}
        self.backward = kind(backward, known, gradient_carries(d), wanted, results, [], totals, {**rooms}, True)
        back = source(self.backward, "backward")

        self.consumes = any(v not in kept for room in rooms.values() for _, v in room.tenants)
        used = {place.array for v in self.backward.values if (place := self.backward.places.get(v))}
        read = [name for name in [*[p.array for p in known.values()], *rooms] if name in used]
        self.arguments = {
            "forward": [*dict.fromkeys([*[p.array for p in inputs.values()], *self.forward.buffers])],
            "backward": [*dict.fromkeys([*read, *self.backward.buffers])],
        }
        return there, back

    def _load(self, there: dict, back: dict) -> None:
        """Make functions of the sources, which call those."""
        space = {"np": np, "padded": padded, "sigmoid": sigmoid, "quotient": quotient}
        if self.kernel_source:
            kernels = vars(module_of(self.kernel_source))
            space |= {name: kernels[name] for name in kernels if name.startswith(("forward_", "backward_"))}
        self.run_forward = function_of(self.forward_source, "forward", space | there)
        self.run_backward = function_of(self.backward_source, "backward", space | back)

    def __repr__(self) -> str:
        return f"{self.forward_source}\n\n{self.backward_source}"

    def _named(self) -> dict[Value, Place]:
        """The inputs of the program, each by a name of its own."""
        d, taken = self.d, set(RESERVED)
        for v in [*d.inputs, *d.weights, *d.state]:
            candidates = itertools.chain([v.name], (f"{v.name}_{n}" for n in itertools.count(2)))
            v.name = next(n for n in candidates if n not in taken)
            taken.add(v.name)
        return {v: given(v, v.name, timed=False) for v in d.weights} | {v: given(v, v.name) for v in d.inputs}

    def _saved(self, forward: Direction, roots: Iterable[Value]) -> list[Value]:
        """The values of the forward loop that the backward loop needs; but what is cheap, kernels compute again."""
        stops = {v for v in forward.values if forward.rank(v) and v.kind != "view"}
        needed = [v for v in reach(roots, stops) if v in stops]
        if self.backend == "numba":
            known, operands = {*needed, *self.d.inputs}, set()
            for v in reach(roots):
                operands.update([] if v.kind == "elementwise" else v.inputs)
            again = {v for v in needed if v.op in CHEAP and v not in {*operands, *self.d.outs, *self.d.new_state}}
            again = {v for v in again if all(a in known - again or not forward.rank(a) for a in v.inputs)}
            needed = [v for v in reach(roots, stops - again) if v in stops - again]
        return [v for v in needed if v not in self.d.inputs]

    # Running

    def forward_pass(self, xs: list, state: list, weights: list, pool: dict) -> tuple[list, list, dict]:
        """The outputs of all steps, the last state, and the arrays that a backward pass needs."""
        time, d, steady = len(xs[0]), self.d, [state[i] for i in self.d.steady]
        changing = [s for i, s in enumerate(state) if i not in d.steady]
        weights = [*weights, *steady]
        if self.backend == "numba":  # which takes rows, or columns, as they lie in memory
            weights = [a if a.flags.forc else np.ascontiguousarray(a) for a in weights]
        arrays = dict(zip([v.name for v in d.weights], weights))
        arrays |= dict(zip([v.name for v in self.d.inputs], xs))
        self._provide(arrays, self.forward, time, pool)
        first = dict(zip(d.state, changing))
        for carry in self.forward.carries:
            arrays[carry.array][0 if carry.kept else ...] = first[carry.before]
        found = self.run_forward(time, *[arrays[name] for name in self.arguments["forward"]])
        outs, last = found[: len(self.d.outs)], found[len(self.d.outs) :]
        last = first | {carry.before: np.array(s) for carry, s in zip(self.forward.carries, last)}
        changed = iter([last[s] for s in d.state])
        return [*outs], [s if i in d.steady else next(changed) for i, s in enumerate(state)], arrays

    def backward_pass(self, arrays: dict, gs: list, g_state: list, pool: dict) -> tuple[Any, list, list]:
        """The gradients of x, of the first state, and of the weights that have one."""
        time, d = len(gs[0]), self.d
        changing = [g for i, g in enumerate(g_state) if i not in d.steady]
        arrays = arrays | dict(zip([place.array for place in self.g_outs.values()], gs))
        self._provide(arrays, self.backward, time, pool)
        first = dict(zip(d.g_state, changing))
        for carry in self.backward.carries:
            arrays[carry.array][-1 if carry.kept else ...] = first[carry.before]
        found = [*self.run_backward(time, *[arrays[name] for name in self.arguments["backward"]])]
        g_x = found.pop(0) if self.gradient_x is not None else None
        last = {carry.before: np.array(g) for carry, g in zip(self.backward.carries, found)}
        totals = dict(zip(self.trained, found[len(self.backward.carries) :]))
        changed = iter([last.get(g) for g in d.g_state])
        states = [
            g + totals.pop(d.steady[i]) if d.steady.get(i) in totals else g if i in d.steady else next(changed)
            for i, g in enumerate(g_state)
        ]
        return g_x, states, [*totals.values()]

    def _provide(self, arrays: dict, loop: Loop, time: int, pool: dict) -> None:
        """Arrays to write into: those of the pool, or new ones; always new ones for what is given away."""
        given_away = {loop.places[v].array for v in loop.given_away if v in loop.places}
        for name, place in loop.buffers.items():
            if home := loop.homes.get(name):
                arrays[name] = arrays[home.array][..., slice(*home.cut or (None,))]
                continue
            array = pool.get((loop.reverse, name)) if name not in given_away else None
            if array is None or (place.time and len(array) != time + place.more):
                array = place.made(time)
                if name not in given_away:
                    pool[loop.reverse, name] = array
            arrays[name] = array


def sigmoid(x: Any, out: Any = None) -> Any:
    """:func:`~tinygrad_rnn.sigmoid`, into an array."""
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    one, large = constants_of_sigmoid(np.ndarray, x.dtype)
    powers = np.exp(np.minimum(x, large, out=out), out=out)
    return np.divide(powers, one + powers, out=out)


def quotient(a: Any, b: Any, out: Any = None) -> Any:
    """a / b, and 0 where a is 0, into an array."""
    if isinstance(b, (int, float)):
        b = np.result_type(a, b).type(b)
    return np.divide(a, np.where(a == 0, 1, b), out=out)


def real_dtype(d: Derived) -> np.dtype:
    """The dtype of most of what a step computes: float32 or float64."""
    kinds = [v.dtype for v in reach(d.roots()) if v.dtype.name in ("float32", "float64")]
    return max(set(kinds), key=kinds.count, default=np.dtype(np.float32))


def fused(real: np.dtype) -> Callable[..., FusedLoop]:
    return partial(FusedLoop, real)


def kernels_of(there: NumbaSource, back: NumbaSource, dtype: str) -> str:
    """The source of all that Numba compiles; where nothing else is left in the loops, they are, too."""
    loops = []
    if all(kind != "other" for kind, _ in there.steps + back.steps) and has_product():
        loops = [text for source in (there, back) if (text := source.compiled_loop())]
    return source_of([*there.kernels, *back.kernels], loops, dtype)


def function_of(source: str, name: str, space: dict) -> Any:
    """The function that a source defines; errors within it show its lines."""
    file = f"<{name} of a compiled scan, {id(source)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    found: dict = {}
    exec(compile(source, file, "exec"), space, found)
    return found[name]
