"""How a call becomes an entry of the tape: primitives, and the few forms of calling one.

A primitive is a function of arrays that is called with tensors, or with arrays. If a tensor among them wants a
gradient, the result gets an entry (``tape.py``), which keeps what the primitive's rules ask for (``rules.py``).
``record`` and ``evaluate`` say in plain words what a call does; ``one_input`` and ``two_inputs`` are the same written
out, as nearly all calls are theirs.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import as_array, has_gradient, is_array, operand, private, to_array
from .errors import described, explain
from .modes import Mode, _mode
from .rules import make_keep, make_lift, make_pull, needs_of
from .tape import Node, Output
from .tensor import Tensor

KINDS = (None, "elementwise", "view", "reduction", "product")
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class Primitive:
    """A function of arrays, with one vjp rule (vector-Jacobian product) for each differentiable input.

    The first argument of a rule is ``g``, the gradient of the output (a tuple, where there are several outputs). The
    others are named after what the rule needs: ``out``, ``in_shape``, or any argument of the forward function. What no
    rule names, the tape does not keep. A variadic primitive (``*arrays``) has one joint rule, which returns the
    gradients of all its inputs and may ask for ``in_shapes``.

    It is what :func:`~tinygrad_rnn.primitive` makes, and hangs on to the function that users call, as ``function.op``.

    Parameters
    ----------
    function : callable
        The forward function, of arrays.
    several : bool
        Whether it returns a tuple of arrays.
    kind : str or None
        What the primitive declares of itself, to whom it may concern: see :func:`~tinygrad_rnn.primitive`.
    ufunc : numpy.ufunc or None
        What does it element by element, called in place of the function.

    Raises
    ------
    TypeError
        The arguments of the function do not say which are its inputs, or have a name that rules ask for something else
        by; or there is no such kind.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.softmax.op.name, tg.softmax.op.inputs, tg.matmul.op.kind
    ('softmax', ['x'], 'product')
    """

    def __init__(self, function: Callable, several: bool, kind: str | None, ufunc: np.ufunc | None):
        name, signature = function.__name__, inspect.signature(function)
        parameters = signature.parameters.values()
        self.forward, self.name, self.signature = ufunc or function, name, signature
        self.several, self.kind, self.ufunc = several, "elementwise" if ufunc else kind, ufunc
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)] or [
            p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty
        ]
        if self.kind not in KINDS:
            raise TypeError(f"{name}: kind: expected one of {', '.join(map(repr, KINDS))}, got {kind!r}")
        positional = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
        if not self.inputs or (self.variadic and len(positional) > 1):
            raise TypeError(f"{name}{signature}: expected inputs (x, /, ...) or (a, b), or *arrays and no other")
        if taken := {"g", "out", "in_shape", "in_shapes", "p_"}.intersection(signature.parameters):
            raise TypeError(
                f"{name}: an argument cannot be called {min(taken)!r}: rules ask for something else by that"
            )
        form = {1: one_input, 2: two_inputs}.get(len(self.inputs), any_inputs)
        if self.variadic or (form is two_inputs and (several or len(parameters) > 2)):
            form = any_inputs
        self.call = form(self)
        self.vjp(*[None for _ in self.inputs])

    def vjp(self, *rules: Callable | None) -> Callable:
        """Register the rules, in the order of the inputs (None: not differentiable); return the function."""
        if len(rules) != len(self.inputs):
            raise TypeError(f"{self.name}: expected {len(self.inputs)} rules, for {self.inputs}; got {len(rules)} "
                            "(None: no rule, and a gradient through it is an error; what is no input comes after a "
                            "/)")  # fmt: skip
        self.rules, self.needs = rules, [needs_of(self, x, rule) for x, rule in zip(self.inputs, rules)]
        self.kept = [*dict.fromkeys(itertools.chain(*self.needs))]  # what the rules ask for, each thing once
        self.kept_inputs = [x in self.kept for x in self.inputs]
        self.keep, self.pull, self.lift = [self._when_used(make) for make in (make_keep, make_pull, make_lift)]
        return self.call

    def count(self, arguments: Sequence) -> int:
        """How many of these are differentiable inputs: they come first."""
        return len(arguments) if self.variadic else len(self.inputs)

    def _when_used(self, make: Callable) -> Callable:
        """A function that makes itself when it is first called: importing the package takes no time for it."""

        def first(*arguments: Any, **keywords: Any) -> Any:
            function = make(self)
            setattr(self, make.__name__.removeprefix("make_"), function)
            return function(*arguments, **keywords)

        return first


def primitive(
    function: Callable | None = None,
    *,
    several: bool = False,
    kind: str | None = None,
    ufunc: np.ufunc | None = None,
) -> Any:
    """Make a function of arrays a primitive: an operation that is recorded. Give it its rules with ``.vjp(...)``.

    Its differentiable inputs are its positional-only parameters (``def f(x, /, axes)``); where it has none, those
    without a default; ``*arrays`` where there are any number. See :class:`~tinygrad_rnn.Primitive` for what a rule may
    ask for. Rules are written with the package's own operations, and run on bare arrays as well as on tensors: so every
    order of derivative, and every backend, comes with the first.

    Parameters
    ----------
    function : callable, optional
        A function of arrays, and of what else there is. The only input of a primitive always comes as an array; of
        several, some may be numbers or lists. Without it, a decorator is returned.
    several : bool, optional
        Whether it returns a tuple of arrays.
    kind : str, optional
        What it does, for those who look at a tape without knowing the operations. ``"elementwise"``: an element of the
        result is made of those at its place in the inputs, which broadcast. ``"view"``: the same elements in another
        shape or order, for which NumPy needs no copy as a rule. ``"reduction"``: elements become one, over axes.
        ``"product"``: of matrices. None: none of these.
    ufunc : numpy.ufunc, optional
        NumPy's ufunc that does it, element by element: called in place of the function.

    Returns
    -------
    callable
        The operation, with the name and the documentation of the function; its :class:`~tinygrad_rnn.Primitive` is
        ``.op``.

    Raises
    ------
    TypeError
        The arguments of the function do not say which are its inputs, or have a name that rules ask for something else
        by; or there is no such kind.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> @tg.primitive
    ... def cube(x):
    ...     return x * x * x
    >>> cube = cube.vjp(lambda g, x: 3 * g * x * x)
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    tensor([ 3., 12.])
    >>> tg.check_gradients(cube, x, order=3)
    """
    if function is None:
        return functools.partial(primitive, several=several, kind=kind, ufunc=ufunc)
    op = Primitive(function, several, kind, ufunc)
    call = functools.update_wrapper(op.call, function)
    call.op, call.vjp = op, op.vjp
    return call


def any_inputs(op: Primitive) -> Callable:
    """What users call: the plain form, for any inputs."""

    def call(*inputs: Any, **keywords: Any) -> Any:
        if (mode := _mode.get()) is not None:
            return finish(mode, op, inputs, keywords)
        return record(op, inputs, keywords)

    return call


def one_input(op: Primitive) -> Callable:
    """any_inputs, written out for one, and whatever else the forward takes: for speed alone."""
    forward, get_mode, noted = op.forward, _mode.get, note_several if op.several else note
    alone = len(op.signature.parameters) == 1

    def call(x: Any, /, *rest: Any, **keywords: Any) -> Any:
        if alone and (rest or keywords):  # a ufunc would take them: an array to write into, a mask
            raise TypeError(f"{op.name}: takes {op.inputs[0]} alone, got also {[*map(described, rest), *keywords]}")
        if (mode := get_mode()) is not None:
            return finish(mode, op, (x, *rest), keywords)
        of_x = isinstance(x, Tensor)
        array, node = (x._data, x.node) if of_x else (x, None)
        if rest or keywords:
            rest, keywords = settled(op, rest, keywords, node is not None)
        try:
            out = forward(array if of_x else as_array(array), *rest, **keywords)
        except Exception as error:
            explain(error, op, (x, *rest), keywords)
        if node is None:
            return constant(out, op) if of_x else out
        parents = (node,)
        return noted(out, op, parents, op.keep(parents, out, array, *rest, **keywords))

    return call


def two_inputs(op: Primitive) -> Callable:
    """any_inputs, written out for two."""
    forward, get_mode = op.forward, _mode.get

    def call(a: Any, b: Any, /) -> Any:
        if (mode := get_mode()) is not None:
            return finish(mode, op, (a, b), {})
        x, p, y, q = a, None, b, None
        if of_a := isinstance(a, Tensor):
            x, p = a._data, a.node
        if of_b := isinstance(b, Tensor):
            y, q = b._data, b.node
        try:
            if of_a is not of_b:  # a tensor beside something else
                x, y = (x, operand(y)) if of_a else (operand(x), y)
            out = forward(x, y)
        except Exception as error:
            explain(error, op, (a, b), {})
        if p is None and q is None:
            return constant(out, op) if of_a or of_b else out
        if of_a is not of_b and op.kept_inputs[1 if of_a else 0]:  # that is the user's: keep a copy
            x, y = (x, private(y)) if of_a else (private(x), y)
        parents = (p, q)
        return note(out, op, parents, op.keep(parents, out, x, y))

    return call


def finish(mode: Mode, op: Primitive, inputs: Sequence, keywords: dict) -> Any:
    """The rest of a call in a mode: where nothing is recorded, or somebody watches."""
    compute = record if mode.records else evaluate
    return compute(op, inputs, keywords) if mode.observer is None else mode.observer.call(compute, op, inputs, keywords)


def record(op: Primitive, inputs: Sequence, keywords: dict) -> Any:
    """Call a primitive, and note an entry for it if one of its inputs wants a gradient."""
    n = op.count(inputs)
    parents = tuple([x.node if isinstance(x, Tensor) else None for x in inputs[:n]])
    wanted = any(parents)
    rest, keywords = settled(op, inputs[n:], keywords, wanted)
    out = evaluate(op, (*inputs[:n], *rest), keywords)
    if not wanted:
        return out
    out = tuple([x._data for x in out]) if op.several else out._data
    kept_inputs = op.kept_inputs * n if op.variadic else op.kept_inputs
    arrays = [x._data if isinstance(x, Tensor) else private(x) if k else x for x, k in zip(inputs, kept_inputs)]
    kept = op.keep(parents, out, *arrays, *rest, **keywords)
    return (note_several if op.several else note)(out, op, parents, kept)


def evaluate(op: Primitive, inputs: Sequence, keywords: dict) -> Any:
    """Call a primitive and note nothing: arrays for arrays, constants for tensors."""
    n, tensors = op.count(inputs), any(isinstance(x, Tensor) for x in (*inputs, *keywords.values()))
    rest, settled_keywords = settled(op, inputs[n:], keywords, None)
    try:
        arrays: Any = inputs[:n]
        if tensors:
            arrays = [x._data if isinstance(x, Tensor) else operand(x) for x in arrays]
        elif n == 1:
            arrays = map(as_array, arrays)
        out = op.forward(*arrays, *rest, **settled_keywords)
    except Exception as error:
        explain(error, op, inputs, keywords)
    return constant(out, op) if tensors else out


def settled(op: Primitive, values: Sequence, keywords: dict, wanted: bool | None) -> tuple[Sequence, dict]:
    """Arguments for which there is no rule, as arrays: copies, if a gradient is wanted, as the tape may keep them.

    A tensor that requires a gradient is refused among them; unless nothing is recorded (wanted is None).
    """
    ready = _PLAIN if wanted else _PLAIN_OR_ARRAY
    for value in (*values, *keywords.values()) if keywords else values:
        if (kind := type(value)) not in ready and not (kind is tuple and ready.issuperset(map(type, value))):
            break
    else:
        return values, keywords

    return (
        tuple([settled_value(op, value, wanted) for value in values]),
        {name: settled_value(op, value, wanted) for name, value in keywords.items()},
    )


def settled_value(op: Primitive, value: Any, wanted: bool | None) -> Any:
    if isinstance(value, Tensor):
        if value.node is not None and wanted is not None:
            inputs = ", ".join(op.inputs)
            raise TypeError(f"{op.name}: {described(value)} requires a gradient, and only {inputs} can have one; use "
                            "x.detach() for a constant (and give inputs by position)")  # fmt: skip
        return value._data
    if type(value) in (tuple, list):
        return type(value)([settled_value(op, v, wanted) for v in value])
    if not is_array(value):
        return value
    try:
        value = operand(value)
    except TypeError as error:
        raise TypeError(f"{op.name}: {error}") from None
    return private(value) if wanted else value


_PLAIN = {int, float, bool, str, type(None), slice, type(...)}
_PLAIN_OR_ARRAY = {*_PLAIN, np.ndarray}


def note(out: Any, op: Primitive, parents: tuple, kept: tuple) -> Tensor:
    """Note an entry on the tape. What is no floating-point number has no gradient, so no entry either."""
    try:
        shape, dtype = out.shape, out.dtype
    except AttributeError:
        return constant(out, op)
    if dtype is not FLOAT32 and dtype is not FLOAT64 and not has_gradient(dtype):
        return constant(out, op)
    return Tensor(out if shape else to_array(out), Node(op, parents, kept, shape, dtype))


def note_several(outs: tuple, op: Primitive, parents: tuple, kept: tuple) -> tuple[Tensor, ...]:
    """Note an entry for all outputs, and one after it for each."""
    if not isinstance(outs, tuple):
        return constant(outs, op)
    shapes, dtypes = [out.shape for out in outs], [out.dtype for out in outs]
    source = (Node(op, parents, kept, shapes, dtypes),)
    nodes = [
        Output(op, source, i, shape, dtype) if dtype is FLOAT32 or dtype is FLOAT64 or has_gradient(dtype) else None
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes))
    ]
    return tuple([Tensor(to_array(out), node) for out, node in zip(outs, nodes)])


def constant(out: Any, op: Primitive) -> Any:
    """A result that needs no entry."""
    if op.several and isinstance(out, tuple):
        return tuple([Tensor(to_array(o)) for o in out])
    if op.several or not is_array(out):
        expected = "a tuple of arrays" if op.several else "an array"
        raise TypeError(f"{op.name}: its forward must return {expected}, got {type(out).__name__}")
    return Tensor(to_array(out))
