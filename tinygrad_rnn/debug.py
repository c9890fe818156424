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
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from . import trees
from .arrays import is_array, namespace
from .errors import AnomalyError, MutationError, described
from .modes import Observer, _mode, switched
from .recording import Primitive
from .show import Tape
from .tape import Node, walk
from .tensor import bare

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_labels: ContextVar[tuple] = ContextVar("labels", default=())


def anomaly(function: Callable | None = None, *, nonfinite: bool = True, mutation: bool = True) -> Any:
    """Raise an error where something goes wrong first, and say where: a context manager, and a decorator.

    The error names the operation, what it was called with, the line of yours that called it, and the
    :class:`~tinygrad_rnn.label` there was; on the way back, too, for operations that were called inside the block.

    Parameters
    ----------
    function : callable, optional
        What is decorated.
    nonfinite : bool, optional
        Whether it is an error that an operation makes a NaN or an infinity out of finite numbers, or a rule out of a
        finite gradient (:class:`~tinygrad_rnn.AnomalyError`). Infinities that were put in, such as a mask of -inf, are
        let through. NumPy's own warnings are off meanwhile, as they say less.
    mutation : bool, optional
        Whether it is an error that an array that the tape keeps has other values than when it was kept
        (:class:`~tinygrad_rnn.MutationError`): somebody has written into it, as is possible on a GPU, or through shared
        memory. Its gradient would be wrong.

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


class Anomaly(Observer):
    """Who looks at every call and at every rule, in an :func:`anomaly` block."""

    def __init__(self, nonfinite: bool, mutation: bool):
        self.nonfinite, self.mutation = nonfinite, mutation
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
            if self.mutation:
                self.checksums[node] = [checksum(x) for _, x in arrays_of(node)]
        return out

    def before_rule(self, node: Node) -> None:
        for (name, array), before in zip(arrays_of(node), self.checksums.get(node, ())):
            if checksum(array) != before:
                raise MutationError(
                    f"{name} ({described(array)}), which the tape keeps for the rules of {node.op.name}, was written "
                    f"into since: {self.called(node)}. Make a new array instead, or hand over a copy"
                )

    def after_rule(self, node: Node, g: Any, gradients: Sequence) -> None:
        if self.nonfinite and not finite(gradients) and finite(g):
            i, bad = next((i, x) for i, x in enumerate(gradients) if not finite(x))
            x = f"{node.op.inputs[0]}[{i}]" if node.op.variadic else node.op.inputs[i]
            raise AnomalyError(
                f"the rule of {node.op.name} made {first_bad(bad)} of the gradient of {x}, out of a finite gradient: "
                f"{self.called(node)}"
            )

    def called(self, node: Node) -> str:
        return self.calls.get(node, f"{node.op.name}, called before anomaly() was entered")


# What they are made of -----------------------------------------------------------------------------------------------


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
    labels = [f"in {' '.join(map(str, parts))}, " for parts in _labels.get()]
    return f"{op.name}({', '.join(arguments)}), called {''.join(labels)}at {line}"


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
    array = bare(x)
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
        todo = [values]
        while todo:
            value = todo.pop()
            if isinstance(value, (tuple, list)):
                todo.extend(value)
            elif is_array(value):
                yield name, value


def checksum(array: Any) -> int:
    """A number that changes when the array does. Computed where the array is."""
    if namespace(array) is np:
        return zlib.crc32(array.tobytes())
    return int(array.ravel().view(np.uint8).cumsum(dtype=np.uint64).sum())
