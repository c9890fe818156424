"""Gradients through time, in every way that there is: all are equal, and what is cut short is cut where it says.

Equal are the tape, the procedures of the textbooks in plain NumPy, the sum over all paths, forward mode, and the tape
of which most is thrown away and computed again. And a complex step, which knows none of them.
"""

from __future__ import annotations

import gc
import itertools
import re
import tracemalloc
import weakref
from functools import partial

import numpy as np
import pytest
from benchmarks.checkpoint import main as measure
from oracle import compare, complex_step
from test_cells import CELLS, MinimalGatedCell, draw, float64
from test_examples import example

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.bptt import checkpointed, contributions, rnn_back, rnn_run, rtrl, truncated
from tinygrad_rnn.nn import wrappers
from tinygrad_rnn.ops.checkpoint import checkpoint

T, B, I, H = 7, 2, 2, 3  # noqa: E741
EXACT = 1e-12


class TreeCell(nn.Cell):
    """Two states of different sizes in a dict, and a count of steps, which has no gradient."""

    def __init__(self, rng=0, dtype=np.float64):
        rng = np.random.default_rng(rng)
        self.state_size = {"fast": 2, "memory": (H,)}
        self.fast, self.slow = nn.Linear(I + H, 2, rng=rng, dtype=dtype), nn.Linear(2 + H, H, rng=rng, dtype=dtype)

    def initial_state(self, x):
        state = super().initial_state(x)
        return {**state, "memory": (*state["memory"], tg.tensor(0))}

    def step(self, x, state):
        slow, n = state["memory"]
        fast = tg.tanh(self.fast(tg.concatenate([x, slow], axis=-1)))
        slow = slow + tg.tanh(self.slow(tg.concatenate([fast, slow], axis=-1))) / (n + 1)
        return slow * slow, {"fast": fast, "memory": (slow, n + 1)}


class DroppingCell(nn.RNNCell):
    """Drops units of its state at random, new ones in each step."""

    def __init__(self, *sizes, rng=None, **keywords):
        super().__init__(*sizes, rng=rng, **keywords)
        self.rng = np.random.default_rng(rng)

    def step(self, x, h):
        y, h = super().step(x, h)
        return y, h * (self.rng.random(h.shape) < 0.6)


class MaskedCell(DroppingCell):
    """And a mask drawn once for each sequence, which is part of the state."""

    def initial_state(self, x):
        h = super().initial_state(x)
        return h, tg.Tensor((self.rng.random(h.shape) < 0.6) * 1.0)

    def step(self, x, state):
        h, mask = state
        y, h = super().step(x, h * mask)
        return y, (h, mask)


class LearnedStart(nn.RNNCell):
    """The state before the first step is a parameter."""

    def __init__(self, *sizes, rng=None, **keywords):
        super().__init__(*sizes, rng=rng, **keywords)
        self.h0 = nn.Parameter(draw(H))

    def initial_state(self, x):
        return tg.tanh(self.h0) + np.zeros_like(x, shape=(*x.shape[:-1], H))


SMALL = {name: (lambda make=make: cell_of(make)) for name, (make, _) in CELLS.items()} | {
    "user's": lambda: float64(lambda **k: MinimalGatedCell(I, H, **k)),
    "tree": TreeCell,
    "learned start": lambda: LearnedStart(I, H, rng=0, dtype=np.float64),
}
each_cell = pytest.mark.parametrize("make", SMALL.values(), ids=SMALL)


def cell_of(make):
    cell = float64(make)
    return float64(lambda **k: type(cell)(I, H, **k, **kind_of(cell)))


def kind_of(cell):
    return {
        key: value
        for key, value in vars(cell).items()
        if key in ("reset_after",) or (key == "nonlinearity" and not isinstance(cell, nn.IRNNCell))
    }


def error(y, t):
    """Of one step: different in each, and not quadratic."""
    return (tg.sin(y) * (t + 1)).sum() / 5


def errors(ys, steps):
    return sum(error(y, t) for y, t in zip(tg.ops.unstack(ys), range(T)[steps]))


def bptt(cell, xs, state=None, wanted=None):
    ys, _ = tg.scan(cell, xs, state)
    return tg.gradients(errors(ys, slice(0, T)), [*cell.parameters()] if wanted is None else wanted)


def grads(cell):
    return [p.grad for p in cell.parameters()]


def equal(actual, expected, rtol=EXACT):
    for a, e in itertools.zip_longest(actual, expected):
        compare(a.data, getattr(e, "data", e), rtol)


def leaf(array):
    return tg.tensor(array, requires_grad=True)


# The textbooks' procedures --------------------------------------------------------------------------------------------


def elman(T=T, classes=2):
    shapes = [(H, I), (H, H), (classes, H), (H,), (classes,)]
    return (
        draw(T, I),
        np.eye(classes)[np.arange(T) % classes],
        draw(H),
        [draw(*s, seed=i) for i, s in enumerate(shapes)],
    )


ACTIVATIONS = {"identity": lambda z: z, "tanh": tg.tanh, "sigmoid": tg.sigmoid, "relu": tg.relu, "softmax": tg.softmax}
CROSS_ENTROPY = lambda o, y: -y / o  # noqa: E731


def on_tape(X, y, h0, weights, f_h, f_s, cross_entropy):
    leaves = [leaf(w) for w in (*weights, h0)]
    W_e, W_h, W_s, b_e, b_s, h = leaves
    E = 0
    for x, target in zip(X, y):
        h = ACTIVATIONS[f_h](W_e @ x + W_h @ h + b_e)
        o = ACTIVATIONS[f_s](W_s @ h + b_s)
        E = E - (target * tg.log(o)).sum() if cross_entropy else E + ((o - target) ** 2).sum() / 2
    return tg.gradients(E, leaves)


@pytest.mark.parametrize("f_h", ["tanh", "sigmoid", "relu", "identity"])
@pytest.mark.parametrize(("f_s", "cross_entropy"), [("identity", False), ("tanh", False), ("sigmoid", False),
                                                    ("softmax", False), ("softmax", True)])  # fmt: skip
def test_rnnback_is_the_tape(f_h, f_s, cross_entropy):
    X, y, h0, weights = elman()
    by_hand = rnn_back(X, y, h0, weights, f_h, f_s, *([CROSS_ENTROPY] if cross_entropy else []))
    for got, expected in zip(by_hand, on_tape(X, y, h0, weights, f_h, f_s, cross_entropy), strict=True):
        compare(got, expected.data, EXACT)


def test_rnnback_is_the_complex_step():
    X, y, h0, weights = elman()

    def E(W_e, W_h, W_s, b_e, b_s, h0):
        *_, o = rnn_run(X, h0, (W_e, W_h, W_s, b_e, b_s), "tanh", "sigmoid")
        return sum(((o[t] - y[t - 1]) ** 2).sum() / 2 for t in o)

    inputs = [*weights, h0]
    for i, got in enumerate(rnn_back(X, y, h0, weights, "tanh", "sigmoid")):
        compare(got, complex_step(E, inputs, i), EXACT)


def test_rnnrun_is_the_scan():
    X, _, h0, weights = elman()
    _, h, _, o = rnn_run(X, h0, weights)
    cell = nn.RNNCell(I, H, dtype=np.float64)
    for p, w in zip((cell.weight_ih, cell.weight_hh, cell.bias_ih), (weights[0], weights[1], weights[3])):
        p.data = w
    cell.bias_hh.data = np.zeros(H)
    ys, last = tg.scan(cell, X[:, None], h0[None])
    compare(ys.data[:, 0], np.stack([h[t] for t in range(1, T + 1)]), EXACT)
    compare(last.data[0], h[T], EXACT)
    assert list(o) == [*range(1, T + 1)] and h[0] is h0


