"""Programs as graphs of values: what a trace notes down, the passes rewrite, and the sources are written from.

A :class:`Value` is an input, or an operation on other values, at one time step. A :class:`Graph` makes them, and makes
each only once: who asks again for the same operation on the same values gets the same value (common subexpressions).
What nobody reaches is never written (dead code). And what a value is made of was made before it, so the order of
creation is an order to compute in. What always holds, as that the slice of a slice is a slice, :func:`simpler` sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..ops.activation import sigmoid
from ..ops.elementwise import quotient
from ..ops.indexing import put


class Value:
    """A value of one time step: ``op(*args, **options)``, where args are values and numbers."""

    __slots__ = ("op", "args", "options", "shape", "dtype", "name", "order")

    def __init__(self, op: str, args: tuple, options: dict, shape: tuple, dtype: Any, name: str | None, order: int):
        self.op, self.args, self.options = op, args, options
        self.shape, self.dtype, self.name, self.order = tuple(shape), np.dtype(dtype), name, order

    @property
    def kind(self) -> str:
        return OPERATIONS[self.op][0] if self.op in OPERATIONS else "elementwise"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def inputs(self) -> list[Value]:
        return [a for a in self.args if isinstance(a, Value)]

    def __repr__(self) -> str:
        like = f"{self.dtype} {self.shape}"
        if self.kind == "input":
            return f"{called(self)}: {like}"
        parts = [called(a) if isinstance(a, Value) else repr(a) for a in self.args]
        parts += [f"{name}={getattr(o, '__name__', o)}" for name, o in self.options.items()]
        return f"{called(self)} = {self.op}({', '.join(parts)}): {like}"


class Graph:
    """The values of a program."""

    def __init__(self) -> None:
        self.made: dict[tuple, Value] = {}
        self.order = itertools.count()

    def input(self, name: str | None, shape: tuple, dtype: Any) -> Value:
        return Value("input", (), {}, shape, dtype, name, next(self.order))

    def make(self, op: str, *args: Any, name: str | None = None, **options: Any) -> Value:
        """The value of an operation: a new one, unless it was made before, or is another one in disguise."""
        value = simpler(self, op, args, options)
        if value is None:
            key = (op, *map(identity, args), *[(k, identity(o)) for k, o in sorted(options.items())])
            if key not in self.made:
                shape, dtype = inferred(op, args, options)
                self.made[key] = Value(op, args, options, shape, dtype, None, next(self.order))
            value = self.made[key]
        value.name = value.name or name
        return value

    def rebuilt(self, roots: Iterable[Value], rule: Callable) -> dict[Value, Value]:
        """What the roots are made of, made again, first to last, where ``rule(v, new)`` may put something else for v.

        ``new`` says what has become of the values before it (and leaves numbers as they are).
        """
        new = Renewed(self, rule)
        for v in reach(roots):
            new(v)
        return new


class Renewed(dict):
    """What has become of values: a dict that can be called, for whatever is an argument of an operation."""

    def __init__(self, graph: Graph, rule: Callable):
        self.graph, self.rule = graph, rule

    def __call__(self, v: Any) -> Any:
        if not isinstance(v, Value):
            return v
        if v not in self:
            found = self.rule(v, self)
            if found is None:
                found = v if v.kind == "input" else self.graph.make(v.op, *map(self, v.args), **v.options)
            found.name = found.name or v.name
            self[v] = found
        return self[v]


def identity(x: Any) -> Any:
    """What tells arguments apart: 0.0 is not -0.0, and 1 is not True."""
    if isinstance(x, (tuple, list)):
        return type(x), *map(identity, x)
    return id(x) if isinstance(x, (Value, np.ndarray)) or callable(x) else (type(x), repr(x))


def reach(roots: Iterable[Value], stop: Iterable[Value] = ()) -> list[Value]:
    """The values that the roots are made of, and the roots, in order of creation; not beyond those in stop."""
    todo, stop = list(dict.fromkeys(roots)), set(stop)
    seen = set(todo)
    for v in todo:  # which grows meanwhile
        for a in () if v in stop else v.inputs:
            if a not in seen:
                seen.add(a)
                todo.append(a)
    return sorted(todo, key=lambda v: v.order)


def depending(values: Iterable[Value], sources: Iterable[Value]) -> set[Value]:
    """The sources, and those of values (in order) that are made of them."""
    found = set(sources)
    for v in values:
        if any(a in found for a in v.inputs):
            found.add(v)
    return found


def called(v: Value) -> str:
    """The user's name for a value, or one made of the names of what it is made of, as ``x_W`` or ``U_T``."""
    if v.name:
        return v.name
    names = [a.name for a in v.inputs]
    if v.op in ("swap", "slice", "reshape") and names[0]:
        return names[0] + {"swap": "_T", "slice": f"_{v.options.get('start')}", "reshape": ""}[v.op]
    if v.op == "matmul" and all(a.name or a.op == "swap" for a in v.inputs):
        return "_".join(called(a).removesuffix("_T") for a in v.inputs)
    words = {"add": "plus", "subtract": "minus", "multiply": "times", "concat": "joined", "call": "called"}
    return words.get(v.op, v.op)


