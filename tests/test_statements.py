"""What lectures say of recurrent networks: each statement is a test, and its docstring the statement."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.timescales import LeakyCell
from tinygrad_rnn.nn.watch import watching

T, B, I, H = 6, 3, 2, 4  # noqa: E741  steps, sequences, features, units
ON, OFF = 1000.0, -1000.0  # into a sigmoid: exactly 1, and less than 1e-300


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def make(kind, *sizes, **keywords):
    return kind(*(sizes or (I, H)), rng=0, dtype=np.float64, **keywords)


def steered_lstm():
    """An LSTM that is told by its input what is within its gates, in the order i, f, g, o; plus what it makes of h."""
    cell = make(nn.LSTMCell, 4 * H, H, bias=False)
    cell.weight_ih.data = np.eye(4 * H)
    return cell


def steer(i, f, g, o, batch=B):
    return np.broadcast_to(np.repeat([i, f, g, o], H), (batch, 4 * H)).copy()


def norm(x):
    return np.linalg.norm(x.data)


# The cell state of an LSTM ------------------------------------------------------------------------------------------


def test_an_open_forget_gate_passes_the_gradient_on_unchanged():
    """If f is 1 and i is 0 at step t + 1, and o is 0 at step t, then dL/dc_t = dL/dc_{t+1}, exactly."""
    cell, t = steered_lstm(), 2
    xs = draw(T, B, 4 * H)
    xs[t] = steer(0.3, -0.2, 0.7, OFF)
    xs[t + 1] = steer(OFF, ON, 0.5, 0.1)
    with watching(cell) as seen:
        ys, _ = tg.scan(cell, xs)
    before, after = tg.gradients((ys**2).sum(), [seen["c"][t], seen["c"][t + 1]])
    assert before.data.all()
    np.testing.assert_array_equal(before.data, after.data)


@pytest.mark.parametrize(("i", "f", "what"), [
    (OFF, ON, lambda c, g: c), (ON, ON, lambda c, g: c + g), (OFF, OFF, lambda c, g: 0 * c), (ON, OFF, lambda c, g: g),
], ids=["remember", "add", "erase", "overwrite"])  # fmt: skip
def test_the_corners_of_the_gates(i, f, what):
    """With i and f either 0 or 1, a cell remembers (0, 1), adds (1, 1), erases (0, 0) or overwrites (1, 0)."""
    cell, c = steered_lstm(), draw(B, H)
    _, (_, after) = cell(steer(i, f, 0.7, 0.0), (np.zeros((B, H)), c))
    np.testing.assert_allclose(after.data, what(c, np.tanh(0.7)), rtol=0, atol=1e-300)


def test_the_carousel():
    """The constant error carousel: dc_T/dc_1 is the product of the forget gates, along the path of c."""
    cell = make(nn.LSTMCell)
    xs = draw(T, B, I)
    cell.weight_hh.data = np.zeros_like(cell.weight_hh.data)  # so that there is no other path
    with watching(cell) as seen:
        _, (_, c) = tg.scan(cell, xs)
    (gradient,) = tg.gradients(c.sum(), [seen["c"][0]])
    np.testing.assert_allclose(gradient.data, np.prod([f.data for f in seen["f"][1:]], axis=0), rtol=1e-14)
    cell.weight_hh.data = draw(4 * H, H)
    with watching(cell) as seen:
        _, (_, c) = tg.scan(cell, xs)
    (gradient,) = tg.gradients(c.sum(), [seen["c"][0]])
    assert not np.allclose(gradient.data, np.prod([f.data for f in seen["f"][1:]], axis=0), rtol=1e-3)


def test_a_forget_bias_of_1_lets_the_gradient_reach_the_first_step():
    """At first, with b_f = 1, much more of the gradient comes to step 1: (σ(1) / σ(0))^T, or so, times as much."""
    steps, norms = 50, []
    for bias in (0.0, 1.0):
        cell, xs = make(nn.LSTMCell, forget_bias=bias), tg.tensor(0.1 * draw(steps, B, I), requires_grad=True)
        tg.scan(cell, xs)[0][-1].sum().backward()
        norms.append(norm(xs.grad.data[0]))
    expected = (1 / (1 + np.exp(-1.0)) / 0.5) ** (steps - 1)
    assert expected / 30 < norms[1] / norms[0] < expected * 30 and expected > 1e8


def test_an_lstm_can_forget_and_its_gradient_vanishes_then():
    """An LSTM does not do away with vanishing gradients: with f < 1 they still decay, as the product of f."""
    cell, steps = steered_lstm(), 201
    cell.weight_hh.data = np.zeros_like(cell.weight_hh.data)
    for f, expected in (np.log(0.9 / 0.1), 0.9 ** (steps - 1)), (ON, 1.0):
        with watching(cell) as seen:
            _, (_, c) = tg.scan(cell, np.stack([steer(OFF, f, 0.0, 0.0)] * steps), (draw(B, H), draw(B, H)))
        (gradient,) = tg.gradients(c.sum(), [seen["c"][0]])
        np.testing.assert_allclose(gradient.data, expected, rtol=1e-12)
    assert 0.9 ** (steps - 1) < 1e-9


# Gradients through time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell])
def test_the_derivative_of_the_last_state_is_a_product_of_jacobians(kind):
    """dh_T/dh_0 = J_T ... J_2 J_1, where J_t = dh_t/dh_{t-1}: the tape multiplies just that."""
    cell, xs, h = make(kind), draw(T, I), draw(H, seed=2)
    whole = tg.jacobian(lambda h: tg.scan(cell, xs, h)[1])(h)
    product = np.eye(H)
    for x in xs:
        product = tg.jacobian(lambda h, x=x: cell.step(tg.tensor(x), h)[1])(h).data @ product
        h = cell(x, h)[1].data
    np.testing.assert_allclose(whole.data, product, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("w", "by_50", "by_49"), [(1.1, "117.39", "106.72"), (1.0, "1", "1"),
                                                   (0.9, "0.0051538", "0.0057264")])  # fmt: skip
def test_the_product_of_one_number_grows_or_decays(w, by_50, by_49):
    """Of h' = w h + u x, dh_50/dh_0 = w^50: 117.4 with w = 1.1, 0.00515 with 0.9. (From h_1 it is w^49.)"""
    cell = make(nn.RNNCell, 1, 1, bias=False, nonlinearity="linear")
    cell.weight_hh.data = np.array([[w]])
    for steps, expected in (50, by_50), (49, by_49):
        h = tg.tensor(np.ones((1, 1)), requires_grad=True)
        tg.scan(cell, draw(steps, 1, 1), h)[1].sum().backward()
        np.testing.assert_allclose(h.grad.item(), w**steps, rtol=1e-13)
        assert f"{h.grad.item():.5g}" == expected