def test_rnnback_of_nothing():
    X, y, h0, weights = elman(T=0)
    for got, like in zip(rnn_back(X, y, h0, weights), (*weights, h0), strict=True):
        compare(got, np.zeros_like(like), 0)


def test_an_activation_of_ones_own():
    X, y, h0, weights = elman()
    cubic = (lambda z: z**3 / 50, lambda z, g: g * 3 * z**2 / 50)
    (dW_e, *_) = rnn_back(X, y, h0, weights, cubic)
    h, E, W_e = h0, 0, leaf(weights[0])
    for x, target in zip(X, y):
        h = (W_e @ x + weights[1] @ h + weights[3]) ** 3 / 50
        E = E + ((weights[2] @ h + weights[4] - target) ** 2).sum() / 2
    compare(dW_e, tg.gradients(E, W_e).data, EXACT)


def test_the_error_as_a_product_of_jacobians():
    """dz_t = f'(z_t) Π W_hᵀ f'(z_τ) W_sᵀ ∂E/∂z_s, of an error at the end alone; and dW_h = Σ dz_t h_{t-1}ᵀ."""
    X, y, h0, weights = elman()
    _, W_h, W_s, *_ = weights
    z_h, h, _, o = rnn_run(X, h0, weights, "tanh", "sigmoid")
    slope = {t: np.diag(1 - np.tanh(z) ** 2) for t, z in z_h.items()}
    dz, dW_h = W_s.T @ ((o[T] - y[-1]) * o[T] * (1 - o[T])), 0
    for t in range(T, 0, -1):
        dz = slope[t] @ dz
        dW_h = dW_h + np.outer(dz, h[t - 1])
        dz = W_h.T @ dz
    leaves = [leaf(w) for w in weights]
    state = h0
    for x in X:
        state = tg.tanh(leaves[0] @ x + leaves[1] @ state + leaves[3])
    E = ((tg.sigmoid(leaves[2] @ state + leaves[4]) - y[-1]) ** 2).sum() / 2
    compare(dW_h, tg.gradients(E, leaves[1]).data, EXACT)


def test_the_scalar_network():
    """z = u x + w h, h = φ(z), r = v h, y = φ(r): each bar is the derivative of the loss by what is below it."""
    x, target, u, v, w = draw(T), draw(T, seed=2), 0.7, -1.3, 0.9
    φ, dφ = np.tanh, lambda z: 1 - np.tanh(z) ** 2
    z, h, r, y = [], [0.0], [], []
    for t in range(T):
        z.append(u * x[t] + w * h[-1])
        h.append(φ(z[-1]))
        r.append(v * h[-1])
        y.append(φ(r[-1]))
    h = h[1:]
    z_bar, r_bar = np.zeros(T + 1), np.zeros(T)
    for t in range(T - 1, -1, -1):
        y_bar = y[t] - target[t]
        r_bar[t] = y_bar * dφ(r[t])
        h_bar = r_bar[t] * v + z_bar[t + 1] * w
        z_bar[t] = h_bar * dφ(z[t])
    by_hand = [np.sum(z_bar[:T] * x), np.sum(r_bar * h), np.sum(z_bar[1:] * h)]

    leaves = U, V, W = [leaf(a) for a in (u, v, w)]
    state, loss = 0.0, 0.0
    for t in range(T):
        state = tg.tanh(U * x[t] + W * state)
        loss = loss + (tg.tanh(V * state) - target[t]) ** 2 / 2
    for got, expected in zip(tg.gradients(loss, leaves), by_hand):
        compare(got.data, np.asarray(expected), EXACT)


def test_yesterdays_state_is_no_constant():
    """W acts on h_t through h_{t-1}, too. Who detaches that has another gradient, and not that of the loss."""
    cell, xs = SMALL["rnn"](), draw(T, B, I)

    def loss(keep):
        h, total = cell.initial_state(xs[0]), 0
        for t, x in enumerate(xs):
            y, h = cell.step(x, h if keep else h.detach())
            total = total + error(y, t)
        return total

    right, wrong = (tg.gradients(loss(keep), cell.weight_hh).data for keep in (True, False))

    def value(w):
        cell.weight_hh.data = w
        with tg.no_grad():
            return float(loss(True))

    w, u, step = cell.weight_hh.data.copy(), draw(H, H, seed=5), 1e-5
    slope = (value(w + step * u) - value(w - step * u)) / (2 * step)
    assert abs((right * u).sum() - slope) < 1e-6 * abs(slope)
    assert abs((wrong * u).sum() - slope) > 1e-2 * abs(slope)
    # what it has are the terms of one step
    cell.weight_hh.data = w
    terms = contributions(cell, xs, error, cell.weight_hh)
    compare(wrong, terms[range(T), range(T)].sum(0), EXACT)


# Term by term ---------------------------------------------------------------------------------------------------------


@each_cell
def test_the_terms_sum_to_the_gradient(make):
    cell, xs = make(), draw(T, B, I)
    for p, expected in zip(cell.parameters(), bptt(cell, xs)):
        if p is not getattr(cell, "h0", None):  # which acts before the first step
            terms = contributions(cell, xs, error, p)
            assert terms.shape == (T, T, *p.shape)
            compare(terms.sum(axis=(0, 1)), expected.data, EXACT)


def test_there_is_a_term_for_each_way():
    cell, xs = SMALL["rnn"](), draw(T, B, I)
    terms = contributions(cell, xs, error, cell.weight_ih)
    there = np.abs(terms).max(axis=(2, 3)) > 0
    assert (there == np.tri(T, dtype=bool)).all() and there.sum() == T * (T + 1) // 2
    t = 4
    ys, _ = tg.scan(cell, xs)
    compare(terms[t].sum(0), tg.gradients(error(ys[t], t), cell.weight_ih).data, EXACT)


def test_the_readout_acts_only_at_the_time():
    cell, xs, V = SMALL["rnn"](), draw(T, B, I), leaf(draw(2, H))
    terms = contributions(cell, xs, lambda y, t: error(y @ V.T, t) if t % 2 else None, V)
    assert (np.abs(terms).max(axis=(2, 3)) > 0).tolist() == np.diag(np.arange(T) % 2 == 1).tolist()


# Cut short ------------------------------------------------------------------------------------------------------------


@each_cell
def test_nothing_is_cut_if_the_window_is_as_long_as_the_sequence(make):
    cell, xs = make(), draw(T, B, I)
    expected = bptt(cell, xs)
    for k1, k2 in ((T, None), (T, 2 * T), (1, T), (3, T), (2, 3 * T)):
        cell.zero_grad()
        *_, last = truncated(cell, xs, errors, k1, k2)
        equal(grads(cell), expected)
        assert last.t == T


@pytest.mark.parametrize("name", ["rnn", "lstm", "user's", "tree"])
@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 2), (3, 3), (1, 2), (1, 4), (2, 3), (2, 4), (2, 5), (3, 4), (3, 6),
                                        (5, 6), (10, 12)])  # fmt: skip
def test_it_is_cut_where_it_says(name, k1, k2):
    """Of the terms of the gradient of a step's loss, there are those of the steps in its window, and no other."""
    cell, xs = SMALL[name](), draw(T, B, I)
    done = [step.t for step in truncated(cell, xs, errors, k1, k2)]
    assert done == [*range(k1, T, k1), T]
    biases = []
    for p in cell.parameters():
        terms, expected = contributions(cell, xs, error, p), 0
        for start, end in zip([0, *done], done):
            expected = expected + terms[start:end, max(end - k2, 0) : end].sum(axis=(0, 1))
        compare(p.grad.data, expected, EXACT)
        biases.append(np.abs(expected - terms.sum(axis=(0, 1))).max())
    assert (max(biases) > 1e-6) == (k2 < T)  # if a term is missing, it is biased


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_the_state_is_handed_on(name):
    cell, xs = SMALL[name](), draw(T, B, I)
    ys, expected = tg.scan(cell, xs)
    steps = [*truncated(cell, xs, errors, 2, 3)]
    equal(tg.trees.flatten(steps[-1].state)[0], [s.detach() for s in tg.trees.flatten(expected)[0]])
    assert not any(s.requires_grad for step in steps for s in tg.trees.flatten((step.loss, step.state))[0])
    compare(np.sum([step.loss.data for step in steps]), errors(ys, slice(0, T)).data[()], EXACT)
    *_, (_, _, state) = truncated(cell, xs, errors, 3, state=steps[-1].state)  # the sequence goes on
    both, _ = tg.scan(cell, np.concatenate([xs, xs]))
    compare(tg.trees.flatten(state)[0][0].data, both.data[-1], EXACT)