# The operations -------------------------------------------------------------------------------------------------------


def sliced(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(..., slice(start, stop), *[slice(None)] * (-1 - axis))]


def padded(x: Any, axis: int, start: int, size: int) -> Any:
    """Zeros, with x from start on: the adjoint of a slice."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (start, size - start - x.shape[axis])
    return np.pad(x, widths)


OPERATIONS: dict[str, tuple[str, Callable]] = {
    "input": ("input", None),
    "full": ("input", lambda shape, fill, dtype: np.full(shape, fill, dtype)),
    "slice": ("view", sliced),
    "swap": ("view", lambda x: x.swapaxes(-1, -2)),
    "transpose": ("view", lambda x, axes: x.transpose(axes)),
    "reshape": ("view", lambda x, shape: x.reshape(shape)),
    "broadcast": ("view", lambda x, shape: np.broadcast_to(x, shape)),
    "index": ("view", lambda x, index: x[index]),
    "concat": ("join", lambda *xs, axis: np.concatenate(xs, axis)),
    "pad": ("join", padded),
    "put": ("join", put.op.forward),
    "sum": ("reduction", np.sum),
    "prod": ("reduction", np.prod),
    "max": ("reduction", np.max),
    "min": ("reduction", np.min),
    "any": ("reduction", np.any),
    "all": ("reduction", np.all),
    "matmul": ("product", np.matmul),
    "call": ("call", lambda *xs, function, **_: function(*xs)),
    "total": ("total", lambda x: x.sum(axis=0)),  # the sum over time
    "total_matmul": ("total", lambda a, b: (a @ b).sum(axis=0)),
}
"""Of each operation what kind it is, and how to compute it. All others are elementwise: :func:`elementwise`."""

OWN = {
    "where": np.where,
    "astype": lambda x, dtype: x.astype(dtype),
    "copy": lambda x, tag: x.copy(),  # a value in a place of its own; the tag tells it from other copies
    "sigmoid": sigmoid.op.forward,
    "quotient": quotient.op.forward,
}

LINEAR = {"add", "subtract", "negative", "copy", "astype"}  # the sum over time of what these make is what they make
LINEAR |= {"slice", "swap", "transpose", "reshape", "broadcast", "index", "concat", "pad", "put", "sum"}  # of the sums


def elementwise(op: str) -> Callable:
    """NumPy's ufunc of that name, or one of our own."""
    return OWN.get(op) or getattr(np, op)


def computed(op: str, args: Any, options: dict) -> Any:
    """The operation, done by NumPy: the meaning of a program, whatever sources are written from it."""
    return (OPERATIONS[op][1] if op in OPERATIONS else elementwise(op))(*args, **options)


