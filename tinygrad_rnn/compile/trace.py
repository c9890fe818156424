"""The trace of a step: what a cell computes at one time step, forward and backward, as one graph of values.

The cell runs once on traced arrays (``traced.py``), as it always runs; and the tape that this leaves is walked once, as
it always is. So there is one place where derivatives are written, the rules of the operations, and this is not it.
"""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient, is_array
from ..errors import described
from ..modes import Observer, switched
from ..ops.activation import sigmoid
from ..ops.elementwise import quotient
from ..ops.indexing import put
from ..recording import Primitive
from ..tape import Leaf, Node, reached, walk
from ..tensor import Tensor, bare
from .graph import Value, reach
from .graph import called as name_of
from .surroundings import StandIn, Surroundings
from .traced import Notes, Traced, Untraceable, called, one_slice


@dataclass
class Draw:
    """Random numbers that a step draws: a value, and how to draw it; the generator is a part of its surroundings."""

    value: Value
    generator: int
    method: str
    args: tuple
    keywords: dict


class Trace(Notes, Observer):
    """What is noted while a step runs; it watches every call of an operation."""

    def __init__(self, around: Surroundings):
        super().__init__()
        self.around = around
        self.places = {id(part): i for i, part in enumerate(around.parts)}
        self.used: dict[int, Any] = {}  # of the parts, those that stand in the trace: as tensors, or arrays
        self.draws: list[Draw] = []
        self.made_at: dict[Node, Value] = {}

    def part(self, i: int) -> Any:
        """What stands for a part of the surroundings."""
        part = self.around.parts[i]
        if isinstance(part, np.random.Generator):
            return TracedGenerator(self, i)
        if i not in self.used:
            traced = self.input(self.around.names[i], part)
            self.used[i] = variable(traced, part.requires_grad) if isinstance(part, Tensor) else traced
        return self.used[i]

    def call(self, compute: Callable, op: Primitive, inputs: tuple, keywords: dict) -> Any:
        keywords = {name: self.tensor(x) for name, x in keywords.items()}
        result = compute(atom(op), tuple(map(self.tensor, inputs)), keywords)
        for out in result if isinstance(result, tuple) else (result,):
            if isinstance(out, Tensor) and out.node is not None:
                self.made_at[out.node] = out._data.value
        return result

    def after_rule(self, node: Node, g: Any, gradients: Sequence) -> None:
        """The gradient of a value is called after it: the d of h is dh."""
        g = bare(g)  # a tensor, where a step differentiates, to be differentiated again
        if node in self.made_at and (name := self.made_at[node].name) and g.value.name is None:
            g.value.name = f"d{name}"

    def tensor(self, x: Any) -> Any:
        """An argument of an operation; a tensor from outside of the step, or an array, is an input of the program."""
        if type(x) in (tuple, list):
            return type(x)(map(self.tensor, x))
        if isinstance(x, np.ndarray) and id(x) in self.places:
            return self.part(self.places[id(x)])
        if not isinstance(x, Tensor) or isinstance(x._data, Traced):
            return x
        if id(x) in self.places:
            return self.part(self.places[id(x)])
        if x.requires_grad:
            raise Untraceable(f"a tensor that requires a gradient, {described(x)}, is neither an attribute of the cell "
                              "nor a variable of the function")  # fmt: skip
        return Tensor(Traced(self, self.constant(x._data)))

    def constant(self, array: np.ndarray) -> Value:
        for i, part in enumerate(self.around.parts):  # read by .data, or .numpy(): its value, without a gradient
            if isinstance(part, Tensor) and (array is part._data or array.base is part._data):
                return self.part(i)._data.value
            if part is array:
                return self.part(i).value
        return super().constant(array)


def variable(x: Traced, wanted: bool) -> Tensor:
    """A tensor, and a leaf of the tape if its gradient is wanted."""
    return Tensor(x, Leaf(x.shape, x.dtype) if wanted and has_gradient(x.dtype) else None)


@functools.cache
def atom(op: Primitive) -> Primitive:
    """The operation, with a forward that notes one value where its own would note many, or could not run."""
    if op.ufunc:
        return op
    same = copy.copy(op)
    same.forward = ATOMS.get(op.forward) or functools.partial(attempted, op.forward)
    return same


def attempted(forward: Callable, *args: Any, **keywords: Any) -> Any:
    """The forward on traced arrays; one that cannot run on them is called as it is, at each step of the program."""
    try:
        return forward(*args, **keywords)
    except Untraceable:
        notes = next((a.notes for a in args if isinstance(a, Traced)), None)
        if notes is None:
            raise
        return called(notes, forward, args, keywords)