def test_chunks_with_an_optimiser_are_a_loop_that_detaches():
    xs, targets = draw(6, B, I), draw(6, B, H, seed=7)
    trained = []
    for way in ("by hand", "truncated"):
        cell = SMALL["lstm"]()
        optimizer = optim.Adam(cell.parameters(), lr=0.05)
        if way == "by hand":
            state = None
            for t in range(0, 6, 2):
                ys, state = tg.scan(cell, xs[t : t + 2], state)
                nn.mse(ys, targets[t : t + 2]).backward()
                state = tg.trees.map(lambda s: s.detach(), state)
                optimizer.step()
                optimizer.zero_grad()
        else:
            for _ in truncated(cell, xs, lambda ys, steps: nn.mse(ys, targets[steps]), 2):
                optimizer.step()
                optimizer.zero_grad()
        trained.append([*cell.parameters()])
    for a, b in zip(*trained):
        compare(a.data, b.data, EXACT)


def test_a_window_is_computed_with_the_new_weights():
    cell, xs = SMALL["rnn"](), draw(T, B, I)
    optimizer = optim.SGD(cell.parameters(), lr=0.1)
    begin = [cell.initial_state(xs[0])]
    for t, loss, _ in truncated(cell, xs, errors, 1, 3):
        again = SMALL["rnn"]()
        again.load_state_dict(cell.state_dict())
        ys, _ = tg.scan(again, xs[max(t - 3, 0) : t], begin[max(t - 3, 0)])
        compare(loss.data, error(ys[-1], t - 1).data, EXACT)
        at = max(t - 3, 0)
        begin.append(None)
        _, following = tg.scan(again, xs[at : at + 1], begin[at])
        begin[at + 1] = following.detach()
        optimizer.step()
        optimizer.zero_grad()


class Stack(nn.Module):
    """Two layers: any module that takes (xs, state) will do."""

    def __init__(self, batch_first=False):
        self.lower, self.upper, self.batch_first = (
            SMALL["lstm"](),
            float64(lambda **k: nn.GRUCell(H, H, **k)),
            batch_first,
        )

    def forward(self, xs, state=None):
        lower, upper = (None, None) if state is None else state
        ys, lower = tg.scan(self.lower, xs.swapaxes(0, 1) if self.batch_first else xs, lower)
        ys, upper = tg.scan(self.upper, ys, upper)
        return (ys.swapaxes(0, 1) if self.batch_first else ys), [lower, upper]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(2, 2), (2, 3), (1, 4), (3, T)])
def test_modules_are_cut_like_cells(batch_first, k1, k2):
    """A stack of layers, one that its user wrote: as the sum of two runs, the losses of all but one step left out."""
    xs = draw(T, B, I)
    module, same = Stack(batch_first), Stack()
    time = 1 if batch_first else 0
    steps = [*truncated(module, np.moveaxis(xs, 0, time), lambda ys, s: errors(tg.moveaxis(ys, time, 0), s), k1, k2)]
    state, states = None, []
    for x in xs:
        states.append(state)
        _, state = same(x[None], state)
    for start, step in zip([0, *(s.t for s in steps)], steps):
        begin = max(step.t - k2, 0)
        state = tg.trees.map(lambda s: s.detach(), states[begin])
        ys, _ = same(xs[begin : step.t], state)
        errors(ys[start - begin :], slice(start, step.t)).backward()
    equal(grads(module), grads(same))


@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_are_cut(batch_first):
    module = nn.LSTM(I, H, 2, batch_first=batch_first, rng=0, dtype=np.float64)
    xs, time = draw(6, B, I), 1 if batch_first else 0
    state, losses = None, 0
    for t in range(0, 6, 2):
        ys, state = module(np.moveaxis(xs, 0, time)[(slice(None),) * time + (slice(t, t + 2),)], state)
        losses = losses + errors(tg.moveaxis(ys, time, 0), slice(t, t + 2))
        state = tg.trees.map(lambda s: s.detach(), state)
    gs = tg.gradients(losses, [*module.parameters()])
    for _ in truncated(module, np.moveaxis(xs, 0, time), lambda ys, s: errors(tg.moveaxis(ys, time, 0), s), 2):
        pass
    equal(grads(module), gs)


def test_leaves_get_their_gradient():
    """The first state, from the windows that begin with it; the inputs; and a readout that only the loss has."""
    cell, V = SMALL["gru"](), leaf(draw(H, H, seed=9))
    xs, h0 = leaf(draw(T, B, I)), leaf(draw(B, H))

    def loss(ys, steps):
        return errors(ys @ V, steps)

    for _ in truncated(cell, xs, loss, 2, T, h0):
        pass
    ys, _ = tg.scan(cell, xs, h0)
    equal([V.grad, xs.grad, h0.grad], tg.gradients(loss(ys, slice(0, T)), [V, xs, h0]))
    h0.grad = None
    for _ in truncated(cell, xs, loss, 2, 3, h0):
        pass
    ys, _ = tg.scan(cell, xs[:2], h0)
    equal([h0.grad], tg.gradients(loss(ys, slice(0, 2)), [h0]))  # the second begins after the first step
    h0.grad = None
    for _ in truncated(cell, xs, loss, 2, 3, h0 * 1.0):  # what was computed is a constant
        pass
    assert h0.grad is None


def test_a_function_is_cut_too():
    w = leaf(0.5)

    def step(x, h):
        h = w * h + x
        return h, h

    losses = [*truncated(step, np.ones(4), lambda ys, steps: ys.sum(), 1, 2, 0.0)]
    # of h_t = w h' + 1: dh_t/dw = h' + w h'' with h' = w h'' + 1, from a constant h''
    h, expected = [0.0], 0.0
    for _ in range(4):
        h.append(0.5 * h[-1] + 1)
        expected += h[-2] + (0.5 * h[-3] if len(h) > 2 else 0)
    assert abs(float(w.grad) - expected) < 1e-15
    assert [step.state.item() for step in losses] == h[1:]


@pytest.mark.parametrize("how", ["lengths", "mask"])
@pytest.mark.parametrize("name", ["cell", "function", "layers", "both directions", "batch first"])
def test_a_padded_batch_in_windows_is_its_sequences_one_by_one(name, how):
    lengths, xs, w = [6, 4, 0, 2], draw(6, 4, I), leaf(draw(I, I, seed=9))
    cells = [[SMALL["lstm"]() for _ in range(2)] for _ in range(2)]
    net = {
        "cell": cells[0][0], "layers": nn.Recurrent(cells[0][0]),
        "batch first": nn.Recurrent(cells[0][0], batch_first=True),
        "both directions": nn.Recurrent(cells[0][0], bidirectional=cells[1][0]),
        "function": lambda x, h: (tg.tanh(x @ w + h),) * 2,
    }[name]  # fmt: skip
    parameters = [w] if name == "function" else [*net.parameters()]
    state = np.zeros((4, I)) if name == "function" else None
    mask, found = np.arange(6)[:, None] < lengths, []
    given = {"lengths": lengths} if how == "lengths" else {"mask": mask.T if name == "batch first" else mask}
    if name == "batch first":
        steps = truncated(net, xs.swapaxes(0, 1), lambda ys, steps: errors(ys.swapaxes(0, 1), steps), 2, **given)
        last = [step.state for step in steps][-1]
    else:
        last = [step.state for step in truncated(net, xs, errors, 2, state=state, **given)][-1]
    for p in parameters:
        found.append(p.grad)
        p.grad = None
    if name == "batch first":
        net.batch_first = False
    for b, n in enumerate(lengths):
        start = None if state is None else state[b : b + 1]
        alone = [*truncated(net, xs[:n, b : b + 1], errors, 2, state=start)]
        if n and name in ("cell", "layers"):
            for one, all_ in zip(tg.trees.flatten(alone[-1].state)[0], tg.trees.flatten(last)[0], strict=True):
                compare(one.data, all_.data[b : b + 1], EXACT)
    equal(found, [p.grad for p in parameters])


