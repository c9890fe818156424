"""Functions made of functions: gradients, products with Jacobians and Hessians, the matrices themselves.

They take a function of tensors, and return its derivative as a function of tensors: so they nest, to any order.
Arguments may be tensors, arrays or numbers, in nested tuples, lists and dicts; gradients come back in the same nesting.

How they nest. A transform calls the function with tensors of its own, each a new entry on the tape: so two transforms
never take each other's variable for their own (no perturbation confusion). The parent of such an entry is that of the
tensor that was given, so a transform outside sees through it. And a result is recorded only if somebody outside could
differentiate it: because an argument requires a gradient, or a tensor that the function uses without being given it
(a module's weight, the variable of an outer transform). That costs more: where it is not wanted, call inside
``no_grad()``. Otherwise nothing is recorded but the function itself, and the tape is freed as it is walked.

There is no forward mode: :func:`~tinygrad_rnn.jvp` is made of two vjps.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from . import trees
from .arrays import device_of, has_gradient, is_array
from .errors import described
from .modes import Observer, enable_grad, is_observed, is_recording, switched
from .ops import astype, positive, stack
from .tape import Node, gradients, reached
from .tensor import Tensor, bare, tensor
from .trees import flatten, paths


def grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The gradient of f, a function that returns a single number, as a function of the same arguments.

    Parameters
    ----------
    f : callable
        Returns one number (a tensor with one element). Where it does not depend on an argument, the gradient is 0.
    argnums : int or tuple of int, optional
        Which argument to differentiate by (floating-point numbers, nested if you like), or several, in a tuple: then a
        tuple of gradients is returned. All other arguments, and keywords, are passed on as they are.

    Returns
    -------
    callable
        A function that returns the gradient, nested as the argument is. It can be differentiated again.

    Raises
    ------
    TypeError
        When it is called: an argument is of other numbers, there is no such argument, or f returned no tensor.
    ValueError
        When it is called: f returned more than a single number.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.grad(tg.tanh)(0.0)
    tensor(1.)
    >>> tg.grad(tg.grad(lambda x: x**3))(2.0)
    tensor(12.)
    >>> tg.grad(lambda p: (p["W"] @ p["x"]).sum())({"W": np.ones((2, 2)), "x": np.array([3.0, 4.0])})["W"]
    tensor([[3., 4.],
            [3., 4.]])
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f, updated=())
    def gradient(*args: Any, **keywords: Any) -> Any:
        return both(*args, **keywords)[1]

    return gradient


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """What f returns, and its gradient, as :func:`~tinygrad_rnn.grad` has it, for the cost of one.

    Parameters
    ----------
    f : callable
        Returns one number; with has_aux, a pair.
    argnums : int or tuple of int, optional
        Which argument to differentiate by, or several, as in :func:`~tinygrad_rnn.grad`.
    has_aux : bool, optional
        Whether f returns a pair, the number and anything else. The first result is such a pair, too.

    Returns
    -------
    callable
        A function that returns a pair: what f returns, and the gradient.

    Raises
    ------
    TypeError
        When it is called: as of :func:`~tinygrad_rnn.grad`; or, with has_aux, f returned no pair.
    ValueError
        When it is called: f returned more than a single number.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    (tensor(5.), tensor([2., 4.]))
    >>> (y, steps), dx = tg.value_and_grad(lambda x: (x * x, ["squared"]), has_aux=True)(3.0)
    """

    @functools.wraps(f, updated=())
    def both(*args: Any, **keywords: Any) -> tuple:
        call = Call(f, args, keywords, argnums)
        if has_aux and not (isinstance(call.returned, tuple) and len(call.returned) == 2):
            raise TypeError(f"{call.name} returned {described(call.returned)}: with has_aux, a pair is expected")
        y, aux = call.returned if has_aux else (call.returned, None)
        y = returned(y, call.name)
        if y.size != 1:
            raise ValueError(f"{call.name} returned {described(y)}, and only a single number has a gradient: "
                             "sum it, or use vjp or jacobian")  # fmt: skip
        gs = pulled(y, None, call.inputs, call.outside, retain_graph=call.outside)
        y = call.released(y)
        return (y, trees.map(call.released, aux)) if has_aux else y, call.as_arguments(gs)

    return both


def vjp(f: Callable, *xs: Any) -> tuple[Any, Callable]:
    """What ``f(*xs)`` returns, and a function that pulls a cotangent back: the vector-Jacobian product.

    Parameters
    ----------
    f : callable
        Returns tensors, nested if you like.
    *xs : Tensor, array, number, or a nest of them
        Its arguments: floating-point numbers.

    Returns
    -------
    ys : Tensor, or a nest of them
        What f returns.
    pull : callable
        Takes a cotangent, nested as ys, and returns a tuple: a gradient for each of xs. It may be called any number of
        times; the tape lives as long as it does.

    Raises
    ------
    TypeError
        An argument is of other numbers, or f returned no tensor.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> y, pull = tg.vjp(lambda W, x: W @ x, np.eye(2), np.array([3.0, 4.0]))
    >>> pull(np.array([1.0, 0.0]))
    (tensor([[3., 4.],
            [0., 0.]]), tensor([1., 0.]))
    """
    call = Call(f, xs, {}, range(len(xs)))
    ys = call.tensors()

    def pull(g: Any) -> tuple:
        gs = alike(ys, g, "g")
        recorded = is_recording() and (call.outside or any(g.node is not None for g in gs))
        return call.as_arguments(pulled(inner(flatten(ys)[0], gs), None, call.inputs, recorded))

    return trees.map(call.released, ys), pull


def jvp(f: Callable, xs: Any, vs: Any) -> tuple[Any, Any]:
    """What ``f(*xs)`` returns, and how fast that changes as xs move along vs: the Jacobian-vector product.

    The vjp is linear in its cotangent, so its own vjp is the product with the Jacobian. It costs about as much as five
    gradients.

    Parameters
    ----------
    f : callable
        Returns tensors, nested if you like.
    xs : tuple of arguments, or the only one
        What f is called with: floating-point numbers, nested if you like.
    vs : tuple of arguments, or the only one
        A direction for each of xs, like it.

    Returns
    -------
    ys : Tensor, or a nest of them
        What f returns.
    tangents : Tensor, or a nest of them
        Its derivative along vs, like ys.

    Raises
    ------
    TypeError
        An argument is of other numbers, or f returned no tensor.
    ValueError
        The directions are not like the arguments.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (tensor(6.), tensor(3.))
    """
    xs, vs = as_tuple(xs), as_tuple(vs)
    call = Call(f, xs, {}, range(len(xs)))
    vs = alike(call.as_arguments(call.inputs), vs, "vs")
    ys, rebuild = flatten(call.tensors())
    kinds = [y.dtype if has_gradient(y.dtype) else float for y in ys]
    us = [variable(np.zeros_like(y._data, dtype=kind), "") for y, kind in zip(ys, kinds)]  # any cotangent would do
    gs = pulled(inner(ys, us), None, call.inputs, create_graph=True)
    recorded = call.outside or (is_recording() and any(v.node is not None for v in vs))
    tangents = pulled(inner(gs, vs), None, us, recorded)
    return rebuild([call.released(y) for y in ys]), rebuild(tangents)


def jacobian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The matrix of first derivatives of f, as a function of its arguments: the shape is that of f(x), then that of x.

    It costs a walk for each number that f returns.

    Parameters
    ----------
    f : callable
        Returns tensors, nested if you like: then each leaf is replaced by its Jacobian, or by its Jacobians, nested as
        the argument.
    argnums : int or tuple of int, optional
        Which argument to differentiate by, or several, as in :func:`~tinygrad_rnn.grad`.

    Returns
    -------
    callable
        A function that returns the matrix. It can be differentiated again.

    Raises
    ------
    TypeError
        When it is called: an argument is of other numbers, there is no such argument, or f returned no tensor.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.jacobian(lambda x: x * x)(np.array([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(f, updated=())
    def matrix(*args: Any, **keywords: Any) -> Any:
        call = Call(f, args, keywords, argnums)

        def row(y: Tensor, i: int) -> list[Tensor]:
            g = np.zeros_like(y._data, order="C")
            g.reshape(-1)[i] = 1
            return pulled(y, g, call.inputs, call.outside)

        def rows(y: Tensor) -> Any:
            columns = zip(*[row(y, i) for i in range(y.size)]) if y.size else [()] * len(call.inputs)
            return call.as_arguments([
                stack(gs).reshape(y.shape + x.shape) if gs else zeros_like(x, y.shape + x.shape)
                for gs, x in zip(columns, call.inputs)
            ])  # fmt: skip

        return trees.map(rows, call.tensors())

    return matrix


def hessian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The matrix of second derivatives of f, which returns a single number: the shape is that of x, twice.

    Parameters
    ----------
    f : callable
        Returns one number.
    argnums : int or tuple of int, optional
        Which argument to differentiate by, or several, as in :func:`~tinygrad_rnn.grad`.

    Returns
    -------
    callable
        A function that returns the matrix.

    Raises
    ------
    TypeError
        When it is called: as of :func:`~tinygrad_rnn.grad`.
    ValueError
        When it is called: f returned more than a single number.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.hessian(lambda x: x[0] * x[0] * x[1])(np.array([1.0, 2.0]))
    tensor([[4., 2.],
            [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable, xs: Any, vs: Any) -> Any:
    """The Hessian of f, which returns a single number, times vs: the matrix is never made.

    The Hessian is symmetric: so this is the vjp of the gradient.

    Parameters
    ----------
    f : callable
        Returns one number.
    xs : tuple of arguments, or the only one
        What f is called with: floating-point numbers, nested if you like.
    vs : tuple of arguments, or the only one
        A direction for each of xs, like it.

    Returns
    -------
    Tensor, or a nest of them
        The product, nested as xs.

    Raises
    ------
    TypeError
        An argument is of other numbers, or f returned no tensor.
    ValueError
        f returned more than a single number, or the directions are not like the arguments.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([1.0, 0.5]))
    tensor([6., 6.])
    """
    arguments = as_tuple(xs)
    _, pull = vjp(grad(f, range(len(arguments))), *arguments)
    products = pull(as_tuple(vs))
    return products if arguments is xs else products[0]


# What they are made of -----------------------------------------------------------------------------------------------


class Call:
    """One call of f, with tensors of our own in place of the arguments that it is differentiated by.

    ``inputs`` are our tensors, one for each leaf of those arguments, and ``returned`` is what f returned. ``outside``:
    whether there are entries on its tape that are not ours, so that somebody else may differentiate it.
    """

    def __init__(self, f: Callable, args: tuple, keywords: dict, argnums: int | Sequence[int]):
        self.name = getattr(f, "__name__", type(f).__name__)
        argnums = operator.index(argnums) if hasattr(argnums, "__index__") else tuple(argnums)
        n, chosen = len(args), (argnums,) if isinstance(argnums, int) else argnums
        if len({i % n for i in chosen if -n <= i < n}) < len(chosen):
            raise TypeError(f"{self.name}: argnums={argnums}: expected places among its {n} positional arguments")
        leaves, rebuild = flatten([args[i] for i in chosen])
        names = [path for i in chosen for path in paths(args[i], f"{self.name}: argument {i}")]
        self.inputs = [variable(x, name) for x, name in zip(leaves, names)]
        self.as_arguments = lambda values: rebuild(values)[0] if isinstance(argnums, int) else tuple(rebuild(values))
        args = list(args)
        for i, tree in zip(chosen, rebuild(self.inputs)):
            args[i] = tree
        with recording():
            self.returned = f(*args, **keywords)
        self.outside = is_recording() and self._leads_outside()

    def _leads_outside(self) -> bool:
        own = {x.node for x in self.inputs}
        first = min([node.position for node in own], default=0)  # what is older is not ours, and need not be entered
        roots = [y.node for y in flatten(self.returned)[0] if isinstance(y, Tensor) and y.node is not None]
        *entries, _ = reached(Node(None, tuple(roots), (), None, None), since=first - 1)
        return any(node not in own and (node.position < first or node.op is None) for node in entries)

    def tensors(self) -> Any:
        """What f returned, as tensors all through."""
        leaves, rebuild = flatten(self.returned)
        return rebuild([returned(y, self.name) for y in leaves or [self.returned]])

    def released(self, y: Any) -> Any:
        """What the caller gets of a leaf of ``returned``: on the tape only if that leads outside."""
        return y if self.outside or not isinstance(y, Tensor) else y.detach()


def returned(y: Any, name: str) -> Tensor:
    """What a function returned, if it is a tensor. A number may be a constant, or have lost its gradient."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: returned {described(y)}, which is no tensor: no gradient flows through float(x), "
                        "math.sin(x) and the like; for a constant return tg.tensor(...)")  # fmt: skip
    return y