def noted_put(x: Any, index: Any, shape: tuple) -> Any:
    if not isinstance(x, Traced):
        return put.op.forward(x, index, shape)
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Traced) for part in index):
        return called(x.notes, lambda x, *parts: put.op.forward(x, parts, shape), (x, *index), {})
    cut = one_slice(index, shape)
    if cut is None:
        return x.notes.make("put", x, index=index, shape=tuple(shape))
    return x.notes.make("pad", x, axis=cut["axis"], start=cut["start"], size=shape[cut["axis"]])


def noted_as(name: str, forward: Callable) -> Callable:
    def noted(*args: Any) -> Any:
        notes = next((a.notes for a in args if isinstance(a, Traced)), None)
        return forward(*args) if notes is None else notes.make(name, *args)

    return noted


ATOMS = {
    sigmoid.op.forward: noted_as("sigmoid", sigmoid.op.forward),
    quotient.op.forward: noted_as("quotient", quotient.op.forward),
    put.op.forward: noted_put,
}


class TracedGenerator(StandIn):
    """In the place of a Generator: what it would draw is a value, drawn anew at each step of the program."""

    def __init__(self, trace: Trace, number: int):
        self._trace, self._number = trace, number

    def __getattr__(self, method: str) -> Callable:
        if method.startswith("__") or not hasattr(np.random.Generator, method):
            raise AttributeError(method)

        def draw(*args: Any, **keywords: Any) -> Traced:
            like = np.asarray(getattr(np.random.default_rng(0), method)(*args, **keywords))
            drawn = self._trace.input(None, like)
            self._trace.draws.append(Draw(drawn.value, self._number, method, args, keywords))
            return drawn

        return draw

    def __deepcopy__(self, memo: dict) -> TracedGenerator:
        return self


# Forward and backward -------------------------------------------------------------------------------------------------


@dataclass
class Derived:
    """A step and its derivative: values of one graph."""

    graph: Any
    inputs: list[Value]  # of each time: x, and others (a mask, what is drawn)
    state: list[Value]
    weights: list[Value]  # without a time: parameters, and whatever else the step uses
    outs: list[Value]  # the output, and what else is wanted of each step
    new_state: list[Value]
    g_outs: list[Value]  # the gradients that come from outside
    g_state: list[Value]  # that of the new state, from the next step
    gradients: dict[Value, Value]  # of x, the state and the weights, as far as wanted
    flows: list[bool]  # of each part of the state that is given: whether anything depends on it, and has a gradient
    steady: dict[int, Value] = field(default_factory=dict)  # weights that are handed in as states: which

    def roots(self) -> list[Value]:
        return [*self.outs, *self.new_state, *self.gradients.values()]

    def __str__(self) -> str:
        """The step, line by line; first what is computed forward."""
        forward = reach([*self.outs, *self.new_state])
        back = [v for v in reach(self.roots()) if v not in set(forward)]
        listed = [*map(repr, forward), f"-> {', '.join(map(name_of, [*self.outs, *self.new_state]))}", ""]
        return "\n".join([*listed, *map(repr, back), f"-> {', '.join(map(name_of, self.gradients.values()))}"])

    def rebuild(self, rule: Callable) -> None:
        """Rewrite what the results are made of; see :meth:`Graph.rebuilt`."""
        new = self.graph.rebuilt(self.roots(), rule)
        self.outs, self.new_state = [new[v] for v in self.outs], [new[v] for v in self.new_state]
        self.gradients = {of: new[v] for of, v in self.gradients.items()}


def gradients(trace: Trace, outs: list[Tensor], gs: list[Traced], inputs: Sequence[Tensor]) -> dict[Value, Value]:
    """Walk the tape back from all outs at once: the gradients of those inputs that have one."""
    ends = [(y.node, g) for y, g in zip(outs, gs) if y.node is not None]
    if not ends:
        return {}
    nodes, seeds = zip(*ends)
    root = Node(Ends, nodes, seeds, (), None)
    found, _ = walk(root, reached(root), 1, None, create_graph=False, retain_graph=False)
    return {x._data.value: found[x.node].value for x in inputs if x.node in found}


class Ends:
    """The operation of an entry behind the last ones, whose rule says where the walk begins, and with what."""

    name, several = "ends", False
    pull = staticmethod(lambda g, parents, seeds: seeds)


@contextmanager
def nothing_drawn_elsewhere() -> Iterator[None]:
    """Refuse a step that draws from NumPy's global generator, or Python's: it would be the same at each step."""
    ours, theirs = np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    if str(np.random.get_state()) != str(ours) or random.getstate() != theirs:  # noqa: NPY002
        np.random.set_state(ours)  # noqa: NPY002
        random.setstate(theirs)
        raise Untraceable("random numbers are drawn from a global generator, and not from one that is an attribute")