@pytest.mark.parametrize("k2", [2, 4])
def test_resets_in_windows(k2):
    """Of a function, they lead to the state that the whole began with, and not the window."""
    cell, xs, reset = SMALL["gru"](), draw(T, B, I), np.zeros((T, B), bool)
    reset[2, 0] = reset[5, 1] = True
    ys, _ = tg.scan(cell, xs, reset=reset)
    total = sum(step.loss.item() for step in truncated(cell, xs, errors, 2, k2, reset=reset))
    assert abs(total - errors(ys, slice(0, T)).item()) < EXACT
    h0 = leaf(draw(B, H))
    for run in (cell.step, lambda x, h: cell.step(x, h)):
        ys, _ = tg.scan(run, xs, h0, reset=reset)
        total = sum(step.loss.item() for step in truncated(run, xs, errors, 2, k2, h0, reset=reset))
        assert abs(total - errors(ys, slice(0, T)).item()) < EXACT


def windows(k1, k2):
    """begin, done, end; and where the next one begins."""
    begin = done = 0
    while done < T:
        end = min(done + k1, T)
        following = max(min(end + k1, T) - k2, begin)
        yield begin, done, end, following
        begin, done = following, end


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(2, 2), (3, 3), (1, 3), (2, 3), (2, 5), (T, T)])
@pytest.mark.parametrize("kind", ["Recurrent", "LSTM", "GRU", "GRU, learned", "within another"])
def test_a_backward_direction_sees_its_window(kind, k1, k2, batch_first):
    """The same, written by hand."""
    swap = lambda x: x.swapaxes(0, 1) if batch_first else x  # noqa: E731

    def make():
        if kind == "Recurrent":
            there, back = [[nn.LSTMCell(n, H, rng=n + i, dtype=np.float64) for n in (I, 2 * H)] for i in (0, 9)]
            return nn.Recurrent(there, bidirectional=back, batch_first=batch_first)
        options = {"batch_first": batch_first, "bidirectional": True, "dtype": np.float64, "rng": 0}
        if kind.startswith("GRU"):
            net = nn.GRU(I, H, 2, **options, learned_state="learned" in kind)
            for name, p in net.named_parameters():
                p.data = p.data + 0.1 * draw(*p.shape) * name.startswith("h0")
            return net
        return nn.LSTM(I, H, 2, **options) if kind == "LSTM" else Around(nn.LSTM(I, H, 2, **options))

    class Around(nn.Module):
        def __init__(self, net):
            self.net, self.batch_first = net, batch_first

        def forward(self, x, state=None, **options):
            return self.net(x, state, **options)

        def carried(self, *state):
            return self.net.carried(*state)

    xs, lengths = draw(T, B, I), [T, 4]
    by_hand, state = make(), None
    for begin, done, end, following in windows(k1, k2):
        mask = np.arange(begin, end)[:, None] < lengths
        ys, _, every = by_hand(swap(xs[begin:end]), state, mask=swap(mask), states=True)
        errors(swap(ys)[done - begin :], slice(done, end)).backward()
        if following > begin:
            at = following - begin - 1
            index = (slice(None),) * (batch_first + (kind != "Recurrent")) + (at,)
            state = tg.trees.map(lambda s: s[index].detach(), every)  # noqa: B023
            if kind == "Recurrent":
                state = [(there, None) for there, _ in state]
            else:
                home = np.zeros((2, B, H))
                if "learned" in kind:
                    first = dict(by_hand.named_parameters())
                    home = tg.stack([first[f"h0_l{i}_reverse"] + np.zeros((B, H)) for i in range(2)])
                state = tg.trees.map(lambda s, b=home: tg.stack([s[0], b[0], s[2], b[1]]), state)
    net = make()
    *_, step = truncated(net, swap(xs), lambda ys, steps: errors(swap(ys), steps), k1, k2, lengths=lengths)
    equal([p.grad for p in net.parameters()], [p.grad for p in by_hand.parameters()])
    net(swap(xs), step.state)  # where the next sequence goes on


def test_a_module_that_does_not_say_what_is_carried():
    class Tagger(nn.Module):
        def __init__(self):
            self.rnn = nn.GRU(I, H, bidirectional=True, rng=0, dtype=np.float64)

        def forward(self, x, state=None):
            return self.rnn(x, state)

    with pytest.raises(TypeError, match=r"^Tagger: it has a backward direction, which begins anew in each window: "
                       r"give it a method carried\(self, \*state\), which returns that of its layers; or, if no "
                       r"state of a backward direction is among what is carried, write carried = None in the "
                       r"class$"):  # fmt: skip
        truncated(Tagger(), draw(T, B, I), errors, 2)


def test_a_module_whose_state_has_nothing_of_a_backward_direction():
    """An encoder of both directions below a forward layer: with carried = None the state goes on as it is."""

    class Reader(nn.Module):
        carried = None

        def __init__(self):
            self.both = nn.GRU(I, H, bidirectional=True, rng=0, dtype=np.float64)
            self.forth = nn.GRU(2 * H, H, rng=1, dtype=np.float64)

        def forward(self, x, state=None):
            return self.forth(self.both(x)[0], state)

    xs, by_hand, net, state = draw(6, B, I), Reader(), Reader(), None
    for begin in range(0, 6, 2):
        ys, state = by_hand(xs[begin : begin + 2], state)
        errors(ys, slice(begin, begin + 2)).backward()
        state = state.detach()
    for _ in truncated(net, xs, errors, 2):
        pass
    equal([p.grad for p in net.parameters()], [p.grad for p in by_hand.parameters()])
    with pytest.raises(TypeError, match=r"Reader: .* carried has to be a method .* not None; or let k2 = k1"):
        truncated(net, xs, errors, 2, 4)
    with pytest.raises(TypeError, match=r"or let k2 = k1 divide the number of steps, 6$"):  # the last one overlaps
        truncated(net, xs, errors, 4)


@pytest.mark.parametrize("make", [nn.GRU, nn.LSTM])
def test_what_is_carried_is_a_state(make):
    net = make(I, H, bidirectional=True, rng=0, dtype=np.float64)
    _, state = net(draw(T, B, I))
    net.carried(state)
    part = state if make is nn.GRU else state[0]
    for wrong in ({"h": state}, part[:1], part[..., :1], [state] * 3):
        with pytest.raises(tg.StateError, match=r"carried: h0: expected what the network returned|needs \(h0, c0\)"):
            net.carried(wrong if make is nn.GRU or isinstance(wrong, (dict, list)) else (wrong, wrong))


def test_one_sequence_in_windows_of_a_batch_first_network():
    net, xs = nn.LSTM(I, H, batch_first=True, bidirectional=True, rng=0, dtype=np.float64), draw(T, I)
    for k1, k2 in ((T, T), (2, 4)):
        *_, step = truncated(net, xs, lambda ys, steps: (ys * ys).sum(), k1, k2)
        assert step.t == T and step.state[0].shape == (2, H)


