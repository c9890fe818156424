"""Gradients through time: cut short, bought with time instead of memory, carried forward, and written out by hand.

The walk of the tape that :func:`~tinygrad_rnn.nn.scan` leaves is back-propagation through time. It needs the whole
sequence, and memory for all of its steps. What else can be done with the rules of one step is here:

- :func:`truncated`: go back a limited number of steps (Williams and Peng, 1990);
- :func:`checkpointed`: keep a state now and then, and compute what is between again (Chen et al., 2016);
- :func:`rtrl`: carry derivatives forward, and never go back (Williams and Zipser, 1989).

Then back-propagation through time itself, as textbooks write it, to compare the tape with: :func:`rnn_run` and
:func:`rnn_back` in plain NumPy, and the sum over all paths, term by term: :func:`contributions`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import trees
from .arrays import device_of, has_gradient
from .debug import label
from .errors import described
from .nn import Cell, Module, scan
from .nn.cells import pair
from .nn.recurrent import flags, mask_of
from .ops import concatenate, flip, split
from .ops.checkpoint import checkpoint, set_states
from .ops.checkpoint import states as draws_of
from .tensor import Tensor, tensor
from .transforms import inner, pulled

__all__ = ["Step", "checkpointed", "contributions", "rnn_back", "rnn_run", "rtrl", "truncated"]


class Step(NamedTuple):
    """What there is after a backward pass: the number of steps done, their last loss, and the state, both constants."""

    t: int
    loss: Tensor
    state: Any


# Cut short ------------------------------------------------------------------------------------------------------------


def truncated(cell: Any, xs: Any, loss: Callable, k1: int, k2: int | None = None, state: Any = None) -> Iterator[Step]:
    """Truncated back-propagation through time: every k1 steps a backward pass over the last k2, into ``.grad``.

    Each pass is for the loss of the k1 steps that are new. Its window of k2 steps is unrolled from the state that there
    was before it, which is a constant: no gradient flows further back. So with k2 = k1 a sequence is trained on in
    chunks, and with k1 = 1 there is a window of k2 steps that slides by one. Once k2 is as long as the sequence,
    nothing is cut. Below, the gradient is biased: dependencies longer than k2 are not learnt, but avoided.

    Args:
        cell: a :class:`~tinygrad_rnn.nn.Cell`, a function ``step(x, state)``, or any other module with ``y, state =
            module(xs, state)``, such as a stack of layers.
        xs: the inputs, time first (of a module whose ``batch_first`` is set, second). They are not to be computed.
        loss: ``loss(ys, steps)``, a single number, from the outputs of k1 steps; steps is a slice, which picks what
            belongs to them: ``targets[steps]``. The last time there may be fewer (the window is as long as ever).
        k1, k2: of steps; k2 is at least k1, which is the default.
        state: what to start from. A leaf gets a gradient, from the windows that begin with it; what was computed is
            taken as a constant: the state of an earlier sequence is just passed on.

    Yields:
        A :class:`Step` ``(t, loss, state)`` after each backward pass. This is the place to step an optimiser: the next
        window is computed with the new weights.

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
    check_sequence(xs)
    k2 = k1 if k2 is None else k2
    if k1 < 1 or k2 < k1:
        raise ValueError(f"k1, k2: expected 1 <= k1 <= k2, got {k1} and {k2}: a loss every k1 steps, each with a "
                         "backward pass that reaches it")  # fmt: skip
    if isinstance(xs, Tensor) and xs.node is not None and xs.node.op is not None:
        raise ValueError(f"xs: it was computed, by {xs.node.op.name}, and the tape of that can be walked once, not in "
                         "every window: compute it inside of the module, or detach() it")  # fmt: skip
    module = isinstance(cell, Module) and not isinstance(cell, Cell)
    axis = 1 if module and getattr(cell, "batch_first", False) else 0
    run = cell if module else lambda xs, state: scan(cell, xs, state)
    return windows(run, xs, axis, loss, k1, k2, trees.map(cut_off, state))


