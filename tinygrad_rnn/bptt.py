"""Gradients through time: cut short, bought with time instead of memory, carried forward, and written out by hand.

The walk of the tape that :func:`~tinygrad_rnn.scan` leaves is back-propagation through time. It needs the whole
sequence, and memory for all of its steps. What else can be done with the rules of one step is here:

- :func:`~tinygrad_rnn.bptt.truncated`: go back a limited number of steps (Williams and Peng, 1990);
- :func:`~tinygrad_rnn.bptt.checkpointed`: keep a state now and then, and compute again what is between (Chen et al.,
  2016);
- :func:`~tinygrad_rnn.bptt.rtrl`: carry derivatives forward, and never go back (Williams and Zipser, 1989).

Then back-propagation through time itself, as textbooks write it, to compare the tape with:
:func:`~tinygrad_rnn.bptt.rnn_run` and :func:`~tinygrad_rnn.bptt.rnn_back` in plain NumPy, and the sum over all paths,
term by term: :func:`~tinygrad_rnn.bptt.contributions`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from . import trees
from .arrays import has_gradient
from .errors import described
from .nn import Cell, Module, Recurrent, scan
from .nn.cells import pair
from .nn.recurrent import checked_sequence, drawn_from, flags, idle, mask_of, prepared, stepping, unseen, wrapped
from .nn.segments import checkpointed
from .ops import concatenate
from .ops.checkpoint import leaves
from .tensor import Tensor, tensor
from .transforms import inner, pulled

__all__ = ["Step", "checkpointed", "contributions", "rnn_back", "rnn_run", "rtrl", "truncated"]


class Step(NamedTuple):
    """What there is after a backward pass: the number of steps done, their last loss, and the state, both constants.

    Parameters
    ----------
    t : int
        How many steps of the sequence are done.
    loss : Tensor or None
        Of the last of them, if it has one.
    state : Tensor, or a nest of them
        After the last of them.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(1, 2, rng=0), np.ones((10, 1, 1), np.float32)
    >>> step = next(truncated(cell, xs, lambda ys, steps: (ys * ys).sum(), k1=5))
    >>> step.t, step.state.shape, step.state.requires_grad
    (5, (1, 2), False)
    """

    t: int
    loss: Tensor
    state: Any


# Cut short ------------------------------------------------------------------------------------------------------------


def truncated(
    cell: Any, xs: Any, loss: Callable, k1: int, k2: int | None = None, state: Any = None, *, lengths: Any = None,
    mask: Any = None, reset: Any = None,
) -> Iterator[Step]:  # fmt: skip
    """Truncated back-propagation through time: every k1 steps a backward pass over the last k2, into ``.grad``.

    Each pass is for the loss of the k1 steps that are new. Its window of k2 steps is unrolled from the state that there
    was before it, which is a constant: no gradient flows further back. So with k2 = k1 a sequence is trained on in
    chunks, and with k1 = 1 there is a window of k2 steps that slides by one. Once k2 is as long as the sequence,
    nothing is cut. Below, the gradient is biased: dependencies longer than k2 are not learnt, but avoided.

    A backward direction sees its window, and nothing after it: it begins anew at the end of each, from what its cells
    start from. The forward directions go on from where they were when the window before was run.

    Parameters
    ----------
    cell : Cell, Module or callable
        A :class:`~tinygrad_rnn.nn.Cell`, a function ``step(x, state)``, or any other module with ``y, state =
        module(xs, state)``, such as a stack of layers. A module of your own around layers of both directions has a
        method ``carried(state, step=None)``, which asks that of theirs; or ``carried = None`` in its class, if its
        state has nothing of a backward direction in it (then k2 = k1 divides T: windows do not overlap).
    xs : array or Tensor, (T, ...)
        The inputs, time first (of a module whose ``batch_first`` is set, second). They are not to be computed.
    loss : callable
        ``loss(ys, steps)``, a single number, from the outputs of k1 steps; steps is a slice, which picks what belongs
        to them: ``targets[steps]``. The last time there may be fewer (the window is as long as ever).
    k1 : int
        How many steps there are from one pass to the next.
    k2 : int, optional
        How many steps a pass goes back: at least k1, which is the default.
    state : Tensor, or a nest of them, optional
        What to start from. A leaf gets a gradient, from the windows that begin with it; what was computed is taken as a
        constant: the state of an earlier sequence is just passed on.
    lengths, mask, reset : array, optional
        As of :func:`~tinygrad_rnn.scan`: each window gets its part of them. The loss sees the outputs of padding, too,
        0: ``nn.mse(ys, targets[steps], mask=mask[steps])`` leaves them out.

    Returns
    -------
    iterator of Step
        ``(t, loss, state)``, after each backward pass. This is the place to step an optimiser: the next window is
        computed with the new weights.

    Raises
    ------
    ValueError
        Not 1 ≤ k1 ≤ k2; the inputs were computed; or lengths, mask or reset come with inputs that have no batch axis.
    TypeError
        The loss returned no tensor, or a module with a backward direction has no ``carried``.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn, optim
    >>> cell, xs = nn.RNNCell(1, 8, rng=0), np.sin(np.arange(100, dtype=np.float32)).reshape(100, 1, 1)
    >>> optimizer = optim.SGD(cell.parameters(), lr=0.1)
    >>> for t, loss, state in truncated(cell, xs[:-1], lambda ys, steps: nn.mse(ys[..., :1], xs[1:][steps]), k1=25):
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     print(t, loss.data < 0.6)
    25 True
    50 True
    75 True
    99 True
    """
    data, k2 = checked_sequence(xs), k1 if k2 is None else k2
    if not (isinstance(k1, Integral) and isinstance(k2, Integral) and 1 <= k1 <= k2):
        raise ValueError(f"k1, k2: expected integers, 1 <= k1 <= k2, got {k1!r} and {k2!r}: a loss every k1 steps, "
                         "each with a backward pass that reaches it")  # fmt: skip
    if isinstance(xs, Tensor) and xs.node is not None and xs.node.op is not None:
        raise ValueError(f"xs: it was computed, by {xs.node.op.name}, and the tape of that can be walked once, not in "
                         "every window: compute it inside of the module, or detach() it")  # fmt: skip
    state, module = trees.map(cut_off, state), isinstance(cell, Module) and not isinstance(cell, Cell)
    second = module and getattr(cell, "batch_first", False) and data.ndim > 2
    time_first = np.swapaxes(data, 0, 1) if second else data
    least = 3 if module or getattr(cell, "input_size", None) is not None else 2
    if not (lengths is None and mask is None and reset is None) and data.ndim < least:
        raise ValueError(f"lengths, mask, reset: xs has no batch axis, it is {described(xs)}")
    given = {"mask": mask_of(lengths, mask, time_first, second), "reset": flags("reset", reset, time_first, second)}
    given = {name: f.T if second else f for name, f in given.items() if f is not None}
    forward = cell if module else partial(scan, stepping(cell, state))

    def part(x: Any, begin: int, end: int) -> Any:
        return x[:, begin:end] if second else x[begin:end]

    def run(begin: int, end: int, state: Any, **options: Any) -> tuple:
        options |= {name: part(f, begin, end) for name, f in given.items()}
        return forward(part(xs, begin, end), state, **options)

    def passes(window: Callable) -> Iterator[Step]:
        """A window is begin:end; of its losses, those of done:end are new; the next one begins at ``following``."""
        nonlocal state
        begin, done, time = 0, 0, len(time_first)
        while done < time:
            end = min(done + k1, time)
            following = max(min(end + k1, time) - k2, begin)
            ys, start, after = window(begin, following, end, state)
            value = checked_loss(loss(part(ys, done - begin, end - begin), slice(done, end)))
            value.backward()
            yield Step(end, value.detach(), trees.map(detached, after))
            begin, done, state = following, end, start

    carried = carrier(cell) if module else None
    if carried is None and (k2 > k1 or len(time_first) % k1) and module and runs_backward(cell):
        raise TypeError(f"{type(cell).__name__}: it has a backward direction, which sees a whole window; windows that "
                        "overlap go on from a state within one, and carried has to be a method that returns it, "
                        "carried(self, state, step), not None; or let k2 = k1 divide the number of steps, "
                        f"{len(time_first)}")  # fmt: skip
    if carried is None:
        return passes(partial(in_two, run, second))
    return passes(partial(in_one, run, carried, data.ndim > 2))


def carrier(module: Module) -> Callable | None:
    """What says which part of its state is carried to the next window; None: all of it, as nothing runs backward."""
    if not runs_backward(module):
        return None
    if not hasattr(module, "carried"):
        raise TypeError(f"{type(module).__name__}: it has a backward direction, which begins anew in each window: give "
                        "it a method carried(self, *state), which returns that of its layers; or, if no state of a "
                        "backward direction is among what is carried, write carried = None in the class")  # fmt: skip
    return module.carried


def runs_backward(module: Module) -> bool:
    return any(isinstance(m, Recurrent) and m.bidirectional for m in module.modules())


def in_two(run: Callable, second: bool, begin: int, following: int, end: int, state: Any) -> tuple:
    """The outputs of a window, and the states at ``following`` and at its end: run up to the one, then to the other."""
    ys, start = [], state
    if begin < following:
        y, state = run(begin, following, state)
        start = trees.map(detached, state)
        ys.append(y)
    if following < end:
        y, state = run(following, end, state)
        ys.append(y)
    return concatenate(ys, axis=int(second)) if len(ys) > 1 else ys[0], start, state


def in_one(run: Callable, carried: Callable, batched: bool, begin: int, following: int, end: int, state: Any) -> tuple:
    """The same, where a backward direction has to see the whole window."""
    ys, after, *every = run(begin, end, carried(state) if begin else state, states=begin < following < end)
    start = (
        state if following == begin else after if following == end else carried(*every, following - begin - 1, batched)
    )
    return ys, trees.map(cut_off, start), carried(after)


def checked_loss(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"loss: expected a tensor, a single number, that was computed from the outputs, got "
                        f"{described(value)}")  # fmt: skip
    if value.size != 1:
        raise ValueError(f"loss: expected a single number, got {described(value)}: its mean, say")
    return value


def detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def cut_off(x: Any) -> Any:
    """A constant, if it was computed."""
    return x if isinstance(x, Tensor) and x.node is not None and x.node.op is None else detached(x)


# Carried forward ------------------------------------------------------------------------------------------------------


def rtrl(
    cell: Cell | Callable, xs: Any, loss: Callable, state: Any = None, parameters: Any = None, *, lengths: Any = None,
    mask: Any = None, reset: Any = None,
) -> Iterator[Step]:  # fmt: skip
    """Real-time recurrent learning: the exact gradient of each step's loss, at that step, into ``.grad``.

    The derivatives of the state by the parameters are carried forward along with it (Williams and Zipser, 1989)::

        S_t = J_t S_{t-1} + P_t        dE_t/dθ = ∂E_t/∂h_{t-1} S_{t-1} + ∂E_t/∂θ

    where J_t and P_t are the derivatives of step t alone, by the state and by the parameters: rows of them are what the
    rules of one step give. No tape outlives a step, however long the sequence is; the sum over all steps is the
    gradient that back-propagation gives. With n numbers in the state (of the whole batch) and p in the parameters, a
    step takes n walks of its tape, O(n² p) time and O(n p) memory: this is for small networks.

    Parameters
    ----------
    cell : Cell or callable
        A :class:`~tinygrad_rnn.nn.Cell`, or any function ``step(x, state)``.
    xs : array or Tensor, (T, ...)
        The inputs, time first; constants.
    loss : callable
        ``loss(y, t)``, a single number, from the output of step t; or None, where the step has no loss.
    state : Tensor, or a nest of them, optional
        What to start from; a leaf gets a gradient, what was computed is taken as a constant.
    parameters : iterable of Tensor, optional
        The leaves that the cell uses; by default those of the module. Leaves that only the loss uses, such as those of
        a readout, get their gradients without being named.
    lengths, mask, reset : array, optional
        As of :func:`~tinygrad_rnn.scan`: the loss sees 0 for the output of a sequence that has no input.

    Returns
    -------
    iterator of Step
        ``(t, loss, state)`` after each step, the place for an optimiser to step. Then S has derivatives by older
        weights, and the gradient is not exact any more: the price of learning at every step.

    Raises
    ------
    ValueError
        There is no leaf that requires a gradient: a function does not say which it uses.
    TypeError
        The loss returned something that is neither a tensor nor None.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.GRUCell(2, 3, rng=0, dtype=np.float64), np.ones((20, 1, 2))
    >>> for t, loss, state in rtrl(cell, xs, lambda y, t: (y * y).sum()):
    ...     pass
    >>> online, (ys, _) = cell.weight_hh.grad, tg.scan(cell, xs)
    >>> np.allclose(online, tg.gradients((ys * ys).sum(), cell.weight_hh), rtol=1e-12)
    True
    """
    if parameters is None:
        parameters = cell.parameters() if isinstance(cell, Module) else ()
    state = trees.map(cut_off, state)
    starts = [x for x in trees.flatten(state)[0] if isinstance(x, Tensor) and x.requires_grad]
    cell, *sequence = prepared(cell, checked_sequence(xs), state, lengths, mask, reset)
    wanted = [*dict.fromkeys(p for p in (*leaves(parameters), *starts) if p.requires_grad)]
    if not wanted:
        raise ValueError("parameters: expected at least one leaf that requires a gradient; a function does not say "
                         "which it uses: pass them")  # fmt: skip
    return online(cell, *sequence, loss, wanted)


def online(cell: Cell, xs: Any, state: Any, mask: Any, reset: Any, loss: Callable, wanted: list[Tensor]) -> Iterator:
    """The steps of :func:`rtrl`. S has a row for each number of the state, and a column for each of the parameters."""
    S = derivatives(variables(state), wanted)
    step, generators = wrapped(cell, cell.step, xs, mask, reset, range(len(xs))), drawn_from(cell)
    for t, x in enumerate(xs):
        flags = [f if f is None else f[t : t + 1] for f in (mask, reset)]
        with unseen(generators) if idle(xs, state, *flags) else nullcontext():  # as a scan skips this step
            before, y, after = one_step(step, x, state)
        value, J_and_P = loss(y, t), derivatives(variables(after), [*before, *wanted])
        if value is not None:
            checked_loss(value).backward()
            past = columns(flat([h.grad for h in before], before) @ S, wanted) if before else []
            for p, g in zip(wanted, past):
                p.grad = Tensor(g if p.grad is None else p.grad._data + g)
        n = len(S)
        S = J_and_P[:, :n] @ S + J_and_P[:, n:]
        state = trees.map(detached, after)
        yield Step(t + 1, detached(value), state)


def one_step(step: Callable, x: Any, state: Any) -> tuple[list[Tensor], Any, Any]:
    """A step from a state of new leaves: these, the output, and the state after it."""
    before = trees.map(lambda h: tensor(h.detach(), requires_grad=True) if is_variable(h) else h, state)
    y, after = pair(step(x, before), "step")
    return variables(before), y, after


def is_variable(x: Any) -> bool:
    return isinstance(x, Tensor) and has_gradient(x.dtype)


def variables(state: Any) -> list[Tensor]:
    """The parts of a state that can have a gradient."""
    return [h for h in trees.flatten(state)[0] if is_variable(h)]


def derivatives(ys: list[Tensor], xs: list[Tensor]) -> Any:
    """The matrix of derivatives: a row for each number in ys, made by walking back from it; a column for each in xs."""

    def row(y: Tensor, i: int) -> Any:
        g = np.zeros_like(y._data, order="C")
        g.reshape(-1)[i] = 1
        return flat(pulled(y, g, xs, create_graph=False), xs)

    return np.stack([flat([None] * len(xs), xs), *[row(y, i) for y in ys for i in range(y.size)]])[1:]


def flat(gs: list, xs: list[Tensor]) -> Any:
    """Gradients by xs as one vector; 0 for those that are None."""
    return np.concatenate([(np.zeros_like(x._data) if g is None else g._data).reshape(-1) for g, x in zip(gs, xs)])


def columns(g: Any, xs: list[Tensor]) -> list:
    """The opposite of :func:`flat`."""
    parts = np.split(g, list(itertools.accumulate(x.size for x in xs))[:-1])
    return [part.reshape(x.shape) for part, x in zip(parts, xs)]


# Written out by hand --------------------------------------------------------------------------------------------------


def contributions(cell: Cell | Callable, xs: Any, loss: Callable, parameter: Tensor, state: Any = None) -> Any:
    """The gradient of each step's loss, term by term: all the ways in which a parameter acts on it.

    By the chain rule::

        dE_t/dW = Σ_{s ≤ t} ∂E_t/∂h_t ∂h_t/∂h_s ∂h_s/∂W

    where the last factor is that of step s alone, h_{s-1} held fixed. The terms that are far back are the first to
    vanish, or to explode. They are computed one by one: this is to look at, or to check with.

    Parameters
    ----------
    cell : Cell or callable
        A :class:`~tinygrad_rnn.nn.Cell`, or any function ``step(x, state)``.
    xs : array or Tensor, (T, ...)
        The inputs, time first; constants.
    loss : callable
        ``loss(y, t)``, a single number, from the output of step t; or None, where the step has no loss.
    parameter : Tensor
        A leaf that the cell uses, W.
    state : Tensor, or a nest of them, optional
        What to start from.

    Returns
    -------
    array, (T, T, ...)
        ``terms[t, s]``, of the parameter's shape: T (T + 1) / 2 terms, and 0 for s > t. ``terms.sum(axis=(0, 1))`` is
        the gradient.

    Raises
    ------
    TypeError
        The loss returned something that is neither a tensor nor None.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(1, 2, rng=0, dtype=np.float64), np.ones((30, 1, 1))
    >>> terms = contributions(cell, xs, lambda y, t: (y * y).sum(), cell.weight_hh)
    >>> sizes = np.abs(terms[-1]).max(axis=(1, 2))
    >>> bool(sizes[-1] > 1e9 * sizes[1])
    True
    """
    cell, xs, state, *_ = prepared(cell, checked_sequence(xs), state)
    terms = np.zeros_like(parameter._data, shape=(len(xs), len(xs), *parameter.shape))
    for t, s, _, (term,) in paths_back(cell, xs, state, loss, [parameter]):
        terms[t, s] = term._data
    return terms


def paths_back(cell: Cell, xs: Any, state: Any, loss: Callable, parameters: list[Tensor]) -> Iterator[tuple]:
    """For each t, and then for s = t ... 0: (t, s, E_t, the part of dE_t by each of the parameters that is of step s).

    All is prepared. Of a step without a loss there is nothing.
    """
    n, steps = len(parameters), []
    for t, x in enumerate(xs):
        before, y, after = one_step(cell.step, x, state)
        steps.append((before, variables(after)))
        state = trees.map(detached, after)
        e = loss(y, t)
        if e is None:
            continue
        gs = pulled(checked_loss(e), None, [*parameters, *before], create_graph=False)
        yield t, t, e, gs[:n]
        for s in reversed(range(t)):  # of gs, the rest is dE_t/dh_s, from here to the first step
            before, after = steps[s]
            gs = pulled(inner(after, gs[n:]), None, [*parameters, *before], create_graph=False)
            yield t, s, e, gs[:n]


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


FUNCTIONS = {  # by name: f(z), and the gradient by z from g, that by f(z)
    "identity": (lambda z: z, lambda z, g: g),
    "tanh": (np.tanh, lambda z, g: g * (1 - np.tanh(z) ** 2)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z, g: g / (2 + np.exp(z) + np.exp(-z))),
    "relu": (lambda z: np.maximum(z, 0), lambda z, g: g * (z > 0)),
    "softmax": (_softmax, lambda z, g: _softmax(z) * (g - _softmax(z) @ g)),
}


def rnn_run(X: Any, h0: Any, weights: tuple, f_h: str = "tanh", f_s: str = "identity") -> tuple[dict, dict, dict, dict]:
    """The forward pass of an Elman network over one sequence, as textbooks write it: in plain NumPy, and literally.

    For t = 1 ... N_s::

        z_h(t) = W_e X(t) + W_h h(t-1) + b_e        h(t) = f_h(z_h(t))
        z_s(t) = W_s h(t) + b_s                     o(t) = f_s(z_s(t))

    Parameters
    ----------
    X : array, (N_s, features)
        The inputs.
    h0 : array, (hidden,)
        The first state.
    weights : tuple of array
        (W_e, W_h, W_s, b_e, b_s).
    f_h, f_s : str or pair of callable, optional
        ``"identity"``, ``"tanh"``, ``"sigmoid"``, ``"relu"`` or ``"softmax"``; or another function, with its rule, as
        in ``FUNCTIONS``.

    Returns
    -------
    z_h, h, z_s, o : dict
        Each by t = 1 ... N_s; h has 0, too.

    Examples
    --------
    >>> weights = np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), np.zeros(1)
    >>> z_h, h, z_s, o = rnn_run(np.ones((3, 1)), np.zeros(1), weights, "identity")
    >>> [float(h[t][0]) for t in h]
    [0.0, 1.0, 2.0, 3.0]
    """
    W_e, W_h, W_s, b_e, b_s = weights
    (f_h, _), (f_s, _) = FUNCTIONS.get(f_h, f_h), FUNCTIONS.get(f_s, f_s)
    z_h, h, z_s, o = {}, {0: h0}, {}, {}
    for t in range(1, len(X) + 1):
        z_h[t] = W_e @ X[t - 1] + W_h @ h[t - 1] + b_e
        h[t] = f_h(z_h[t])
        z_s[t] = W_s @ h[t] + b_s
        o[t] = f_s(z_s[t])
    return z_h, h, z_s, o


def rnn_back(
    X: Any, y: Any, h0: Any, weights: tuple, f_h: str = "tanh", f_s: str = "identity",
    dE: Callable = lambda o, y: o - y,
) -> list[np.ndarray]:  # fmt: skip
    """Back-propagation through time for :func:`~tinygrad_rnn.bptt.rnn_run`, as textbooks write it: literally.

    Here what the tape does by itself is done by hand, in plain NumPy: to compare it with, and to see what it spares
    one.

    Parameters
    ----------
    X : array, (N_s, features)
        The inputs.
    y : array, (N_s, outputs)
        The targets, one for each step.
    h0 : array, (hidden,)
        The first state.
    weights : tuple of array
        (W_e, W_h, W_s, b_e, b_s).
    f_h, f_s : str or pair of callable, optional
        As of :func:`~tinygrad_rnn.bptt.rnn_run`.
    dE : callable, optional
        ``dE(o, y)``, the derivative by o of the error of one step, E(o, y); by default of half the squared distance.

    Returns
    -------
    list of array
        [dW_e, dW_h, dW_s, db_e, db_s, dh(0)]: the gradients of ΣE.

    Examples
    --------
    >>> W_e, W_h, W_s, b_e, b_s = np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), np.zeros(1)
    >>> rnn_back(np.ones((2, 1)), np.zeros((2, 1)), np.zeros(1), (W_e, W_h, W_s, b_e, b_s), "identity")[1]
    array([[2.]])
    """
    z_h, h, z_s, o = rnn_run(X, h0, weights, f_h, f_s)
    (_, df_h), (_, df_s) = FUNCTIONS.get(f_h, f_h), FUNCTIONS.get(f_s, f_s)
    _, W_h, W_s, _, _ = weights
    dW_e, dW_h, dW_s, db_e, db_s = (np.zeros_like(w) for w in weights)
    dh = {len(X): np.zeros_like(h0)}  # nothing comes after the last step
    for t in range(len(X), 0, -1):
        dz_s = df_s(z_s[t], dE(o[t], y[t - 1]))
        db_s += dz_s
        dW_s += np.outer(dz_s, h[t])
        dh[t] = dh[t] + W_s.T @ dz_s  # beside what came from step t + 1
        dz_h = df_h(z_h[t], dh[t])
        dW_e += np.outer(dz_h, X[t - 1])
        db_e += dz_h
        dW_h += np.outer(dz_h, h[t - 1])
        dh[t - 1] = W_h.T @ dz_h
    return [dW_e, dW_h, dW_s, db_e, db_s, dh[0]]
