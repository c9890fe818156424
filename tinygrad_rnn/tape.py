"""Reverse-mode differentiation: a tape of entries, and the one loop that walks it back.

Computing with tensors leaves entries on a tape (a Wengert list), one for each operation. The gradient of a result comes
from walking the entries that it was made from, last to first: each operation has a rule that turns the gradient of its
output into the gradients of its inputs. A recurrent network leaves a longer tape, and nothing else is different: this
walk *is* back-propagation through time.

The file reads top-down: what an entry is, how a call becomes one (recording), how the entries are walked back. It
knows no operation: those are in ``ops/``, each with its rule beside it. What a tensor can do is in ``tensor.py``; when
nothing is recorded, in ``modes.py``; how a tape is printed, in ``show.py``.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from .arrays import device_of, has_gradient, is_array, operand, private, to_array
from .errors import described, explain
from .modes import Mode, _mode, enable_grad, is_recording
from .rules import make_keep, make_lift, make_pull, needs_of
from .tensor import Tensor

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

_next_position = itertools.count().__next__  # creation order is a topological order


class Node:
    """One entry of the tape: the primitive, the entries of its inputs, and the values that its rules asked to keep.

    A parent is None where an input wants no gradient; shape and dtype are the output's. An entry without parents is a
    leaf, or has been walked and freed. An entry never holds a tensor, so it never holds its own output: no reference
    is cyclic, and everything is freed as soon as nobody looks at it.
    """

    __slots__ = ("position", "op", "parents", "kept", "shape", "dtype", "__weakref__")

    def __init__(self, op: Primitive | None, parents: tuple, kept: Any, shape: Any, dtype: Any):
        self.position = _next_position()
        self.op = op
        self.parents = parents
        self.kept = kept
        self.shape = shape
        self.dtype = dtype


class Leaf(Node):
    """Where gradients end up: the entry of a tensor that was made with ``requires_grad=True``."""

    __slots__ = ("grad",)

    def __init__(self, shape: tuple, dtype: Any):
        super().__init__(None, (), (), shape, dtype)
        self.grad: Tensor | None = None


class Output(Node):
    """One of several outputs of its parent: what is kept is which one. The parent's shape and dtype are lists."""

    __slots__ = ()


# Recording -----------------------------------------------------------------------------------------------------------


class Primitive:
    """A function of arrays, with one vjp rule (vector-Jacobian product) for each differentiable input.

    The first argument of a rule is ``g``, the gradient of the output (a tuple, where there are several outputs). The
    others are named after what the rule needs: ``out``, ``in_shape``, or any argument of the forward function. What no
    rule names, the tape does not keep. A variadic primitive (``*arrays``) has one joint rule, which returns the
    gradients of all its inputs and may ask for ``in_shapes``.

    ``declared`` is what a primitive says of itself to whom it may concern, such as ``ufunc=np.tanh``.
    """

    def __init__(self, forward: Callable, name: str, signature: inspect.Signature, several: bool, declared: dict):
        parameters = signature.parameters.values()
        self.forward, self.name, self.signature = forward, name, signature
        self.several, self.declared = several, declared
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)] or [
            p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty
        ]
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
            raise TypeError(f"{self.name}: expected {len(self.inputs)} rules, for {self.inputs}; got {len(rules)}")
        self.rules, self.needs = rules, [needs_of(self, x, rule) for x, rule in zip(self.inputs, rules)]
        self.kept = [*dict.fromkeys(itertools.chain(*self.needs))]  # what the rules ask for, each thing once
        self.kept_inputs = [x in self.kept for x in self.inputs]
        self.keep, self.pull, self.lift = [self._when_used(make) for make in (make_keep, make_pull, make_lift)]
        return self.call

    def _when_used(self, make: Callable) -> Callable:
        """A function that makes itself when it is first called: importing the package takes no time for it."""

        def first(*arguments: Any, **keywords: Any) -> Any:
            function = make(self)
            setattr(self, make.__name__.removeprefix("make_"), function)
            return function(*arguments, **keywords)

        return first