@contextmanager
def naming_locals() -> Iterator[None]:
    """Name values as the user's ``step`` names them (of steps within steps, the innermost): look at its variables."""
    found: dict[Value, int] = {}

    def look(frame: FrameType, event: str, arg: Any) -> Callable:
        depth, outer = 0, frame
        while outer := outer.f_back:
            depth += 1
        for name, x in frame.f_locals.items():
            x = bare(x)
            if isinstance(x, Traced) and (x.value.name is None or found.get(x.value, depth) < depth):
                x.value.name, found[x.value] = name, depth
        return look

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: look if frame.f_code.co_name == "step" else None)
    try:
        yield
    finally:
        sys.settrace(before)


def derive(
    step: Any, around: Surroundings, x: Any, others: dict[str, Any], state: Any, wanted: bool, states: bool,
    wrapped: Callable = lambda step: step,
) -> tuple[Derived, Trace]:  # fmt: skip
    """One step and its derivative, from stand-ins for what it is given.

    Parameters
    ----------
    step : Cell or callable
        A cell, or a function ``step(x, state)``.
    around : Surroundings
        Its surroundings.
    x : array
        The input of one time.
    others : dict of str to array
        What else each step has of its own, by name: arrays of one time.
    state : array, or a nest of them
        What it starts from.
    wanted : bool
        Whether the gradient of x is wanted.
    states : bool
        Whether the new state is wanted of every step, and not of the last alone.
    wrapped : callable, optional
        Makes ``step(x, state, *others)`` of the cell, or of the function.
    """
    trace = Trace(around)
    step = around.copied(step, [trace.part(i) for i in range(len(around.parts))])
    key = Surroundings(step).key
    parts, rebuild = trees.flatten(state)
    x_in, others_in = variable(trace.input(None, x), wanted), [trace.input(*item) for item in others.items()]
    state_in = [variable(trace.input(None, part), True) for part in parts]
    with switched(records=True, observer=trace):
        with naming_locals(), nothing_drawn_elsewhere():
            y, new = wrapped(step)(x_in, rebuild(state_in), *others_in)
        if Surroundings(step).key != key:
            raise Untraceable("the step changes an attribute, or a variable: what it remembers belongs into the state")
        new_parts, new_rebuild = trees.flatten(new)
        if new_rebuild([0] * len(new_parts)) != rebuild([0] * len(parts)):
            raise Untraceable(f"the state that the step returned, {described(new)}, is not like that it was given")
        new_state = [trace.tensor(as_tensor(part, trace)) for part in new_parts]
        outs = [trace.tensor(as_tensor(y, trace)), *(new_state if states else [])]
        for v, name in [(x_in, "x"), *zip(state_in, ["state"] * len(state_in)), (outs[0], "y")]:
            v._data.value.name = v._data.value.name or name
        g_outs = [trace.input(f"g_{out._data.value.name or 'state'}", out) for out in outs]
        g_state = [trace.input(f"d{s._data.value.name}_next", s) for s in state_in]
        weights = [*trace.used.values()]
        leaves = [w for w in weights if isinstance(w, Tensor)]
        found = gradients(trace, [*outs, *new_state], [*g_outs, *g_state], [x_in, *state_in, *leaves])
        for v, g in found.items():
            g.name = g.name or f"d{v.name}"
        flows = [s.node is not None and s._data.value in found for s in state_in]
        for s in state_in:  # from the step before nothing flows into a state that is not read
            if s.node is not None and s._data.value not in found:
                found[s._data.value] = np.zeros_like(s._data).value

    def values(tensors: Sequence) -> list[Value]:
        return [bare(t).value for t in tensors]

    constants = [value for value, _ in trace.constants.values()]
    draws = [draw.value for draw in trace.draws]
    derived = Derived(
        trace.graph, [*values([x_in, *others_in]), *draws], values(state_in), [*values(weights), *constants],
        values(outs), values(new_state), values(g_outs), values(g_state), found, flows,
    )  # fmt: skip
    for i, v in enumerate(draws):
        v.name = v.name or f"drawn_{i}"
    for v in constants:
        v.name = v.name or "constant"
    return derived, trace


def as_tensor(x: Any, trace: Trace) -> Tensor:
    """What a step returned, as a tensor of the trace."""
    if isinstance(x, Tensor):
        return x
    if not isinstance(x, Traced):
        if not is_array(x):
            raise Untraceable(f"the step returned {described(x)}, and no array, or tensor")
        x = Traced(trace, trace.constant(np.asarray(x)))
    return Tensor(x)