def windows(run: Callable, xs: Any, axis: int, loss: Callable, k1: int, k2: int, state: Any) -> Iterator[Step]:
    """The passes of :func:`truncated`. A window is begin:end; of its losses, those of done:end are new."""

    def part(x: Any, begin: int, end: int) -> Any:
        return x[(slice(None),) * axis + (slice(begin, end),)]

    begin, done, time = 0, 0, xs.shape[axis]
    while done < time:
        end = min(done + k1, time)
        following = max(min(end + k1, time) - k2, begin)  # where the next window begins: on the way, or at the end
        ys, start, after = [], state, state
        if begin < following:
            y, after = run(part(xs, begin, following), state)
            start = trees.map(detached, after)
            ys.append(y)
        if following < end:
            y, after = run(part(xs, following, end), after)
            ys.append(y)
        value = loss(part(joined(ys, axis), done - begin, end - begin), slice(done, end))
        value.backward()
        yield Step(end, value.detach(), trees.map(detached, after))
        begin, done, state = following, end, start


def check_sequence(xs: Any) -> None:
    if not getattr(xs, "ndim", 0):
        raise TypeError(f"xs: expected an array or a tensor, time first, got {described(xs)}")


def detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def cut_off(x: Any) -> Any:
    """A constant, if it was computed."""
    return x if isinstance(x, Tensor) and x.node is not None and x.node.op is None else detached(x)


# Computed again -------------------------------------------------------------------------------------------------------


def checkpointed(
    cell: Cell | Callable,
    xs: Any,
    state: Any = None,
    *,
    every: int | None = None,
    parameters: Iterable[Tensor] | None = None,
    generators: Iterable[np.random.Generator] | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    states: bool = False,
) -> tuple:
    """:func:`~tinygrad_rnn.nn.scan` with a tape that keeps the state before every so many steps, and nothing else.

    On the way back each segment is computed once more. Values and gradients, of every order, are the same. The memory
    is that of time / every states and of the tape of `every` steps, least for √time; the time is that of one more
    forward pass. Random numbers that the cell draws are drawn again, if all its generators are attributes called
    ``rng``.

    Args:
        cell, xs, state, lengths, mask, reset, reverse, states: as of :func:`~tinygrad_rnn.nn.scan`.
        every: the length of a segment; by default about √time.
        parameters: the leaves that the cell uses; by default those of the module. See :func:`checkpoint`.
        generators: those that the cell draws from; by default, see above.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.LSTMCell(2, 8, rng=0), np.ones((400, 1, 2), np.float32)
    >>> for run in (tg.scan, checkpointed):
    ...     ys, _ = run(cell, xs)
    ...     print(len(tg.tape(ys)) > 400, tg.gradients(ys.sum(), cell.weight_hh).shape)
    True (32, 8)
    False (32, 8)
    """
    data = getattr(xs, "_data", xs)
    shape = getattr(data, "shape", ())
    if not shape or not shape[0] or (len(shape) == 1 and not lengths is mask is reset is None):  # not to be cut
        return scan(cell, xs, state, lengths=lengths, mask=mask, reset=reset, reverse=reverse, states=states)
    time, known = shape[0], isinstance(cell, Cell)
    if not known and (state is None or isinstance(cell, Module)):
        return scan(cell, xs, state)  # which says what is wrong
    every = round(math.sqrt(time)) if every is None else every
    if every < 1:
        raise ValueError(f"every: expected the length of a segment, at least 1, got {every}")
    if known:
        state = cell.start(np.zeros_like(data, shape=shape[1:]), state, xs)
    if parameters is None:
        parameters = cell.parameters() if isinstance(cell, Module) else ()
    if generators is None:
        generators = drawn_from(cell) if isinstance(cell, Module) else ()
    parameters, generators = [*parameters], [*generators]
    mask, reset = mask_of(lengths, mask, data), flags("reset", reset, data)
    if reverse and reset is not None:  # back in time, a sequence begins where the one after it has its first step
        reset = np.concatenate([reset[1:], np.zeros_like(reset[:1])])
    within = [*cell.modules()] if isinstance(cell, Module) else []
    modes = [part.training for part in within]
    along = backwards if reverse else lambda x: x
    cuts = [*range(every, time, every)]

    def parts(x: Any) -> Sequence:
        return [None] * (len(cuts) + 1) if x is None else split(along(x), cuts) if cuts else [along(x)]

    def segment(number: int, xs: Any, mask: Any, reset: Any, state: Any, home: Any) -> tuple:
        if modes != [part.training for part in within]:
            raise RuntimeError(
                "checkpointed: train() or eval() was called between the forward and the backward pass, so "
                "that what was computed cannot be computed again: call backward() first"
            )
        with label("segment", number):
            draws = draws_of(generators)
            result = scan(Resumed(cell, home), xs, state, mask=mask, reset=reset, states=states)
            if idle(mask, reset):  # the whole scan skips these steps, and draws nothing in them
                set_states(generators, draws)
            return result

    home, results = None if known else state, []
    for inputs in zip(range(len(cuts) + 1), parts(xs), parts(mask), parts(reset)):
        results.append(checkpoint(segment, *inputs, state, home, parameters=parameters, generators=generators))
        state = results[-1][1]
    ys, _, *made = zip(*results)
    return (along(joined(ys)), state, *[trees.map(lambda *parts: along(joined(parts)), *m) for m in made])


