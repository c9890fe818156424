"""Where did the NaN come from? Anomaly mode watches every operation and every rule, and names the first to go wrong.

It looks at each result, which costs time (on a GPU, a wait at each operation): switch it on to find a fault. It is an
observer of the tape (``modes.py``), so the tape itself knows nothing of it.
"""

from __future__ import annotations

import math
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from . import trees
from .arrays import as_array, is_array, namespace
from .errors import AnomalyError, MutationError, described
from .modes import Observer, _mode, switched
from .recording import Primitive
from .show import Tape
from .tape import Node, Output, walk
from .tensor import bare

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_labels: ContextVar[tuple] = ContextVar("labels", default=())


def anomaly(function: Callable | None = None, *, nonfinite: bool = True, mutation: bool = True) -> Any:
    """Raise an error where something goes wrong first, and say where: a context manager, and a decorator.

    The error names the operation, what it was called with, the line of yours that called it, and the
    :class:`~tinygrad_rnn.label` there was; on the way back, too, for operations that were called inside the block.

    A NaN that came in with the data is no error by itself: it may stand for what is missing, and never be used. It is
    one as soon as a gradient becomes NaN by it, and then the error says where it came in; or, in a scan, as soon as
    the state does, as all that comes after would be NaN.

    Parameters
    ----------
    function : callable, optional
        What is decorated.
    nonfinite : bool, optional
        Whether it is an error that an operation makes a NaN or an infinity out of finite numbers, or a rule out of a
        finite gradient, or a step of a scan a NaN in its state out of one in its input
        (:class:`~tinygrad_rnn.AnomalyError`). Infinities that were put in, such as a mask of -inf, are let through.
        NumPy's own warnings are off meanwhile, as they say less.
    mutation : bool, optional
        Whether it is an error that an array that the tape keeps has other values than when it was kept
        (:class:`~tinygrad_rnn.MutationError`): somebody has written into it, as is possible on a GPU, or through shared
        memory. Or that a rule writes into the gradient that it is given, or into what the tape keeps for it: others may
        hold these arrays. Gradients would be wrong.

    Returns
    -------
    context manager or callable
        The function, decorated, if there is one; else what goes into ``with``, or decorates one.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([4.0, 0.0], requires_grad=True)
    >>> with anomaly():
    ...     with label("step", 3):
    ...         y = tg.sqrt(x)
    ...     y.sum().backward()
    Traceback (most recent call last):
    tinygrad_rnn.errors.AnomalyError: the rule of sqrt made inf at [1] of the gradient of x, out of a finite gradient:
    sqrt(x: float64 (2,)), called in step 3, at <doctest tinygrad_rnn.debug.anomaly[2]>:3
    """
    mode = (quietly if nonfinite else switched)(observer=Anomaly(nonfinite, mutation))
    return mode if function is None else mode(function)


class label:
    """A name for what is computed in a block, such as a time step or a layer: anomaly mode mentions it.

    The parts are only put together if they are needed, so this costs next to nothing: ``with label("step", t):``.

    Parameters
    ----------
    *parts : object
        What the name is made of, with spaces between.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.anomaly(), tg.label("layer", 2):
    ...     tg.log(tg.tensor([1.0, -1.0]))
    Traceback (most recent call last):
    tinygrad_rnn.errors.AnomalyError: log made nan at [1], out of finite numbers (x = -1.0): log(x: float64 (2,)),
    called in layer 2, at <doctest tinygrad_rnn.debug.label[1]>:2
    """

    __slots__ = ("parts",)

    def __init__(self, *parts: Any):
        self.parts = parts

    def __enter__(self) -> None:
        _labels.set((*_labels.get(), self.parts))

    def __exit__(self, *error: Any) -> None:
        _labels.set(_labels.get()[:-1])


class quietly(switched):
    """A mode in which NumPy does not warn of what it computes. What it did before is remembered with the mode."""

    def __enter__(self) -> Observer | None:
        observer = super().__enter__()
        _mode.get().numpy_errors = np.seterr(all="ignore")
        return observer

    def __exit__(self, *error: Any) -> None:
        if (mode := self.leave()) is not None:
            np.seterr(**mode.numpy_errors)


