"""The regulariser Ω: against double backward through the states on the tape, closed forms, and differences."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, trees
from tinygrad_rnn.analysis import gradient_regularizer

T, B, I, H = 9, 3, 2, 4  # noqa: E741  steps, sequences, features, units


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def make(kind, *sizes, **keywords):
    return kind(*(sizes or (I, H)), rng=0, dtype=np.float64, **keywords)


class Own(nn.Cell):
    """Its state is a dict, and one tensor of it a matrix for each sequence."""

    def __init__(self):
        self.input_size = I
        self.map = nn.Linear(I + 2, 4, rng=0, dtype=np.float64)

    def initial_state(self, x):
        return {"m": tg.tensor(np.zeros((len(x), 2, 2))), "h": tg.tensor(np.zeros((len(x), 2)))}

    def step(self, x, state):
        m = 0.5 * state["m"] + tg.tanh(self.map(tg.concatenate([x, state["h"]], axis=-1))).reshape(-1, 2, 2)
        h = tg.tanh(m.sum(axis=1) + state["h"])
        return h, {"m": m, "h": h}


CELLS = {
    "rnn": lambda: make(nn.RNNCell),
    "lstm": lambda: make(nn.LSTMCell),
    "gru": lambda: make(nn.GRUCell),
    "leaky": lambda: make(nn.LeakyCell, I, H, 0.3),
    "residual": lambda: nn.Residual(make(nn.LSTMCell, I, I)),
    "zoneout": lambda: nn.Zoneout(make(nn.LSTMCell), 0.2, rng=0).eval(),
    "dilated": lambda: nn.Dilated(make(nn.GRUCell), 2),
    "own": Own,
}


def by_scan(cell, xs, everywhere, mode=False):
    """E = the sum of all numbers squared in the last state, or in all states; and Ω."""
    with tg.compiled(mode):
        _, _, states = tg.scan(cell, xs, states=True)
        leaves, rebuild = trees.flatten(states)
        ends = leaves if everywhere else [s[-1] for s in leaves]
        loss = sum((s * s).sum() for s in ends)
        last = rebuild(tg.gradients(loss, ends, create_graph=True))
        return gradient_regularizer(cell, xs, states, last)


def by_the_tape(cell, xs, everywhere):
    """The same, where the states are kept one by one, and each step back is a gradient of that step.

    Each state is copied: as numbers of a state h and c are independent, though c went into h.
    """
    state, pairs = trees.map(lambda s: tg.tensor(s, requires_grad=True), cell.initial_state(xs[0])), []
    for x in xs:
        before, state = state, trees.map(lambda s: s * 1.0, cell.step(x, state)[1])
        pairs.append((trees.flatten(before)[0], trees.flatten(state)[0]))
    counted = [after for _, after in pairs] if everywhere else [pairs[-1][1]]
    loss = sum((s * s).sum() for after in counted for s in after)
    terms, deltas = [], [tg.gradients(loss, after, create_graph=True) for _, after in pairs]
    for (before, after), delta in list(zip(pairs, deltas))[1:]:
        parts = [tg.gradients(a, before, d, create_graph=True) for a, d in zip(after, delta)]
        passed = [sum(gs) for gs in zip(*parts)]
        norm, norm_before = (sum((d * d).reshape(B, -1).sum(axis=-1) for d in ds) ** 0.5 for ds in (delta, passed))
        terms.append((norm_before / norm - 1) ** 2)
    return tg.stack(terms).mean()


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_it_is_exact(name, everywhere):
    cell, xs = CELLS[name](), draw(T, B, I)
    parameters = [*cell.parameters()]
    expected = by_the_tape(cell, xs, everywhere)
    exact = tg.gradients(expected, parameters)
    for mode in False, "numpy":
        value = by_scan(cell, xs, everywhere, mode)
        np.testing.assert_allclose(value.data, expected.data, rtol=1e-10)
        for g, e in zip(tg.gradients(value, parameters), exact):
            np.testing.assert_allclose(g.data, e.data, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_against_differences(name):
    cell, xs = CELLS[name](), draw(5, 2, I)

    def omega(weight):
        cell.weight_hh = weight if weight.requires_grad else tg.tensor(weight, requires_grad=True)
        with tg.enable_grad():
            return by_scan(cell, xs, everywhere=False)

    tg.check_gradients(omega, cell.weight_hh.data)


def test_of_a_matrix_that_turns_and_shrinks():
    """‖δ_{k-1}‖ = w ‖δ_k‖: Ω is (w - 1)², and its derivative by the scale of the matrix 2 (w - 1)."""
    cell, w = make(nn.RNNCell, I, 2, bias=False, nonlinearity="linear"), tg.tensor(0.9, requires_grad=True)
    for scale in 1.0, 0.9, 1.2:
        w = tg.tensor(scale, requires_grad=True)
        states = tg.tensor(np.ones((T, B, 2)))
        with cell.replaced({"weight_hh": w * np.array([[0.0, -1.0], [1.0, 0.0]])}):
            omega = gradient_regularizer(cell, draw(T, B, I), states, tg.tensor(draw(B, 2)))
        np.testing.assert_allclose(omega.data, (scale - 1) ** 2, atol=1e-15)
        np.testing.assert_allclose(tg.gradients(omega, w).data, 2 * (scale - 1), atol=1e-12)


def test_gradients_that_have_vanished_are_left_out():
    cell, xs = nn.RNNCell(6, 5, rng=0, dtype=np.float64), np.ones((9, 2, 6))
    hs, _ = tg.scan(cell, xs)
    last = tg.tensor(np.array([[0.0] * 5, [1e-3] * 5]), requires_grad=True)
    value = gradient_regularizer(cell, xs, hs, last)
    one = gradient_regularizer(cell, xs[:, 1:], hs[:, 1:], last[1:])
    np.testing.assert_allclose(value.data, one.data, rtol=1e-12)
    assert all(np.isfinite(g.data).all() for g in tg.gradients(value, [last, cell.weight_hh]))
    assert gradient_regularizer(cell, xs[:1], hs[:1], last).item() == 0  # a single step: nothing goes back


@pytest.mark.parametrize("size", [1e-12, 1e25])
def test_gradients_that_are_small_or_large(size):
    """Their squares are more, or less, than single precision holds: Ω is of their ratios."""
    cell = nn.RNNCell(I, 2, bias=False, nonlinearity="linear", rng=0)
    cell.weight_hh.data = np.array([[0.0, -0.9], [0.9, 0.0]], np.float32)
    xs, states, last = draw(T, B, I), draw(T, B, 2), size * (1 + abs(draw(B, 2)))
    omega = gradient_regularizer(cell, *(x.astype(np.float32) for x in (xs, states, last)))
    np.testing.assert_allclose(omega.data, 0.01, rtol=1e-5)
    g = tg.gradients(omega, cell.weight_hh).data
    np.testing.assert_allclose((g * cell.weight_hh.data).sum() / 0.9, 2 * (0.9 - 1), rtol=1e-4)


def test_where_a_gradient_ends_nothing_is_asked():
    """W passes it on once, and then it is 0: that is no step to be made longer."""
    cell = make(nn.RNNCell, I, 2, bias=False, nonlinearity="linear")
    cell.weight_hh.data = np.array([[0.0, 1.0], [0.0, 0.0]])
    omega = gradient_regularizer(cell, draw(T, 1, I), draw(T, 1, 2), np.array([[3.0, 0.0]]))
    assert omega.item() == 0
    cell.weight_hh.data = np.array([[0.0, 0.5], [0.0, 0.0]])
    assert gradient_regularizer(cell, draw(T, 1, I), draw(T, 1, 2), np.array([[3.0, 0.0]])).item() == 0.25


def test_on_another_device(xp):
    cell, xs = CELLS["lstm"](), draw(T, B, I)
    expected = by_scan(cell, xs, everywhere=False).item()
    cell.to("cpu" if xp is np else "cuda")
    value = by_scan(cell, xp.asarray(xs), everywhere=False)
    np.testing.assert_allclose(value.item(), expected, rtol=1e-10)
    assert tg.gradients(value, cell.weight_hh).numpy().any()


def test_it_keeps_gradients_from_vanishing():
    """Descending Ω alone, the gradient reaches the first step again."""
    cell, xs = make(nn.RNNCell), draw(20, B, I)

    def reach():
        hs, _ = tg.scan(cell, xs)
        return np.linalg.norm(tg.gradients(hs[-1].sum(), cell.weight_ih).data), by_scan(cell, xs, everywhere=False)

    first = start = by_scan(cell, xs, everywhere=False)
    for _ in range(30):
        for p, g in zip(cell.parameters(), tg.gradients(first, [*cell.parameters()])):
            p.data = p.data - 0.1 * g.data
        first = by_scan(cell, xs, everywhere=False)
    assert first.item() < 0.5 * start.item()


def call(cell=None, xs=None, states=None, last=None):
    cell = make(nn.RNNCell) if cell is None else cell
    xs = draw(T, B, I) if xs is None else xs
    states = tg.scan(cell, xs, states=True)[2] if states is None else states
    return gradient_regularizer(cell, xs, states, np.ones((B, H)) if last is None else last)


WRONG = {
    "no cell": (lambda: call(nn.Linear(I, H), states=1, last=1), TypeError, "expected a Cell"),
    "no batch": (lambda: call(xs=draw(T, I), states=draw(T, H)), ValueError, "xs: expected"),
    "no steps": (lambda: call(xs=np.ones((0, B, I)), states=np.ones((0, B, H))), ValueError, "xs: expected"),
    "one state": (lambda: call(states=draw(B, H)), ValueError, "states=True"),
    "fewer states": (lambda: call(states=draw(T - 1, B, H)), ValueError, "states: expected"),
    "another last": (lambda: call(last=draw(B, H + 1)), ValueError, "last: expected"),
    "two dtypes": (lambda: call(xs=draw(T, B, I).astype(np.float32), states=draw(T, B, H)), ValueError, "float32"),
    "another dtype": (lambda: call(last=np.ones((B, H), np.float32)), ValueError, "expected float64.*got float32"),
    "no last": (lambda: gradient_regularizer(make(nn.RNNCell), draw(T, B, I), draw(T, B, H), None), ValueError, "None"),
    "a number": (lambda: call(last=1.0), ValueError, "last: expected.*got 1.0"),
    "no pair": (lambda: call(make(nn.LSTMCell)), ValueError, "last: expected a tuple of 2"),
    "a clock": (lambda: call(make(nn.ClockworkCell, I, H, (1, 2))), TypeError, "a clock"),
    "dropout": (lambda: call(nn.Zoneout(make(nn.RNNCell), 0.5, rng=0)), ValueError, "draws random numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    wrong, kind, words = WRONG[name]
    with pytest.raises(kind, match=words):
        wrong()
