"""Gradients by lag, and memory by lag: against closed forms, powers of matrices, and the tape's own gradient."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, trees
from tinygrad_rnn.analysis import Memory, contributions, memory, reach

T, B, I, H = 12, 3, 2, 4  # noqa: E741  steps, sequences, features, units


@pytest.fixture(autouse=True)
def _by_numpy(request, monkeypatch):
    """Long scans are compiled, but not by Numba, which would take longer than all of the tests."""
    if not request.config.getoption("--compiled"):
        monkeypatch.setattr(importlib.import_module("tinygrad_rnn.compile"), "has_numba", lambda: False)


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def make(kind, *sizes, **keywords):
    return kind(*(sizes or (I, H)), rng=0, dtype=np.float64, **keywords)


def linear(W, inputs=1):
    cell = nn.RNNCell(inputs, len(W), bias=False, nonlinearity="linear", rng=0, dtype=np.float64)
    cell.weight_hh.data = np.asarray(W, float)
    return cell


def squares(y, t):
    return (y * y).sum()


# Contributions --------------------------------------------------------------------------------------------------------


def test_of_a_linear_unit_in_closed_form():
    """h_t = w h_{t-1} + u x_t and E_t = h_t: the part of step k in dE_t/dw is w^(t-k) h_{k-1}."""
    w, u, xs = 0.7, 1.3, draw(T, 1, 1)
    cell = linear([[w]])
    cell.weight_ih.data = np.array([[u]])
    found = contributions(cell, xs, lambda y, t: y.sum())
    h = [0.0]
    for x in xs[:, 0, 0]:
        h.append(w * h[-1] + u * x)
    for t in range(T):
        assert found.losses[t] == pytest.approx(h[t + 1])
        for k in range(T):
            there = k <= t
            assert found.norms["weight_hh"][t, k] == pytest.approx(abs(w ** (t - k) * h[k]) * there, rel=1e-12)
            assert found.norms["weight_ih"][t, k] == pytest.approx(abs(w ** (t - k) * xs[k, 0, 0]) * there, rel=1e-12)
    lag = found.by_lag("weight_ih")
    np.testing.assert_allclose(lag[3], np.mean([w**3 * abs(xs[k, 0, 0]) for k in range(T - 3)]), rtol=1e-12)


CELLS = {
    "rnn": lambda: make(nn.RNNCell),
    "lstm": lambda: make(nn.LSTMCell),
    "gru": lambda: make(nn.GRUCell),
    "clockwork": lambda: make(nn.ClockworkCell, I, H, (1, 2)),
    "learned": lambda: nn.LayerNormalized(make(nn.LSTMCell)),
    "residual": lambda: nn.Residual(nn.Dilated(make(nn.GRUCell, I, I), 2)),
    "dropout": lambda: nn.Zoneout(make(nn.GRUCell), 0.3, rng=0),  # its draws are those of the one run that there is
}


@pytest.mark.parametrize("name", CELLS)
def test_their_sum_is_the_gradient(name):
    cell, xs = CELLS[name](), draw(T, B, I)
    found = contributions(cell, xs, lambda y, t: squares(y, t) if t % 3 else None)
    cell = CELLS[name]()
    ys, _ = tg.scan(cell, xs, compiled=False)
    loss = sum((ys[t] ** 2).sum() for t in range(T) if t % 3)
    names, parameters = zip(*cell.named_parameters())
    assert list(found.gradients) == list(names)
    for p, g in zip(names, tg.gradients(loss, [*parameters])):
        np.testing.assert_allclose(found.gradients[p], g.data, rtol=1e-12, atol=1e-12)
    assert np.flatnonzero(np.isnan(found.losses)).tolist() == [0, 3, 6, 9]
    matrix = found.norms[names[0]]
    assert np.isnan(matrix[::3]).all() and not matrix[1, 2:].any()
    assert np.isfinite(found.by_lag(names[0])).all()


def test_of_a_function(xp):
    W = tg.tensor(xp.asarray(draw(H, H)), requires_grad=True)
    xs, state = xp.asarray(draw(T, B, 1)), xp.asarray(np.zeros((B, H)))

    def step(x, h):
        h = tg.tanh(h @ W) + x
        return h, h

    found = contributions(step, xs, squares, state, parameters={"W": W})
    ys, _ = tg.scan(step, xs, state)
    expected = tg.gradients((ys**2).sum(), W).numpy()
    np.testing.assert_allclose(found.gradients["W"], expected, rtol=1e-12, atol=1e-12)
    assert type(found.norms["W"]) is np.ndarray and W.grad is None
    with tg.no_grad():
        again = contributions(step, xs, squares, state, parameters={"W": W})
    np.testing.assert_array_equal(again.gradients["W"], found.gradients["W"])


# Memory ---------------------------------------------------------------------------------------------------------------


def test_of_a_linear_cell_it_is_the_powers_of_its_matrix():
    W, xs, size = draw(H, H) / 3, draw(T, B, I), 0.1
    cell = linear(W, I)
    found = memory(cell, xs, size=size, rng=3)
    noise = np.random.default_rng(3).standard_normal((T, B, I))
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    for lag in range(T):
        moved = noise[lag] @ cell.weight_ih.data.T @ np.linalg.matrix_power(W, lag).T
        np.testing.assert_allclose(found.distances[lag], np.linalg.norm(moved, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(found.rms, np.sqrt((found.distances**2).mean(axis=1)))
    some = memory(cell, xs, lags=[0, 5], rng=3)
    assert some.lags.tolist() == [0, 5] and some.distances.shape == (2, B)


def test_how_far_it_reaches():
    """A cell that turns keeps all for ever; one that adds nothing up knows its last input only."""
    assert memory(linear([[0.0, -1.0], [1.0, 0.0]]), draw(60, B, 1), rng=0).reach(0.9) == 59
    assert memory(linear(0.5 * np.eye(2)), draw(60, B, 1), rng=0).reach(0.5**7 * 1.01) == 6
    assert memory(linear(np.zeros((2, 2))), draw(9, B, 1), rng=0).reach() == 0
    late = Memory(np.arange(4), np.array([[0.1], [1.0], [0.5], [0.05]]))  # the most is not always what is last
    assert late.reach(0.4) == 2 and late.reach(0.01) == 3
    nothing = memory(lambda xs: tg.tensor(np.zeros((xs.shape[1], 2))), draw(9, B, 1), rng=0)
    assert nothing.reach() == -1 and "until lag -1" in repr(nothing)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_no_memory(dtype):
    """What is left of a change after 60 steps is 1e-12 of it: in single precision there is nothing but rounding."""
    cell, xs = nn.RNNCell(I, H, rng=0, dtype=dtype), draw(60, B, I).astype(dtype)
    cell.weight_hh.data = (0.63 * np.linalg.qr(draw(H, H))[0]).astype(dtype)
    found = memory(cell, xs, rng=0)
    h = tg.scan(cell, xs)[1].data
    expected = np.finfo(dtype).eps * np.sqrt((h**2).sum() / B) / 0.01
    assert found.floor == pytest.approx(expected, rel=1e-6)
    exact = memory(nn.RNNCell(I, H, rng=0, dtype=dtype), xs, rng=0, lags=[0])
    assert exact.reach(1e-12) == 0
    if dtype == np.float32:
        assert found.rms[found.reach(1e-12)] > found.floor and found.reach(1e-12) < 40
        assert f"lag 59: below rounding ({found.floor:.0e})" in repr(found)
    else:
        assert found.reach(1e-9) > 30 and "lag 0: 0." not in repr(found)


def test_layouts_of_what_a_model_returns():
    """The same numbers come out, whichever axes there are: also where there are as many steps as sequences."""
    for time, batch in (T, B), (5, 5), (3, 5):
        xs = draw(time, batch, I)
        net, turned = nn.RNN(I, 3, rng=0, dtype=np.float64), nn.RNN(I, 3, batch_first=True, rng=0, dtype=np.float64)
        expected = memory(net, xs, rng=0).distances
        first = memory(lambda xs: net(xs)[0][..., :1], xs, rng=0).distances  # noqa: B023
        for model in (lambda xs: net(xs)[0], lambda xs: net(xs)[0][-1], lambda xs: net(xs)[1][0]):  # noqa: B023
            np.testing.assert_allclose(memory(model, xs, rng=0).distances, expected, rtol=1e-9)
        for model in (lambda xs: net(xs)[0][..., 0], lambda xs: net(xs)[0][-1, :, 0]):  # noqa: B023
            np.testing.assert_allclose(memory(model, xs, rng=0).distances, first, rtol=1e-9)
        for head in (
            lambda ys: ys,
            lambda ys: ys[:, -1],
            lambda ys: ys[:, -1:],
            lambda ys: ys[:, -1][:, None, :, None],
        ):
            model = Head(turned, head)
            np.testing.assert_allclose(memory(model, xs.swapaxes(0, 1), rng=0).distances, expected, rtol=1e-9)


class Head(nn.Module):
    batch_first = True

    def __init__(self, net, head):
        self.net, self.head = net, head

    def forward(self, xs):
        return self.head(self.net(xs)[0])


@pytest.mark.parametrize("name", CELLS)
def test_of_any_cell_it_is_the_difference_of_two_runs(name):
    cell, xs = CELLS[name]().eval(), draw(T, B, I)
    found = memory(cell, xs, rng=3, lags=[4])
    noise = np.random.default_rng(3).standard_normal((1, B, I))[0]
    noise *= 0.01 / np.linalg.norm(noise, axis=-1, keepdims=True)
    moved = xs.copy()
    moved[T - 5] += noise
    ends = []
    for x in xs, moved:
        leaves = [s.data for s in trees.flatten(tg.scan(cell, x)[1])[0] if s.dtype == np.float64]
        ends.append(np.concatenate([s.reshape(B, -1) for s in leaves], axis=1))
    expected = np.linalg.norm(ends[1] - ends[0], axis=1) / 0.01
    np.testing.assert_allclose(found.distances[0], expected, rtol=1e-6, atol=1e-12)


def test_of_networks_and_functions(xp):
    net, xs = nn.LSTM(I, H, batch_first=True, rng=0), draw(B, T, I).astype(np.float32)
    time_first = nn.LSTM(I, H, rng=0)
    device = "cpu" if xp is np else "cuda"
    net.to(device), time_first.to(device)
    found = memory(net, xp.asarray(xs), size=0.1, rng=0)
    other = memory(time_first, xp.asarray(xs.swapaxes(0, 1).copy()), size=0.1, rng=0)
    np.testing.assert_allclose(found.distances, other.distances, rtol=1e-3, atol=1e-6)
    cell = time_first.layers[0]["forward"]
    hidden = memory(lambda x: tg.scan(cell, x)[1][0], xp.asarray(xs.swapaxes(0, 1).copy()), size=0.1, rng=0)
    np.testing.assert_allclose(hidden.distances, other.distances, rtol=1e-3, atol=1e-6)
    assert type(found.distances) is np.ndarray and found.rms[0] > 10 * found.rms[-1]


def test_in_parts_it_is_the_same(monkeypatch):
    cell, xs = make(nn.GRUCell), draw(T, B, I)
    whole = memory(cell, xs, rng=0)
    monkeypatch.setattr(reach, "AT_ONCE", 5 * T * B * (I + H))
    assert reach.width(nn.LSTM(I, H, 2, rng=0)) == 4 * H
    np.testing.assert_allclose(memory(cell, xs, rng=0).distances, whole.distances, rtol=1e-9)


RNG = np.random.default_rng(0)


def frozen():
    cell = make(nn.RNNCell)
    cell.weight_hh.requires_grad = False
    return cell


WRONG = {
    "no steps": (lambda: contributions(make(nn.RNNCell), np.ones((0, B, I)), squares), ValueError, "at least one step"),
    "no loss": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), 1), TypeError, r"loss\(y, t\)"),
    "no number": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), lambda y, t: 1.0), TypeError, "loss"),
    "none at all": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), lambda y, t: None), ValueError, "each step"),
    "NaN": (lambda: contributions(make(nn.RNNCell), np.full((T, B, I), np.nan), squares), FloatingPointError, "step 0"),
    "no parameters": (lambda: contributions(lambda x, h: (h, h), draw(T, B, I), squares, np.ones((B, I))), ValueError,
                      "at least one"),
    "a list": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), squares, parameters=[1]), TypeError, "by name"),
    "a name": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), squares).by_lag("W"), KeyError, "weight_ih"),
    "no model": (lambda: memory(None, draw(T, B, I), rng=0), TypeError, "model: expected"),
    "two axes": (lambda: memory(make(nn.RNNCell), draw(T, I), rng=0), ValueError, r"\(time, batch, features\)"),
    "none": (lambda: memory(make(nn.RNNCell), draw(0, B, I), rng=0), ValueError, "no axis of them empty"),
    "integers": (lambda: memory(make(nn.RNNCell), np.ones((T, B, I), int), rng=0), TypeError, "floating-point.*int64"),
    "no size": (lambda: memory(make(nn.RNNCell), draw(T, B, I), size="a", rng=0), ValueError, "size: expected.*'a'"),
    "drawn by a function": (lambda: memory(lambda xs: xs.sum(axis=0) + RNG.random(), draw(T, B, I), rng=0), ValueError,
                            "something else, when it was called with the same inputs again"),
    "many numbers": (lambda: contributions(make(nn.RNNCell), draw(T, B, I), lambda y, t: y), ValueError,
                     r"loss: expected a single number, got float64 \(3, 4\): its mean"),
    "frozen": (lambda: contributions(frozen(), draw(T, B, I), squares, parameters=dict(frozen().named_members())),
               ValueError, "require gradients; weight_hh: frozen"),
    "a network": (lambda: contributions(nn.RNN(I, H, rng=0), draw(T, B, I), squares), TypeError,
                  r"its cell is model.layers\[0\]\['forward'\]"),
    "lags": (lambda: memory(make(nn.RNNCell), draw(T, B, I), lags=[50], rng=0), ValueError, r"got \[50\]"),
    "size": (lambda: memory(make(nn.RNNCell), draw(T, B, I), size=0, rng=0), ValueError, "size: expected"),
    "too long": (lambda: memory(make(nn.RNNCell), draw(T, B, I), lags=[T], rng=0), ValueError, "from 0 to 11"),
    "fraction": (lambda: memory(make(nn.RNNCell), draw(T, B, I), rng=0).reach(2), ValueError, "fraction: expected"),
    "outputs": (lambda: memory(lambda xs: 1.0, draw(T, B, I), rng=0), ValueError, "expected outputs"),
    "one output": (lambda: memory(lambda xs: xs.sum(axis=(0, 1)), draw(T, B, I), rng=0), ValueError, "3 sequences"),
    "always as many": (lambda: memory(lambda xs: xs[-1, :B], draw(T, B, I), rng=0), ValueError, "each of 36 sequences"),
    "not finite": (lambda: memory(make(nn.RNNCell), np.full((T, B, I), np.inf), rng=0), FloatingPointError, "finite"),
    "dropout": (lambda: memory(nn.Zoneout(make(nn.GRUCell), 0.5, rng=0), draw(T, B, I), rng=0), ValueError, "eval"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    call, kind, words = WRONG[name]
    with pytest.raises(kind, match=words), np.errstate(all="ignore"):
        call()


def test_figures_and_words():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    found = contributions(make(nn.RNNCell), draw(T, B, I), squares)
    assert found.plot(ax) is ax and len(ax.lines) == 4 and len(found.plot(names="bias_hh").lines) == 1
    (mesh,) = found.image(name="weight_ih").collections
    assert mesh.get_array().mask[0, 1:].all() and not mesh.get_array().mask[-1].any()
    assert "12 steps, 12 of them with a loss" in repr(found)
    kept = memory(make(nn.RNNCell), draw(T, B, I), rng=0)
    np.testing.assert_array_equal(kept.plot().lines[0].get_ydata(), kept.rms)
    assert len(kept.plot().lines) == 1  # rounding is far below: no line says where it begins
    _, floor = Memory(np.arange(3), np.array([[1.0], [1e-4], [1e-9]]), floor=1e-6).plot().lines
    assert floor.get_ydata()[0] == 1e-6 and floor.get_linestyle() == ":"
    (mesh,) = contributions(make(nn.RNNCell), draw(1, B, I), squares).image(vmin=-3).collections
    assert np.ptp(mesh.get_coordinates()[..., 0]) == 1 and mesh.get_clim()[0] == -3  # one cell, which can be seen
    plt.close("all")