def test_forward_is_bounded_and_backward_is_linear():
    """The forward pass is squashed at each step. The backward pass is linear in the gradient that comes in: nothing
    bounds it, and it grows as the weights have it."""
    steps, cell = 100, make(nn.RNNCell, bias=False)
    orthogonal = np.linalg.qr(draw(H, H))[0]
    cell.weight_hh.data = 1.5 * orthogonal
    ys, _ = tg.scan(cell, 100 * draw(steps, B, I))
    assert abs(ys.data).max() <= 1

    last, pull = tg.vjp(lambda h: tg.scan(cell, draw(T, B, I), h)[1], draw(B, H, seed=2))
    u, v = draw(*last.shape, seed=3), draw(*last.shape, seed=4)
    of_u, of_v, of_both = (np.asarray(pull(g)[0].data) for g in (u, v, 2 * u + 1e6 * v))
    np.testing.assert_allclose(of_both, 2 * of_u + 1e6 * of_v, rtol=1e-12)

    h = tg.tensor(np.zeros((B, H)), requires_grad=True)  # where tanh is steepest, for all of the steps
    last = tg.scan(cell, np.zeros((steps, B, I)), h)[1]
    last.backward(u)
    assert not last.data.any()
    np.testing.assert_allclose(norm(h.grad), 1.5**steps * np.linalg.norm(u), rtol=1e-12)


def test_an_irnn_keeps_what_is_positive():
    """With the identity for its recurrent matrix and relu, a network without input keeps positive states, and passes
    gradients on, unchanged, for any number of steps."""
    cell, steps = make(nn.IRNNCell), 1000
    h = tg.tensor(abs(draw(B, H)), requires_grad=True)
    _, last = tg.scan(cell, np.zeros((steps, B, I)), h)
    np.testing.assert_array_equal(last.data, h.data)
    g = draw(B, H, seed=2)
    last.backward(g)
    np.testing.assert_array_equal(h.grad.data, g)
    np.testing.assert_array_equal(tg.scan(cell, np.zeros((1, B, I)), -abs(draw(B, H)))[1].data, np.zeros((B, H)))


def test_gradients_of_several_outputs_add_up():
    """Where there is a loss at every step, the gradient of their sum is the sum of their gradients."""
    cell, xs = make(nn.GRUCell), draw(T, B, I)
    weights = list(cell.parameters())
    ys, _ = tg.scan(cell, xs)
    whole = tg.gradients((ys**2).sum(), weights, retain_graph=True)
    parts = [tg.gradients((y**2).sum(), weights, retain_graph=True) for y in ys]
    for g, *theirs in zip(whole, *parts):
        np.testing.assert_allclose(g.data, sum(p.data for p in theirs), rtol=1e-12, atol=1e-14)


def test_the_gradient_of_shared_weights_is_a_sum_over_time():
    """The steps share their weights, so the gradient is the sum of what it would be for the weights of each step."""
    cell, xs = make(nn.RNNCell), draw(T, B, I)
    (tg.scan(cell, xs)[0] ** 2).sum().backward()
    copies = [make(nn.RNNCell) for _ in xs]
    h, loss = np.zeros((B, H)), 0
    for copy, x in zip(copies, xs):
        y, h = copy.step(tg.tensor(x), h)
        loss = loss + (y**2).sum()
    loss.backward()
    for p, *theirs in zip(cell.parameters(), *(copy.parameters() for copy in copies)):
        np.testing.assert_allclose(p.grad.data, sum(q.grad.data for q in theirs), rtol=1e-12, atol=1e-14)