def variable(x: Any, name: str) -> Tensor:
    """A tensor of our own with the values of x: a new entry above that of x, or a leaf."""
    x = as_tensor(x, name)
    if not has_gradient(x.dtype):
        raise TypeError(f"{name}: expected floating-point numbers, got {described(x)}: convert it, or see argnums")
    if x.node is not None and is_recording():
        return positive(x)
    x = x.detach()
    x.requires_grad = True
    return x


def inner(ys: list[Tensor], gs: list[Tensor]) -> Tensor:
    """The inner product of results and cotangents: its gradient is the cotangents, pulled back. Its value is unused."""
    with recording(), unwatched(), np.errstate(all="ignore"):
        terms = [(y * g).sum() for y, g in zip(ys, gs) if y.node is not None]
        return functools.reduce(operator.add, terms) if terms else Tensor(np.zeros(()))


def pulled(y: Tensor, g: Any, inputs: list[Tensor], create_graph: bool, retain_graph: bool = True) -> list[Tensor]:
    """The gradients of y by inputs: zeros, where it does not depend on them."""
    if y.node is None:
        return [zeros_like(x, x.shape) for x in inputs]
    return gradients(y, inputs, g, create_graph=create_graph, retain_graph=retain_graph)


def zeros_like(x: Tensor, shape: tuple) -> Tensor:
    return Tensor(np.zeros_like(x._data, shape=shape))