def idle(mask: Any, reset: Any) -> bool:
    """Whether no sequence has an input, or a reset. (Flags on a GPU are not asked.)"""
    flags = [f for f in (mask, reset) if f is not None]
    return mask is not None and all(device_of(f) == "cpu" and not f.any() for f in flags)


def backwards(x: Any) -> Any:
    return flip(x, axis=0)


class Resumed(Cell):
    """A cell, or a step, in the midst of a sequence: the state needs no check, and nothing is drawn to start from."""

    def __init__(self, cell: Cell | Callable, home: Any):
        self.cell, self.home = cell, home

    def start(self, x: Any, state: Any = None, xs: Any = None) -> Any:
        return state

    def checked(self, result: Any, state: Any) -> tuple[Any, Any]:
        return pair(result, "step")

    def initial_state(self, x: Any) -> Any:
        return self.cell.initial_state(x) if isinstance(self.cell, Cell) else self.home

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        return (self.cell.step if isinstance(self.cell, Cell) else self.cell)(x, state)


def drawn_from(module: Module) -> list[np.random.Generator]:
    """The generators that a module draws from, each once."""
    found = [value for part in module.modules() for value in vars(part).values()]
    return [*dict.fromkeys(rng for rng in found if isinstance(rng, np.random.Generator))]


def joined(parts: Any, axis: int = 0) -> Any:
    return concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]


# Carried forward ------------------------------------------------------------------------------------------------------


def rtrl(cell: Cell | Callable, xs: Any, loss: Callable, state: Any = None, parameters: Any = None) -> Iterator[Step]:
    """Real-time recurrent learning: the exact gradient of each step's loss, at that step, into ``.grad``.

    The derivatives of the state by the parameters are carried forward along with it (Williams and Zipser, 1989):

        S_t = J_t S_{t-1} + P_t        dE_t/dθ = ∂E_t/∂h_{t-1} S_{t-1} + ∂E_t/∂θ

    where J_t and P_t are the derivatives of step t alone, by the state and by the parameters: rows of them are what the
    rules of one step give. No tape outlives a step, however long the sequence is; the sum over all steps is the
    gradient that back-propagation gives. With n numbers in the state (of the whole batch) and p in the parameters, a
    step takes n walks of its tape, O(n² p) time and O(n p) memory: this is for small networks.

    Args:
        cell: a :class:`~tinygrad_rnn.nn.Cell`, or any function ``step(x, state)``.
        xs: the inputs, time first; constants.
        loss: ``loss(y, t)``, a single number, from the output of step t; or None, where the step has no loss.
        state: what to start from; a leaf gets a gradient, what was computed is taken as a constant.
        parameters: the leaves that the cell uses; by default those of the module. (Leaves that only the loss uses, such
            as those of a readout, get their gradients without being named.)

    Yields:
        A :class:`Step` ``(t, loss, state)`` after each step, the place for an optimiser to step. (Then S has
        derivatives by older weights, and the gradient is not exact any more: the price of learning at every step.)

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.GRUCell(2, 3, rng=0, dtype=np.float64), np.ones((20, 1, 2))
    >>> for t, loss, state in rtrl(cell, xs, lambda y, t: (y * y).sum()):
    ...     pass
    >>> online, (ys, _) = cell.weight_hh.grad, tg.scan(cell, xs)
    >>> np.allclose(online, tg.gradients((ys * ys).sum(), cell.weight_hh), rtol=1e-12)
    True
    """
    check_sequence(xs)
    xs, known = getattr(xs, "_data", xs), isinstance(cell, Cell)
    if state is None and not known:
        raise ValueError("state: a function does not say what its state is: pass the one to start from")
    if parameters is None:
        parameters = cell.parameters() if isinstance(cell, Module) else ()
    state = trees.map(cut_off, state)
    starts = [x for x in trees.flatten(state)[0] if isinstance(x, Tensor) and x.requires_grad]
    wanted = [*dict.fromkeys(p for p in (*parameters, *starts) if p.requires_grad)]
    if not wanted:
        raise ValueError("parameters: expected at least one leaf that requires a gradient; a function does not say "
                         "which it uses: pass them")  # fmt: skip
    start = cell.start(np.zeros_like(xs, shape=xs.shape[1:]), state, xs) if known else state
    return online(cell, xs, loss, start, wanted)