def test_the_last_state_is_no_constant():
    """h_{t-1} depends on the weights, too. With it as a constant, the gradient is another, and wrong."""

    def gradient(constant):
        cell, h = make(nn.RNNCell), tg.tensor(np.zeros((B, H)))
        for x in tg.tensor(draw(T, B, I)):
            y, h = cell.step(x, h.detach() if constant else h)
        (y**2).sum().backward()
        return cell, cell.weight_hh.grad.data

    cell, right = gradient(False)
    _, wrong = gradient(True)

    def f(weight):
        cell.weight_hh = weight
        return (tg.scan(cell, draw(T, B, I))[1] ** 2).sum()

    (expected,) = tg.numerical_gradient(f, cell.weight_hh.data)
    np.testing.assert_allclose(right, expected.data, rtol=1e-7, atol=1e-9)
    assert np.linalg.norm(wrong - right) > 0.1 * np.linalg.norm(right)


def test_the_first_state_has_a_gradient_and_can_be_trained():
    """Back-propagation through time returns dL/dh_0 as well, so the first state can be learned."""
    cell, xs = make(nn.RNNCell), draw(3, B, I)
    goal = tg.scan(cell, xs, np.tanh(draw(B, H, seed=5)))[0].data

    def loss(h):
        return ((tg.scan(cell, xs, h)[0] - goal) ** 2).sum()

    h = nn.Parameter(np.zeros((B, H)))
    tg.check_gradients(loss, h.detach() + 0.1)
    first, optimizer = loss(h).item(), tg.optim.Adam([h], lr=0.05)
    for _ in range(200):
        h.grad = None
        loss(h).backward()
        optimizer.step()
    assert loss(h).item() < 1e-3 * first


# Leaky units and numbers of weights ----------------------------------------------------------------------------------


def test_leaky_units_are_moving_averages():
    """h_t = (1 - a) h_{t-1} + a σ(U x_t) is (1 - a)^t h_0 + Σ_s a (1 - a)^(t - s) σ(U x_s)."""
    a, cell = 0.3, make(LeakyCell, I, H, 0.3, nonlinearity="sigmoid", recurrent=False, bias=False)
    xs, h = draw(T, B, I), draw(B, H, seed=2)
    ys, _ = tg.scan(cell, xs, h)
    new = 1 / (1 + np.exp(-xs @ cell.weight_ih.data.T))
    for t in range(1, T + 1):
        weights = a * (1 - a) ** (t - np.arange(1, t + 1))
        expected = (1 - a) ** t * h + np.tensordot(weights, new[:t], 1)
        np.testing.assert_allclose(ys.data[t - 1], expected, rtol=1e-12)
        np.testing.assert_allclose((1 - a) ** t + weights.sum(), 1, rtol=1e-14)


def test_the_leak_is_how_long_a_unit_remembers():
    """With a near 0 the past is kept for long; with a = 1 there is none; and dh_T/dh_0 = (1 - a)^T."""
    xs, past = draw(T, B, I), draw(B, H, seed=2)
    for a in (0.0, 1e-6, 0.5, 1.0):
        cell = make(LeakyCell, I, H, a, recurrent=False)
        h = tg.tensor(past, requires_grad=True)
        ys, last = tg.scan(cell, xs, h)
        last.sum().backward()
        np.testing.assert_allclose(h.grad.data, (1 - a) ** T, rtol=1e-12)
        if a < 1e-3:
            np.testing.assert_allclose(last.data, past, atol=1e-4)
        if a == 1:
            np.testing.assert_array_equal(ys.data, np.tanh(cell.of_input(xs).data))
    recurrent = make(LeakyCell, I, H, 1.0)
    plain = make(nn.RNNCell)
    np.testing.assert_array_equal(tg.scan(recurrent, xs, past)[0].data, tg.scan(plain, xs, past)[0].data)


def test_an_lstm_has_four_weights_where_a_gru_has_three():
    """Of as many units, LSTM, GRU and the simple network have weights in the ratio 4 : 3 : 1 (8, 6 and 2 matrices)."""

    def count(kind, x, h, bias=True):
        return sum(p.size for p in kind(x, h, bias).parameters())

    for x, h in (15, 16), (1, 1), (3, 50):
        simple, lstm, gru = (count(kind, x, h) for kind in (nn.RNNCell, nn.LSTMCell, nn.GRUCell))
        assert (lstm, gru) == (4 * simple, 3 * simple) and 3 * lstm == 4 * gru
        assert count(nn.LSTMCell, x, h, bias=False) == 4 * (h * x + h * h)
    assert (count(nn.LSTMCell, 15, 16), count(nn.GRUCell, 15, 16)) == (2112, 1584)  # with one bias, 2048 and 1536
