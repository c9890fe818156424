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
from .passes import FOR_KERNELS, FOR_NUMPY, PASSES, Direction, directions, gradient_carries
from .source import NumPySource
from .strips import Strips
from .trace import Derived

CHEAP = {"add", "subtract", "multiply", "negative"}


class Program:
    """What computes a scan, and its gradients. It is for one shape of a step, and for any number of steps.

    ``print(program.forward_source)`` and ``print(program.backward_source)`` show what is run; ``kernel_source``, what
    that calls, where it is Numba's; and ``steps``, the step before the first pass and after each.

    Parameters
    ----------
    d : Derived
        The step, and its derivative; they become those after the passes.
    wants : sequence of bool
        Whether the gradient of x is wanted, and that of each tensor of the state.
    backend : {"numpy", "numba"}, optional
        What it is written for.
    """

    def __init__(self, d: Derived, wants: Sequence[bool], backend: str = "numpy"):
        self.d, self.backend, self.steps = d, backend, {"traced": str(d)}
        wanted = {g for g, wanted in zip(d.g_state, wants[1:]) if wanted}  # before a pass makes weights of states
        for run in [*PASSES, *(FOR_KERNELS if backend == "numba" else FOR_NUMPY)]:
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
        rooms = {name: of for name, room in self.forward.rooms.items() if (of := room.of(kept)).tenants}
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
        forward = function_of(self.forward_source, "forward", space | there)
        backward = function_of(self.backward_source, "backward", space | back)
        of_forward, of_backward = self.arguments["forward"], self.arguments["backward"]
        self.there = Strips(self.forward, forward, of_forward, kept=of_backward)
        self.back = Strips(self.backward, backward, of_backward, kept=())

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

    def forward_pass(
        self, xs: list, state: list, weights: list, pool: dict, keep: bool = True
    ) -> tuple[list, list, dict]:
        """The outputs of all steps, the last state, and all arrays: if to be kept, those that a backward pass needs."""
        time, d, steady = len(xs[0]), self.d, [state[i] for i in self.d.steady]
        changing = [s for i, s in enumerate(state) if i not in d.steady]
        weights = [*weights, *steady]
        if self.backend == "numba":  # which takes rows, or columns, as they lie in memory
            weights = [a if a.flags.forc else np.ascontiguousarray(a) for a in weights]
        arrays = dict(zip([v.name for v in d.weights], weights))
        arrays |= dict(zip([v.name for v in self.d.inputs], xs))
        first = dict(zip(d.state, changing))
        outs, last, _ = self.there.run(arrays, first, time, pool, keep)
        last = first | last
        changed = iter([last[s] for s in d.state])
        return outs, [s if i in d.steady else next(changed) for i, s in enumerate(state)], arrays

    def backward_pass(self, arrays: dict, gs: list, g_state: list, pool: dict) -> tuple[Any, list, list]:
        """The gradients of x, of the first state, and of the weights that have one."""
        time, d = len(gs[0]), self.d
        changing = [g for i, g in enumerate(g_state) if i not in d.steady]
        arrays = arrays | dict(zip([place.array for place in self.g_outs.values()], gs))
        results, last, totals = self.back.run(arrays, dict(zip(d.g_state, changing)), time, pool)
        totals = dict(zip(self.trained, totals))
        changed = iter([last.get(g) for g in d.g_state])
        states = [
            g + totals.pop(d.steady[i]) if d.steady.get(i) in totals else g if i in d.steady else next(changed)
            for i, g in enumerate(g_state)
        ]
        return results[0] if results else None, states, [*totals.values()]


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