class Written(Observer):
    """Who looks whether a rule writes into what it is given: the gradient, which others may hold, or what is kept."""

    of_calls = False

    def __init__(self) -> None:
        self.given: WeakKeyDictionary[Node, list] = WeakKeyDictionary()  # to the rules that are running

    def before_rule(self, node: Node, g: Any) -> None:
        arrays = [*arrays_in("g", g), *arrays_of(node)]
        self.given[node] = [(name, array, checksum(array)) for name, array in arrays]

    def after_rule(self, node: Node, g: Any, gradients: Sequence) -> None:
        for name, array, before in self.given.pop(node, ()):
            if checksum(array) != before:
                raise MutationError(
                    f"a rule of {node.op.name} wrote into {name} ({described(array)}), which others may hold: let it "
                    f"make a new array, as by g * 2, not g *= 2: {self.called(node)}"
                )

    def called(self, node: Node) -> str:
        """In words, how the entry was called."""
        return f"{node.op.name}({', '.join(node.op.inputs)})"


class Anomaly(Written):
    """Who looks at every call and at every rule, in an :func:`anomaly` block."""

    of_calls = True

    def __init__(self, nonfinite: bool, mutation: bool):
        super().__init__()
        self.nonfinite, self.mutation = nonfinite, mutation
        self.bad: WeakKeyDictionary[Node, Bad] = WeakKeyDictionary()  # the inputs of entries that were not finite,
        self.calls: WeakKeyDictionary[Node, str] = WeakKeyDictionary()  # how each entry was called,
        self.checksums: WeakKeyDictionary[Node, list] = WeakKeyDictionary()  # and what its arrays were then

    def call(self, compute: Callable, op: Primitive, inputs: tuple, keywords: dict) -> Any:
        with switched(observer=Observer()):  # what happens inside of an operation is its own affair
            out = compute(op, inputs, keywords)
        outs = out if op.several else (out,)
        line, walked = caller()
        if self.nonfinite and walked is None and not finite(outs) and finite((inputs, keywords)):
            i, bad = next((i, x) for i, x in enumerate(outs) if not finite(x))
            raise AnomalyError(
                f"{op.name} made {first_bad(bad)}{f' of output {i}' if op.several else ''}, out of finite numbers"
                f"{operands(op, inputs, bad)}: {called(op, inputs, keywords, line)}"
            )
        node = next((x.node for x in outs if getattr(x, "node", None) is not None), None)
        if node is not None:
            node = node.parents[0] if op.several else node
            on_the_way = "" if walked is None else f", in a rule of {self.called(walked)}"
            self.calls[node] = called(op, inputs, keywords, line) + on_the_way
            if self.nonfinite and (bad := bad_input(op, inputs)):
                name, x = bad
                here = Bad(name, first_bad(x), self.calls[node])
                earlier = None if (made_by := entry_of(x)) is None else self.bad.get(made_by)
                self.bad[node] = here._replace(source=earlier.source if earlier else here)
            if self.mutation:
                self.checksums[node] = [checksum(x) for _, x in arrays_of(node)]
        return out

    def before_rule(self, node: Node, g: Any) -> None:
        for (name, array), before in zip(arrays_of(node), self.checksums.get(node, ())):
            if checksum(array) != before:
                raise MutationError(
                    f"{name} ({described(array)}), which the tape keeps for the rules of {node.op.name}, was written "
                    f"into since: {self.called(node)}. Make a new array instead, or hand over a copy"
                )
        if self.mutation:
            super().before_rule(node, g)

    def after_rule(self, node: Node, g: Any, gradients: Sequence) -> None:
        super().after_rule(node, g, gradients)
        if self.nonfinite and not finite(gradients) and finite(g):
            i, bad = next((i, x) for i, x in enumerate(gradients) if not finite(x))
            x = f"{node.op.inputs[0]}[{i}]" if node.op.variadic else node.op.inputs[i]
            raise AnomalyError(
                f"the rule of {node.op.name} made {first_bad(bad)} of the gradient of {x}, out of a finite "
                f"gradient{self.reason(node)}: {self.called(node)}"
            )

    def reason(self, node: Node) -> str:
        """What was not finite before the rule ran, in words, and where that came from; nothing, if all was."""
        if bad := self.bad.get(node):
            first = bad.source
            came = f" (the first was {first.name}, {first.what}, of {first.called})"
            return f"; its {bad.name} was {bad.what} already{came if first.called != bad.called else ''}"
        kept = next(((name, array) for name, array in arrays_of(node) if not finite(array)), None)
        return "" if kept is None else f"; its {kept[0]} was {first_bad(kept[1])} already"

    def called(self, node: Node) -> str:
        return self.calls.get(node, f"{node.op.name}, called before anomaly() was entered")