def recording() -> AbstractContextManager:
    """Record in this block. (Where that is so already, no mode is needed, and calls are faster.)"""
    return nullcontext() if is_recording() else enable_grad()


def unwatched() -> AbstractContextManager:
    """Anomaly mode has nothing to say of numbers that nobody uses."""
    return switched(observer=Observer()) if is_observed() else nullcontext()


def as_tuple(xs: Any) -> tuple:
    """Several arguments come in a tuple; what is none is the only argument."""
    return xs if type(xs) is tuple else (xs,)


def as_tensor(x: Any, name: str) -> Tensor:
    if not isinstance(x, (Tensor, int, float)) and not is_array(x):
        raise TypeError(f"{name}: expected a tensor, an array or a number, got {described(x)}")
    return x if isinstance(x, Tensor) else tensor(x)


def alike(tree: Any, given: Any, name: str) -> list[Tensor]:
    """The leaves of what was given, as tensors like those of tree."""
    ys, gs = flatten(tree)[0], []
    trees.map(lambda _, g: gs.append(g), tree, given, name=name)
    return [one_alike(y, g, path) for y, g, path in zip(ys, gs, paths(tree, name))]


def one_alike(y: Tensor, g: Any, name: str) -> Tensor:
    if isinstance(g, (int, float)) and y.ndim == 0:
        g = np.full_like(y._data, g)
    data = bare(g)
    like = is_array(data) and (data.shape, device_of(data)) == (y.shape, y.device)
    if not like or not np.can_cast(data.dtype, y.dtype, "same_kind"):
        raise ValueError(f"{name}: expected {described(y)}, got {described(g)}")
    g = as_tensor(g, name)
    return g if g.dtype == y.dtype else astype(g, y.dtype)