def inferred(op: str, args: tuple, options: dict) -> tuple[tuple, Any]:
    """The shape and the dtype of a result: what NumPy says of small stand-ins for the arguments."""
    if op in ("full", "call"):
        return options["shape"], options["dtype"]
    if op in ("matmul", "total_matmul"):
        a, b = [np.empty([0 if i == x.ndim - k else n for i, n in enumerate(x.shape)], x.dtype)
                for x, k in zip(args, (1, min(args[1].ndim, 2)))]  # fmt: skip
        out = np.matmul(a, b)
        return out.shape, out.dtype
    if op in OPERATIONS:
        stands = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in args]
        out = stands[0] if op == "total" else computed(op, stands, options)
        return out.shape, out.dtype
    with np.errstate(all="ignore"):
        ones = [np.ones(1, a.dtype) if isinstance(a, Value) else a for a in args]
        dtype = computed(op, ones, options).dtype
    return np.broadcast_shapes(*[np.shape(a) for a in args]), dtype


# What is another value in disguise ------------------------------------------------------------------------------------


def simpler(graph: Graph, op: str, args: tuple, options: dict) -> Value | None:
    """The value that an operation gives, where it can be had for less."""
    x = args[0] if args else None
    if op == "swap" and x.op == "swap":
        return x.args[0]
    if op == "swap" and x.op == "total_matmul":  # (aᵀ b)ᵀ is bᵀ a, without a copy
        return graph.make("total_matmul", *[graph.make("swap", a) for a in reversed(x.args)])
    if op == "reshape" and x.op == "sum" and x.options["keepdims"] and np.prod(x.shape) == np.prod(options["shape"]):
        dropped = graph.make("sum", x.args[0], axis=x.options["axis"], keepdims=False)
        return dropped if dropped.shape == tuple(options["shape"]) else None
    if op in ("reshape", "broadcast") and tuple(options["shape"]) == x.shape:
        return x
    if op == "astype" and np.dtype(options["dtype"]) == x.dtype:
        return x
    if op == "positive" or (op == "concat" and len(args) == 1):
        return x
    if op == "concat" and any(a.op == "concat" and a.options == options for a in args):
        parts = [part for a in args for part in (a.args if a.op == "concat" and a.options == options else (a,))]
        return graph.make("concat", *parts, **options)
    if op == "slice":
        return simpler_slice(graph, x, **options)
    if op == "add":
        return without_zeros(args) or tiled(graph, args)
    return None


def simpler_slice(graph: Graph, x: Value, axis: int, start: int, stop: int) -> Value | None:
    if (start, stop) == (0, x.shape[axis]):
        return x
    if x.op == "slice" and x.options["axis"] == axis:
        before = x.options["start"]
        return graph.make("slice", x.args[0], axis=axis, start=before + start, stop=before + stop)
    if x.op == "concat" and x.options["axis"] == axis:
        ends = [*itertools.accumulate([part.shape[axis] for part in x.args])]
        for part, end in zip(x.args, ends):
            if end - part.shape[axis] <= start and stop <= end:
                begin = end - part.shape[axis]
                return graph.make("slice", part, axis=axis, start=start - begin, stop=stop - begin)
    return None


def without_zeros(args: tuple) -> Value | None:
    """a + 0 = a, for the zeros that stand for gradients of what was not used."""
    if all(isinstance(a, Value) for a in args):
        for zero, other in (args, args[::-1]):
            like = zero.dtype == other.dtype and np.broadcast_shapes(zero.shape, other.shape) == other.shape
            if zero.op == "full" and zero.options["fill"] == 0 and like:
                return other
    return None


def tiled(graph: Graph, args: tuple) -> Value | None:
    """A sum of parts, each padded with zeros, that tile the whole, is their concatenation."""
    parts, todo = [], list(args)
    while todo:
        a = todo.pop()
        if not isinstance(a, Value) or a.op not in ("add", "pad"):
            return None
        if a.op == "add":
            todo += a.args
        else:
            parts.append(a)
    parts.sort(key=lambda p: p.options["start"])
    axis, size, at = parts[0].options["axis"], parts[0].options["size"], 0
    for p in parts:
        if p.options["axis"] != axis or p.options["start"] != at:
            return None
        at += p.args[0].shape[axis]
    return graph.make("concat", *[p.args[0] for p in parts], axis=axis) if at == size else None