def primitive(forward: Callable | None = None, *, several: bool = False, **declared: Any) -> Any:
    """Make a function of arrays a primitive: an operation that is recorded. Give it its rules with ``.vjp(...)``.

    Its differentiable inputs are its positional-only parameters (``def f(x, /, axes)``); where it has none, those
    without a default; ``*arrays`` where there are any number. ``several=True``: the function returns a tuple of arrays.
    See :class:`Primitive` for what a rule may ask for. Rules are written with the package's own operations, and run on
    bare arrays as well as on tensors: so every order of derivative, and every backend, comes with the first.

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
    if forward is None:
        return functools.partial(primitive, several=several, **declared)
    op = Primitive(declared.get("ufunc", forward), forward.__name__, inspect.signature(forward), several, declared)
    call = functools.update_wrapper(op.call, forward)
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
        array, node = (x._data, x.node) if isinstance(x, Tensor) else (x, None)
        if rest or keywords:
            rest, keywords = settled(op, rest, keywords, node is not None)
        try:
            out = forward(array, *rest, **keywords)
        except Exception as error:
            explain(error, op, (x, *rest), keywords)
        if node is None:
            return out if array is x else constant(out, op)
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
    n = len(inputs) if op.variadic else len(op.inputs)
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
    tensors = any(isinstance(x, Tensor) for x in (*inputs, *keywords.values()))
    arrays, keywords = settled(op, inputs, keywords, None)
    try:
        out = op.forward(*arrays, **keywords)
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
    return private(value) if wanted and is_array(value) else value


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


# Walking -------------------------------------------------------------------------------------------------------------


def backward(output: Tensor, g: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Add the gradient of output to the ``.grad`` of every leaf that it depends on.

    Threads that share leaves must take turns; :func:`gradients` writes nowhere.

    Args:
        output: a tensor; of one element, unless g is given.
        g: the gradient of the final result with regard to output, of its shape; 1 by default.
        create_graph: record the walk itself, so that the gradients can be differentiated. Then a leaf holds its
            gradient, that the tape, and that the leaf: a cycle, until ``x.grad = None``. (`gradients` makes none.)
        retain_graph: keep the entries for another walk; by default they are freed, unless create_graph is set.

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """
    g = seed(output, g, create_graph)
    found, owned = walk(output.node, reached(output.node), g, None, create_graph, retain_graph)
    for leaf, g in found.items():
        g = given(g, leaf in owned)
        if leaf.grad is not None and create_graph:
            with enable_grad():  # in a no_grad block, too: the walk was recorded
                g = leaf.grad + g
        elif leaf.grad is not None:
            g = Tensor(to_array(leaf.grad._data + g._data))
        leaf.grad = g


def gradients(
    output: Tensor, inputs: Any, g: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None
) -> Any:
    """The gradients of output with regard to inputs. Nothing else is computed, and nothing is accumulated.

    The entries that were walked are freed, unless retain_graph or create_graph is set.

    Args:
        output: a tensor; of one element, unless g is given.
        inputs: a tensor, or a sequence of tensors (leaves, or computed ones).
        g, create_graph, retain_graph: as in :func:`backward`.

    Returns:
        A tensor for each input, in a list (or alone, as inputs is); zeros where output does not depend on the input.

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> dy, = tg.gradients(x * x * x, [x], create_graph=True)
    >>> tg.gradients(dy, x)
    tensor(18.)
    """
    alone = isinstance(inputs, Tensor)
    if not alone and not isinstance(inputs, (list, tuple)):
        raise TypeError(f"inputs: expected a tensor, or a list of them, got {described(inputs)}")
    inputs = [inputs] if alone else inputs
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or x.node is None:
            raise ValueError(f"inputs[{i}]: expected a tensor that requires a gradient, got {described(x)}")
    g, nodes = seed(output, g, create_graph), {x.node for x in inputs}
    found, owned = walk(output.node, between(nodes, output.node), g, nodes, create_graph, retain_graph)
    results = []
    for x in inputs:
        results.append(given(found[x.node], x.node in owned) if x.node in found else Tensor(np.zeros_like(x._data)))
        owned.discard(x.node)  # given away: whoever names it again gets a copy
    return results[0] if alone else results


def seed(output: Tensor, g: Any, create_graph: bool) -> Any:
    """The gradient to start from: 1, or what the caller gave, checked."""
    if not isinstance(output, Tensor) or output.node is None:
        raise ValueError(
            f"output: expected a tensor that was computed from one with requires_grad=True, got {described(output)}"
            + (" (and nothing is recorded here: this is a no_grad block)" if not is_recording() else "")
        )
    if g is None:
        if output.size != 1:
            raise ValueError(f"output: its shape is {output.shape}, and only a single number has a gradient: "
                             "sum it, or pass g, the gradient of what is made of it")  # fmt: skip
        g = np.ones_like(output._data)
    data = g._data if isinstance(g, Tensor) else g
    kind = output.shape, output.dtype, output.device
    if not is_array(data) or (data.shape, data.dtype, device_of(data)) != kind:
        raise ValueError(f"g: expected {described(output)}, like the output, got {described(g)}")
    if not create_graph:
        return data
    return g if isinstance(g, Tensor) else Tensor(private(data))


def reached(root: Node, since: int = -1) -> list[Node]:
    """The entries that root depends on, first to last, none before `since`: a loop, as a tape can be millions long."""
    seen, found = {root, None}, [root]
    for node in found:  # which grows meanwhile
        if node.position > since:
            for parent in node.parents or unfreed(node):
                if parent not in seen:
                    seen.add(parent)
                    found.append(parent)
    found.sort(key=attrgetter("position"))
    return found