LOSSES = {
    "a float": (lambda ys, steps: 1.0, "1.0"),
    "an array": (lambda ys, steps: ys.numpy().sum(), r"np.float64\(.*\)"),
    "nothing": (lambda ys, steps: None, "None"),
}


@pytest.mark.parametrize(("loss", "got"), LOSSES.values(), ids=LOSSES)
def test_what_is_no_loss(loss, got):
    cell, xs = SMALL["gru"](), draw(T, B, I)
    message = f"^loss: expected a tensor, a single number, that was computed from the outputs, got {got}$"
    with pytest.raises(TypeError, match=message):
        next(truncated(cell, xs, loss, 2))
    if got != "None":
        with pytest.raises(TypeError, match=message):
            next(rtrl(cell, xs, loss))
        with pytest.raises(TypeError, match=message):
            contributions(cell, xs, loss, cell.weight_hh)


@pytest.mark.parametrize("run", [checkpointed, tg.scan, lambda c, xs: rtrl(c, xs, error),
                                 lambda c, xs: truncated(c, xs, errors, 2),
                                 lambda c, xs: contributions(c, xs, error, leaf(1.0))])  # fmt: skip
def test_what_is_no_cell(run):
    xs, expected = draw(T, B, I), r"^cell: expected a Cell, or a function step\(x, state\), got "
    with pytest.raises(TypeError, match=expected + r"the class GRUCell: make one, GRUCell\(\.\.\.\)$"):
        run(nn.GRUCell, xs)
    with pytest.raises(TypeError, match=expected + "'gru'$"):
        run("gru", xs)
    if run.__code__.co_varnames[:2] != ("c", "xs") or "truncated" not in run.__code__.co_names:
        with pytest.raises(
            TypeError, match=expected + "Linear, a module: what runs over whole sequences itself is called"
        ):
            run(nn.Linear(I, H), xs)


def test_wrong_windows():
    cell, xs = SMALL["rnn"](), draw(T, B, I)
    for k in ((0, None), (3, 2), (-1, 5), (1.5, None), (1, 2.0)):
        with pytest.raises(ValueError, match=r"k1, k2: expected integers, 1 <= k1 <= k2, got .* a loss every k1 steps"):
            truncated(cell, xs, errors, *k)
    with pytest.raises(ValueError, match=r"xs: it was computed, by multiply, .* compute it inside of the module"):
        truncated(cell, leaf(xs) * 2, errors, 1)
    with tg.no_grad(), pytest.raises(ValueError, match="no_grad"):
        next(truncated(cell, xs, errors, 1))
    assert [*truncated(cell, xs[:0], errors, 1)] == []


def test_no_tape_outlives_a_window():
    cell, xs, seen = SMALL["lstm"](), draw(T, B, I), []

    def loss(ys, steps):
        value = errors(ys, steps)
        seen.append(weakref.ref(value.node))
        return value

    gc.disable()
    try:
        for _ in truncated(cell, xs, loss, 2):
            assert seen[-1]().parents == ()
        assert all(ref() is None for ref in seen[:-1])
    finally:
        gc.enable()


# Computed again -------------------------------------------------------------------------------------------------------


def product(a, b):
    return tg.tanh(a @ b) * a.sum()


def test_a_checkpoint_has_the_values_and_gradients_of_a_call():
    a, b = leaf(draw(3, 3)), leaf(draw(3, 3, seed=2))
    y = checkpoint(product, a, b)
    compare(y.data, product(a.data, b.data), 0)
    equal(tg.gradients(y.sum(), [a, b]), tg.gradients(product(a, b).sum(), [a, b]), 0)
    tg.check_gradients(lambda a, b: checkpoint(product, a, b), a, b, order=3)


def test_of_a_checkpoint_only_the_inputs_are_kept():
    x = leaf(draw(5, 5))
    y = checkpoint(lambda x: tg.sin(tg.exp(tg.tanh(x @ x))), x)
    tape = tg.tape(y)
    assert [node.op and node.op.name for node in tape] == [None, "recompute", "recompute"]
    assert tape.nbytes() == x.data.nbytes
    middle = []

    def watched(x):
        out = tg.exp(x)
        middle.append(weakref.ref(out))
        return tg.sin(out)

    y = checkpoint(watched, x)
    assert middle[0]() is None
    gc.disable()
    try:
        y.sum().backward()
        assert middle[1]() is None
    finally:
        gc.enable()


def test_what_a_checkpoint_holds_is_freed_by_counting():
    x, w = leaf(draw(3)), leaf(draw(3, seed=2))
    gc.disable()
    try:
        for order in range(3):
            held = tg.tensor(draw(3))

            def f(x, held=held):
                return tg.sin(x * w) * held

            y = checkpoint(f, x, held, parameters=[w]).sum()
            for i in range(order):
                y = tg.gradients(y, x, create_graph=i < 1)
                y = y.sum() if i < 1 else y
            refs = [weakref.ref(f), weakref.ref(held)]
            del f, held, y
            assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


def function_of_trees(p, pair, scale, *, w):
    x, (h, n) = p["x"], pair
    h = tg.tanh(x @ w + h * scale)
    return {"h": h, "count": n + 1, "none": None, "rows": [h.sum(axis=0), x], "ints": tg.argmax(h, axis=1)}


def test_trees_go_in_and_come_out():
    w, x, h = leaf(draw(2, 3)), leaf(draw(4, 2)), leaf(draw(4, 3))

    def f(p, pair, scale):
        return function_of_trees(p, pair, scale, w=w)

    plain = f({"x": x}, (h, 5), 2.0)
    again = checkpoint(f, {"x": x}, (h, 5), 2.0, parameters=[w, w])
    assert again.keys() == plain.keys() and again["count"] == 6 and again["none"] is None
    assert (again["ints"] == plain["ints"]).all() and not isinstance(again["ints"], tg.Tensor)

    def loss(out):
        return (out["rows"][0] ** 2).sum() + (out["rows"][1] ** 3).sum()  # and "h" is not used

    equal(tg.gradients(loss(again), [w, x, h]), tg.gradients(loss(plain), [w, x, h]))


def test_parameters_that_are_closed_over_to_every_order():
    w, x = leaf(draw(3, 3)), draw(2, 3)

    def f(h):
        return tg.tanh(h @ w + x)

    def loss(call, h):
        h = call(h * w.sum())  # the input depends on the parameter, too
        return (call(call(h)) ** 2).sum()

    def again(h):
        return checkpoint(f, h, parameters=[w])

    h = leaf(draw(2, 3, seed=4))
    wanted = [w, h]
    results = []
    for call in (f, again):
        first = tg.gradients(loss(call, h), wanted, create_graph=True)
        second = tg.gradients(sum((g * g).sum() for g in first), wanted, create_graph=True)
        third = tg.gradients(sum(tg.sin(g).sum() for g in second), wanted)
        results.append([*first, *second, *third])
    equal(results[1], results[0])


def test_checkpoints_in_checkpoints():
    w, x = leaf(draw(3, 3)), leaf(draw(2, 3))

    def inner(h):
        return tg.tanh(h @ w)

    def middle(h):
        return checkpoint(inner, checkpoint(inner, h, parameters=[w]), parameters=[w]) * 2

    def outer(h):
        return checkpoint(middle, middle(h), parameters=[w])

    plain = inner(inner(inner(inner(x)) * 2)) * 2
    y = checkpoint(outer, x, parameters=[w])
    equal([y.detach()], [plain.detach()])
    equal(tg.gradients((y * y).sum(), [w, x]), tg.gradients((plain * plain).sum(), [w, x]))
    tg.check_gradients(lambda x: checkpoint(outer, x, parameters=[w]), x, order=2)


