"""A kind of array that has a shape and a dtype and no numbers: what is done with it is noted down as values of a graph.

It takes NumPy's calls by NumPy's own protocols, as an array on a GPU does. So whatever is written for arrays, a cell, a
rule, an operation of the user's own, runs on it as it is. A NumPy function that has no translation here becomes a
``call``, which the compiled program makes at each step, too.

What would bake a number of this moment into the program (``if array``, ``float(array)``) is refused: `Untraceable`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..arrays import Duck
from ..tensor import Tensor
from .graph import Graph, Value


class Untraceable(TypeError):
    """A step that cannot be compiled; the message says why.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> def step(x, h):
    ...     h = h + x if h.sum() < 9 else h                # which way depends on the numbers
    ...     return h, h
    >>> tg.scan(step, np.ones((50, 2, 3)), np.zeros((2, 3)), compiled=True)
    Traceback (most recent call last):
    tinygrad_rnn.compile.traced.Untraceable: step: it cannot be compiled, as ...
    """


def as_method(function: Callable) -> Callable:
    return lambda self, *args, **keywords: function(self, *args, **keywords)


class Traced(np.lib.mixins.NDArrayOperatorsMixin, Duck):
    """An array of a trace. Writing into it makes it another value, as for any array; but not where it has views."""

    __slots__ = ("notes", "value", "viewed")

    def __init__(self, notes: Notes, value: Value, viewed: bool = False):
        self.notes, self.value, self.viewed = notes, value, viewed

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: math.prod(self.value.shape))
    T = property(lambda self: self.transpose())

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple | None = None, **keywords: Any):
        if any(isinstance(x, Tensor) for x in inputs):
            return NotImplemented
        if method == "reduce" and ufunc.__name__ in REDUCTIONS:
            result = reduced(self.notes, REDUCTIONS[ufunc.__name__], *inputs, **keywords)
        elif method != "__call__" or ufunc.nout > 1 or keywords:
            raise Untraceable(f"np.{ufunc.__name__}.{method} with {[*keywords]} cannot be compiled")
        elif ufunc is np.matmul:
            result = matmul(self.notes, *inputs)
        elif getattr(np, ufunc.__name__, None) is ufunc:
            result = self.notes.make(ufunc.__name__, *inputs)
        else:
            result = called(self.notes, ufunc, inputs, {})
        return result if out is None else out[0].become(result)

    def __array_function__(self, function: Callable, types: Any, args: tuple, keywords: dict) -> Any:
        if any(issubclass(kind, Tensor) for kind in types):
            return NotImplemented
        out = keywords.pop("out", None)
        if function in FUNCTIONS:
            result = FUNCTIONS[function](self.notes, *args, **keywords)
        else:
            result = called(self.notes, function, args, keywords)
        return result if out is None else out.become(result)

    def become(self, new: Traced) -> Traced:
        if self.viewed:
            raise Untraceable("an array of which there are views is written into: that cannot be compiled")
        if new.shape != self.shape:
            raise ValueError(f"an array {self.shape} cannot hold {new.shape}")
        self.value = new.astype(self.dtype).value
        return self

    def view(self, op: str, **options: Any) -> Traced:
        self.viewed = True
        return Traced(self.notes, self.notes.graph.make(op, self.value, **options), viewed=True)

    # Its numbers, which it has not

    def refuse(self, *_: Any, **__: Any) -> Any:
        raise Untraceable("a number is asked for that is known only when the program runs (as by `if tensor`, "
                          "float(tensor) or np.asarray(tensor))")  # fmt: skip

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __array__ = item = tolist = tobytes = refuse

    # Its methods

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator:
        return iter([self[i] for i in range(len(self))])

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, Traced) for part in index):
            return called(self.notes, lambda x, *parts: x[parts], (self, *index), {})
        if any(isinstance(part, (list, np.ndarray)) for part in index):
            return called(self.notes, lambda x: x[index], (self,), {})
        if (cut := one_slice(index, self.shape)) is not None:
            return self.view("slice", **cut)
        return self.view("index", index=index)

    def __setitem__(self, index: Any, new: Any) -> None:
        if isinstance(index, Traced) or (isinstance(index, tuple) and any(isinstance(i, Traced) for i in index)):
            raise Untraceable("writing at places that are computed cannot be compiled")

        def written(x: np.ndarray, new: Any) -> np.ndarray:
            x = x.copy()
            x[index] = new
            return x

        self.become(called(self.notes, written, (self, new), {}))

    def astype(self, dtype: Any, copy: bool = True) -> Traced:
        return self.notes.make("astype", self, dtype=np.dtype(dtype))

    def copy(self) -> Traced:
        return Traced(self.notes, self.value)

    __copy__ = copy

    def __deepcopy__(self, memo: dict) -> Traced:
        return self.copy()

    def reshape(self, *shape: Any) -> Traced:
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        known = math.prod([n for n in shape if n != -1])
        return self.view("reshape", shape=tuple([self.size // max(known, 1) if n == -1 else int(n) for n in shape]))

    def transpose(self, *axes: Any) -> Traced:
        axes = axes[0] if len(axes) == 1 else axes or None
        axes = range(self.ndim)[::-1] if axes is None else [normalize_axis_index(a, self.ndim) for a in axes]
        if [*axes] == [*range(self.ndim - 2), self.ndim - 1, self.ndim - 2]:
            return self.view("swap")
        return self.view("transpose", axes=tuple(axes)) if [*axes] != [*range(self.ndim)] else self

    def swapaxes(self, a: int, b: int) -> Traced:
        axes = [*range(self.ndim)]
        axes[a], axes[b] = axes[b], axes[a]
        return self.transpose(axes)

    def squeeze(self, axis: Any = None) -> Traced:
        dropped = [i for i, n in enumerate(self.shape) if n == 1] if axis is None else axis
        dropped = () if not self.ndim and dropped in (0, -1) else normalize_axis_tuple(dropped, self.ndim)
        return self.reshape([n for i, n in enumerate(self.shape) if i not in dropped])

    def ravel(self) -> Traced:
        return self.reshape(-1)

    flatten = ravel
    sum, mean, prod, max, min = map(as_method, (np.sum, np.mean, np.prod, np.max, np.min))
    any, all, var, dot, take, clip = map(as_method, (np.any, np.all, np.var, np.dot, np.take, np.clip))


class Notes:
    """Where values are noted: the graph, and the arrays that a step uses and was not given."""

    def __init__(self) -> None:
        self.graph, self.constants = Graph(), {}

    def input(self, name: str | None, like: Any) -> Traced:
        return Traced(self, self.graph.input(name, like.shape, like.dtype))

    def make(self, op: str, *args: Any, **options: Any) -> Traced:
        return Traced(self, self.graph.make(op, *self.noted(args), **options))

    def noted(self, args: Any) -> list:
        """The arguments of an operation, as values and numbers."""
        traced = [a.dtype for a in args if isinstance(a, Traced)]

        def argument(a: Any) -> Any:
            if isinstance(a, Traced):
                if a.notes is not self:
                    raise Untraceable("a value of another trace is used: a compiled scan within a step's own")
                return a.value
            if isinstance(a, np.generic) and traced and np.result_type(*traced) == a.dtype:
                return a.item()  # a number of the same dtype: as weak as any
            return a if type(a) in (bool, int, float) else self.constant(np.asarray(a))

        return [argument(a) for a in args]

    def constant(self, array: np.ndarray) -> Value:
        """An array that is not computed by the step: the same whenever the program runs."""
        if array.dtype.kind not in "fbiu":
            raise Untraceable(f"an array of {array.dtype} cannot be compiled")
        if id(array) not in self.constants:
            self.constants[id(array)] = self.graph.input(None, array.shape, array.dtype), array
        return self.constants[id(array)][0]


# NumPy's functions ----------------------------------------------------------------------------------------------------

REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all",
              "logical_or": "any"}  # fmt: skip


def reduced(notes: Notes, op: str, x: Traced, axis: Any = None, keepdims: bool = False, **keywords: Any) -> Traced:
    if any(value is not None and value is not np._NoValue for value in keywords.values()):
        raise Untraceable(f"np.{op} with {[*keywords]} cannot be compiled")
    axis = None if not x.ndim and axis in (0, -1) else axis  # which NumPy allows
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    if not len(axes):
        return x.copy()
    return notes.make(op, x, axis=tuple([i - x.ndim for i in sorted(axes)]), keepdims=bool(keepdims))


def mean(notes: Notes, x: Traced, axis: Any = None, keepdims: bool = False, **keywords: Any) -> Traced:
    total = reduced(notes, "sum", x, axis, keepdims, **keywords)
    return total / (x.size // max(total.size, 1))


def variance(notes: Notes, x: Traced, axis: Any = None, ddof: float = 0, keepdims: bool = False, **keywords: Any):
    away = x - mean(notes, x, axis, keepdims=True)
    total = reduced(notes, "sum", away * away, axis, keepdims, **keywords)
    return total / (x.size // max(total.size, 1) - ddof)


def matmul(notes: Notes, a: Any, b: Any) -> Traced:
    a, b = [x if isinstance(x, Traced) else Traced(notes, notes.constant(np.asarray(x))) for x in (a, b)]
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul: expected matrices, got shapes {a.shape} and {b.shape}")
    if a.shape[-1] != b.shape[-min(b.ndim, 2)]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit together")
    return notes.make("matmul", a, b)


def dot(notes: Notes, a: Any, b: Any) -> Traced:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) > 2:
        return called(notes, np.dot, (a, b), {})
    return matmul(notes, a, b)


def concatenate(notes: Notes, arrays: Any, axis: int = 0) -> Traced:
    arrays = [x if isinstance(x, Traced) else np.asarray(x) for x in arrays]
    return notes.make("concat", *arrays, axis=normalize_axis_index(axis, arrays[0].ndim) - arrays[0].ndim)


def stack(notes: Notes, arrays: Any, axis: int = 0) -> Traced:
    return np.concatenate([np.expand_dims(x, axis) for x in arrays], axis)


def expand_dims(notes: Notes, x: Traced, axis: Any) -> Traced:
    axes = normalize_axis_tuple(axis, x.ndim + (len(axis) if isinstance(axis, tuple) else 1))
    rest = iter(x.shape)
    return x.reshape([1 if i in axes else next(rest) for i in range(x.ndim + len(axes))])


def moveaxis(notes: Notes, x: Traced, source: Any, destination: Any) -> Traced:
    source, destination = normalize_axis_tuple(source, x.ndim), normalize_axis_tuple(destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in source]
    for to, of in sorted(zip(destination, source)):
        order.insert(to, of)
    return x.transpose(order)


def flip(notes: Notes, x: Traced, axis: Any = None) -> Traced:
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim)
    return x[tuple([slice(None, None, -1) if i in axes else slice(None) for i in range(x.ndim)])]


def clip(notes: Notes, x: Any, a_min: Any = None, a_max: Any = None) -> Traced:
    x = x if a_min is None else np.maximum(x, a_min)
    return x if a_max is None else np.minimum(x, a_max)


def full(notes: Notes, like: Any, fill: Any, dtype: Any = None, shape: Any = None) -> Traced:
    shape = like.shape if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    if isinstance(fill, Traced) or np.ndim(fill):
        return np.broadcast_to(fill, shape).astype(dtype or like.dtype)
    fill = fill.item() if isinstance(fill, np.generic) else fill
    return Traced(notes, notes.graph.make("full", shape=shape, fill=fill, dtype=np.dtype(dtype or like.dtype)))


def called(notes: Notes, function: Callable, args: tuple, keywords: dict) -> Traced:
    """A function that has no translation: the program will call it, at each step, with the arrays there are then."""
    traced = [a for a in args if isinstance(a, Traced)]
    if any(isinstance(a, Traced) for a in keywords.values()) or len(traced) < sum(map(holds_traced, args)):
        raise Untraceable(f"{name_of(function)} of these arguments cannot be compiled: pass arrays by position")

    def call(*arrays: Any) -> Any:
        given = iter(arrays)
        return function(*[next(given) if isinstance(a, Traced) else a for a in args], **keywords)

    call.__name__ = name_of(function)
    like, other = [attempt(call, [stand_in(a, regular) for a in traced]) for regular in (True, False)]
    if isinstance(like, Exception):
        raise Untraceable(f"{call.__name__} cannot be tried on numbers that mean nothing: {like}")
    if not isinstance(other, Exception) and np.shape(like) != np.shape(other):
        raise Untraceable(f"{call.__name__} returns arrays of a shape that depends on the numbers in it")
    if not isinstance(like, (np.ndarray, np.generic)):
        raise Untraceable(f"{call.__name__} returns {type(like).__name__}, and no array: that cannot be compiled")
    return notes.make("call", *traced, function=call, shape=like.shape, dtype=like.dtype)


def stand_in(x: Traced, regular: bool) -> np.ndarray:
    """Numbers to try a function on: a regular matrix, or ones; or others, for its shape must not depend on them."""
    if x.dtype.kind != "f":
        return np.full(x.shape, not regular, x.dtype)
    if not regular:
        return np.arange(x.size, dtype=x.dtype).reshape(x.shape)
    square = x.ndim > 1 and x.shape[-1] == x.shape[-2]
    return np.broadcast_to(np.eye(x.shape[-1]) if square else 1.0, x.shape).astype(x.dtype)


def attempt(function: Callable, args: list) -> Any:
    """What a function returns, or raises."""
    try:
        with np.errstate(all="ignore"):
            return function(*args)
    except Exception as error:
        return error


def holds_traced(x: Any) -> bool:
    return isinstance(x, Traced) or (isinstance(x, (tuple, list)) and any(map(holds_traced, x)))


def name_of(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def one_slice(index: tuple, shape: tuple) -> dict | None:
    """The axis, from the end, the start and the stop, where an index is one slice of step 1 along one axis."""
    if any(not isinstance(part, slice) and part is not ... for part in index):
        return None
    if ... in index:
        at = index.index(...)
        index = index[:at] + (slice(None),) * (len(shape) - len(index) + 1) + index[at + 1 :]
    cuts = [(i, part.indices(n)) for i, (part, n) in enumerate(zip(index, shape)) if part != slice(None)]
    cuts = [(i, cut) for i, cut in cuts if cut != (0, shape[i], 1)]
    if len(index) > len(shape) or len(cuts) > 1 or any(cut[2] != 1 for _, cut in cuts):
        return None
    i, (start, stop, _) = cuts[0] if cuts else (len(shape) - 1, (0, shape[-1] if shape else 0, 1))
    return {"axis": i - len(shape), "start": start, "stop": max(stop, start)} if shape else None


def reduction(op: str) -> Callable:
    return lambda notes, x, axis=None, keepdims=False, **k: reduced(notes, op, x, axis, keepdims, **k)


def method(name: str) -> Callable:
    return lambda notes, x, *args, **keywords: getattr(x, name)(*args, **keywords)


FUNCTIONS: dict[Callable, Callable] = {
    np.where: lambda notes, condition, a, b: notes.make("where", condition, a, b),
    np.sum: reduction("sum"), np.prod: reduction("prod"), np.any: reduction("any"), np.all: reduction("all"),
    np.max: reduction("max"), np.min: reduction("min"), np.amax: reduction("max"), np.amin: reduction("min"),
    np.mean: mean, np.var: variance,
    np.dot: dot, np.concatenate: concatenate, np.stack: stack,
    np.expand_dims: expand_dims, np.moveaxis: moveaxis, np.flip: flip, np.clip: clip,
    np.broadcast_to: lambda notes, x, shape: x.view("broadcast", shape=tuple(np.atleast_1d(shape).tolist())),
    np.reshape: method("reshape"), np.transpose: method("transpose"), np.swapaxes: method("swapaxes"),
    np.squeeze: method("squeeze"), np.ravel: method("ravel"), np.copy: method("copy"), np.astype: method("astype"),
    np.zeros_like: lambda notes, x, dtype=None, shape=None: full(notes, x, 0, dtype, shape),
    np.ones_like: lambda notes, x, dtype=None, shape=None: full(notes, x, 1, dtype, shape),
    np.empty_like: lambda notes, x, dtype=None, shape=None: full(notes, x, 0, dtype, shape),
    np.full_like: lambda notes, x, fill, dtype=None, shape=None: full(notes, x, fill, dtype, shape),
    np.ndim: lambda notes, x: x.ndim, np.shape: lambda notes, x: x.shape,
    np.size: lambda notes, x, axis=None: x.size if axis is None else x.shape[axis],
    np.result_type: lambda notes, *xs: np.result_type(*[x.dtype if isinstance(x, Traced) else x for x in xs]),
    np.iscomplexobj: lambda notes, x: False,
}  # fmt: skip
"""How NumPy's functions are noted down; all others are ``called``."""
