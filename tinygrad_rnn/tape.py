"""Reverse-mode differentiation: a tape of entries, and the one loop that walks it back.

Computing with tensors leaves entries on a tape (a Wengert list), one for each operation. The gradient of a result comes
from walking the entries that it was made from, last to first: each operation has a rule that turns the gradient of its
output into the gradients of its inputs. A recurrent network leaves a longer tape, and nothing else is different: this
walk *is* back-propagation through time.

This file is what the rest is built around: what an entry is, and how the entries are walked back. How a call leaves one
is in ``recording.py``; the operations, each with its rule beside it, are in ``ops/``; what a tensor can do is in
``tensor.py``. When nothing is recorded is in ``modes.py``, and how a tape is printed, in ``show.py``.
"""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import device_of, is_array, private, to_array
from .errors import described, refuse_gradients
from .modes import _mode, enable_grad, is_recording
from .tensor import Tensor, bare

if TYPE_CHECKING:
    from .recording import Primitive

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


def backward(output: Tensor, g: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> None:
    """Add the gradient of output to the ``.grad`` of every leaf that it depends on.

    Threads that share leaves must take turns; :func:`~tinygrad_rnn.gradients` writes nowhere.

    Parameters
    ----------
    output : Tensor
        What was computed: of one element, unless g is given.
    g : Tensor or array, optional
        The gradient of the final result with regard to output, of its shape and dtype; 1 by default.
    create_graph : bool, optional
        Record the walk itself, so that the gradients can be differentiated. Then a leaf holds its gradient, that the
        tape, and that the leaf: a cycle, until ``x.grad = None``; :func:`~tinygrad_rnn.gradients` makes none.
    retain_graph : bool, optional
        Keep the entries for another walk; by default they are freed, unless create_graph is set.

    Raises
    ------
    ValueError
        The output depends on no tensor with ``requires_grad=True``, or is not a single number and g is missing; or g is
        not like the output.
    RuntimeError
        The tape was walked and freed before.

    Examples
    --------
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
    """The gradients of output with regard to inputs: nothing else is computed, and nothing is accumulated.

    The entries that were walked are freed, unless retain_graph or create_graph is set.

    Parameters
    ----------
    output : Tensor
        What was computed: of one element, unless g is given.
    inputs : Tensor or sequence of Tensor
        Leaves, or computed ones.
    g : Tensor or array, optional
        The gradient of the final result with regard to output, of its shape and dtype; 1 by default.
    create_graph : bool, optional
        Record the walk itself, so that the gradients can be differentiated.
    retain_graph : bool, optional
        Keep the entries for another walk; by default they are freed, unless create_graph is set.

    Returns
    -------
    Tensor or list of Tensor
        A tensor for each input, in a list (or alone, as inputs is); zeros where output does not depend on the input.

    Raises
    ------
    TypeError
        The inputs are neither a tensor nor a list of them.
    ValueError
        An input requires no gradient; or as for :func:`~tinygrad_rnn.backward`.
    RuntimeError
        The tape was walked and freed before.

    Examples
    --------
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
    data = bare(g)
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
            observer.before_rule(node, g)
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
            if error.__traceback__.tb_next is None:  # it was raised here, in this loop: by what a rule returned
                refuse_gradients(error, op, parents, ds)
            if "read-only" in str(error):
                error.add_note("a rule must not write into g: others may hold it. Let it make a new array, as by g * 2")
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
    like = bare(next(iter(gs.values())))

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