def test_the_same_is_drawn_again_and_the_generator_put_back():
    rng, x = np.random.default_rng(3), leaf(draw(50))

    def dropped(x):
        return tg.sin(x) * (rng.random(50) < 0.5)

    y = checkpoint(dropped, x, generators=[rng])
    after = rng.bit_generator.state
    (dx,) = tg.gradients(y.sum(), [x], create_graph=True)
    assert rng.bit_generator.state == after
    compare(dx.data, np.where(y.data != 0, np.cos(x.data), 0), EXACT)
    compare(tg.gradients(dx.sum(), x).data, -y.data, EXACT)
    assert rng.bit_generator.state == after
    other = np.random.default_rng(3)
    other.random(50)
    assert rng.random() == other.random()


def test_a_generator_is_put_back_after_an_error():
    rng, x, calls = np.random.default_rng(3), leaf(draw(5)), itertools.count()

    def fails(x):
        rng.random(5)
        if next(calls):
            raise ValueError("the second time")
        return tg.sin(x)

    y = checkpoint(fails, x, generators=[rng])
    after = rng.bit_generator.state
    with pytest.raises(ValueError, match="the second time"):
        y.sum().backward()
    assert rng.bit_generator.state == after


def test_a_parameter_that_was_changed_meanwhile():
    w, x = leaf(draw(3, 3)), leaf(draw(2, 3))
    y = checkpoint(lambda x: tg.tanh(x @ w), x, parameters=[w])
    w.data = w.data + 1
    with pytest.raises(RuntimeError, match=r"checkpoint: a parameter of <lambda>, float64 \(3, 3\), was changed"):
        y.sum().backward()
    y = checkpoint(lambda x: tg.tanh(x @ w), x, parameters=[w])
    loss = y.sum()
    loss.backward(retain_graph=True)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="step the optimiser then"):
        loss.backward()


def test_a_tensor_that_it_was_not_given():
    w, x = leaf(draw(3, 3)), leaf(draw(2, 3))
    y = checkpoint(lambda x: tg.tanh(x @ w), x)
    with pytest.raises(RuntimeError, match=r"float64 \(3, 3\), .* is a leaf: pass it in parameters="):
        y.sum().backward()
    v = w * 2
    y = checkpoint(lambda x: tg.tanh(x @ v), x, parameters=[w])
    with pytest.raises(RuntimeError, match="was computed: make it an input"):
        y.sum().backward()
    with pytest.raises(TypeError, match=r"parameters\[0\]: expected a tensor that was not computed"):
        checkpoint(lambda x: x @ v, x, parameters=[v])
    w.requires_grad = False
    y = checkpoint(lambda x: tg.tanh(x @ w), x)  # a constant may be used by anyone
    y.sum().backward()


def test_a_function_that_does_something_else_the_second_time():
    rng, x = np.random.default_rng(0), leaf(draw(9))
    y = checkpoint(lambda x: tg.sin(x[: rng.integers(1, 9)]), x)
    with pytest.raises(RuntimeError, match=r"in the forward pass, and .* when it was run again"):
        y.sum().backward()


def test_without_gradients_it_is_a_call():
    x = leaf(draw(3))
    with tg.no_grad():
        assert not checkpoint(tg.sin, x).requires_grad
    assert isinstance(checkpoint(lambda x: np.sin(x), draw(3)), np.ndarray)
    y = checkpoint(lambda x: tg.sin(x) * 2, x).sum()
    with tg.no_grad():  # the way back is possible here, too
        compare(tg.gradients(y, x).data, 2 * np.cos(x.data), EXACT)
    y = checkpoint(lambda h: h * x, x.detach())  # nothing that it was given wants one: the tape has all of it
    compare(tg.gradients(y.sum(), x).data, x.data, 0)


def test_arrays_and_constants_are_as_they_were():
    x, array, constant = leaf(draw(3)), draw(3, seed=2), tg.tensor(draw(3, seed=3))
    y = checkpoint(lambda x, a, c: tg.sin(x) * a * c, x, array, constant)
    expected = np.cos(x.data) * array * constant.data
    array += 1
    constant.data = constant.data + 1
    compare(tg.gradients(y.sum(), x).data, expected, EXACT)


def test_an_error_in_the_function_is_that_of_the_function():
    x = leaf(draw(3))
    with pytest.raises(ValueError, match="matmul"):
        checkpoint(lambda x: x @ np.ones((2, 2)), x)
    with tg.anomaly(), np.errstate(all="ignore"), pytest.raises(tg.AnomalyError, match="sqrt"):
        checkpoint(lambda x: tg.sqrt(-abs(x)), x)
    with tg.anomaly():  # and where nothing is wrong, nothing is found
        checkpoint(lambda x: tg.sin(x) * 2, x).sum().backward()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_checkpoint_on_devices(xp, dtype):
    x = tg.tensor(xp.asarray(draw(4, 3).astype(dtype)), requires_grad=True)
    w = tg.tensor(xp.asarray(draw(3, 3, seed=2).astype(dtype)), requires_grad=True)

    def f(x):
        return tg.tanh(x @ w)

    results = []
    for call in (f, lambda x: checkpoint(f, x, parameters=[w])):
        first = tg.gradients((call(x) ** 2).sum(), [x, w], create_graph=True)
        results.append([*first, *tg.gradients(sum((g * g).sum() for g in first), [x, w])])
    for a, b in zip(*results):
        assert a.device == x.device and a.dtype == dtype
        compare(a.numpy(), b.numpy(), 1e-2 if dtype == np.float16 else 1e-5)


# A scan in segments ---------------------------------------------------------------------------------------------------


def second_order(cell, run, xs, state, **options):
    """All that can be compared: outputs, states, and gradients of two orders with regard to everything."""
    ys, *rest = run(cell, xs, state, **options)
    parts = [ys, *tg.trees.flatten(rest)[0]]
    parts = [x for x in parts if isinstance(x, tg.Tensor)]
    wanted = [*cell.parameters(), *[x for x in tg.trees.flatten((xs, state))[0] if isinstance(x, tg.Tensor)]]
    loss = sum(tg.sin(x * (i + 1)).sum() for i, x in enumerate(parts))
    first = tg.gradients(loss, wanted, create_graph=True)
    second = tg.gradients(sum((g * g).sum() for g in first), wanted)
    return [x.detach() for x in (*parts, *first, *second)]


@each_cell
def test_segments_are_the_scan(make):
    cell, xs = make(), leaf(draw(T, B, I))
    plain = second_order(cell, tg.scan, xs, None)
    for every in (None, 1, 3, T, 2 * T):
        equal(second_order(cell, checkpointed, xs, None, every=every), plain)