def unfreed(node: Node) -> tuple:
    """The parents of an entry that has none: it must be a leaf."""
    if node.op is None:
        return ()
    raise RuntimeError(
        f"the tape was walked and freed up to {node.op.name}: to walk it twice, pass retain_graph=True the first time; "
        "where a state is carried over from an earlier walk, detach() it"
    )


def between(inputs: set[Node], root: Node) -> list[Node]:
    """The entries from inputs to root, those that a gradient has to pass, first to last."""
    found = set(inputs)
    entries = reached(root, min(node.position for node in inputs)) if inputs else []
    found.update(node for node in entries if not found.isdisjoint(node.parents))
    return [node for node in entries if node in found]


def walk(
    root: Node, entries: list[Node], g: Any, inputs: set[Node] | None, create_graph: bool, retain_graph: bool | None
) -> tuple[dict, set]:
    """Walk entries back from the last. Return the gradients of inputs (or of all leaves), and which are our own sums.

    Here the chain rule is, and the housekeeping that no rule has to think of: gradients are summed where an entry was
    used more than once, fitted to the shape and dtype of what they belong to, and entries are freed when walked.
    """
    if create_graph and not is_recording():
        with enable_grad():
            return walk(root, entries, g, inputs, create_graph, retain_graph)
    observer = mode.observer if (mode := _mode.get()) else None
    retain = create_graph if retain_graph is None else retain_graph
    useful = set(entries) if inputs is not None else set()
    grads, found, owned = {root: g}, {}, set()
    while entries:
        node = entries.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        op, parents = node.op, node.parents
        if op is None or (inputs is not None and node in inputs):
            found[node] = g
            if op is None or useful.isdisjoint(parents):
                continue
        if type(node) is Output:  # one of several: the entry of all waits until it is met
            grads.setdefault(parents[0], {})[node.kept] = g
            continue
        if inputs is not None:
            parents = tuple([parent if parent in useful else None for parent in parents])
        if op.several:
            g = filled(g, node)
        if observer is not None:
            observer.before_rule(node)
        try:
            ds = op.pull(g, parents, op.lift(node.kept, node, node.parents) if create_graph else node.kept)
            for parent, d in zip(parents, ds):
                if parent is None:
                    continue
                if d.shape != parent.shape or d.dtype is not parent.dtype:
                    d = fitted(d, parent)
                so_far = grads.get(parent)
                if so_far is None:
                    grads[parent] = d
                elif parent in owned:
                    grads[parent] += d  # our own sum: nobody else has seen it
                else:
                    grads[parent] = so_far + d
                    owned.add(parent)
        except Exception as error:
            error.add_note(f"on the way back through {op.name}, whose output is {node.dtype} {node.shape} "
                           "(a rule returns an array like its input)")  # fmt: skip
            raise
        if observer is not None:
            observer.after_rule(node, g, ds)
        if not retain:
            node.parents = node.kept = ()
    return found, owned


def filled(gs: dict, node: Node) -> tuple:
    """The gradients of several outputs in order, with zeros for those that nobody used."""
    like = next(iter(gs.values()))
    like = like._data if isinstance(like, Tensor) else like

    def zeros(i: int) -> Any:
        return np.zeros_like(like, shape=node.shape[i], dtype=node.dtype[i])

    return tuple([gs[i] if i in gs else zeros(i) for i in range(len(node.shape))])


def fitted(d: Any, parent: Node) -> Any:
    """d summed over the axes that broadcasting added, and cast: a gradient is like what it is the gradient of."""
    shape, extra = parent.shape, d.ndim - len(parent.shape)
    if d.shape != shape:
        if d.shape != (1,) * extra + shape:  # else a bias and a batch of one: nothing to sum
            if extra < 0 or any(n != m and m != 1 for n, m in zip(d.shape[extra:], shape)):
                raise ValueError(f"a rule returned a gradient of shape {d.shape} for an input of shape {shape}")
            axes = tuple([i for i, n in enumerate(d.shape) if n != 1 and (i < extra or n != shape[i - extra])])
            d = d.sum(axis=axes, keepdims=True)
        d = d.reshape(shape)
    return d if d.dtype == parent.dtype else d.astype(parent.dtype)


def given(g: Any, owned: bool) -> Tensor:
    """A gradient as a tensor of its own; copied, unless it is our own sum: others may hold the array of a rule."""
    if isinstance(g, Tensor):  # on the tape: the entry is shared
        return Tensor(g._data, g.node)
    return Tensor(to_array(g) if owned else to_array(g).copy())
