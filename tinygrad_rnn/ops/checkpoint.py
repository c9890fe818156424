"""Time for memory: a part of the tape that is not kept, but computed again when it is walked.

What a function leaves on the tape is dropped, and its inputs kept instead. Its rule runs the function once more and
walks the tape of that. So a long computation, cut into parts, needs the tape of one part at a time (Chen et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..arrays import has_gradient, is_array, private
from ..errors import described
from ..modes import is_recording, no_grad
from ..recording import primitive
from ..tape import Node, reached
from ..tensor import Tensor, bare
from ..transforms import inner, pulled, recording, variable
from ..trees import flatten

__all__ = ["checkpoint"]


def checkpoint(
    function: Callable,
    *inputs: Any,
    parameters: Iterable[Tensor] = (),
    generators: Iterable[np.random.Generator] = (),
) -> Any:
    """Compute ``function(*inputs)``, and keep nothing but the inputs: what else a gradient needs is computed again.

    Values and gradients, of every order, are those of a plain call. Checkpoints may be nested.

    Parameters
    ----------
    function : callable
        Returns a tensor, or tensors in tuples, lists and dicts (whatever else is among them is passed on). It must
        compute the same when it is run again, so it should change nothing, and depend on nothing else.
    *inputs : Tensor, a nest of them, or anything else
        What it is called with.
    parameters : iterable of Tensor, optional
        The leaves that it uses without being passed them, such as ``module.parameters()``. They must have the same
        values when the tape is walked: an optimiser steps after the backward pass.
    generators : iterable of numpy.random.Generator, optional
        Those that it draws random numbers from. Each draws the same again, and is then put back.

    Returns
    -------
    Tensor, or a nest of them
        What the function returns.

    Raises
    ------
    TypeError
        One of the parameters is no leaf.
    RuntimeError
        On the way back: a parameter was changed meanwhile; the function uses a tensor that requires a gradient, and is
        neither an input nor a parameter; or it did not return the same again.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = checkpoint(lambda x: np.exp(np.sin(x) ** 2), x)
    >>> len(tg.tape(y)), tg.gradients(y.sum(), x)
    (3, tensor([ 1.84594323, -1.73008207]))
    """
    parameters, generators, name = leaves(parameters), [*generators], getattr(function, "__name__", "function")
    held, rebuild = flatten(inputs)
    wanted = [i for i, x in enumerate(held) if isinstance(x, Tensor) and x.requires_grad]
    trained = [p for p in parameters if p.requires_grad]
    if not is_recording() or not (wanted or trained):
        return function(*inputs)
    tensors = [*[held[i] for i in wanted], *trained]
    held = [None if i in wanted else constant(x) for i, x in enumerate(held)]
    form: tuple = ()

    def compute(*tensors: Tensor) -> list[Tensor]:
        """The tensors in what function returns that may have a gradient."""
        nonlocal form
        values = [*held]
        for i, x in zip(wanted, tensors):
            values[i] = x
        parts, rebuild_result = flatten(function(*rebuild(values)))
        chosen = [isinstance(y, Tensor) and has_gradient(y.dtype) for y in parts]
        form = rebuild_result, [None if c else y for c, y in zip(chosen, parts)]
        return [y for c, y in zip(chosen, parts) if c]

    run = Run(compute, name, [None] * len(wanted) + trained, generators)
    outs = iter(run.noted(tensors))
    rebuild_result, others = form
    return rebuild_result([next(outs) if y is None else y for y in others])


class Run:
    """A function of tensors that can be run again: its generators draw again what they would have drawn now.

    ``closed[i]`` is the parameter that tensor i is the value of, where the function does not take it from there; else
    None.
    """

    def __init__(self, function: Callable, name: str, closed: list, generators: Iterable[np.random.Generator] = ()):
        self.function, self.name, self.closed, self.generators = function, name, closed, generators
        self.draws = states(generators)

    def noted(self, xs: Sequence) -> tuple:
        """The results, with an entry on the tape that keeps the xs, but no other."""
        done = self.values([Tensor(bare(x)) for x in xs])
        return recompute(*xs, run=self, done=tuple(done))

    def compute(self, xs: list[Tensor]) -> list[Tensor]:
        return self.function(*xs)

    def values(self, xs: list[Tensor]) -> list[Tensor]:
        """The results, without a tape."""
        with no_grad():
            return self.compute(xs)

    def again(self, xs: list[Tensor]) -> list[Tensor]:
        """The results, with a tape, which must lead to the xs alone."""
        own, begin, now = {x.node for x in xs}, Node(None, (), (), None, None).position, states(self.generators)
        set_states(self.generators, self.draws)
        try:
            ys = self.compute(xs)
        finally:
            set_states(self.generators, now)
        roots = tuple([y.node for y in ys if y.node is not None])
        for node in reached(Node(None, roots, (), None, None), since=begin):
            if node.position < begin and node not in own:
                what = "is a leaf: pass it in parameters=" if node.op is None else "was computed: make it an input"
                raise RuntimeError(f"checkpoint: {self.name} uses a tensor that requires a gradient, {node.dtype} "
                                   f"{node.shape}, and that it was not given; this one {what}")  # fmt: skip
        return ys

    def unchanged(self, parameter: Tensor, x: Tensor) -> Tensor:
        """The parameter, if it still has the value x."""
        if parameter._data is x._data and parameter.requires_grad:
            return parameter
        raise RuntimeError(f"checkpoint: a parameter of {self.name}, {described(parameter)}, was changed between the "
                           "forward and the backward pass, so that what was computed with it cannot be computed again: "
                           "call backward() first, and step the optimiser then")  # fmt: skip

    def __repr__(self) -> str:
        return self.name


class Derivative(Run):
    """The gradients of what a run was given, as a function of that and of the gradients of its results."""

    def __init__(self, run: Run, results: int):
        super().__init__(run.function, run.name, [*run.closed, *[None] * results])
        self.run = run

    def compute(self, xs: list[Tensor]) -> list[Tensor]:
        return self.gradients(xs, create_graph=True)

    def values(self, xs: list[Tensor]) -> list[Tensor]:
        return self.gradients(xs, create_graph=False)

    def gradients(self, tensors: list[Tensor], create_graph: bool) -> list[Tensor]:
        run, n = self.run, len(self.run.closed)
        with recording():
            xs = [variable(x, "") if p is None else run.unchanged(p, x) for p, x in zip(run.closed, tensors)]
            ys, gs = run.again(xs), tensors[n:]
            if [(y.shape, y.dtype) for y in ys] != [(g.shape, g.dtype) for g in gs]:  # numbers have these, too
                raise RuntimeError(f"checkpoint: {run.name} returned {[*map(described, gs)]} in the forward pass, and "
                                   f"{[*map(described, ys)]} when it was run again")  # fmt: skip
            return pulled(inner(ys, gs), None, xs, create_graph, retain_graph=create_graph)


@primitive(several=True)
def recompute(*arrays, run, done):
    """What a :class:`Run` has computed from the arrays, and can compute again."""
    return done


# The gradient of what is computed again is computed again, too, if it is differentiated: so there is every order of it
recompute.vjp(lambda g, arrays, run: Derivative(run, len(g)).noted((*arrays, *g)))


@primitive(several=True)
def program(*arrays, run):
    """What ``run.forward()`` computes from the arrays; it has a way back of its own."""
    return tuple(run.forward())


# Gradients that are to be differentiated are those of the tape, which run.tape computes again
program.vjp(lambda g, arrays, run: run.backward(g) if is_plain((*arrays, *g)) else differentiable(g, arrays, run.tape))


def is_plain(values: Sequence) -> bool:
    return not any(isinstance(x, Tensor) for x in values)


def differentiable(g: Sequence, arrays: Sequence, run: Run) -> tuple:
    g = [x for x in g if has_gradient(x.dtype)]
    return Derivative(run, len(g)).noted((*arrays, *g))


def leaves(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters, each once."""
    parameters = [parameters] if isinstance(parameters, Tensor) else [*parameters]
    for i, p in enumerate(parameters):
        if not isinstance(p, Tensor) or (p.node is not None and p.node.op is not None):
            raise TypeError(f"parameters[{i}]: expected a tensor that was not computed, got {described(p)}; "
                            "make an input of what was computed")  # fmt: skip
    return [*dict.fromkeys(parameters)]


def constant(x: Any) -> Any:
    """An input that wants no gradient, as it is now."""
    return x.detach() if isinstance(x, Tensor) else private(x) if is_array(x) else x


def states(generators: Iterable[np.random.Generator]) -> list:
    return [generator.bit_generator.state for generator in generators]


def set_states(generators: Iterable[np.random.Generator], draws: list) -> None:
    for generator, state in zip(generators, draws):
        generator.bit_generator.state = state


@contextmanager
def drawn_again(generators: Iterable[np.random.Generator]) -> Iterator[Callable[[], bool]]:
    """What is drawn in a block is drawn again after it, however it ends. Yields: whether anything has been, so far."""
    generators = [*generators]
    draws = states(generators)
    try:
        yield lambda: not all(map(same_state, states(generators), draws))
    finally:
        set_states(generators, draws)


def same_state(a: Any, b: Any) -> bool:
    """Of bit generators, some of which have arrays in theirs."""
    return all(same_state(a[key], b[key]) for key in a) if isinstance(a, dict) else np.array_equal(a, b)