MASK = np.random.default_rng(8).random((T, B)) < 0.7
OPTIONS = {
    "reverse": {"reverse": True},
    "states": {"states": True},
    "lengths": {"lengths": [3, T]},
    "no steps in the last segments": {"lengths": [3, 2]},
    "lengths, reverse, states": {"lengths": [5, 2], "reverse": True, "states": True},
    "mask": {"mask": MASK, "states": True},
    "reset": {"reset": ~MASK},
    "reset, mask, reverse": {"reset": ~MASK, "mask": MASK[::-1].copy(), "reverse": True, "states": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["rnn", "lstm", "learned start"])
def test_the_options_of_scan_are_cut_along_time(name, options):
    cell, xs = SMALL[name](), leaf(draw(T, B, I))
    state = tuple(leaf(draw(B, H, seed=s)) for s in (3, 4)) if name == "lstm" else leaf(draw(B, H, seed=3))
    plain = second_order(cell, tg.scan, xs, state, **options)
    equal(second_order(cell, checkpointed, xs, state, every=2, **options), plain)


def test_a_function_in_segments():
    w, h0, xs = leaf(draw(H, H)), leaf(draw(B, H)), draw(T, B, H, seed=5)

    def step(x, h):
        h = tg.tanh(h @ w + x)
        return h, h

    def gradients(run, **options):
        ys, last = run(step, xs, h0, reset=~MASK, **options)
        return tg.gradients((ys * ys).sum() + last.sum(), [w, h0])

    equal(gradients(checkpointed, parameters=[w]), gradients(tg.scan))
    with pytest.raises(RuntimeError, match="pass it in parameters="):
        gradients(checkpointed)


@pytest.mark.parametrize("kind", [DroppingCell, MaskedCell])
def test_dropout_is_drawn_again(kind):
    results = []
    for run in (tg.scan, checkpointed):
        cell = kind(I, H, rng=5, dtype=np.float64)
        results.append(second_order(cell, run, leaf(draw(T, B, I)), None))
        results[-1].append(tg.tensor(cell.rng.random(3)))  # and the generators are where they would be
    equal(results[1], results[0])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda cell: wrappers.Zoneout(cell, 0.3, rng=4),
        lambda cell: wrappers.RecurrentDropout(cell, 0.3, rng=4),
        lambda cell: wrappers.VariationalDropout(cell, 0.3, 0.2, rng=4),
        lambda cell: wrappers.Zoneout(wrappers.VariationalDropout(cell, 0.3, rng=4), 0.5, rng=5),
        lambda cell: wrappers.TimeSkip(cell, 3, rng=6),
        lambda cell: nn.LearnedState(cell),
    ],
)
def test_wrapped_cells_in_segments(wrap):
    results = []
    for run in (tg.scan, checkpointed):
        cell = wrap(SMALL["lstm"]())
        results.append(second_order(cell, run, leaf(draw(T, B, I)), None, lengths=[T, 4]))
    equal(results[1], results[0])


def test_anomalies_are_found_in_a_segment():
    cell = SMALL["rnn"]()
    xs = draw(9, B, I)
    xs[7] = 1e308
    cell.weight_ih.data = cell.weight_ih.data * 100
    with tg.anomaly(), pytest.raises(tg.AnomalyError, match=r"matmul made .* in segment 2, in step 1 of"):
        checkpointed(cell, xs, every=3)


def test_segments_that_cannot_be():
    cell, xs = SMALL["lstm"](), draw(T, B, I)
    with pytest.raises(ValueError, match=r"^every: expected a whole number, at least 1, got 0$"):
        checkpointed(cell, xs, every=0)
    with pytest.raises(ValueError, match="lengths: expected 2 integers"):
        checkpointed(cell, xs, lengths=[1])
    with pytest.raises(ValueError, match=r"LSTMCell: state.*\n?"):
        checkpointed(cell, xs, (draw(B, H), draw(B + 1, H)))
    with pytest.raises(TypeError, match="xs: expected an array"):
        checkpointed(cell, 3.0)
    with pytest.raises(ValueError, match="no batch axis"):
        checkpointed(lambda x, h: (x, h), draw(T), 0.0, mask=[True] * T)
    ys, _ = checkpointed(cell, xs[:0])
    assert ys.shape == (0, B, H)


def kept(run, time):
    """The bytes of arrays, and of everything, that a scan leaves until it is walked back."""
    cell, xs = nn.LSTMCell(4, 16, rng=0), tg.tensor(draw(time, 1, 4).astype(np.float32))
    gc.collect()
    tracemalloc.start()
    try:
        state = run(cell, xs)[1]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if state else 0
    finally:
        tracemalloc.stop()


def test_the_tape_grows_with_time_and_that_of_checkpoints_with_its_root():
    scan, segments = partial(tg.scan, compiled=False), partial(checkpointed, compiled=False)
    kept(scan, 10)
    short, long = kept(scan, 100), kept(scan, 400)
    assert 3.8 < long / short < 4.2
    short, long = kept(segments, 100), kept(segments, 400)
    assert 1.7 < long / short < 2.3
    assert long < kept(scan, 400) / 20


def steps_and_peak(time, memory):
    """The steps that are made, forward and back, and the bytes that are held at most; and those of the outputs."""
    made = []

    class Reader(nn.GRUCell):
        def __init__(self):
            super().__init__(4, 24, rng=0)
            self.readout = nn.Linear(24, 1, rng=1)

        def step(self, x, h):
            made.append(1)
            y, h = super().step(x, h)
            return self.readout(y), h

    cell, xs = Reader(), tg.tensor(draw(time, 32, 4).astype(np.float32))
    run = partial(tg.scan, compiled=False) if memory is None else partial(checkpointed, memory=memory)
    gc.collect()
    tracemalloc.start()
    try:
        ys, _ = run(cell, xs)
        (ys * ys).mean().backward()
        return len(made), tracemalloc.get_traced_memory()[1], ys.data.nbytes
    finally:
        tracemalloc.stop()


