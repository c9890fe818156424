"""The lectures' numbers, N1 to N12 of the book's checklist: they come out, or what is right comes out in their place.

N1 is in test_statements.py (117.4 and .00515 are of 50 factors; w^(T-1) has 49), N2 in test_summary.py (512, 136, 648),
those of N5's nets in test_reproduce.py (36, 144, 10404) and test_cell_family.py (10504); N5's other figures are runs:
docs/results.md.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import analysis, nn, optim


def count(module):
    return sum(p.size for p in module.parameters())


def test_n2_both_modes_have_the_same_parameters():
    """SimpleRNN(16) on 15 features, and Dense(8): 648, whether the last output is read, or all (T18)."""
    cell, dense = nn.RNNCell(15, 16, rng=0), nn.Linear(16, 8, rng=0)
    ys, last = tg.scan(cell, np.ones((7, 2, 15), np.float32))
    assert dense(last).shape == (2, 8) and dense(ys).shape == (7, 2, 8)
    assert count(cell) - 16 + count(dense) == 648  # PyTorch's second bias has 16


@pytest.mark.parametrize(("kind", "gates", "one_bias", "two_biases"), [(nn.LSTMCell, 4, 2048, 2112),
                                                                       (nn.GRUCell, 3, 1536, 1584)])  # fmt: skip
def test_n3_n4_weights_of_lstm_and_gru(kind, gates, one_bias, two_biases):
    """N3: 4 and 3 times h (x + 1) + h², with one bias. N4: 8 and 6 matrices, of which two belong to a gate."""
    h, x = 16, 15
    cell = kind(x, h, rng=0)
    assert one_bias == gates * (h * (x + 1) + h * h)
    assert count(cell) == two_biases == one_bias + gates * h
    assert cell.weight_ih.shape == (gates * h, x) and cell.weight_hh.shape == (gates * h, h)


def test_n4_matrices_of_the_plain_network():
    assert sorted(p.shape for p in nn.RNNCell(15, 16, rng=0).parameters() if p.ndim == 2) == [(16, 15), (16, 16)]


def test_n6_plain_gradients_do_not_reach_over_twenty_steps():
    """The lectures: a plain network fails for lags of more than 15 to 20. As it begins, its gradient is lost there."""
    xs = np.random.default_rng(0).standard_normal((21, 1, 4))
    cell = nn.RNNCell(4, 50, rng=0, dtype=np.float64)
    lost = analysis.step_jacobians(cell, xs).log_products()[0, 0]
    assert lost < np.log(1e-3)


def test_n7_the_bounds():
    """γ ‖W‖ < 1 is enough to vanish, > 1 is needed to explode; γ is 1 for tanh and 1/4 for the logistic function (T6).

    ‖W‖ is the largest singular value. The spectral radius bounds nothing (T7): with .9, a product may grow to 38.7, and
    is less than 1 only after 63 steps.
    """
    W = np.array([[0.9, 10.0], [0.0, 0.9]])
    tanh, logistic = analysis.gradient_bound(W, "tanh"), analysis.gradient_bound(W, "sigmoid")
    assert (tanh.gamma, logistic.gamma) == (1.0, 0.25)
    np.testing.assert_allclose([tanh.norm, tanh.radius], [10.08, 0.9], rtol=1e-3)
    norms = [np.linalg.norm(np.linalg.matrix_power(W, k), 2) for k in range(1, 70)]
    assert max(norms) == norms[8] and f"{norms[8]:.1f}" == "38.7"
    assert next(k for k, norm in enumerate(norms, 1) if norm < 1) == 63
    cell = nn.RNNCell(1, 2, nonlinearity="linear", bias=False, rng=0, dtype=np.float64)
    cell.weight_hh.data = W
    products = analysis.step_jacobians(cell, np.zeros((69, 1, 1))).log_products()[:, 0]  # over 69 steps, ..., 0
    np.testing.assert_allclose(np.exp(products[::-1]), [1.0, *norms], rtol=1e-10)


def test_n8_the_logistic_map():
    def f(x):
        return 3.5 * x * (1 - x)

    cycle = analysis.fixed_points(f, interval=(0.0, 1.0), period=4).where(period=4)
    np.testing.assert_allclose(cycle.points, [0.38282, 0.50088, 0.82694, 0.87500], atol=5e-6)
    np.testing.assert_allclose(cycle.multipliers.ravel(), -0.0305, atol=2e-4)
    fixed = analysis.fixed_points(f, interval=(-0.1, 1.0))
    np.testing.assert_allclose(fixed.points, [0, 5 / 7], atol=1e-12)
    np.testing.assert_allclose(fixed.multipliers.ravel(), [3.5, -1.5], atol=1e-10)
    assert fixed.kinds == ("source", "source")  # |f'|, not f', decides (T3): -1.5 is less than 1


def test_n9_the_square_plus_a_constant():
    found = analysis.fixed_points(lambda x: x * x + 0.15, interval=(-2.0, 2.0))
    np.testing.assert_allclose(found.points, [0.183772, 0.816228], atol=5e-7)
    np.testing.assert_allclose(found.multipliers.ravel(), [0.36754, 1.63246], atol=5e-6)
    assert found.kinds == ("sink", "source")
    inside, outside = 0.0, 0.0
    for _ in range(30):
        inside, outside = inside**2 + 0.15, outside**2 + 0.26
    assert abs(inside - 0.183772) < 1e-6 and outside > 2  # .15 is in the Mandelbrot set, .26 is not


def test_n10_an_lstm_can_hold_a_gradient_for_more_than_1000_steps():
    """Its carousel does, with a forget gate that is open; and each step of it takes the same work: as many entries."""
    cell = nn.LSTMCell(1, 1, rng=0, dtype=np.float64)
    cell.bias_ih.data = np.where(np.arange(4) == 1, 50.0, cell.bias_ih.data)  # i, f, g, o: f is 1, exactly
    entries = []
    for steps in 400, 800, 1200:
        start = tg.tensor(np.zeros((1, 1)), requires_grad=True), tg.tensor(np.ones((1, 1)), requires_grad=True)
        _, (_, c) = tg.scan(cell, np.zeros((steps, 1, 1)), start, compiled=False)
        entries.append(len(tg.tape(c)))
        gradient = tg.gradients(c.sum(), start[1]).item()
    assert gradient > 0.5
    assert entries[2] - entries[1] == entries[1] - entries[0]


def test_n11_the_verb_agrees_with_the_writer_not_with_the_books():
    """'The writer of the books is': the noun that decides is not the one before the verb. A GRU learns to look back."""
    rng = np.random.default_rng(0)
    nouns, of, end = {"writer": 0, "writers": 1, "book": 2, "books": 3}, 4, 5

    def sentences(n):
        first, second = rng.integers(0, 2, n), rng.integers(0, 2, n)
        tokens = np.stack([first, np.full(n, of), second + 2, np.full(n, end)])
        return np.eye(6, dtype=np.float32)[tokens], first  # the verb: 0 is, 1 are

    cell, readout = nn.GRUCell(6, 8, rng=rng), nn.Linear(8, 2, rng=rng)
    optimizer = optim.Adam([*cell.parameters(), *readout.parameters()], lr=0.03)
    for _ in range(60):
        xs, verb = sentences(32)
        loss = nn.cross_entropy(readout(tg.scan(cell, xs)[1]), verb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words = np.eye(6, dtype=np.float32)[[[nouns["writer"]], [of], [nouns["books"]], [end]]]
    assert readout(tg.scan(cell, words)[1]).data.argmax() == 0  # is
    words[0] = np.eye(6)[nouns["writers"]]
    assert readout(tg.scan(cell, words)[1]).data.argmax() == 1  # are


def test_n12_the_derivative_of_relu_is_1_or_0_and_0_at_the_kink():
    x = tg.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    assert tg.gradients(tg.relu(x).sum(), x).data.tolist() == [0, 0, 0, 1]
