"""Reverse-mode differentiation: a tape of entries, and the one loop that walks it back.

Computing with tensors leaves entries on a tape (a Wengert list), one for each operation. The gradient of a result comes
from walking the entries that it was made from, last to first: each operation has a rule that turns the gradient of its
output into the gradients of its inputs. A recurrent network leaves a longer tape, and nothing else is different: this
walk *is* back-propagation through time.

The file reads top-down: what an entry is, how a call becomes one (recording), how the entries are walked back, and how
they are shown. It knows no operation: those are in ``ops/``, each with its rule beside it. What a tensor can do is in
``tensor.py``.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

import numpy as np

from .arrays import has_gradient, is_array, private, to_array
from .errors import described, explained
from .tensor import Tensor

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

_next_position = itertools.count().__next__  # creation order is a topological order
_mode: ContextVar[Mode | None] = ContextVar("mode", default=None)  # None: record, and nobody watches


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

    def __init__(self, forward: Callable, signature: inspect.Signature, several: bool, declared: dict):
        parameters = signature.parameters.values()
        self.name, self.forward, self.signature = forward.__name__, forward, signature
        self.several, self.declared = several, declared
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)] or [
            p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty
        ]
        self.rules: list[Callable | None] = [None for _ in self.inputs]
        self.needs: list[list[str]] = [[] for _ in self.inputs]  # for each rule, the names of what it asked for,
        self.keeps: list[Callable] = [lambda *_, **__: ()] * len(self.inputs)  # a function that picks just that,
        self.lifts: list[Callable] = [lambda *_: ()] * len(self.inputs)  # and one that makes tensors of it again
        self.kept_inputs = [False for _ in self.inputs]  # for each input, whether any rule asked for it
        makers = {1: one_input, 2: two_inputs if len(parameters) == 2 and not several else any_inputs}
        make = any_inputs if self.variadic else makers.get(len(self.inputs), any_inputs)
        self.call, self.pull = make(self)

    def vjp(self, *rules: Callable | None) -> Callable:
        """Register the rules, in the order of the inputs (None: not differentiable); return the function."""
        if len(rules) != len(self.inputs):
            raise TypeError(f"{self.name}: expected {len(self.inputs)} rules, for {self.inputs}; got {len(rules)}")
        for i, rule in enumerate(rules):
            self.rules[i], self.needs[i] = rule, self._needs_of(rule)
            self.keeps[i], self.lifts[i] = self._keep(self.inputs[i], self.needs[i]), self._lift(self.needs[i])
        self.kept_inputs[:] = [any(name in needs for needs in self.needs) for name in self.inputs]
        return self.call

    def _needs_of(self, rule: Callable | None) -> list[str]:
        """The names that a rule asks for. A misspelt one fails here, when the module is imported."""
        if rule is None:
            return []
        known = {*self.signature.parameters, "in_shapes" if self.variadic else "in_shape"}
        known |= set() if self.several else {"out"}
        g, *needs = inspect.signature(rule).parameters
        if g != "g" or not known.issuperset(needs):
            raise TypeError(f"{self.name}: a rule takes g and any of {sorted(known)}, not {[g, *needs]}")
        return needs

    def _keep(self, x: str, needs: list[str]) -> Callable:
        """A function of the output and the arguments that returns what a rule of input x needs: source, compiled once.

        For multiply's first rule, which asks for b: ``lambda out, a, b: (b, )``.
        """
        parameters = self.signature.parameters.values()
        arguments = ", ".join(
            [("*" if p.kind is p.VAR_POSITIONAL else "") + p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
            + ["*"] * (not self.variadic and any(p.kind is p.KEYWORD_ONLY for p in parameters))
            + [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        )
        spelt = {"in_shape": f"{x}.shape", "in_shapes": f"[x.shape for x in {x}]"}
        pick = eval(f"lambda out, {arguments}: ({''.join(spelt.get(need, need) + ', ' for need in needs)})")
        pick.__defaults__ = getattr(self.forward, "__defaults__", None)
        pick.__kwdefaults__ = getattr(self.forward, "__kwdefaults__", None)
        return pick

    def _lift(self, needs: list[str]) -> Callable:
        """A function that puts what was kept for a rule back on the tape: the output at its entry, inputs at theirs.

        For multiply's first rule: ``lambda kept, node, parents: (placed(kept[0], parents[1]), )``.
        """
        places = {"out": "node", **{x: f"parents[{i}]" for i, x in enumerate(self.inputs)}}
        places |= {self.inputs[0]: "parents"} if self.variadic else {}
        lifted = [f"placed(kept[{i}], {places[x]})" if x in places else f"kept[{i}]" for i, x in enumerate(needs)]
        return eval(f"lambda kept, node, parents: ({''.join(x + ', ' for x in lifted)})")


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
    op = Primitive(declared.get("ufunc", forward), inspect.signature(forward), several, declared)
    op.name = forward.__name__
    call = functools.update_wrapper(op.call, forward)
    call.op, call.vjp = op, op.vjp
    return call


def any_inputs(op: Primitive) -> tuple[Callable, Callable]:
    """Two functions: what users call, and the rules, run on a gradient. This is the plain form, for any inputs."""
    rules = op.rules

    def call(*inputs: Any, **keywords: Any) -> Any:
        if (mode := _mode.get()) is not None:
            return mode.call(op, inputs, keywords)
        return record(op, inputs, keywords)

    def pull(g: Any, parents: tuple, kept: Sequence) -> Sequence:
        if op.variadic:
            return rules[0](g, *kept)
        return [None if p is None else rule(g, *values) for p, rule, values in zip(parents, rules, kept)]

    return call, pull


def one_input(op: Primitive) -> tuple[Callable, Callable]:
    """any_inputs, written out for one, and whatever else the forward takes: for speed alone."""
    forward, get_mode, rules, keeps = op.forward, _mode.get, op.rules, op.keeps
    noted = note_several if op.several else note

    def call(x: Any, /, *rest: Any, **keywords: Any) -> Any:
        if (mode := get_mode()) is not None:
            return mode.call(op, (x, *rest), keywords)
        array, parent = (x._data, x.node) if isinstance(x, Tensor) else (x, None)
        if rest or keywords:
            rest, keywords = settled(op, rest, keywords, parent is not None)
        try:
            out = forward(array, *rest, **keywords)
        except Exception as error:
            raise explained(error, op, (x, *rest), keywords) from error
        if parent is None or rules[0] is None:
            return out if array is x else constant(out)
        return noted(out, op, (parent,), (keeps[0](out, array, *rest, **keywords),))

    def pull(g: Any, parents: tuple, kept: Sequence) -> Sequence:
        return (rules[0](g, *kept[0]),)

    return call, pull


def two_inputs(op: Primitive) -> tuple[Callable, Callable]:
    """any_inputs, written out for two."""
    forward, get_mode, rules, keeps, kept_inputs = op.forward, _mode.get, op.rules, op.keeps, op.kept_inputs

    def call(a: Any, b: Any, /) -> Any:
        if (mode := get_mode()) is not None:
            return mode.call(op, (a, b), {})
        x, p, y, q = a, None, b, None
        if isinstance(a, Tensor):
            x, p = a._data, a.node
        if isinstance(b, Tensor):
            y, q = b._data, b.node
        try:
            out = forward(x, y)
        except Exception as error:
            raise explained(error, op, (a, b), {}) from error
        if p is None and q is None:
            return out if x is a and y is b else constant(out)
        if x is a and kept_inputs[0]:
            x = private(x)
        if y is b and kept_inputs[1]:
            y = private(y)
        keep_p, keep_q = keeps
        kept = (None if p is None else keep_p(out, x, y), None if q is None else keep_q(out, x, y))
        return note(out, op, (p, q), kept)

    def pull(g: Any, parents: tuple, kept: Sequence) -> Sequence:
        (p, q), (p_kept, q_kept) = parents, kept
        return (None if p is None else rules[0](g, *p_kept), None if q is None else rules[1](g, *q_kept))

    return call, pull


def record(op: Primitive, inputs: Sequence, keywords: dict) -> Any:
    """Call a primitive, and note an entry for it if one of its inputs wants a gradient."""
    n = len(inputs) if op.variadic else len(op.inputs)
    nodes = [x.node if isinstance(x, Tensor) else None for x in inputs[:n]]
    wanted = any(nodes)
    rest, keywords = settled(op, inputs[n:], keywords, wanted)
    if wanted and not op.variadic and None in op.rules:
        settled(op, [x for x, rule in zip(inputs, op.rules) if rule is None], {}, wanted)
    out = evaluate(op, (*inputs[:n], *rest), keywords)
    if not wanted:
        return out
    outs = tuple([x._data for x in out]) if op.several else out._data
    kept_inputs = op.kept_inputs * n if op.variadic else op.kept_inputs
    arrays = [x._data if isinstance(x, Tensor) else private(x) if k else x for x, k in zip(inputs, kept_inputs)]
    if op.variadic:
        kept = op.keeps[0](outs, *arrays, **keywords)
    else:
        kept = tuple([p and keep(outs, *arrays, *rest, **keywords) for p, keep in zip(nodes, op.keeps)])
    return (note_several if op.several else note)(outs, op, tuple(nodes), kept)


def evaluate(op: Primitive, inputs: Sequence, keywords: dict) -> Any:
    """Call a primitive and note nothing: arrays for arrays, constants for tensors."""
    tensors = any([isinstance(x, Tensor) for x in inputs])
    arrays = [x._data if isinstance(x, Tensor) else x for x in inputs] if tensors else inputs
    try:
        out = op.forward(*arrays, **keywords)
    except Exception as error:
        raise explained(error, op, inputs, keywords) from error
    return constant(out) if tensors else out


def settled(op: Primitive, rest: Sequence, keywords: dict, keep: bool) -> tuple[Sequence, dict]:
    """The arguments that have no rule. A tensor that wants a gradient is refused; arrays are copied if we keep them."""
    if _PLAIN.issuperset(map(type, rest)) and _PLAIN.issuperset(map(type, keywords.values())):
        return rest, keywords

    def settle(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(map(settle, value)) if isinstance(value, tuple) else list(map(settle, value))
        if isinstance(value, Tensor):
            if value.node is not None:
                rules = [name for name, rule in zip(op.inputs, op.rules) if rule] or op.inputs
                raise TypeError(f"{op.name}: {described(value)} requires a gradient where there is no rule for one "
                                f"(only for {', '.join(rules)}); use x.detach() for a constant")  # fmt: skip
            return value._data
        return private(value) if keep and is_array(value) else value

    return tuple(map(settle, rest)), {name: settle(value) for name, value in keywords.items()}


_PLAIN = {int, float, bool, str, type(None), slice, type(...)}


def note(out: Any, op: Primitive, parents: tuple, kept: tuple) -> Tensor:
    """Note an entry on the tape. What is no floating-point number has no gradient, so no entry either."""
    try:
        shape, dtype = out.shape, out.dtype
    except AttributeError:
        raise TypeError(f"{op.name}: its forward must return an array, got {type(out).__name__}") from None
    if dtype is not FLOAT32 and dtype is not FLOAT64 and not has_gradient(dtype):
        return constant(out)
    return Tensor(out if shape else to_array(out), Node(op, parents, kept, shape, dtype))


def note_several(outs: tuple, op: Primitive, parents: tuple, kept: tuple) -> tuple[Tensor, ...]:
    """Note an entry for all outputs, and one after it for each."""
    shapes, dtypes = [out.shape for out in outs], [out.dtype for out in outs]
    source = (Node(op, parents, kept, shapes, dtypes),)
    return tuple([Tensor(to_array(o), Output(op, source, i, shapes[i], dtypes[i])) for i, o in enumerate(outs)])


def constant(out: Any) -> Any:
    """A result that needs no entry."""
    return tuple(map(constant, out)) if isinstance(out, tuple) else Tensor(to_array(out))


# Modes ---------------------------------------------------------------------------------------------------------------


class Observer:
    """Somebody who watches every call of a primitive, and every rule: anomaly mode, or a trace."""

    def call(self, compute: Callable, op: Primitive, inputs: tuple, keywords: dict) -> Any:
        """Finish the call; ``compute`` (record, or evaluate) would do so if nobody watched."""
        return compute(op, inputs, keywords)

    def before_rule(self, node: Node) -> None:
        """A gradient has arrived at an entry, and its rules are about to run."""

    def after_rule(self, node: Node, gradients: Sequence) -> None:
        """The rules of an entry have returned the gradients of its inputs."""


class Mode:
    """How calls of primitives are finished, in this thread or task, while it lasts."""

    def __init__(self, before: Mode | None, records: bool | None = None, observer: Observer | None = None):
        self.before = before
        self.compute = (record if records else evaluate) if records is not None else before.compute if before else record
        self.observer = observer or (before.observer if before else None)

    def call(self, op: Primitive, inputs: tuple, keywords: dict) -> Any:
        if self.observer is None:
            return self.compute(op, inputs, keywords)
        return self.observer.call(self.compute, op, inputs, keywords)


class switched:
    """A mode as a context manager, for a block, and as a decorator, for a function or a generator."""

    def __init__(self, **changes: Any):
        self.changes = changes

    def __enter__(self) -> Observer | None:
        _mode.set(Mode(_mode.get(), **self.changes))
        return self.changes.get("observer")

    def __exit__(self, *error: Any) -> None:
        mode = _mode.get()
        _mode.set(mode.before if mode else None)

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def wrapper(*args: Any, **keywords: Any) -> Iterator:
                """The mode holds while the generator runs, and not while its user does."""
                generator, resume, value = function(*args, **keywords), "send", None
                while True:
                    try:
                        with self:
                            item = getattr(generator, resume)(value)
                    except StopIteration as end:
                        return end.value
                    try:
                        resume, value = "send", (yield item)
                    except GeneratorExit:
                        with self:
                            generator.close()
                        raise
                    except BaseException as error:
                        resume, value = "throw", error

        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **keywords: Any) -> Any:
                with self:
                    return await function(*args, **keywords)

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **keywords: Any) -> Any:
                with self:
                    return function(*args, **keywords)

        return wrapper


def no_grad(function: Callable | None = None) -> Any:
    """Compute without recording, in this thread or task: a context manager, and a decorator (of generators, too).

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (x * x).requires_grad
    False
    """
    return switched(records=False) if function is None else switched(records=False)(function)


def enable_grad(function: Callable | None = None) -> Any:
    """Record again, inside a :func:`no_grad` block: a context manager, and a decorator."""
    return switched(records=True) if function is None else switched(records=True)(function)


def is_recording() -> bool:
    """Whether operations are recorded here and now."""
    mode = _mode.get()
    return mode is None or mode.compute is record


# Walking -------------------------------------------------------------------------------------------------------------


def backward(output: Tensor, g: Any = None, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Add the gradient of output to the ``.grad`` of every leaf that it depends on.

    Args:
        output: a tensor; of one element, unless g is given.
        g: the gradient of the final result with regard to output, of its shape; 1 by default.
        create_graph: record the walk itself, so that the gradients can be differentiated.
        retain_graph: keep the entries for another walk; by default they are freed, unless create_graph is set.

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """
    g = seed(output, g, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    found, owned = walk(output.node, reached(output.node), g, None, create_graph, retain)
    for leaf, g in found.items():
        g = given(g, leaf in owned)
        if leaf.grad is not None:
            g = leaf.grad + g if create_graph else Tensor(leaf.grad._data + g._data)
        leaf.grad = g


def gradients(
    output: Tensor, inputs: Any, g: Any = None, create_graph: bool = False, retain_graph: bool | None = None
) -> Any:
    """The gradients of output with regard to inputs. Nothing else is computed, and nothing is accumulated.

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
    inputs = [inputs] if alone else list(inputs)
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or x.node is None:
            raise ValueError(f"inputs[{i}]: expected a tensor that requires a gradient, got {described(x)}")
    g = seed(output, g, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    nodes = {x.node for x in inputs}
    found, owned = walk(output.node, between(nodes, output.node), g, nodes, create_graph, retain)
    results = [given(found[x.node], x.node in owned) if x.node in found else Tensor(0 * x._data) for x in inputs]
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
    if not is_array(data) or data.shape != output.shape or data.dtype != output.dtype:
        raise ValueError(f"g: expected {described(output)}, like the output, got {described(g)}")
    if not create_graph:
        return data
    return g if isinstance(g, Tensor) else Tensor(data)


def reached(root: Node, since: int = -1) -> list[Node]:
    """The entries that root depends on, first to last, none before `since`: a loop, as a tape can be millions long."""
    seen, todo = {root, None}, [root]
    while todo:
        node = todo.pop()
        if node.position > since:
            for parent in node.parents or unfreed(node):
                if parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
    seen.discard(None)
    return sorted(seen, key=attrgetter("position"))


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
    root: Node, entries: list[Node], g: Any, inputs: set[Node] | None, create_graph: bool, retain: bool
) -> tuple[dict, set]:
    """Walk entries back from the last. Return the gradients of inputs (or of all leaves), and which are our own sums.

    Here the chain rule is, and the housekeeping that no rule has to think of: gradients are summed where an entry was
    used more than once, fitted to the shape and dtype of what they belong to, and entries are freed when walked.
    """
    if create_graph and not is_recording():
        with enable_grad():
            return walk(root, entries, g, inputs, create_graph, retain)
    observer = mode.observer if (mode := _mode.get()) else None
    useful = set(entries)
    grads, found, owned = {root: g}, {}, set()
    while entries:
        node = entries.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        op, parents = node.op, node.parents
        if op is None or inputs is not None and node in inputs:
            found[node] = g
            if useful.isdisjoint(parents):
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
            ds = op.pull(g, parents, as_tensors(node) if create_graph else node.kept)
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
            error.add_note(f"on the way back through {op.name}, whose output is {node.dtype} {node.shape}")
            raise
        if observer is not None:
            observer.after_rule(node, ds)
        if not retain:
            node.parents = node.kept = ()
    return found, owned


def filled(gs: dict, node: Node) -> tuple:
    """The gradients of several outputs in order, with zeros for those that nobody used."""
    if len(gs) == len(node.shape):
        return tuple([gs[i] for i in range(len(gs))])
    like = next(iter(gs.values()))

    def zeros(shape: tuple, dtype: Any) -> Any:
        if isinstance(like, Tensor):
            return Tensor(np.zeros_like(like._data, shape=shape, dtype=dtype))
        return np.zeros_like(like, shape=shape, dtype=dtype)

    return tuple([gs[i] if i in gs else zeros(*like) for i, like in enumerate(zip(node.shape, node.dtype))])


def fitted(d: Any, parent: Node) -> Any:
    """d summed over the axes that broadcasting added, and cast: a gradient is like what it is the gradient of."""
    shape, extra = parent.shape, d.ndim - len(parent.shape)
    if d.shape != shape:
        if extra < 0 or any([n != m and m != 1 for n, m in zip(d.shape[extra:], shape)]):
            raise ValueError(f"a rule returned a gradient of shape {d.shape} for an input of shape {shape}")
        axes = tuple([i for i, n in enumerate(d.shape) if n != 1 and (i < extra or n != shape[i - extra])])
        d = (d.sum(axis=axes, keepdims=True) if axes else d).reshape(shape)
    return d if d.dtype == parent.dtype else d.astype(parent.dtype)


def as_tensors(node: Node) -> Sequence:
    """What an entry kept, as tensors on the tape again: the output at this entry, the inputs at their own."""
    op, kept, parents = node.op, node.kept, node.parents
    if op.variadic:
        return op.lifts[0](kept, node, parents)
    return [None if values is None else lift(values, node, parents) for values, lift in zip(kept, op.lifts)]


def placed(value: Any, place: Any) -> Any:
    """A kept value as a tensor, if it has a place on the tape."""
    return tuple(map(placed, value, place)) if isinstance(place, tuple) else value if place is None else Tensor(value, place)


def given(g: Any, owned: bool) -> Tensor:
    """A gradient as a tensor; copied, unless it is our own sum: a rule may have passed on an array that others hold."""
    return g if isinstance(g, Tensor) else Tensor(to_array(g) if owned else to_array(g).copy())


# Showing -------------------------------------------------------------------------------------------------------------


def tape(output: Tensor) -> Tape:
    """The tape of a tensor: the entries that it was made from, to print, to draw, or to look through.

    >>> import tinygrad_rnn as tg
    >>> a = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> b = a + a
    >>> print(tg.tape(b * b))
    %0  leaf              float64 (2,)
    %1  add(%0, %0)       float64 (2,)
    %2  multiply(%1, %1)  float64 (2,)  keeps b, a  32 B
    3 entries keep 16 B
    """
    if not isinstance(output, Tensor) or output.node is None:
        raise ValueError(f"output: expected a tensor that was recorded, got {described(output)}")
    return Tape(reached(output.node))


class Tape(Sequence):
    """The entries (:class:`Node`) that a tensor was made from, first to last."""

    def __init__(self, entries: list[Node]):
        self.entries = entries
        self.numbers = {node: i for i, node in enumerate(entries)}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: Any) -> Any:
        return self.entries[i]

    def kept(self, node: Node) -> dict[str, list]:
        """What an entry keeps: the names that its rules asked for, and their values (one for each rule)."""
        values: dict[str, list] = {}
        if node.op is not None and type(node) is not Output:
            rules = [node.kept] if node.op.variadic else node.kept
            for needs, kept in zip(node.op.needs, rules):
                for name, value in zip(needs, kept or ()):
                    values.setdefault(name, []).append(value)
        return values

    def bytes(self, *nodes: Node) -> int:
        """The bytes of the arrays that entries keep (all, by default), each counted once."""
        values = [v for node in nodes or self.entries for vs in self.kept(node).values() for v in vs]
        arrays = [a for v in values for a in (v if isinstance(v, (tuple, list)) else [v]) if is_array(a)]
        return sum({id(a): a.nbytes for a in arrays}.values())

    def _columns(self, node: Node) -> tuple[str, str, str, str]:
        several = node.op is not None and node.op.several and type(node) is not Output
        kind = f"{len(node.shape)} outputs" if several else f"{node.dtype} {node.shape}"
        keeps = f"keeps {', '.join(names)}" if (names := self.kept(node)) else ""
        size = self.bytes(node)
        return f"%{self.numbers[node]}", self._call(node), kind, f"{keeps}  {size} B" if size else keeps

    def _call(self, node: Node) -> str:
        if node.op is None:
            return "leaf"
        inputs = [f"%{self.numbers[p]}" if p is not None else "_" for p in node.parents]
        return f"{inputs[0]}[{node.kept}]" if type(node) is Output else f"{node.op.name}({', '.join(inputs)})"

    def __str__(self) -> str:
        """One line an entry; of a long tape, the first and the last."""
        ends = self.entries if len(self) <= 60 else self.entries[:30] + self.entries[-30:]
        rows = [self._columns(node) for node in ends]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[3]]).rstrip() for row in rows]
        if len(ends) < len(self):
            lines.insert(30, f"... {len(self) - 60} more")
        return "\n".join([*lines, f"{len(self)} entries keep {self.bytes()} B"])

    __repr__ = __str__

    def to_dot(self) -> str:
        """The tape as a graph in Graphviz' language: ``dot -Tsvg``."""
        lines = ["digraph tape {", "  rankdir=BT; node [shape=box, fontname=monospace];"]
        for node in self.entries:
            number, call, kind, keeps = self._columns(node)
            label = "\\n".join(filter(None, [f"{number} {call.split('(')[0]}", kind, keeps]))
            lines.append(f'  n{number[1:]} [label="{label}"{", style=filled" if node.op is None else ""}];')
            lines += [f"  n{self.numbers[p]} -> n{number[1:]};" for p in node.parents if p is not None]
        return "\n".join([*lines, "}"])