def test_segments_within_a_number_of_bytes():
    """The more there are, the fewer steps are made again; at the end, none. Two are made to see what one takes."""
    time = 600
    made, plain, _ = steps_and_peak(time, None)
    assert made == time
    with pytest.raises(ValueError, match="memory") as caught:
        steps_and_peak(time, 1000)
    found = re.fullmatch(r"memory: expected at least ([\d,]+) bytes, for 600 steps with ([\d,]+) on the tape of each, "
                         r"and a state of ([\d,]+); got 1,000", str(caught.value))  # fmt: skip
    least, step, state = (int(number.replace(",", "")) for number in found.groups())
    assert least < plain / 8 and abs(least - 2 * np.sqrt(time * step * state)) < step + state
    again = []
    for memory in (least, 2 * least, plain // 2, int(1.1 * plain)):
        made, peak, outputs = steps_and_peak(time, memory)
        assert peak < 1.03 * memory + 5 * outputs + 50_000
        again.append(made - time - 3)
    assert again == sorted(again, reverse=True) and again[0] < time and again[-1] == 0
    assert again[2] < 0.55 * time
    with tg.compiled(True):
        assert steps_and_peak(time, plain // 2)[0] == again[2] + time + 3


def test_inputs_are_not_copied_to_see_what_a_step_takes():
    cell, xs = nn.RNNCell(500, 2, rng=0), tg.tensor(np.ones((500, 4, 500), np.float32))
    tracemalloc.start()
    try:
        checkpointed(cell, xs, memory=10**6)
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**6 < xs.data.nbytes
    finally:
        tracemalloc.stop()


def test_a_number_of_bytes_changes_no_value():
    cell, xs = wrappers.Zoneout(SMALL["lstm"](), 0.3, rng=4), leaf(draw(T, B, I))
    plain = second_order(cell, tg.scan, xs, None, **OPTIONS["reset, mask, reverse"])
    for memory in (10**5, 10**6):
        cell.rng = np.random.default_rng(4)
        equal(second_order(cell, checkpointed, xs, None, memory=memory, **OPTIONS["reset, mask, reverse"]), plain)
    ys, _ = checkpointed(cell, xs[:1], memory=10**6)
    assert ys.shape == (1, B, H)
    with pytest.raises(
        ValueError, match=r"^every, memory: expected one of them, got both: memory says how long a segment"
    ):
        checkpointed(cell, xs, every=2, memory=10**6)
    with pytest.raises(ValueError, match=r"^every: expected a whole number, at least 1, got 1\.5$"):
        checkpointed(cell, xs, every=1.5)
    with pytest.raises(ValueError, match=r"^memory: expected a whole number, at least 1, got '1 MB'$"):
        checkpointed(cell, xs, memory="1 MB")
    with pytest.raises(ValueError, match=r"^memory, compiled: expected one of them, got both, compiled=True: what is "
                                         r"known is how many bytes the tape takes$"):  # fmt: skip
        checkpointed(cell, xs, memory=10**6, compiled=True)


# Carried forward ------------------------------------------------------------------------------------------------------


@each_cell
def test_forward_mode_is_the_tape(make):
    cell, xs = make(), draw(T, B, I)
    ys, state = tg.scan(cell, xs)
    for step in rtrl(cell, xs, error):
        compare(step.loss.data, error(ys[step.t - 1], step.t - 1).data, EXACT)
    equal(grads(cell), bptt(cell, xs))
    for a, b in zip(tg.trees.flatten(step.state)[0], tg.trees.flatten(state)[0]):
        compare(getattr(a, "data", a), getattr(b, "data", b), EXACT)


def test_forward_mode_is_exact_at_every_step():
    cell, xs = SMALL["gru"](), draw(T, B, I)
    ys, _ = tg.scan(cell, xs)
    for t, _, _ in rtrl(cell, xs, error):
        loss = sum(error(ys[s], s) for s in range(t))
        equal(grads(cell), tg.gradients(loss, [*cell.parameters()], retain_graph=True))


def test_forward_mode_reaches_the_first_state_and_the_readout():
    cell, V, state = SMALL["lstm"](), leaf(draw(H, 2)), tuple(leaf(draw(B, H, seed=s)) for s in (3, 4))
    xs = draw(T, B, I)

    def loss(y, t):
        return error(y @ V, t) if t in (2, 5) else None

    assert [step.loss is None for step in rtrl(cell, xs, loss, state)] == [t not in (2, 5) for t in range(T)]
    ys, _ = tg.scan(cell, xs, state)
    wanted = [*cell.parameters(), V, *state]
    equal([p.grad for p in wanted], tg.gradients(sum(loss(ys[t], t) for t in (2, 5)), wanted))


def test_forward_mode_of_a_function():
    w, h0 = leaf(draw(2, 2)), leaf(draw(2))

    def step(x, h):
        h = tg.tanh(w @ h + x)
        return h, h

    xs = draw(T, 2, seed=4)
    for _ in rtrl(step, xs, error, h0, parameters=[w]):
        pass
    ys, _ = tg.scan(step, xs, h0)
    equal([w.grad, h0.grad], tg.gradients(errors(ys, slice(0, T)), [w, h0]))
    with pytest.raises(ValueError, match="state: a function does not say"):
        rtrl(step, xs, error)


def test_lengths_of_one_sequence_without_an_axis_of_the_batch():
    for run in (nn.GRU(I, H, rng=0, dtype=np.float64), SMALL["gru"]()):
        with pytest.raises(ValueError, match=r"^lengths, mask, reset: xs has no batch axis, it is float64 \(5, 2\)$"):
            truncated(run, draw(5, 2), errors, 3, lengths=[5])


def test_forward_mode_of_no_sequences_and_no_steps():
    for xs in (draw(T, 0, I), draw(0, B, I)):
        cell = SMALL["gru"]()
        assert len([*rtrl(cell, xs, error)]) == len(xs)
        assert all(p.grad is None or (p.grad.data == 0).all() for p in cell.parameters())
    with pytest.raises(ValueError, match="parameters: expected at least one"):
        rtrl(lambda x, h: (x, h), draw(T, 2), error, draw(2))
    with pytest.raises(TypeError, match=r"^parameters\[0\]: expected a tensor that was not computed, got float64 "):
        rtrl(lambda x, h: (x, h), draw(T, 2), error, draw(2), parameters=[np.ones(2)])


@pytest.mark.parametrize("run", [lambda xs: truncated(SMALL["rnn"](), xs, errors, 1),
                                 lambda xs: rtrl(SMALL["rnn"](), xs, error),
                                 lambda xs: contributions(SMALL["rnn"](), xs, error, leaf(1.0))])  # fmt: skip
def test_what_is_no_sequence(run):
    with pytest.raises(TypeError, match="xs: expected an array or a tensor, time first"):
        run([1.0, 2.0])


def test_forward_mode_leaves_no_tape():
    """However long the sequence, there is that of one step."""
    cell, xs, seen = SMALL["lstm"](), draw(T, B, I), []

    def loss(y, t):
        seen.append(weakref.ref(y.node))
        return error(y, t)

    gc.disable()
    try:
        for _ in rtrl(cell, xs, loss):
            assert all(ref() is None for ref in seen[:-1])
    finally:
        gc.enable()


def test_on_devices(xp):
    """Nothing is copied to the host, and nothing of it needed."""
    data = draw(T, B, I).astype(np.float32)
    results = []
    for array in (data, xp.asarray(data)):
        cell = nn.GRUCell(I, H, rng=0).to(tg.tensor(array).device)
        for run in (lambda cell, xs: truncated(cell, xs, errors, 2, 3), lambda cell, xs: rtrl(cell, xs, error)):
            cell.zero_grad()
            for _ in run(cell, array):
                pass
            results.append([p.grad.numpy() for p in cell.parameters()])
        ys, _ = checkpointed(cell, array, lengths=[3, T])
        results.append([p.numpy() for p in tg.gradients(errors(ys, slice(0, T)), [*cell.parameters()])])
        results.append([xp_or_np(contributions(cell, array, error, cell.weight_hh))])
    for a, b in zip(results[:4], results[4:]):
        for x, y in zip(a, b):
            compare(x, y, 1e-4)


def xp_or_np(array):
    return tg.tensor(array).numpy()


# Clipping -------------------------------------------------------------------------------------------------------------


def test_the_rule_of_clipping_and_its_bias():
    """g η/‖g‖ if ‖g‖ > η: the direction stays, the norm is at most η. But the mean of clipped gradients is another."""
    rng = np.random.default_rng(0)
    p = leaf(np.zeros(3))
    samples = rng.standard_normal((200, 3)) * rng.choice([0.1, 10.0], (200, 1)) + [0.3, 0.0, 0.0]
    samples[:, 1] += np.where(np.linalg.norm(samples, axis=1) > 5, 4.0, 0.0)  # where it is large, it points elsewhere

    def clipped(g, η=1.0):
        p.grad = tg.tensor(g)
        norm = optim.clip_grad_norm_([p], η)
        assert abs(float(norm) - np.linalg.norm(g)) < 1e-12
        return p.grad.data

    for g in samples[:50]:
        norm = np.linalg.norm(g)
        compare(clipped(g), g / norm if norm > 1 else g, EXACT)
    on_the_bound = np.array([0.6, 0.8, 0.0])
    compare(clipped(on_the_bound), on_the_bound, EXACT)  # > or >= : it is the same
    mean, mean_of_clipped = samples.mean(0), np.mean([clipped(g) for g in samples], axis=0)
    cosine = mean @ mean_of_clipped / np.linalg.norm(mean) / np.linalg.norm(mean_of_clipped)
    assert cosine < 0.9


# The example ----------------------------------------------------------------------------------------------------------


def test_the_example_runs(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example("bptt").main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "dW_h" in printed and "k" in printed
    assert (tmp_path / "bptt.png").stat().st_size > 10_000


def test_the_benchmark_runs(capsys):
    assert measure(["--smoke"]) == 0
    assert "| checkpointed |" in capsys.readouterr().out


@pytest.mark.parametrize("run", [
    lambda cell, xs, loss: tg.bptt.contributions(cell, xs, loss, cell.weight_hh),
    lambda cell, xs, loss: list(tg.bptt.rtrl(cell, xs, loss)),
    lambda cell, xs, loss: list(tg.bptt.truncated(cell, xs, loss, 2)),
])  # fmt: skip
def test_a_loss_is_a_single_number(run):
    cell = nn.RNNCell(1, 2, rng=0, dtype=np.float64)
    with pytest.raises(ValueError, match=r"^loss: expected a single number, got .*: its mean, say$"):
        run(cell, np.ones((4, 1, 1)), lambda y, t: y * y)
    assert all(p.grad is None for p in cell.parameters())