def online(cell: Any, xs: Any, loss: Callable, state: Any, wanted: list[Tensor]) -> Iterator[Step]:
    """The steps of :func:`rtrl`. S has a row for each number of the state, and a column for each of the parameters."""
    S = derivatives(variables(state), wanted)
    for t, x in enumerate(xs):
        before, y, after = one_step(cell, x, state)
        value, J_and_P = loss(y, t), derivatives(variables(after), [*before, *wanted])
        if value is not None:
            value.backward()
            past = columns(flat([h.grad for h in before], before) @ S, wanted) if before else []
            for p, g in zip(wanted, past):
                p.grad = Tensor(g if p.grad is None else p.grad._data + g)
        n = len(S)
        S = J_and_P[:, :n] @ S + J_and_P[:, n:]
        state = trees.map(detached, after)
        yield Step(t + 1, detached(value), state)


def one_step(cell: Any, x: Any, state: Any) -> tuple[list[Tensor], Any, Any]:
    """A step from a state of new leaves: these, the output, and the state after it."""
    before = trees.map(lambda h: tensor(h.detach(), requires_grad=True) if is_variable(h) else h, state)
    y, after = pair((cell.step if isinstance(cell, Cell) else cell)(x, before), "step")
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

        dE_t/dW = Σ_{s ≤ t} ∂E_t/∂h_t ∂h_t/∂h_s ∂h_s/∂W

    where the last factor is that of step s alone, h_{s-1} held fixed. The terms that are far back are the first to
    vanish, or to explode. Arguments are as of :func:`rtrl`.

    Returns:
        ``terms[t, s]``, an array (time, time, *parameter.shape): time (time + 1) / 2 terms, and 0 for s > t. They are
        computed one by one: this is to look at, or to check with. ``terms.sum(axis=(0, 1))`` is the gradient.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(1, 2, rng=0, dtype=np.float64), np.ones((30, 1, 1))
    >>> terms = contributions(cell, xs, lambda y, t: (y * y).sum(), cell.weight_hh)
    >>> sizes = np.abs(terms[-1]).max(axis=(1, 2))
    >>> bool(sizes[-1] > 1e9 * sizes[1])
    True
    """
    check_sequence(xs)
    xs = getattr(xs, "_data", xs)
    if isinstance(cell, Cell):
        state = cell.start(np.zeros_like(xs, shape=xs.shape[1:]), state, xs)
    terms = np.zeros_like(parameter._data, shape=(len(xs), len(xs), *parameter.shape))
    steps: list[tuple] = []
    for t, x in enumerate(xs):
        before, y, after = one_step(cell, x, state)
        steps.append((before, variables(after)))
        state = trees.map(detached, after)
        e = loss(y, t)
        if e is None:
            continue
        terms_t, *gs = pulled(e, None, [parameter, *before], create_graph=False)
        terms[t, t] = terms_t._data
        for s in reversed(range(t)):  # gs is dE_t/dh_s, from here to the first step
            before, after = steps[s]
            term, *gs = pulled(inner(after, gs), None, [parameter, *before], create_graph=False)
            terms[t, s] = term._data
    return terms


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

        z_h(t) = W_e X(t) + W_h h(t-1) + b_e        h(t) = f_h(z_h(t))
        z_s(t) = W_s h(t) + b_s                     o(t) = f_s(z_s(t))

    Args:
        X: the inputs, (N_s, features). h0: the first state.
        weights: (W_e, W_h, W_s, b_e, b_s).
        f_h, f_s: "identity", "tanh", "sigmoid", "relu" or "softmax"; or another function, with its rule: see FUNCTIONS.

    Returns:
        z_h, h, z_s, o: each a dict by t = 1 ... N_s; h has 0, too.
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
    """Back-propagation through time for :func:`rnn_run`, as textbooks write it: in plain NumPy, and literally.

    Here what the tape does by itself is done by hand: to compare it with, and to see what it spares one.

    Args:
        X, h0, weights, f_h, f_s: as of :func:`rnn_run`.
        y: the targets, one for each step.
        dE: the derivative by o of the error of one step, E(o, y); by default of half the squared distance.

    Returns:
        [dW_e, dW_h, dW_s, db_e, db_s, dh(0)]: the gradients of ΣE.

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