# What they are made of -----------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """An input that was not finite: its name, its first such number, how it was used, and where that came in."""

    name: str
    what: str
    called: str
    source: Bad | None = None


def looks_for_nan() -> bool:
    """Whether it is anomaly mode that watches, here and now, and cares for what is not finite."""
    observer = mode.observer if (mode := _mode.get()) else None
    return isinstance(observer, Anomaly) and observer.nonfinite


def nan_at(tree: Any) -> list[int] | None:
    """Where the first NaN is in a tensor, or in a tree of them; None, if there is none."""
    for part in map(bare, trees.flatten(tree)[0]):
        if is_array(part) and part.dtype.kind == "f" and (found := np.isnan(part)).any():
            return [int(i) for i in np.unravel_index(int(np.argmax(found)), part.shape)]
    return None


def entry_of(x: Any) -> Node | None:
    """The entry of the call that has made a tensor, which may have made others with it."""
    node = getattr(x, "node", None)
    return node.parents[0] if isinstance(node, Output) and node.parents else node


def bad_input(op: Primitive, inputs: Sequence) -> tuple[str, Any] | None:
    """The first differentiable input that is not finite, with its name."""
    names = [f"{op.inputs[0]}[{i}]" for i in range(len(inputs))] if op.variadic else op.inputs
    return next(((name, x) for name, x in zip(names, inputs) if not finite(x)), None)


def users_level() -> int:
    """How far up the line is that is not the package's, for a warning."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


def caller() -> tuple[str, Node | None]:
    """The line outside of this package that is running, and the entry whose rules are running, if any are."""
    frame, line = sys._getframe(1), None
    while frame is not None and frame.f_code is not walk.__code__:
        if line is None and not frame.f_code.co_filename.startswith(PACKAGE):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return line or "?", frame and frame.f_locals["node"]


def called(op: Primitive, inputs: tuple, keywords: dict, line: str) -> str:
    """A call in words: what it was called with, and where."""
    given = op.signature.bind(*inputs, **keywords).arguments
    arguments = [f"{name}: {described(trees.map(bare, x))}" for name, x in given.items()]
    return f"{op.name}({', '.join(arguments)}), called {''.join(f'{where}, ' for where in labelled())}at {line}"


def labelled() -> list[str]:
    """The labels of the blocks that are running, in words."""
    return [f"in {' '.join(map(str, parts))}" for parts in _labels.get()]


def finite(value: Any) -> bool:
    """Whether all numbers in value, nested or not, are finite."""
    if isinstance(value, (tuple, list)):
        return all(map(finite, value))
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    value = bare(value)
    if is_array(value):
        return value.dtype.kind in "biu" or bool(np.isfinite(value).all())
    return not isinstance(value, float) or math.isfinite(value)


def first_bad(x: Any) -> str:
    """The first number that is not finite, and where it is."""
    array = as_array(bare(x))
    index = bad_index(array)
    return f"{array[index].item()} at {list(index)}" if index else f"{array.item()}"


def bad_index(array: Any) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(int(np.argmax(~np.isfinite(array))), array.shape)))


def operands(op: Primitive, inputs: tuple, out: Any) -> str:
    """What an element-by-element operation had at the place of the first bad number."""
    if op.kind != "elementwise":
        return ""
    out, found = bare(out), []
    for name, x in zip(op.inputs, map(bare, inputs)):
        found.append(f"{name} = {np.broadcast_to(x, out.shape)[bad_index(out)].item() if is_array(x) else x}")
    return f" ({', '.join(found)})"


def arrays_of(node: Node) -> Iterator[tuple[str, Any]]:
    """The arrays that an entry keeps, each with the name under which its rules ask for it."""
    for name, values in Tape([node]).kept(node).items():
        yield from arrays_in(name, values)


def arrays_in(name: str, values: Any) -> Iterator[tuple[str, Any]]:
    """The arrays in a value of that name, nested or not."""
    todo = [values]
    while todo:
        value = bare(todo.pop())
        if isinstance(value, (tuple, list)):
            todo.extend(value)
        elif is_array(value):
            yield name, value


def checksum(array: Any) -> int:
    """A number that changes when the array does. Computed where the array is."""
    if namespace(array) is np:
        return zlib.crc32(array.tobytes())
    return int(array.ravel().view(np.uint8).cumsum(dtype=np.uint64).sum())
